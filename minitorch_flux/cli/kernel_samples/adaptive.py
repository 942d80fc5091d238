"""Samples of the kernels that pool to a given size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...ops.adaptive_pooling import (
    adaptive_max_backward,
    adaptive_max_forward,
    adaptive_mean_backward,
    adaptive_mean_forward,
)
from .registry import Draw, sample

WIDTHS = (1, 31, 32, 33, 65)
"""Of the output, or of the gradient."""


def _sizes(d: Draw) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(sizes, output's sizes): windows of different sizes, that overlap or lie apart."""
    yield (7, 2 * d.n + 1), (3, d.n)
    yield (4, 5, d.n + 2), (3, 2, d.n)
    yield (3, d.n), (5, d.n + 1)
    yield (d.n + 40, 7, 3), (d.n + 50, 5, 2)  # deeper than high, higher than wide


def _wide(d: Draw) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The same of windows whose lines are long."""
    yield (d.n + 8,), (1,)
    yield (3, 5, 2 * d.n + 17), (2, 3, 2)


@sample("adaptive_max_forward", sizes=WIDTHS)
def _adaptive_max(d: Draw) -> Iterator[Any]:
    for sizes, out in _sizes(d):
        x = d.normal(3, 2, *sizes)
        yield adaptive_max_forward(x, out)
        x[..., ::3] = 1  # equal ones: the first wins
        x[1, ..., 1::4] = float("nan")
        yield adaptive_max_forward(x, out)


@sample("adaptive_max_wide", op="adaptive_max_forward", sizes=WIDTHS)
def _adaptive_max_wide(d: Draw) -> Iterator[Any]:
    for sizes, out in _wide(d):
        x = d.normal(3, 2, *sizes)
        yield adaptive_max_forward(x, out)
        x[..., ::3] = 1
        x[0, 1] = -float("inf")
        x[1, ..., 1::4] = float("nan")
        yield adaptive_max_forward(x, out)


@sample("adaptive_max_backward", sizes=WIDTHS)
def _adaptive_max_back(d: Draw) -> Iterator[Any]:
    for sizes, out in _sizes(d):
        y, arg = adaptive_max_forward.reference(d.normal(3, 2, *sizes), out)
        yield adaptive_max_backward(d.normal(*y.shape), arg, sizes)


@sample("adaptive_mean_forward", sizes=WIDTHS)
def _adaptive_mean(d: Draw) -> Iterator[Any]:
    for sizes, out in _sizes(d):
        yield adaptive_mean_forward(d.normal(3, 2, *sizes), out)


@sample("adaptive_mean_wide", op="adaptive_mean_forward", sizes=WIDTHS)
def _adaptive_mean_wide(d: Draw) -> Iterator[Any]:
    for sizes, out in _wide(d):
        yield adaptive_mean_forward(d.normal(3, 2, *sizes), out)


@sample("adaptive_mean_backward", sizes=WIDTHS)
def _adaptive_mean_back(d: Draw) -> Iterator[Any]:
    for sizes, out in _sizes(d):
        yield adaptive_mean_backward(d.normal(3, 2, *out), sizes)
