"""``splitobs``: training, validation and test parts of the same observations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import is_array, to_device
from ..backend.generator import Generator, resolve_rng
from .observations import columns_of, map_columns


def splitobs(
    data: Any,
    at: float | Sequence[float] = 0.9,
    shuffle: bool = False,
    rng: Generator | np.random.Generator | None = None,
    stratified: Any = None,
) -> tuple[Any, ...]:
    """``(first, second)``: the observations in parts, each with the structure of ``data`` and in new memory.

    ``data``: as for ``DataLoader``; of what is not an array a part is a list of entries.
    ``at=0.9``: the fraction in the first part, or ``(a, b, ...)`` for one more part than fractions. Each boundary is
    rounded to the nearest observation (halves up).
    ``shuffle=False``: in the order of the data; True draws the parts at random, with ``rng`` (None: the default one).
    ``stratified=None``: the labels ``(n,)`` of the observations: each label's observations are split separately,
    so that every part has its share of each, the boundaries rounded for each label.
    """
    n = len(columns_of(data, "splitobs")[0][1])
    fractions = [float(a) for a in at] if isinstance(at, Sequence) else [float(at)]
    if not all(0 <= a <= 1 for a in fractions) or math.fsum(fractions) > 1 + 1e-9:
        raise ValueError(f"splitobs: at={at!r}: expected fractions from 0 to 1 whose sum is at most 1")
    bounds = np.cumsum([0.0, *fractions])
    host = None
    if shuffle:
        host = rng if isinstance(rng, np.random.Generator) else resolve_rng(rng).host()
    parts: list[list[np.ndarray]] = [[] for _ in bounds]
    for group in _groups(stratified, n):
        group = group if host is None else host.permutation(group)
        cuts = [*(math.floor(b * len(group) + 0.5) for b in bounds), len(group)]
        for part, first, last in zip(parts, cuts, cuts[1:], strict=False):
            part.append(group[first:last])
    return tuple(_part(data, _merge(part, host)) for part in parts)


def _groups(labels: Any, n: int) -> list[np.ndarray]:
    """The positions of the observations, together or for each label."""
    if labels is None:
        return [np.arange(n)]
    labels = labels.data if isinstance(labels, Tensor) else labels
    labels = to_device(labels, "cpu") if is_array(labels) else np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"splitobs: stratified= has shape {labels.shape}, expected one label for each of the {n} "
                         f"observations, ({n},)")
    return [np.flatnonzero(labels == label) for label in np.unique(labels)] or [np.arange(0)]


def _merge(part: list[np.ndarray], host: np.random.Generator | None) -> np.ndarray:
    """One part's positions, from all labels: in the data's order, or mixed."""
    positions = np.concatenate(part)
    if len(part) == 1:
        return positions
    return np.sort(positions) if host is None else host.permutation(positions)


def _part(data: Any, index: np.ndarray) -> Any:
    def choose(column: Any) -> Any:
        column = column.data if isinstance(column, Tensor) else column
        return column[index] if is_array(column) else [column[i] for i in index.tolist()]

    return map_columns(choose, data)
