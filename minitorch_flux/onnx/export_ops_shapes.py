"""Writing what moves numbers about: axes, joins, slices, indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .exporting import register_export
from .graph_writing import GraphWriter, Value

END = np.iinfo(np.int64).max


def _ints(values: Any) -> np.ndarray:
    return np.asarray(values, np.int64)


@register_export("reshape")
def reshape(g: GraphWriter, x: Value, *, shape: Any) -> Any:
    return g.reshape(x, shape)


@register_export("transpose")
def transpose(g: GraphWriter, x: Value, *, axes: Any) -> Any:
    return g.transpose(x, axes)


@register_export("broadcast_to")
def broadcast_to(g: GraphWriter, x: Value, *, shape: Any) -> Any:
    return x if x.shape == tuple(shape) else g.node("Expand", x, g.lengths(shape, x))


@register_export("flip")
def flip(g: GraphWriter, x: Value, *, axes: Any) -> Any:
    n = len(axes)
    return g.node("Slice", x, _ints([-1] * n), _ints([-END] * n), _ints(axes), _ints([-1] * n)) if n else x


@register_export("roll")
def roll(g: GraphWriter, x: Value, *, shift: Any, axes: Any) -> Any:
    for by, axis in zip(shift, axes, strict=True):
        n = g.fixed(x.shape[axis], "roll")
        cut = -by % n if n else 0
        if cut:
            parts = [g.node("Slice", x, _ints([lo]), _ints([hi]), _ints([axis])) for lo, hi in ((cut, n), (0, cut))]
            x, shape = g.node("Concat", *parts, axis=axis), x.shape
            x.shape = shape
    return x


@register_export("concatenate")
def concatenate(g: GraphWriter, *xs: Value, axis: int) -> Any:
    return g.node("Concat", *_alike(g, xs), axis=axis)


@register_export("stack")
def stack(g: GraphWriter, *xs: Value, axis: int) -> Any:
    rows = [g.node("Unsqueeze", x, _ints([axis])) for x in _alike(g, xs)]
    return g.node("Concat", *rows, axis=axis)


def _alike(g: GraphWriter, xs: Any) -> list[Value]:
    dtype = g.call.outputs[0].dtype
    return [g.cast(x if isinstance(x, Value) else g.constant(x), dtype) for x in xs]


@register_export("split")
def split(g: GraphWriter, x: Value, *, sizes: Any, axis: int) -> Any:
    """Parts of these lengths."""
    if len(sizes) == 1:
        return (x,)
    return g.node("Split", x, g.lengths(sizes, x), axis=axis, outputs=len(sizes))


@register_export("unstack")
def unstack(g: GraphWriter, x: Value, *, axis: int) -> Any:
    n = g.fixed(x.shape[axis], "the number of parts")
    return tuple(g.node("Gather", x, np.asarray(i, np.int64), axis=axis) for i in range(n))


@register_export("pad")
def pad(g: GraphWriter, x: Value, *, widths: Any, value: float = 0) -> Any:
    if not any(map(any, g.fixed(widths, "the padding"))):
        return x
    ends = _ints([lo for lo, _ in widths] + [hi for _, hi in widths])
    return g.node("Pad", x, ends, None if value == 0 else g.constant(value, x.dtype))


@register_export("tril", "triu")
def triangle(g: GraphWriter, x: Value, *, k: int) -> Any:
    upper = int(g.call.name == "triu")
    return g.node("Trilu", x, None if k == 0 else np.asarray(k, np.int64), upper=upper)


# -- indices -----------------------------------------------------------------------------------------------------------


@register_export("take")
def take(g: GraphWriter, x: Value, indices: Any, *, axis: int) -> Any:
    return g.node("Gather", x, indices, axis=axis, dtype=x.dtype)


@register_export("take_along_axis")
def take_along_axis(g: GraphWriter, x: Value, indices: Any, *, axis: int, unique: bool = False) -> Any:
    """GatherElements takes an index as long as the output along the other axes, so both are spread."""
    shape = g.call.outputs[0].shape
    beside = tuple(x.shape[a] if a == axis else n for a, n in enumerate(shape))
    x = broadcast_to(g, x, shape=beside)
    return g.node("GatherElements", x, broadcast_to(g, g.constant(indices), shape=shape), axis=axis, dtype=x.dtype)


@register_export("pick")
def pick(g: GraphWriter, x: Value, index: Any, *, axis: Any, keepdims: bool = False) -> Any:
    if len(axis) != 1:
        raise g.error("picking along several axes has no form in ONNX")
    (a,) = axis
    y = g.node("GatherElements", x, g.node("Unsqueeze", index, _ints([a])), axis=a, dtype=x.dtype)
    return y if keepdims else g.node("Squeeze", y, _ints([a]))


@register_export("getitem")
def getitem(g: GraphWriter, x: Value, *, index: Any) -> Any:
    """Slices, then the axes of plain numbers go, and new axes come."""
    entries = _expanded(index, x.ndim)
    starts: list[Any] = []
    ends: list[Any] = []
    axes: list[int] = []
    steps: list[int] = []
    gone: list[int] = []
    new: list[int] = []
    axis = out = 0
    for k in entries:
        if k is None:
            new.append(out)
            out += 1
            continue
        if isinstance(k, slice):
            step = 1 if k.step is None else g.fixed(k.step, "the step of a slice")
            whole = step == 1 and k.start in (None, 0) and (k.stop is None or k.stop == x.shape[axis])
            if not whole:
                starts.append(k.start if k.start is not None else 0 if step > 0 else END)
                ends.append(k.stop if k.stop is not None else END if step > 0 else -END)
                axes.append(axis)
                steps.append(step)
            out += 1
        else:
            starts.append(k)
            ends.append(END if k == -1 else _next(g, k, x))
            axes.append(axis)
            steps.append(1)
            gone.append(axis)
        axis += 1
    y = x
    if axes:
        bounds = (g.lengths(b, x) for b in (starts, ends))
        y = g.node("Slice", y, *bounds, _ints(axes), None if set(steps) == {1} else _ints(steps))
    if gone:
        y = g.node("Squeeze", y, _ints(gone))
    return g.node("Unsqueeze", y, _ints(new)) if new else y


def _next(g: GraphWriter, k: Any, x: Value) -> Any:
    return g.fixed(k, "an index") + 1


def _expanded(index: Any, ndim: int) -> list[Any]:
    """The index with full slices for ``...`` and for axes that it does not name."""
    entries = list(index)
    used = sum(k is not None and k is not Ellipsis for k in entries)
    dots = next((i for i, k in enumerate(entries) if k is Ellipsis), None)
    full = [slice(None)] * (ndim - used)
    return [*entries, *full] if dots is None else [*entries[:dots], *full, *entries[dots + 1 :]]


@register_export("getitem_arrays")
def getitem_arrays(g: GraphWriter, x: Value, *, index: Any) -> Any:
    """One array of indices, or several known ones on neighbouring axes, beside slices: a Gather."""
    entries = _expanded(_without_masks(g, index), x.ndim)
    basic = tuple(k if k is None or isinstance(k, slice) else slice(None) for k in entries)
    at = [i for i, k in enumerate(entries) if not (k is None or isinstance(k, slice))]
    if at != list(range(at[0], at[-1] + 1)):
        raise g.error("an index whose arrays are not beside each other has no form in ONNX here; take one axis after the other")
    shape = _basic_shape(g, x, basic)
    y = getitem(g, x, index=basic)
    if len(at) == 1:
        return g.node("Gather", y, entries[at[0]], axis=at[0], dtype=x.dtype)
    arrays = [k.array if isinstance(k, Value) else np.asarray(k) for k in entries[at[0] : at[-1] + 1]]
    if any(a is None for a in arrays):
        raise g.error("several index arrays that depend on the input have no form in ONNX here; take one axis after the other")
    sizes = g.fixed(shape[at[0] : at[-1] + 1], "an index with several arrays")
    flat = np.zeros((), np.int64)
    for a, n in zip(np.broadcast_arrays(*arrays), sizes, strict=True):
        flat = flat * n + np.where(a < 0, a + n, a)
    merged = (*shape[: at[0]], math.prod(sizes), *shape[at[-1] + 1 :])
    y.shape = shape
    return g.node("Gather", g.reshape(y, merged), flat, axis=at[0], dtype=x.dtype)


def _without_masks(g: GraphWriter, index: Any) -> list[Any]:
    """The index with masks of one axis as the positions that they pick."""
    entries = []
    for k in index:
        if isinstance(k, Value) and k.dtype.kind == "b":
            if k.array is None or k.array.ndim != 1:
                raise g.error("a mask of several axes, or one that depends on the input, has no form in ONNX here; use where")
            k = g.constant(np.flatnonzero(k.array))
        entries.append(k)
    return entries


def _basic_shape(g: GraphWriter, x: Value, index: Any) -> tuple[Any, ...]:
    """The shape of x[slices]."""
    axes = iter(x.shape)
    shape: list[Any] = []
    for k in index:
        n = 1 if k is None else next(axes)
        if isinstance(k, slice) and k != slice(None):
            n = len(range(*k.indices(g.fixed(n, "a slice beside an array of indices"))))
        shape.append(n)
    return tuple(shape)


def _places(g: GraphWriter, shape: Any, index: Any) -> np.ndarray:
    """The positions, in an array of this shape made flat, that a known index picks."""
    if any(isinstance(k, Value) and k.array is None for k in index):
        raise g.error("writing at an index that depends on the input has no form in ONNX here; use where")
    shape = g.fixed(tuple(shape), "writing at an index")
    return np.arange(math.prod(shape)).reshape(shape)[tuple(k.array if isinstance(k, Value) else k for k in index)]


@register_export("scatter")
def scatter(g: GraphWriter, x: Value, values: Any, *, index: Any, winners: Any = None) -> Any:
    """x[index] = values for an index that is known: ScatterND of all elements in a row."""
    places = _places(g, x.shape, index)
    flat, first = np.unique(places.reshape(-1)[::-1], return_index=True)
    values = g.cast(values if isinstance(values, Value) else g.constant(values), x.dtype)
    rows = g.node("Reshape", g.node("Expand", values, np.asarray(places.shape, np.int64)), _ints([-1]))
    rows = g.node("Gather", rows, places.size - 1 - first)  # of several values for one place the last
    y = g.node("ScatterND", g.node("Reshape", x, _ints([-1])), flat[:, None], rows)
    return g.node("Reshape", y, _ints(x.shape))


@register_export("getitem_backward")
def getitem_backward(g: GraphWriter, dy: Value, *, index: Any, shape: Any) -> Any:
    """Zeros to which ``dy`` is added at a known index: what scatter_add is made of."""
    places = _places(g, shape, index)
    zeros = g.constant(np.zeros(math.prod(shape)), dy.dtype)
    y = g.node("ScatterND", zeros, places.reshape(-1, 1), g.node("Reshape", dy, _ints([-1])), dtype=dy.dtype, reduction="add")
    return g.node("Reshape", y, _ints(shape))


# -- order -------------------------------------------------------------------------------------------------------------


@register_export("argsort", "argsort_descending")
def argsort(g: GraphWriter, x: Value, axis: int) -> Any:
    """TopK of all elements; of equal ones the first comes first, here and there."""
    x = g.cast(x, np.int32) if x.dtype.kind == "b" else x
    largest = int(g.call.name == "argsort_descending")
    return g.node("TopK", x, g.length(x.shape[axis], x), axis=axis, largest=largest, outputs=2, dtype=np.int64)[1]
