"""Max and mean pooling over sliding windows (kernels: kernels/pooling.cu).

    maxpool   y[p] = max over k of x[p s - lo + k d]            padding is minus infinity
              dx[i] = sum of dy[p] over all p whose maximum lies at i
    meanpool  y[p] = sum over k of x[p s - lo + k d] / count[p]      padding is zero
              dx[i] = sum of dy[p] / count[p] over all p and k with p s - lo + k d = i

x (N, C, *I), y (N, C, *P) over 1 to 3 axes. The gradient of a maximum goes to the first of equals, in row-major order;
a NaN is the maximum, the first one if there are several. ``count`` is prod(kernel), or what the window has of the input
with ``count_include_pad=False``; what ``ceil_mode`` adds after the padding is never counted (PyTorch).
Each gradient is an operation too: that of maxpool spreads, its own gradient gathers; meanpool and its gradient are each
other's. Source: NNlib.jl, PyTorch. The layers are in nn/pools.py.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, device_of, empty, is_float, to_device
from ..readings import KernelFile
from .elementwise import as_tensor
from .geometry import Pad, Window, window
from .im2col import Sizes, padded, taps, three

# -- references --------------------------------------------------------------------------------------------------------


def places(x: Any, sizes: Sizes) -> Any:
    """The number of every pixel in its plane, row-major: (*sizes), int32, on the device of ``x``."""
    return array_module(x).arange(math.prod(sizes), dtype=np.int32).reshape(sizes)


def inside(x: Any, window: Window, sizes: Sizes) -> Any:
    """x without the padding: its middle part of ``sizes``."""
    cut = tuple(slice(lo, lo + i) for i, lo in zip(sizes, window.lo))
    return array_module(x).ascontiguousarray(x[..., *cut])


def zeros_for(x: Any, window: Window, sizes: Sizes, dtype: Any) -> Any:
    """Zeros for images of ``sizes`` with the window's padding, N and C and P as in ``x``."""
    pairs = window.pad_for(sizes, x.shape[2:])
    return array_module(x).zeros((*x.shape[:2], *(i + lo + hi for i, (lo, hi) in zip(sizes, pairs))), dtype)


@array_function
def max_pool_forward(x: Any, window: Window) -> tuple[Any, Any]:
    """``(y, arg)``: the maximum of every window and its place in its plane, -1 (and -inf) where all is padding."""
    xp, sizes = array_module(x), x.shape[2:]
    window, out = window.at(sizes), window.output_size(sizes)
    lowest = -math.inf if is_float(x.dtype) else np.iinfo(x.dtype).min
    y = xp.full((*x.shape[:2], *out), lowest, x.dtype)
    arg = xp.full(y.shape, -1, np.int32)
    x, place = padded(x, window, out), padded(places(x, sizes), window, out, -1)
    for _, cut in taps(window, out):
        v, at = x[..., *cut], place[cut]
        better = (at >= 0) & ((arg < 0) | (v > y) | ((v != v) & (y == y)))
        y, arg = xp.where(better, v, y), xp.where(better, at, arg)
    return y, arg


@array_function
def max_pool_values(x: Any, window: Window) -> Any:
    """The maximum of every window alone."""
    return max_pool_forward(x, window)[0]


@array_function
def max_pool_backward(dy: Any, arg: Any, window: Window, sizes: Sizes) -> Any:
    """dx (N, C, *sizes): every dy at the place of its maximum."""
    window = window.at(sizes)
    out = dy.shape[2:]
    dx, place = zeros_for(dy, window, sizes, dy.dtype), padded(places(dy, sizes), window, out, -2)
    for _, cut in taps(window, out):
        dx[..., *cut] += array_module(dy).where(arg == place[cut], dy, 0)
    return inside(dx, window, sizes)


@array_function
def max_pool_gather(x: Any, arg: Any) -> Any:
    """The element of its plane that every entry of ``arg`` names, 0 for -1: the adjoint of ``max_pool_backward``."""
    xp = array_module(x)
    n, c = arg.shape[:2]
    flat, p = arg.reshape(n, c, math.prod(arg.shape[2:])), math.prod(x.shape[2:])
    if not p:
        return xp.zeros(arg.shape, x.dtype)
    y = xp.take_along_axis(x.reshape(n, c, p), xp.maximum(flat, 0).astype(np.int64), axis=2)
    return xp.where(flat >= 0, y, 0).astype(x.dtype, copy=False).reshape(arg.shape)


