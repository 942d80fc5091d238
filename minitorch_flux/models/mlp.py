"""MLP: fully connected layers, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..nn.chain import Chain
from ..nn.dense import Dense
from ..ops.nonlinearities import relu
from ..ops.shapes import flatten


def MLP(
    shape: int | Sequence[int],
    hidden: Sequence[int] = (128, 64),
    nclasses: int = 10,
    activation: Callable[..., Any] = relu,
    rng: Any = None,
) -> Chain:
    """A multilayer perceptron: the observation flattened, a Dense layer for each number in ``hidden``, one for scores.

    ``shape``: the shape of one observation, ``(C, H, W)`` for images. ``(N, *shape)`` gives logits ``(N, nclasses)``.
    """
    sizes = [shape if isinstance(shape, int) else math.prod(shape), *hidden]
    layers = [Dense(a, b, activation, rng=rng) for a, b in zip(sizes, sizes[1:], strict=False)]
    return Chain(flatten, *layers, Dense(sizes[-1], nclasses, rng=rng))
