"""Sums and their kin in the array API's spelling: ``dtype=``, ``correction=``, ``include_initial=``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..ops import reductions, scans, statistics
from ..ops.arithmetic import subtract
from ..ops.axes import normalise_axis
from ..ops.comparisons import not_equal
from ..ops.elementwise import as_tensor
from ..ops.joining import concatenate
from ..ops.shapes import astype
from .creation import full


def _in(x: Any, dtype: Any) -> Tensor:
    x = as_tensor(x)
    return x if dtype is None else astype(x, dtype)


def sum(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis``, added up in ``dtype`` where one is given. Booleans and small integers give int64 or uint64."""
    y = reductions.sum(_in(x, dtype), axis, keepdims=keepdims)
    return y if dtype is None else astype(y, dtype)


def prod(x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product over ``axis``, in ``dtype`` where one is given. Booleans and small integers give int64 or uint64."""
    y = reductions.prod(_in(x, dtype), axis, keepdims=keepdims)
    return y if dtype is None else astype(y, dtype)


def var(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance over ``axis``: the sum of squared distances from the mean, divided by ``n - correction``."""
    return statistics.var(x, axis, ddof=correction, keepdims=keepdims)


def std(x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation over ``axis``: the square root of ``var``."""
    return statistics.std(x, axis, ddof=correction, keepdims=keepdims)


def _scan(name: str, scan: Any, start: int, x: Any, axis: Any, dtype: Any, include_initial: bool) -> Tensor:
    x = _in(x, dtype)
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"{name}: axis may be left out for one axis only, the input has shape {x.shape}")
        axis = 0
    axis = normalise_axis(name, axis, x.ndim, x.shape)
    y = scan(x, axis)
    y = y if dtype is None else astype(y, dtype)
    if not include_initial:
        return y
    first = full((*x.shape[:axis], 1, *x.shape[axis + 1 :]), start, dtype=y.dtype, device=y.device)
    return concatenate([first, y], axis)


def cumulative_sum(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running sums along ``axis``; ``include_initial`` puts a 0 before the first."""
    return _scan("cumulative_sum", scans.cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running products along ``axis``; ``include_initial`` puts a 1 before the first."""
    return _scan("cumulative_prod", scans.cumprod, 1, x, axis, dtype, include_initial)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along ``axis``, ``n`` times; ``prepend`` and ``append`` are joined to ``x`` first."""
    x = as_tensor(x)
    axis = normalise_axis("diff", axis, x.ndim, x.shape)
    if n < 0:
        raise ValueError(f"diff: n is at least 0, got {n}")
    if prepend is not None or append is not None:
        x = concatenate([part for part in (prepend, x, append) if part is not None], axis)
    before = (slice(None),) * axis
    for _ in range(n):
        later, earlier = x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
        x = not_equal(later, earlier) if x.dtype == np.bool_ else subtract(later, earlier)
    return x
