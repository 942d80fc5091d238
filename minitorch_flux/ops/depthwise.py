"""Depthwise convolution: as many groups as input channels (kernels: kernels/depthwise.cu).

    depthwise          y[n,o,p]  = sum over k of  w[o,k] x[n,o/mul, p s - lo + k d]
    depthwise_data     x[n,c,i]  = sum over m and all k, p with p s - lo + k d = i  of  w[c mul + m,k] y[n,c mul + m,p]
    depthwise_filter   w[o,k]    = sum over n, p of  y[n,o,p] x[n,o/mul, p s - lo + k d]

x (N, C, *I), w (C mul, 1, *K), y (N, C mul, *P) over 1 to 3 axes: the triad of convolution.py where ``groups`` is C, which
calls these. A sum over taps, each of them an elementwise product of whole images: no columns and no loop over groups.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from ..backend import accumulator, array_function, array_module, empty, is_float
from ..readings import KernelFile
from .geometry import Window
from .im2col import Sizes, padded, taps, three

# -- references --------------------------------------------------------------------------------------------------------


def _accumulator(*arrays: Any) -> tuple[Any, Any]:
    """The dtype of the result, and the one to add up in: float32 for 16-bit floats."""
    dtype = array_module(*arrays).result_type(*(a.dtype for a in arrays))
    return dtype, accumulator(dtype) if is_float(dtype) else dtype


def _by_channel(a: Any, channels: int) -> Any:
    """(N, C mul, ...) as (N, C, mul, ...)."""
    n, c, *sizes = a.shape
    return a.reshape(n, channels, c // channels, *sizes)


def _tap(w: Any, window: Window, k: int) -> Any:
    """Element number ``k`` of every kernel, as (C, mul, 1, ...)."""
    return w.reshape(window.groups, -1, math.prod(window.kernel))[:, :, k].reshape(window.groups, -1, *(1,) * window.ndim)


@array_function
def depthwise_forward(x: Any, w: Any, window: Window) -> Any:
    """y (N, C mul, *P) from x (N, C, *I) and w (C mul, 1, *K)."""
    n, c, *sizes = x.shape
    window = window.at(tuple(sizes))
    out = window.output_size(tuple(sizes))
    dtype, high = _accumulator(x, w)
    y = array_module(x).zeros((n, c, w.shape[0] // c, *out), high)
    x = padded(x.astype(high, copy=False), window, out)[:, :, None]
    for k, cut in taps(window, out):
        y += x[..., *cut] * _tap(w, window, k)
    return y.reshape(n, w.shape[0], *out).astype(dtype, copy=False)


@array_function
def depthwise_data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """x (N, C, *sizes) from y (N, C mul, *P) and w (C mul, 1, *K)."""
    xp, window = array_module(y), window.at(sizes)
    (dtype, high), c, out = _accumulator(y, w), window.groups, y.shape[2:]
    pairs: Any = window.pad
    x = xp.zeros((y.shape[0], c, *(i + lo + max(hi, 0) for i, (lo, hi) in zip(sizes, pairs))), high)
    y = _by_channel(y.astype(high, copy=False), c)
    for k, cut in taps(window, out):
        x[..., *cut] += (y * _tap(w, window, k)).sum(axis=2)
    inside = tuple(slice(lo, lo + i) for i, (lo, _) in zip(sizes, pairs))
    return xp.ascontiguousarray(x[..., *inside]).astype(dtype, copy=False)


@array_function
def depthwise_filter(x: Any, y: Any, window: Window) -> Any:
    """w (C mul, 1, *K) from x (N, C, *I) and y (N, C mul, *P)."""
    xp, c, out = array_module(x), x.shape[1], y.shape[2:]
    window = window.at(x.shape[2:])
    dtype, high = _accumulator(x, y)
    w = xp.empty((c, y.shape[1] // c, math.prod(window.kernel)), high)
    x, y = padded(x.astype(high, copy=False), window, out)[:, :, None], _by_channel(y.astype(high, copy=False), c)
    others = (0, *range(3, y.ndim))
    for k, cut in taps(window, out):
        w[:, :, k] = (x[..., *cut] * y).sum(axis=others)
    return w.reshape(y.shape[1] * y.shape[2], 1, *window.kernel).astype(dtype, copy=False)


# -- kernels -----------------------------------------------------------------------------------------------------------

depthwise = KernelFile("depthwise.cu")

TAPS = 64  # most taps of a kernel, without its depth, that are unrolled
WIDEST = 11  # longest line of them
REACH = 32  # most lines of the input that four lines of the output may see
LONGEST_STEP = 4  # largest stride
ROW = 1024  # pixels of a row, or a little more
PLANES = 8  # most planes of a row
PARTS = 16  # most parts of the batch that a filter gradient is added up from,
PART_SIZE = 1 << 20  # most numbers in them,
ENOUGH = 1 << 12  # and so many pixels are one part

ACCEPTS = (
    f"contiguous float32 and float64, not empty; kernels of up to {TAPS} taps without their depth, lines of up to {WIDEST}, "
    f"strides of up to {LONGEST_STEP}"
)


def suits(window: Window, inputs: int) -> bool:
    """Whether the kernels of this file take the window, with ``inputs`` channels per group."""
    _, kh, kw = three(window.kernel, 1)
    (_, sh, sw), (_, dh, _) = three(window.stride, 1), three(window.dilation, 1)
    small = kh * kw <= TAPS and kw <= WIDEST and max(sh, sw) <= LONGEST_STEP and 3 * sh + (kh - 1) * dh < REACH
    return window.groups > 1 and inputs == 1 and small


def _fits(a: Any, b: Any, window: Window) -> bool:
    floats = a.dtype == b.dtype and a.dtype.kind == "f" and a.dtype.itemsize >= 4
    return bool(floats and a.size and b.size and a.flags.c_contiguous and b.flags.c_contiguous and suits(window, 1))


@functools.lru_cache(maxsize=1024)
def _numbers(window: Window, sizes: Sizes, out: Sizes) -> tuple[Any, ...]:
    """Constants of the build, and the kernels' arguments after the channels."""
    (kd, kh, kw), (sd, sh, sw), (dd, dh, dw) = (three(v, 1) for v in (window.kernel, window.stride, window.dilation))
    pd, ph, pw = three(window.lo, 0)
    constants = {"KH": kh, "KW": kw, "SH": sh, "SW": sw, "DH": dh, "DW": dw, "EH": ph % sh, "EW": pw % sw}
    return constants, (*three(sizes, 1), *three(out, 1), kd, sd, dd, pd, ph, pw)


