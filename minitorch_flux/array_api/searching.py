"""Order, positions and sets in the array API's spelling.

Orders and positions are constants of the tape; the values that they pick carry gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..autograd import Tensor
from ..backend import array_module
from ..ops import sorting
from ..ops.axes import normalise_axis
from ..ops.elementwise import as_tensor, raw
from ..ops.indexing import take, take_sorted
from ..ops.shapes import ravel


class UniqueAll(NamedTuple):
    """What ``unique_all`` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What ``unique_counts`` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What ``unique_inverse`` gives."""

    values: Tensor
    inverse_indices: Tensor


def _order(name: str, x: Any, axis: int, descending: bool) -> tuple[Tensor, Any, int]:
    x = as_tensor(x)
    axis = normalise_axis(name, axis, x.ndim, x.shape)
    return x, (sorting.descending if descending else sorting.ascending)(x.data, axis), axis


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """``x`` in order along ``axis``; NaN counts as the greatest. Always stable."""
    return take_sorted(*_order("sort", x, axis, descending))


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The int64 indices that sort ``x`` along ``axis``; equal elements always keep their order."""
    return Tensor(_order("argsort", x, axis, descending)[1])


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where to put each element of ``x2`` so that the vector ``x1``, which ascends, stays in order: int64.

    ``side``: before ("left") or after ("right") elements that are equal. ``sorter``: the order that sorts ``x1``.
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side is 'left' or 'right', got {side!r}")
    line, values = raw(as_tensor(x1)), raw(as_tensor(x2))
    if line.ndim != 1:
        raise ValueError(f"searchsorted: looks for places in a vector, got shape {line.shape}")
    xp = array_module(line, values)
    if sorter is not None:
        line = line[raw(as_tensor(sorter))]
    return Tensor(xp.asarray(xp.searchsorted(line, values, side=side)))


def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """The indices of the elements that are not zero, one int64 vector for each axis, in row-major order."""
    x = as_tensor(x)
    if not x.ndim:
        raise ValueError("nonzero: a single number has no positions")
    return tuple(Tensor(i) for i in x.data.nonzero())


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """Whether each element of ``x1`` is among those of ``x2`` (``invert``: is not)."""
    a, b = raw(as_tensor(x1)), raw(as_tensor(x2))
    return Tensor(array_module(a, b).isin(a, b, invert=invert))


def unique_all(x: Any, /) -> UniqueAll:
    """The different elements of ``x`` in ascending order, where each comes first, which each is, and how often it comes.

    Every NaN counts as different. ``inverse_indices`` has the shape of ``x``.
    """
    x = as_tensor(x)
    flat = ravel(x)
    _, first, inverse, counts = array_module(x.data).unique(
        flat.data, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    return UniqueAll(take(flat, first, 0), Tensor(first), Tensor(inverse.reshape(x.shape)), Tensor(counts))


def unique_counts(x: Any, /) -> UniqueCounts:
    """The different elements of ``x`` in ascending order, and how often each comes."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """The different elements of ``x`` in ascending order, and which of them each element of ``x`` is."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    """The different elements of ``x`` in ascending order; every NaN counts as different."""
    return unique_all(x).values
