"""Writing dense layers, norms, attention and tables."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .export_ops_activations import activated
from .exporting import register_export
from .graph_writing import GraphWriter, Value


@register_export("dense")
def dense(g: GraphWriter, x: Value, w: Value, b: Any, *, activation: Any = None) -> Any:
    """Gemm for matrices, else MatMul and Add."""
    dtype = np.result_type(*(v.dtype for v in (x, w, b) if v is not None))
    x, w, b = g.cast(x, dtype), g.cast(w, dtype), None if b is None else g.cast(b, dtype)
    if x.ndim == 2:
        return activated(g, g.node("Gemm", x, w, b, transB=1), activation)
    y = g.node("MatMul", x, g.transpose(w, (1, 0)))
    return activated(g, y if b is None else y + b, activation)


def in_one_dtype(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A norm's rule for 16-bit inputs beside float32 weights or statistics: computed in float32, the result converted back."""

    @functools.wraps(rule)
    def wide(g: GraphWriter, x: Value, *parameters: Any, **keywords: Any) -> Any:
        dtype = max((v.dtype for v in (x, *parameters) if v is not None), key=lambda d: d.itemsize)
        given = [None if v is None else g.cast(v, dtype) for v in (x, *parameters)]
        return g.cast(rule(g, *given, **keywords), x.dtype)

    return wide


def scaled(g: GraphWriter, y: Value, ndim: int, weight: Any, bias: Any) -> Value:
    """``y weight + bias`` with one number per channel, axis 1."""
    for op, a in (("Mul", weight), ("Add", bias)):
        if a is not None:
            y = g.node(op, y, g.reshape(a, (-1, *(1,) * (ndim - 2))))
    return y


@register_export("fixed_norm")
@in_one_dtype
def fixed_norm(
    g: GraphWriter, x: Value, weight: Any, bias: Any, mean: Value, var: Value, *, eps: float, activation: Any = None
) -> Any:
    channels = g.fixed(x.shape[1], "the number of channels")
    weight = g.constant(np.ones(channels), x.dtype) if weight is None else weight
    bias = g.constant(np.zeros(channels), x.dtype) if bias is None else bias
    return activated(g, g.node("BatchNormalization", x, weight, bias, mean, var, epsilon=float(eps)), activation)


@register_export("batch_norm")
@in_one_dtype
def batch_norm(
    g: GraphWriter, x: Value, weight: Any, bias: Any, *, eps: float, activation: Any = None, observe: Any = None
) -> Any:
    """With the statistics of the batch: its formula, in the dtype of the input."""
    axes = [0, *range(2, x.ndim)]
    centred = x - reduced(g, "ReduceMean", x, axes)
    rest = centred - reduced(g, "ReduceMean", centred, axes)
    var = reduced(g, "ReduceMean", rest * rest, axes)
    return activated(g, scaled(g, rest / g.node("Sqrt", var + eps), x.ndim, weight, bias), activation)


@register_export("group_norm")
@in_one_dtype
def group_norm(
    g: GraphWriter, x: Value, weight: Any, bias: Any, *, groups: int, eps: float, activation: Any = None, observe: Any = None
) -> Any:
    """InstanceNormalization of one channel per group, GroupNormalization where the opset has it by channel."""
    channels = g.fixed(x.shape[1], "the number of channels")
    one, zero = (g.constant(np.full(channels, v), x.dtype) for v in (1, 0))
    w, b = (one if weight is None else weight), (zero if bias is None else bias)
    if groups == channels and x.ndim > 2:
        return activated(g, g.node("InstanceNormalization", x, w, b, epsilon=float(eps)), activation)
    if g.opset >= 21 and x.ndim > 2:
        return activated(g, g.node("GroupNormalization", x, w, b, num_groups=groups, epsilon=float(eps)), activation)
    rows = g.node("Reshape", x, np.asarray([0, groups, -1], np.int64))
    one, zero = (g.constant(np.full(groups, v), x.dtype) for v in (1, 0))
    y = g.node("InstanceNormalization", rows, one, zero, epsilon=float(eps))
    y = g.node("Reshape", y, g.lengths(x.shape, x))
    return activated(g, scaled(g, y, x.ndim, weight, bias), activation)


