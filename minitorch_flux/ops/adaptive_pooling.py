"""Pooling to a given size (kernels: kernels/adaptive_pooling.cu).

    adaptive_maxpool   y[p] = max of x over window p        dx[i] = sum of dy[p] over all p whose maximum lies at i
    adaptive_meanpool  y[p] = mean of x over window p       dx[i] = sum of dy[p] / size[p] over all windows that hold i

x (N, C, *I), y (N, C, *O) over 1 to 3 axes. Window p of an axis of I pixels that gives O reaches from floor(p I / O) to
ceil((p + 1) I / O). These are PyTorch's windows: they exist for every I and O, also for O > I,
and differ by at most one pixel in length. (Flux's have one length for all, where they exist.) Where O divides I they are
those of ``maxpool`` and ``meanpool`` with k = I / O, and those run. First maximum and NaN as in pooling.py.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, device_of, empty, is_float, to_device
from ..readings import KernelFile
from .extremes import extremes_of, place_forward
from .im2col import Sizes, three
from .pooling import max_pool_gather, maxpool, meanpool, places, with_batch
from .reductions import mean_forward


def cells(sizes: Sizes, out: Sizes) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """``(window, cell)`` for every cell of the output: both as slices, the cell's of length 1."""
    axes = [[(slice(p * i // o, -(-(p + 1) * i // o)), slice(p, p + 1)) for p in range(o)] for i, o in zip(sizes, out)]
    for pairs in itertools.product(*axes):
        yield tuple(w for w, _ in pairs), tuple(c for _, c in pairs)


@array_function
def adaptive_max_forward(x: Any, out: Sizes) -> tuple[Any, Any]:
    """``(y, arg)``: the maximum of every window and its place in its plane."""
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *out), x.dtype)
    arg, place = xp.empty(y.shape, np.int32), places(x, x.shape[2:])
    for window, cell in cells(x.shape[2:], out):
        v, one = x[..., *window], (*x.shape[:2], *(1,) * len(out))
        v = v.reshape(*x.shape[:2], place[window].size)
        at = v.argmax(axis=2)
        y[..., *cell] = xp.take_along_axis(v, at[..., None], axis=2).reshape(one)
        arg[..., *cell] = xp.take(place[window].ravel(), at).reshape(one)
    return y, arg


@array_function
def adaptive_max_backward(dy: Any, arg: Any, sizes: Sizes) -> Any:
    """dx (N, C, *sizes): every dy at the place of its maximum."""
    xp = array_module(dy)
    dx, place = xp.zeros((*dy.shape[:2], *sizes), dy.dtype), places(dy, sizes)
    for window, cell in cells(sizes, dy.shape[2:]):
        dx[..., *window] += xp.where(arg[..., *cell] == place[window], dy[..., *cell], 0)
    return dx


@array_function
def adaptive_mean_forward(x: Any, out: Sizes) -> Any:
    """The mean of every window; 16-bit floats are added up in float32, integers become float64."""
    xp = array_module(x)
    dtype = x.dtype if is_float(x.dtype) else np.dtype(np.float64)
    y = xp.empty((*x.shape[:2], *out), dtype)
    for window, cell in cells(x.shape[2:], out):
        axes = tuple(range(2, x.ndim))
        y[..., *cell] = x[..., *window].mean(axis=axes, keepdims=True, dtype=accumulator(dtype))
    return y


@array_function
def adaptive_mean_backward(dy: Any, sizes: Sizes) -> Any:
    """dx (N, C, *sizes): every dy / size to all elements of its window."""
    dx = array_module(dy).zeros((*dy.shape[:2], *sizes), accumulator(dy.dtype))
    for window, cell in cells(sizes, dy.shape[2:]):
        size = int(np.prod([w.stop - w.start for w in window]))
        dx[..., *window] += dy[..., *cell] / size
    return dx.astype(dy.dtype, copy=False)


# -- kernels -----------------------------------------------------------------------------------------------------------

adaptive_pooling = KernelFile("adaptive_pooling.cu")

ROW = 256  # numbers of the output that one row of the kernels computes, or a few more
UNROLLED = 8  # numbers of a line of a window: longer ones have kernels of their own
ACCEPTS = "floats, not empty; fewer than 2^31 pixels in a plane, input size times output size of an axis smaller, too"


def _fits(x: Any, sizes: Sizes, out: Sizes) -> bool:
    small = all((i + 1) * (o + 1) < 1 << 31 for i, o in zip(sizes, out)) and math.prod(sizes) < 1 << 31
    return bool(x.size and is_float(x.dtype) and small)


def _run(name: str, like: Any, arrays: tuple[Any, ...], sizes: Sizes, out: Sizes, written: Sizes, cover: int) -> bool:
    """Launch a kernel over the planes of its output, which are of the size ``written``."""
    planes, width = like.shape[0] * like.shape[1], written[-1]
    all_lines = math.prod(written[:-1])
    lines = min(-(-ROW // width), all_lines)
    rows = planes * -(-all_lines // lines)
    shape = (planes, *three(sizes, 1), *three(out, 1), lines)
    return adaptive_pooling(name, like, rows, lines * width, *arrays, *shape, constants={"COVER": cover})


def _run_wide(name: str, like: Any, arrays: tuple[Any, ...], sizes: Sizes, out: Sizes) -> bool:
    """Launch a kernel for windows whose lines are long."""
    planes = like.shape[0] * like.shape[1]
    shape = (planes, *three(sizes, 1), *three(out, 1))
    return adaptive_pooling(name, like, planes * math.prod(out), sizes[-1] // out[-1] + 1, *arrays, *shape)


@functools.lru_cache(maxsize=256)
def _spans(read: Sizes, written: Sizes, device: str) -> tuple[Any, int]:
    """For each axis where the windows of the numbers to be written begin, then their ends; and the longest line of one."""
    spans = []
    for i, o in zip(three(read, 1), three(written, 1)):
        p = np.arange(o)
        spans.append((p * i // o, -(-(p + 1) * i // o)))
    first, end = spans[-1]
    return to_device(np.concatenate([a for pair in spans for a in pair]).astype(np.int32), device), int((end - first).max())


@functools.lru_cache(maxsize=256)
def _window_sizes(sizes: Sizes, out: Sizes, dtype: Any, device: str, inverse: bool = False) -> Any:
    """How many pixels every window has, (*out); or 1 / that."""
    lengths = [[-(-(p + 1) * i // o) - p * i // o for p in range(o)] for i, o in zip(sizes, out)]
    n = functools.reduce(np.multiply.outer, map(np.asarray, lengths))
    return to_device((1 / n if inverse else n).astype(dtype), device)


@adaptive_max_forward.kernel(accepts=ACCEPTS)
def _(x: Any, out: Sizes) -> Any:
    sizes = x.shape[2:]
    if not _fits(x, sizes, out):
        return NotImplemented
    x, plane = contiguous(x), math.prod(sizes)
    if math.prod(out) == 1 and (found := extremes_of(x.reshape(-1, plane), (1,), False, True, True)) is not NotImplemented:
        y, arg = (a.reshape(*x.shape[:2], *out) for a in found)
        return y, arg.astype(np.int32)
    y = empty((*x.shape[:2], *out), x.dtype, like=x)
    arg, (table, longest) = empty(y.shape, np.int32, like=x), _spans(sizes, out, device_of(x))
    if longest > UNROLLED:
        ran = _run_wide("adaptive_max_wide", x, (x, table, y, arg), sizes, out)
    else:
        ran = _run("adaptive_max_forward", x, (x, table, y, arg), sizes, out, out, longest)
    return (y, arg) if ran else NotImplemented


@adaptive_max_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, arg: Any, sizes: Sizes) -> Any:
    out = dy.shape[2:]
    if not _fits(dy, sizes, out):
        return NotImplemented
    if math.prod(out) == 1:
        planes = dy.shape[0] * dy.shape[1]
        index = arg.reshape(planes).astype(np.int64)
        return place_forward(dy.reshape(planes), index, (1,), (planes, math.prod(sizes))).reshape(*dy.shape[:2], *sizes)
    dy, arg, dx = contiguous(dy), contiguous(arg), empty((*dy.shape[:2], *sizes), dy.dtype, like=dy)
    table, cover = _spans(out, sizes, device_of(dy))
    ran = _run("adaptive_max_backward", dy, (dy, arg, table, dx), sizes, out, sizes, cover)
    return dx if ran else NotImplemented


@adaptive_mean_forward.kernel(accepts=ACCEPTS)
def _(x: Any, out: Sizes) -> Any:
    sizes = x.shape[2:]
    if not _fits(x, sizes, out):
        return NotImplemented
    x = contiguous(x)
    if math.prod(out) == 1:
        return mean_forward(x.reshape(-1, math.prod(sizes)), (1,)).reshape(*x.shape[:2], *out)
    y = empty((*x.shape[:2], *out), x.dtype, like=x)
    n, (table, longest) = _window_sizes(sizes, out, accumulator(x.dtype), device_of(x)), _spans(sizes, out, device_of(x))
    if longest > UNROLLED:
        ran = _run_wide("adaptive_mean_wide", x, (x, table, n, y), sizes, out)
    else:
        ran = _run("adaptive_mean_forward", x, (x, table, n, y), sizes, out, out, longest)
    return y if ran else NotImplemented


@adaptive_mean_backward.kernel(accepts=f"{ACCEPTS}; more than one window")
def _(dy: Any, sizes: Sizes) -> Any:
    out = dy.shape[2:]
    if not _fits(dy, sizes, out) or math.prod(out) == 1:
        return NotImplemented
    dy, dx = contiguous(dy), empty((*dy.shape[:2], *sizes), dy.dtype, like=dy)
    share = _window_sizes(sizes, out, accumulator(dy.dtype), device_of(dy), inverse=True)
    table, cover = _spans(out, sizes, device_of(dy))
    return dx if _run("adaptive_mean_backward", dx, (dy, share, table, dx), sizes, out, sizes, cover) else NotImplemented


# -- the operations ----------------------------------------------------------------------------------------------------

_adaptive_max: Operation = operation(
    "adaptive_max",
    adaptive_max_forward,
    residuals=("arg",),
    backward=lambda dy, arg, x_shape: adaptive_max_backward(dy, arg, x_shape[2:]),
    rule=lambda dy, arg, x_shape: _adaptive_max_spread(dy, arg, sizes=x_shape[2:]),
)
_adaptive_max_spread: Operation = operation(
    "adaptive_max_spread",
    adaptive_max_backward,
    backward=lambda dy, arg: (max_pool_gather(dy, arg), None),
    rule=lambda dy, arg, sizes: (_adaptive_max_gather(dy, arg, sizes=sizes), None),
)
_adaptive_max_gather: Operation = operation(
    "adaptive_max_gather",
    lambda x, arg, sizes: max_pool_gather(x, arg),
    backward=lambda dy, arg, sizes: (adaptive_max_backward(dy, arg, sizes), None),
    rule=lambda dy, arg, sizes: (_adaptive_max_spread(dy, arg, sizes=sizes), None),
)
_adaptive_mean: Operation = operation(
    "adaptive_mean",
    adaptive_mean_forward,
    backward=lambda dy, x_shape: adaptive_mean_backward(dy, x_shape[2:]),
    rule=lambda dy, x_shape: _adaptive_mean_spread(dy, sizes=x_shape[2:]),
)
_adaptive_mean_spread: Operation = operation(
    "adaptive_mean_spread",
    adaptive_mean_backward,
    backward=lambda dy, dy_shape: adaptive_mean_forward(dy, dy_shape[2:]),
    rule=lambda dy, dy_shape: _adaptive_mean(dy, out=dy_shape[2:]),
)


# -- public functions --------------------------------------------------------------------------------------------------


def _sizes(name: str, x: Any, out: Any) -> tuple[Tensor, Sizes, bool]:
    x, batched = with_batch(name, x, len(out) if isinstance(out, tuple | list) else None)
    out = tuple(out) if isinstance(out, tuple | list) else (out,) * (x.ndim - 2)
    if any(isinstance(o, bool) or not isinstance(o, int) or o < 1 for o in out):
        raise ValueError(f"{name}: the output size is a positive int or one per axis, got {out!r}")
    if 0 in x.shape[2:]:
        raise ValueError(f"{name}: the input has an empty axis, there is nothing to pool (input shape {x.shape})")
    return x, out, batched


def _divides(sizes: Sizes, out: Sizes) -> bool:
    """Whether there are several windows, all of one small size: then the sliding pools serve, and their kernels."""
    return max(out) > 1 and not any(i % o for i, o in zip(sizes, out)) and sizes[-1] // out[-1] <= UNROLLED


def adaptive_maxpool(x: Any, out: Any, *, name: str = "adaptive_maxpool") -> Tensor:
    """Max pooling of ``x`` (N, C, *I) to (N, C, *out) with PyTorch's windows.

    ``out``: one size per axis, or an int for every axis; with a tuple, the batch axis may be missing.
    """
    x, out, batched = _sizes(name, x, out)
    sizes = x.shape[2:]
    if _divides(sizes, out):
        y = maxpool(x, tuple(i // o for i, o in zip(sizes, out)), name=name)
    else:
        y = _adaptive_max(x, out=out)
    return y if batched else y.reshape(y.shape[1:])


def adaptive_meanpool(x: Any, out: Any, *, name: str = "adaptive_meanpool") -> Tensor:
    """Mean pooling of ``x`` (N, C, *I) to (N, C, *out) with PyTorch's windows; arguments as for ``adaptive_maxpool``."""
    x, out, batched = _sizes(name, x, out)
    sizes = x.shape[2:]
    if _divides(sizes, out):
        y = meanpool(x, tuple(i // o for i, o in zip(sizes, out)), name=name)
    else:
        y = _adaptive_mean(x, out=out)
    return y if batched else y.reshape(y.shape[1:])
