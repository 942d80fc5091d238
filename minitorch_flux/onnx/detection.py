"""Boxes in images: which to keep, and what is in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops.elementwise import as_tensor
from ..ops.indexing import take
from ..ops.joining import stack
from .arguments import number
from .registry import register


@register("NonMaxSuppression", host=("boxes", "scores", "max_output_boxes_per_class", "iou_threshold", "score_threshold"))
def non_max_suppression(
    boxes: Any, scores: Any, max_output_boxes_per_class: Any = None, iou_threshold: Any = None, score_threshold: Any = None, *,
    center_point_box: int = 0,
) -> Any:
    """The boxes, (image, class, box) from the best score on, that overlap none before them by more than the threshold.

    ``boxes`` (N, B, 4): two opposite corners y, x, y, x, or centre x, y and sizes; ``scores`` (N, classes, B).
    """
    most = 0 if max_output_boxes_per_class is None else int(number(max_output_boxes_per_class))
    overlap = 0.0 if iou_threshold is None else float(number(iou_threshold))
    found: list[tuple[int, int, int]] = []
    for image, rows in enumerate(scores):
        low, high = _corners(boxes[image], bool(center_point_box))
        for label, score in enumerate(rows):
            order = np.argsort(-score, kind="stable")
            if score_threshold is not None:
                order = order[score[order] > number(score_threshold)]
            kept: list[int] = []
            for box in order:
                if len(kept) >= most:
                    break
                if not (_overlaps(low, high, box, kept) > overlap).any():
                    kept.append(int(box))
            found += [(image, label, box) for box in kept]
    return np.asarray(found, np.int64).reshape(-1, 3)


def _corners(boxes: np.ndarray, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest corner of each box."""
    if centred:
        return boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    return np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])


def _overlaps(low: np.ndarray, high: np.ndarray, box: int, others: list[int]) -> np.ndarray:
    """Intersection over union of one box with others; 0 where a box is empty."""
    sides = np.minimum(high[box], high[others]) - np.maximum(low[box], low[others])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = np.prod(high - low, axis=-1)
    union = areas[box] + areas[others] - common
    empty = (areas[box] <= 0) | (areas[others] <= 0) | (union <= 0)
    return np.where(empty, 0, common / np.where(union <= 0, 1, union))


@register("RoiAlign", since=16, host=("rois", "batch_indices"))
def roi_align(
    x: Any, rois: Any, batch_indices: Any, *, coordinate_transformation_mode: str = "half_pixel", mode: str = "avg",
    output_height: int = 1, output_width: int = 1, sampling_ratio: int = 0, spatial_scale: float = 1.0,
) -> Any:
    """Regions (x, y, x, y) of images as grids of equal size, read between the pixels: (regions, C, height, width).

    The mean, or the greatest share of a neighbouring pixel, of ``sampling_ratio``^2 places in each cell (0: as many as it
    has pixels). Constant in the regions.
    """
    x = as_tensor(x)
    half = coordinate_transformation_mode == "half_pixel"
    sizes, out = x.shape[2:], (output_height, output_width)
    ys = []
    for (x0, y0, x1, y1), image in zip(np.asarray(rois, np.float64) * spatial_scale - (0.5 if half else 0.0), batch_indices):
        places, weights, inside = [], [], []
        for start, end, n, size in zip((y0, x0), (y1, x1), out, sizes):
            length = end - start if half else max(end - start, 1.0)
            count = sampling_ratio if sampling_ratio > 0 else max(math.ceil(length / n), 1)
            at = start + (np.arange(n)[:, None] + (np.arange(count) + 0.5) / count) * (length / n)  # (n, count)
            inside.append((at >= -1) & (at <= size))
            low = np.minimum(np.maximum(at, 0).astype(np.int64), size - 1)
            part = np.where(low >= size - 1, 0.0, np.maximum(at, 0) - low)
            places.append(np.stack([low, np.minimum(low + 1, size - 1)]))
            weights.append(np.stack([1 - part, part]))
        index, weight = _grid(places, weights, inside, sizes[1])
        pixels = x[int(image)].reshape(x.shape[1], -1)
        shares = take(pixels, _like(index, x), axis=1) * _like(weight.astype(x.dtype), x)  # (C, 4, h, w, samples)
        ys.append(shares.max(axis=(1, 4)) if mode == "max" else shares.sum(axis=1).mean(axis=-1))
    if not ys:
        return Tensor(array_module(x.data).zeros((0, x.shape[1], *out), x.dtype))
    return stack(ys)


@register("RoiAlign", since=10, host=("rois", "batch_indices"))
def roi_align_10(x: Any, rois: Any, batch_indices: Any, **keywords: Any) -> Any:
    """At first there was no half pixel."""
    return roi_align(x, rois, batch_indices, coordinate_transformation_mode="output_half_pixel", **keywords)


def _grid(places: Any, weights: Any, inside: Any, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and weights (4, h, w, samples) of the four neighbours of each place."""
    rows, columns = places[0][:, None, :, None, :, None], places[1][None, :, None, :, None, :]
    by_row, by_column = weights[0][:, None, :, None, :, None], weights[1][None, :, None, :, None, :]
    seen = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    index = rows * width + columns
    shape = (4, *index.shape[2:4], -1)
    return index.reshape(shape), (by_row * by_column * seen).reshape(shape)


def _like(a: np.ndarray, x: Tensor) -> Any:
    return a if x.device == "cpu" else array_module(x.data).asarray(a)
