"""Scans: running sums and products along an axis, and the linear recurrence behind their gradients.

    cumsum           y_i = x_0 + ... + x_i       dx_i = dy_i + dy_{i+1} + ...: the same from the other end
    cumprod          y_i = x_0 ... x_i           dx_i = p_i g_i,  g_i = dy_i + x_{i+1} g_{i+1}
    products_before  p_i = x_0 ... x_{i-1}       dx_i = p_i g_i,  g_i = dp_{i+1} + x_{i+1} g_{i+1}
    recurrence       s_i = b_i + a_i s_{i-1}     db_i = g_i,      g_i = ds_i + a_{i+1} g_{i+1},   da_i = g_i s_{i-1}
    shift            y_i = x_{i-1}, y_0 = 0      dx_i = dy_{i+1}

Nothing is divided by x, so zeros are as good as other numbers. Each gradient consists of these five, so that
derivatives of every order are right. ``reverse=True`` scans from the other end: i-1 and i+1 change places. The kernels
are in kernels/scans.cu.
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty_like, is_float
from ..readings import KernelFile
from .axes import normalise_axis
from .elementwise import as_tensor, either


def _slices(ndim: int, axis: int, *parts: Any) -> list[tuple[Any, ...]]:
    """An index for each part: the part along ``axis``, everything along the others."""
    return [(*(slice(None),) * axis, part, *(slice(None),) * (ndim - axis - 1)) for part in parts]


def _scan(name: str, x: Any, axis: int, reverse: bool) -> Any:
    """NumPy's ``cumsum`` or ``cumprod`` in a sufficient dtype, from either end."""
    ends = _slices(x.ndim, axis, slice(None, None, -1 if reverse else 1))[0]
    short = is_float(x.dtype) and x.dtype.itemsize == 2
    y = getattr(array_module(x), name)(x[ends], axis=axis, dtype=accumulator(x.dtype) if short else None)[ends]
    return y.astype(x.dtype) if short else y


@array_function
def cumsum_forward(x: Any, axis: int, reverse: bool = False) -> Any:
    """Running sums of ``x`` along ``axis``."""
    return _scan("cumsum", x, axis, reverse)


@array_function
def cumprod_forward(x: Any, axis: int, reverse: bool = False) -> Any:
    """Running products of ``x`` along ``axis``."""
    return _scan("cumprod", x, axis, reverse)


@array_function
def products_before_forward(x: Any, axis: int, reverse: bool = False) -> Any:
    """The product of all elements before each one along ``axis``; 1 for the first."""
    y = empty_like(x)
    if x.shape[axis]:
        ones, rest, others = _slices(
            x.ndim, axis, *((-1, slice(None, -1), slice(1, None)) if reverse else (0, slice(1, None), slice(None, -1)))
        )
        y[ones] = 1
        y[rest] = cumprod_forward(x[others], axis, reverse)
    return y


@array_function
def recurrence_forward(a: Any, b: Any, axis: int, reverse: bool = False) -> Any:
    """``s_i = b_i + a_i s_{i-1}`` along ``axis``; the first is b alone."""
    s = empty_like(b)
    n = b.shape[axis]
    indices = _slices(b.ndim, axis, *(range(n - 1, -1, -1) if reverse else range(n)))
    if n:
        s[indices[0]] = b[indices[0]]
    for before, i in zip(indices, indices[1:], strict=False):
        s[i] = b[i] + a[i] * s[before]
    return s


def shift_forward(x: Any, axis: int, reverse: bool = False) -> Any:
    """Each element's predecessor along ``axis`` (``reverse``: successor), 0 where there is none."""
    y = empty_like(x)
    if x.shape[axis]:
        zero, rest, others = _slices(
            x.ndim, axis, *((-1, slice(None, -1), slice(1, None)) if reverse else (0, slice(1, None), slice(None, -1)))
        )
        y[zero] = 0
        y[rest] = x[others]
    return y


def _cumprod_gradient(dy: Any, x: Any, axis: Any, reverse: Any) -> Any:
    g = either.recurrence(either.shift(x, axis=axis, reverse=not reverse), dy, axis=axis, reverse=not reverse)
    return either.products_before(x, axis=axis, reverse=reverse) * g


