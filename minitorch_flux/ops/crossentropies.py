"""Cross-entropy of logits, fused with softmax (kernel: kernels/crossentropies.cu).

x holds the logits of C classes along one axis; an observation is one position along all the others. With the targets t
(or 1 at the class index and 0 elsewhere), class weights w and label smoothing a,

    q    = w ((1 - a) t + a / C)                    the share of each class
    l    = -sum(q logsoftmax(x))                    the loss of one observation; 0 log 0 = 0
    dl   = softmax(x) sum(q) - q                    its gradient with respect to x

    "none"  l of every observation, without the class axis
    "sum"   sum l
    "mean"  sum l / N for N observations; with class weights sum l / sum(w t): the weighted mean

The gradient is a by-product of the loss: it is formed in the same pass, scaled, and is all that the tape keeps. Both are
float32 for logits of 16 bits: the gradient is rounded when it is multiplied by the one that comes in, a loss scale perhaps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty, is_float, is_outline, is_unseen
from ..readings import KernelFile
from .casts import astype_forward
from .elementwise import either
from .softmaxes import shifted, softmax, tiles


def check_labels(labels: Any, classes: int, name: str = "logitcrossentropy") -> None:
    """Raise IndexError, naming the first one, when a class index is not between 0 and ``classes - 1``."""
    if is_outline(labels) or is_unseen(labels):
        return
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        at = tuple(int(i[0]) for i in wrong.nonzero())
        raise IndexError(f"{name}: the class index {int(labels[at])} at position {at if len(at) != 1 else at[0]} is "
                         f"not one of the {classes} classes, 0 to {classes - 1}")


def along_classes(weight: Any, axis: int, ndim: int) -> Any:
    """Class weights (C,) shaped so that they broadcast along ``axis``."""
    return weight.reshape(-1, *(1,) * (ndim - 1 - axis))


def class_targets(target: Any, shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    """t: ``target`` itself in ``dtype``, or 1 at each class index and 0 elsewhere."""
    if target.ndim == len(shape):
        return target.astype(dtype, copy=False)
    xp = array_module(target)
    classes = along_classes(xp.arange(shape[axis]), axis, len(shape))
    return (xp.expand_dims(target, axis) == classes).astype(dtype)


def _shares(target: Any, weight: Any, shape: Any, axis: int, label_smoothing: float, dtype: Any) -> Any:
    q = class_targets(target, shape, axis, dtype)
    if label_smoothing:
        q = q * (1 - label_smoothing) + label_smoothing / shape[axis]
    return q if weight is None else q * along_classes(weight.astype(dtype, copy=False), axis, len(shape))


def _scale(target: Any, weight: Any, shape: Any, axis: int, agg: str) -> float:
    """What each observation's loss is multiplied by: 1, or one over the number or the weight of all."""
    if agg != "mean" or is_outline(target):
        return 1.0
    if weight is None:
        total = math.prod(shape) / shape[axis]
    elif target.ndim == len(shape):
        total = (target * along_classes(weight, axis, len(shape))).sum().item()
    else:
        total = weight[target].sum().item()
    return 1 / total if total else math.nan


@array_function
def logitcrossentropy_forward(
    x: Any, target: Any, weight: Any, axis: int, label_smoothing: float = 0.0, agg: str = "mean"
) -> tuple[Any, Any]:
    """``(loss, slope)``: the loss, and its gradient with respect to ``x`` (of every observation for ``"none"``), both float32
    for ``x`` of 16 bits.

    ``target``: class indices (``x.shape`` without ``axis``), or probabilities of the shape of ``x``; ``weight``: (C,)
    or None. Raises IndexError, naming the index, when one is not a class.
    """
    xp, dtype = array_module(x), accumulator(x.dtype)
    if target.ndim < x.ndim:
        check_labels(target, x.shape[axis])
    scale = _scale(target, weight, x.shape, axis, agg)
    q = _shares(target, weight, x.shape, axis, label_smoothing, dtype)
    _, z, s = shifted(x, axis)
    total = q.sum(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        fit = xp.where(q == 0, 0, q * z).sum(axis=axis)
    losses = (total * xp.log(s)).squeeze(axis) - fit
    slope = scale * (xp.exp(z) / s * total - q)
    loss = losses if agg == "none" else losses.sum() * scale
    return loss.astype(dtype, copy=False), slope.astype(dtype, copy=False)


def logitcrossentropy_backward(dy: Any, slope: Any, x_dtype: Any, axis: int, agg: str) -> Any:
    """dy slope, with ``dy`` a number, or one per observation for ``"none"``."""
    dx = either.multiply(slope, array_module(dy).expand_dims(dy, axis) if agg == "none" else dy)
    return astype_forward(dx, x_dtype), None, None


def _rule(
    dy: Tensor, x: Tensor, target: Any, weight: Any, axis: int, label_smoothing: float, agg: str
) -> tuple[Tensor, None, None]:
    target, weight = target.data, None if weight is None else weight.data
    short, x = x.dtype, x.astype(accumulator(x.dtype))
    q = _shares(target, weight, x.shape, axis, label_smoothing, x.dtype) * _scale(target, weight, x.shape, axis, agg)
    if agg == "none":
        dy = dy.reshape(*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return ((softmax(x, axis) * q.sum(axis=axis, keepdims=True) - q) * dy).astype(short), None, None


fused_logitcrossentropy = operation(
    "logitcrossentropy",
    logitcrossentropy_forward,
    backward=logitcrossentropy_backward,
    rule=_rule,
    residuals=("slope",),
)
"""The loss of logits against constant targets and weights; ``losses.logitcrossentropy`` is the public function."""


# -- kernel ------------------------------------------------------------------------------------------------------------

crossentropies = KernelFile("crossentropies.cu")


@logitcrossentropy_forward.kernel(accepts="float logits with at least one element, any axis; copied where not contiguous")
def _(
    x: Any, target: Any, weight: Any, axis: int, label_smoothing: float = 0.0, agg: str = "mean"
) -> tuple[Any, Any]:
    dtype, shape = x.dtype, x.shape
    if not is_float(dtype) or x.size == 0:
        return NotImplemented
    x, xp, width = contiguous(x), array_module(x), shape[axis]
    acc = accumulator(dtype)
    labels = targets = None
    if target.ndim < x.ndim:
        labels = xp.ascontiguousarray(target, np.int64)
        if weight is not None:
            check_labels(labels, width)
    else:
        targets = xp.ascontiguousarray(target, acc)
    scale = _scale(target, weight, shape, axis, agg)
    if weight is not None:
        weight = xp.ascontiguousarray(weight, acc)
    slope = empty(shape, acc, like=x)
    losses = empty(shape[:axis] + shape[axis + 1 :], acc, like=x)
    rows, inner = losses.size, math.prod(shape[axis + 1 :])
    inputs = (x, labels, targets, weight, slope, losses)
    if inner == 1:
        ran = crossentropies("logitcrossentropy_forward", x, rows, width, *inputs, label_smoothing, scale, rows, width)
    else:
        number, tile = tiles(inner)
        rows = rows // inner * number
        work = empty((rows, 3, tile), acc, like=x)
        ran = crossentropies(
            "logitcrossentropy_forward_planes", x, rows, tile,
            *inputs, work, label_smoothing, scale, rows, width, inner, tile,
        )  # fmt: skip
    if not ran:
        return NotImplemented
    total = losses.sum()
    # A label that is no class gives NaN; on a GPU this look waits for it.
    if labels is not None and not is_outline(total) and not is_unseen(total) and total != total:
        check_labels(labels, width)
    return losses if agg == "none" else total, slope