@functools.lru_cache(maxsize=256)
def counts(window: Window, sizes: Sizes, count_include_pad: bool, dtype: Any) -> np.ndarray:
    """How many elements every window has, (*P): at least 1."""
    n = np.ones((1,) * window.ndim, np.int64)
    for axis, (i, o) in enumerate(zip(sizes, window.output_size(sizes))):
        lo, hi = window.pad[axis]  # type: ignore[index]
        at = np.arange(o)[:, None] * window.stride[axis] - lo + np.arange(window.kernel[axis]) * window.dilation[axis]
        first, end = (-lo, i + hi) if count_include_pad else (0, i)
        n = n * ((at >= first) & (at < end)).sum(axis=1).reshape((-1,) + (1,) * (window.ndim - 1 - axis))
    return np.maximum(n, 1).astype(dtype)


@functools.lru_cache(maxsize=256)
def _counts_there(device: str, *arguments: Any) -> Any:
    return to_device(counts(*arguments), device)


def counts_like(x: Any, window: Window, sizes: Sizes, count_include_pad: bool, dtype: Any) -> Any:
    """``counts`` on the device of ``x``, sent there once."""
    return _counts_there(device_of(x), window, sizes, count_include_pad, dtype)


@array_function
def mean_pool_forward(x: Any, window: Window, count_include_pad: bool) -> Any:
    """The mean of every window; 16-bit floats are added up in float32, integers become float64."""
    xp, sizes = array_module(x), x.shape[2:]
    window, out = window.at(sizes), window.output_size(sizes)
    dtype = x.dtype if is_float(x.dtype) else np.dtype(np.float64)
    sums = xp.zeros((*x.shape[:2], *out), accumulator(dtype))
    x = padded(x, window, out)
    for _, cut in taps(window, out):
        sums += x[..., *cut]
    return (sums / counts_like(x, window, sizes, count_include_pad, sums.dtype)).astype(dtype, copy=False)


@array_function
def mean_pool_backward(dy: Any, window: Window, count_include_pad: bool, sizes: Sizes) -> Any:
    """dx (N, C, *sizes): every dy / count to all elements of its window."""
    window = window.at(sizes)
    high = accumulator(dy.dtype)
    share = dy / counts_like(dy, window, sizes, count_include_pad, high)
    dx = zeros_for(dy, window, sizes, high)
    for _, cut in taps(window, dy.shape[2:]):
        dx[..., *cut] += share
    return inside(dx, window, sizes).astype(dy.dtype, copy=False)


# -- kernels -----------------------------------------------------------------------------------------------------------

pooling = KernelFile("pooling.cu")

WIDEST = 16  # longest window line, and longest stride along it, that is unrolled
ROW = 256  # pixels that one row of the kernels computes, or a little more


def fits(x: Any, window: Window) -> bool:
    """Whether the kernels take these windows over ``x``."""
    small = math.prod(x.shape[2:]) < 1 << 31  # a place in a plane is an int
    return x.size > 0 and is_float(x.dtype) and small and max(window.kernel[-1], window.stride[-1]) <= WIDEST


