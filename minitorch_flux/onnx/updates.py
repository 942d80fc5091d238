"""The optimiser steps that ONNX has as operators (domain ai.onnx.preview.training), in its own formulas.

Inputs are the rate, the number of the step, and then the parameters, their gradients and their states, all of one kind
together; outputs are the new parameters and states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops.elementary import sqrt
from ..ops.elementwise import as_tensor
from .registry import register

DOMAIN = "ai.onnx.preview.training"
Step = Callable[..., tuple[Any, ...]]


def _each(step: Step, inputs: tuple[Any, ...], kinds: int) -> tuple[Any, ...]:
    """``step(x, g, *states)`` for each parameter, the results sorted by kind."""
    n = len(inputs) // kinds
    columns = [inputs[i * n : i * n + n] for i in range(kinds)]
    results = [step(*map(as_tensor, row)) for row in zip(*columns, strict=True)]
    return tuple(value for kind in zip(*results, strict=True) for value in kind)


@register("Adagrad", DOMAIN, host=("r", "t"))
def adagrad(
    r: Any, t: Any, *inputs: Any, decay_factor: float = 0.0, epsilon: float = 1e-6, norm_coefficient: float = 0.0
) -> Any:
    rate = r.item() / (1 + t.item() * decay_factor)

    def step(x: Any, g: Any, h: Any) -> tuple[Any, ...]:
        g = x * norm_coefficient + g
        h = h + g * g
        return x - g * rate / (sqrt(h) + epsilon), h

    return _each(step, inputs, 3)


@register("Adam", DOMAIN, host=("r", "t"))
def adam(
    r: Any, t: Any, *inputs: Any, alpha: float = 0.9, beta: float = 0.999, epsilon: float = 1e-6,
    norm_coefficient: float = 0.0, norm_coefficient_post: float = 0.0,
) -> Any:
    k = t.item()
    rate = r.item() * (1 - beta**k) ** 0.5 / (1 - alpha**k) if k > 0 else r.item()

    def step(x: Any, g: Any, v: Any, h: Any) -> tuple[Any, ...]:
        g = x * norm_coefficient + g
        v, h = v * alpha + g * (1 - alpha), h * beta + g * g * (1 - beta)
        return (x - v * rate / (sqrt(h) + epsilon)) * (1 - norm_coefficient_post), v, h

    return _each(step, inputs, 4)


@register("Momentum", DOMAIN, host=("r", "t"))
def momentum(r: Any, t: Any, *inputs: Any, alpha: float, beta: float, mode: str, norm_coefficient: float) -> Any:
    rate, share = r.item(), beta if t.item() > 0 else 1.0

    def step(x: Any, g: Any, v: Any) -> tuple[Any, ...]:
        g = x * norm_coefficient + g
        v = v * alpha + g * share
        return x - (g + v * alpha if mode == "nesterov" else v) * rate, v

    return _each(step, inputs, 3)
