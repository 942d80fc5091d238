"""Resize and Upsample: ONNX's many rules for which pixels, and how much of each, on this library's interpolation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import array_module
from ..ops.comparisons import where
from ..ops.elementwise import as_tensor
from ..ops.upsampling import Taps
from ..ops.upsampling import _upsample as interpolate
from .arguments import axis_of, ints, like
from .registry import register


def coordinates(mode: str, size: int, out: int, scale: float, roi: tuple[float, float]) -> np.ndarray:
    """Where in the input, in pixels, every output pixel lies."""
    o, length = np.arange(out), scale * size
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and length > 1):
        return (o + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return np.full(out, -0.5) if length == 1 else (o + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return size / 2 * (1 - out / length) + (o + 0.5) / scale - 0.5
    if mode == "align_corners":
        return o * (size - 1) / (length - 1) if length != 1 else np.zeros(out)
    if mode == "asymmetric":
        return o / scale
    if mode == "tf_half_pixel_for_nn":
        return (o + 0.5) / scale
    if mode == "tf_crop_and_resize":
        start, end = roi
        inside = o * (end - start) * (size - 1) / (length - 1) if length != 1 else (end - start) * (size - 1) / 2
        return inside + start * (size - 1) + np.zeros(out)
    raise ValueError(f"coordinate_transformation_mode={mode!r} is not known")


ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _hat(d: np.ndarray, a: float) -> np.ndarray:
    return np.clip(1 - np.abs(d), 0, 1)


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel with parameter ``a``."""
    d = np.abs(d)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


KERNELS = {"linear": (_hat, 1), "cubic": (_cubic, 2)}


@functools.lru_cache(maxsize=256)
def taps(
    size: int, out: int, scale: float, roi: tuple[float, float], transformation: str, mode: str, rounding: str, a: float,
    antialias: bool, exclude_outside: bool,
) -> Taps:
    """The map along one axis; pixels outside are those at the border."""
    at = coordinates(transformation, size, out, scale, roi)
    if mode == "nearest":
        return Taps(size, np.clip(ROUNDINGS[rounding](at), 0, size - 1).astype(np.int64)[None], np.ones((1, out)))
    kernel, reach = KERNELS[mode]
    shrink = min(scale, 1.0) if antialias else 1.0
    span = math.ceil(reach / shrink)
    pixels = np.floor(at) + np.arange(1 - span, span + 1)[:, None]
    weight = kernel((pixels - at) * shrink, a)
    if exclude_outside:
        weight = np.where((pixels >= 0) & (pixels < size), weight, 0)
    if exclude_outside or antialias:
        weight = weight / weight.sum(axis=0)
    return Taps(size, np.clip(pixels, 0, size - 1).astype(np.int64), weight)


@register("Resize", since=11, host=("roi", "scales", "sizes"))
def resize(
    x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, *, antialias: int = 0, axes: Any = None,
    coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = -0.75, exclude_outside: int = 0,
    extrapolation_value: float = 0.0, keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Any:
    x = as_tensor(x)
    chosen = [axis_of(x, a) for a in axes] if axes is not None else list(range(x.ndim))
    old = [x.shape[a] for a in chosen]
    factors, new = _target(old, scales, sizes, keep_aspect_ratio_policy)
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    maps = [keep(n) for n in x.shape]
    beyond = np.zeros((1,) * x.ndim, bool)
    for i, axis in enumerate(chosen):
        if old[i] == new[i] and factors[i] == 1 and not crop:
            continue
        ends = (float(roi[i]), float(roi[i + len(chosen)])) if crop else (0.0, 1.0)
        maps[axis] = taps(old[i], new[i], factors[i], ends, coordinate_transformation_mode, mode, nearest_mode,
                          cubic_coeff_a, bool(antialias), bool(exclude_outside))
        if crop:
            at = coordinates(coordinate_transformation_mode, old[i], new[i], factors[i], ends)
            beyond = beyond | ((at < 0) | (at > old[i] - 1)).reshape(-1, *(1,) * (x.ndim - 1 - axis))
    first = next((i for i, m in enumerate(maps) if not m.plain or m.size != m.out), x.ndim)
    y = interpolate(x, maps=tuple(maps[first:])) if first < x.ndim else x
    y = where(array_module(y.data).asarray(beyond), extrapolation_value, y) if beyond.any() else y
    return like(y, x)


@functools.lru_cache(maxsize=256)
def keep(size: int) -> Taps:
    """The map that changes nothing."""
    return Taps(size, np.arange(size)[None], np.ones((1, size)))


def _target(old: list[int], scales: Any, sizes: Any, policy: str) -> tuple[list[float], list[int]]:
    """The factor and the new length of each axis."""
    if scales is not None and scales.size:
        factors = [float(s) for s in scales]
        return factors, [math.floor(n * s) for n, s in zip(old, factors)]
    new = list(ints(sizes) or ())
    if len(new) != len(old):
        raise ValueError(f"sizes {new} are given for {len(old)} axes; give scales or sizes, one for each")
    factors = [m / n for m, n in zip(new, old)]
    if policy != "stretch":
        one = min(factors) if policy == "not_larger" else max(factors)
        return [one] * len(old), [math.floor(n * one + 0.5) for n in old]
    return factors, new


@register("Upsample", host=("scales",))
@register("Resize", since=10, host=("scales",))
def upsample(
    x: Any, scales: Any = None, *, mode: str = "nearest", height_scale: float | None = None, width_scale: float | None = None
) -> Any:
    """Output pixel o lies at o / scale; the first opset had its two scales as attributes."""
    given = [1.0, 1.0, height_scale, width_scale] if scales is None else scales
    return resize(x, None, np.asarray(given, np.float64), mode={"bilinear": "linear"}.get(mode, mode),
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")
