"""Writing sums, means, extremes, norms and scans along axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .export_ops_layers import reduced
from .exporting import register_export
from .graph_writing import GraphWriter, Value


def _out(g: GraphWriter) -> Any:
    return g.call.outputs[0]


def _reduction(name: str, op_type: str) -> None:
    @register_export(name)
    def rule(g: GraphWriter, x: Value, *, axis: Any, keepdims: bool = False, dtype: Any = None) -> Any:
        x = g.cast(x, _out(g).dtype)
        axes = axis if isinstance(axis, tuple) else (axis,)
        return reduced(g, op_type, x, axes, keepdims) if axes else x


for _name, _op_type in (("sum", "ReduceSum"), ("mean", "ReduceMean"), ("prod", "ReduceProd"), ("max", "ReduceMax"),
                        ("min", "ReduceMin"), ("norm", "ReduceL2")):
    _reduction(_name, _op_type)


@register_export("any", "all")
def any_or_all(g: GraphWriter, x: Value, *, axis: Any, keepdims: bool = False) -> Any:
    op_type = "ReduceMax" if g.call.name == "any" else "ReduceMin"
    x = g.cast(g.cast(x, np.bool_), np.int32)
    return g.cast(reduced(g, op_type, x, axis if isinstance(axis, tuple) else (axis,), keepdims), np.bool_)


@register_export("count_nonzero")
def count_nonzero(g: GraphWriter, x: Value, *, axis: Any, keepdims: bool) -> Any:
    x = g.cast(g.cast(x, np.bool_), np.int64)
    return reduced(g, "ReduceSum", x, axis if isinstance(axis, tuple) else (axis,), keepdims)


@register_export("argmax", "argmin")
def arg_extreme(g: GraphWriter, x: Value, *, axis: Any, keepdims: bool) -> Any:
    op_type = "ArgMax" if g.call.name == "argmax" else "ArgMin"
    if len(axis) == 1:
        return g.node(op_type, x, axis=axis[0], keepdims=int(keepdims), dtype=np.int64)
    others = [a for a in range(x.ndim) if a not in axis]
    y = g.transpose(x, [*others, *axis])
    y = g.node("Reshape", y, g.lengths([*(x.shape[a] for a in others), -1], x))
    y = g.node(op_type, y, axis=len(others), keepdims=0, dtype=np.int64)
    return g.node("Unsqueeze", y, np.asarray(axis, np.int64)) if keepdims else y


@register_export("var", "std")
def var(g: GraphWriter, x: Value, *, axis: Any, ddof: float = 0, keepdims: bool = False) -> Any:
    x = g.cast(x, _out(g).dtype)
    c = x - reduced(g, "ReduceMean", x, axis)
    y = reduced(g, "ReduceMean", c * c, axis, keepdims)
    if ddof:
        n = math.prod(g.fixed([x.shape[a] for a in axis], "ddof beside a free axis"))
        y = y * (n / (n - ddof))
    return g.node("Sqrt", y) if g.call.name == "std" else y


@register_export("logsumexp")
def logsumexp(g: GraphWriter, x: Value, *, axis: int) -> Any:
    return reduced(g, "ReduceLogSumExp", x, [axis], keepdims=len(_out(g).shape) == x.ndim)


@register_export("sum_to")
def sum_to(g: GraphWriter, x: Value, *, shape: Any) -> Any:
    """The sum over the axes that were broadcast."""
    lead = x.ndim - len(shape)
    axes = [*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)]
    y = reduced(g, "ReduceSum", x, axes) if axes else x
    return g.node("Squeeze", y, np.arange(lead)) if lead else y


@register_export("cumsum")
def cumsum(g: GraphWriter, x: Value, *, axis: int, reverse: bool = False) -> Any:
    return g.node("CumSum", x, np.asarray(axis, np.int64), reverse=int(reverse))


@register_export("cumprod")
def cumprod(g: GraphWriter, x: Value, *, axis: int, reverse: bool = False) -> Any:
    """Products of 1, 2, 4, ... neighbours, in log2(n) steps."""
    n = g.fixed(x.shape[axis], "cumprod")
    along, step = np.asarray([axis], np.int64), 1
    shape = list(x.shape)
    while step < n:
        shape[axis] = step
        ones = g.node("Expand", g.constant(np.ones((1,) * x.ndim), x.dtype), g.lengths(shape, x), dtype=x.dtype)
        cut = (step, n) if reverse else (0, n - step)
        part = g.node("Slice", x, np.asarray([cut[0]]), np.asarray([cut[1]]), along)
        x, whole = x * g.node("Concat", *((part, ones) if reverse else (ones, part)), axis=axis), x.shape
        x.shape = whole
        step *= 2
    return x
