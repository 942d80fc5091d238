"""Indices as the ops of ``indexing.py`` read them: what NumPy accepts in x[...], checked and taken apart."""

from __future__ import annotations

import operator
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Tensor
from ..backend import array_module, as_array, is_array, is_outline, is_unseen
from ..backend.arrays import same_device

_PLAIN = (int, slice, type(None), EllipsisType)


def stable_order(index: Any, n: int) -> Any:
    """The order that sorts ``index`` (1-d, 0..n-1), equal ones as they come.

    One pass for every 16 bits of n, because NumPy sorts 16-bit integers by radix: 30 times as fast as 64-bit ones.
    """
    xp = array_module(index)
    if is_unseen(index):
        return _order_by_ranks(index)
    order = xp.argsort(index.astype(xp.uint16), kind="stable")
    for shift in range(16, max(n - 1, 1).bit_length(), 16):
        order = order[xp.argsort((index >> shift)[order].astype(xp.uint16), kind="stable")]
    return order


MOST_RANKED = 1 << 13
"""How many indices can be ordered by comparing them in pairs: in a CUDA graph, where CuPy cannot sort."""


def _order_by_ranks(index: Any) -> Any:
    if index.size > MOST_RANKED:
        index.recorder.refuse(f"a captured step on a GPU sorts {index.size} indices (for the gradient of rows that were taken) "
                              f"where at most {MOST_RANKED} can be: give it a smaller batch, or call the step itself")
    xp = array_module(index)
    place = xp.arange(index.size)
    before = index[None] < index[:, None]
    before = before | ((index[None] == index[:, None]) & (place[None] < place[:, None]))
    order = xp.empty_like(place)
    order[before.sum(axis=1)] = place
    return order


def row_starts(index: Any, n: int) -> Any:
    """How many of the indices are below 0, 1, ..., n: where each one's begin when they are sorted; int64 (n + 1,)."""
    xp = array_module(index)
    if is_unseen(index):
        return (index[None] < xp.arange(n + 1)[:, None]).sum(axis=1)
    start = xp.zeros(n + 1, xp.int64)
    xp.cumsum(xp.bincount(index, minlength=n), out=start[1:])
    return start


def index_array(op: str, indices: Any, axis: int, x: Any) -> Any:
    """``indices`` along ``axis`` of ``x`` as int64 that count from the front. Raises TypeError or IndexError."""
    i = indices.data if isinstance(indices, Tensor) else as_array(indices, like=x)
    xp = array_module(i)
    if i.size == 0 and not is_array(indices):  # an empty list has no integers in it
        i = i.astype(xp.int64)
    if i.dtype.kind not in "iu":
        remedy = "; a mask goes into x[mask]" if i.dtype.kind == "b" else "; convert them with .astype('int64')"
        raise TypeError(f"{op}: indices are integers, got dtype {i.dtype}{remedy}")
    i = i.astype(xp.int64, copy=False)
    return _counted_from_front(op, i, x.shape[axis], axis, x.shape)


def _counted_from_front(op: str, i: Any, n: int, axis: int, shape: tuple[int, ...]) -> Any:
    if i.size == 0 or is_outline(i):
        return i
    if is_unseen(i):
        return array_module(i).where(i < 0, i + n, i)
    low, high = i.min().item(), i.max().item()
    if low < -n or high >= n:
        raise IndexError(
            f"{op}: index {high if high >= n else low} is outside axis {axis} of an array of shape {shape}: "
            + (f"its indices are {-n} to {n - 1}" if n else "that axis is empty")
        )
    return i if low >= 0 else array_module(i).where(i < 0, i + n, i)


class Places(NamedTuple):
    """An index with arrays, taken apart: slices first, then arrays that are all broadcast to one shape."""

    basic: tuple[Any, ...]  # b = x[basic] is a view
    axes: tuple[int, ...]  # the axes of b that the arrays index
    arrays: tuple[Any, ...]  # one for each of them: int64, not negative
    sizes: tuple[int, ...]  # the lengths of these axes
    start: int  # where their common axes stand in x[index]
    ndim: int  # how many common axes there are
    flat: Any  # the position of each element of the arrays in the axes flattened: (M,), 0 <= flat < prod(sizes)
    whole: bool  # b has all elements of x

    def to_front(self, y: Any) -> Any:
        """x[index], or what has its shape, with the common axes first."""
        return array_module(y).moveaxis(y, range(self.start, self.start + self.ndim), range(self.ndim))