def _by_plane(name: str, a: Any, w: Any, result: Any, window: Window, sizes: Sizes, out: Sizes) -> Any:
    """Launch a kernel over the planes of ``result``."""
    constants, numbers = _numbers(window, sizes, out)
    (n, channels), (d, h, width) = result.shape[:2], three(result.shape[2:], 1)
    block = 4 * constants["SH"]  # a multiple of the lines that the kernels take together
    lines, count = -(-ROW // (width * block)) * block, max(1, min(PLANES, ROW // (d * h * width)))
    rows = -(-n * channels // count) * -(-h // lines)
    mul = w.shape[0] // window.groups
    ran = depthwise(
        name, a, rows, width, a, w, result, n * channels, channels, mul, *numbers, lines, count, constants=constants
    )
    return result if ran else NotImplemented


@depthwise_forward.kernel(accepts=ACCEPTS)
def _(x: Any, w: Any, window: Window) -> Any:
    if not _fits(x, w, window):
        return NotImplemented
    sizes = x.shape[2:]
    out = window.output_size(sizes)
    y = empty((x.shape[0], w.shape[0], *out), x.dtype, like=x)
    return _by_plane("depthwise_forward", x, w, y, window.at(sizes), sizes, out)


@depthwise_data.kernel(accepts=ACCEPTS)
def _(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    if not _fits(y, w, window) or 0 in sizes:
        return NotImplemented
    x = empty((y.shape[0], window.groups, *sizes), y.dtype, like=y)
    return _by_plane("depthwise_data", y, w, x, window.at(sizes), sizes, y.shape[2:])


@depthwise_filter.kernel(accepts=ACCEPTS)
def _(x: Any, y: Any, window: Window) -> Any:
    if not _fits(x, y, window):
        return NotImplemented
    (n, o), sizes, out = y.shape[:2], x.shape[2:], y.shape[2:]
    constants, numbers = _numbers(window.at(sizes), sizes, out)
    images = -(-n // max(1, min(n, PARTS, PART_SIZE // (o * math.prod(window.kernel)))))
    images = max(images, min(n, ENOUGH // math.prod(out)))
    parts = -(-n // images)
    part = empty((parts, o, 1, *window.kernel), x.dtype, like=x)
    rows = parts * o * window.kernel[0]
    mul = o // x.shape[1]
    if not depthwise("depthwise_filter", x, rows, out[-1], x, y, part, n, o, mul, *numbers, images, constants=constants):
        return NotImplemented
    return part[0] if parts == 1 else part.sum(axis=0, out=empty(part.shape[1:], x.dtype, like=x))
