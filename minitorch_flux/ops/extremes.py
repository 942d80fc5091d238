"""The largest and the smallest element over axes, and where it lies (kernels: kernels/extremes.cu).

    max            y = x_k, k = argmax x      dx_k = dy, the others 0      the first of equal elements; a NaN wins
    min            y = x_k, k = argmin x      likewise
    argmax, argmin                            no gradient

Axes and ``keepdims`` as in reductions.py. Two linear operations are each other's gradients: ``pick`` (one element along axes)
and ``place`` (puts it among zeros).
"""

from __future__ import annotations

from builtins import max as larger
from builtins import min as smaller
from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import array_function, array_module, empty, is_float
from ..readings import KernelFile
from .axes import normalise_axis
from .elementwise import as_tensor
from .reductions import axes_of, count_of, kept, runs_of

# -- references --------------------------------------------------------------------------------------------------------


def collapsed(x: Any, axis: tuple[int, ...]) -> Any:
    """``x`` with ``axis`` moved to the end and made one."""
    others = [i for i in range(x.ndim) if i not in axis]
    return x.transpose(*others, *axis).reshape(*(x.shape[i] for i in others), count_of(x.shape, axis))


@array_function
def max_forward(x: Any, axis: tuple[int, ...], keepdims: bool = False) -> Any:
    """The largest element of ``x`` over the axes of the tuple ``axis``."""
    return x.max(axis=axis, keepdims=keepdims)


@array_function
def min_forward(x: Any, axis: tuple[int, ...], keepdims: bool = False) -> Any:
    """The smallest element of ``x`` over the axes of the tuple ``axis``."""
    return x.min(axis=axis, keepdims=keepdims)


@array_function
def argmax_forward(x: Any, axis: tuple[int, ...]) -> Any:
    """The place of the first largest element, counted along the collapsed axes: int64."""
    return collapsed(x, axis).argmax(axis=-1)


@array_function
def argmin_forward(x: Any, axis: tuple[int, ...]) -> Any:
    """The place of the first smallest element, counted along the collapsed axes: int64."""
    return collapsed(x, axis).argmin(axis=-1)


def pick_forward(x: Any, index: Any, axis: tuple[int, ...], keepdims: bool = False) -> Any:
    """The elements of ``x`` at ``index``, which counts along the collapsed ``axis``."""
    y = array_module(x).take_along_axis(collapsed(x, axis), index[..., None], axis=-1)
    return y.reshape(kept(x.shape, axis) if keepdims else index.shape)


