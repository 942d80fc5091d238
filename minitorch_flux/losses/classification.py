"""Losses of classifiers.

    logitcrossentropy        -sum(q logsoftmax(y_hat))                          over the classes
    crossentropy             -sum(q log(y_hat + eps))
    kldivergence             sum(y log y) - sum(y log(y_hat + eps))
    focal_loss               -sum(y (1 - y_hat)^gamma log(y_hat + eps))
    logitbinarycrossentropy  (1 - y) y_hat - log(sigmoid(y_hat))                of each element
    binarycrossentropy       -y log(y_hat + eps) - (1 - y) log(1 - y_hat + eps)
    binary_focal_loss        -(1 - p)^gamma log(p),  p = y y_hat + (1 - y)(1 - y_hat)

The first four have C classes along ``axis``: ``y_hat`` (..., C, ...) against ``y``, class indices (integers of the
shape without that axis) or probabilities of the shape of ``y_hat`` (one-hot rows, say). Each observation has one loss:
"mean" is over observations, "none" has the shape without ``axis``. ``weight`` (C,) multiplies the terms of each class,
and the mean is then sum(l) / sum(w y): for class indices PyTorch's weighted mean, and the same for one-hot rows. In the
others ``y`` and ``weight`` have the shape of ``y_hat``.

``label_smoothing=a`` replaces y by (1 - a) y + a / C (the binary ones: + a / 2). ``eps`` defaults to the dtype's.
Probabilities and weights given as recorded tensors are differentiated too; 0 log 0 = 0.

Source: Flux.jl, ``src/losses/functions.jl``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import array_module, as_array
from ..ops.arithmetic import fit
from ..ops.comparisons import where
from ..ops.crossentropies import fused_logitcrossentropy
from ..ops.elementary import log, power
from ..ops.elementwise import either
from ..ops.softmaxes import logsoftmax
from ..ops.special import xlogy
from .arguments import (
    Agg,
    aggregate,
    aggregate_elements,
    check_agg,
    check_classes,
    class_axis,
    class_weights,
    floats,
    machine_eps,
    over_classes,
    predictions,
    probabilities,
    targets,
    widened,
)


def _check_smoothing(name: str, alpha: Any) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"{name}: label_smoothing must be between 0 and 1, got {alpha}")


def label_smoothing(y: Any, alpha: float, axis: int | None = -1) -> Tensor:
    """(1 - alpha) y + alpha / C for probabilities ``y`` of C classes along ``axis``; axis=None: C = 2, binary labels.

    Raises ValueError unless 0 < alpha < 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"label_smoothing: alpha must be between 0 and 1, got {alpha}")
    y = floats("label_smoothing", y)
    return _smooth(y, alpha, 2 if axis is None else y.shape[class_axis("label_smoothing", axis, y)])


def _smooth(y: Tensor, alpha: float, classes: int) -> Tensor:
    return y * (1 - alpha) + alpha / classes if alpha else y


# -- several classes ---------------------------------------------------------------------------------------------------


def logitcrossentropy(
    y_hat: Any, y: Any, *, axis: int = -1, agg: Agg = "mean", weight: Any = None, label_smoothing: float = 0.0
) -> Any:
    """Cross-entropy of the logits ``y_hat``: agg(-sum(q logsoftmax(y_hat))), in one fused operation.

    Logits may be infinite. Raises ValueError for shapes that do not fit, TypeError for class indices that are not
    integers, IndexError for one that is not a class (on a GPU too, which then waits for it).
    """
    name = "logitcrossentropy"
    y_hat, target = floats(name, y_hat), y.data if isinstance(y, Tensor) else as_array(y)
    axis = class_axis(name, axis, y_hat)
    check_classes(name, target, y_hat, axis)
    if label_smoothing:
        _check_smoothing(name, label_smoothing)
    w = class_weights(name, weight, y_hat, axis)
    if (isinstance(y, Tensor) and y.recorded) or (w is not None and w.recorded):
        y_hat = widened(y_hat)
        t = probabilities(name, y, y_hat, axis)
        logs = logsoftmax(y_hat, axis)
        impossible = (t.data == 0) & (logs.data == -np.inf) if not label_smoothing else None
        logs = logs if impossible is None else where(impossible, 0, logs)
        losses, weights = over_classes(t, -_smooth(t, label_smoothing, t.shape[axis]) * logs, w, axis)
        return aggregate(name, losses, agg, weights)
    check_agg(name, agg)
    each = callable(agg)
    loss = fused_logitcrossentropy(
        y_hat, target, None if w is None else w.data,
        axis=axis, label_smoothing=label_smoothing, agg="none" if each else agg,
    )  # fmt: skip
    return agg(loss) if each else loss  # type: ignore[operator]


def crossentropy(
    y_hat: Any,
    y: Any,
    *,
    axis: int = -1,
    agg: Agg = "mean",
    weight: Any = None,
    label_smoothing: float = 0.0,
    eps: float | None = None,
) -> Any:
    """Cross-entropy of the probabilities ``y_hat``: agg(-sum(q log(y_hat + eps))).

    ``logitcrossentropy`` of the numbers before the softmax is more accurate and quicker. Errors: as there.
    """
    name = "crossentropy"
    y_hat = predictions(name, y_hat)
    axis = class_axis(name, axis, y_hat)
    t = probabilities(name, y, y_hat, axis)
    _check_smoothing(name, label_smoothing)
    terms = -xlogy(_smooth(t, label_smoothing, t.shape[axis]), y_hat + machine_eps(y_hat, eps))
    losses, weights = over_classes(t, terms, class_weights(name, weight, y_hat, axis), axis)
    return aggregate(name, losses, agg, weights)


