"""Shapes and products in the array API's spelling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import is_view
from ..ops import indexing, shapes
from ..ops.axes import normalise_axis
from ..ops.elementwise import as_tensor
from ..ops.products import matmul
from ..ops.reductions import broadcast_to


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """``x`` with the axes of ``shape``, of which one may be -1: a view where the memory allows it.

    ``copy=True`` always copies; ``copy=False`` raises ValueError where a copy is needed.
    """
    x = as_tensor(x)
    y = shapes.reshape(x, shape)
    if copy:
        return shapes.copy(y)
    if copy is False and not is_view(y.data, x.data):
        raise ValueError(f"reshape: shape {x.shape} with the strides {x.data.strides} as {y.shape} is a copy, and copy=False "
                         "forbids one")
    return y


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged: a view. Raises ValueError where there are fewer."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: needs at least two axes, got shape {x.shape}")
    return shapes.swapaxes(x, -2, -1)


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The sum of products along ``axis``, a negative one, of both; the other axes broadcast."""
    x1, x2 = as_tensor(x1), as_tensor(x2)
    if axis >= 0:
        raise ValueError(f"vecdot: the axis is counted from the end, -1 for the last one, got {axis}")
    for x in (x1, x2):
        normalise_axis("vecdot", axis, x.ndim, x.shape)
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(f"vecdot: axis {axis} has {x1.shape[axis]} elements in the shape {x1.shape} and {x2.shape[axis]} in "
                         f"{x2.shape}; they are added up together")
    row = shapes.expand_dims(shapes.moveaxis(x1, axis, -1), -2)
    column = shapes.expand_dims(shapes.moveaxis(x2, axis, -1), -1)
    return shapes.squeeze(matmul(row, column), (-2, -1))


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to. Raises ValueError where they do not."""
    return tuple(np.broadcast_shapes(*shapes))


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """The arrays stretched to their common shape: views."""
    xs = [as_tensor(x) for x in arrays]
    shape = broadcast_shapes(*(x.shape for x in xs))
    return tuple(broadcast_to(x, shape) for x in xs)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinates of a grid: from n vectors, n tensors with n axes, each varying along its own.

    ``indexing``: "ij" keeps the order of the axes, "xy" exchanges the first two.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is 'xy' or 'ij', got {indexing!r}")
    xs = [as_tensor(x) for x in arrays]
    for k, x in enumerate(xs):
        if x.ndim > 1:
            raise ValueError(f"meshgrid: takes vectors, got shape {x.shape} for array {k}")
    n = len(xs)
    places = list(range(n))
    if indexing == "xy" and n > 1:
        places[:2] = 1, 0
    sides = [x.reshape([-1 if i == place else 1 for i in range(n)]) for x, place in zip(xs, places, strict=True)]
    return broadcast_arrays(*sides) if sides else ()


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """``x`` at integer ``indices`` along ``axis``, each fibre with its own."""
    return indexing.take_along_axis(x, indices, axis)
