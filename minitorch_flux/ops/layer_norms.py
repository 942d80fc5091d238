"""Normalisation over the last axes of an array (kernels: kernels/layer_norms.cu).

    layer_norm   h = (x - m) scale      scale = 1 / (s + eps), or 1 / sqrt(s^2 + eps) with eps_inside
                 y = h w + b            m, s: the mean and the (biased) standard deviation over the last axes

                 g = dy w               dx = scale (g - mean g - (x - m) slope mean(g h))
                 dw = sum dy h          slope = 1 / s, and 0 where s is 0;  scale with eps_inside
                 db = sum dy

    rms_norm     h = x scale            scale = 1 / sqrt(mean x^2 + eps)
                 y = h w                dx = scale (g - h mean(g h)),  dw = sum dy h

x (..., *sizes), w and b (*sizes) or None; means over *sizes, sums over all other axes. 16-bit floats are computed in
float32; w and b may be float32 then, too: y and dx have the dtype of x, dw and db that of w. x - m is formed as
(x - x_0) - (m - x_0) with the first element x_0, which loses no digits however large the mean is, and makes it exactly 0
for equal numbers. Nothing is kept for the gradient but x and two numbers for each row.
Sources: Ba, Kiros, Hinton, "Layer normalization", 2016; Zhang, Sennrich, "Root mean square layer normalization", 2019.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty, is_float
from ..readings import KernelFile
from .comparisons import where
from .elementary import sqrt
from .elementwise import as_tensor, raw

# -- references --------------------------------------------------------------------------------------------------------


def _rows(x: Any, ndim: int) -> Any:
    """``x`` as (rows, width), width its last ``ndim`` axes, in the dtype that it is computed in."""
    split = x.ndim - ndim
    x = x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))
    high = accumulator(x.dtype)
    return x if x.dtype == high else x.astype(high)


def _mean(z: Any) -> Any:
    """The mean of each row, (rows, 1); 0 for rows without elements."""
    return z.sum(axis=1, keepdims=True) / max(z.shape[1], 1)


def _like(z: Any, x: Any) -> Any:
    """Rows as an array like ``x``."""
    return (z if z.dtype == x.dtype else z.astype(x.dtype)).reshape(x.shape)


def _sum(z: Any, dy: Any, weight: Any, ndim: int) -> Any:
    """The rows of ``z`` added up: the gradient of a parameter."""
    s, dtype = z.sum(axis=0), (dy if weight is None else weight).dtype
    return (s if s.dtype == dtype else s.astype(dtype)).reshape(dy.shape[dy.ndim - ndim :])


def _scale(s: Any, eps: float, eps_inside: bool) -> Any:
    return 1 / (array_module(s).sqrt(s * s + eps) if eps_inside else s + eps)


def _unwarned() -> Any:
    """Infinities and NaN in the input are nobody's fault."""
    return np.errstate(invalid="ignore", over="ignore", divide="ignore")


@array_function
def layer_norm_forward(x: Any, weight: Any, bias: Any, ndim: int, eps: float, eps_inside: bool) -> tuple[Any, Any, Any]:
    """``(y, m - x_0, s)``, the last two of shape (rows, 1)."""
    z = _rows(x, ndim)
    with _unwarned():
        z = z - z[:, :1]
        shift = _mean(z)
        c = z - shift
        s = array_module(x).sqrt(_mean(c * c))
        y = c * _scale(s, eps, eps_inside)
        if weight is not None:
            y = y * weight.reshape(-1)
        if bias is not None:
            y = y + bias.reshape(-1)
    return _like(y, x), shift, s


@array_function
def layer_norm_backward(
    dy: Any, x: Any, weight: Any, shift: Any, s: Any, ndim: int, eps: float, eps_inside: bool, needs: Any
) -> Any:
    """``(dx, dw, db)``."""
    xp, z, dz = array_module(dy), _rows(x, ndim), _rows(dy, ndim)
    with _unwarned():
        c = z - z[:, :1] - shift
        scale = _scale(s, eps, eps_inside)
        slope = scale if eps_inside else xp.where(s == 0, 0, 1 / xp.where(s == 0, 1, s))
        h, g = c * scale, dz if weight is None else dz * weight.reshape(-1)
        dx = scale * (g - _mean(g) - c * slope * _mean(g * h))
        dw = _sum(dz * h, dy, weight, ndim) if needs[1] else None
    return _like(dx, dy), dw, _sum(dz, dy, weight, ndim) if needs[2] else None


@array_function
def rms_norm_forward(x: Any, weight: Any, ndim: int, eps: float) -> tuple[Any, Any]:
    """``(y, scale)``, the second of shape (rows, 1)."""
    z = _rows(x, ndim)
    with _unwarned():
        scale = 1 / array_module(x).sqrt(_mean(z * z) + eps)
        y = z * scale if weight is None else z * scale * weight.reshape(-1)
    return _like(y, x), scale


