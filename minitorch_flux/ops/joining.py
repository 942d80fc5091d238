"""Joining arrays and taking them apart: concatenate, stack, split and unstack.

    concatenate   y = x_1, x_2, ... one after the other along an axis      dx_k = its part of dy
    stack         the same along a new axis                                dx_k = dy at k
    split         y_k = x[start_k : end_k] along an axis                   dx = the dy_k one after the other
    unstack       y_k = x at k along an axis, which goes                   dx = the dy_k stacked

Each pair is one another's adjoint. The parts of split and unstack are views, and one operation makes them all, so the
gradient is put together once and not part by part.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import array_module, empty, is_array
from .axes import normalise_axis
from .shapes import as_tensor, atleast_1d, atleast_2d, atleast_3d, ravel

# -- forward and gradient ----------------------------------------------------------------------------------------------


def concatenate_forward(*xs: Any, axis: int) -> Any:
    """The arrays one after the other along ``axis``."""
    xp, shape = array_module(*xs), list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    return xp.concatenate(xs, axis, out=empty(tuple(shape), xp.result_type(*xs), like=xs[0]))


def stack_forward(*xs: Any, axis: int) -> Any:
    """The arrays, all of one shape, along a new ``axis``."""
    xp, shape = array_module(*xs), list(xs[0].shape)
    shape.insert(axis, len(xs))
    return xp.stack(xs, axis, out=empty(tuple(shape), xp.result_type(*xs), like=xs[0]))


def split_forward(x: Any, sizes: tuple[int, ...], axis: int) -> tuple[Any, ...]:
    """Parts with ``sizes`` elements along ``axis``: views."""
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(end - n, end))] for n, end in zip(sizes, accumulate(sizes), strict=True))


def unstack_forward(x: Any, axis: int) -> tuple[Any, ...]:
    """The parts along ``axis`` without that axis: views."""
    before = (slice(None),) * axis
    return tuple(x[(*before, i)] for i in range(x.shape[axis]))


def _sizes(shapes: Any, axis: int) -> tuple[int, ...]:
    return tuple(shape[axis] for shape in shapes)


def _all_parts(dys: Any, shapes: Any, dtype: Any, zeros: Any) -> Any:
    """The gradients of all parts, zeros for those that nothing came back to."""
    dys = dys if isinstance(dys, tuple) else (dys,)
    return [zeros(shape, dtype) if dy is None else dy for dy, shape in zip(dys, shapes, strict=True)]


def _part_shapes(shape: tuple[int, ...], sizes: tuple[int, ...], axis: int) -> list[tuple[int, ...]]:
    return [(*shape[:axis], n, *shape[axis + 1 :]) for n in sizes]


def _join_raw(dys: Any, shapes: Any, dtype: Any, axis: int, join: Any) -> Any:
    xp = array_module(*[dy for dy in (dys if isinstance(dys, tuple) else (dys,)) if dy is not None])
    return join(*_all_parts(dys, shapes, dtype, xp.zeros), axis=axis)


def _join_tensors(dys: Any, shapes: Any, dtype: Any, axis: int, join: Any) -> Any:
    first = next(dy for dy in (dys if isinstance(dys, tuple) else (dys,)) if dy is not None)
    return join(*_all_parts(dys, shapes, dtype, array_module(first.data).zeros), axis=axis)


_concatenate = operation(
    "concatenate",
    concatenate_forward,
    backward=lambda dy, shapes, axis: split_forward(dy, _sizes(shapes, axis), axis),
    rule=lambda dy, shapes, axis: _split(dy, sizes=_sizes(shapes, axis), axis=axis),
)
_stack = operation(
    "stack",
    stack_forward,
    backward=lambda dy, axis: unstack_forward(dy, axis),
    rule=lambda dy, axis: _unstack(dy, axis=axis),
)
_split: Operation = operation(
    "split",
    split_forward,
    outputs=None,
    view=True,
    backward=lambda dy, sizes, axis, x_shape, x_dtype: _join_raw(
        dy, _part_shapes(x_shape, sizes, axis), x_dtype, axis, concatenate_forward
    ),
    rule=lambda dy, sizes, axis, x_shape, x_dtype: _join_tensors(
        dy, _part_shapes(x_shape, sizes, axis), x_dtype, axis, _concatenate
    ),
)
_unstack: Operation = operation(
    "unstack",
    unstack_forward,
    outputs=None,
    view=True,
    backward=lambda dy, axis, x_shape, x_dtype: _join_raw(
        dy, [x_shape[:axis] + x_shape[axis + 1 :]] * x_shape[axis], x_dtype, axis, stack_forward
    ),
    rule=lambda dy, axis, x_shape, x_dtype: _join_tensors(
        dy, [x_shape[:axis] + x_shape[axis + 1 :]] * x_shape[axis], x_dtype, axis, _stack
    ),
)


# -- joining -----------------------------------------------------------------------------------------------------------


def _several(op: str, xs: Any) -> list[Tensor]:
    if isinstance(xs, Tensor) or is_array(xs):
        xs = unstack(xs)
    if not isinstance(xs, Sequence) or not len(xs):
        raise ValueError(
            f"{op}: takes a list of at least one array, got {xs!r:.60}; for one argument an array write "
            f"{op}([a, b], axis=...)"
        )
    return [as_tensor(x) for x in xs]


def concatenate(xs: Any, axis: int | None = 0) -> Tensor:
    """The arrays of the list ``xs`` one after the other along ``axis`` (None: each flattened first).

    Raises ValueError when another axis differs.
    """
    tensors = _several("concatenate", xs)
    if axis is None:
        tensors, axis = [ravel(x) for x in tensors], 0
    first = tensors[0].shape
    axis = normalise_axis("concatenate", axis, len(first), first)
    for k, x in enumerate(tensors):
        if x.ndim != len(first):
            raise ValueError(
                f"concatenate: array 0 has shape {first}, array {k} has shape {x.shape}: they need the same "
                "number of axes; stack joins along a new one"
            )
        for i, (m, n) in enumerate(zip(first, x.shape, strict=True)):
            if i != axis and m != n:
                raise ValueError(
                    f"concatenate: along axis {axis} all other axes must be equal, but axis {i} has length {m} "
                    f"in array 0 (shape {first}) and {n} in array {k} (shape {x.shape})"
                )
    return _concatenate(*tensors, axis=axis)


cat = concatenate


def stack(xs: Any, axis: int = 0) -> Tensor:
    """The arrays of the list ``xs``, all of one shape, along a new ``axis``."""
    tensors = _several("stack", xs)
    first = tensors[0].shape
    axis = normalise_axis("stack", axis, len(first) + 1)
    for k, x in enumerate(tensors):
        if x.shape != first:
            raise ValueError(
                f"stack: all arrays need one shape, but array 0 has {first} and array {k} has {x.shape}; "
                "concatenate joins along an axis that they have"
            )
    return _stack(*tensors, axis=axis)


def hstack(xs: Any) -> Tensor:
    """``concatenate`` along axis 1, along axis 0 for arrays with one axis."""
    tensors = [atleast_1d(x) for x in _several("hstack", xs)]
    return concatenate(tensors, 0 if tensors[0].ndim == 1 else 1)


def vstack(xs: Any) -> Tensor:
    """``concatenate`` along axis 0, of arrays made at least two-dimensional: rows below one another."""
    return concatenate([atleast_2d(x) for x in _several("vstack", xs)], 0)


def dstack(xs: Any) -> Tensor:
    """``concatenate`` along axis 2, of arrays made at least three-dimensional."""
    return concatenate([atleast_3d(x) for x in _several("dstack", xs)], 2)


# -- taking apart ------------------------------------------------------------------------------------------------------


def split(x: Any, sections_or_indices: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """Parts of ``x`` along ``axis``, as ``numpy.split``: a tuple of views.

    An int: that many equal parts. A list: the places where to cut, ``[2, 5]`` gives x[:2], x[2:5] and x[5:].
    Raises ValueError when equal parts are not possible; ``chunk`` makes the last one smaller.
    """
    x = as_tensor(x)
    axis = normalise_axis("split", axis, x.ndim, x.shape)
    n = x.shape[axis]
    if isinstance(sections_or_indices, tuple | list) or (is_array(sections_or_indices) and sections_or_indices.ndim):
        cuts = [slice(operator.index(i)).indices(n)[1] for i in sections_or_indices]
        starts, ends = [0, *cuts], [*cuts, n]
        if starts != sorted(starts):
            raise ValueError(f"split: the cuts {sections_or_indices} along axis {axis} (length {n}) must ascend")
        return _split(x, sizes=tuple(b - a for a, b in zip(starts, ends, strict=True)), axis=axis)
    parts = operator.index(sections_or_indices)
    if parts < 1 or n % parts:
        raise ValueError(
            f"split: axis {axis} of shape {x.shape} has length {n}, which is not {parts} equal parts; give the "
            "places where to cut, or use chunk"
        )
    return _split(x, sizes=(n // parts,) * parts, axis=axis)


def chunk(x: Any, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` parts of equal size along ``axis``, the last one perhaps smaller: a tuple of views.

    The size is ceil(n / chunks), so that there can be fewer parts. Source: PyTorch's ``chunk``.
    """
    x = as_tensor(x)
    axis = normalise_axis("chunk", axis, x.ndim, x.shape)
    if operator.index(chunks) < 1:
        raise ValueError(f"chunk: needs at least one part, got chunks={chunks}")
    n = x.shape[axis]
    size = max(-(-n // chunks), 1)
    return _split(x, sizes=tuple(min(size, n - at) for at in range(0, n, size)) or (0,) * chunks, axis=axis)


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts of ``x`` along ``axis``, each without that axis: a tuple of views; the inverse of ``stack``."""
    x = as_tensor(x)
    if not x.ndim:
        raise ValueError("unstack: a single number has no axis to take apart")
    return _unstack(x, axis=normalise_axis("unstack", axis, x.ndim, x.shape))
