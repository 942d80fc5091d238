"""GridSample and DeformConv: values between the pixels, at places that the network computes."""

from __future__ import annotations

import itertools
import math
from typing import Any

from ..autograd import Tensor
from ..backend import array_module
from ..ops import arithmetic
from ..ops.comparisons import clip, where
from ..ops.elementwise import as_tensor
from ..ops.indexing import take_along_axis
from ..ops.joining import stack
from ..ops.products import matmul
from .registry import register
from .windows import numbers, pairs_of

MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""Names of the first opset that had the operator."""
CUBIC = -0.75


def _reflected(x: Any, low: float, high: float) -> Any:
    """``x`` folded back and forth into the interval."""
    width = high - low
    if not width:
        return x * 0 + low
    d = arithmetic.absolute(x - low)
    turns = arithmetic.floor(d / width)
    rest = d - turns * width
    return where(arithmetic.remainder(turns, 2) == 0, rest + low, high - rest)


def _weight(d: Any, mode: str) -> Any:
    """The weight of a pixel at the distance ``d``."""
    d = arithmetic.absolute(d)
    if mode == "linear":
        return 1 - d
    near, far = ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1, ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC
    return where(d <= 1, near, far)


@register("GridSample")
def grid_sample(
    x: Any, grid: Any, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Any:
    """``x`` (N, C, *I) at the places ``grid`` (N, *O, axes), whose last axis runs from the last axis of x to the first.

    -1 and 1 are the outer edges of the border pixels, their centres with ``align_corners``.
    """
    x, grid, mode = as_tensor(x), as_tensor(grid), MODES.get(mode, mode)
    if mode not in ("nearest", "linear", "cubic") or padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"mode={mode!r}, padding_mode={padding_mode!r} is not known")
    sizes, out = x.shape[2:], grid.shape[1:-1]
    n = len(sizes)
    places = []
    for k, size in enumerate(sizes):
        g = grid[..., n - 1 - k].reshape(grid.shape[0], 1, math.prod(out))
        at = (g + 1) * ((size - 1) / 2) if align_corners else ((g + 1) * size - 1) / 2
        at = arithmetic.round(at) if mode == "nearest" else at
        if mode == "cubic":
            pass  # as in PyTorch: its four pixels are clamped or reflected, not the place between them
        elif padding_mode == "border":
            at = clip(at, 0, size - 1)
        elif padding_mode == "reflection":
            at = _reflected(at, *_edges(size, align_corners))
        places.append(at)
    planes = x.reshape(*x.shape[:2], math.prod(sizes))
    offsets = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}[mode]
    total: Any = 0.0
    for taps in itertools.product(offsets, repeat=n):
        total = total + _tap(planes, places, taps, sizes, mode, padding_mode, align_corners)
    return total.reshape(*x.shape[:2], *out)


def _edges(size: int, align_corners: int) -> tuple[float, float]:
    return (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)


def _tap(
    planes: Tensor, places: list[Any], taps: tuple[int, ...], sizes: tuple[int, ...], mode: str, padding_mode: str,
    align_corners: int,
) -> Tensor:
    """The share of the pixels that lie ``taps`` from those before each place."""
    xp = array_module(planes.data)
    flat, inside, weight = 0, True, 1.0
    for at, tap, size in zip(places, taps, sizes):
        pixel = xp.floor(at.data) + tap
        if mode != "nearest":
            weight = weight * _weight(at - pixel, mode)
        if padding_mode == "reflection":
            pixel = xp.trunc(_reflected(Tensor(pixel), *_edges(size, align_corners)).data)
        elif padding_mode == "zeros":
            inside = inside & (pixel >= 0) & (pixel < size)
        flat = flat * size + xp.clip(xp.nan_to_num(pixel), 0, size - 1).astype(xp.int64)
    v = take_along_axis(planes, flat, 2)
    v = v if inside is True else where(inside, v, 0.0)
    return v if mode == "nearest" else v * weight


@register("DeformConv")
def deform_conv(
    x: Any, w: Any, offset: Any, b: Any = None, mask: Any = None, *, dilations: Any = None, group: int = 1,
    kernel_shape: Any = None, offset_group: int = 1, pads: Any = None, strides: Any = None,
) -> Any:
    """A convolution whose every tap is moved by ``offset`` (N, groups K axes, *O) and weighted by ``mask``.

    Each group of offsets serves its part of the channels.
    """
    x, w, offset = as_tensor(x), as_tensor(w), as_tensor(offset)
    n, kernel, out = x.ndim - 2, w.shape[2:], offset.shape[2:]
    stride, dilation, lo = numbers(strides, n, 1), numbers(dilations, n, 1), [p for p, _ in pairs_of(pads, n)]
    taps, batch, each = math.prod(kernel), x.shape[0], x.shape[1] // offset_group
    moved = offset.reshape(batch, offset_group, taps, n, math.prod(out))
    xp = array_module(x.data)
    parts = []
    for g in range(offset_group):
        planes = x[:, g * each : (g + 1) * each].reshape(batch, each, math.prod(x.shape[2:]))
        for t, at in enumerate(itertools.product(*map(range, kernel))):
            places = []
            for k in range(n):
                first = xp.arange(out[k]) * stride[k] - lo[k] + at[k] * dilation[k]
                row = xp.broadcast_to(first.reshape(-1, *(1,) * (n - 1 - k)), out).reshape(1, 1, -1).astype(x.dtype)
                places.append(moved[:, g : g + 1, t, k] + row)
            values: Any = 0.0
            for corner in itertools.product((0, 1), repeat=n):
                values = values + _tap(planes, places, corner, x.shape[2:], "linear", "zeros", 1)
            if mask is not None:
                values = values * as_tensor(mask).reshape(batch, offset_group, taps, 1, -1)[:, g, t]
            parts.append(values)
    columns = stack(parts, 1).reshape(batch, offset_group, taps, each, math.prod(out)).swapaxes(2, 3)
    columns = columns.reshape(batch, group, x.shape[1] // group * taps, math.prod(out))
    filters = w.reshape(group, w.shape[0] // group, w.shape[1] * taps)
    y = matmul(filters, columns).reshape(batch, w.shape[0], *out)
    return y if b is None else y + as_tensor(b).reshape(-1, *(1,) * n)
