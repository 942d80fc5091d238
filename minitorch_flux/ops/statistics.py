"""Variance, standard deviation, norms and the median, over axes as in reductions.py.

    var     v = sum_i (x_i - m)^2 / (n - ddof)      dx_i = 2 dv (x_i - m) / (n - ddof)          m the mean
    std     s = sqrt(v)                             dx_i = ds (x_i - m) / ((n - ddof) s)        0 where s = 0
    norm    r = (sum_i |x_i|^p)^(1/p)               dx_i = dr sign(x_i) (|x_i| / r)^(p-1)       0 where r = 0
    median  the middle element, or the mean of the two middle ones
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, is_float
from .arithmetic import absolute
from .comparisons import where
from .elementwise import as_tensor, either, raw
from .extremes import collapsed, extreme_axes, max, min, pick
from .reductions import axes_of
from .reductions import sum as sum_over

# -- variance ----------------------------------------------------------------------------------------------------------


@array_function
def var_forward(x: Any, axis: tuple[int, ...], ddof: float = 0, keepdims: bool = False) -> Any:
    """The mean squared distance from the mean, over the axes of the tuple ``axis``; 16-bit floats in float32."""
    if not is_float(x.dtype):
        return x.var(axis=axis, ddof=ddof, keepdims=keepdims)
    return x.var(axis=axis, ddof=ddof, keepdims=keepdims, dtype=accumulator(x.dtype)).astype(x.dtype, copy=False)


def std_forward(x: Any, axis: tuple[int, ...], ddof: float = 0, keepdims: bool = False) -> Any:
    """The square root of ``var_forward``."""
    xp = array_module(x)
    return xp.sqrt(var_forward(x, axis, ddof, keepdims))


def _deviations(x: Any, axis: tuple[int, ...], ddof: float) -> Any:
    """``(x - m) / (n - ddof)``."""
    n = math.prod(x.shape[i] for i in axis) - ddof
    return (x - either.mean(x, axis=axis, keepdims=True)) / (n if n > 0 else math.nan)


def _var_gradient(dy: Any, x: Any, axis: Any, ddof: Any) -> Any:
    return either.spread(dy * 2, axis=axis, shape=x.shape) * _deviations(x, axis, ddof)


def _std_gradient(dy: Any, x: Any, out: Any, axis: Any, ddof: Any) -> Any:
    flat = raw(out) == 0
    scale = either.where(flat, 0, dy / either.where(flat, 1, out))
    return either.spread(scale, axis=axis, shape=x.shape) * _deviations(x, axis, ddof)


_var = operation("var", var_forward, gradient=_var_gradient)
_std = operation("std", std_forward, gradient=_std_gradient)


def var(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The variance over ``axis``: the sum of squared distances from the mean, divided by ``n - ddof``.

    ``ddof=1`` gives the unbiased estimate. Integers give float64. NaN (with NumPy's warning) where n <= ddof.
    """
    x = as_tensor(x)
    return _var(x, axis=axes_of("var", axis, x), ddof=ddof, keepdims=keepdims)


def std(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation over ``axis``: the square root of ``var``. Where it is 0, so is its gradient."""
    x = as_tensor(x)
    return _std(x, axis=axes_of("std", axis, x), ddof=ddof, keepdims=keepdims)


# -- norms -------------------------------------------------------------------------------------------------------------


def norm_forward(x: Any, axis: tuple[int, ...], keepdims: bool = False) -> Any:
    """The square root of the sum of squares; 16-bit floats in float32."""
    xp = array_module(x)
    squares = xp.square(x.astype(accumulator(x.dtype), copy=False))
    return xp.sqrt(squares.sum(axis=axis, keepdims=keepdims)).astype(x.dtype, copy=False)


def _norm_gradient(dy: Any, x: Any, out: Any, axis: Any) -> Any:
    flat = raw(out) == 0
    scale = either.where(flat, 0, dy / either.where(flat, 1, out))
    return either.spread(scale, axis=axis, shape=x.shape) * x


_norm = operation("norm", norm_forward, gradient=_norm_gradient)


def norm(x: Any, ord: float | None = None, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The length of a vector, or the Frobenius norm of a matrix: the square root of the sum of squares over ``axis``.

    ord: None or 2; p > 0 for ``(sum |x|^p)^(1/p)``, infinity for the largest and -infinity for the smallest |x|, each
    along one axis. The gradient of the zero vector's norm is 0. Integers give float64.
    Raises ValueError for other norms, of matrices too.
    """
    x = as_tensor(x)
    if not is_float(x.dtype):
        x = x.astype("float64")
    axes = axes_of("norm", axis, x)
    if ord is not None and len(axes) != 1:
        raise ValueError(f"norm: ord={ord} is a norm of vectors, along one axis; got axis={axis} for the shape "
                         f"{x.shape}. Without ord it is the square root of the sum of squares over several axes")
    if ord in (None, 2):
        return _norm(x, axis=axes, keepdims=keepdims)
    size = absolute(x)
    if ord == math.inf:
        return max(size, axes, keepdims=keepdims)
    if ord == -math.inf:
        return min(size, axes, keepdims=keepdims)
    if ord == 1:
        return sum_over(size, axes, keepdims=keepdims)
    if not ord > 0:
        raise ValueError(f"norm: ord must be positive, infinite or None, got {ord}")
    if not x.size:
        return sum_over(size, axes, keepdims=keepdims)
    # A common factor, so that |x|^p does not overflow. The norm does not depend on it, so it may be a constant.
    top = raw(max(size, axes, keepdims=True))
    top = Tensor(array_module(top).where(top == 0, 1, top))
    total = sum_over((size / top) ** ord, axes, keepdims=True)
    flat = raw(total) == 0
    r = top * where(flat, 0, where(flat, 1, total) ** (1 / ord))
    return r if keepdims else r.squeeze(axes)


# -- the median --------------------------------------------------------------------------------------------------------


def median(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The middle element over ``axis`` in order of size; of an even number the mean of the two; NaN where there is one.

    Integers give float64. Raises ValueError when there are no elements to choose from.
    """
    x = as_tensor(x)
    if not is_float(x.dtype):
        x = x.astype("float64")
    axes = extreme_axes("median", axis, x)
    values = collapsed(x.data, axes)
    xp = array_module(values)
    order, n = values.argsort(axis=-1), values.shape[-1]  # NaN comes last
    has_nan = xp.isnan(values).any(axis=-1)
    low, high = (xp.where(has_nan, order[..., -1], order[..., i]) for i in ((n - 1) // 2, n // 2))
    first = pick(x, index=low, axis=axes, keepdims=keepdims)
    return first if n % 2 else (first + pick(x, index=high, axis=axes, keepdims=keepdims)) / 2
