"""Softmax, its logarithm and its normaliser along one axis (kernels: kernels/softmaxes.cu).

    softmax     y = exp(x - m) / s         dx = y (dy - sum(dy y))       m = max x, s = sum exp(x - m)
    logsoftmax  y = x - m - log s          dx = dy - exp(y) sum(dy)
    logsumexp   y = m + log s              dx = dy softmax(x)

The first two keep the shape, the third removes the axis. Floats keep their dtype, integers become float64; 16-bit
floats are computed in float32. Nothing overflows, and two equal infinities differ by 0: softmax of (inf, 0) is (1, 0)
and of (-inf, 0) is (0, 1), where x - m alone would give NaN; a slice of nothing but -inf gives equal shares.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty, is_float
from ..readings import KernelFile
from .axes import normalise_axes, normalise_axis
from .elementary import exp
from .elementwise import as_tensor

# -- references --------------------------------------------------------------------------------------------------------


def shifted(x: Any, axis: int) -> tuple[Any, Any, Any]:
    """``(m, x - m, s)`` with the axis kept, computed in float32 or float64."""
    xp = array_module(x)
    x = x.astype(accumulator(x.dtype) if is_float(x.dtype) else np.float64, copy=False)
    top = x.max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        z = xp.where(x == top, 0, x - top)
    return top, z, xp.exp(z).sum(axis=axis, keepdims=True)


def _as_input(y: Any, x: Any) -> Any:
    return y.astype(x.dtype, copy=False) if is_float(x.dtype) else y


@array_function
def softmax_forward(x: Any, axis: int) -> Any:
    """exp(x - m) / s."""
    if x.size == 0:
        return _as_input(x.astype(np.float64), x)
    _, z, s = shifted(x, axis)
    return _as_input(array_module(x).exp(z) / s, x)


@array_function
def softmax_backward(dy: Any, out: Any, axis: int) -> Any:
    """y (dy - sum(dy y))."""
    dtype = accumulator(out.dtype)
    y = out.astype(dtype, copy=False)
    dy = dy.astype(dtype, copy=False)
    return (y * (dy - (dy * y).sum(axis=axis, keepdims=True))).astype(out.dtype, copy=False)


@array_function
def logsoftmax_forward(x: Any, axis: int) -> Any:
    """x - m - log s."""
    if x.size == 0:
        return _as_input(x.astype(np.float64), x)
    _, z, s = shifted(x, axis)
    return _as_input(z - array_module(x).log(s), x)


@array_function
def logsoftmax_backward(dy: Any, out: Any, axis: int) -> Any:
    """dy - exp(y) sum(dy)."""
    dtype = accumulator(out.dtype)
    dy = dy.astype(dtype, copy=False)
    y = array_module(out).exp(out.astype(dtype, copy=False))
    return (dy - y * dy.sum(axis=axis, keepdims=True)).astype(out.dtype, copy=False)


@array_function
def logsumexp_forward(x: Any, axis: int) -> Any:
    """m + log s, without the axis; minus infinity where the axis is empty."""
    xp = array_module(x)
    if x.size == 0:
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        return xp.full(shape, -math.inf, x.dtype if is_float(x.dtype) else np.float64)
    top, _, s = shifted(x, axis)
    return _as_input((top + xp.log(s)).squeeze(axis), x)


# -- the operations ----------------------------------------------------------------------------------------------------


def _softmax_rule(dy: Tensor, out: Tensor, axis: int) -> Tensor:
    return out * (dy - (dy * out).sum(axis=axis, keepdims=True))


def _logsoftmax_rule(dy: Tensor, out: Tensor, axis: int) -> Tensor:
    return dy - exp(out) * dy.sum(axis=axis, keepdims=True)


def _logsumexp_backward(dy: Any, x: Any, axis: int) -> Any:
    return array_module(dy).expand_dims(dy, axis) * softmax_forward(x, axis)


def _logsumexp_rule(dy: Tensor, x: Tensor, axis: int) -> Tensor:
    return dy.reshape(*dy.shape[:axis], 1, *dy.shape[axis:]) * _softmax(x, axis=axis)


_softmax = operation("softmax", softmax_forward, backward=softmax_backward, rule=_softmax_rule)
_logsoftmax = operation("logsoftmax", logsoftmax_forward, backward=logsoftmax_backward, rule=_logsoftmax_rule)
_logsumexp = operation("logsumexp", logsumexp_forward, backward=_logsumexp_backward, rule=_logsumexp_rule)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along ``axis``: positive numbers that add up to 1 along it. Any shape with an axis.

    Raises AxisError (a ValueError and an IndexError) when the input has no such axis.
    """
    x = as_tensor(x)
    return _softmax(x, axis=normalise_axis("softmax", axis, x.ndim, x.shape))


def logsoftmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)) along ``axis``, exact where softmax underflows. Raises AxisError when there is no such axis."""
    x = as_tensor(x)
    return _logsoftmax(x, axis=normalise_axis("logsoftmax", axis, x.ndim, x.shape))


def logsumexp(x: Any, axis: Any = -1, *, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``axis``, an axis, a tuple of axes or None (all), without overflow.

    ``keepdims=True`` leaves the axes with size one. Raises AxisError when there is no such axis.
    """
    x = as_tensor(x)
    axes = tuple(sorted(normalise_axes("logsumexp", axis, x.ndim, x.shape)))
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    if len(axes) == 1:
        y = _logsumexp(x, axis=axes[0])
    else:
        rest = [i for i in range(x.ndim) if i not in axes]
        sizes = [x.shape[i] for i in rest]
        y = _logsumexp(x.transpose(*rest, *axes).reshape(*sizes, math.prod(x.shape[i] for i in axes)), axis=len(rest))
    return y.reshape(kept) if keepdims else y


# -- kernels -----------------------------------------------------------------------------------------------------------

softmaxes = KernelFile("softmaxes.cu")

TILE = 1024
"""Elements of a plane that one row of a ``_planes`` kernel takes: 4 kB of each pass, which stay in the first cache."""


def tiles(inner: int) -> tuple[int, int]:
    """``(how many, of how many elements)``: ``inner`` cut into equal tiles of at most ``TILE``."""
    number = -(-inner // TILE)
    return number, -(-inner // number)


def _launch(name: str, planes: str, axis: int, y: Any, *inputs: Any) -> Any:
    """Run kernel ``name``, or ``planes`` for an axis before the last, on ``inputs`` and ``y``; y, or NotImplemented."""
    inputs = tuple(map(contiguous, inputs))
    x = inputs[0]
    shape = x.shape
    axis %= len(shape)
    width, inner = shape[axis], math.prod(shape[axis + 1 :])
    rows = x.size // (width * inner)
    if inner == 1:
        ran = softmaxes(name, x, rows, width, *inputs, y, rows, width)
    else:
        number, tile = tiles(inner)
        rows *= number
        work = empty((rows, 2, tile), accumulator(x.dtype), like=x)
        ran = softmaxes(planes, x, rows, tile, *inputs, y, work, rows, width, inner, tile)
    return y if ran else NotImplemented


def _fits(*arrays: Any) -> bool:
    dtype = arrays[0].dtype
    return is_float(dtype) and all(a.dtype == dtype for a in arrays) and arrays[0].size > 0


ACCEPTS = "floats of one dtype with at least one element, any axis; what is not contiguous is copied"


@softmax_forward.kernel(accepts=ACCEPTS)
def _(x: Any, axis: int) -> Any:
    if not _fits(x):
        return NotImplemented
    return _launch("softmax_forward", "softmax_forward_planes", axis, empty(x.shape, x.dtype, like=x), x)


@softmax_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, out: Any, axis: int) -> Any:
    if not _fits(dy, out):
        return NotImplemented
    return _launch("softmax_backward", "softmax_backward_planes", axis, empty(dy.shape, dy.dtype, like=dy), dy, out)


@logsoftmax_forward.kernel(accepts=ACCEPTS)
def _(x: Any, axis: int) -> Any:
    if not _fits(x):
        return NotImplemented
    return _launch("logsoftmax_forward", "logsoftmax_forward_planes", axis, empty(x.shape, x.dtype, like=x), x)


@logsoftmax_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, out: Any, axis: int) -> Any:
    if not _fits(dy, out):
        return NotImplemented
    dx = empty(dy.shape, dy.dtype, like=dy)
    return _launch("logsoftmax_backward", "logsoftmax_backward_planes", axis, dx, dy, out)


@logsumexp_forward.kernel(accepts=ACCEPTS)
def _(x: Any, axis: int) -> Any:
    if not _fits(x):
        return NotImplemented
    axis %= x.ndim
    y = empty(x.shape[:axis] + x.shape[axis + 1 :], x.dtype, like=x)
    return _launch("logsumexp_forward", "logsumexp_forward_planes", axis, y, x)
