"""What all losses share: their two arguments as tensors of equal shape, and how the losses of all are put together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import accumulator, is_float, refuse_complex
from ..ops.axes import normalise_axis
from ..ops.crossentropies import along_classes, check_labels, class_targets
from ..ops.elementwise import as_tensor

Agg = str | Callable[[Tensor], Any]
AGGREGATES = ("mean", "sum", "none")


def _real(name: str, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    refuse_complex(getattr(x, "dtype", np.float32), name)  # in the name of the loss, not of the tensor
    return as_tensor(x)


def floats(name: str, x: Any) -> Tensor:
    """``x`` as a floating-point tensor; integers become float64."""
    t = _real(name, x)
    if t.data.dtype.kind != "f" and not is_float(t.dtype):
        t = t.astype(np.float64)
    return t


def predictions(name: str, y_hat: Any) -> Tensor:
    """``y_hat`` as a tensor of the dtype that a loss is computed in: 16-bit floats become float32, integers float64."""
    return widened(floats(name, y_hat))


def widened(t: Tensor) -> Tensor:
    """``t`` in the dtype that sums of its numbers have."""
    dtype = accumulator(t.data.dtype)
    return t if t.data.dtype == dtype else t.astype(dtype)


def targets(name: str, y: Any, y_hat: Tensor) -> Tensor:
    """``y`` as a tensor of the dtype of ``y_hat``; ValueError where its shape is another."""
    t = _real(name, y)
    if t.shape != y_hat.shape:
        raise ValueError(f"{name}: y_hat has shape {y_hat.shape} and y has shape {t.shape}; they must be equal, "
                         f"nothing broadcasts{_hint(y_hat.shape, t.shape)}")
    return t if t.dtype == y_hat.dtype else t.astype(y_hat.dtype)


def _hint(y_hat: tuple[int, ...], y: tuple[int, ...]) -> str:
    if math.prod(y_hat) == math.prod(y):
        return f": give {'y' if len(y) < len(y_hat) else 'y_hat'}.reshape{max(y_hat, y, key=len)}"
    return ""


def class_axis(name: str, axis: Any, y_hat: Tensor) -> int:
    """``axis`` counted from the front; there must be a class along it."""
    shape = y_hat.data.shape
    axis = normalise_axis(name, axis, len(shape), shape)
    if shape[axis] == 0:
        raise ValueError(f"{name}: y_hat of shape {shape} has no classes along axis {axis}")
    return axis


def check_classes(name: str, y: Any, y_hat: Tensor, axis: int) -> None:
    """Raise where ``y`` is neither class indices nor probabilities for ``y_hat`` with its classes along ``axis``."""
    shape = y_hat.data.shape
    without = shape[:axis] + shape[axis + 1 :]
    if y.shape == without and y.dtype.kind not in "iu":
        raise TypeError(f"{name}: y has the shape {y.shape} of class indices, which must be integers, but its dtype is "
                        f"{y.dtype}; give y.astype(int), or probabilities of shape {shape}")
    if y.shape not in (shape, without):
        raise ValueError(f"{name}: y_hat of shape {shape} has {shape[axis]} classes along axis {axis}, so y must be "
                         f"class indices of shape {without} or probabilities of shape {shape}, got shape {y.shape}")


def probabilities(name: str, y: Any, y_hat: Tensor, axis: int) -> Tensor:
    """The target of every class: ``y`` itself, or 1 at each class index and 0 elsewhere."""
    t = as_tensor(y)
    check_classes(name, t, y_hat, axis)
    if t.ndim < y_hat.ndim:
        check_labels(t.data, y_hat.shape[axis], name)
        return Tensor(class_targets(t.data, y_hat.shape, axis, y_hat.dtype))
    return t if t.dtype == y_hat.dtype else t.astype(y_hat.dtype)


def class_weights(name: str, weight: Any, y_hat: Tensor, axis: int) -> Tensor | None:
    """``weight`` (C,) as a tensor, or None; ValueError for another shape."""
    if weight is None:
        return None
    w, classes = as_tensor(weight), y_hat.shape[axis]
    if w.shape != (classes,):
        raise ValueError(f"{name}: weight must have one number for each of the {classes} classes along axis {axis}, "
                         f"shape ({classes},), got shape {w.shape}")
    dtype = accumulator(y_hat.dtype)
    return w if w.dtype == dtype else w.astype(dtype)


def check_agg(name: str, agg: Any) -> None:
    """Raise ValueError where ``agg`` is no way to put losses together."""
    if agg not in AGGREGATES and not callable(agg):
        raise ValueError(f"{name}: agg must be 'mean', 'sum', 'none' or a function, got {agg!r}")


def aggregate(name: str, losses: Tensor, agg: Agg, weight: Tensor | None = None) -> Any:
    """Put weighted losses together: sum(losses) / sum(weight), their sum, themselves, or ``agg(losses)``.

    The mean of none is NaN.

    ``losses`` are multiplied by their weights already; ``weight`` are these weights (None: all are 1).
    """
    check_agg(name, agg)
    if callable(agg):
        return agg(losses)
    if agg == "none":
        return losses
    if agg == "sum":
        return losses.sum()
    if weight is not None:
        return losses.sum() / weight.sum()
    return losses.mean() if losses.size else losses.sum() * math.nan


def aggregate_elements(name: str, losses: Tensor, agg: Agg, weight: Any) -> Any:
    """``aggregate`` of the losses of elements with ``weight``, of their shape (else ValueError) or None."""
    if weight is None:
        return aggregate(name, losses, agg)
    w = as_tensor(weight)
    if w.shape != losses.shape:
        raise ValueError(f"{name}: weight must have the shape {losses.shape} of y_hat, one number for each element, "
                         f"got shape {w.shape}")
    w = w if w.dtype == losses.dtype else w.astype(losses.dtype)
    return aggregate(name, losses * w, agg, w)


def over_classes(q: Tensor, terms: Tensor, weight: Tensor | None, axis: int) -> tuple[Tensor, Tensor | None]:
    """``(losses, weights)`` of observations: sums of ``terms`` over the classes, and of w t over them."""
    if weight is None:
        return terms.sum(axis=axis), None
    w = along_classes(weight, axis, q.ndim)
    return (w * terms).sum(axis=axis), (w * q).sum(axis=axis)


def machine_eps(y_hat: Tensor, eps: Any) -> float:
    """``eps``, or by default the distance from 1 to the next number of the dtype, that of ``predictions``."""
    return float(np.finfo(y_hat.dtype).eps) if eps is None else eps
