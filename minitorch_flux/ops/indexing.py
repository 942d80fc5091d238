"""Reading at positions: x[index], take and take_along_axis; kernels in kernels/indexing.cu.

    x[index]          y[j] = x[i(j)]                              dx = 0;  dx[i(j)] += dy[j]
    take              y[.., j, ..] = x[.., i[j], ..]              dx[.., i[j], ..] += dy[.., j, ..]
    take_along_axis   y[.., j, ..] = x[.., i[.., j, ..], ..]      dx[.., i[.., j, ..], ..] += dy[.., j, ..]

Reading and adding up are each other's adjoints, so each one's gradient is the other. ``accumulate_rows`` forms the
sums: it sorts the positions and adds each one's rows in a fixed order, so the same call gives the same bits. Where no
position can come twice (slices, masks, orders of a sort) the gradient is an assignment.
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, as_array, empty, is_float
from ..readings import KernelFile
from .axes import normalise_axis
from .positions import Index, index_array, row_starts, stable_order


def zeros(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Zeros in memory from the pool, on the device of ``like``."""
    y = empty(shape, dtype, like=like)
    y.fill(0)
    return y


# -- accumulate_rows: the sum behind every gradient in this file -------------------------------------------------------


@array_function
def accumulate_rows(rows: Any, index: Any, n: int) -> Any:
    """``y[index[m]] += rows[m]``: rows (M, R), index (M,) in 0..n-1, y (n, R), zero where no row arrives.

    The rows of one position are added in pairs, then pairs of pairs: log2(M) rounds without a Python loop over rows, in
    a fixed order and with a smaller rounding error than one after the other. 16-bit floats are added up in float32.
    """
    xp = array_module(rows)
    y = zeros((n, rows.shape[1]), rows.dtype, rows)
    if rows.size == 0:
        return y
    order = stable_order(index, n)
    position = index[order]
    sums = rows[order].astype(accumulator(rows.dtype), copy=False)
    is_first = xp.ones(position.shape, bool)
    is_first[1:] = position[1:] != position[:-1]
    first = xp.flatnonzero(is_first)
    end = xp.append(first[1:], position.size)
    longest = int((end - first).max())
    at = xp.arange(position.size)
    group = xp.cumsum(is_first) - 1
    rank, end = at - first[group], end[group]
    step = 1
    while step < longest:  # sums[i] holds the rows i to i + step - 1 of its position
        at = at[(rank[at] % (2 * step) == 0) & (at + step < end[at])]
        sums[at] += sums[at + step]
        step *= 2
    y[position[first]] = sums[first]
    return y


accumulate_rows.whole = True


@accumulate_rows.outlined
def _(rows: Any, index: Any, n: int) -> Any:
    return empty((n, rows.shape[1]), rows.dtype, like=rows)


# -- take --------------------------------------------------------------------------------------------------------------


@array_function
def take_forward(x: Any, indices: Any, axis: int) -> Any:
    """``x`` at ``indices`` (int64, 0..n-1, any shape) along ``axis``."""
    return x.take(indices, axis)


@array_function
def take_backward(dy: Any, indices: Any, axis: int, shape: tuple[int, ...]) -> Any:
    """``dy`` added up at ``indices`` along ``axis`` of zeros of ``shape``."""
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    rows = dy.reshape(outer, indices.size, inner).swapaxes(0, 1).reshape(indices.size, outer * inner)
    sums = accumulate_rows(rows, indices.reshape(-1), shape[axis])
    if axis == 0 and len(shape) == 2:  # of a table: no view, so that it can be the gradient as it is
        return sums
    return sums.reshape(shape[axis], outer, inner).swapaxes(0, 1).reshape(shape)


