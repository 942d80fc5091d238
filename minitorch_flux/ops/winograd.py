"""Convolutions with 3x3 kernels by Winograd's F(4x4, 3x3) (kernels: kernels/winograd.cu).

    y = A' [(G g G') * (B' d B)] A        for every tile d of 6x6 pixels of a channel, summed over the channels

A tile of 4x4 outputs takes 36 products in the place of 144. Summed over the channels they are 36 matrix products, which BLAS
does; the transforms add up a few numbers each. The gradients are the adjoints of the same three steps: no other product. This
is the way on a GPU; on a CPU winograd_tiles.py does the same some tiles at a time.

The price is exactness: for float32 only, every number is within ``BOUND`` of the sum of its absolute products, about ten times
as far as the direct sum may be off. The references (``use_kernels(False)``) multiply as they stand.
Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backend import array_module, empty
from ..readings import KernelFile
from .geometry import Window
from .im2col import Sizes

winograd = KernelFile("winograd.cu")

PART = 1 << 19  # transformed numbers that are made before they are multiplied
LINE = 512  # numbers of a channel that are read side by side
FEWEST = 32  # tiles of such a part at least
BOUND = 2e-5


def _tiles(out: Sizes) -> Sizes:
    """How many tiles lie below and beside each other."""
    return -(-out[0] // 4), -(-out[1] // 4)


def _lines(x: Any, height: int, width: int, top: int, left: int) -> Any:
    """``x`` (N, C, H, W) as (N, height, width, C), from ``top`` lines above it and ``left`` pixels beside it on."""
    n, c, h, w = x.shape
    y = empty((n, height, width, c), x.dtype, like=x)
    block = min(height, -(-LINE // w))
    rows = n * -(-height // block)
    ran = winograd("winograd_lines", x, rows, block * width * c, x, y, n, c, h, w, height, width, top, left, block)
    return y if ran else NotImplemented  # where this one runs, all of its file do


def _parts(count: int, c: int, o: int, like: Any) -> Iterator[tuple[int, Any, Any]]:
    """``(first, V, M)``: parts of so many tiles, with memory for their numbers in both domains."""
    step = min(count, max(FEWEST, PART // (36 * (c + o))))
    images, products = (empty((36 * step * k,), like.dtype, like=like) for k in (c, o))
    for first in range(0, count, step):
        m = min(step, count - first)
        yield first, images[: 36 * m * c].reshape(36, m, c), products[: 36 * m * o].reshape(36, m, o)


def forward(x: Any, w: Any, window: Window, out: Sizes, turned: bool = False) -> Any:
    """y (N, O, *out) from x and w (O, C, 3, 3); ``turned``: from w (C, O, 3, 3) with every kernel reversed."""
    xp, (th, tw), n, c, o = array_module(x), _tiles(out), x.shape[0], x.shape[1], w.shape[1 if turned else 0]
    lines = _lines(x, 4 * th + 2, 4 * tw + 2, *window.lo)
    if lines is NotImplemented:
        return lines
    u, y = empty((36, c, o), x.dtype, like=x), empty((n, 4 * th, 4 * tw, o), x.dtype, like=x)
    inner, outer = (o * 9, 9) if turned else (9, c * 9)
    winograd("winograd_filter", x, c, 36 * o, w, u, c, o, inner, outer, int(turned))
    for first, v, m in _parts(n * th * tw, c, o, x):
        count = v.shape[1]
        winograd("winograd_image", x, count, 36 * c, lines, v, th, tw, c, first, count)
        xp.matmul(v, u, out=m)
        winograd("winograd_output", x, count, 36 * o, m, y, tw, o, first, count)
    result = empty((n, o, *out), x.dtype, like=x)
    winograd("winograd_planes", x, n * out[0] * o, out[1], y, result, n, o, *out, 4 * th, 4 * tw)
    return result


def data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """``conv_data_forward``: a convolution with the turned kernels."""
    return forward(y, w, window.reversed(), sizes, turned=True)


def filter(x: Any, y: Any, window: Window) -> Any:
    """``conv_filter_forward``."""
    xp, (th, tw), n, c, o = array_module(x), _tiles(y.shape[2:]), x.shape[0], x.shape[1], y.shape[1]
    lines, tiles = _lines(x, 4 * th + 2, 4 * tw + 2, *window.lo), _lines(y, 4 * th, 4 * tw, 0, 0)
    if lines is NotImplemented or tiles is NotImplemented:
        return NotImplemented
    u, part = (empty((36, c, o), x.dtype, like=x) for _ in range(2))
    for first, v, m in _parts(n * th * tw, c, o, x):
        count = v.shape[1]
        winograd("winograd_image", x, count, 36 * c, lines, v, th, tw, c, first, count)
        winograd("winograd_output_backward", x, count, 36 * o, tiles, m, tw, o, first, count)
        xp.matmul(v.swapaxes(-1, -2), m, out=part if first else u)
        if first:
            u += part
    w = empty((o, c, 3, 3), x.dtype, like=x)
    winograd("winograd_filter_backward", x, c, 36 * o, u, w, c, o)
    return w
