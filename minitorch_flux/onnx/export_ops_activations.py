"""Writing activations and softmaxes. What ONNX has no operator for is written by the formula of the activation table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ops.activation_table import ROWS
from ..ops.nonlinearities import identity
from .exporting import register_export
from .graph_writing import GraphWriter, Value

SIMPLE = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "hardswish": "HardSwish",
          "mish": "Mish", "softsign": "Softsign"}
PARAMETER = {"leakyrelu": "LeakyRelu", "elu": "Elu", "celu": "Celu", "trelu": "ThresholdedRelu"}
BOUNDS = {"hardtanh": (-1.0, 1.0), "relu6": (0.0, 6.0)}
_ROWS = {row.name: row for row in ROWS}


class Formulas:
    """NumPy's place in the formulas of the activation table: functions of Values."""

    def __init__(self, g: GraphWriter) -> None:
        self.g = g

    def abs(self, x: Value) -> Value:
        """|x|"""
        return self.g.node("Abs", x)

    def exp(self, x: Value) -> Value:
        """e^x"""
        return self.g.node("Exp", x)

    def expm1(self, x: Value) -> Value:
        """e^x - 1"""
        return self.g.node("Exp", x) - 1

    def log1p(self, x: Value) -> Value:
        """log(1 + x)"""
        return self.g.node("Log", x + 1)

    def tanh(self, x: Value) -> Value:
        """tanh(x)"""
        return self.g.node("Tanh", x)

    def maximum(self, x: Value, low: float) -> Value:
        """The greater of x and a number."""
        return self.g.node("Max", x, low)

    def minimum(self, x: Value, high: float) -> Value:
        """The smaller of x and a number."""
        return self.g.node("Min", x, high)

    def clip(self, x: Value, low: float, high: float) -> Value:
        """x between two numbers."""
        return self.g.node("Clip", x, low, high)

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        """x where the condition holds, else y."""
        dtype = x.dtype if isinstance(x, Value) else y.dtype
        return self.g.node("Where", condition, self.g.constant(x, dtype), self.g.constant(y, dtype), dtype=dtype)


def activated(g: GraphWriter, x: Value, activation: Any) -> Value:
    """``activation(x)``; None: x."""
    return x if activation is None or activation is identity else apply(g, x, activation.name)


def apply(g: GraphWriter, x: Value, name: str, parameters: tuple[float, ...] = ()) -> Value:
    """An activation by name."""
    row = _ROWS[name]
    p = (parameters[0] if parameters else row.default) if row.default is not None else None
    if name == "identity":
        return x
    if not np.issubdtype(x.dtype, np.integer) and name in SIMPLE and not (name == "mish" and g.opset < 18):
        return g.node(SIMPLE[name], x)
    if name in BOUNDS:
        return g.node("Clip", x, *BOUNDS[name])
    if np.issubdtype(x.dtype, np.integer):
        x = g.cast(x, g.call.outputs[0].dtype)
        return g.node("Relu", x) if name == "relu" else apply(g, x, name, parameters)
    if name in PARAMETER:
        return g.node(PARAMETER[name], x, alpha=float(p))  # type: ignore[arg-type]
    if name in ("gelu", "gelu_erf"):
        return _gelu(g, x, name == "gelu")
    if name == "hardsigmoid":
        return g.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    if name == "swish":
        return x * g.node("Sigmoid", x)
    if name == "selu":
        return g.node("Selu", x)
    if name == "logsigmoid":
        return -g.node("Softplus", -x)
    if name == "softshrink":
        return g.node("Shrink", x, lambd=float(p), bias=float(p))  # type: ignore[arg-type]
    if name == "hardshrink":
        return g.node("Shrink", x, lambd=float(p), bias=0.0)  # type: ignore[arg-type]
    return row.f(Formulas(g), x, *parameters)


def _gelu(g: GraphWriter, x: Value, tanh: bool) -> Value:
    """Gelu from opset 20 on, before that its formula."""
    if g.opset >= 20:
        return g.node("Gelu", x, approximate="tanh" if tanh else "none")
    if tanh:
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * (g.node("Tanh", inner) + 1) * 0.5
    return x * (g.node("Erf", x * math.sqrt(0.5)) + 1) * 0.5


def _rule(name: str) -> None:
    @register_export(name)
    def rule(g: GraphWriter, x: Value, *, parameters: tuple[float, ...] = ()) -> Any:
        return apply(g, x, name, parameters)


for _row in ROWS:
    _rule(_row.name)


@register_export("bias_act")
def bias_act(g: GraphWriter, z: Value, b: Any, *, axis: int, activation: Any) -> Any:
    if b is not None:
        z = z + g.reshape(g.cast(b, z.dtype), (-1, *(1,) * (z.ndim - axis % z.ndim - 1)))
    return activated(g, z, activation)


@register_export("rrelu")
def rrelu(g: GraphWriter, x: Value, a: Any) -> Any:
    return g.node("Where", x >= 0, x, x * a, dtype=x.dtype)


@register_export("softmax")
def softmax(g: GraphWriter, x: Value, *, axis: int) -> Any:
    return g.node("Softmax", x, axis=axis)


@register_export("logsoftmax")
def logsoftmax(g: GraphWriter, x: Value, *, axis: int) -> Any:
    return g.node("LogSoftmax", x, axis=axis)
