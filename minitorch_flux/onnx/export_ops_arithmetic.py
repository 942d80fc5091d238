"""Writing what works element by element, products and casts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import is_float
from .exporting import register_export
from .graph_writing import GraphWriter, Value

UNARY = {"negative": "Neg", "absolute": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "sqrt": "Sqrt", "exp": "Exp",
         "log": "Log", "reciprocal": "Reciprocal", "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin",
         "arccos": "Acos", "arctan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "arcsinh": "Asinh", "arccosh": "Acosh",
         "arctanh": "Atanh", "erf": "Erf"}  # fmt: skip
BINARY = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "maximum": "Max", "minimum": "Min"}
COMPARISONS = {"equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
               "greater_equal": "GreaterOrEqual"}  # fmt: skip
LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
BITWISE = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor"}


def result_dtype(g: GraphWriter) -> np.dtype:
    """The dtype of the first output of the operation at work."""
    return g.call.outputs[0].dtype


def alike(g: GraphWriter, *xs: Any, dtype: Any = None) -> list[Value]:
    """Values and numbers in one dtype, the promoted one of the values."""
    if dtype is None:
        dtype = np.result_type(*(x.dtype for x in xs if isinstance(x, Value)))
        if any(isinstance(x, float) for x in xs) and not is_float(dtype):
            dtype = np.dtype(np.float64)
    return [g.cast(x, dtype) if isinstance(x, Value) else g.constant(x, dtype) for x in xs]


def _unary(name: str, op_type: str) -> None:
    @register_export(name)
    def rule(g: GraphWriter, x: Any) -> Any:
        return g.node(op_type, *alike(g, x, dtype=result_dtype(g)))


def _binary(name: str, op_type: str) -> None:
    @register_export(name)
    def rule(g: GraphWriter, x: Any, y: Any) -> Any:
        return g.node(op_type, *alike(g, x, y, dtype=result_dtype(g)))


def _comparison(name: str, op_type: str) -> None:
    @register_export(name)
    def rule(g: GraphWriter, x: Any, y: Any) -> Any:
        return g.node(op_type, *alike(g, x, y), dtype=np.bool_)


def _logical(name: str, op_type: str) -> None:
    @register_export(name)
    def rule(g: GraphWriter, x: Any, y: Any) -> Any:
        return g.node(op_type, *alike(g, x, y, dtype=np.bool_))


def _bitwise(name: str, op_type: str) -> None:
    @register_export(name)
    def rule(g: GraphWriter, x: Any, y: Any) -> Any:
        bits = result_dtype(g).kind != "b"
        return g.node(f"Bitwise{op_type}" if bits else op_type, *alike(g, x, y, dtype=result_dtype(g)))


for _make, _table in ((_unary, UNARY), (_binary, BINARY), (_comparison, COMPARISONS), (_logical, LOGICAL), (_bitwise, BITWISE)):
    for _name, _op_type in _table.items():
        _make(_name, _op_type)


@register_export("not_equal")
def not_equal(g: GraphWriter, x: Any, y: Any) -> Any:
    return g.node("Not", g.node("Equal", *alike(g, x, y), dtype=np.bool_))


@register_export("logical_not")
def logical_not(g: GraphWriter, x: Value) -> Any:
    return g.node("Not", g.cast(x, np.bool_))


@register_export("invert")
def invert(g: GraphWriter, x: Value) -> Any:
    return g.node("Not" if x.dtype.kind == "b" else "BitwiseNot", x)


@register_export("isnan")
def isnan(g: GraphWriter, x: Value) -> Any:
    return g.node("IsNaN", x, dtype=np.bool_)


@register_export("isinf")
def isinf(g: GraphWriter, x: Value) -> Any:
    return g.node("IsInf", x, dtype=np.bool_)


@register_export("isfinite")
def isfinite(g: GraphWriter, x: Value) -> Any:
    return g.node("Not", g.node("Or", isnan(g, x), isinf(g, x)))


@register_export("power")
def power(g: GraphWriter, x: Any, y: Any) -> Any:
    return g.node("Pow", *alike(g, x, y, dtype=result_dtype(g)))


@register_export("square")
def square(g: GraphWriter, x: Value) -> Any:
    return x * x


@register_export("floor_divide")
def floor_divide(g: GraphWriter, x: Any, y: Any) -> Any:
    """ONNX divides integers towards zero."""
    x, y = alike(g, x, y, dtype=result_dtype(g))
    return g.node("Floor", x / y) if is_float(x.dtype) else (x - g.node("Mod", x, y)) / y


@register_export("remainder")
def remainder(g: GraphWriter, x: Any, y: Any) -> Any:
    x, y = alike(g, x, y, dtype=result_dtype(g))
    return x - g.node("Floor", x / y) * y if is_float(x.dtype) else g.node("Mod", x, y)


@register_export("fmod")
def fmod(g: GraphWriter, x: Any, y: Any) -> Any:
    return g.node("Mod", *alike(g, x, y, dtype=result_dtype(g)), fmod=1)


@register_export("trunc")
def trunc(g: GraphWriter, x: Value) -> Any:
    return g.node("Sign", x) * g.node("Floor", g.node("Abs", x))


@register_export("round")
def round_(g: GraphWriter, x: Value, *, decimals: int = 0) -> Any:
    if not decimals:
        return g.node("Round", x)
    return g.node("Round", x * 10.0**decimals) / 10.0**decimals


@register_export("where")
def where(g: GraphWriter, condition: Any, x: Any, y: Any) -> Any:
    dtype = result_dtype(g)
    condition = g.cast(condition, np.bool_) if isinstance(condition, Value) else g.constant(condition, np.bool_)
    return g.node("Where", condition, *alike(g, x, y, dtype=dtype), dtype=dtype)


@register_export("clip")
def clip(g: GraphWriter, x: Value, low: Any, high: Any) -> Any:
    x = g.cast(x, result_dtype(g))
    for op_type, bound in (("Max", low), ("Min", high)):
        if isinstance(bound, Value):
            x = g.node(op_type, x, g.cast(bound, x.dtype))
            low, high = (None, high) if op_type == "Max" else (low, None)
    return x if low is None and high is None else g.node("Clip", x, low, high)


@register_export("cbrt")
def cbrt(g: GraphWriter, x: Value) -> Any:
    return g.node("Sign", x) * g.node("Abs", x) ** (1 / 3)


@register_export("rsqrt")
def rsqrt(g: GraphWriter, x: Value) -> Any:
    return g.node("Reciprocal", g.node("Sqrt", x))


@register_export("exp2")
def exp2(g: GraphWriter, x: Value) -> Any:
    return g.node("Exp", x * math.log(2))


@register_export("expm1")
def expm1(g: GraphWriter, x: Value) -> Any:
    """2 tanh(x/2) / (1 - tanh(x/2)) near 0, where e^x - 1 loses digits."""
    t = g.node("Tanh", g.node("Clip", x, -0.5, 0.5) * 0.5)
    return g.node("Where", g.node("Abs", x) <= 0.5, t * 2 / (1 - t), g.node("Exp", x) - 1, dtype=x.dtype)


@register_export("log2")
def log2(g: GraphWriter, x: Value) -> Any:
    return g.node("Log", x) * (1 / math.log(2))


@register_export("log10")
def log10(g: GraphWriter, x: Value) -> Any:
    return g.node("Log", x) * (1 / math.log(10))


@register_export("log1p")
def log1p(g: GraphWriter, x: Value) -> Any:
    """2 artanh(x / (2 + x)) near 0, where 1 + x loses digits."""
    near = g.node("Clip", x, -0.5, 0.5)
    return g.node("Where", g.node("Abs", x) <= 0.5, g.node("Atanh", near / (near + 2)) * 2, g.node("Log", x + 1), dtype=x.dtype)


@register_export("logaddexp")
def logaddexp(g: GraphWriter, x: Any, y: Any) -> Any:
    x, y = alike(g, x, y, dtype=result_dtype(g))
    return g.node("Max", x, y) + g.node("Log", g.node("Exp", -g.node("Abs", x - y)) + 1)


@register_export("hypot")
def hypot(g: GraphWriter, x: Any, y: Any) -> Any:
    x, y = alike(g, x, y, dtype=result_dtype(g))
    return g.node("Sqrt", x * x + y * y)


@register_export("arctan2")
def arctan2(g: GraphWriter, y: Any, x: Any) -> Any:
    """2 atan(y / (r + x)) for x > 0, else the other half-angle formula; pi or 0 on the axis."""
    y, x = alike(g, y, x, dtype=result_dtype(g))
    r = g.node("Sqrt", x * x + y * y)
    zero = g.node("Equal", y, 0, dtype=np.bool_)
    left = g.node("Where", zero, g.constant(math.pi, x.dtype),
                  g.node("Atan", (r - x) / g.node("Where", zero, g.constant(1, x.dtype), y, dtype=x.dtype)) * 2, dtype=x.dtype)
    positive = x > 0
    right = g.node("Atan", y / (r + g.node("Where", positive, x, g.constant(1, x.dtype), dtype=x.dtype))) * 2
    nothing = g.node("Equal", r, 0, dtype=np.bool_)
    angle = g.node("Where", positive, right, left, dtype=x.dtype)
    return g.node("Where", nothing, g.constant(0, x.dtype), angle, dtype=x.dtype)


@register_export("xlogy")
def xlogy(g: GraphWriter, x: Any, y: Any) -> Any:
    x, y = alike(g, x, y, dtype=result_dtype(g))
    none = g.node("Equal", x, 0, dtype=np.bool_)
    zero = g.constant(0, x.dtype)
    return g.node("Where", none, zero, x * g.node("Log", g.node("Where", none, g.constant(1, x.dtype), y, dtype=x.dtype)),
                  dtype=x.dtype)


@register_export("copysign")
def copysign(g: GraphWriter, x: Any, y: Any) -> Any:
    x, y = alike(g, x, y, dtype=result_dtype(g))
    size = g.node("Abs", x)
    return g.node("Where", _negative(g, y), -size, size, dtype=x.dtype)


@register_export("signbit")
def signbit(g: GraphWriter, x: Value) -> Any:
    return _negative(g, x)


def _negative(g: GraphWriter, x: Value) -> Value:
    """Whether the sign is minus; that of a zero shows in its reciprocal."""
    below = x < 0
    if not is_float(x.dtype):
        return below
    return g.node("Or", below, g.node("And", g.node("Equal", x, 0, dtype=np.bool_), g.node("Reciprocal", x) < 0))


@register_export("left_shift")
def left_shift(g: GraphWriter, x: Any, y: Any) -> Any:
    """A product with a power of two: BitShift is for unsigned numbers."""
    x, y = alike(g, x, y, dtype=result_dtype(g))
    return x * g.cast(2 ** g.cast(y, np.int64), x.dtype)


@register_export("right_shift")
def right_shift(g: GraphWriter, x: Any, y: Any) -> Any:
    x, y = alike(g, x, y, dtype=result_dtype(g))
    return floor_divide(g, x, g.cast(2 ** g.cast(y, np.int64), x.dtype))


@register_export("astype")
def astype(g: GraphWriter, x: Value, *, dtype: Any) -> Any:
    return g.cast(x, np.dtype(dtype))


@register_export("copy", "alias")
def copy(g: GraphWriter, x: Value) -> Any:
    return x


@register_export("transfer")
def transfer(g: GraphWriter, x: Value, *, device: str, origin: str) -> Any:
    return x


# -- products ----------------------------------------------------------------------------------------------------------


@register_export("matmul")
def matmul(g: GraphWriter, x: Value, y: Value) -> Any:
    return g.node("MatMul", *alike(g, x, y, dtype=result_dtype(g)))


@register_export("contract")
def contract(g: GraphWriter, x: Value, y: Value, *, a: str, b: str, to: str) -> Any:
    return g.node("Einsum", *alike(g, x, y, dtype=result_dtype(g)), equation=f"{a},{b}->{to}")

