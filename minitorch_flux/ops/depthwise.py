"""Depthwise convolution: as many groups as input channels (kernels: kernels/depthwise.cu).

    depthwise          y[n,o,p]  = sum over k of  w[o,k] x[n,o/mul, p s - lo + k d]
    depthwise_data     x[n,c,i]  = sum over m and all k, p with p s - lo + k d = i  of  w[c mul + m,k] y[n,c mul + m,p]
    depthwise_filter   w[o,k]    = sum over n, p of  y[n,o,p] x[n,o/mul, p s - lo + k d]

x (N, C, *I), w (C mul, 1, *K), y (N, C mul, *P) over 1 to 3 axes: the triad of convolution.py where ``groups`` is C, which
calls these. A sum over taps, each of them an elementwise product of whole images: no columns and no loop over groups.
"""

from __future__ import annotations

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
REACH = 32  # most lines of the input that a block of lines may see
LONGEST_STEP = 4  # largest stride
ROW = 1024  # pixels of a row, or a little more
PLANES = 8  # most planes of a row
PARTS = 16  # most parts of the batch that a filter gradient is added up from
ENOUGH = 1 << 12  # so many pixels are one part at least
PART_SIZE = 1 << 20  # most numbers in them

ACCEPTS = (
    f"contiguous float32 and float64, not empty; kernels of up to {TAPS} taps without their depth, lines of up to {WIDEST}, "
    f"strides of up to {LONGEST_STEP}"
)


def _takes(a: Any, b: Any, window: Window) -> bool:
    _, kh, kw = three(window.kernel, 1)
    (_, sh, sw), (_, dh, _) = three(window.stride, 1), three(window.dilation, 1)
    return (
        a.dtype == b.dtype and a.dtype.kind == "f" and a.dtype.itemsize >= 4 and a.size > 0 and b.size > 0
        and a.flags.c_contiguous and b.flags.c_contiguous
        and kh * kw <= TAPS and kw <= WIDEST and max(sh, sw) <= LONGEST_STEP and 3 * sh + (kh - 1) * dh < REACH
    )  # fmt: skip


def _run(
    name: str, like: Any, arrays: tuple[Any, ...], planes: int, channels: int, mul: int, window: Window, sizes: Sizes,
    out: Sizes, over: Sizes,
) -> bool:
    """Launch a kernel over the lines of ``over``."""
    (kd, kh, kw), (sd, sh, sw), (dd, dh, dw) = (three(v, 1) for v in (window.kernel, window.stride, window.dilation))
    pd, ph, pw = three(window.lo, 0)
    block = 4 * sh  # a multiple of what the kernels take together
    d, h, width = three(over, 1)
    lines = -(-ROW // (width * block)) * block
    count = max(1, min(PLANES, ROW // (d * h * width)))
    return depthwise(
        name, like, -(-planes // count) * -(-h // lines), width, *arrays, planes, channels, mul, *three(sizes, 1),
        *three(out, 1), kd, sd, dd, pd, ph, pw, lines, count,
        constants={"KH": kh, "KW": kw, "SH": sh, "SW": sw, "DH": dh, "DW": dw, "EH": ph % sh, "EW": pw % sw},
    )


@depthwise_forward.kernel(accepts=ACCEPTS)
def _(x: Any, w: Any, window: Window) -> Any:
    if not _takes(x, w, window):
        return NotImplemented
    (n, c), sizes = x.shape[:2], x.shape[2:]
    window, o = window.at(sizes), w.shape[0]
    out = window.output_size(sizes)
    y = empty((n, o, *out), x.dtype, like=x)
    return y if _run("depthwise_forward", x, (x, w, y), n * o, o, o // c, window, sizes, out, out) else NotImplemented


@depthwise_data.kernel(accepts=ACCEPTS)
def _(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    if not _takes(y, w, window) or 0 in sizes:
        return NotImplemented
    n, c, out = y.shape[0], window.groups, y.shape[2:]
    x = empty((n, c, *sizes), y.dtype, like=y)
    ran = _run("depthwise_data", y, (y, w, x), n * c, c, w.shape[0] // c, window.at(sizes), sizes, out, sizes)
    return x if ran else NotImplemented


@depthwise_filter.kernel(accepts=ACCEPTS)
def _(x: Any, y: Any, window: Window) -> Any:
    if not _takes(x, y, window):
        return NotImplemented
    n, o, sizes, out = x.shape[0], y.shape[1], x.shape[2:], y.shape[2:]
    window = window.at(sizes)
    (kd, kh, kw), (sd, sh, sw), (dd, dh, dw) = (three(v, 1) for v in (window.kernel, window.stride, window.dilation))
    pd, ph, pw = three(window.lo, 0)
    size = o * math.prod(window.kernel)
    images = max(-(-n // max(1, min(n, PARTS, PART_SIZE // size))), min(n, ENOUGH // math.prod(out)))
    parts = -(-n // images)
    part = empty((parts, o, 1, *window.kernel), x.dtype, like=x)
    ran = depthwise(
        "depthwise_filter", x, parts * o * kd, out[-1], x, y, part, n, o, o // x.shape[1], *three(sizes, 1), *three(out, 1), kd,
        sd, dd, pd, ph, pw, images,
        constants={"KH": kh, "KW": kw, "SH": sh, "SW": sw, "DH": dh, "DW": dw, "EH": ph % sh, "EW": pw % sw},
    )
    if not ran:
        return NotImplemented
    return part[0] if parts == 1 else part.sum(axis=0, out=empty(part.shape[1:], x.dtype, like=x))
