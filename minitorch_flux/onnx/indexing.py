"""Reading and writing at positions: Gather, Scatter and their kin, TopK, OneHot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops import arithmetic, comparisons, sorting
from ..ops.elementwise import as_tensor
from ..ops.indexing import take, take_along_axis
from ..ops.scattering import put_along_axis, scatter, scatter_add
from .arguments import axis_of, number
from .registry import register


@register("Gather")
def gather(data: Any, indices: Any, *, axis: int = 0) -> Any:
    return take(data, indices, axis)


@register("GatherElements")
def gather_elements(data: Any, indices: Any, *, axis: int = 0) -> Any:
    """The other axes of ``indices`` may be shorter than those of ``data``: their first elements are meant."""
    x, i = as_tensor(data), as_tensor(indices)
    axis = axis_of(x, axis)
    return take_along_axis(x[_first(i.shape, axis)], i, axis)


def _first(shape: tuple[int, ...], axis: int) -> tuple[slice, ...]:
    return tuple(slice(None) if k == axis else slice(0, n) for k, n in enumerate(shape))


def _batched(indices: Any, batch_dims: int) -> tuple[Any, ...]:
    """``indices`` (..., K) as an index for K axes, after batch axes that are walked together."""
    i = indices.data
    xp = array_module(i)
    batch = [xp.arange(n).reshape(-1, *(1,) * (i.ndim - 2 - k)) for k, n in enumerate(i.shape[:batch_dims])]
    return (*batch, *(i[..., k] for k in range(i.shape[-1])))


@register("GatherND")
def gather_nd(data: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    return as_tensor(data)[_batched(as_tensor(indices), batch_dims)]


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "mul": arithmetic.multiply,
    "max": comparisons.maximum,
    "min": comparisons.minimum,
}


def _reduced(x: Tensor, index: Any, updates: Tensor, function: Callable[..., Any]) -> Tensor:
    """``x[index] = function(x[index], updates)``, one after the other where a position comes twice.

    Round by round, each with at most one update of a position.
    """
    xp = array_module(x.data)
    places = xp.arange(x.size).reshape(x.shape)[index]
    order = np.asarray(Tensor(places).numpy()).reshape(-1)
    turn = np.zeros(order.size, int)
    by_place = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(order[by_place]) != 0]) if order.size else by_place
    turn[by_place] = np.arange(order.size) - np.repeat(starts, np.diff(np.r_[starts, order.size]))
    y, flat = x.reshape(-1), updates.reshape(-1)
    for k in range(int(turn.max(initial=-1)) + 1):
        now = np.flatnonzero(turn == k)
        at = xp.asarray(order[now])
        y = scatter(y, at, function(y[at], flat[xp.asarray(now)]))
    return y.reshape(x.shape)


def _written(x: Tensor, index: Any, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return scatter(x, index, updates)
    if reduction == "add":
        return scatter_add(x, index, updates)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is not none, add, mul, max or min")
    return _reduced(x, index, updates, REDUCTIONS[reduction])


@register("ScatterElements")
def scatter_elements(data: Any, indices: Any, updates: Any, *, axis: int = 0, reduction: str = "none") -> Any:
    x, i, updates = as_tensor(data), as_tensor(indices), as_tensor(updates)
    axis = axis_of(x, axis)
    if reduction == "none" and all(m == n for k, (m, n) in enumerate(zip(i.shape, x.shape)) if k != axis):
        return put_along_axis(x, i, updates, axis)
    xp = array_module(i.data)
    index = [xp.arange(n).reshape(-1, *(1,) * (i.ndim - 1 - k)) for k, n in enumerate(i.shape)]
    index[axis] = i.data
    return _written(x, tuple(index), updates, reduction)


register("Scatter", since=9)(scatter_elements)


@register("ScatterND")
def scatter_nd(data: Any, indices: Any, updates: Any, *, reduction: str = "none") -> Any:
    return _written(as_tensor(data), _batched(as_tensor(indices), 0), as_tensor(updates), reduction)


@register("TensorScatter")
def tensor_scatter(
    past_cache: Any, update: Any, write_indices: Any = None, *, axis: int = -2, mode: str = "linear"
) -> Any:
    """Row n of ``update`` written from place ``write_indices[n]`` on along ``axis``; "circular": around the end."""
    x, update = as_tensor(past_cache), as_tensor(update)
    xp, axis = array_module(x.data), axis_of(x, axis)
    length = update.shape[axis]
    start = xp.zeros(x.shape[0], int) if write_indices is None else as_tensor(write_indices).data
    at = start[:, None] + xp.arange(length)
    if mode == "circular":
        at = at % x.shape[axis]
    index = [xp.arange(n).reshape(-1, *(1,) * (x.ndim - 1 - k)) for k, n in enumerate(update.shape)]
    index[axis] = at.reshape(x.shape[0], *(length if k == axis else 1 for k in range(1, x.ndim)))
    return scatter(x, tuple(index), update)


@register("OneHot", host=("depth",))
def one_hot(indices: Any, depth: Any, values: Any, *, axis: int = -1) -> Any:
    """``values`` (off, on); an index outside 0..depth-1, counted from the end where negative, gives a row of "off"."""
    i, values = as_tensor(indices), as_tensor(values)
    n = int(number(depth.reshape(-1)[:1]))
    place = axis % (i.ndim + 1)
    classes = np.arange(n).reshape(-1, *(1,) * (i.ndim - place))
    i = comparisons.where(i < 0, i + n, i).reshape(*i.shape[:place], 1, *i.shape[place:])
    return comparisons.where(comparisons.equal(i, _beside(classes, i)), values[1], values[0])


def _beside(host: np.ndarray, x: Tensor) -> Any:
    """A host array on the device of ``x``."""
    return array_module(x.data).asarray(host)


@register("TopK", host=("k",))
def top_k(x: Any, k: Any, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> Any:
    return sorting.topk(x, int(number(np.asarray(k))), axis, bool(largest))


@register("NonZero")
def non_zero(x: Any) -> Any:
    x = as_tensor(x).data
    xp = array_module(x)
    return Tensor(xp.stack(xp.nonzero(xp.atleast_1d(x))).astype(np.int64))


@register("Compress")
def compress(x: Any, condition: Any, *, axis: int | None = None) -> Any:
    x, keep = as_tensor(x), as_tensor(condition).data
    x = x.reshape(-1) if axis is None else x
    return take(x, array_module(keep).flatnonzero(keep), 0 if axis is None else axis)


@register("ReverseSequence")
def reverse_sequence(x: Any, sequence_lens: Any, *, batch_axis: int = 1, time_axis: int = 0) -> Any:
    """The first ``sequence_lens[n]`` steps of sequence n in reversed order, the others as they are."""
    x, lengths = as_tensor(x), as_tensor(sequence_lens).data
    xp, steps = array_module(x.data), x.shape[time_axis]
    t = xp.arange(steps)[:, None]
    at = xp.where(t < lengths, lengths - 1 - t, t)  # (time, batch)
    at = at if time_axis < batch_axis else at.T
    return take_along_axis(x, at.reshape(*at.shape, *(1,) * (x.ndim - 2)), time_axis)


@register("Unique")
def unique(x: Any, *, axis: int | None = None, sorted: int = 1) -> Any:
    """``(values, first place, number of each element among the values, counts)``; no gradient flows through them."""
    a = as_tensor(x).numpy()
    values, first, inverse, counts = np.unique(a, True, True, True, axis=axis)
    if not sorted:  # in the order of their first appearance
        order = np.argsort(first, kind="stable")
        values = np.take(values, order, 0 if axis is None else axis)
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    return values, first, inverse.reshape(-1), counts
