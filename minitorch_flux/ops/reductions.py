"""Reductions over axes, and their adjoints.

    sum     y = sum_i x_i              dx_i = dy
    mean    y = sum_i x_i / n          dx_i = dy / n
    prod    y = prod_i x_i             dx_i = dy prod_{j != i} x_j
    any, all, count_nonzero            no gradient

``axis`` is None (all axes), an axis or a tuple of axes, negative ones from the end; ``keepdims=True`` leaves them with
size one. dtypes as in NumPy; 16-bit floats are added up in float32.

``sum`` and ``spread``, which repeats along axes, are each other's gradients. max, min and their kin are in extremes.py.
"""

from __future__ import annotations

import math
from builtins import any as any_of
from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, empty, is_float
from ..readings import KernelFile
from . import scans  # noqa: F401  either.products_before is there
from .axes import normalise_axes
from .elementwise import as_tensor, either

# -- sum and spread ----------------------------------------------------------------------------------------------------


def kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with size one along ``axis``."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


@array_function
def sum_forward(x: Any, axis: tuple[int, ...], keepdims: bool = False, dtype: Any = None) -> Any:
    """Sum ``x`` over the axes of the tuple ``axis``. ``dtype``: of the result, where it is not that of ``x``."""
    if (x.dtype.itemsize > 2 and dtype is None) or not is_float(x.dtype):
        return x.sum(axis=axis, keepdims=keepdims)
    y = x.sum(axis=axis, keepdims=keepdims, dtype=accumulator(x.dtype))
    return y.astype(dtype or x.dtype, copy=False)


