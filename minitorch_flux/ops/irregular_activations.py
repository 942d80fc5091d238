"""The two activations that are no fixed function of each element: rrelu and glu.

    rrelu  y = x if x > 0 else a x      a drawn anew for each element, evenly between lower and upper
    glu    y = u sigmoid(v)             u, v the two halves of x along an axis

Sources: Xu et al., "Empirical evaluation of rectified activations in convolutional network", 2015; Dauphin et al.,
"Language modeling with gated convolutional networks", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, is_recording, operation
from ..backend import array_module, is_float
from ..backend.generator import resolve_rng
from .axes import normalise_axis
from .comparisons import where
from .elementwise import as_tensor, either, raw
from .nonlinearities import leakyrelu, sigmoid


def rrelu_forward(x: Any, a: Any) -> Any:
    """x where x > 0, else a x."""
    return array_module(x).where(x > 0, x, a * x)


def _rrelu_gradient(dy: Any, x: Any, a: Any) -> Any:
    return either(where)(raw(x) > 0, dy, dy * a), None


_rrelu = operation("rrelu", rrelu_forward, gradient=_rrelu_gradient)


def rrelu(
    x: Any, lower: float = 1 / 8, upper: float = 1 / 3, *, active: bool | None = None, rng: Any = None
) -> Tensor:
    """x where x > 0, else a x with ``a`` drawn from [``lower``, ``upper``) for each element; any shape.

    ``active``: True draws, False takes the mean slope (lower + upper) / 2, and None (the default) draws inside a
    recording scope only. ``rng``: a flux.Generator, or NumPy's for CPU arrays; the default one otherwise. Integers
    become float64. Raises ValueError when ``lower`` is greater than ``upper``.
    """
    if lower > upper:
        raise ValueError(f"rrelu: lower must not be greater than upper, got {lower} and {upper}")
    x = as_tensor(x)
    if not is_float(x.dtype):
        x = x.astype(np.float64)
    if not (is_recording() if active is None else active):
        return leakyrelu(x, (lower + upper) / 2)
    u = resolve_rng(rng, x.data).uniform(x.shape, x.dtype, x.data)
    return _rrelu(x, u * (upper - lower) + lower)


def glu(x: Any, axis: int = -1) -> Tensor:
    """u sigmoid(v) for the two halves u, v of ``x`` along ``axis``, whose size must be even (else ValueError)."""
    x = as_tensor(x)
    axis = normalise_axis("glu", axis, x.ndim, x.shape)
    n = x.shape[axis]
    if n % 2:
        raise ValueError(f"glu: axis {axis} has size {n} (shape {x.shape}), which cannot be halved; it must be even")
    before = (slice(None),) * axis
    return x[(*before, slice(n // 2))] * sigmoid(x[(*before, slice(n // 2, n))])
