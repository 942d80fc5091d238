"""Dropout and alpha dropout; the mask is drawn where it is used (kernels: kernels/dropouts.cu).

    dropout        y = x / (1 - p) where kept, else 0                  dx = dy / (1 - p) where kept, else 0
    alpha_dropout  y = A x + B where kept, else A a + B                dx = A dy where kept, else 0
                   A = ((1 - p) (1 + p a^2))^(-1/2),  B = -A a p,  a = -1.7580993408473766

Each element is kept with probability 1 - p. Dropout keeps the mean of x; alpha dropout keeps mean 0 and variance 1,
with a the limit of selu at minus infinity. p = 1 gives zeros. The mask is a function of a key and a counter (Philox), so
it is not stored: the backward pass draws it again, bit for bit, on any device, and so do gradients of higher order.

Sources: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout", JMLR 15, 2014; Klambauer,
Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NIPS 2017.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, is_recording, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty, is_float
from ..backend.generator import resolve_rng
from ..readings import KernelFile
from .axes import normalise_axes
from .elementwise import as_tensor
from .philox import LOW, blocks_of, philox_bernoulli, threshold

Draw = tuple[int, int]
"""Where the mask comes from: the key and the counter of its first block."""

# -- references --------------------------------------------------------------------------------------------------------


@array_function
def dropout_forward(
    x: Any, keep: float, draw: Draw, shape: tuple[int, ...], scale: float, shift: float = 0.0, fill: float = 0.0
) -> Any:
    """``scale x + shift`` where a mask of ``shape``, which broadcasts to x, is true (probability ``keep``), else ``fill``."""
    mask = philox_bernoulli(*draw, shape, keep, like=x)
    dtype = accumulator(x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # what is dropped may be anything
        y = array_module(x).where(mask, x.astype(dtype, copy=False) * scale + shift, dtype.type(fill))
    return y.astype(x.dtype, copy=False)


def dropout_backward(dy: Any, keep: float, draw: Draw, shape: tuple[int, ...], scale: float) -> Any:
    """``scale dy`` where the same mask is true, else 0."""
    return dropout_forward(dy, keep, draw, shape, scale)


# -- the operations ----------------------------------------------------------------------------------------------------


def _dropout_rule(dy: Tensor, keep: float, draw: Draw, shape: tuple[int, ...], scale: float) -> Tensor:
    return _dropout(dy, keep=keep, draw=draw, shape=shape, scale=scale)


_dropout = operation("dropout", dropout_forward, backward=dropout_backward, rule=_dropout_rule)

ALPHA = -1.7580993408473766
"""What selu tends to at minus infinity."""


def check_probability(name: str, p: Any) -> float:
    """``p`` as a float between 0 and 1; else a TypeError or ValueError."""
    try:
        value = float(p)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: the probability p must be a number between 0 and 1, got {p!r}") from None
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: the probability p must be between 0 and 1, got {p}")
    return value


def one_axis(name: str, axis: Any, dims: Any) -> Any:
    """The one that is given of ``axis`` and ``dims``, two words for the same."""
    if axis is not None and dims is not None:
        raise TypeError(f"{name}: axis={axis} and dims={dims} are two words for the same; give one")
    return dims if axis is None else axis


def _float_tensor(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if is_float(x.dtype) else x.astype(np.float64)


def dropout(
    x: Any, p: float, *, axis: Any = None, dims: Any = None, rng: Any = None, active: bool | None = True, name: str = "dropout"
) -> Tensor:
    """``x`` with each element set to 0 with probability ``p`` and multiplied by 1 / (1 - p) otherwise; any shape.

    ``axis``: an axis or a tuple of axes along which the choice is made; along all others an element shares its fate with
    its neighbours. ``axis=0`` drops whole samples, ``axis=(0, 1)`` whole channels of images, ``axis=()`` all or nothing;
    None (the default) decides for each element. ``dims`` is Flux's word for it, with the same numbers: axes of this
    array, from 0. Flux's dimension k of an array with n axes is axis n - k here.

    ``rng``: a flux.Generator, or NumPy's for arrays on the CPU; the default one otherwise. The same generator state
    gives the same mask on every device and in every dtype. ``active``: False gives ``x`` itself (an array as a tensor
    of the same memory), as does p = 0; None drops inside a recording scope only. Integers become float64. ValueError
    for a ``p`` outside [0, 1].
    """
    p, axis = check_probability(name, p), one_axis(name, axis, dims)
    if p == 0 or not (is_recording() if active is None else active):
        return as_tensor(x)
    x = _float_tensor(x)
    shape = x.shape
    if axis is not None:
        chosen = normalise_axes(name, axis, len(shape), shape)
        shape = tuple(n if i in chosen else 1 for i, n in enumerate(shape))
    draw = resolve_rng(rng, x.data).reserve(blocks_of(math.prod(shape)))
    return _dropout(x, keep=1 - p, draw=draw, shape=shape, scale=1 / (1 - p) if p < 1 else 0.0)


def alpha_dropout(
    x: Any, p: float, *, rng: Any = None, active: bool | None = True, name: str = "alpha_dropout"
) -> Tensor:
    """Dropout for selu: ``x`` of mean 0 and variance 1 keeps both; arguments as for ``dropout``.

    With probability ``p`` an element becomes A a + B, otherwise A x + B; see the head of this file for the constants.
    """
    p = check_probability(name, p)
    if p == 0 or not (is_recording() if active is None else active):
        return as_tensor(x)
    x = _float_tensor(x)
    draw = resolve_rng(rng, x.data).reserve(blocks_of(x.size))
    a = 1 / math.sqrt((1 - p) * (1 + p * ALPHA**2)) if p < 1 else 0.0
    b = -a * ALPHA * p
    return _dropout(x, keep=1 - p, draw=draw, shape=x.shape, scale=a, shift=b, fill=a * ALPHA + b)


# -- kernels -----------------------------------------------------------------------------------------------------------

dropouts = KernelFile("dropouts.cu")


@dropout_forward.kernel(
    accepts="floats with an axis, keep > 0, a draw for each element or for all of the last axes together; copied where not "
    "contiguous"
)
def _(
    x: Any, keep: float, draw: Draw, shape: tuple[int, ...], scale: float, shift: float = 0.0, fill: float = 0.0
) -> Any:
    true = threshold(keep)
    if not (x.ndim and x.size and true and is_float(x.dtype)):
        return NotImplemented
    k = len(shape)
    while k and shape[k - 1] == 1:
        k -= 1
    if shape[:k] != x.shape[:k]:
        return NotImplemented
    rows, width = math.prod(x.shape[:k]), math.prod(x.shape[k:])
    key, counter = draw
    x, y = contiguous(x), empty(x.shape, x.dtype, like=x)
    args = (x, y, scale, shift, fill, true - 1, key & LOW, key >> 32, counter, 0)
    if width == 1:
        ran = dropouts("dropout_forward", x, -(-rows // 256), 64, *args, rows)
    else:
        ran = dropouts("dropout_rows", x, rows, width, *args, rows, width)
    return y if ran else NotImplemented
