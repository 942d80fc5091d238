"""The mathematics of the activations: one row each, in ``xp`` (kernels: kernels/nonlinearities.cu, the same names).

A row is a function ``f(xp, x)`` and its derivative ``df(xp, s)``, where ``s`` is the output y if the row says so (then
x need not be kept) and the input x otherwise. ``xp`` is NumPy, CuPy, or this library's own functions on tensors: the
same text is the reference, the gradient and the gradient's gradient. A derivative that is 0 or 1 is a mask of booleans:
it selects from the incoming gradient, so that an infinite one stays out of the dead half.

Formulas are arranged so that plus and minus infinity give the mathematical limits, a NaN stays a NaN, and nothing
overflows on the way. Corners: relu'(0) = 0, leakyrelu'(0) = a, elu'(0) = 1, selu'(0) = lambda alpha; the clipped ones
have slope 0 where they start to be flat.

Source: NNlib.jl, ``src/activations.jl``, whose names these are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..autograd import Tensor
from .elementwise import either
from .special import erf

FAR = 1000.0  # from here on every smooth activation equals its limit, in float64 too: exp(-1000) = 0
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017
SELU_LEFT = SELU_SCALE * SELU_ALPHA
GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715  # Hendrycks and Gimpel 2016


@dataclass(frozen=True)
class Row:
    """One activation: see the head of this file."""

    name: str
    f: Callable[..., Any]
    df: Callable[..., Any]
    from_output: bool
    default: float | None = None  # of its parameter, where it has one
    formula: str = ""
    kernel_from: int = 1  # below this many elements NumPy is quicker than a kernel's launch


def _far(xp: Any, x: Any) -> Any:
    return xp.clip(x, -FAR, FAR)


def _sigmoid(xp: Any, x: Any) -> Any:
    if isinstance(x, Tensor):
        return either.sigmoid(x)  # |x| has no slope at 0, sigmoid has
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


def _softplus(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def _swish_slope(xp: Any, x: Any) -> Any:
    x = _far(xp, x)
    s = _sigmoid(xp, x)
    return s * (1 + x * (1 - s))


def _gelu_sigmoid(xp: Any, x: Any) -> Any:
    """0.5 (1 + tanh(u)) = sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3): no cancellation on the left."""
    return _sigmoid(xp, 2 * GELU_SCALE * (x + GELU_CUBE * x * x * x))


def _gelu(xp: Any, x: Any) -> Any:
    return xp.maximum(x, -30) * _gelu_sigmoid(xp, xp.clip(x, -30, 30))  # at 30 it is saturated, in float64 too


def _gelu_slope(xp: Any, x: Any) -> Any:
    x = xp.clip(x, -30, 30)
    s = _gelu_sigmoid(xp, x)
    return s + x * s * (1 - s) * 2 * GELU_SCALE * (1 + 3 * GELU_CUBE * x * x)


def _normal_cdf(xp: Any, x: Any) -> Any:
    return 0.5 * (1 + either(erf)(x * math.sqrt(0.5)))


def _gelu_erf_slope(xp: Any, x: Any) -> Any:
    x = xp.clip(x, -40, 40)
    return _normal_cdf(xp, x) + x * xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _lisht_slope(xp: Any, x: Any) -> Any:
    x = _far(xp, x)
    t = xp.tanh(x)
    return t + x * (1 - t * t)


def _logcosh(xp: Any, x: Any) -> Any:
    x = xp.abs(x)
    return x + (xp.log1p(xp.exp(-2 * xp.minimum(x, FAR))) - math.log(2))


def _tanh_softplus(xp: Any, x: Any) -> Any:
    """tanh(log(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2); 1 from 30 on."""
    e = xp.exp(xp.minimum(x, 30))
    n = e * (e + 2)
    return n / (n + 2)


def _mish_slope(xp: Any, x: Any) -> Any:
    x = _far(xp, x)
    t = _tanh_softplus(xp, x)
    return t + x * _sigmoid(xp, x) * (1 - t * t)


def _tanh_squared(xp: Any, x: Any) -> Any:
    t = xp.tanh(x)
    return t * t


def _softsign_slope(xp: Any, x: Any) -> Any:
    r = 1 / (1 + xp.abs(x))
    return r * r


ROWS = (
    Row("identity", lambda xp, x: x, lambda xp, y: xp.ones_like(y), True, kernel_from=512,
        formula="x"),
    Row("sigmoid", _sigmoid, lambda xp, y: y * (1 - y), True,
        formula="1 / (1 + exp(-x))"),
    Row("hardsigmoid", lambda xp, x: xp.clip((x + 3) / 6, 0, 1),
        lambda xp, y: xp.where((y > 0) & (y < 1), 1 / 6, y * 0), True,
        formula="max(0, min(1, (x + 3) / 6))"),
    Row("logsigmoid", lambda xp, x: -_softplus(xp, -x), lambda xp, y: -xp.expm1(y), True,
        formula="log(sigmoid(x))"),
    Row("hardtanh", lambda xp, x: xp.clip(x, -1, 1), lambda xp, y: xp.abs(y) < 1, True,
        formula="max(-1, min(1, x))"),
    Row("tanh", lambda xp, x: xp.tanh(x), lambda xp, y: 1 - y * y, True, kernel_from=512,
        formula="tanh(x)"),
    Row("relu", lambda xp, x: xp.maximum(x, 0), lambda xp, y: y > 0, True, kernel_from=512,
        formula="max(0, x)"),
    Row("leakyrelu", lambda xp, x, a=0.01: xp.where(x > 0, x, a * x),
        lambda xp, y, a=0.01: xp.where(y > 0, xp.ones_like(y), a), True, default=0.01,
        formula="x if x > 0 else a x"),
    Row("relu6", lambda xp, x: xp.clip(x, 0, 6), lambda xp, y: (y > 0) & (y < 6), True,
        formula="max(0, min(6, x))"),
    Row("elu", lambda xp, x, alpha=1.0: xp.where(x >= 0, x, alpha * xp.expm1(xp.minimum(x, 0))),
        lambda xp, y, alpha=1.0: xp.where(y >= 0, 1, y + alpha), True, default=1.0,
        formula="x if x >= 0 else alpha (exp(x) - 1)"),
    Row("gelu", _gelu, _gelu_slope, False,
        formula="0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"),
    Row("gelu_erf", lambda xp, x: xp.maximum(x, -40) * _normal_cdf(xp, x), _gelu_erf_slope, False,
        formula="0.5 x (1 + erf(x / sqrt(2)))"),
    Row("swish", lambda xp, x: xp.maximum(x, -FAR) * _sigmoid(xp, x), _swish_slope, False,
        formula="x sigmoid(x)"),
    Row("hardswish", lambda xp, x: xp.maximum(x, -3) * xp.clip((x + 3) / 6, 0, 1),
        lambda xp, x: xp.where(xp.abs(x) < 3, x / 3 + 0.5, x > 0), False,
        formula="x hardsigmoid(x)"),
    Row("lisht", lambda xp, x: x * xp.tanh(x), _lisht_slope, False,
        formula="x tanh(x)"),
    Row("selu", lambda xp, x: xp.where(x > 0, SELU_SCALE * x, SELU_LEFT * xp.expm1(xp.minimum(x, 0))),
        lambda xp, y: xp.where(y > 0, SELU_SCALE, y + SELU_LEFT), True,
        formula="1.0507 x if x > 0 else 1.0507 1.6733 (exp(x) - 1)"),
    Row("celu", lambda xp, x, alpha=1.0: xp.where(x >= 0, x, alpha * xp.expm1(xp.minimum(x, 0) / alpha)),
        lambda xp, y, alpha=1.0: xp.where(y > 0, 1, y / alpha + 1), True, default=1.0,
        formula="x if x >= 0 else alpha (exp(x / alpha) - 1)"),
    Row("softplus", _softplus, lambda xp, y: -xp.expm1(-y), True,
        formula="log(1 + exp(x))"),
    Row("softsign", lambda xp, x: (c := xp.clip(x, -1e30, 1e30)) / (1 + xp.abs(c)), _softsign_slope, False,
        formula="x / (1 + |x|)"),
    Row("logcosh", _logcosh, lambda xp, x: xp.tanh(x), False,
        formula="log(cosh(x))"),
    Row("mish", lambda xp, x: xp.maximum(x, -FAR) * _tanh_softplus(xp, x), _mish_slope, False,
        formula="x tanh(softplus(x))"),
    Row("tanhshrink", lambda xp, x: x - xp.tanh(x), _tanh_squared, False,
        formula="x - tanh(x)"),
    Row("softshrink", lambda xp, x, lambda_=0.5: x - xp.clip(x, -lambda_, lambda_),
        lambda xp, y, lambda_=0.5: y != 0, True, default=0.5,
        formula="x - lambda if x > lambda else (x + lambda if x < -lambda else 0)"),
    Row("hardshrink", lambda xp, x, lambda_=0.5: xp.where(xp.abs(x) <= lambda_, 0, x),
        lambda xp, y, lambda_=0.5: y != 0, True, default=0.5,
        formula="x if |x| > lambda else 0"),
    Row("trelu", lambda xp, x, theta=1.0: xp.where(x <= theta, 0, x),
        lambda xp, y, theta=1.0: y != 0, True, default=1.0,
        formula="x if x > theta else 0"),
)