@array_function
def rms_norm_backward(dy: Any, x: Any, weight: Any, scale: Any, ndim: int, needs: Any) -> Any:
    """``(dx, dw)``."""
    dz = _rows(dy, ndim)
    with _unwarned():
        h, g = _rows(x, ndim) * scale, dz if weight is None else dz * weight.reshape(-1)
        dx = scale * (g - h * _mean(g * h))
        return _like(dx, dy), _sum(dz * h, dy, weight, ndim) if needs[1] else None


# -- the operations ----------------------------------------------------------------------------------------------------


def _layer_norm_rule(dy: Tensor, x: Any, weight: Any, ndim: int, eps: float, eps_inside: bool, needs: Any) -> Any:
    z, dz = _rows(as_tensor(x), ndim), _rows(dy, ndim)
    c = z - Tensor(z.data[:, :1])  # a constant: the result does not depend on it
    c = c - _mean(c)
    v = _mean(c * c)
    if eps_inside:
        scale = slope = 1 / sqrt(v + eps)
    else:
        flat = raw(v) == 0
        s = where(flat, 1.0, sqrt(where(flat, 1.0, v)))
        scale, slope = 1 / (where(flat, 0.0, s) + eps), where(flat, 0.0, 1 / s)
    h, g = c * scale, dz if weight is None else dz * as_tensor(weight).reshape(-1)
    dx = scale * (g - _mean(g) - c * slope * _mean(g * h))
    dw = _sum(dz * h, dy, weight, ndim) if needs[1] else None
    return _like(dx, dy), dw, _sum(dz, dy, weight, ndim) if needs[2] else None


def _rms_norm_rule(dy: Tensor, x: Any, weight: Any, ndim: int, eps: float, needs: Any) -> Any:
    z, dz = _rows(as_tensor(x), ndim), _rows(dy, ndim)
    scale = 1 / sqrt(_mean(z * z) + eps)
    h, g = z * scale, dz if weight is None else dz * as_tensor(weight).reshape(-1)
    return _like(scale * (g - h * _mean(g * h)), dy), _sum(dz * h, dy, weight, ndim) if needs[1] else None


_layer_norm = operation(
    "layer_norm", layer_norm_forward, backward=layer_norm_backward, rule=_layer_norm_rule, residuals=("shift", "s")
)
_rms_norm = operation("rms_norm", rms_norm_forward, backward=rms_norm_backward, rule=_rms_norm_rule, residuals=("scale",))


def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, *, ndim: int = 1, eps: float = 1e-5, eps_inside: bool = True
) -> Tensor:
    """(x - mean) / sqrt(var + eps) over the last ``ndim`` axes, times ``weight``, plus ``bias``; the shape of ``x``.

    ``weight`` and ``bias`` have the sizes of these axes, or are None. ``eps_inside=False`` divides by (std + eps) instead;
    the derivative of a standard deviation of 0 is 0 then. The variance is the biased one. Equal numbers give ``bias``.
    Integers become float64. A 16-bit ``x`` keeps its dtype beside a float32 ``weight`` (and ``bias``); other dtypes are
    promoted. Raises ValueError that names both shapes where a parameter does not fit.
    """
    x, weight, bias = _given("layer_norm", x, ndim, weight=weight, bias=bias)
    return _layer_norm(x, weight, bias, ndim=ndim, eps=float(eps), eps_inside=bool(eps_inside))


