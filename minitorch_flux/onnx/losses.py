"""The losses that ONNX has as operators."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..backend import array_module
from ..losses import logitcrossentropy
from ..ops import reductions as r
from ..ops.comparisons import where
from ..ops.elementwise import as_tensor
from ..ops.indexing import take, take_along_axis
from ..ops.softmaxes import logsoftmax
from .registry import register


def _shares(target: Tensor, weight: Any, ignore_index: int | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Class indices without the ignored one, and what each counts: 0 for that one, else the weight of its class."""
    share = Tensor(array_module(like.data).ones(target.shape, like.dtype))
    if ignore_index is None:
        return target, share if weight is None else take(weight, target)
    kept = target != ignore_index
    labels = where(kept, target, 0)
    return labels, where(kept, share if weight is None else take(weight, labels), 0.0)


def _aggregated(losses: Tensor, share: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    total = r.sum(losses)
    return total if reduction == "sum" else total / r.sum(share)


@register("NegativeLogLikelihoodLoss", fixed=("weight",))
def negative_log_likelihood_loss(
    x: Any, target: Any, weight: Any = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Any:
    """Minus the logarithms of probabilities (N, C, ...) at the classes ``target`` (N, ...)."""
    x, target = as_tensor(x), as_tensor(target)
    labels, share = _shares(target, weight, ignore_index, x)
    picked = take_along_axis(x, labels.reshape(labels.shape[0], 1, *labels.shape[1:]), 1).reshape(labels.shape)
    return _aggregated(-picked * share, share, reduction)


@register("SoftmaxCrossEntropyLoss", fixed=("weights",))
def softmax_cross_entropy_loss(
    scores: Any, labels: Any, weights: Any = None, *, ignore_index: int | None = None, reduction: str = "mean", node: Any
) -> Any:
    """Cross-entropy of the logits (N, C, ...), and the logarithms of the probabilities."""
    x, target = as_tensor(scores), as_tensor(labels)
    if ignore_index is None:
        loss = logitcrossentropy(x, target, axis=1, agg=reduction, weight=weights)
    else:
        target, share = _shares(target, weights, ignore_index, x)
        loss = _aggregated(logitcrossentropy(x, target, axis=1, agg="none") * share, share, reduction)
    return (loss, logsoftmax(x, 1)) if len(node.outputs) > 1 else loss