def reduced(g: GraphWriter, op_type: str, x: Value, axes: Any, keepdims: bool = True) -> Value:
    """A reduction, whose axes were an attribute before opset 18."""
    axes = [int(a) for a in axes]
    if g.opset >= 18 or op_type == "ReduceSum":
        return g.node(op_type, x, np.asarray(axes, np.int64), keepdims=int(keepdims))
    return g.node(op_type, x, axes=axes, keepdims=int(keepdims))


@register_export("layer_norm")
@in_one_dtype
def layer_norm(g: GraphWriter, x: Value, weight: Any, bias: Any, *, ndim: int, eps: float, eps_inside: bool) -> Any:
    """LayerNormalization, whose epsilon is inside the root; outside of it the formula."""
    if eps_inside and weight is not None:
        return g.node("LayerNormalization", x, weight, bias, axis=-ndim, epsilon=float(eps))
    axes = range(x.ndim - ndim, x.ndim)
    c = x - reduced(g, "ReduceMean", x, axes)
    var = reduced(g, "ReduceMean", c * c, axes)
    y = c / (g.node("Sqrt", var + eps) if eps_inside else g.node("Sqrt", var) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@register_export("rms_norm")
@in_one_dtype
def rms_norm(g: GraphWriter, x: Value, weight: Any, *, ndim: int, eps: float) -> Any:
    """RMSNormalization came with opset 23; before that its formula."""
    if g.opset >= 23 and weight is not None:
        return g.node("RMSNormalization", x, weight, axis=-ndim, epsilon=float(eps))
    axes = range(x.ndim - ndim, x.ndim)
    y = x / g.node("Sqrt", reduced(g, "ReduceMean", x * x, axes) + eps)
    return y if weight is None else y * weight


# -- attention ---------------------------------------------------------------------------------------------------------


def _attend(g: GraphWriter, q: Value, k: Value, v: Value, mask: Any, causal: bool, scale: float, shapes: Any) -> Value:
    """softmax(scale q k^T) v, the heads of keys and values repeated where several queries share one.

    ``shapes``: of q and k, (N, H, L, D) and (N, K, S, D).
    """
    (n, heads, length, _), (_, kvheads, width, _) = shapes
    if heads != kvheads:
        k, v = (_repeated(g, x, heads // kvheads, (n, heads, width, -1), kvheads) for x in (k, v))
    s = g.node("MatMul", q * scale, g.node("Transpose", k, perm=[0, 1, 3, 2]))
    seen = None
    if causal:
        columns, rows = (_count(g, n, q, k) for n in (width, length))
        rows = g.node("Unsqueeze", rows, np.asarray([1], np.int64))
        seen = g.node("LessOrEqual", columns, rows, dtype=np.bool_)
    if mask is not None:
        mask = g.constant(mask)
        seen = mask if seen is None else g.node("And", mask, seen)
    if seen is not None:
        s = g.node("Where", seen, s, g.constant(-math.inf, q.dtype), dtype=q.dtype)
    p = g.node("Softmax", s, axis=-1)
    if mask is not None:  # a query that sees nothing gives zeros, not NaN
        p = g.node("Where", seen, p, g.constant(0, q.dtype), dtype=q.dtype)
    return g.node("MatMul", p, v)


def _count(g: GraphWriter, n: Any, *near: Value) -> Value:
    """0, 1, ... n - 1."""
    if isinstance(n, int):
        return g.constant(np.arange(n))
    end = g.node("Squeeze", g.length(n, *near), np.zeros(1, np.int64))
    return g.node("Range", np.asarray(0, np.int64), end, np.asarray(1, np.int64), dtype=np.int64)


def _repeated(g: GraphWriter, x: Value, times: int, shape: Any, kvheads: int) -> Value:
    """Each head ``times`` times, one after the other."""
    index = np.repeat(np.arange(kvheads), times)
    return g.node("Gather", x, index, axis=1)


@register_export("dot_product_attention")
def dot_product_attention(g: GraphWriter, q: Value, k: Value, v: Value, *, mask: Any, causal: bool, scale: float) -> Any:
    return _attend(g, q, k, v, mask, causal, scale, (q.shape, k.shape))


@register_export("self_attention")
def self_attention(
    g: GraphWriter, x: Value, *, heads: int, kvheads: int, mask: Any, causal: bool, scale: float
) -> Any:
    """Queries, keys and values lie side by side in ``x`` (N, L, (heads + 2 kvheads) D)."""
    n, length, width = x.shape
    size = width // (heads + 2 * kvheads)
    y = g.transpose(g.reshape(x, (n, length, heads + 2 * kvheads, size)), (0, 2, 1, 3))
    ends = np.asarray([heads, kvheads, kvheads], np.int64)
    q, k, v = g.node("Split", y, ends, axis=1, outputs=3)
    q.shape, k.shape = (n, heads, length, size), (n, kvheads, length, size)
    y = _attend(g, q, k, v, mask, causal, scale, (q.shape, k.shape))
    y = g.node("Transpose", y, perm=[0, 2, 1, 3])
    y.shape = (n, length, heads, size)
    return g.reshape(y, (n, length, heads * size))


# -- tables ------------------------------------------------------------------------------------------------------------


@register_export("embedding")
def embedding(g: GraphWriter, w: Value, indices: Any, *, padding_idx: int | None = None) -> Any:
    return g.node("Gather", w, indices, axis=0, dtype=w.dtype)


def _bags(g: GraphWriter, rows: Value, start: Any) -> Value:
    """Rows (M, ...) as bags of one length, (bags, length, ...)."""
    starts = None if start.merged is None else start.merged.arrays
    lengths = set() if starts is None else {n for a in starts for n in np.diff(a).tolist()}
    if len(lengths) != 1:
        raise g.error("bags of different lengths have no form in ONNX; give indices (N, L), of which N may be free")
    return g.node("Reshape", rows, np.asarray([-1, lengths.pop(), *rows.shape[1:]], np.int64))


def _rows(g: GraphWriter, x: Value, index: Any) -> Value:
    rows = g.node("Gather", x, index, axis=0, dtype=x.dtype)
    rows.shape = (-1, g.fixed(x.shape[1], "the length of a row"))
    return rows


@register_export("bag_sum")
def bag_sum(g: GraphWriter, x: Value, c: Any, index: Any, start: Any) -> Any:
    """The rows of each bag, multiplied by their weights, added up."""
    rows = _rows(g, x, index)
    if c is not None:
        shape, rows = rows.shape, rows * g.node("Unsqueeze", c, np.asarray([1], np.int64))
        rows.shape = shape
    return reduced(g, "ReduceSum", _bags(g, rows, start), [1], keepdims=False)


@register_export("bag_argmax")
def bag_argmax(g: GraphWriter, x: Value, index: Any, start: Any) -> Any:
    """Where the first maximum of each bag is, as a row of the table."""
    best = g.node("ArgMax", _bags(g, _rows(g, x, index), start), axis=1, keepdims=0, dtype=np.int64)
    flat = g.constant(index)
    flat.shape = (-1,)
    return g.node("GatherElements", _bags(g, flat, start), best, axis=1, dtype=np.int64)


@register_export("dropout")
def dropout(g: GraphWriter, x: Value, **keywords: Any) -> Any:
    raise g.error("it draws random numbers in test mode, too; ONNX would draw others: leave it out of the model")