def spread_forward(y: Any, axis: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """``y`` repeated along ``axis`` to ``shape``: a read-only view."""
    return array_module(y).broadcast_to(y.reshape(kept(shape, axis)), shape)


_sum = operation(
    "sum",
    sum_forward,
    backward=lambda dy, axis, x_shape: spread_forward(dy, axis, x_shape),
    rule=lambda dy, axis, x_shape: _spread(dy, axis=axis, shape=x_shape),
)
_spread: Operation = operation(
    "spread",
    spread_forward,
    backward=lambda dy, axis, y_shape: sum_forward(dy, axis).reshape(y_shape),
    rule=lambda dy, axis, y_shape: _sum(dy, axis=axis, keepdims=len(y_shape) == dy.ndim),
)


def sum(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The sum over ``axis``. Booleans and small integers give int64, as in NumPy.

    Raises AxisError (a ValueError and an IndexError) when the input has no such axis.
    """
    x = as_tensor(x)
    return _sum(x, axis=axes_of("sum", axis, x), keepdims=keepdims)


def mean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The mean over ``axis``; integers give float64. The mean of no elements is NaN."""
    x = as_tensor(x)
    return _mean(x, axis=axes_of("mean", axis, x), keepdims=keepdims)


def axes_of(name: str, axis: Any, x: Tensor) -> tuple[int, ...]:
    """The axes that ``axis`` (None, a number, a tuple) means for ``x``: counted from the front, in order."""
    if axis is None:
        return tuple(range(x.data.ndim))
    return tuple(sorted(normalise_axes(name, axis, x.ndim, x.shape)))


def count_of(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    """How many elements are reduced to one."""
    return math.prod(shape[i] for i in axis)


@array_function
def mean_forward(x: Any, axis: tuple[int, ...], keepdims: bool = False) -> Any:
    """The mean of ``x`` over the axes of the tuple ``axis``."""
    n = count_of(x.shape, axis)
    if x.dtype.itemsize > 2 or not is_float(x.dtype):
        return sum_forward(x, axis, keepdims) / n
    return (sum_forward(x, axis, keepdims, accumulator(x.dtype)) / n).astype(x.dtype, copy=False)


_mean = operation(
    "mean",
    mean_forward,
    backward=lambda dy, axis, x_shape: spread_forward(dy / (count_of(x_shape, axis) or 1), axis, x_shape),
    rule=lambda dy, axis, x_shape: _spread(dy / (count_of(x_shape, axis) or 1), axis=axis, shape=x_shape),
)


# -- broadcasting and its adjoint --------------------------------------------------------------------------------------


@array_function
def sum_to_forward(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``x`` over the axes that broadcasting ``shape`` to ``x.shape`` has added or stretched."""
    extra = x.ndim - len(shape)
    axis = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 != x.shape[i + extra]))
    return (sum_forward(x, axis) if axis else x).reshape(shape)


@array_function
def broadcast_to_forward(x: Any, shape: tuple[int, ...]) -> Any:
    """``x`` stretched to ``shape``: a read-only view without a copy."""
    return array_module(x).broadcast_to(x, shape)


_sum_to = operation(
    "sum_to",
    sum_to_forward,
    backward=lambda dy, x_shape: broadcast_to_forward(dy, x_shape),
    rule=lambda dy, x_shape: _broadcast_to(dy, shape=x_shape),
)
_broadcast_to: Operation = operation(
    "broadcast_to",
    broadcast_to_forward,
    backward=lambda dy, x_shape: sum_to_forward(dy, x_shape),
    rule=lambda dy, x_shape: _sum_to(dy, shape=x_shape),
    view=True,
)


def sum_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """Sum ``x`` down to ``shape``, a shape that broadcasts to ``x.shape``: the adjoint of ``broadcast_to``.

    Raises ValueError where it does not.
    """
    x, shape = as_tensor(x), (shape,) if isinstance(shape, int) else tuple(shape)
    if x.shape == shape:
        return x
    extra = x.ndim - len(shape)
    if extra < 0 or any_of(n not in (1, m) for n, m in zip(shape, x.shape[extra:], strict=True)):
        raise ValueError(f"sum_to: {shape} does not stretch to the input's shape {x.shape}; sizes must be equal, or 1 in the "
                         "new shape")
    return _sum_to(x, shape=shape)


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """``x`` stretched to ``shape`` by NumPy's rules: a view. Raises ValueError when the shapes do not fit."""
    x, shape = as_tensor(x), (shape,) if isinstance(shape, int) else tuple(shape)
    try:
        return _broadcast_to(x, shape=shape)
    except ValueError as error:
        raise ValueError(f"broadcast_to: an input of shape {x.shape} does not stretch to {shape}; sizes must be equal, "
                         "or 1 in the input") from error


# -- products ----------------------------------------------------------------------------------------------------------


@array_function
def prod_forward(x: Any, axis: int, keepdims: bool = False) -> Any:
    """The product of ``x`` along one axis."""
    if is_float(x.dtype) and x.dtype.itemsize == 2:
        return x.prod(axis=axis, keepdims=keepdims, dtype=accumulator(x.dtype)).astype(x.dtype)
    return x.prod(axis=axis, keepdims=keepdims)


def _prod_gradient(dy: Any, x: Any, axis: int) -> Any:
    others = either.products_before(x, axis=axis, reverse=False) * either.products_before(x, axis=axis, reverse=True)
    return either.spread(dy, axis=(axis,), shape=x.shape) * others


_prod = operation("prod", prod_forward, gradient=_prod_gradient)


def prod(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The product over ``axis``; its gradient is right where some elements are zero, too.

    Booleans and small integers give int64, as in NumPy.
    """
    x = as_tensor(x)
    axes = axes_of("prod", axis, x)
    if not axes:
        return _sum(x, axis=axes)  # of single elements: themselves, in the dtype of a product
    for i in reversed(axes):  # one axis at a time: the gradient is a scan along it
        x = _prod(x, axis=i, keepdims=keepdims)
    return x


# -- not differentiable ------------------------------------------------------------------------------------------------

_any = operation("any", lambda x, axis, keepdims=False: x.any(axis=axis, keepdims=keepdims))
_all = operation("all", lambda x, axis, keepdims=False: x.all(axis=axis, keepdims=keepdims))
_count_nonzero = operation("count_nonzero", lambda x, axis, keepdims: (x != 0).sum(axis=axis, keepdims=keepdims))


def any(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Whether an element over ``axis`` is true (not zero); of no elements: False."""
    x = as_tensor(x)
    return _any(x, axis=axes_of("any", axis, x), keepdims=keepdims)


def all(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Whether every element over ``axis`` is true (not zero); of no elements: True."""
    x = as_tensor(x)
    return _all(x, axis=axes_of("all", axis, x), keepdims=keepdims)


def count_nonzero(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The number of elements over ``axis`` that are not zero (NaN counts): int64."""
    x = as_tensor(x)
    return _count_nonzero(x, axis=axes_of("count_nonzero", axis, x), keepdims=keepdims)

# -- kernels -----------------------------------------------------------------------------------------------------------

reductions = KernelFile("reductions.cu")

FEW = 1 << 16
"""Fewer elements are added up by NumPy as quickly."""


def runs_of(shape: tuple[int, ...], axis: tuple[int, ...]) -> list[tuple[bool, int]]:
    """The axes as runs of neighbours that are added up, or kept, together: (added up, number of elements)."""
    runs: list[tuple[bool, int]] = []
    for i, n in enumerate(shape):
        if n > 1:
            last = runs.pop() if runs and runs[-1][0] == (i in axis) else (i in axis, 1)
            runs.append((last[0], last[1] * n))
    return runs


@sum_forward.kernel(accepts=f"contiguous floats, at least {FEW} elements, at least one axis longer than 1")
def _(x: Any, axis: tuple[int, ...], keepdims: bool = False, dtype: Any = None) -> Any:
    if x.size < FEW or not x.flags.c_contiguous or not is_float(x.dtype):
        return NotImplemented
    runs = runs_of(x.shape, axis)
    if not any_of(added for added, _ in runs):
        return NotImplemented
    last, n = runs[-1]
    if last:  # the last run is added up: rows of n elements
        width, chunk = n, 4096
        parts, outer = -(-n // chunk), x.size // n
        y = empty((outer, parts), accumulator(x.dtype), like=x)
        ran = reductions("sum_rows", x, outer * parts, min(chunk, n), x, y, outer, n, parts, chunk)
        sizes = [m for _, m in runs[:-1]]
    else:  # the last run is kept: columns, several beside each other where they are few
        rows = runs[-2][1]
        beside = max(min(-(-512 // n), rows // 32), 1)
        width = beside * n
        chunk = min(max(65536 // width, 64), 512)
        parts, outer = -(-rows * n // (chunk * width)), x.size // (rows * n)
        y = empty((outer, parts * beside, n), accumulator(x.dtype), like=x)
        ran = reductions("sum_columns", x, outer * parts, width, x, y, outer, rows * n, width, parts, chunk)
        sizes = [m for _, m in runs[:-2]]
    if not ran:
        return NotImplemented
    partial = y.reshape(*sizes, *y.shape[1:])
    added = [i for i, (added, _) in enumerate(runs[: len(sizes)]) if added]
    if added or partial.shape[len(sizes)] > 1:
        y = sum_forward(partial, (*added, len(sizes)), dtype=dtype or x.dtype)
    else:
        y = partial.astype(dtype or x.dtype, copy=False)
    return y.reshape(kept(x.shape, axis) if keepdims else [n for i, n in enumerate(x.shape) if i not in axis])
