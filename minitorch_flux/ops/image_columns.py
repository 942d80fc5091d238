"""Convolutions of small images as matrix products over the whole batch (kernels: kernels/image_columns.cu).

    y[o,(p,n)] = sum of w[o,(c,k)] col[(c,k),(p,n)]        col[(c,k),(p,n)] = x[c, p s - lo + k d, n]

Where an image has few pixels, a product for each of them reads all weights for little work. Here the images are the last
axis: x is turned to (C, *I, N) and y back, which costs little beside the product, columns are runs of N numbers, and each
of the three passes is a product with (p, n) side by side. The columns are made in parts that stay in the cache: lines of
pixels in the forward pass, channels in the others, so that nothing is added up from parts.
"""

from __future__ import annotations

import math
from typing import Any

from ..backend import array_module, empty
from ..readings import KernelFile
from .geometry import Window
from .im2col import Sizes, numbers

image_columns = KernelFile("image_columns.cu")

BLOCK = 32  # numbers of an image that one row of a transposition takes
PART = 1 << 19  # numbers in the columns of one matrix product
LEAST = 256  # columns that a product has, however many rows


def _turned(name: str, x: Any, images: int, shape: Sizes) -> Any:
    y, rest = empty(shape, x.dtype, like=x), x.size // images
    ran = image_columns(name, x, -(-rest // BLOCK), BLOCK * images, x, y, rest, images)
    return y if ran else NotImplemented


def _images_last(x: Any) -> Any:
    """(N, ...) as (..., N)."""
    return _turned("images_last", x, x.shape[0], (*x.shape[1:], x.shape[0]))


def _images_first(x: Any) -> Any:
    """(..., N) as (N, ...)."""
    return _turned("images_first", x, x.shape[-1], (x.shape[-1], *x.shape[:-1]))


def _columns(x: Any, col: Any, channels: int, images: int, shape: Sizes, line: int, lines: int) -> bool:
    """Fill ``col`` (channels * taps, lines, ow, images) from ``x`` (channels, *I, images); False where that can't run."""
    rows, width = channels * math.prod(shape[3:6]), lines * shape[8] * images
    numbers = shape[:6] + shape[7:]  # where the lines end is known by their number
    return image_columns("image_columns", x, rows, width, x, col, channels, images, *numbers, line, lines)


def _channels(channels: int, per_channel: int) -> range:
    """The first channel of every part."""
    return range(0, channels, max(1, min(channels, PART // per_channel)))


def forward(x: Any, w: Any, window: Window, out: Sizes) -> Any:
    """``conv_forward``."""
    xp = array_module(x)
    n, o, g, lines, width = x.shape[0], w.shape[0], window.groups, math.prod(out[:-1]), out[-1] * x.shape[0]
    rows = w.size // o
    filters, x = w.reshape(g, o // g, rows), _images_last(x)
    if x is NotImplemented:
        return x
    y = empty((o, *out, n), x.dtype, like=x)
    products = y.reshape(g, o // g, lines * width)
    if window.pointwise():
        xp.matmul(filters, x.reshape(g, rows, lines * width), out=products)
        return _images_first(y)
    per = min(lines, max(1, PART // (g * rows * width), -(-LEAST // width)))
    col, shape = empty((g * rows * per * width,), x.dtype, like=x), numbers(window, x.shape[1:-1], out)
    for i in range(0, lines, per):
        m = min(per, lines - i)
        if not _columns(x, col, x.shape[0], n, shape, i, m):
            return NotImplemented
        part = col[: g * rows * m * width].reshape(g, rows, m * width)
        xp.matmul(filters, part, out=products[:, :, i * width : (i + m) * width])
    return _images_first(y)


def data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """``conv_data_forward``."""
    xp = array_module(y)
    n, o, g, taps = y.shape[0], y.shape[1], window.groups, math.prod(window.kernel)
    c, places, out = w.shape[1], math.prod(y.shape[2:]) * n, y.shape[2:]
    filters, y = w.reshape(g, o // g, c * taps).swapaxes(-1, -2), _images_last(y)
    if y is NotImplemented:
        return y
    products = y.reshape(g, o // g, places)
    x = empty((g, c, *sizes, n), y.dtype, like=y)
    if window.pointwise():
        xp.matmul(filters, products, out=x.reshape(g, c, places))
        return _images_first(x.reshape(g * c, *sizes, n))
    parts, shape, lines = _channels(c, taps * places), numbers(window, sizes, out), math.prod(sizes[:-1])
    col = empty((parts.step * taps, places), y.dtype, like=y)
    for group in range(g):
        for i in parts:
            part = x[group, i : i + parts.step]
            m = len(part)
            xp.matmul(filters[group, i * taps : (i + m) * taps], products[group], out=col[: m * taps])
            rows, width = m * lines, sizes[-1] * n
            if not image_columns("image_columns_data", y, rows, width, col, part, m, n, *shape):
                return NotImplemented
    return _images_first(x.reshape(g * c, *sizes, n))


def filter(x: Any, y: Any, window: Window) -> Any:
    """``conv_filter_forward``."""
    xp = array_module(x)
    (n, c), o, g, taps = x.shape[:2], y.shape[1], window.groups, math.prod(window.kernel)
    out, sizes = y.shape[2:], x.shape[2:]
    c, lines, width = c // g, math.prod(out[:-1]), out[-1] * n
    x, y = _images_last(x), _images_last(y)
    if x is NotImplemented or y is NotImplemented:
        return NotImplemented
    products = y.reshape(g, o // g, lines * width)
    w = empty((g, o // g, c * taps), x.dtype, like=x)
    if window.pointwise():
        xp.matmul(products, x.reshape(g, c, lines * width).swapaxes(-1, -2), out=w)
        return w.reshape(o, c, *window.kernel)
    parts, shape = _channels(c, taps * lines * width), numbers(window, sizes, out)
    col = empty((parts.step * taps, lines * width), x.dtype, like=x)
    for group in range(g):
        for i in parts:
            part = x[group * c + i : group * c + min(i + parts.step, c)]
            m = len(part)
            if not _columns(part, col, m, n, shape, 0, lines):
                return NotImplemented
            xp.matmul(products[group], col[: m * taps].swapaxes(-1, -2), out=w[group, :, i * taps : (i + m) * taps])
    return w.reshape(o, c, *window.kernel)
