"""Pools: AdaptiveMeanMaxPool, the mean and the maximum in one, and what makes one vector of tokens."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor
from ...nn.combinations import Parallel
from ...nn.pools import AdaptiveMaxPool, AdaptiveMeanPool
from ...ops.arithmetic import add
from ...ops.elementwise import as_tensor
from ...ops.reductions import mean


def AdaptiveMeanMaxPool(connection: Any = add, output_size: Any = None) -> Parallel:
    """AdaptiveMeanMaxPool([connection=add,] output_size=(1, 1))

    Mean and max pooling to the size ``output_size`` combined: ``Parallel(connection, AdaptiveMeanPool(output_size),
    AdaptiveMaxPool(output_size))``, which is what it returns. ``connection`` is a function of the two, by default their
    sum (timm's "avgmax" is half of it); ``AdaptiveMeanMaxPool((2, 2))`` and ``AdaptiveMeanMaxPool(maximum, (2, 2))`` are
    both valid. ``partial(cat, axis=1)`` gives twice the channels.
    Source: Metalhead's ``Layers.AdaptiveMeanMaxPool``.
    """
    if not callable(connection):
        if output_size is not None:
            raise TypeError(f"AdaptiveMeanMaxPool([connection,] output_size): the connection is a function, got {connection!r}")
        connection, output_size = add, connection
    size = (1, 1) if output_size is None else output_size
    return Parallel(connection, AdaptiveMeanPool(size), AdaptiveMaxPool(size))


def token_mean(x: Any) -> Tensor:
    """The mean of all tokens: ``x`` (N, L, C) gives (N, C). Source: Metalhead's ``Layers.seconddimmean``."""
    return mean(_tokens("token_mean", x), axis=1)


def first_token(x: Any) -> Tensor:
    """The first token, of which a vision transformer's classifier is read: ``x`` (N, L, C) gives (N, C)."""
    return _tokens("first_token", x)[:, 0]


def _tokens(name: str, x: Any) -> Tensor:
    x = as_tensor(x)
    if x.ndim != 3 or not x.shape[1]:
        raise ValueError(f"{name}: expected tokens (N, L, features), one at least (input shape {x.shape})")
    return x
