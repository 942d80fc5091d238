"""Maps as figures: grids of small pictures, and heat laid over photographs. matplotlib is imported when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .maps import on_host

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK, GREY = "#1f2933", "#6b7785"
INSTALL = "pip install 'minitorch-flux[viz]'"
FINE = 160
"""Smaller images are drawn with so many pixels."""
SIGNED = ("#b2182b", "#f7f7f7", "#2166ac")


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure as Made
    except ImportError as error:
        raise ImportError(f"figures need matplotlib ({error}): {INSTALL}") from error
    return Made(figsize=(width, height), layout="constrained")  # belongs to nobody: nothing has to be closed


def show_maps(
    maps: Any, titles: Sequence[str] | None = None, *, title: str = "", columns: int | None = None, size: float = 1.1,
    shared: bool = False, signed: bool | None = None,
) -> Figure:  # fmt: skip
    """Many small pictures in a grid: feature maps (K, H, W), filters (K, C, kh, kw), attention (heads, L, S), as a Figure.

    Of filters with three channels each is a colour picture; of others every (out, in) pair is a picture of its own, the outputs
    in columns. ``titles``: a word for each picture, ``title``: for all. ``columns``: of the grid; ``size``: inches of one
    picture. ``shared``: one scale for all instead of one for each. ``signed``: blue for positive and red for negative numbers
    with white for 0, else dark to light; by default where there are both, to comparable extent.

    In a notebook it shows itself; ``figure.savefig("maps.png")`` writes a file. Needs matplotlib.
    Raises ValueError for arrays with other axes, and for more than 600 pictures.
    """
    a = on_host(maps)
    a = a if a.dtype.kind == "f" and a.itemsize >= 4 else np.asarray(a, np.float32)
    if a.ndim == 4 and a.shape[1] == 3:
        a = _colours(a)
    elif a.ndim == 4:
        columns = columns or (a.shape[0] if a.shape[1] > 1 else None)
        a = a.swapaxes(0, 1).reshape(-1, *a.shape[2:])
    if a.ndim == 2:
        a = a[None]
    if not a.size or not (a.ndim == 3 or (a.ndim == 4 and a.shape[-1] == 3)):
        raise ValueError(f"show_maps: takes pictures (K, H, W), filters (K, C, H, W) or one picture (H, W), got shape "
                         f"{np.shape(on_host(maps))}")
    count = len(a)
    _refuse_crowd("show_maps", count, 600)
    columns = columns or _columns(count)
    rows = -(-count // columns)
    tall = a.shape[1] / a.shape[2]
    top = (0.35 if title else 0.0) + (0.24 * rows if titles else 0.0)
    figure = _figure(columns * size + 0.1, rows * size * min(max(tall, 0.25), 4) + top + 0.1)
    axes = figure.subplots(rows, columns, squeeze=False)
    low, high = (float(f(a[np.isfinite(a)], initial=0)) for f in (np.min, np.max))
    both = -low > 0.2 * high > 0 if signed is None else signed
    for i, axis in enumerate(axes.flat):
        axis.axis("off")
        if i < count:
            axis.imshow(a[i], interpolation="nearest", **({} if a.ndim == 4 else _scale(a if shared else a[i], both)))
            if titles is not None:
                axis.set_title(titles[i], fontsize=8, color=GREY, pad=3)
    _head(figure, title)
    return figure


def _columns(count: int) -> int:
    """About twice as many columns as rows; of near numbers one that leaves no gap in the last row."""
    best = math.sqrt(2 * count)
    even = [n for n in range(max(math.ceil(0.6 * best), 1), math.floor(1.5 * best) + 1) if count % n == 0]
    return min(even, key=lambda n: abs(n - best)) if even else min(count, math.ceil(best))


def _refuse_crowd(name: str, count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"{name}: {count} pictures are more than a figure holds; draw the first ones, [:{most}]")


def _scale(a: np.ndarray, signed: bool) -> dict[str, Any]:
    from matplotlib.colors import LinearSegmentedColormap

    finite = a[np.isfinite(a)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if not signed:
        return {"cmap": "magma", "vmin": low, "vmax": high if high > low else low + 1}
    most = max(-low, high) or 1.0
    return {"cmap": LinearSegmentedColormap.from_list("signed", SIGNED), "vmin": -most, "vmax": most}


def _colours(a: np.ndarray) -> np.ndarray:
    """Filters (K, 3, H, W) as pictures (K, H, W, 3) from 0 to 1, each stretched by itself with 0 at the middle grey."""
    most = np.abs(a).max(axis=(1, 2, 3), keepdims=True)
    return (a / np.where(most > 0, 2 * most, 1) + 0.5).transpose(0, 2, 3, 1)


def show_heat(
    images: Any, heat: Any, titles: Sequence[str] | None = None, *, title: str = "", size: float = 2.3, opacity: float = 0.75
) -> Figure:
    """Photographs, and below each the same with ``heat`` over it: dark is cold, bright is hot. Returns a Figure.

    images: (N, H, W, 3) bytes or numbers from 0 to 1, (N, 3, H, W), (N, H, W) or (N, 1, H, W) in grey; numbers of another
    range are stretched. heat: (N, h, w), laid over them smoothly at any resolution, or a dict of several such arrays, a row
    for each with its name: ``{"saliency": s, "Grad-CAM": c}``. In each picture the hottest percent is brightest,
    and the coldest fifth is left grey. ``titles``: a word for each image, ``title``: for all. ``opacity``: of the hottest.

    In a notebook it shows itself; ``figure.savefig("heat.png")`` writes a file. Needs matplotlib.
    Raises ValueError for arrays that do not belong together, and for more than 40 images.
    """
    pictures = _pictures(on_host(images))
    _refuse_crowd("show_heat", len(pictures), 40)
    rows = {name: on_host(h) for name, h in (heat if isinstance(heat, dict) else {"": heat}).items()}
    for h in rows.values():
        if h.ndim != 3 or len(h) != len(pictures):
            raise ValueError(f"show_heat: {len(pictures)} images need heat ({len(pictures)}, h, w), got shape {h.shape}")
    finer = max(-(-FINE // max(pictures.shape[1:3])), 1)  # so that heat is smooth over images of few pixels, too
    pictures = pictures.repeat(finer, 1).repeat(finer, 2)
    high, wide = pictures.shape[1:3]
    figure = _figure(len(pictures) * size + (0.3 if any(rows) else 0.05),
                     (len(rows) + 1) * size * high / wide + (0.35 if title else 0) + (0.28 if titles else 0) + 0.05)
    axes = figure.subplots(len(rows) + 1, len(pictures), squeeze=False)
    for i, picture in enumerate(pictures):
        for axis in axes[:, i]:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        axes[0, i].imshow(picture)
        if titles is not None:
            axes[0, i].set_title(titles[i], fontsize=10, color=DARK, loc="left")
        for axis, h in zip(axes[1:, i], rows.values(), strict=True):
            axis.imshow(_overlay(picture, _smooth(_share(h[i]), high, wide), opacity))
    for axis, name in zip(axes[1:, 0], rows, strict=True):
        axis.set_ylabel(name, color=GREY, fontsize=10)
    _head(figure, title)
    return figure


def _head(figure: Figure, title: str) -> None:
    if title:
        left = 0.06 / figure.get_figwidth()
        figure.suptitle(title, x=left, ha="left", fontsize=11, weight="bold", color=DARK)


def _pictures(images: np.ndarray) -> np.ndarray:
    """Images of any layout as (N, H, W, 3) from 0 to 1."""
    a = images
    if a.ndim == 4 and a.shape[-1] not in (1, 3) and a.shape[1] in (1, 3):
        a = a.transpose(0, 2, 3, 1)
    a = a[..., None] if a.ndim == 3 else a
    if a.ndim != 4 or a.shape[-1] not in (1, 3):
        raise ValueError(f"show_heat: takes images (N, H, W, 3), (N, 3, H, W) or (N, H, W), got shape {images.shape}")
    if a.dtype == np.uint8:
        a = a / np.float32(255)
    low, high = float(a.min(initial=0)), float(a.max(initial=1))
    a = (a - low) / (high - low)
    return np.broadcast_to(a, (*a.shape[:3], 3))


def _share(h: np.ndarray) -> np.ndarray:
    """Heat from 0 to 1; the hottest percent is 1, the coldest fifth 0."""
    h = np.nan_to_num(h.astype(np.float64))
    low = np.quantile(h, 0.2)
    top = max(np.quantile(h, 0.99), low) - low or h.max() - low
    return ((h - low) / top).clip(0, 1) if top > 0 else np.zeros_like(h)


def _smooth(h: np.ndarray, high: int, wide: int) -> np.ndarray:
    """``h`` at another resolution, linearly between the middles of its pixels."""
    for axis, n in ((0, high), (1, wide)):
        m = h.shape[axis]
        at = ((np.arange(n) + 0.5) * m / n - 0.5).clip(0, m - 1)
        first = np.minimum(at.astype(int), max(m - 2, 0))
        share = (at - first)[:, None] if axis == 0 else at - first
        h = h.take(first, axis) * (1 - share) + h.take(np.minimum(first + 1, m - 1), axis) * share
    return h


def _overlay(picture: np.ndarray, heat: np.ndarray, opacity: float) -> np.ndarray:
    """The picture in grey, with the heat over it: nothing where it is cold."""
    from matplotlib import colormaps

    grey = 0.3 + 0.6 * picture.mean(axis=2, keepdims=True)
    alpha = opacity * heat[..., None]
    return (1 - alpha) * grey + alpha * colormaps["inferno"](0.4 + 0.6 * heat)[..., :3]