class Index:
    """The index of ``x[index]``: ``key`` is what the array module gets.

    ``unique``: no position comes twice, because nothing but slices and masks makes up the index.
    """

    __slots__ = ("has_arrays", "key", "unique")

    def __init__(self, key: tuple[Any, ...], has_arrays: bool = False, unique: bool = True) -> None:
        self.key, self.has_arrays, self.unique = key, has_arrays, unique

    def __repr__(self) -> str:
        return f"Index({self.key})"

    @classmethod
    def of(cls, op: str, index: Any, x: Any, keep: bool = False) -> Index:
        """Read ``index`` for the array ``x``; ``keep``: copy its arrays, which the caller may write to later."""
        given = index if type(index) is tuple else (index,)
        if all(type(k) in _PLAIN for k in given):
            return cls(given)
        key = [_entry(op, k, x) for k in given]
        arrays = [k for k in key if is_array(k)]
        same_device(op, (x, *arrays))
        if not arrays:
            return cls(tuple(key))
        axis = 0
        for k in _expanded(op, key, x.shape):
            axis = _check(op, k, axis, x.shape)
        if keep:
            key = [k.copy() if is_array(k) and any(k is g for g in given) else k for k in key]
        lengths = [k.size for k in arrays if k.dtype.kind != "b"]
        return cls(tuple(key), True, all(n <= 1 for n in lengths))

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape of ``x[index]``."""
        xp = array_module(x)
        return xp.broadcast_to(xp.empty((), bool), x.shape)[self.key].shape

    def places(self, shape: tuple[int, ...], like: Any) -> Places:
        """The parts of an index with arrays, for an array of ``shape`` on the device of ``like``."""
        xp = array_module(like)
        entries = _expanded("x[index]", list(self.key), shape)
        basic: list[Any] = []
        axes: list[int] = []
        arrays: list[Any] = []
        sizes: list[int] = []
        advanced: list[int] = []  # which entries count as arrays to NumPy: integers do, beside arrays
        made: list[int] = []  # how many axes of x[index] the entries before each one have made
        axis = outputs = kept = 0
        for at, k in enumerate(entries):
            made.append(outputs)
            if k is None or isinstance(k, slice):
                basic.append(k)
                outputs += 1
                kept += 1
                axis += k is not None
            elif k is Ellipsis:
                pass
            elif not is_array(k):
                advanced.append(at)
                basic.append(operator.index(k))
                axis += 1
            else:
                advanced.append(at)
                if k.dtype.kind != "b":
                    parts = (k,)
                elif k.ndim:
                    parts = k.nonzero()
                else:  # x[True] is x[None], x[False] nothing of it
                    parts = (xp.zeros(int(k), xp.int64),)
                for part in parts:
                    new = k.dtype.kind == "b" and not k.ndim
                    n = 1 if new else shape[axis]
                    axes.append(kept)
                    sizes.append(n)
                    arrays.append(_counted_from_front("x[index]", part.astype(xp.int64), n, axis, shape))
                    basic.append(None if new else slice(None))
                    kept += 1
                    axis += not new
        common = xp.broadcast_arrays(*arrays)
        flat = xp.zeros((), xp.int64)
        for i, n in zip(common, sizes, strict=True):
            flat = flat * n + i
        together = advanced[-1] - advanced[0] + 1 == len(advanced)
        return Places(
            tuple(basic),
            tuple(axes),
            tuple(common),
            tuple(sizes),
            made[advanced[0]] if together else 0,
            flat.ndim,
            flat.reshape(-1),
            all(k is None or k == slice(None) for k in basic),
        )


def _entry(op: str, k: Any, x: Any) -> Any:
    """One entry of an index: an int, a slice, None, ``...`` or an array of integers or booleans."""
    if isinstance(k, slice) or k is None or k is Ellipsis:
        return k
    if isinstance(k, Tensor):
        k = k.data
    elif isinstance(k, bool | np.bool_):
        k = as_array(k, like=x)
    elif not is_array(k):
        try:
            return operator.index(k)
        except TypeError:
            k = _sequence(op, k, x)
    if k.dtype.kind in "iu":
        return k if k.ndim else int(k)
    if k.dtype.kind != "b":
        raise IndexError(
            f"{op}: an index array has integers or booleans, got dtype {k.dtype}; convert it with .astype('int64')"
        )
    return k


def _sequence(op: str, k: Any, x: Any) -> Any:
    try:
        a = as_array(list(k), like=x) if isinstance(k, list | tuple | range) else None
    except (TypeError, ValueError):
        a = None
    if a is None:
        raise IndexError(
            f"{op}: an index is made of integers, slices, ..., None, and arrays or lists of integers or "
            f"booleans, got {k!r}"
        )
    return a if a.size else a.astype(array_module(a).int64)


def _expanded(op: str, key: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The key with ``...`` followed by the slices that it stands for."""
    used = sum(0 if k is None or k is Ellipsis else k.ndim if is_array(k) and k.dtype.kind == "b" else 1 for k in key)
    dots = [i for i, k in enumerate(key) if k is Ellipsis]
    if len(dots) > 1:
        raise IndexError(f"{op}: an index can have one '...', this one has {len(dots)}")
    if used > len(shape):
        raise IndexError(f"{op}: too many indices, {used} for an array of shape {shape}")
    at = dots[0] + 1 if dots else len(key)
    return key[:at] + [slice(None)] * (len(shape) - used) + key[at:]


def _check(op: str, k: Any, axis: int, shape: tuple[int, ...]) -> int:
    """The axis after ``k``. Raises IndexError when an array does not fit."""
    if k is None or k is Ellipsis:
        return axis
    if not is_array(k):
        return axis + 1
    if k.dtype.kind != "b":
        _counted_from_front(op, k, shape[axis], axis, shape)
        return axis + 1
    if k.shape != shape[axis : axis + k.ndim]:
        raise IndexError(
            f"{op}: a mask of shape {k.shape} does not fit axes {axis} to {axis + k.ndim - 1} of an array of "
            f"shape {shape}: masks have the shape of what they choose from"
        )
    return axis + k.ndim


def last_of_each(flat: Any, n: int) -> Any:
    """Which entries of ``flat`` (0..n-1) are the last with their number: a mask, or None when no number repeats."""
    if is_outline(flat):
        return None
    xp = array_module(flat)
    order = stable_order(flat, n)
    position = flat[order]
    is_last = xp.ones(flat.shape, bool)
    is_last[:-1] = position[1:] != position[:-1]
    if is_last.all():
        return None
    last = xp.empty(flat.shape, bool)
    last[order] = is_last
    return last
