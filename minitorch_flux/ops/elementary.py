"""Powers, exponentials, logarithms and trigonometry, element by element (erf: special.py).

    power      z = x^y       dx = S(dz y x^(y-1))      dy = S(dz z log x)       0 where the base is 0, y > 0
    square     y = x^2       dx = 2 dy x               sqrt   y = x^(1/2)       dx = dy / (2 y)
    reciprocal y = 1 / x     dx = -dy y^2              rsqrt  y = x^(-1/2)      dx = -dy y / (2 x)
    cbrt       y = x^(1/3)   dx = dy / (3 y^2)
    exp        dx = dy y     exp2  dx = dy y log 2     expm1  dx = dy (y + 1)
    log        dx = dy / x   log2, log10  dx = dy / (x log 2), dy / (x log 10)  log1p  dx = dy / (1 + x)
    sin        dx = dy cos x                           cos    dx = -dy sin x    tan    dx = dy (1 + y^2)
    arcsin     dx = dy / sqrt(1 - x^2)                 arccos the negative      arctan dx = dy / (1 + x^2)
    sinh       dx = dy cosh x                          cosh   dx = dy sinh x    (tanh is an activation)
    arcsinh    dx = dy / sqrt(1 + x^2)                 arccosh dx = dy / sqrt(x^2 - 1)  arctanh dx = dy / (1 - x^2)
    arctan2    z = angle of (x, y)                     dy = dz x / (x^2 + y^2), dx = -dz y / (x^2 + y^2)
    hypot      z = sqrt(x^2 + y^2)                     dx = dz x / z, dy = dz y / z;  0 at the origin
    logaddexp  z = log(e^x + e^y)                      dx = dz e^(x - z), dy = dz e^(y - z)

``S`` is ``sum_to`` (broadcasting undone). Integers give float64, as in NumPy.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from ..autograd import operation
from ..backend import array_module, is_float
from .arithmetic import binary, fit
from .elementwise import binary_forward, documented, either, raw, unary

# -- powers ------------------------------------------------------------------------------------------------------------


def _power_gradient(dy: Any, x: Any, y: Any, out: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    dx = None
    if needs[0]:
        dx = fit(either.multiply(dy, _power_slope(x, y)), x_shape)
    if not needs[1]:
        return dx, None
    # 0^y is 0 for every y > 0: its derivative with respect to y is 0, although log 0 is not finite
    flat = (raw(x) == 0) & (raw(y) >= 0)
    return dx, fit(dy * out * either.log(either.where(flat, 1, x)), y_shape)


def _power_slope(x: Any, y: Any) -> Any:
    """``y x^(y-1)``, and 0 at 0^0."""
    if type(y) in (int, float):
        if y == 2:
            return either.multiply(x, 2)
        return either.multiply(either.power(x, y - 1 if y else 0), y)
    flat = raw(y) == 0
    if is_float(y.dtype):  # y is differentiable too, and away from 0^0 the formula is right
        flat = flat & (raw(x) == 0)
    return y * either.power(x, either.where(flat, 0, y - 1))


def power_forward(x: Any, y: Any) -> Any:
    """``x ** y``; a few numbers as exponents of floats in a quicker way."""
    quick = QUICK.get(y) if type(y) in (int, float) and hasattr(x, "dtype") and is_float(x.dtype) else None
    return quick(x) if quick else _power(x, y)


_power = binary_forward("power", operator.pow)
QUICK = {
    0.5: lambda x: either.sqrt(x),
    1: lambda x: x.copy(),
    2: lambda x: either.square(x),
    3: lambda x: either.multiply(either.square(x), x),
    -1: lambda x: either.reciprocal(x),
}

power = documented(
    operation("power", power_forward, gradient=_power_gradient),
    """x to the power of y; the derivative at 0^0 is 0.

    x, y: arrays, tensors or numbers whose shapes broadcast (else ValueError). Integers to negative powers raise
    ValueError, as in NumPy.""",
)
square = unary("square", "x^2", lambda dy, x: dy * (x * 2))
sqrt = unary("sqrt", "The square root; infinite slope at 0", lambda dy, out: dy / (out * 2))
reciprocal = unary("reciprocal", "1 / x", lambda dy, out: -dy * (out * out))
cbrt = unary("cbrt", "The cube root, of negative numbers too", lambda dy, out: dy / (out * out * 3))


def rsqrt_forward(x: Any) -> Any:
    """``1 / sqrt(x)``."""
    return 1 / array_module(x).sqrt(x)


rsqrt = documented(operation("rsqrt", rsqrt_forward, gradient=lambda dy, x, out: dy * out / (x * -2)), "1 / sqrt(x)")

# -- exponentials and logarithms ---------------------------------------------------------------------------------------

exp = unary("exp", "e^x", lambda dy, out: either.multiply(dy, out))
exp2 = unary("exp2", "2^x", lambda dy, out: dy * (out * math.log(2)))
expm1 = unary("expm1", "e^x - 1, accurate near 0", lambda dy, out: dy * (out + 1))
log = unary("log", "The natural logarithm", lambda dy, x: either.divide(dy, x))
log2 = unary("log2", "The logarithm to base 2", lambda dy, x: dy / (x * math.log(2)))
log10 = unary("log10", "The logarithm to base 10", lambda dy, x: dy / (x * math.log(10)))
log1p = unary("log1p", "log(1 + x), accurate near 0", lambda dy, x: dy / (x + 1))


def _logaddexp_gradient(dy: Any, x: Any, y: Any, out: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    def share(t: Any) -> Any:
        same = raw(t) == raw(out)  # also where both are infinite, whose difference would be NaN
        return dy * either.exp(either.where(same, 0, t) - either.where(same, 0, out))

    return fit(share(x), x_shape) if needs[0] else None, fit(share(y), y_shape) if needs[1] else None


logaddexp = binary("logaddexp", "log(e^x + e^y) without overflow", _logaddexp_gradient)

# -- trigonometry ------------------------------------------------------------------------------------------------------

sin = unary("sin", "The sine", lambda dy, x: dy * either.cos(x))
cos = unary("cos", "The cosine", lambda dy, x: -dy * either.sin(x))
tan = unary("tan", "The tangent", lambda dy, out: dy * (out * out + 1))
arcsin = unary("arcsin", "The angle in [-pi/2, pi/2] with sine x", lambda dy, x: dy / either.sqrt((1 - x) * (1 + x)))
arccos = unary("arccos", "The angle in [0, pi] with cosine x", lambda dy, x: -dy / either.sqrt((1 - x) * (1 + x)))
arctan = unary("arctan", "The angle in (-pi/2, pi/2) with tangent x", lambda dy, x: dy / (x * x + 1))
sinh = unary("sinh", "(e^x - e^-x) / 2", lambda dy, x: dy * either.cosh(x))
cosh = unary("cosh", "(e^x + e^-x) / 2", lambda dy, x: dy * either.sinh(x))
arcsinh = unary("arcsinh", "The inverse of sinh", lambda dy, x: dy / either.sqrt(x * x + 1))
arccosh = unary("arccosh", "The inverse of cosh, x >= 1", lambda dy, x: dy / either.sqrt((x - 1) * (x + 1)))
arctanh = unary("arctanh", "The inverse of tanh, -1 < x < 1", lambda dy, x: dy / ((1 - x) * (1 + x)))


def _arctan2_gradient(dy: Any, y: Any, x: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    square = x * x + y * y
    dy = dy / either.where(raw(square) == 0, 1, square)
    return fit(dy * x, y_shape) if needs[0] else None, fit(-dy * y, x_shape) if needs[1] else None


def _hypot_gradient(dy: Any, x: Any, y: Any, out: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    dy = dy / either.where(raw(out) == 0, 1, out)
    return fit(dy * x, x_shape) if needs[0] else None, fit(dy * y, y_shape) if needs[1] else None


def _arctan2_forward(y: Any, x: Any) -> Any:
    return _angle(y, x)


_angle = binary_forward("arctan2")
arctan2 = documented(
    operation("arctan2", _arctan2_forward, gradient=_arctan2_gradient),
    """``arctan2(y, x)``: the angle of the point (x, y), in [-pi, pi]; the gradient at the origin is 0.

    y, x: arrays, tensors or numbers whose shapes broadcast (else ValueError).""",
)
hypot = binary("hypot", "sqrt(x^2 + y^2) without overflow; the gradient at the origin is 0", _hypot_gradient)
