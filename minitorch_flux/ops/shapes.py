"""Shapes, the order of axes, and dtypes: what moves numbers about and computes nothing.

    reshape     y[flat i] = x[flat i]              dx = dy in the shape of x
    transpose   y[i_axes] = x[i]                   dx = dy with the axes put back
    flip        y[i] = x[n - 1 - i]                dx[i] = dy[n - 1 - i]
    roll        y[(i + shift) mod n] = x[i]        dx[i] = dy[(i + shift) mod n]
    astype      y = x in another dtype             dx = dy in the dtype of x

The others are made of these: squeeze, expand_dims, ravel, flatten and atleast_*d of reshape; swapaxes and moveaxis of
transpose; tile and repeat of reshape and broadcast_to. reshape, transpose and flip give views.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import array_module, as_array, refuse_complex
from .arithmetic import broadcast_to
from .axes import normalise_axes, normalise_axis
from .casts import astype_forward
from .indexing import take


def as_tensor(x: Any) -> Tensor:
    """``x`` itself when it is a tensor, a constant tensor otherwise."""
    return x if isinstance(x, Tensor) else Tensor(as_array(x))


# -- reshape and what is made of it ------------------------------------------------------------------------------------


def reshape_forward(x: Any, shape: tuple[int, ...]) -> Any:
    """``x`` in another shape; one entry may be -1."""
    try:
        return x.reshape(shape)
    except ValueError:
        raise ValueError(_misfit(x.shape, shape)) from None


def _misfit(old: tuple[int, ...], new: tuple[int, ...]) -> str:
    size, known = math.prod(old), math.prod(n for n in new if n >= 0)
    start = f"reshape: shape {old} has {size} elements"
    if any(n < -1 for n in new) or new.count(-1) > 1:
        return (
            f"{start}; the new shape {new} can have one -1, which stands for what is left, and no other negative length"
        )
    if -1 not in new:
        return f"{start}, the new shape {new} {known}"
    if known == 0:
        return f"{start}, and in the new shape {new} the -1 could be anything beside a 0: write its length"
    return f"{start}, which is no multiple of {known}, as the new shape {new} needs"


_reshape = operation("reshape", reshape_forward, gradient=lambda dy, x_shape: dy.reshape(x_shape), view=True)


def reshape(x: Any, shape: Any) -> Tensor:
    """``x`` with the axes of ``shape`` and the same elements in the same (row-major) order.

    One length may be -1: what is left. Raises ValueError when the numbers of elements differ.
    """
    shape = tuple(shape) if isinstance(shape, tuple | list) else (operator.index(shape),)
    if shape and min(shape) < -1:  # NumPy takes any negative length for -1
        raise ValueError(_misfit(as_tensor(x).shape, shape))
    return _reshape(x, shape=shape)


def ravel(x: Any) -> Tensor:
    """All elements in row-major order: one axis."""
    x = as_tensor(x)
    return _reshape(x, shape=(x.size,))


def flatten(x: Any) -> Tensor:
    """``(N, C, H, W)`` to ``(N, C H W)``: all axes but the first made one, as the layer in a Chain.

    ``Tensor.flatten()`` is NumPy's method, which makes one axis of all. Source: Flux's ``flatten``.
    """
    x = as_tensor(x)
    if x.ndim == 0:
        raise ValueError("flatten: needs a batch axis, got a single number")
    return _reshape(x, shape=(x.shape[0], math.prod(x.shape[1:])))


def squeeze(x: Any, axis: Any = None) -> Tensor:
    """``x`` without the axes of length 1: all of them, or those of ``axis`` (an int or a tuple)."""
    x = as_tensor(x)
    if axis is None:
        return _reshape(x, shape=tuple(n for n in x.shape if n != 1))
    axes = normalise_axes("squeeze", axis, x.ndim, x.shape)
    for i in axes:
        if x.shape[i] != 1:
            raise ValueError(
                f"squeeze: axis {i} of shape {x.shape} has length {x.shape[i]}; only axes of length 1 can be left out"
            )
    return _reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


def expand_dims(x: Any, axis: Any) -> Tensor:
    """``x`` with new axes of length 1 at ``axis`` (an int or a tuple), counted in the result."""
    x = as_tensor(x)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    axes = normalise_axes("expand_dims", axis, x.ndim + count)
    old = iter(x.shape)
    return _reshape(x, shape=tuple(1 if i in axes else next(old) for i in range(x.ndim + count)))


def atleast_1d(x: Any) -> Tensor:
    """``x``; a single number as an array with one axis."""
    x = as_tensor(x)
    return x if x.ndim else _reshape(x, shape=(1,))


def atleast_2d(x: Any) -> Tensor:
    """``x`` with new axes in front until there are two."""
    x = as_tensor(x)
    return x if x.ndim >= 2 else _reshape(x, shape=(1,) * (2 - x.ndim) + x.shape)


def atleast_3d(x: Any) -> Tensor:
    """``x`` with at least three axes: ``(n,)`` becomes ``(1, n, 1)``, ``(m, n)`` becomes ``(m, n, 1)``, as in NumPy."""
    x = as_tensor(x)
    return x if x.ndim >= 3 else _reshape(x, shape=(1,) * (x.ndim < 2) + x.shape + (1,) * (1 + (x.ndim == 0)))


# -- the order of axes -------------------------------------------------------------------------------------------------


def transpose_forward(x: Any, axes: tuple[int, ...]) -> Any:
    """``x`` with its axes in the order ``axes``: a view."""
    return x.transpose(axes)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


_transpose = operation(
    "transpose", transpose_forward, gradient=lambda dy, axes: dy.transpose(_inverse(axes)), view=True
)


def transpose(x: Any, axes: Any = None) -> Tensor:
    """``x`` with its axes in the order ``axes`` (default: reversed): a view. ``swapaxes`` exchanges two of them."""
    x = as_tensor(x)
    if axes is None:
        return _transpose(x, axes=tuple(range(x.ndim))[::-1])
    order = normalise_axes("transpose", axes, x.ndim, x.shape)
    if len(order) != x.ndim:
        raise ValueError(
            f"transpose: axes {tuple(axes)} name {len(order)} of the {x.ndim} axes of an array of shape "
            f"{x.shape}: name each once; swapaxes(i, j) exchanges two"
        )
    return _transpose(x, axes=order)


permute = transpose


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """``x`` with two axes exchanged: a view."""
    x = as_tensor(x)
    i = normalise_axis("swapaxes", axis1, x.ndim, x.shape)
    j = normalise_axis("swapaxes", axis2, x.ndim, x.shape)
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return _transpose(x, axes=tuple(order))


def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """``x`` with the axes ``source`` (an int or a tuple) moved to ``destination``, the others in order: a view."""
    x = as_tensor(x)
    sources = normalise_axes("moveaxis", source, x.ndim, x.shape)
    destinations = normalise_axes("moveaxis", destination, x.ndim, x.shape)
    if len(sources) != len(destinations):
        raise ValueError(f"moveaxis: source {source} and destination {destination} have different lengths")
    order = [i for i in range(x.ndim) if i not in sources]
    for to, i in sorted(zip(destinations, sources, strict=True)):
        order.insert(to, i)
    return _transpose(x, axes=tuple(order))


# -- flip, roll, rot90 -------------------------------------------------------------------------------------------------


def flip_forward(x: Any, axes: tuple[int, ...]) -> Any:
    """``x`` with the order along ``axes`` reversed: a view."""
    return x[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))]


def roll_forward(x: Any, shift: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """``x`` moved by ``shift`` along ``axes``; what leaves at one end comes in at the other."""
    return array_module(x).roll(x, shift, axes)


def _back(shift: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-s for s in shift)


_flip: Operation = operation(
    "flip",
    flip_forward,
    view=True,
    backward=lambda dy, axes: flip_forward(dy, axes),
    rule=lambda dy, axes: _flip(dy, axes=axes),
)
_roll: Operation = operation(
    "roll",
    roll_forward,
    backward=lambda dy, shift, axes: roll_forward(dy, _back(shift), axes),
    rule=lambda dy, shift, axes: _roll(dy, shift=_back(shift), axes=axes),
)


def flip(x: Any, axis: Any = None) -> Tensor:
    """``x`` with the order of the elements along ``axis`` (None: all, an int or a tuple) reversed: a view."""
    x = as_tensor(x)
    return _flip(x, axes=normalise_axes("flip", axis, x.ndim, x.shape))


def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """``x`` moved by ``shift`` along ``axis``; what leaves at one end comes in at the other. None: as if it were flat.

    Tuples move along several axes; one ``shift`` serves all of ``axis``.
    """
    x = as_tensor(x)
    if axis is None:
        return _reshape(roll(ravel(x), shift, 0), shape=x.shape)
    axes = normalise_axes("roll", axis, x.ndim, x.shape)
    shifts = (
        tuple(map(operator.index, shift)) if isinstance(shift, tuple | list) else (operator.index(shift),) * len(axes)
    )
    if len(shifts) != len(axes):
        raise ValueError(
            f"roll: {len(shifts)} shifts {shifts} for {len(axes)} axes {axes}: give one for each, or one int"
        )
    return _roll(x, shift=shifts, axes=axes)


def rot90(x: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """``x`` turned ``k`` times by 90 degrees in the plane of ``axes``, from the first towards the second."""
    x = as_tensor(x)
    plane = normalise_axes("rot90", tuple(axes), x.ndim, x.shape)
    if len(plane) != 2:
        raise ValueError(f"rot90: a plane has two axes, got {axes}")
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return flip(x, plane)
    return swapaxes(flip(x, plane[1]), *plane) if k == 1 else flip(swapaxes(x, *plane), plane[1])


# -- tile and repeat ---------------------------------------------------------------------------------------------------


def tile(x: Any, reps: Any) -> Tensor:
    """``x`` repeated as a whole ``reps`` times (an int, or one for each of the last axes), as ``numpy.tile``."""
    x = as_tensor(x)
    counts = tuple(map(operator.index, reps)) if isinstance(reps, tuple | list) else (operator.index(reps),)
    if any(n < 0 for n in counts):
        raise ValueError(f"tile: cannot repeat {counts} times")
    ndim = max(x.ndim, len(counts))
    counts, sizes = (1,) * (ndim - len(counts)) + counts, (1,) * (ndim - x.ndim) + x.shape
    y = _reshape(x, shape=tuple(n for size in sizes for n in (1, size)))
    y = broadcast_to(y, tuple(n for pair in zip(counts, sizes, strict=True) for n in pair))
    return _reshape(y, shape=tuple(c * n for c, n in zip(counts, sizes, strict=True)))


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element along ``axis`` (None: of the flattened ``x``) ``repeats`` times in a row, as ``numpy.repeat``.

    ``repeats``: an int, or one int for each element.
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalise_axis("repeat", axis, x.ndim, x.shape)
    n = x.shape[axis]
    counts = np.asarray(repeats.numpy() if isinstance(repeats, Tensor) else repeats)
    if counts.dtype.kind not in "iu" and counts.size or counts.ndim > 1 or counts.size not in (1, n):
        raise ValueError(
            f"repeat: repeats is an integer, or one for each of the {n} elements along axis {axis} of an array "
            f"of shape {x.shape}; got shape {counts.shape}, dtype {counts.dtype}"
        )
    if (counts < 0).any():
        raise ValueError(f"repeat: cannot repeat {int(counts.min())} times")
    if counts.size != 1:
        return take(x, array_module(x.data).asarray(np.repeat(np.arange(n), counts.astype(np.int64))), axis)
    before, after, count = x.shape[:axis], x.shape[axis + 1 :], int(counts.reshape(()))
    y = broadcast_to(_reshape(x, shape=(*before, n, 1, *after)), (*before, n, count, *after))
    return _reshape(y, shape=(*before, n * count, *after))


# -- dtype -------------------------------------------------------------------------------------------------------------


_astype = operation(
    "astype",
    astype_forward,
    backward=lambda dy, x_dtype: astype_forward(dy, x_dtype),
    rule=lambda dy, x_dtype: dy.astype(x_dtype),
    view=True,
)
_copy = operation("copy", lambda x: x.copy(), gradient=lambda dy: dy)


def astype(x: Any, dtype: Any) -> Tensor:
    """``x`` in another dtype. Gradients flow between floating-point dtypes; integers and booleans are constants."""
    dtype = np.dtype(dtype)
    refuse_complex(dtype, "astype")
    return _astype(x, dtype=dtype)


def copy(x: Any) -> Tensor:
    """The same numbers in contiguous memory of their own; gradients flow through."""
    return _copy(x)