@array_function
def place_forward(y: Any, index: Any, axis: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Zeros of ``shape`` with the elements of ``y`` at ``index``, which counts along the collapsed ``axis``."""
    xp = array_module(y)
    n = count_of(shape, axis)
    x = xp.zeros(index.size * n, y.dtype)
    x[xp.arange(index.size) * n + index.reshape(-1)] = y.reshape(-1)
    others = [i for i in range(len(shape)) if i not in axis]
    back = sorted(range(len(shape)), key=[*others, *axis].__getitem__)
    return x.reshape([shape[i] for i in (*others, *axis)]).transpose(back)


# -- kernels -----------------------------------------------------------------------------------------------------------

extremes = KernelFile("extremes.cu")

FEW = 1 << 14
"""Of fewer elements NumPy finds the extremes as quickly."""
SHORT = 4
"""In shorter rows, too."""
TILE = 512  # columns of a row of the kernels
PART = 8192  # elements that one row looks through, where there are few rows
ROWS = 1024  # as many rows have work for every processor


def _split(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, int, int] | None:
    """``shape`` as (outer, n, inner), n over ``axis``; None where that is not to be had, or is nothing for the kernels."""
    runs = runs_of(shape, axis)
    found = [i for i, (added, _) in enumerate(runs) if added]
    if len(found) != 1:
        return None
    (i,) = found
    outer, n, inner = (runs[0][1] if i else 1), runs[i][1], (runs[-1][1] if i + 1 < len(runs) else 1)
    few = outer * n * inner < FEW or larger(n, inner) >= 1 << 31 or (inner == 1 and n < SHORT)
    return None if few else (outer, n, inner)


def extremes_of(x: Any, axis: tuple[int, ...], least: bool, values: bool, places: bool) -> Any:
    """``(y, index)`` without the axes, each None where it is not asked for; or NotImplemented."""
    split = _split(x.shape, axis) if is_float(x.dtype) and x.flags.c_contiguous else None
    if split is None or (values and split[2] > 1):
        return NotImplemented
    outer, n, inner = split
    chunk = n if outer * -(-inner // TILE) >= ROWS else smaller(n, larger(PART // inner, 64))
    parts = -(-n // chunk)
    y = empty((outer, parts, inner), x.dtype, like=x) if values or parts > 1 else None
    index = empty((outer, parts, inner), np.int64, like=x) if places else None
    arrays, constants = (x, y, index, outer, n), {"LEAST": int(least)}
    if inner == 1:
        ran = extremes("extreme_rows", x, outer * parts, chunk, *arrays, parts, chunk, constants=constants)
    else:
        tile = smaller(inner, TILE)
        rows = outer * parts * -(-inner // tile)
        ran = extremes("extreme_columns", x, rows, tile, *arrays, inner, parts, chunk, tile, constants=constants)
    if not ran:
        return NotImplemented
    if parts > 1:
        best = (argmin_forward if least else argmax_forward)(y, (1,))[:, None]
        xp = array_module(x)
        y, index = (a if a is None else xp.take_along_axis(a, best, axis=1) for a in (y, index))
    out = [m for i, m in enumerate(x.shape) if i not in axis]
    return tuple(a if a is None else a.reshape(out) for a in (y, index))


def _value(x: Any, axis: tuple[int, ...], keepdims: bool, least: bool) -> Any:
    found = extremes_of(x, axis, least, True, False)
    if found is NotImplemented:
        return found
    return found[0].reshape(kept(x.shape, axis)) if keepdims else found[0]


def _place_of(x: Any, axis: tuple[int, ...], least: bool) -> Any:
    found = extremes_of(x, axis, least, False, True)
    return found if found is NotImplemented else found[1]


LARGE = f"at least {FEW} elements, neighbouring axes, {SHORT} elements or more over the last ones"
ACCEPTS = f"contiguous floats, {LARGE}"
max_forward.kernel(accepts=f"{ACCEPTS}; the last axes only")(lambda x, axis, keepdims=False: _value(x, axis, keepdims, False))
min_forward.kernel(accepts=f"{ACCEPTS}; the last axes only")(lambda x, axis, keepdims=False: _value(x, axis, keepdims, True))
argmax_forward.kernel(accepts=ACCEPTS)(lambda x, axis: _place_of(x, axis, False))
argmin_forward.kernel(accepts=ACCEPTS)(lambda x, axis: _place_of(x, axis, True))


@place_forward.kernel(accepts=f"floats; of the result {LARGE}")
def _(y: Any, index: Any, axis: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    split = _split(shape, axis) if is_float(y.dtype) else None
    if split is None:
        return NotImplemented
    (outer, n, inner), xp = split, array_module(y)
    y, index, x = xp.ascontiguousarray(y), xp.ascontiguousarray(index), empty(shape, y.dtype, like=y)
    if inner == 1:
        ran = extremes("place_rows", y, outer, n, y, index, x, outer, n)
    else:
        ran = extremes("place_columns", y, outer * n, inner, y, index, x, outer, n, inner)
    return x if ran else NotImplemented


# -- the operations ----------------------------------------------------------------------------------------------------

pick = operation(
    "pick",
    pick_forward,
    backward=lambda dy, index, axis, x_shape: place_forward(dy, index, axis, x_shape),
    rule=lambda dy, index, axis, x_shape: _place(dy, index=index, axis=axis, shape=x_shape),
)
_place: Operation = operation(
    "place",
    place_forward,
    backward=lambda dy, index, axis, y_shape: pick_forward(dy, index, axis).reshape(y_shape),
    rule=lambda dy, index, axis, y_shape: pick(dy, index=index, axis=axis, keepdims=len(y_shape) == dy.ndim),
)
_max = operation(
    "max",
    max_forward,
    backward=lambda dy, x, axis: place_forward(dy, argmax_forward(x, axis), axis, x.shape),
    rule=lambda dy, x, axis: _place(dy, index=argmax_forward(x.data, axis), axis=axis, shape=x.shape),
)
_min = operation(
    "min",
    min_forward,
    backward=lambda dy, x, axis: place_forward(dy, argmin_forward(x, axis), axis, x.shape),
    rule=lambda dy, x, axis: _place(dy, index=argmin_forward(x.data, axis), axis=axis, shape=x.shape),
)


def _indices(f: Any) -> Any:
    def forward(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
        index = f(x, axis)
        return index.reshape(kept(x.shape, axis)) if keepdims else index

    return forward


_argmax = operation("argmax", _indices(argmax_forward))
_argmin = operation("argmin", _indices(argmin_forward))


# -- public functions --------------------------------------------------------------------------------------------------


def extreme_axes(name: str, axis: Any, x: Tensor) -> tuple[int, ...]:
    """The axes of a reduction that needs at least one element."""
    axes = axes_of(name, axis, x)
    if not count_of(x.shape, axes):
        raise ValueError(f"{name}: no elements to choose from over axis {axis} of an input of shape {x.shape}")
    return axes


def max(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The largest element over ``axis``; NaN where there is one.

    The gradient goes to the first of equal elements. Raises ValueError when there are no elements to choose from.
    """
    x = as_tensor(x)
    return _max(x, axis=extreme_axes("max", axis, x), keepdims=keepdims)


def min(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The smallest element over ``axis``; NaN where there is one.

    The gradient goes to the first of equal elements. Raises ValueError when there are no elements to choose from.
    """
    x = as_tensor(x)
    return _min(x, axis=extreme_axes("min", axis, x), keepdims=keepdims)


amax, amin = max, min


def _one_axis(name: str, axis: int | None, x: Tensor) -> tuple[int, ...]:
    axes = extreme_axes(name, axis, x)
    return axes if axis is None else (normalise_axis(name, axis, x.ndim, x.shape),)


def argmax(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """The place of the first largest element (or NaN) along ``axis``; None: in the array as one axis. int64."""
    x = as_tensor(x)
    return _argmax(x, axis=_one_axis("argmax", axis, x), keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """The place of the first smallest element (or NaN) along ``axis``; None: in the array as one axis. int64."""
    x = as_tensor(x)
    return _argmin(x, axis=_one_axis("argmin", axis, x), keepdims=keepdims)
