"""Arithmetic with broadcasting.

    add           z = x + y             dx = S(dz)              dy = S(dz)
    subtract      z = x - y             dx = S(dz)              dy = -S(dz)
    multiply      z = x y               dx = S(dz y)            dy = S(dz x)
    divide        z = x / y             dx = S(dz / y)          dy = S(-dz z / y)
    negative      z = -x                dx = -dz
    absolute      z = |x|               dx = dz sign(x)         0 at x = 0
    floor_divide  z = floor(x / y)      dx = 0                  dy = 0
    remainder     z = x - y floor(x/y)  dx = S(dz)              dy = S(-dz floor(x / y))
    fmod          z = x - y trunc(x/y)  dx = S(dz)              dy = S(-dz trunc(x / y))
    sign, floor, ceil, trunc, round     dx = 0

``S`` is ``sum_to``: it adds up the axes along which NumPy stretched the input. Shapes and dtypes follow NumPy 2; Python
numbers and NumPy scalars never widen a dtype. ``power`` is in elementary.py.
"""

from __future__ import annotations

import operator
from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import array_module
from .elementwise import binary_forward, documented, either, no_gradient, unary, zeros
from .reductions import broadcast_to, sum_to, sum_to_forward

__all__ = ["absolute", "add", "broadcast_to", "ceil", "divide", "floor", "floor_divide", "fmod", "multiply", "negative",
           "remainder", "round", "sign", "subtract", "sum_to", "trunc"]


def fit(dz: Any, shape: tuple[int, ...]) -> Any:
    """``sum_to`` for a gradient, which is an array in an ordinary backward pass and a tensor in a recorded one."""
    if dz.shape == shape:
        return dz
    return sum_to(dz, shape) if isinstance(dz, Tensor) else sum_to_forward(dz, shape)


def binary(name: str, doc: str, gradient: Any, symbol: Any = None) -> Operation:
    """A broadcasting operation of two arguments; ``symbol`` is Python's operator for it."""
    op = operation(name, binary_forward(name, symbol), gradient=gradient)
    return documented(op, f"{doc}\n\n    x, y: arrays, tensors or numbers whose shapes broadcast (else ValueError).")


# -- the four, and the remainders --------------------------------------------------------------------------------------


def _add_gradient(dy: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return fit(dy, x_shape) if needs[0] else None, fit(dy, y_shape) if needs[1] else None


def _subtract_gradient(dy: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return fit(dy, x_shape) if needs[0] else None, fit(either.negative(dy), y_shape) if needs[1] else None


def _multiply_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return (
        fit(either.multiply(dy, y), x_shape) if needs[0] else None,
        fit(either.multiply(dy, x), y_shape) if needs[1] else None,
    )


def _divide_gradient(dy: Any, out: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    dx = either.divide(dy, y)
    return (
        fit(dx, x_shape) if needs[0] else None,
        fit(either.negative(either.multiply(dx, out)), y_shape) if needs[1] else None,
    )


def _floor_divide_gradient(dy: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return tuple(zeros(dy, shape) if need else None for need, shape in zip(needs, (x_shape, y_shape), strict=True))


def _remainder_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    dx = fit(dy, x_shape) if needs[0] else None
    return dx, fit(either.multiply(-dy, either.floor_divide(x, y)), y_shape) if needs[1] else None


def _fmod_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    dx = fit(dy, x_shape) if needs[0] else None
    return dx, fit(either.multiply(-dy, either.trunc(either.divide(x, y))), y_shape) if needs[1] else None


add = binary("add", "x + y", _add_gradient, operator.add)
subtract = binary("subtract", "x - y", _subtract_gradient, operator.sub)
multiply = binary("multiply", "x y, element by element", _multiply_gradient, operator.mul)
divide = binary("divide", "x / y; integers give float64", _divide_gradient, operator.truediv)
floor_divide = binary("floor_divide", "floor(x / y), whose gradient is zero", _floor_divide_gradient, operator.floordiv)
remainder = binary("remainder", "x - y floor(x / y): Python's %, of the sign of y", _remainder_gradient, operator.mod)
fmod = binary("fmod", "x - y trunc(x / y): C's remainder, of the sign of x", _fmod_gradient)

# -- sign, absolute value, rounding ------------------------------------------------------------------------------------

negative = unary("negative", "-x", lambda dy: -dy)
absolute = unary("absolute", "|x|; the gradient at 0 is 0", lambda dy, x: dy * either.sign(x))
sign = unary("sign", "-1, 0 or 1; the gradient is zero", no_gradient)
floor = unary("floor", "The largest integer <= x; the gradient is zero", no_gradient)
ceil = unary("ceil", "The smallest integer >= x; the gradient is zero", no_gradient)
trunc = unary("trunc", "x rounded towards zero; the gradient is zero", no_gradient)


def _round_forward(x: Any, decimals: int = 0) -> Any:
    return array_module(x).round(x, decimals)


_round = operation("round", _round_forward, gradient=no_gradient)


def round(x: Any, decimals: int = 0) -> Tensor:
    """``x`` rounded to ``decimals`` places, halves to the even neighbour; the gradient is zero."""
    return _round(x, decimals=decimals)
