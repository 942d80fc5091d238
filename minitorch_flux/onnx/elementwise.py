"""Arithmetic, comparisons and logic, element by element."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops import arithmetic, comparisons, elementary, nonlinearities, special
from ..ops.elementwise import as_tensor
from .arguments import like
from .registry import register

UNARY: dict[str, Callable[..., Any]] = {
    "Abs": arithmetic.absolute,
    "Acos": elementary.arccos,
    "Acosh": elementary.arccosh,
    "Asin": elementary.arcsin,
    "Asinh": elementary.arcsinh,
    "Atan": elementary.arctan,
    "Atanh": elementary.arctanh,
    "BitwiseNot": comparisons.invert,
    "Ceil": arithmetic.ceil,
    "Cos": elementary.cos,
    "Cosh": elementary.cosh,
    "Erf": special.erf,
    "Exp": elementary.exp,
    "Floor": arithmetic.floor,
    "IsNaN": comparisons.isnan,
    "Log": elementary.log,
    "Neg": arithmetic.negative,
    "Not": comparisons.logical_not,
    "Reciprocal": elementary.reciprocal,
    "Round": arithmetic.round,
    "Sign": arithmetic.sign,
    "Sin": elementary.sin,
    "Sinh": elementary.sinh,
    "Sqrt": elementary.sqrt,
    "Tan": elementary.tan,
    "Tanh": nonlinearities.tanh,
}


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: function(x)


for _name, _function in UNARY.items():
    register(_name)(_unary(_function))


def _truncated_quotient(x: Any, y: Any) -> Any:
    """x / y; of integers the quotient rounded towards zero."""
    x, y = as_tensor(x), as_tensor(y)
    if x.dtype.kind not in "iu":
        return arithmetic.divide(x, y)
    quotient = arithmetic.floor_divide(x, y)
    rest = x - quotient * y
    upwards = comparisons.logical_and(comparisons.not_equal(rest, 0), comparisons.not_equal(x < 0, y < 0))
    return quotient + upwards.astype(x.dtype)


def _power(x: Any, y: Any) -> Any:
    x, y = as_tensor(x), as_tensor(y)
    if x.dtype.kind in "iu" and y.dtype.kind == "i" and y.size and bool((y.data < 0).any()):
        return like(elementary.power(x.astype(np.float64), y), x)
    return like(elementary.power(x, y), x)


BINARY: dict[str, Callable[..., Any]] = {
    "Add": arithmetic.add,
    "And": comparisons.logical_and,
    "BitwiseAnd": comparisons.bitwise_and,
    "BitwiseOr": comparisons.bitwise_or,
    "BitwiseXor": comparisons.bitwise_xor,
    "Div": _truncated_quotient,
    "Equal": comparisons.equal,
    "Greater": comparisons.greater,
    "GreaterOrEqual": comparisons.greater_equal,
    "Less": comparisons.less,
    "LessOrEqual": comparisons.less_equal,
    "Mul": arithmetic.multiply,
    "Or": comparisons.logical_or,
    "Pow": _power,
    "Sub": arithmetic.subtract,
    "Xor": comparisons.logical_xor,
}


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: function(x, y)


def _aligned(function: Callable[..., Any]) -> Callable[..., Any]:
    """Before opset 7 the second shape had to be broadcast explicitly, its first axis put at ``axis``."""

    def translated(x: Any, y: Any, *, axis: int | None = None, broadcast: int = 0) -> Any:
        y = as_tensor(y)
        if broadcast and axis is not None:
            y = y.reshape(*y.shape, *(1,) * (as_tensor(x).ndim - axis - y.ndim))
        return function(x, y)

    return translated


for _name, _function in BINARY.items():
    register(_name)(_aligned(_function))
    register(_name, since=7)(_binary(_function))


@register("Mod")
def mod(x: Any, y: Any, *, fmod: int = 0) -> Any:
    return arithmetic.fmod(x, y) if fmod else arithmetic.remainder(x, y)


@register("BitShift")
def bit_shift(x: Any, y: Any, *, direction: str) -> Any:
    """All bits are gone where ``y`` is no number of bits of the type; to the right the sign stays."""
    a, b = as_tensor(x).data, as_tensor(y).data
    xp, bits = array_module(a, b), 8 * a.dtype.itemsize
    inside = (b >= 0) & (b < bits)
    b = xp.where(inside, b, 0 if direction == "LEFT" else bits - 1).astype(a.dtype)
    if direction == "LEFT":
        return Tensor(xp.where(inside, xp.left_shift(a, b), 0).astype(a.dtype))
    gone = xp.where(a < 0, -1, 0) if a.dtype.kind == "i" else 0
    return Tensor(xp.where(inside, xp.right_shift(a, b), gone).astype(a.dtype))


def _folded(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: functools.reduce(function, xs) if len(xs) > 1 else as_tensor(xs[0])


register("Max")(_folded(comparisons.maximum))
register("Min")(_folded(comparisons.minimum))
register("Sum")(_folded(arithmetic.add))


@register("Mean")
def mean(*xs: Any) -> Any:
    total = _folded(arithmetic.add)(*xs)
    return like(total / len(xs), total)


@register("Where")
def where(condition: Any, x: Any, y: Any) -> Any:
    return comparisons.where(condition, x, y)


@register("Clip", fixed=("min", "max"))
def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """The bounds were attributes before opset 11. Where the lower is above the upper the upper holds."""
    x = as_tensor(x)
    if isinstance(min, float) and min == float(np.finfo(np.float32).min):
        min = None  # the attribute's default
    if isinstance(max, float) and max == float(np.finfo(np.float32).max):
        max = None
    return x if min is None and max is None else like(comparisons.clip(x, min, max), x)


@register("IsInf")
def is_inf(x: Any, *, detect_negative: int = 1, detect_positive: int = 1) -> Any:
    x = as_tensor(x)
    if detect_negative and detect_positive:
        return comparisons.isinf(x)
    if detect_negative or detect_positive:
        return comparisons.equal(x, np.inf if detect_positive else -np.inf)
    return comparisons.logical_and(comparisons.isinf(x), False)
