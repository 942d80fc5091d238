"""Convolutions on a GPU's tensor cores (kernels: kernels/conv_tensor.cu): for float16 and bfloat16, for float32 as tf32.

The three functions of convolution.py as matrix products, added up in float32. They run where a GPU of sm_80 or later has the
arrays, and in the emulator; elsewhere they decline, and so for float32 unless ``allow_tf32()`` permits its rounding.

    forward   rows are output channels, columns output pixels, the sum is over (c, k)
    data      the same with inputs and outputs exchanged, once for each remainder of a pixel's place by the stride: pixels of
              one remainder meet the same taps, at distances that are the same for all of them
    filter    rows are output channels, columns (c, k), the sum is over all pixels, in parts that are added up at the end

How exact they are: a product of two 16-bit numbers (or of two float32 rounded to tf32, 10 bits of fraction) is exact, and the
sum of n of them is off by at most n 2^-23 times the sum of their sizes, whatever their order (a GPU's tensor cores cut off
where others round); the result is then rounded to its dtype. tf32 adds 2^-10 of the sum of sizes. No float16 sum overflows
before the result itself does.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import address_of, contiguous, device_of, empty, tf32_allowed, to_device
from ..readings import KernelFile
from .geometry import Window
from .im2col import Sizes, three
from .reductions import sum_forward

tensors = KernelFile("conv_tensor.cu")

ROWS, COLUMNS, DEPTH = 64, 128, 32  # a tile of the product, and how much of the sum is in shared memory (of float32: half)
NO_TAP = 63  # the number that the kernels know fillings by
LEAST = 16  # channels of a group, and numbers to add up, below which a tile is mostly filling
ALIGNED = 16  # bytes that a kernel reads of the weights at a time
WAVE = 512  # tiles that keep every processor busy
PART = 1024  # least pixels that a part of a filter gradient adds up

ACCEPTS = (
    "float16, bfloat16 and with allow_tf32 float32, on GPUs from sm_80 on; at least 16 results for each pixel and group, of at "
    "least 16 weights; windows of at most 62 taps, 32 along an axis; planes of a group with a window below 2^31 pixels"
)


def fits(a: Any, b: Any, window: Window, inputs: int, outputs: int) -> bool:
    """Whether tensor cores take two arrays of one dtype: ``inputs`` and ``outputs`` are the channels of a group."""
    taps = math.prod(window.kernel)
    if a.dtype != b.dtype or (a.dtype.itemsize > 2 and not tf32_allowed()) or not (a.size and b.size):
        return False
    if inputs * taps < LEAST or outputs < LEAST or taps >= NO_TAP or max(window.kernel) > 32:
        return False
    planes = max(math.prod(a.shape[2:]), math.prod(b.shape[2:])) * max(inputs, outputs)
    (_, h, w), (d, i, j) = three(a.shape[2:], 1), three(window.span, 1)
    return planes + (d * h + i) * w + j < 1 << 31 and tensors.runs_on(a)  # with how far a window may reach beyond


@dataclass(frozen=True)
class _Taps:
    """Some taps of a kernel, and where they meet the pixels: tap k of output p at p * step + first + k * apart."""

    kernel: Sizes
    step: Sizes
    first: Sizes
    apart: Sizes

    def numbers(self) -> tuple[int, ...]:
        """What the kernels take."""
        return (*self.kernel, *self.step, *self.first, *self.apart)


def _taps(window: Window) -> _Taps:
    lo = three(window.lo, 0)
    return _Taps(three(window.kernel, 1), three(window.stride, 1), (-lo[0], -lo[1], -lo[2]), three(window.dilation, 1))


@functools.lru_cache(maxsize=512)
def _table(taps: _Taps, channels: int, sizes: Sizes, depth: int, device: str) -> Any:
    """For each (c, k) how far its pixel lies from that of (0, 0), and the number of k; filled up to a multiple of ``depth``."""
    _, h, w = sizes
    k = np.indices(taps.kernel).reshape(3, -1)
    offsets = (k[0] * taps.apart[0] * h + k[1] * taps.apart[1]) * w + k[2] * taps.apart[2]
    far = (np.arange(channels)[:, None] * math.prod(sizes) + offsets).reshape(-1)
    table = np.zeros((-(-far.size // depth) * depth, 2), np.int32)
    table[:, 1] = NO_TAP
    table[: far.size, 0], table[: far.size, 1] = far, np.tile(np.arange(offsets.size), channels)
    return to_device(table, device)


def _packed(w: Any, depth: int) -> Any:
    """w (groups, rows, sum) with zeros up to whole tiles, where a kernel can read ALIGNED bytes at a time."""
    g, o, k = w.shape
    op, kp = -(-o // ROWS) * ROWS, -(-k // depth) * depth
    if (op, kp) == (o, k) and w.flags.c_contiguous and address_of(w) % ALIGNED == 0:
        return w
    packed = empty((g, op, kp), w.dtype, like=w)
    packed[...] = 0
    packed[:, :o, :k] = w
    return packed


def _depth(dtype: Any) -> int:
    return DEPTH if dtype.itemsize == 2 else DEPTH // 2


def _multiply(
    x: Any, w: Any, y: Any, taps: _Taps, grid: Sizes, step: Sizes, first: Sizes
) -> bool:
    """y[.., p step + first] = sum of w[g, o, (c, k)] x[.., c, p taps.step + taps.first + k taps.apart] for p in ``grid``."""
    depth, (g, o, _) = _depth(x.dtype), w.shape
    n, channels, sizes = x.shape[0], x.shape[1] // g, three(x.shape[2:], 1)
    w = _packed(w, depth)
    table = _table(taps, channels, sizes, depth, device_of(x))
    rows = g * (w.shape[1] // ROWS) * -(-n * math.prod(grid) // COLUMNS)
    return tensors(
        "conv_tensor_forward", x, rows, 512, x, w, y, n, g, channels, *sizes, o, *grid, *taps.numbers(), table,
        *three(y.shape[2:], 1), *step, *first, w.shape[1], w.shape[2],
    )


def forward(x: Any, w: Any, window: Window) -> Any:
    """``conv_forward`` on tensor cores."""
    x, window, g = contiguous(x), window.at(x.shape[2:]), window.groups
    out = window.output_size(x.shape[2:])
    y = empty((x.shape[0], w.shape[0], *out), x.dtype, like=x)
    w = w.reshape(g, w.shape[0] // g, math.prod(w.shape[1:]))
    ran = _multiply(x, w, y, _taps(window), three(out, 1), (1, 1, 1), (0, 0, 0))
    return y if ran else NotImplemented


def _remainders(size: int, k: int, s: int, d: int, lo: int) -> Iterator[tuple[int, int, slice, int, int]]:
    """The pixels i of an axis by the remainder of i + lo by the stride s: those from ``i`` on, s apart, ``count`` of them.

    They meet the taps of the slice; tap j of them meets the output ``first - j * apart`` places further than the pixel's
    number among the ``count``: (i, count, taps, first, apart).
    """
    apart = math.gcd(s, d)
    for i in range(min(s, size)):
        met = [j for j in range(min(k, s // apart)) if (i + lo - j * d) % s == 0]
        taps = slice(met[0], None, s // apart) if met else slice(0, 0)
        first = (i + lo - met[0] * d) // s if met else 0
        yield i, -(-(size - i) // s), taps, first, d // apart


def data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """``conv_data_forward`` on tensor cores."""
    y, window, g = contiguous(y), window.at(sizes), window.groups
    o, c = w.shape[0] // g, w.shape[1]
    x = empty((y.shape[0], g * c, *sizes), y.dtype, like=y)
    w = w.reshape(g, o, c, *three(w.shape[2:], 1)).swapaxes(1, 2)
    axes = zip(
        three(sizes, 1), three(window.kernel, 1), three(window.stride, 1), three(window.dilation, 1), three(window.lo, 0),
        strict=True,
    )
    for phase in itertools.product(*(list(_remainders(*axis)) for axis in axes)):
        start, count, kept, first, apart = zip(*phase, strict=True)
        part = w[..., *kept]
        taps = _Taps(part.shape[3:], (1, 1, 1), first, tuple(-a for a in apart))
        if not _multiply(y, part.reshape(g, c, math.prod(part.shape[2:])), x, taps, count, three(window.stride, 1), start):
            return NotImplemented
    return x


def filter(x: Any, y: Any, window: Window) -> Any:
    """``conv_filter_forward`` on tensor cores."""
    x, y, window, g = contiguous(x), contiguous(y), window.at(x.shape[2:]), window.groups
    n, c, o, out = x.shape[0], x.shape[1] // g, y.shape[1] // g, three(y.shape[2:], 1)
    taps, sizes, depth = _taps(window), three(x.shape[2:], 1), _depth(x.dtype)
    width, pixels = c * math.prod(window.kernel), n * math.prod(out)
    tiles = g * -(-o // ROWS) * -(-width // COLUMNS)
    parts = max(1, min(-(-WAVE // tiles), pixels // PART))
    each = -(-pixels // parts // depth) * depth
    parts = -(-pixels // each)
    part = empty((parts, g * o, width), np.dtype(np.float32), like=x)
    ran = tensors(
        "conv_tensor_filter", x, parts * tiles, 512, x, y, part, n, g, c, *sizes, o, *out, *taps.numbers(),
        _table(taps, c, sizes, depth, device_of(x)), parts, each,
    )
    if not ran:
        return NotImplemented
    return sum_forward(part, (0,), dtype=x.dtype).reshape(g * o, c, *window.kernel)