_take = operation(
    "take",
    take_forward,
    backward=lambda dy, indices, axis, x_shape: (take_backward(dy, indices, axis, x_shape), None),
    rule=lambda dy, indices, axis, x_shape: (_take_back(dy, indices, axis=axis, shape=x_shape), None),
)
_take_back: Operation = operation(
    "take_backward",
    take_backward,
    backward=lambda dy, indices, axis: (take_forward(dy, indices, axis), None),
    rule=lambda dy, indices, axis: (_take(dy, indices, axis=axis), None),
)


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """``x`` at integer ``indices`` along ``axis`` (None: of the flattened ``x``), as ``numpy.take``.

    The shape is ``x.shape`` with ``axis`` replaced by the axes of ``indices``. Negative indices count from the end.
    Raises IndexError for an index outside, TypeError for indices that are not integers.
    """
    x = x if isinstance(x, Tensor) else Tensor(as_array(x))
    if axis is None:
        x, axis = x.reshape(x.size), 0
    axis = normalise_axis("take", axis, x.ndim, x.shape)
    return _take(x, index_array("take", indices, axis, x.data), axis=axis)


# -- take_along_axis ---------------------------------------------------------------------------------------------------


def take_along_axis_forward(x: Any, indices: Any, axis: int, unique: bool = False) -> Any:
    """``x`` at ``indices`` (int64, 0..n-1) along ``axis``, each fibre with its own indices."""
    return array_module(x).take_along_axis(x, indices, axis)


def take_along_axis_backward(dy: Any, indices: Any, axis: int, shape: tuple[int, ...], unique: bool = False) -> Any:
    """``dy`` added up at ``indices`` along ``axis`` of zeros of ``shape``; ``unique``: no position comes twice."""
    xp = array_module(dy)
    if unique:
        dx = zeros(shape, dy.dtype, dy)
        xp.put_along_axis(dx, indices, dy, axis)
        return dx
    position = indices * math.prod(shape[axis + 1 :])
    for i, n in enumerate(shape):
        if i != axis and n != 1:
            place = xp.arange(n) * math.prod(shape[i + 1 :])
            position = position + place.reshape((n,) + (1,) * (len(shape) - i - 1))
    position = xp.broadcast_to(position, dy.shape).reshape(-1)
    return accumulate_rows(dy.reshape(-1, 1), position, math.prod(shape)).reshape(shape)


_take_along_axis = operation(
    "take_along_axis",
    take_along_axis_forward,
    backward=lambda dy, indices, axis, unique, x_shape: (
        take_along_axis_backward(dy, indices, axis, x_shape, unique),
        None,
    ),
    rule=lambda dy, indices, axis, unique, x_shape: (
        _take_along_axis_back(dy, indices, axis=axis, shape=x_shape, unique=unique),
        None,
    ),
)
_take_along_axis_back: Operation = operation(
    "take_along_axis_backward",
    take_along_axis_backward,
    backward=lambda dy, indices, axis: (take_along_axis_forward(dy, indices, axis), None),
    rule=lambda dy, indices, axis, unique: (_take_along_axis(dy, indices, axis=axis, unique=unique), None),
)


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """``x`` at ``indices`` along ``axis`` (None: of the flattened ``x``), as ``numpy.take_along_axis``.

    ``indices`` has as many axes as ``x``; the others are equal, or broadcast where one of them has length 1.
    Raises IndexError for an index outside, ValueError for shapes that do not fit.
    """
    x = x if isinstance(x, Tensor) else Tensor(as_array(x))
    if axis is None:
        x, axis = x.reshape(x.size), 0
    axis = normalise_axis("take_along_axis", axis, x.ndim, x.shape)
    i = index_array("take_along_axis", indices, axis, x.data)
    check_beside("take_along_axis", i, axis, x.shape)
    spread = any(m > n for k, (m, n) in enumerate(zip(i.shape, x.shape, strict=True)) if k != axis)
    return _take_along_axis(x, i, axis=axis, unique=i.shape[axis] == 1 and not spread)


def take_sorted(x: Any, order: Any, axis: int) -> Tensor:
    """``take_along_axis`` for an order from argsort: no position comes twice, so the gradient is an assignment."""
    return _take_along_axis(x, order, axis=axis, unique=True)


