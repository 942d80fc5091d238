"""LSTM, GRU and RNN: ONNX's order of gates and directions, on this library's recurrences.

With the usual activations the fused recurrences run; other activations, ``clip``, coupled gates and peepholes are
computed step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops import nonlinearities as f
from ..ops.comparisons import clip, where
from ..ops.elementwise import as_tensor
from ..ops.indexing import take
from ..ops.joining import stack
from ..ops.products import matmul
from ..ops.recurrences import gru_sequence, lstm_sequence, rnn_sequence
from .registry import register

Function = Callable[[Any], Any]
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""Which of them are walked in reverse."""

# name: (function of x and the parameters that it has, their defaults)
ACTIVATIONS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "relu": (f.relu, ()),
    "tanh": (f.tanh, ()),
    "sigmoid": (f.sigmoid, ()),
    "affine": (lambda x, a, b: x * a + b, (1.0, 0.0)),
    "leakyrelu": (f.leakyrelu, (0.01,)),
    "thresholdedrelu": (f.trelu, (1.0,)),
    "scaledtanh": (lambda x, a, b: f.tanh(x * b) * a, (1.0, 1.0)),
    "hardsigmoid": (lambda x, a, b: clip(x * a + b, 0, 1), (0.2, 0.5)),
    "elu": (f.elu, (1.0,)),
    "softsign": (f.softsign, ()),
    "softplus": (f.softplus, ()),
}


@dataclass(frozen=True)
class Setting:
    """What a node says about itself, whatever its cell."""

    names: list[str] | None  # of the activations
    alpha: list[float] | None  # their parameters
    beta: list[float] | None
    direction: str
    layout: int


@dataclass(frozen=True)
class Direction:
    """One direction of a layer: weights of this direction, and how it is walked."""

    w: Tensor  # (G H, I)
    r: Tensor  # (G H, H)
    wb: Tensor | None  # (G H,)
    rb: Tensor | None
    p: Tensor | None  # peepholes (3 H,)
    states: tuple[Tensor, ...]  # (N, H) each
    functions: tuple[Function, ...]
    usual: bool  # whether the functions are the cell's own
    reverse: bool


def _functions(names: list[str], alpha: list[float], beta: list[float]) -> list[Function]:
    """The activations by name; each takes the next numbers of the two lists, as far as it has parameters."""
    alphas, betas = list(alpha), list(beta)
    found: list[Function] = []
    for name in names:
        if name not in ACTIVATIONS:
            raise ValueError(f"there is no activation {name!r}; there are {', '.join(ACTIVATIONS)}")
        function, defaults = ACTIVATIONS[name]
        given = [values.pop(0) if values else default for values, default in zip((alphas, betas), defaults)]
        found.append(partial(_with, function, given) if given else function)
    return found


def _with(function: Callable[..., Any], parameters: list[float], x: Any) -> Any:
    return function(x, *parameters)


def _layer(
    step: Callable[..., tuple[Tensor, ...]], usual: tuple[str, ...], gates: int, x: Any, w: Any, r: Any, b: Any,
    sequence_lens: Any, initial: tuple[Any, ...], p: Any, setting: Setting,
) -> Any:
    """``(Y, Y_h, ...)``: ``step(x, mask, Direction)`` for each direction, in ONNX's layout."""
    x, w, r, layout = as_tensor(x), as_tensor(w), as_tensor(r), setting.layout
    x = x.swapaxes(0, 1) if layout else x
    steps, batch, size = x.shape[0], x.shape[1], r.shape[-1]
    if setting.direction not in DIRECTIONS:
        raise ValueError(f"direction={setting.direction!r} is not forward, reverse or bidirectional")
    ways, per = DIRECTIONS[setting.direction], len(usual)
    names = [name.lower() for name in setting.names or usual * len(ways)]
    functions = _functions(names, setting.alpha or [], setting.beta or [])
    mask = None
    if sequence_lens is not None:
        xp = array_module(x.data)
        mask = xp.arange(steps)[:, None] < as_tensor(sequence_lens).data
    zeros = Tensor(array_module(r.data).zeros((batch, size), x.dtype))
    ends: list[list[Tensor]] = [[] for _ in initial]
    ys = []
    for d, reverse in enumerate(ways):
        first = [zeros if h is None else (as_tensor(h)[:, d] if layout else as_tensor(h)[d]) for h in initial]
        wb, rb = (None, None) if b is None else (as_tensor(b)[d, : gates * size], as_tensor(b)[d, gates * size :])
        mine = slice(d * per, d * per + per)
        y, *states = step(
            x, mask,
            Direction(w[d], r[d], wb, rb, None if p is None else as_tensor(p)[d], tuple(first), tuple(functions[mine]),
                      tuple(names[mine]) == usual, reverse),
        )  # fmt: skip
        ys.append(y)
        for kept, state in zip(ends, states, strict=True):
            kept.append(state)
    whole = stack(ys, 1)  # (T, D, N, H)
    if layout:
        return whole.transpose(2, 0, 1, 3), *(stack(states, 1) for states in ends)
    return whole, *(stack(states, 0) for states in ends)


