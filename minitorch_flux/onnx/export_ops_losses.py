"""Writing fused losses, for models that end in one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .export_ops_arithmetic import alike, result_dtype
from .export_ops_layers import reduced
from .exporting import register_export
from .graph_writing import GraphWriter, Value


@register_export("logitcrossentropy")
def logitcrossentropy(
    g: GraphWriter, x: Value, target: Value, weight: Any, *, axis: int, label_smoothing: float = 0.0, agg: str = "mean"
) -> Any:
    """-sum(q logsoftmax(x)) along the classes, q from class numbers or probabilities."""
    classes = g.fixed(x.shape[axis], "the number of classes")
    if target.ndim == x.ndim:
        t = g.cast(target, x.dtype)
    else:
        t = g.node("OneHot", target, np.asarray(classes, np.int64), np.asarray([0, 1], x.dtype), axis=axis, dtype=x.dtype)
    q = t * (1 - label_smoothing) + label_smoothing / classes if label_smoothing else t
    each = None if weight is None else g.reshape(g.cast(weight, x.dtype), (-1, *(1,) * (x.ndim - axis - 1)))
    q = q if each is None else q * each
    losses = -reduced(g, "ReduceSum", q * g.node("LogSoftmax", x, axis=axis), [axis], keepdims=False)
    if agg == "none":
        return losses
    if agg == "sum" or each is not None:
        total = g.node("ReduceSum", losses, keepdims=0)
        return total if agg == "sum" else total / g.node("ReduceSum", t * each, keepdims=0)
    return g.node("ReduceMean", losses, keepdims=0)


@register_export("logitbinarycrossentropy")
def logitbinarycrossentropy(g: GraphWriter, x: Any, y: Any) -> Any:
    """(1 - y) x - log(sigmoid(x))"""
    x, y = alike(g, x, y, dtype=result_dtype(g))
    return g.node("Softplus", -x) + (1 - y) * x


@register_export("mse")
def mse(g: GraphWriter, x: Any, y: Any, *, agg: str = "mean") -> Any:
    x, y = alike(g, x, y, dtype=result_dtype(g))
    e = x - y
    return e * e if agg == "none" else g.node("ReduceMean" if agg == "mean" else "ReduceSum", e * e, keepdims=0)
