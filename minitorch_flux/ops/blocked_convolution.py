"""Direct convolution with channels in the lanes, some lines at a time (kernels: kernels/blocked_convolution.cu).

The three sums of convolution.py over one or two axes, for any stride, dilation and kernel. A core turns the pixels that a few
lines of the result see to channels side by side; a pixel then takes part in the products of many outputs at once, straight from
the cache. No columns are written, and the length of a line does not matter; fewer outputs than a block of them do.
"""

from __future__ import annotations

import math
from typing import Any

from ..backend import empty
from ..backend.threads import num_threads
from ..readings import KernelFile
from .geometry import Window
from .im2col import Sizes, three

blocked = KernelFile("blocked_convolution.cu")

CHANNELS = 16  # of a group that is read or written side by side
BLOCK = 32  # outputs whose products are computed side by side
STRIP = 1 << 17  # numbers that a strip sees, if one line does not see more
PIXELS = 28  # but so many pixels at least, for whose sake all weights are read once
SUMS = 1 << 18  # most sums of a filter gradient that every thread has for itself


def _up(n: int, m: int) -> int:
    return -(-n // m) * m


def _strips(n: int, sizes: Sizes, each: int, least: int) -> tuple[int, int, int]:
    """``(images, lines, across)`` of a strip of (H, W) pixels with ``each`` numbers each; ``least`` strips if possible."""
    high, wide = sizes
    pixels = max(PIXELS, STRIP // each)
    if high * wide <= pixels:
        images = min(max(1, pixels // (high * wide)), -(-n // least))
        images = -(-n // -(-n // images))
        if images > 1 or n >= least:
            return images, high, wide
    across = -(-wide // -(-wide // pixels))
    lines = min(max(1, pixels // across), -(-high * n * -(-wide // across) // least))
    return 1, -(-high // -(-high // min(lines, high))), across


def _seen(pixels: int, stride: int, kernel: int, dilation: int) -> int:
    """How many pixels along an axis so many pixels of the output see."""
    return (pixels - 1) * stride + (kernel - 1) * dilation + 1


def _weights(w: Any, groups: int, of_inputs: bool) -> Any:
    """w (groups O, C, *K) as (groups, blocks, *K, C, BLOCK); ``of_inputs``: as (groups, blocks, *K, O, BLOCK)."""
    o, c, taps = w.shape[0] // groups, w.shape[1], math.prod(w.shape[2:])
    lanes, others = (c, o) if of_inputs else (o, c)
    outer, inner, run = (taps, c * taps, 1) if of_inputs else (c * taps, taps, CHANNELS)
    u = empty((groups, -(-lanes // BLOCK), taps, others, BLOCK), w.dtype, like=w)
    rows = groups * u.shape[1] * -(-others // run)
    return u if blocked("blocked_weights", w, rows, BLOCK, w, u, groups, others, lanes, taps, run, inner, outer) else None


def _numbers(window: Window, sizes: Sizes, out: Sizes) -> tuple[Any, ...]:
    """(height, width) of the image, the result, kernel, stride, dilation and padding."""
    (_, *k), (_, *s), (_, *d), (_, *lo) = (
        three(v, i) for v, i in ((window.kernel, 1), (window.stride, 1), (window.dilation, 1), (window.lo, 0))
    )
    return tuple(three(sizes, 1)[1:]), tuple(three(out, 1)[1:]), k, s, d, lo


def forward(x: Any, w: Any, window: Window, out: Sizes) -> Any:
    """``conv_forward``."""
    g, n, c, o = window.groups, x.shape[0], w.shape[1], w.shape[0] // window.groups
    size, result, k, s, d, lo = _numbers(window, x.shape[2:], out)
    blocks, threads, pitch = -(-o // BLOCK), num_threads(), _up(c, CHANNELS) + CHANNELS
    split = min(blocks, threads) if g * n * math.prod(result) < threads * PIXELS else 1
    images, lines, across = _strips(n, result, pitch * s[0] * s[1] + BLOCK, -(-threads // split))
    strips = g * -(-n // images) * -(-result[0] // lines) * -(-result[1] // across)
    parts = min(strips, -(-threads // split))
    room = images * (_seen(lines, s[0], k[0], d[0]) * _seen(across, s[1], k[1], d[1]) * pitch + lines * across * BLOCK)
    u, y = _weights(w, g, False), empty((n, g * o, *out), x.dtype, like=x)
    space = empty((parts * split, room), x.dtype, like=x)
    if u is None:
        return NotImplemented
    blocked(
        "blocked_forward", x, parts * split, BLOCK, x, u, space, y, n, g, c, *size, o, *result, *k, *s, *d, *lo,
        images, lines, across, parts, split, room,
    )  # fmt: skip
    return y


def data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """``conv_data_forward``."""
    g, n, c, o = window.groups, y.shape[0], w.shape[1], w.shape[0] // window.groups
    size, result, k, s, d, lo = _numbers(window, sizes, y.shape[2:])
    cells = -(-size[0] // s[0]), -(-size[1] // s[1])
    blocks, threads, pitch = -(-c // BLOCK), num_threads(), _up(o, CHANNELS) + CHANNELS
    split = min(blocks, threads) if g * n * math.prod(cells) < threads * PIXELS else 1
    images, lines, across = _strips(n, cells, pitch + s[0] * s[1] * BLOCK, -(-threads // split))
    strips = g * -(-n // images) * -(-cells[0] // lines) * -(-cells[1] // across)
    parts = min(strips, -(-threads // split))
    more = [-((a - (i - 1) * b) // t) + max(0, t - 1 + a) // t for i, t, b, a in zip(k, s, d, lo)]
    room = images * ((lines + more[0]) * (across + more[1]) * pitch + lines * across * s[0] * s[1] * BLOCK)
    u, x = _weights(w, g, True), empty((n, g * c, *sizes), y.dtype, like=y)
    space = empty((parts * split, room), y.dtype, like=y)
    if u is None:
        return NotImplemented
    blocked(
        "blocked_data", y, parts * split, BLOCK, y, u, space, x, n, g, c, *size, o, *result, *k, *s, *d, *lo,
        images, lines, across, parts, split, room,
    )  # fmt: skip
    return x


def filter(x: Any, y: Any, window: Window) -> Any:
    """``conv_filter_forward``."""
    g, n, c, o = window.groups, x.shape[0], x.shape[1] // window.groups, y.shape[1] // window.groups
    size, result, k, s, d, lo = _numbers(window, x.shape[2:], y.shape[2:])
    blocks, taps, threads, pitch = -(-o // BLOCK), math.prod(k), num_threads(), _up(c, CHANNELS) + CHANNELS
    sums = g * blocks * BLOCK * taps * c
    split = min(blocks, threads) if n * math.prod(result) < threads * PIXELS or sums > SUMS else 1
    wide = -(-blocks // split) * BLOCK + CHANNELS
    images, lines, across = _strips(n, result, pitch * s[0] * s[1] + wide, -(-threads // split))
    parts = min(-(-n // images) * -(-result[0] // lines) * -(-result[1] // across), -(-threads // split))
    room = images * (_seen(lines, s[0], k[0], d[0]) * _seen(across, s[1], k[1], d[1]) * pitch + lines * across * wide)
    space, part = (empty(shape, x.dtype, like=x) for shape in ((parts * split, room), (parts, sums)))
    w = empty((g * o, c, *window.kernel), x.dtype, like=x)
    ran = blocked(
        "blocked_filter", x, parts * split, BLOCK, x, y, space, part, n, g, c, *size, o, *result, *k, *s, *d, *lo,
        images, lines, across, parts, split, room,
    )  # fmt: skip
    if not ran:
        return NotImplemented
    blocked("blocked_filter_backward", x, g * blocks * -(-c // CHANNELS), BLOCK, part, w, parts, g, c, o, taps)
    return w
