"""Connections: functions that join the outputs of layers, for Parallel, SkipConnection and the builders."""

from __future__ import annotations

from functools import reduce
from typing import Any

from ...autograd import Tensor
from ...ops.arithmetic import add
from ...ops.joining import concatenate
from ...ops.nonlinearities import relu


def _activation_first(name: str, xs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    activation, xs = (xs[0], xs[1:]) if xs and callable(xs[0]) else (relu, xs)
    if not xs:
        raise TypeError(f"{name}([activation=relu,] x, y, ...): there is nothing to add up")
    return activation, xs


def addact(*xs: Any) -> Tensor:
    """addact([activation=relu,] x, y, ...)

    ``activation(x + y + ...)``: the connection of a residual block. ``partial(addact, swish)`` has another activation.
    Source: Metalhead's ``Layers.addact``.
    """
    activation, xs = _activation_first("addact", xs)
    return activation(reduce(add, xs))


def actadd(*xs: Any) -> Tensor:
    """actadd([activation=relu,] x, y, ...)

    ``activation(x) + activation(y) + ...``: the connection of a residual block whose inputs are activated.
    Source: Metalhead's ``Layers.actadd``.
    """
    activation, xs = _activation_first("actadd", xs)
    return reduce(add, map(activation, xs))


def cat_channels(*xs: Any) -> Tensor:
    """cat_channels(x, y, ...)

    The arrays (N, C, ...) side by side along their channels, axis 1; a tuple or list among the arguments stands for what it
    holds. A connection for ``Parallel``. Source: Metalhead's ``Layers.cat_channels``.
    """
    arrays = [a for x in xs for a in (x if isinstance(x, tuple | list) else (x,))]
    if not arrays:
        raise TypeError("cat_channels(x, y, ...): there is nothing to join")
    return concatenate(arrays, axis=1)
