"""Writing recurrences as LSTM, GRU and RNN nodes, whose gates ONNX has in another order.

A GRU or RNN of this library gets its input multiplied already; the product is taken back into the node where it is a dense
layer, else the node multiplies by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.nonlinearities import identity
from .exporting import register_export
from .graph_writing import GraphWriter, Value

LSTM_ORDER, GRU_ORDER = (0, 3, 1, 2), (1, 0, 2)  # input, forget, cell, output as i o f c; reset, update, new as z r h
ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None), "relu": ("Relu", None, None), "sigmoid": ("Sigmoid", None, None),
    "leakyrelu": ("LeakyRelu", 0.01, None), "elu": ("Elu", 1.0, None), "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None), "hardsigmoid": ("HardSigmoid", 1 / 6, 0.5), "trelu": ("ThresholdedRelu", 1.0, None),
    "identity": ("Affine", 1.0, 0.0),
}  # fmt: skip


def _numbers(g: GraphWriter, x: Any) -> np.ndarray:
    """The numbers of a weight."""
    if x.array is None:
        raise g.error("its weights depend on the input; the recurrent nodes of ONNX need constant ones")
    return x.array


def _ordered(a: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The blocks of rows, one for each gate, in another order."""
    return a.reshape(len(order), -1, *a.shape[1:])[list(order)].reshape(a.shape)


def _stored(g: GraphWriter, w: Value, letter: str, a: np.ndarray) -> Value:
    """An array of one direction, called like the weight ``w`` with ONNX's letter; stored once for all steps of a cell."""
    name = (w.merged.name if w.merged is not None else "") or f"{g.path or 'recurrence'}.weight_hh"
    key = ("recurrent", name, letter, a.tobytes())
    if key not in g.constants:
        g.constants[key] = g.store(np.ascontiguousarray(a[None]), name.replace("weight_hh", letter))
    return g.constants[key]


def _state(g: GraphWriter, h: Value) -> Value | None:
    """An initial state (1, N, H); None where it is zeros."""
    arrays = h.merged.arrays if h.merged is not None else None
    if arrays is not None and not any(a.any() for a in arrays):
        return None
    return g.node("Unsqueeze", h, np.asarray([0], np.int64))


def _input(g: GraphWriter, gx: Value, width: int) -> tuple[Value, np.ndarray, np.ndarray | None]:
    """``(x, w, b)`` with gx = dense(x, w, b)."""
    call = gx.merged.call if gx.merged is not None else None
    if call is not None and call.name == "dense" and call.static.get("activation", identity) is identity:
        x, w, b = (g.value(v) for v in call.inputs)
        if w.array is not None and (b is None or b.array is not None):
            return x, w.array, None if b is None else b.array
    return gx, np.eye(width, dtype=gx.dtype), None


def _write(
    g: GraphWriter, op_type: str, x: Value, w: Value, arrays: tuple[Any, Any, Any, Any], order: tuple[int, ...],
    states: tuple[Value, ...], mask: Any, reverse: bool, **attributes: Any,
) -> Any:
    """The node; ``arrays``: w_ih, b_ih, w_hh and b_hh. Gives y and the last states."""
    if mask is not None:
        raise g.error("a mask has no form in ONNX's recurrent nodes, which know lengths; leave mask= and lengths= out")
    ordered: list[Any] = [None if a is None else _ordered(a, order) for a in arrays]
    w_ih, b_ih, w_hh, b_hh = ordered
    rows = w_hh.shape[0]
    bias = None
    if b_ih is not None or b_hh is not None:
        zeros = np.zeros(rows, w_hh.dtype)
        both = np.concatenate([zeros if b_ih is None else b_ih, zeros if b_hh is None else b_hh])
        bias = _stored(g, w, "B", both)
    ends = g.node(
        op_type, x, _stored(g, w, "W", w_ih), _stored(g, w, "R", w_hh), bias, None, *(_state(g, h) for h in states),
        outputs=1 + len(states), direction="reverse" if reverse else "forward", hidden_size=w_hh.shape[1], **attributes,
    )  # fmt: skip
    first = g.node("Squeeze", ends[0], np.asarray([1], np.int64))
    return (first, *(g.node("Squeeze", h, np.asarray([0], np.int64)) for h in ends[1:]))


@register_export("lstm")
def lstm(
    g: GraphWriter, x: Value, w_in: Any, b: Any, w: Value, h0: Value, c0: Value, *, mask: Any, reverse: bool, keep: bool
) -> Any:
    if w_in is None:
        x, first, bias = _input(g, x, w.shape[0])
    else:
        first, bias = _numbers(g, w_in), None if b is None else _numbers(g, b)
    return _write(g, "LSTM", x, w, (first, bias, _numbers(g, w), None), LSTM_ORDER, (h0, c0), mask, reverse)


@register_export("gru")
def gru(g: GraphWriter, gx: Value, w: Value, b: Any, h0: Value, *, mask: Any, reverse: bool, form: str, keep: bool) -> Any:
    x, first, bias = _input(g, gx, w.shape[0])
    arrays = (first, bias, _numbers(g, w), None if b is None else _numbers(g, b))
    return _write(g, "GRU", x, w, arrays, GRU_ORDER, (h0,), mask, reverse, linear_before_reset=1 if form == "gru" else None)


@register_export("rnn")
def rnn(g: GraphWriter, gx: Value, w: Value, h0: Value, *, mask: Any, activation: Any, reverse: bool, keep: bool) -> Any:
    if activation.name not in ACTIVATIONS:
        raise g.error(f"ONNX's RNN has no activation {activation.name}; it has {', '.join(ACTIVATIONS)}")
    name, alpha, beta = ACTIVATIONS[activation.name]
    x, first, bias = _input(g, gx, w.shape[0])
    return _write(
        g, "RNN", x, w, (first, bias, _numbers(g, w), None), (0,), (h0,), mask, reverse, activations=[name],
        activation_alpha=None if alpha is None else [alpha], activation_beta=None if beta is None else [beta],
    )  # fmt: skip
