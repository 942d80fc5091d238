"""Small things that builders need: inputscale, swapdims, flatten_chains, round_channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...autograd import Tensor
from ...nn.chain import Chain
from ...nn.inputs import layer_name
from ...nn.layer_norms import check_activation
from ...nn.module import Module
from ...ops.elementwise import as_tensor
from ...ops.nonlinearities import identity
from ...ops.shapes import transpose


class inputscale(Module):
    """inputscale(lambda_, *, activation=identity)

    A layer that scales its input by a number: ``y = activation(lambda_ * x)``, any shape; nothing of it trains.
    Source: Metalhead's ``Layers.inputscale``.
    """

    def __init__(self, lambda_: float, *, activation: Callable[..., Any] = identity) -> None:
        if isinstance(lambda_, bool) or not isinstance(lambda_, int | float):
            raise TypeError(f"inputscale(lambda_): the scale is a number, got {lambda_!r}")
        self.lambda_, self.activation = lambda_, check_activation("inputscale", activation)

    def __call__(self, x: Any) -> Tensor:
        return self.activation(as_tensor(x) * self.lambda_)


class swapdims(Module):
    """swapdims(perm)

    A layer that permutes the axes of its input: axis i of the output is axis ``perm[i]`` of the input, counted from 0 in our
    order: ``swapdims((0, 2, 1))`` turns (N, L, C) into (N, C, L).

    Raises ValueError where ``perm`` is no permutation, and for an input with another number of axes.
    Source: Metalhead's ``Layers.swapdims``, whose axes are Julia's.
    """

    def __init__(self, perm: Any) -> None:
        self.perm = tuple(perm)
        if sorted(self.perm) != list(range(len(self.perm))):
            raise ValueError(f"swapdims: perm must hold each of the axes 0 to {len(self.perm) - 1} once, got {perm!r}")

    def __call__(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if x.ndim != len(self.perm):
            raise ValueError(f"{layer_name(self)}: the input has {x.ndim} axes, expected {len(self.perm)} (input shape "
                             f"{x.shape})")
        return transpose(x, self.perm)


def flatten_chains(m: Any) -> Iterator[Any]:
    """flatten_chains(m)

    The layers of a Chain of Chains in the order in which they are called: nested Chains are entered, and nothing else is.
    What is no Chain is its own only layer. Source: Metalhead's ``Layers.flatten_chains``.
    """
    if isinstance(m, Chain):
        for layer in m:
            yield from flatten_chains(layer)
    else:
        yield m


def round_channels(channels: float, divisor: int = 8, min_value: int = 0) -> int:
    """``channels`` rounded to a multiple of ``divisor``, at least ``min_value`` and never below nine tenths of it.

    The widths of MobileNets and EfficientNets are rounded so.
    """
    rounded = max(min_value, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
