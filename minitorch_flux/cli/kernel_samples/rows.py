"""Samples of the kernels that add up, compare or gather along rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...backend import accumulator, empty
from ...ops.attention import attention_backward, attention_forward, attention_weights, attention_weights_backward
from ...ops.crossentropies import logitcrossentropy_forward
from ...ops.ctc import ctc_backward, ctc_forward
from ...ops.embedding import bag_argmax, bag_sum_forward
from ...ops.extremes import extremes
from ...ops.indexing import accumulate_rows, indexing
from ...ops.reductions import reductions
from ...ops.softmaxes import (
    logsoftmax_backward,
    logsoftmax_forward,
    logsumexp_forward,
    softmax_backward,
    softmax_forward,
)
from .registry import Calls, Draw, sample

# -- softmaxes.cu, crossentropies.cu: along the last axis, and along another one ---------------------------------------


def _last(d: Draw) -> tuple[tuple[int, ...], int]:
    return (5, d.n), -1


def _planes(d: Draw) -> tuple[tuple[int, ...], int]:
    return (3, 4, d.n + 1), 1  # a plane of one element would be the last axis


def _along(f: Callable[..., Any], shape_of: Callable[[Draw], Any], pair: bool) -> Calls:
    def calls(d: Draw) -> Iterator[Any]:
        shape, axis = shape_of(d)
        x = 3 * d.normal(*shape)
        y = softmax_forward.reference(d.normal(*shape), axis)
        if f is logsoftmax_backward:
            y = np.log(y)
        yield f(x, y, axis) if pair else f(x, axis)
        if not pair:
            yield f(1000 * x, axis)  # exp(x) is too large
            x[..., 0], x[..., -1] = np.inf, -np.inf
            yield f(x, axis)

    return calls


for _f, _pair in (
    (softmax_forward, False),
    (softmax_backward, True),
    (logsoftmax_forward, False),
    (logsoftmax_backward, True),
    (logsumexp_forward, False),
):
    sample(_f.name)(_along(_f, _last, _pair))
    sample(f"{_f.name}_planes")(_along(_f, _planes, _pair))


def _crossentropy(shape_of: Callable[[Draw], Any]) -> Calls:
    def calls(d: Draw) -> Iterator[Any]:
        shape, axis = shape_of(d)
        axis %= len(shape)
        c, rest = shape[axis], shape[:axis] + shape[axis + 1 :]
        for indices in (True, False):
            for weighted in (False, True):
                target = d.whole(c, *rest) if indices else softmax_forward.reference(d.normal(*shape), axis)
                weight = d.uniform(c, low=0.5, high=2) if weighted else None
                for smoothing, scale in ((0.0, 1), (0.1, 3), (0.1, 400)):  # exp(400) is too large
                    agg = "mean" if weighted else "none"
                    yield logitcrossentropy_forward(scale * d.normal(*shape), target, weight, axis, smoothing, agg)
        for wrong in (c, -1):
            target = d.whole(c, *rest)
            target[-1] = wrong
            yield _is_refused(lambda t: logitcrossentropy_forward(d.normal(*shape), t, None, axis, 0.1, "none"), target)

    return calls


def _is_refused(f: Callable[..., Any], target: np.ndarray) -> np.ndarray:
    """Whether labels are refused, as those that are no class must be."""
    try:
        f(target)
    except IndexError:
        return np.array(True)
    return np.array(False)


sample("logitcrossentropy_forward")(_crossentropy(_last))
sample("logitcrossentropy_forward_planes")(_crossentropy(_planes))


# -- reductions.cu, indexing.cu, embedding.cu --------------------------------------------------------------------------


@sample("sum_rows", op="sum_forward")
def _sum_rows(d: Draw) -> Iterator[Any]:
    for chunk in (4096, 50):
        x, parts = d.normal(5, d.n), -(-d.n // chunk)
        y = empty((5, parts), accumulator(d.dtype))
        if d.kernels:
            if not reductions("sum_rows", x, 5 * parts, min(chunk, d.n), x, y, 5, d.n, parts, chunk):
                return
            yield y
        else:
            yield np.add.reduceat(x.astype(y.dtype), np.arange(0, d.n, chunk), axis=1)


@sample("sum_columns", op="sum_forward")
def _sum_columns(d: Draw) -> Iterator[Any]:
    """Lines of `width`, the last one of a part perhaps shorter; from 1025 on, four lines at a time."""
    for lines, chunk in ((7, 3), (11, 10)):
        width, length = d.n, lines * d.n - d.n // 3
        parts = -(-length // (chunk * width))
        x, y = d.normal(2, length), empty((2, parts, width), accumulator(d.dtype))
        if d.kernels:
            if not reductions("sum_columns", x, 2 * parts, width, x, y, 2, length, width, parts, chunk):
                return
            yield y
        else:
            whole = np.zeros((2, parts * chunk * width), y.dtype)
            whole[:, :length] = x
            yield whole.reshape(2, parts, chunk, width).sum(axis=2)


@sample("take_forward", tolerance=0)
def _take(d: Draw) -> Iterator[Any]:
    x, index = d.normal(7, d.n), d.whole(7, 11)
    y = empty((11, d.n), d.dtype)
    if not d.kernels:
        yield x[index]
    elif indexing("take_forward", x, 11, d.n, x, index, y, 11, d.n):
        yield y


@sample("accumulate_rows")
def _accumulate_rows(d: Draw) -> Iterator[Any]:
    yield accumulate_rows(d.normal(23, d.n), d.whole(5, 23) // 2 * 2, 6)  # some positions get nothing


def _bags(d: Draw) -> tuple[Any, ...]:
    x = d.normal(9, d.n)
    return x, d.whole(9, 13), d.place(np.array([0, 3, 3, 4, 13]))


@sample("bag_sum")
def _bag_sum(d: Draw) -> Iterator[Any]:
    x, index, start = _bags(d)
    yield bag_sum_forward(x, None, index, start)
    yield bag_sum_forward(x, d.normal(13), index, start)


@sample("bag_argmax", tolerance=0)
def _bag_argmax(d: Draw) -> Iterator[Any]:
    x, index, start = _bags(d)
    x[1] = x[2]  # the first of equal ones
    yield bag_argmax(x, index, start)
    x[3, ::2] = np.nan
    yield bag_argmax(x, index, start)


# -- extremes.cu -------------------------------------------------------------------------------------------------------


def _with_ties(d: Draw, least: int, *shape: int) -> np.ndarray:
    """Few different numbers, which float32 rounds; a NaN; and at the front nothing that is less than infinite."""
    x = (0.1 * d.whole(5, *shape)).astype(d.dtype)
    x[-1, ..., d.n // 2] = np.nan
    x[0] = np.inf if least else -np.inf
    return x


def _first_extreme(x: np.ndarray, axis: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    index = (np.argmin if least else np.argmax)(x, axis=axis)
    return np.take_along_axis(x, np.expand_dims(index, axis), axis).squeeze(axis), index


@sample("extreme_rows", op="max_forward")
def _extreme_rows(d: Draw) -> Iterator[Any]:
    for least in (0, 1):
        for chunk in (d.n, -(-d.n // 3)):
            x, parts = _with_ties(d, least, 5, d.n), -(-d.n // chunk)
            y, index = empty((5, parts), d.dtype), empty((5, parts), np.int64)
            if not d.kernels:
                pieces = [_first_extreme(x[:, s : s + chunk], 1, least) for s in range(0, d.n, chunk)]
                y, index = np.stack([p[0] for p in pieces], 1), np.stack([p[1] + k * chunk for k, p in enumerate(pieces)], 1)
                yield y, index, y, index
                continue
            for outputs in ((y, index), (y.copy(), None), (None, index.copy())):
                if not extremes(
                    "extreme_rows", x, 5 * parts, chunk, x, *outputs, 5, d.n, parts, chunk, constants={"LEAST": least}
                ):
                    return
                yield outputs


@sample("extreme_columns", op="max_forward")
def _extreme_columns(d: Draw) -> Iterator[Any]:
    for least in (0, 1):
        for chunk, tile in ((7, d.n), (3, 20)):
            x, parts, tiles = _with_ties(d, least, 2, 7, d.n), -(-7 // chunk), -(-d.n // tile)
            y, index = empty((2, parts, d.n), d.dtype), empty((2, parts, d.n), np.int64)
            if not d.kernels:
                pieces = [_first_extreme(x[:, s : s + chunk], 1, least) for s in range(0, 7, chunk)]
                y, index = np.stack([p[0] for p in pieces], 1), np.stack([p[1] + k * chunk for k, p in enumerate(pieces)], 1)
                yield y, index, y, index
                continue
            for outputs in ((y, index), (y.copy(), None), (None, index.copy())):
                if not extremes(
                    "extreme_columns", x, 2 * parts * tiles, tile, x, *outputs, 2, 7, d.n, parts, chunk, tile,
                    constants={"LEAST": least},
                ):  # fmt: skip
                    return
                yield outputs


@sample("place_rows", op="place_forward", tolerance=0)
def _place_rows(d: Draw) -> Iterator[Any]:
    dy, index, x = d.normal(5), d.whole(d.n, 5), empty((5, d.n), d.dtype)
    if not d.kernels:
        yield np.where(np.arange(d.n) == index[:, None], dy[:, None], 0).astype(d.dtype)
    elif extremes("place_rows", dy, 5, d.n, dy, index, x, 5, d.n):
        yield x


@sample("place_columns", op="place_forward", tolerance=0)
def _place_columns(d: Draw) -> Iterator[Any]:
    dy, index, x = d.normal(2, d.n), d.whole(4, 2, d.n), empty((2, 4, d.n), d.dtype)
    if not d.kernels:
        yield np.where(np.arange(4)[:, None] == index[:, None], dy[:, None], 0).astype(d.dtype)
    elif extremes("place_columns", dy, 8, d.n, dy, index, x, 2, 4, d.n):
        yield x


# -- attention.cu ------------------------------------------------------------------------------------------------------


def _masks(d: Draw) -> Iterator[tuple[Any, int]]:
    """(mask, first key that is too late for query 0, or -1) for 2 batches, 3 heads, 4 queries."""
    yield None, -1
    yield None, d.n // 2
    yield None, 0
    for shape in ((2, 3, 4, d.n), (2, 1, 4, d.n), (1, 3, 1, d.n)):
        mask = d.flags(*shape)
        mask[0, 0, 0] = False  # a query that sees nothing
        yield mask, -1
    yield d.flags(1, 1, 4, d.n), max(d.n - 3, 0)


@sample("attention_weights")
def _attention_weights(d: Draw) -> Iterator[Any]:
    for mask, first in _masks(d):
        yield attention_weights(3 * d.normal(2, 3, 4, d.n), mask, 0.7, first)


@sample("attention_weights_backward")
def _attention_weights_back(d: Draw) -> Iterator[Any]:
    for mask, first in _masks(d):
        s, dp = 3 * d.normal(2, 3, 4, d.n), d.normal(2, 3, 4, d.n)
        _, lse = attention_weights.reference(s.copy(), mask, 0.7, first)
        yield attention_weights_backward(s, dp, mask, lse, 0.7, first)


# -- fused_attention.cu ------------------------------------------------------------------------------------------------


def _heads(d: Draw) -> Iterator[tuple[Any, ...]]:
    """(q, k, v, mask, causal): heads that share keys, layouts, and once more queries than a block has."""
    for heads, length, width in ((2, 3, d.n), (4, 3, d.n), (2, 65, 3)):
        causal = heads == 4 or length > width
        n = 1 if length > width else 2
        mask = d.flags(n, 1, length, width) if heads == 4 else None
        if mask is not None:
            mask[0, 0, 0] = False  # a query that sees nothing
        q, k = d.normal(n, heads, length, 5), d.normal(n, width, 2, 5).swapaxes(1, 2)
        yield q, k, d.normal(n, 2, width, 7), mask, causal


@sample("fused_attention_forward")
def _fused_attention(d: Draw) -> Iterator[Any]:
    for q, k, v, mask, causal in _heads(d):
        yield attention_forward(q, k, v, mask, causal, 0.7)


@sample("fused_attention_backward")
def _fused_attention_back(d: Draw) -> Iterator[Any]:
    for q, k, v, mask, causal in _heads(d):
        y, lse = attention_forward.reference(q, k, v, mask, causal, 0.7)
        yield attention_backward(d.normal(*y.shape), q, k, v, lse, mask, causal, 0.7)


# -- ctc.cu ------------------------------------------------------------------------------------------------------------


def _sequences(d: Draw, classes: int, most: int) -> tuple[Any, ...]:
    """Log-probabilities, states, lengths and ends of 5 sequences: one has no steps, one no labels, one too many labels."""
    labels = d.place(np.zeros((5, 2 * most + 1), np.int64))
    labels[:, 1::2] = d.whole(classes - 1, 5, most) + 1
    if most > 1:
        labels[0, 3] = labels[0, 1]  # a class twice running needs a blank between
    counts = np.array([min(most, 2), most, 0, min(most, 2), min(most, 3)])
    steps = max(7, most if most < 40 else 0)  # the last sequence is in all states
    lp = logsoftmax_forward.reference(d.normal(steps, 5, classes), 2)
    return lp, labels, d.place(np.array([6, 0, 5, 1, steps])), d.place(2 * counts + 1)


@sample("ctc_forward")
def _ctc(d: Draw) -> Iterator[Any]:
    for classes, most in ((d.n + 1, 3), (5, (d.n + 1) // 2)):
        loss, alpha = ctc_forward(*_sequences(d, classes, most))
        yield loss, alpha[0, :6], alpha[2, :5], alpha[3, :1], alpha[4]  # beyond its length a sequence has no alpha
    lp, labels, lengths, ends = _sequences(d, 5, 3)
    loss, alpha = ctc_forward(lp[:1].copy(), labels, lengths // 5, ends)  # one step or none
    yield loss, alpha[0], alpha[2], alpha[4]


@sample("ctc_backward", tolerance=128)  # of many exponentials
def _ctc_back(d: Draw) -> Iterator[Any]:
    for classes, most in ((d.n + 1, 3), (5, (d.n + 1) // 2)):
        inputs = _sequences(d, classes, most)
        loss, alpha = ctc_forward.reference(*inputs)
        yield ctc_backward(d.normal(5), *inputs, alpha, loss, 0.5)
