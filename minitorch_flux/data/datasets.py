"""What every dataset function returns: two splits of images and labels, and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .augmentations import normalise

DTYPES = ("float32", "uint8")


class Split(NamedTuple):
    """``images (N, C, H, W)`` and ``labels (N,)`` int64. A tuple: ``x, y = split`` and ``DataLoader(split)`` work."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images: ``train`` and ``test`` splits, class names and normalisation constants.

    ``images`` are float32 in [0, 1] (stored value / ``scale``), or the stored uint8 where ``dtype="uint8"`` was asked.
    ``classes[label]`` is a label's name. ``mean`` and ``std`` have one entry per channel, in units of [0, 1], and are
    those of the training images (of the full training set for a subset); ``normalise`` applies them.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = field(default=255.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, ``(C, H, W)``."""
        return self.train.images.shape[1:]

    def normalise(self, x: Any) -> Any:
        """``(x - mean) / std`` per channel, float32, for images of either dtype: see ``data.normalise``."""
        return normalise(x, self.mean, self.std, scale=self.scale)

    def __repr__(self) -> str:
        return (
            f"ImageDataset({self.name!r}: {len(self.train.labels)} training and {len(self.test.labels)} test images "
            f"{self.shape} {self.train.images.dtype}, {len(self.classes)} classes)"
        )


def make_split(images: np.ndarray, labels: np.ndarray, dtype: Any, scale: float = 255.0) -> Split:
    """A Split from stored bytes: ``images`` uint8 ``(N, H, W)`` or ``(N, C, H, W)``, any integer ``labels (N,)``."""
    if images.ndim == 3:
        images = images[:, None]
    labels = labels.astype(np.int64)
    if dtype_name(dtype) == "uint8":
        return Split(np.ascontiguousarray(images), labels)
    return Split(np.divide(images, np.float32(scale), dtype=np.float32), labels)


def dtype_name(dtype: Any) -> str:
    """``"float32"`` or ``"uint8"``, the two dtypes in which images are given; ValueError for another."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: images come as 'float32' in [0, 1] or as the stored 'uint8'")
    return name