def _products_before_gradient(dy: Any, x: Any, out: Any, axis: Any, reverse: Any) -> Any:
    later = {"axis": axis, "reverse": not reverse}
    return out * either.recurrence(either.shift(x, **later), either.shift(dy, **later), **later)


def _recurrence_gradient(dy: Any, a: Any, out: Any, axis: Any, reverse: Any) -> Any:
    later = {"axis": axis, "reverse": not reverse}
    g = either.recurrence(either.shift(a, **later), dy, **later)
    return g * either.shift(out, axis=axis, reverse=reverse), g


_cumsum = operation(
    "cumsum", cumsum_forward, gradient=lambda dy, axis, reverse: either.cumsum(dy, axis=axis, reverse=not reverse)
)
_cumprod = operation("cumprod", cumprod_forward, gradient=_cumprod_gradient)
products_before = operation("products_before", products_before_forward, gradient=_products_before_gradient)
recurrence = operation("recurrence", recurrence_forward, gradient=_recurrence_gradient)
_shift = operation(
    "shift", shift_forward, gradient=lambda dy, axis, reverse: either.shift(dy, axis=axis, reverse=not reverse)
)



def _along(name: str, x: Any, axis: Any) -> tuple[Tensor, int]:
    x = as_tensor(x)
    if axis is None:
        return x.reshape(-1), 0
    return x, normalise_axis(name, axis, x.ndim, x.shape)


def cumsum(x: Any, axis: int | None = None) -> Tensor:
    """Running sums along ``axis``: ``y_i = x_0 + ... + x_i``. None: of all elements in row-major order, as one axis.

    The shape is that of ``x``; dtypes as in NumPy (small integers and booleans give int64).
    Raises AxisError when the input has no such axis.
    """
    x, axis = _along("cumsum", x, axis)
    return _cumsum(x, axis=axis)


def cumprod(x: Any, axis: int | None = None) -> Tensor:
    """Running products along ``axis``: ``y_i = x_0 ... x_i``. None: of all elements in row-major order, as one axis.

    The gradient is right where some elements are zero, too. Raises AxisError when the input has no such axis.
    """
    x, axis = _along("cumprod", x, axis)
    return _cumprod(x, axis=axis)


# -- kernels -----------------------------------------------------------------------------------------------------------

scans = KernelFile("scans.cu")

FEW = 1 << 12
"""Fewer elements are scanned by NumPy as quickly."""
TILE = 1024  # columns of a row of the kernels


def _launch_scan(x: Any, axis: int, reverse: bool, product: bool) -> Any:
    if not (is_float(x.dtype) and x.size >= FEW):
        return NotImplemented
    x, y = contiguous(x), empty_like(x)
    outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    constants = {"PRODUCT": int(product)}
    if inner == 1:
        ran = scans("scan_rows", x, outer, n, x, y, outer, n, reverse, constants=constants)
    else:
        tile = min(inner, TILE)
        rows = outer * -(-inner // tile)
        ran = scans("scan_columns", x, rows, tile, x, y, outer, n, inner, reverse, tile, constants=constants)
    return y if ran else NotImplemented


ACCEPTS = f"floats, at least {FEW} elements; copied where they are not contiguous"
cumsum_forward.kernel(accepts=ACCEPTS)(lambda x, axis, reverse=False: _launch_scan(x, axis, reverse, False))
cumprod_forward.kernel(accepts=ACCEPTS)(lambda x, axis, reverse=False: _launch_scan(x, axis, reverse, True))


@recurrence_forward.kernel(accepts="floats of one dtype; copied where they are not contiguous")
def _(a: Any, b: Any, axis: int, reverse: bool = False) -> Any:
    if not (a.dtype == b.dtype and is_float(b.dtype)):
        return NotImplemented
    a, b, s = contiguous(a), contiguous(b), empty_like(b)
    outer, n, inner = math.prod(b.shape[:axis]), b.shape[axis], math.prod(b.shape[axis + 1 :])
    return s if scans("recurrence_forward", b, outer, inner, a, b, s, outer, n, inner, reverse) else NotImplemented