def launch(
    name: str, x: Any, arrays: tuple[Any, ...], window: Window, sizes: Sizes, out: Sizes, backward: bool, *more: float
) -> bool:
    """Launch a kernel over the lines of the output (backward: of the input); ``more``: what it takes after the geometry."""
    (kd, kh, kw), (sd, sh, sw), (dd, dh, dw) = (three(v, 1) for v in (window.kernel, window.stride, window.dilation))
    width = sizes[-1] if backward else out[-1]
    d, h, _ = three(sizes if backward else out, 1)
    planes, lines = x.shape[0] * x.shape[1], min(-(-ROW // max(width, 1)), max(h, 1))
    return pooling(
        name, x, planes * d * -(-h // lines), width, *arrays, planes, *three(sizes, 1), *three(out, 1), kd, kh, sd, sh, dd,
        dh, *three(window.lo, 0), lines, *more, constants={"KW": kw, "SW": sw, "DW": dw},
    )


ACCEPTS = f"floats, not empty, planes below 2^31 pixels, windows and strides of at most {WIDEST} along the last axis"


@max_pool_forward.kernel(accepts=ACCEPTS)
def _(x: Any, window: Window) -> Any:
    if not fits(x, window):
        return NotImplemented
    x, sizes = contiguous(x), x.shape[2:]
    out = window.output_size(sizes)
    y = empty((*x.shape[:2], *out), x.dtype, like=x)
    arg = empty(y.shape, np.int32, like=x)
    return (y, arg) if launch("max_pool_forward", x, (x, y, arg), window.at(sizes), sizes, out, False) else NotImplemented


@max_pool_values.kernel(accepts=ACCEPTS)
def _(x: Any, window: Window) -> Any:
    if not fits(x, window):
        return NotImplemented
    x, sizes = contiguous(x), x.shape[2:]
    out = window.output_size(sizes)
    y = empty((*x.shape[:2], *out), x.dtype, like=x)
    return y if launch("max_pool_values", x, (x, y), window.at(sizes), sizes, out, False) else NotImplemented


@max_pool_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, arg: Any, window: Window, sizes: Sizes) -> Any:
    if not fits(dy, window):
        return NotImplemented
    dy, arg = contiguous(dy), contiguous(arg)
    dx = empty((*dy.shape[:2], *sizes), dy.dtype, like=dy)
    ran = launch("max_pool_backward", dy, (dy, arg, dx), window.at(sizes), sizes, dy.shape[2:], True)
    return dx if ran else NotImplemented


@mean_pool_forward.kernel(accepts=ACCEPTS)
def _(x: Any, window: Window, count_include_pad: bool) -> Any:
    if not fits(x, window):
        return NotImplemented
    x, sizes = contiguous(x), x.shape[2:]
    window, out = window.at(sizes), window.output_size(sizes)
    count = counts_like(x, window, sizes, count_include_pad, accumulator(x.dtype))
    y = empty((*x.shape[:2], *out), x.dtype, like=x)
    return y if launch("mean_pool_forward", x, (x, count, y), window, sizes, out, False) else NotImplemented


@mean_pool_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, window: Window, count_include_pad: bool, sizes: Sizes) -> Any:
    if not fits(dy, window):
        return NotImplemented
    dy, window = contiguous(dy), window.at(sizes)
    count = counts_like(dy, window, sizes, count_include_pad, accumulator(dy.dtype))
    dx = empty((*dy.shape[:2], *sizes), dy.dtype, like=dy)
    ran = launch("mean_pool_backward", dy, (dy, count, dx), window, sizes, dy.shape[2:], True)
    return dx if ran else NotImplemented


# -- the operations ----------------------------------------------------------------------------------------------------


def _max_pool_kept(x: Any, window: Window, places: bool = True) -> tuple[Any, Any]:
    """``(y, arg)``; of 16-bit floats the tape keeps 16 bits for each place, too. Without ``places`` arg, of which only a
    gradient makes use, is None."""
    if not places:
        return max_pool_values(x, window), None
    y, arg = max_pool_forward(x, window)
    return y, arg.astype(np.int16) if x.dtype.itemsize == 2 and math.prod(x.shape[2:]) < 1 << 15 else arg


def _spread(dy: Any, arg: Any, window: Window, sizes: Sizes) -> Any:
    return max_pool_backward(dy, arg.astype(np.int32, copy=False), window, sizes)


_max_pool: Operation = operation(
    "max_pool",
    _max_pool_kept,
    residuals=("arg",),
    backward=lambda dy, arg, window, x_shape: _spread(dy, arg, window, x_shape[2:]),
    rule=lambda dy, arg, window, x_shape: _max_pool_spread(dy, arg, window=window, sizes=x_shape[2:]),
)
_max_pool_spread: Operation = operation(
    "max_pool_spread",
    _spread,
    backward=lambda dy, arg: (max_pool_gather(dy, arg), None),
    rule=lambda dy, arg, window, sizes: (_max_pool_gather(dy, arg, window=window, sizes=sizes), None),
)
_max_pool_gather: Operation = operation(
    "max_pool_gather",
    lambda x, arg, window, sizes: max_pool_gather(x, arg),
    backward=lambda dy, arg, window, sizes: (_spread(dy, arg, window, sizes), None),
    rule=lambda dy, arg, window, sizes: (_max_pool_spread(dy, arg, window=window, sizes=sizes), None),
)
_mean_pool: Operation = operation(
    "mean_pool",
    mean_pool_forward,
    backward=lambda dy, window, count_include_pad, x_shape: mean_pool_backward(dy, window, count_include_pad, x_shape[2:]),
    rule=lambda dy, window, count_include_pad, x_shape: mean_pool_spread(
        dy, window=window, count_include_pad=count_include_pad, sizes=x_shape[2:]
    ),
)
mean_pool_spread: Operation = operation(
    "mean_pool_spread",
    mean_pool_backward,
    backward=lambda dy, window, count_include_pad: mean_pool_forward(dy, window, count_include_pad),
    rule=lambda dy, window, count_include_pad: _mean_pool(dy, window=window, count_include_pad=count_include_pad),
)


# -- public functions --------------------------------------------------------------------------------------------------


def with_batch(name: str, x: Any, ndim: int | None) -> tuple[Tensor, bool]:
    """``x`` as (N, C, *I) with ``ndim`` axes after C (None: as it has), and whether it had the batch axis."""
    x = as_tensor(x)
    axes = x.ndim - 2 if ndim is None else ndim
    if not 1 <= axes <= 3 or x.ndim not in (axes + 1, axes + 2):
        takes = "3 to 5 axes (N, C, ...)" if ndim is None else f"{axes + 2} axes (N, C, ...), or {axes + 1} for one sample"
        raise ValueError(f"{name}: takes an input of {takes}; got {x.ndim} axes (input shape {x.shape})")
    return (x, True) if x.ndim == axes + 2 else (x.reshape(1, *x.shape), False)


def pool_window(
    name: str, x: Any, k: Any, stride: Any, pad: Pad, dilation: Any, ceil_mode: bool
) -> tuple[Tensor, Window, bool]:
    x, batched = with_batch(name, x, len(k) if isinstance(k, tuple | list) else None)
    w = window(name, k, k if stride is None else stride, pad, dilation, ceil_mode=ceil_mode, ndim=x.ndim - 2)
    sizes = x.shape[2:]
    for axis, (span, (lo, hi)) in enumerate(zip(w.span, w.at(sizes).pad)):  # type: ignore[arg-type]
        if max(lo, hi) >= span:
            raise ValueError(f"{name}: padding {lo} + {hi} on axis {axis - w.ndim} must be smaller than the window, which "
                             f"spans {span}; windows of nothing but padding have no value")
    w.output_size(sizes)
    return x, w, batched


def maxpool(
    x: Any, k: Any, *, stride: Any = None, pad: Pad = 0, dilation: Any = 1, ceil_mode: bool = False, name: str = "maxpool"
) -> Tensor:
    """The maximum of every window of ``x`` (N, C, *I): (N, C, *P), over 1 to 3 axes.

    ``k``: the window, one size per axis, or an int for every axis; with a tuple, the batch axis may be missing.
    ``stride`` defaults to ``k``. ``pad`` as for ``conv``; it is smaller than the window and never wins. ``ceil_mode``
    keeps a last window that does not fit whole. The gradient goes to the first maximum; a NaN is propagated.
    ``name``: in whose name errors speak.
    """
    x, w, batched = pool_window(name, x, k, stride, pad, dilation, ceil_mode)
    y = _max_pool(x, window=w, places=x.recorded)
    return y if batched else y.reshape(y.shape[1:])


def meanpool(
    x: Any, k: Any, *, stride: Any = None, pad: Pad = 0, dilation: Any = 1, ceil_mode: bool = False,
    count_include_pad: bool = True, name: str = "meanpool",
) -> Tensor:
    """The mean of every window of ``x`` (N, C, *I): (N, C, *P), over 1 to 3 axes; arguments as for ``maxpool``.

    ``count_include_pad``: whether the padding's zeros count as elements.
    """
    x, w, batched = pool_window(name, x, k, stride, pad, dilation, ceil_mode)
    y = _mean_pool(x, window=w, count_include_pad=bool(count_include_pad))
    return y if batched else y.reshape(y.shape[1:])