def rms_norm(x: Any, weight: Any = None, *, ndim: int = 1, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last ``ndim`` axes, times ``weight``; arguments as for ``layer_norm``.

    ``eps=None`` takes the distance from 1 to the next number of the dtype that it is computed in, as PyTorch does: 1.19e-7
    for float32 and for 16-bit floats, 2.2e-16 for float64.
    """
    x, weight = _given("rms_norm", x, ndim, weight=weight)
    eps = np.finfo(accumulator(x.dtype)).eps if eps is None else eps
    return _rms_norm(x, weight, ndim=ndim, eps=float(eps))


def _given(name: str, x: Any, ndim: int, **parameters: Any) -> list[Any]:
    """The input and the parameters as tensors of one dtype, or 16-bit floats and float32; raises where shapes do not fit."""
    x = as_tensor(x)
    if not is_float(x.dtype):
        x = x.astype(np.float64)
    shape = x.data.shape
    if not 0 < ndim <= len(shape):
        raise ValueError(f"{name}: the input (shape {shape}) has {len(shape)} axes, so ndim is from 1 to {len(shape)}, got "
                         f"{ndim}")
    tensors = [x]
    for key, p in parameters.items():
        if p is not None:
            p = as_tensor(p)
            if p.data.shape != shape[-ndim:]:
                raise ValueError(f"{name}: the {key} has shape {p.shape}, expected {shape[-ndim:]}, the sizes of the last "
                                 f"{ndim} axes (input shape {shape})")
        tensors.append(p)
    dtypes = {t.data.dtype for t in tensors if t is not None}
    if len(dtypes) == 1:
        return tensors
    high = accumulator(x.dtype)
    if tensors[1] is not None and dtypes <= {x.data.dtype, high}:
        return [x, *(t if t is None or t.dtype == high else t.astype(high) for t in tensors[1:])]
    dtype = np.result_type(*dtypes)
    return [t if t is None or t.dtype == dtype else t.astype(dtype) for t in tensors]


# -- kernels -----------------------------------------------------------------------------------------------------------

layer_norms = KernelFile("layer_norms.cu")

ACCEPTS = (
    "floats of one dtype, at least one element, no bias without a weight; weight and bias of 16-bit floats may be float32; "
    "x and dy that are not contiguous are copied"
)


def _fits(x: Any, weight: Any, bias: Any = None) -> bool:
    dtype = x.dtype
    if x.size == 0 or not is_float(dtype):
        return False
    return all(a is None or a.dtype == dtype or a.dtype == accumulator(dtype) for a in (weight, bias))


def _sizes(x: Any, ndim: int) -> tuple[int, int]:
    width = math.prod(x.shape[x.ndim - ndim :])
    return x.size // width, width


def chunks(rows: int) -> tuple[int, int]:
    """``(how many, of how many rows)``: at most 512 parts, of 16 rows or more, whose sums are added up at the end."""
    chunk = max(16, -(-rows // 512))
    return -(-rows // chunk), chunk


@layer_norm_forward.kernel(accepts=ACCEPTS)
def _(x: Any, weight: Any, bias: Any, ndim: int, eps: float, eps_inside: bool) -> Any:
    if not _fits(x, weight, bias) or (weight is None and bias is not None):
        return NotImplemented
    high = accumulator(x.dtype)
    x, weight, bias = contiguous(x), contiguous(weight, high), contiguous(bias, high)
    rows, width = _sizes(x, ndim)
    y, shift, s = empty(x.shape, x.dtype, like=x), empty((rows, 1), high, like=x), empty((rows, 1), high, like=x)
    ran = layer_norms(
        "layer_norm_forward", x, rows, width, x, weight, bias, y, shift, s, rows, width, eps, eps_inside
    )
    return (y, shift, s) if ran else NotImplemented


@layer_norm_backward.kernel(accepts=ACCEPTS)
def _(
    dy: Any, x: Any, weight: Any, shift: Any, s: Any, ndim: int, eps: float, eps_inside: bool, needs: Any
) -> Any:
    if dy.dtype != x.dtype or not _fits(x, weight) or (weight is None and needs[2]):
        return NotImplemented
    dy, x, wide = contiguous(dy), contiguous(x), contiguous(weight, s.dtype)
    rows, width = _sizes(x, ndim)
    parts, chunk = chunks(rows)
    dx = empty(x.shape, x.dtype, like=x)
    work = empty((parts, 2, width), accumulator(x.dtype), like=x) if needs[1] or needs[2] else None
    ran = layer_norms(
        "layer_norm_backward", x, parts, width, dy, x, wide, shift, s, dx, work, rows, width, chunk, eps, eps_inside
    )
    if not ran:
        return NotImplemented
    if work is None:
        return dx, None, None
    sums = work.sum(axis=0)
    return dx, *(_sum(sums[i : i + 1], dy, weight, ndim) if needs[i + 1] else None for i in (0, 1))


@rms_norm_forward.kernel(accepts=ACCEPTS)
def _(x: Any, weight: Any, ndim: int, eps: float) -> Any:
    if not _fits(x, weight):
        return NotImplemented
    high = accumulator(x.dtype)
    x, weight = contiguous(x), contiguous(weight, high)
    rows, width = _sizes(x, ndim)
    y, scale = empty(x.shape, x.dtype, like=x), empty((rows, 1), high, like=x)
    ran = layer_norms("rms_norm_forward", x, rows, width, x, weight, y, scale, rows, width, eps)
    return (y, scale) if ran else NotImplemented


@rms_norm_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, x: Any, weight: Any, scale: Any, ndim: int, needs: Any) -> Any:
    if dy.dtype != x.dtype or not _fits(x, weight):
        return NotImplemented
    dy, x, wide = contiguous(dy), contiguous(x), contiguous(weight, scale.dtype)
    rows, width = _sizes(x, ndim)
    parts, chunk = chunks(rows)
    dx = empty(x.shape, x.dtype, like=x)
    work = empty((parts, width), accumulator(x.dtype), like=x) if needs[1] else None
    ran = layer_norms("rms_norm_backward", x, parts, width, dy, x, wide, scale, dx, work, rows, width, chunk)
    if not ran:
        return NotImplemented
    return dx, None if work is None else _sum(work, dy, weight, ndim)
