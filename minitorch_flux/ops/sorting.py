"""Order: sort, argsort and topk.

    y = x[order] along an axis        dx[order] = dy

Orders are stable (equal elements keep their order) and constants of the tape; NaN comes last, as the greatest.
"""

from __future__ import annotations

import operator
from typing import Any

from ..autograd import Tensor, operation
from ..backend import array_module
from .axes import normalise_axis
from .indexing import take_sorted
from .shapes import as_tensor, ravel


def ascending(x: Any, axis: int) -> Any:
    """The order that sorts an array along ``axis``."""
    return array_module(x).argsort(x, axis=axis, kind="stable")


def descending(x: Any, axis: int) -> Any:
    """The order that sorts an array along ``axis`` from the greatest; equal elements keep their order."""
    xp = array_module(x)
    return xp.flip(x.shape[axis] - 1 - ascending(xp.flip(x, axis), axis), axis)


_ascending = operation("argsort", ascending)
_descending = operation("argsort_descending", descending)


def _along(op: str, x: Any, axis: int | None) -> tuple[Tensor, int]:
    x = as_tensor(x)
    return (ravel(x), 0) if axis is None else (x, normalise_axis(op, axis, x.ndim, x.shape))


def sort(x: Any, axis: int | None = -1) -> Tensor:
    """``x`` in ascending order along ``axis`` (None: flattened), as ``numpy.sort``; NaN last.

    ``flip(sort(x), -1)`` is the descending order.
    """
    x, axis = _along("sort", x, axis)
    return take_sorted(x, _ascending(x, axis=axis).data, axis)


def argsort(x: Any, axis: int | None = -1) -> Tensor:
    """The indices (int64) that sort ``x`` along ``axis`` (None: flattened); equal elements keep their order."""
    x, axis = _along("argsort", x, axis)
    return _ascending(x, axis=axis)


def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """``(values, indices)`` of the ``k`` greatest elements along ``axis``, the greatest first.

    ``largest=False``: of the least, the least first. Of equal elements the first comes first; NaN is the greatest.
    Raises ValueError when the axis has fewer than ``k`` elements. Source: PyTorch's ``topk``.
    """
    x, axis = _along("topk", x, axis)
    if not 0 <= operator.index(k) <= x.shape[axis]:
        raise ValueError(
            f"topk: k={k} is not between 0 and {x.shape[axis]}, the length of axis {axis} of shape {x.shape}"
        )
    order = (_descending if largest else _ascending)(x, axis=axis)[(slice(None),) * axis + (slice(0, k),)]
    return take_sorted(x, order.data, axis), order