def check_beside(op: str, i: Any, axis: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless ``i`` has the axes of ``shape``, each equal or of length 1, but for ``axis``."""
    if i.ndim != len(shape) or any(
        k != axis and m != n and 1 not in (m, n) for k, (m, n) in enumerate(zip(i.shape, shape, strict=True))
    ):
        raise ValueError(
            f"{op}: indices of shape {i.shape} do not fit an array of shape {shape} along axis {axis}: they "
            "have as many axes, the others equal or 1; for the same indices everywhere use take"
        )


# -- x[index] ----------------------------------------------------------------------------------------------------------


def getitem_forward(x: Any, index: Index) -> Any:
    """``x[index]``: a view for slices and integers, a copy for arrays."""
    try:
        return x[index.key]
    except IndexError as error:
        raise IndexError(f"x[index] with x of shape {x.shape}: {error}") from None


def getitem_backward(dy: Any, index: Index, shape: tuple[int, ...]) -> Any:
    """``dy`` added up at ``index`` of zeros of ``shape``."""
    if index.unique:
        dx = zeros(shape, dy.dtype, dy)
        dx[index.key] = dy
        return dx
    places = index.places(shape, dy)
    rows = places.to_front(dy)
    rest = rows.shape[places.ndim :]
    sums = accumulate_rows(rows.reshape(places.flat.size, math.prod(rest)), places.flat, math.prod(places.sizes))
    sums = array_module(dy).moveaxis(sums.reshape(*places.sizes, *rest), range(len(places.axes)), places.axes)
    if places.whole:
        return sums.reshape(shape)
    dx = zeros(shape, dy.dtype, dy)
    dx[places.basic] = sums
    return dx


_gradient_of_reading: dict[str, Any] = {
    "backward": lambda dy, index, x_shape: getitem_backward(dy, index, x_shape),
    "rule": lambda dy, index, x_shape: _getitem_back(dy, index=index, shape=x_shape),
}
_getitem_view = operation("getitem", getitem_forward, view=True, **_gradient_of_reading)
_getitem_copy = operation("getitem_arrays", getitem_forward, **_gradient_of_reading)
_getitem_back: Operation = operation(
    "getitem_backward",
    getitem_backward,
    backward=lambda dy, index: getitem_forward(dy, index),
    rule=lambda dy, index: read_at(dy, index),
)


def read_at(x: Any, index: Index) -> Tensor:
    """``x[index]`` for an index that has been read."""
    return (_getitem_copy if index.has_arrays else _getitem_view)(x, index=index)


def add_up_at(dy: Any, index: Index, shape: tuple[int, ...]) -> Tensor:
    """``dy`` added up at ``index`` of zeros of ``shape``: the adjoint of ``read_at``."""
    return _getitem_back(dy, index=index, shape=shape)


def getitem(x: Any, index: Any) -> Tensor:
    """``x[index]`` with everything that NumPy accepts as an index, and tensors.

    Integers, slices, ``...`` and None give a view; integer arrays, masks and lists a copy. Raises IndexError.
    """
    x = x if isinstance(x, Tensor) else Tensor(as_array(x))
    return read_at(x, Index.of("x[index]", index, x.data, keep=x.recorded))


# -- kernels -----------------------------------------------------------------------------------------------------------

indexing = KernelFile("indexing.cu")


@accumulate_rows.kernel(accepts="contiguous float rows, at least one")
def _(rows: Any, index: Any, n: int) -> Any:
    xp = array_module(rows)
    width = rows.shape[1]
    if not (rows.size and is_float(rows.dtype)):
        return NotImplemented
    order = stable_order(index, n)
    start = row_starts(index, n)
    y = empty((n, width), accumulator(rows.dtype), like=rows)
    ran = indexing("accumulate_rows", rows, n, width, xp.ascontiguousarray(rows), order, start, y, n, width)
    return y.astype(rows.dtype, copy=False) if ran else NotImplemented


@take_forward.kernel(accepts="rows of at least 16 floats of a contiguous array, 16384 elements in all")
def _(x: Any, indices: Any, axis: int) -> Any:
    inner = math.prod(x.shape[1:])  # of few elements a plain copy is faster
    if axis != 0 or inner < 16 or indices.size * inner < 16384 or not is_float(x.dtype):
        return NotImplemented
    if not (x.flags.c_contiguous and indices.flags.c_contiguous):
        return NotImplemented
    y = empty(indices.shape + x.shape[1:], x.dtype, like=x)
    return y if indexing("take_forward", x, indices.size, inner, x, indices, y, indices.size, inner) else NotImplemented
