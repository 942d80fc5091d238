"""Samples of the kernels that normalise: along rows, by channel, by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...backend import accumulator
from ...ops.channel_norms import (
    batch_norm_backward,
    batch_norm_forward,
    fixed_norm_forward,
    group_norm_backward,
    group_norm_forward,
)
from ...ops.layer_norms import layer_norm_backward, layer_norm_forward, rms_norm_backward, rms_norm_forward
from ...ops.nonlinearities import ACTIVATIONS
from .registry import Calls, Draw, sample

# -- layer_norms.cu ----------------------------------------------------------------------------------------------------

_ROWS = 37  # more than two chunks of the gradients' kernels


@sample("layer_norm_forward")
def _layer_norm(d: Draw) -> Iterator[Any]:
    for inside in (False, True):
        for given in ((True, True), (True, False), (False, False)):
            w, b = (d.normal(d.n) if g else None for g in given)
            y, shift, deviation = layer_norm_forward(d.normal(5, d.n) + 4, w, b, 1, 0.1, inside)
            yield y, deviation, shift if d.n > 1 else None


@sample("layer_norm_backward")
def _layer_norm_back(d: Draw) -> Iterator[Any]:
    for inside in (False, True):
        for weighted, needs in ((True, (True, True, True)), (True, (True, False, False)), (False, (True, False, False))):
            x, dy = d.normal(_ROWS, d.n) + 4, d.normal(_ROWS, d.n)
            w = d.normal(d.n) if weighted else None
            _, shift, deviation = layer_norm_forward.reference(x, w, None, 1, 0.1, inside)
            yield layer_norm_backward(dy, x, w, shift, deviation, 1, 0.1, inside, needs)


@sample("rms_norm_forward")
def _rms_norm(d: Draw) -> Iterator[Any]:
    for weighted in (True, False):
        yield rms_norm_forward(d.normal(5, d.n), d.normal(d.n) if weighted else None, 1, 0.1)


@sample("rms_norm_backward")
def _rms_norm_back(d: Draw) -> Iterator[Any]:
    for weighted, needs in ((True, (True, True)), (True, (True, False)), (False, (True, False))):
        x, dy, w = d.normal(_ROWS, d.n), d.normal(_ROWS, d.n), d.normal(d.n) if weighted else None
        _, scale = rms_norm_forward.reference(x, w, 1, 0.1)
        yield rms_norm_backward(dy, x, w, scale, 1, needs)


# -- channel_norms.cu --------------------------------------------------------------------------------------------------

_ACTIVATIONS = ("identity", "tanh", "gelu")  # none; one whose slope is found from the output; one from the input


def _affine(d: Draw, channels: int, given: bool) -> tuple[Any, Any]:
    return (d.normal(channels), d.normal(channels)) if given else (None, None)


def _mean(d: Draw, i: int) -> float:
    """Of the inputs: near the deviation, and so large that only a first guess that is near, too, leaves the digits right."""
    return 4.0 if i < 2 else 1e9 if d.dtype.itemsize == 8 else 4e4


def _batch_norm(shape_of: Callable[[Draw], tuple[int, ...]]) -> Calls:
    def calls(d: Draw) -> Iterator[Any]:
        shape = shape_of(d)
        for i, name in enumerate(_ACTIVATIONS):
            w, b = _affine(d, shape[1], i > 0)
            y, stats = batch_norm_forward(d.normal(*shape) + _mean(d, i), w, b, 0.1, ACTIVATIONS[name])
            yield y, stats[0] + stats[1], stats[2:]  # the mean comes in two parts

    return calls


def _batch_norm_back(shape_of: Callable[[Draw], tuple[int, ...]]) -> Calls:
    def calls(d: Draw) -> Iterator[Any]:
        shape = shape_of(d)
        for i, name in enumerate(_ACTIVATIONS):
            for needs, fixed in (((True, True, True), False), ((True, True, True), True), ((False, True, True), False)):
                x, dy, (w, b) = d.normal(*shape) + 4, d.normal(*shape), _affine(d, shape[1], i > 0)
                _, stats = batch_norm_forward.reference(x, w, b, 0.1, ACTIVATIONS[name])
                yield batch_norm_backward(dy, x, w, b, stats, ACTIVATIONS[name], needs, fixed)

    return calls


def _fixed_norm(shape_of: Callable[[Draw], tuple[int, ...]]) -> Calls:
    def calls(d: Draw) -> Iterator[Any]:
        shape = shape_of(d)
        for i, name in enumerate(_ACTIVATIONS):
            w, b = _affine(d, shape[1], i > 0)
            stats = d.uniform(4, shape[1], low=0.5, high=2, dtype=accumulator(d.dtype))
            yield fixed_norm_forward(d.normal(*shape), w, b, stats, ACTIVATIONS[name])

    return calls


def _images(d: Draw) -> tuple[int, ...]:
    return 9, 3, d.n + 1


def _vectors(d: Draw) -> tuple[int, ...]:
    return 22, d.n


for _shape_of, _tail in ((_images, ""), (_vectors, "_last")):
    sample(f"batch_norm_forward{_tail}")(_batch_norm(_shape_of))
    sample(f"batch_norm_backward{_tail}")(_batch_norm_back(_shape_of))
    sample(f"fixed_norm_forward{_tail}")(_fixed_norm(_shape_of))


@sample("group_norm_forward")
def _group_norm(d: Draw) -> Iterator[Any]:
    for i, name in enumerate(_ACTIVATIONS):
        w, b = _affine(d, 6, i > 0)
        y, stats = group_norm_forward(d.normal(3, 6, d.n) + 4, w, b, 2, 0.1, ACTIVATIONS[name])
        yield y, stats[0] + stats[1], stats[2:]


@sample("group_norm_backward", "group_norm_sums")
def _group_norm_back(d: Draw) -> Iterator[Any]:
    for i, name in enumerate(_ACTIVATIONS):
        for needs in ((True, True, True), (False, True, True), (True, False, False)):
            x, dy, (w, b) = d.normal(3, 6, d.n) + 4, d.normal(3, 6, d.n), _affine(d, 6, i > 0)
            _, stats = group_norm_forward.reference(x, w, b, 2, 0.1, ACTIVATIONS[name])
            yield group_norm_backward(dy, x, w, b, stats, 2, ACTIVATIONS[name], needs)
