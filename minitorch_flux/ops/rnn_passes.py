"""The passes of a plain recurrent layer through time (kernels: kernels/recurrences.cu; the mathematics: recurrences.py).

Residuals: ``states`` (T + 1, N, H), and ``sums`` (T, N, H), what the activation is applied to, where its derivative is
computed from it, else None; in 16 bits where the outputs are.
"""

from __future__ import annotations

from typing import Any

from ..backend import array_function, array_module, contiguous, empty
from .dense import dense_weights
from .nonlinearities import Activation, relu, tanh
from .time_steps import (
    ACCEPTS,
    after,
    as_team,
    before,
    computed,
    fits,
    flat,
    gradient_of_state,
    in_order,
    kept,
    last,
    only,
    outputs,
    packed,
    recurrences,
    states_from,
    walks,
)


@array_function
def rnn_forward(
    gx: Any, w: Any, h0: Any, mask: Any, activation: Activation, reverse: bool, keep: bool
) -> tuple[Any, ...]:
    """``(y, h_last, states, sums)``; without ``keep`` the last two are None."""
    xp, dtype = array_module(gx), gx.dtype
    gx, w, h0 = computed(gx, w, h0)
    steps = gx.shape[0]
    states = states_from(h0, steps, reverse)
    sums = None if activation.from_output or not keep else empty(gx.shape, gx.dtype, like=gx)
    h = h0
    for t in in_order(steps, reverse):
        z = gx[t] + h @ w.T
        if sums is not None:
            sums[t] = z
        h_next = activation.function(xp, z)
        h = h_next if mask is None else xp.where(mask[t][:, None], h_next, h)
        after(states, reverse)[t] = h
    end = last(states, reverse).astype(dtype, copy=False)
    states, sums = kept(dtype, states, sums)
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    return (y, end, states, sums) if keep else (y, end, None, None)


@array_function
def rnn_backward(
    dy: Any, w: Any, states: Any, sums: Any, mask: Any, activation: Activation, reverse: bool, needs: Any
) -> tuple[Any, ...]:
    """``(dgx, dw, dh0)``; ``dy`` are the gradients of y and h_last, None where there is none."""
    xp = array_module(states)
    w, states, sums = computed(w, states, sums)
    saved = after(states, reverse) if sums is None else sums
    dgx = empty(saved.shape, saved.dtype, like=saved)
    dh = gradient_of_state(dy[1], states[0])
    for t in in_order(saved.shape[0], not reverse):
        dh_here = dh if dy[0] is None else dh + dy[0][t]
        slope = activation.derivative(xp, saved[t])
        dz = xp.where(slope, dh_here, 0) if slope.dtype == bool else dh_here * slope
        if mask is None:
            dh = dz @ w
        else:
            here = mask[t][:, None]
            dz = xp.where(here, dz, 0)
            dh = xp.where(here, dz @ w, dh)
        dgx[t] = dz
    dw = dense_weights(flat(dgx), flat(before(states, reverse))) if needs[1] else None
    return dgx if needs[0] else None, dw, dh if needs[2] else None


# -- kernels -----------------------------------------------------------------------------------------------------------

FUSED = (tanh, relu)


@rnn_forward.kernel(accepts=f"{ACCEPTS}; tanh or relu")
def _(gx: Any, w: Any, h0: Any, mask: Any, activation: Activation, reverse: bool, keep: bool) -> Any:
    dtype = gx.dtype
    gx, w, h0 = computed(gx, w, h0)
    if activation not in FUSED or not fits(gx, w, h0):
        return NotImplemented
    (steps, n, size), is_relu = gx.shape, activation is relu
    gx, mask = contiguous(gx), contiguous(mask)
    states = states_from(h0, steps, reverse)
    if walks(gx, w):
        b = packed(w, turned=True)
        ran = b is not None and recurrences(
            "rnn_sequence", gx, n, 4 * size, gx, b, states, mask, steps, n, size, reverse, is_relu, as_team(gx, w)
        )
    else:
        ran = True
        for t in in_order(steps, reverse):
            array_module(gx).matmul(before(states, reverse)[t], w.T, out=after(states, reverse)[t])
            ran = ran and recurrences(
                "rnn_sequence", gx, n, size, only(gx, t), None, states[t : t + 2], only(mask, t), 1, n, size, reverse, is_relu,
                False,
            )  # fmt: skip
    if not ran:
        return NotImplemented
    end = last(states, reverse).astype(dtype, copy=False)
    states = kept(dtype, states)[0]
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    return (y, end, states, None) if keep else (y, end, None, None)


@rnn_backward.kernel(accepts=f"{ACCEPTS}; tanh or relu")
def _(dy: Any, w: Any, states: Any, sums: Any, mask: Any, activation: Activation, reverse: bool, needs: Any) -> Any:
    w, states, sums = computed(w, states, sums)
    if activation not in FUSED or not fits(states, w):
        return NotImplemented
    (_, n, size), is_relu = states.shape, activation is relu
    steps, mask = len(states) - 1, contiguous(mask)
    dgx = empty((steps, n, size), states.dtype, like=states)
    dh = gradient_of_state(dy[1], states[0])
    dys = None if dy[0] is None else contiguous(dy[0].astype(states.dtype, copy=False))
    if walks(dgx, w):
        b = packed(w, turned=False)
        ran = b is not None and recurrences(
            "rnn_sequence_backward", states, n, 4 * size, dys, b, states, mask, dgx, dh, steps, n, size, reverse, is_relu,
            as_team(dgx, w),
        )
    else:
        ran = True
        for t in in_order(steps, not reverse):
            ran = ran and recurrences(
                "rnn_sequence_backward", states, n, size, only(dys, t), None, states[t : t + 2], only(mask, t), only(dgx, t),
                dh, 1, n, size, reverse, is_relu, False,
            )  # fmt: skip
            dh += dgx[t] @ w
    if not ran:
        return NotImplemented
    dw = dense_weights(flat(dgx), flat(before(states, reverse))) if needs[1] else None
    return dgx if needs[0] else None, dw, dh if needs[2] else None
