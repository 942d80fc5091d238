"""accuracy and confusion_matrix: how often a classifier is right, and what it takes for what."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module, as_array, to_device
from ..backend.arrays import same_device


def accuracy(y_hat: Any, y: Any, axis: int = -1) -> float:
    """The fraction of observations whose largest score is that of their class.

    ``y_hat``: scores with the classes along ``axis`` (logits or probabilities, (N, C) for instance). ``y``: class
    indices, of the shape without that axis, or one-hot rows of the shape of ``y_hat``. A score of NaN is never right.
    NaN where there are no observations. Raises ValueError for shapes that do not fit.
    """
    y_hat, y = (t.data if isinstance(t, Tensor) else as_array(t) for t in (y_hat, y))
    same_device("accuracy", (y_hat, y))
    if not -y_hat.ndim <= axis < y_hat.ndim:
        raise ValueError(f"accuracy: y_hat of shape {y_hat.shape} has no axis {axis} with the classes' scores")
    rest = y_hat.shape[: axis % y_hat.ndim] + y_hat.shape[axis % y_hat.ndim + 1 :]
    if y.shape == y_hat.shape:
        y = y.argmax(axis)
    elif y.shape != rest:
        raise ValueError(f"accuracy: y_hat has shape {y_hat.shape} with the classes along axis {axis}, so y must be "
                         f"class indices {rest} or one-hot {y_hat.shape}, got {y.shape}")
    if not y.size:
        return float("nan")
    right = (y_hat.argmax(axis) == y) & ~array_module(y_hat).isnan(y_hat).any(axis)
    return float(right.mean())


def confusion_matrix(y_hat: Any, y: Any, nclasses: int | None = None) -> np.ndarray:
    """Counts (C, C), int64: in row i and column j the observations of class i that were taken for class j.

    ``y_hat``: scores (N, C), or the predicted class indices (N,). ``y``: class indices (N,). ``nclasses``: default the
    number of scores, or one more than the largest index. Raises ValueError for shapes that do not fit and IndexError
    for an index that is no class.
    """
    y_hat, y = (to_device(t.data if isinstance(t, Tensor) else as_array(t), "cpu") for t in (y_hat, y))
    if y.ndim != 1 or y_hat.ndim not in (1, 2) or len(y_hat) != len(y):
        raise ValueError("confusion_matrix: expected scores (N, C) or predicted classes (N,), and classes (N,); got "
                         f"shapes {y_hat.shape} and {y.shape}")
    found = y_hat.argmax(1) if y_hat.ndim == 2 else y_hat
    for name, a in (("y_hat", found), ("y", y)):
        if a.dtype.kind not in "iu":
            raise TypeError(f"confusion_matrix: {name} must be class indices, got dtype {a.dtype}")
    if nclasses is None:
        nclasses = y_hat.shape[1] if y_hat.ndim == 2 else 1 + int(max(found.max(initial=-1), y.max(initial=-1)))
    for name, a in (("y_hat", found), ("y", y)):
        if a.size and not 0 <= a.min() <= a.max() < nclasses:
            wrong = a.min() if a.min() < 0 else a.max()
            raise IndexError(f"confusion_matrix: {name} has the class {wrong}, expected 0 to {nclasses - 1}")
    counts = np.bincount(y.astype(np.int64) * nclasses + found.astype(np.int64), minlength=nclasses * nclasses)
    return counts.reshape(nclasses, nclasses)