def _ordered(a: Tensor | None, order: tuple[int, ...]) -> Any:
    """The blocks of rows, one for each gate, in another order."""
    if a is None:
        return None
    blocks = a.reshape(len(order), a.shape[0] // len(order), *a.shape[1:])
    return take(blocks, np.asarray(order) if a.device == "cpu" else array_module(a.data).asarray(order), 0).reshape(a.shape)


def _plus(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a + b


def _limited(x: Any, bound: float | None) -> Any:
    return x if bound is None else clip(x, -bound, bound)


def _stepwise(
    cell: Callable[..., tuple[Tensor, ...]], gx: Tensor, mask: Any, d: Direction
) -> tuple[Tensor, ...]:
    """``states = cell(gx[t], *states)`` from step to step: ``(y, *last states)``; after its end a sequence stands still."""
    states = d.states
    ys: list[Any] = [None] * gx.shape[0]
    for t in range(gx.shape[0])[:: -1 if d.reverse else 1]:
        following = cell(gx[t], *states)
        if mask is not None:
            here = mask[t][:, None]
            following = tuple([where(here, new, old) for new, old in zip(following, states, strict=True)])
        states = following
        ys[t] = states[0] if mask is None else where(mask[t][:, None], states[0], 0.0)
    return stack(ys), *states


@register("LSTM")
def lstm(
    x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, initial_c: Any = None,
    p: Any = None, *, activation_alpha: Any = None, activation_beta: Any = None, activations: Any = None,
    clip: float | None = None, direction: str = "forward", hidden_size: int | None = None, input_forget: int = 0,
    layout: int = 0, output_sequence: int = 0,
) -> Any:
    """Gates in the order i, o, f, c; ``p``: peepholes i, o, f."""

    def run(x: Tensor, mask: Any, d: Direction) -> tuple[Tensor, ...]:
        bias = None if d.wb is None else d.wb + d.rb
        if d.usual and d.p is None and clip is None and not input_forget:
            order = (0, 2, 3, 1)
            gx = _plus(matmul(x, _ordered(d.w, order).T), _ordered(bias, order))
            h0, c0 = d.states
            return lstm_sequence(gx, _ordered(d.r, order), h0, c0, mask, reverse=d.reverse)
        n = d.r.shape[-1]
        gate, new_of, out_of = d.functions

        def cell(gx: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
            z = gx + matmul(h, d.r.T)
            i, o, forget, new = (z[:, k * n : k * n + n] for k in range(4))
            pi, po, pf = (0.0,) * 3 if d.p is None else (d.p[k * n : k * n + n] for k in range(3))
            i = gate(_limited(i + pi * c, clip))
            forget = 1 - i if input_forget else gate(_limited(forget + pf * c, clip))
            c = forget * c + i * new_of(_limited(new, clip))
            return gate(_limited(o + po * c, clip)) * out_of(c), c

        return _stepwise(cell, _plus(matmul(x, d.w.T), bias), mask, d)

    setting = Setting(activations, activation_alpha, activation_beta, direction, layout)
    return _layer(run, ("sigmoid", "tanh", "tanh"), 4, x, w, r, b, sequence_lens, (initial_h, initial_c), p, setting)


@register("GRU")
def gru(
    x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, *,
    activation_alpha: Any = None, activation_beta: Any = None, activations: Any = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int | None = None, layout: int = 0, linear_before_reset: int = 0,
    output_sequence: int = 0,
) -> Any:
    """Gates in the order z, r, h."""

    def run(x: Tensor, mask: Any, d: Direction) -> tuple[Tensor, ...]:
        if d.usual and clip is None:
            order = (1, 0, 2)
            gx = _plus(matmul(x, _ordered(d.w, order).T), _ordered(d.wb, order))
            form = "gru" if linear_before_reset else "gruv3"
            r, b = _ordered(d.r, order), _ordered(d.rb, order)
            return gru_sequence(gx, r, b, d.states[0], mask, reverse=d.reverse, form=form)
        n = d.r.shape[-1]
        gate, new_of = d.functions
        rz, rh = d.r[: 2 * n].T, d.r[2 * n :].T
        bz, bh = (0.0, 0.0) if d.rb is None else (d.rb[: 2 * n], d.rb[2 * n :])

        def cell(gx: Tensor, h: Tensor) -> tuple[Tensor, ...]:
            zr = gate(_limited(gx[:, : 2 * n] + matmul(h, rz) + bz, clip))
            z, reset = zr[:, :n], zr[:, n:]
            inner = reset * (matmul(h, rh) + bh) if linear_before_reset else matmul(reset * h, rh) + bh
            new = new_of(_limited(gx[:, 2 * n :] + inner, clip))
            return ((1 - z) * new + z * h,)

        return _stepwise(cell, _plus(matmul(x, d.w.T), d.wb), mask, d)

    setting = Setting(activations, activation_alpha, activation_beta, direction, layout)
    return _layer(run, ("sigmoid", "tanh"), 3, x, w, r, b, sequence_lens, (initial_h,), None, setting)


@register("RNN")
def rnn(
    x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, *,
    activation_alpha: Any = None, activation_beta: Any = None, activations: Any = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int | None = None, layout: int = 0, output_sequence: int = 0,
) -> Any:
    def run(x: Tensor, mask: Any, d: Direction) -> tuple[Tensor, ...]:
        gx = _plus(matmul(x, d.w.T), None if d.wb is None else d.wb + d.rb)
        function = d.functions[0]
        if clip is None and isinstance(function, f.Activation):
            return rnn_sequence(gx, d.r, d.states[0], mask, activation=function, reverse=d.reverse)
        return _stepwise(lambda gx, h: (function(_limited(gx + matmul(h, d.r.T), clip)),), gx, mask, d)

    setting = Setting(activations, activation_alpha, activation_beta, direction, layout)
    return _layer(run, ("tanh",), 1, x, w, r, b, sequence_lens, (initial_h,), None, setting)
