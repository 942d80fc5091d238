"""Activations and the softmaxes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from ..backend import array_module
from ..ops import nonlinearities as f
from ..ops.comparisons import clip, where
from ..ops.elementary import expm1
from ..ops.elementwise import as_tensor
from ..ops.extremes import argmax
from ..ops.softmaxes import logsoftmax, softmax
from .arguments import axis_of, like
from .registry import register

PLAIN = {
    "HardSwish": f.hardswish,
    "Mish": f.mish,
    "Relu": f.relu,
    "Sigmoid": f.sigmoid,
    "Softplus": f.softplus,
    "Softsign": f.softsign,
}


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: function(x)


for _name, _function in PLAIN.items():
    register(_name)(_plain(_function))


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6)


@register("LeakyRelu")
def leaky_relu(x: Any, *, alpha: float = 0.01) -> Any:
    return f.leakyrelu(x, alpha)


@register("PRelu", since=7)
def prelu(x: Any, slope: Any) -> Any:
    return where(as_tensor(x) > 0, x, as_tensor(x) * slope)


@register("PRelu")
def prelu_1(x: Any, slope: Any) -> Any:
    """Before opset 7 there was one slope, or one for each channel."""
    slope = as_tensor(slope)
    if slope.size > 1 and slope.ndim == 1:
        slope = slope.reshape(-1, *(1,) * (as_tensor(x).ndim - 2))
    return prelu(x, slope)


@register("Elu")
def elu(x: Any, *, alpha: float = 1.0) -> Any:
    return f.elu(x, alpha)


@register("Celu")
def celu(x: Any, *, alpha: float = 1.0) -> Any:
    return f.celu(x, alpha)


@register("Selu", since=6)
def selu(x: Any, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Any:
    if _near(alpha, 1.6732632423543772) and _near(gamma, 1.0507009873554805):
        return f.selu(x)
    x = as_tensor(x)
    return where(x > 0, x, expm1(clip(x, max=0)) * alpha) * gamma


@register("Selu")
def selu_1(x: Any, *, alpha: float = 1.6732, gamma: float = 1.0507) -> Any:
    return selu(x, alpha=alpha, gamma=gamma)


@register("Gelu")
def gelu(x: Any, *, approximate: str = "none") -> Any:
    return f.gelu(x) if approximate == "tanh" else f.gelu_erf(x)


@register("Swish")
def swish(x: Any, *, alpha: float = 1.0) -> Any:
    return f.swish(x) if alpha == 1 else as_tensor(x) * f.sigmoid(as_tensor(x) * alpha)


@register("HardSigmoid")
def hard_sigmoid(x: Any, *, alpha: float = 0.2, beta: float = 0.5) -> Any:
    if _near(alpha, 1 / 6) and beta == 0.5:
        return f.hardsigmoid(x)
    return clip(as_tensor(x) * alpha + beta, 0, 1)


@register("ThresholdedRelu")
def thresholded_relu(x: Any, *, alpha: float = 1.0) -> Any:
    return f.trelu(x, alpha)


@register("Shrink")
def shrink(x: Any, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
    x = as_tensor(x)
    if bias == lambd:
        return like(f.softshrink(x, lambd), x)
    return like(where(x > lambd, x - bias, where(x < -lambd, x + bias, 0)), x)


def _as_matrix(x: Tensor, axis: int) -> Tensor:
    """Before opset 13: all axes before ``axis`` as one, and the others."""
    axis = axis if axis == x.ndim else axis_of(x, axis)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _softmax(function: Callable[..., Any], name: str) -> None:
    @register(name)
    def flat(x: Any, *, axis: int = 1) -> Any:
        x = as_tensor(x)
        return function(_as_matrix(x, axis), -1).reshape(x.shape)

    @register(name, since=13)
    def along(x: Any, *, axis: int = -1) -> Any:
        return function(x, axis)


def _hardmax(x: Any, axis: int) -> Tensor:
    """1 at the first greatest element along ``axis``, 0 elsewhere."""
    x = as_tensor(x)
    axis = axis_of(x, axis)
    place = array_module(x.data).arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - axis - 1))
    return like(argmax(x, axis, keepdims=True) == place, x)


_softmax(softmax, "Softmax")
_softmax(logsoftmax, "LogSoftmax")
_softmax(_hardmax, "Hardmax")
