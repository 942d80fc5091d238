"""Samples of the matrix products that end in a bias and an activation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...ops.dense import by_panels, by_rows, dense_data, dense_forward, dense_weights, weights_by_parts
from ...ops.nonlinearities import gelu, identity, tanh
from .registry import Draw, sample


@sample("dense_small", op="dense_forward")
def _small(d: Draw) -> Iterator[Any]:
    for rows, outputs, activation in ((3, 5, tanh), (1, 33, gelu), (2, 1, identity)):
        x, w = d.normal(rows, d.n), d.normal(outputs, d.n) / d.dtype.type(d.n**0.5)
        b = None if activation is tanh else d.normal(outputs)
        yield by_rows(x, w, b, activation) if d.kernels else dense_forward(x, w, b, activation)


@sample("dense_forward", sizes=(1, 31, 33, 47, 48, 49, 97))
def _panels(d: Draw) -> Iterator[Any]:
    """By one part and by several: with a panel that two of them share, and with a strip that ends early."""
    for rows, inputs, parts, activation in ((9, 17, 1, tanh), (33, 16, 3, gelu), (70, 35, 2, identity)):
        x, w = d.normal(rows, inputs), d.normal(d.n, inputs) / d.dtype.type(inputs**0.5)
        b = None if activation is tanh else d.normal(d.n)
        yield by_panels(x, w, b, activation, True, parts) if d.kernels else dense_forward(x, w, b, activation)
        dz = d.normal(rows, d.n)
        yield by_panels(dz, w, None, identity, False, parts)[0] if d.kernels else dense_data(dz, w)


@sample("dense_weights", sizes=(1, 7, 9, 25, 31, 33, 49))
def _weights(d: Draw) -> Iterator[Any]:
    """With all samples in one chunk and in several, all outputs in one group and in several, a part without any."""
    for rows, inputs, parts, chunk, group in ((9, 17, 1, 9, 1024), (35, 50, 3, 16, 8), (34, 97, 2, 17, 16)):
        dz, x = d.normal(rows, d.n), d.normal(rows, inputs)
        yield weights_by_parts(dz, x, parts, chunk, group) if d.kernels else dense_weights(dz, x)
