"""Rows of a table by their numbers: one of them (embedding), or the sum or maximum of a bag of them (kernels:
kernels/embedding.cu).

    embedding    y[.., :] = w[i[..], :]                   dw[i[..], :] += dy[.., :]
    bag_sum      y[b, :] = sum c[k] w[i[k], :]            dw[i[k], :] += c[k] dy[b, :]     dc[k] = dy[b, :] . w[i[k], :]
    bag_max      y[b, j] = max w[i[k], j]                 dw[a[b, j], j] += dy[b, j]       a: the row of the first maximum

w (n, d) is the table. Bag b holds the entries k from start[b] to start[b + 1] - 1; an empty one gives zeros. The row of
``padding_idx`` gets no gradient. ``bag_sum`` is the product of a sparse matrix, whose rows begin at ``start`` and whose
columns are ``i``, with a dense one, so its gradient is the ``bag_sum`` of the transposed matrix. All sums are formed in a
fixed order: the same call gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, empty, is_float, is_outline
from ..readings import KernelFile
from .comparisons import where
from .elementwise import as_tensor
from .indexing import accumulate_rows, add_up_at, take, take_along_axis, take_backward, take_forward
from .positions import Index, stable_order

# -- embedding ---------------------------------------------------------------------------------------------------------


def embedding_forward(w: Any, indices: Any, padding_idx: int | None = None) -> Any:
    """``w`` (n, d) at ``indices`` (int64, 0..n-1, any shape): ``indices.shape + (d,)``."""
    return take_forward(w, indices, 0)


def embedding_backward(dy: Any, indices: Any, w_shape: tuple[int, ...], padding_idx: int | None) -> Any:
    """``dy`` added up at the rows ``indices``; ``(dw, None)``."""
    dw = take_backward(dy, indices, 0, w_shape)
    if padding_idx is not None:
        dw[padding_idx] = 0
    return dw, None


def _embedding_rule(dy: Tensor, indices: Tensor, w_shape: tuple[int, ...], padding_idx: int | None) -> Any:
    i = indices.data
    if padding_idx is not None:
        dy = dy * (i != padding_idx)[..., None].astype(dy.dtype)
    return add_up_at(dy, Index((i,), has_arrays=True, unique=False), w_shape), None


embedding = operation("embedding", embedding_forward, backward=embedding_backward, rule=_embedding_rule)


# -- bag_sum -----------------------------------------------------------------------------------------------------------


def _bags(start: Any) -> Any:
    """The bag of each entry: 0 for the first ``start[1]`` ones, and so on."""
    xp = array_module(start)
    return xp.searchsorted(start[1:], xp.arange(start[-1].item()), side="right")


@array_function
def bag_sum_forward(x: Any, c: Any, index: Any, start: Any) -> Any:
    """``y[b] = sum c[k] x[index[k]]``: x (n, d), c (M,) or None (all 1), index (M,), start (B + 1,), y (B, d)."""
    if is_outline(x):
        return array_module(x).empty((start.size - 1, x.shape[1]), x.dtype)
    rows = x[index].astype(accumulator(x.dtype), copy=False)
    if c is not None:
        rows = rows * c.astype(rows.dtype, copy=False)[:, None]
    return accumulate_rows(rows, _bags(start), start.size - 1).astype(x.dtype, copy=False)


def _transposed(index: Any, start: Any, n: int) -> tuple[Any, Any, Any]:
    """``(order, index, start)`` of the transposed matrix: its entries are those of this one in ``order``."""
    xp = array_module(index)
    order = stable_order(index, n)
    ends = xp.cumsum(xp.bincount(index, minlength=n))
    return order, xp.take(_bags(start), order), xp.concatenate([xp.zeros(1, ends.dtype), ends])


def bag_sum_backward(dy: Any, x: Any, c: Any, index: Any, start: Any, needs: Any) -> Any:
    """``(dx, dc)``."""
    dx = dc = None
    if needs[0]:
        order, rows, ends = _transposed(index, start, x.shape[0])
        dx = bag_sum_forward(dy, None if c is None else c[order], rows, ends)
    if needs[1]:
        dc = (dy[_bags(start)] * x[index]).sum(axis=1, dtype=accumulator(dy.dtype)).astype(c.dtype, copy=False)
    return dx, dc


def _bag_sum_rule(dy: Tensor, x: Tensor, c: Any, index: Any, start: Any, needs: Any) -> Any:
    dx = dc = None
    if needs[0]:
        order, rows, ends = _transposed(index, start, x.shape[0])
        dx = bag_sum(dy, None if c is None else take(c, order, 0), index=rows, start=ends)
    if needs[1]:
        dc = (take(dy, _bags(start), 0) * take(x, index, 0)).sum(axis=1)
    return dx, dc


bag_sum = operation("bag_sum", bag_sum_forward, backward=bag_sum_backward, rule=_bag_sum_rule)


def mean_weights(start: Any, dtype: Any) -> Any:
    """What turns ``bag_sum`` into the mean: for each entry one over the length of its bag."""
    return (1 / (start[1:] - start[:-1])[_bags(start)]).astype(dtype)


# -- bag_max -----------------------------------------------------------------------------------------------------------


@array_function
def bag_argmax(x: Any, index: Any, start: Any) -> Any:
    """The row of ``x`` that holds the first maximum of each bag in each column: int64 (B, d), 0 for an empty bag."""
    xp = array_module(x)
    bags, d = start.size - 1, x.shape[1]
    if is_outline(index) or index.size == 0:
        return array_module(index).zeros((bags, d), np.int64)
    length = start[1:] - start[:-1]
    place = start[:-1, None] + xp.minimum(xp.arange(length.max().item()), xp.maximum(length - 1, 0)[:, None])
    rows = index[xp.minimum(place, index.size - 1)]  # (B, longest): what lies beyond a bag's end is its last entry again
    best = x[rows].argmax(axis=1)
    return xp.where((length > 0)[:, None], xp.take_along_axis(rows, best, axis=1), 0)


_bag_argmax = operation("bag_argmax", bag_argmax)


def bag_max(x: Any, index: Any, start: Any) -> Tensor:
    """``y[b, j] = max x[index[k], j]``, zeros for an empty bag; a NaN is the maximum. Arguments as for ``bag_sum``."""
    x = as_tensor(x)
    if not index.size:
        return bag_sum(x, None, index=index, start=start)
    y = take_along_axis(x, _bag_argmax(x, index, start), 0)
    return where((start[1:] > start[:-1])[:, None], y, array_module(start).zeros((), x.dtype))


# -- kernels -----------------------------------------------------------------------------------------------------------

bags = KernelFile("embedding.cu")


@bag_sum_forward.kernel(accepts="contiguous float rows, at least one of at least one element, at least one bag")
def _(x: Any, c: Any, index: Any, start: Any) -> Any:
    if not (x.size and start.size > 1 and is_float(x.dtype) and x.flags.c_contiguous):
        return NotImplemented
    xp, dtype = array_module(x), accumulator(x.dtype)
    n, d = start.size - 1, x.shape[1]
    y = empty((n, d), dtype, like=x)
    c = None if c is None else xp.ascontiguousarray(c, dtype)
    width = d * (index.size // n + 1)
    ran = bags("bag_sum", x, n, width, x, c, xp.ascontiguousarray(index), start, y, n, d)
    return y.astype(x.dtype, copy=False) if ran else NotImplemented


@bag_argmax.kernel(accepts="contiguous float rows, at least one entry")
def _(x: Any, index: Any, start: Any) -> Any:
    if not (x.size and index.size and is_float(x.dtype) and x.flags.c_contiguous):
        return NotImplemented
    n, d = start.size - 1, x.shape[1]
    best = empty((n, d), np.int64, like=x)
    ran = bags("bag_argmax", x, n, d * (index.size // n + 1), x, index, start, best, n, d)
    return best if ran else NotImplemented