def kldivergence(
    y_hat: Any, y: Any, *, axis: int = -1, agg: Agg = "mean", weight: Any = None, eps: float | None = None
) -> Any:
    """Divergence of Kullback and Leibler: agg(sum(y log y) - sum(y log(y_hat + eps))), 0 for equal distributions."""
    name = "kldivergence"
    y_hat = predictions(name, y_hat)
    axis = class_axis(name, axis, y_hat)
    t = probabilities(name, y, y_hat, axis)
    terms = xlogy(t, t) - xlogy(t, y_hat + machine_eps(y_hat, eps))
    losses, weights = over_classes(t, terms, class_weights(name, weight, y_hat, axis), axis)
    return aggregate(name, losses, agg, weights)


def focal_loss(
    y_hat: Any,
    y: Any,
    *,
    gamma: float = 2.0,
    axis: int = -1,
    agg: Agg = "mean",
    weight: Any = None,
    eps: float | None = None,
) -> Any:
    """agg(-sum(y (1 - y_hat)^gamma log(y_hat + eps))): cross-entropy in which easy observations count less.

    Raises ValueError for a negative ``gamma``. Lin et al., "Focal loss for dense object detection", 2017.
    """
    name = "focal_loss"
    _check_gamma(name, gamma)
    y_hat = predictions(name, y_hat)
    axis = class_axis(name, axis, y_hat)
    t = probabilities(name, y, y_hat, axis)
    p = y_hat + machine_eps(y_hat, eps)
    terms = -xlogy(t, p) * power(1 - p, gamma)
    losses, weights = over_classes(t, terms, class_weights(name, weight, y_hat, axis), axis)
    return aggregate(name, losses, agg, weights)


def _check_gamma(name: str, gamma: float) -> None:
    if not gamma >= 0:
        raise ValueError(f"{name}: gamma must be at least 0, got {gamma}")


# -- two classes -------------------------------------------------------------------------------------------------------


def logit_binary_forward(x: Any, y: Any) -> Any:
    """(1 - y) x - log(sigmoid(x)), elementwise: finite for a sure and right infinite logit."""
    xp = array_module(x)
    c = xp.where(x >= 0, 1 - y, -y)
    with np.errstate(invalid="ignore"):
        linear = xp.where(c == 0, 0, c * x)
    return (linear + xp.log1p(xp.exp(-xp.abs(x)))).astype(x.dtype, copy=False)


def _logit_binary_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    dx = fit(dy * (either.sigmoid(x) - y), x_shape) if needs[0] else None
    return dx, fit(dy * -x, y_shape) if needs[1] else None


_logit_binary = operation("logitbinarycrossentropy", logit_binary_forward, gradient=_logit_binary_gradient)


def _binary(name: str, y_hat: Any, y: Any, smoothing: float) -> tuple[Tensor, Tensor]:
    _check_smoothing(name, smoothing)
    y_hat = predictions(name, y_hat)
    return y_hat, _smooth(targets(name, y, y_hat), smoothing, 2)


def logitbinarycrossentropy(
    y_hat: Any, y: Any, *, agg: Agg = "mean", weight: Any = None, label_smoothing: float = 0.0
) -> Any:
    """Binary cross-entropy of the logits ``y_hat``: agg((1 - y) y_hat - log(sigmoid(y_hat))), over all elements.

    ``y``: 0, 1 or probabilities, of the shape of ``y_hat`` (else ValueError). Logits may be infinite.
    """
    y_hat, y = _binary("logitbinarycrossentropy", y_hat, y, label_smoothing)
    return aggregate_elements("logitbinarycrossentropy", _logit_binary(y_hat, y), agg, weight)


def binarycrossentropy(
    y_hat: Any,
    y: Any,
    *,
    agg: Agg = "mean",
    weight: Any = None,
    label_smoothing: float = 0.0,
    eps: float | None = None,
) -> Any:
    """Binary cross-entropy of the probabilities ``y_hat``: agg(-y log(y_hat + eps) - (1 - y) log(1 - y_hat + eps)).

    ``y``: 0, 1 or probabilities, of the shape of ``y_hat`` (else ValueError). ``logitbinarycrossentropy`` of the
    numbers before the sigmoid is more accurate.
    """
    y_hat, y = _binary("binarycrossentropy", y_hat, y, label_smoothing)
    eps = machine_eps(y_hat, eps)
    return aggregate_elements("binarycrossentropy", -xlogy(y, y_hat + eps) - xlogy(1 - y, 1 - y_hat + eps), agg, weight)


def binary_focal_loss(
    y_hat: Any, y: Any, *, gamma: float = 2.0, agg: Agg = "mean", weight: Any = None, eps: float | None = None
) -> Any:
    """agg(-(1 - p)^gamma log(p)), p = y y_hat + (1 - y)(1 - y_hat) with eps added to ``y_hat``: see ``focal_loss``.

    ``y``: 0 or 1, of the shape of ``y_hat`` (else ValueError). Raises ValueError for a negative ``gamma``.
    """
    name = "binary_focal_loss"
    _check_gamma(name, gamma)
    y_hat, y = _binary(name, y_hat, y, 0.0)
    p = y_hat + machine_eps(y_hat, eps)
    p = y * p + (1 - y) * (1 - p)
    return aggregate_elements(name, -log(p) * power(1 - p, gamma), agg, weight)
