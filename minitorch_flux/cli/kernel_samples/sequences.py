"""Samples of the recurrent layers' kernels, which walk through whole sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ...ops.gru_passes import gru_backward, gru_forward
from ...ops.lstm_passes import lstm_backward, lstm_forward
from ...ops.nonlinearities import relu, tanh
from ...ops.rnn_passes import rnn_backward, rnn_forward
from .registry import Draw, sample

SIZES = (1, 31, 33, 49)
"""Of the state: the weights are its square. 48 columns of them lie side by side."""
_STEPS = ((5, 7), (3, 3), (4, 1))
"""(steps, sequences): walked through in one launch, step by step, and with one sequence."""


def _cases(d: Draw, gates: int) -> Iterator[tuple[Any, ...]]:
    """(inputs of the gates, weights, initial state, mask, reverse)."""
    for i, (steps, batch) in enumerate(_STEPS):
        weights = d.normal(gates * d.n, d.n) / d.dtype.type(math.sqrt(d.n))
        mask = d.flags(steps, batch) if i % 2 == 0 else None
        yield d.normal(steps, batch, gates * d.n), weights, d.normal(batch, d.n), mask, i % 2 == 1


def _inputs(d: Draw, gx: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(x, its weights, bias): the gates' inputs themselves, and few features that the kernel multiplies itself."""
    yield gx, None, None
    yield d.normal(*gx.shape[:2], 3), d.normal(gx.shape[2], 3), d.normal(gx.shape[2])


def _upstream(d: Draw, *outs: Any) -> tuple[Any, ...]:
    return tuple([d.normal(*y.shape, dtype=y.dtype) for y in outs])


@sample("rnn_sequence", sizes=SIZES)
def _rnn(d: Draw) -> Iterator[Any]:
    for activation in (tanh, relu):
        for gx, w, h, mask, reverse in _cases(d, 1):
            yield rnn_forward(gx, w, h, mask, activation, reverse, True)


@sample("rnn_sequence_backward", sizes=SIZES)
def _rnn_back(d: Draw) -> Iterator[Any]:
    for activation in (tanh, relu):
        for gx, w, h, mask, reverse in _cases(d, 1):
            y, end, states, sums = rnn_forward.reference(gx, w, h, mask, activation, reverse, True)
            dy, dend = _upstream(d, y, end)
            for dys in ((dy, None), (None, dend)):
                yield rnn_backward(dys, w, states, sums, mask, activation, reverse, (True, True, True))


@sample("pack", sizes=SIZES)
def _pack(d: Draw) -> Iterator[Any]:
    """Forward the weights are turned, backward not."""
    yield from _rnn(d)
    yield from _rnn_back(d)


@sample("lstm_sequence", sizes=SIZES)
def _lstm(d: Draw) -> Iterator[Any]:
    for gx, w, h, mask, reverse in _cases(d, 4):
        c = d.normal(*h.shape)
        for x, w_in, b in _inputs(d, gx):
            for keep in (True, False):
                yield lstm_forward(x, w_in, b, w, h, c, mask, reverse, keep)


@sample("lstm_sequence_backward", sizes=SIZES)
def _lstm_back(d: Draw) -> Iterator[Any]:
    for gx, w, h, mask, reverse in _cases(d, 4):
        c = d.normal(*h.shape)
        for x, w_in, b in _inputs(d, gx):
            y, end, c_end, *saved = lstm_forward.reference(x, w_in, b, w, h, c, mask, reverse, True)
            dy, dend, dc = _upstream(d, y, end, c_end)
            for dys in ((dy, None, dc), (None, dend, None)):
                yield lstm_backward(dys, x, w_in, w, *saved, mask, reverse, (True,) * 6)


@sample("gru_sequence", sizes=SIZES)
def _gru(d: Draw) -> Iterator[Any]:
    for form in ("gru", "gruv3"):
        for i, (gx, w, h, mask, reverse) in enumerate(_cases(d, 3)):
            b = d.normal(3 * d.n) if i != 1 else None
            for keep in (True, False):
                yield gru_forward(gx, w, b, h, mask, reverse, form, keep)


@sample("gru_sequence_backward", sizes=SIZES)
def _gru_back(d: Draw) -> Iterator[Any]:
    for form in ("gru", "gruv3"):
        for gx, w, h, mask, reverse in _cases(d, 3):
            y, end, *saved = gru_forward.reference(gx, w, d.normal(3 * d.n), h, mask, reverse, form, True)
            dy, dend = _upstream(d, y, end)
            for dys in ((dy, None), (None, dend)):
                yield gru_backward(dys, w, *saved, mask, reverse, form, (True,) * 4)
