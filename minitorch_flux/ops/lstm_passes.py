"""The passes of an LSTM through time (kernels: kernels/recurrences.cu; the mathematics: recurrences.py).

Gates lie side by side in the order i, f, g, o. Residuals: ``states`` and ``cells`` (T + 1, N, H), and ``gates``
(T, N, 4H) after their nonlinearities.
"""

from __future__ import annotations

from typing import Any

from ..backend import array_function, array_module, empty
from .time_steps import (
    ACCEPTS,
    after,
    before,
    computed,
    contiguous,
    fits,
    flat,
    gradient_of_state,
    in_order,
    last,
    only,
    outputs,
    packed,
    recurrences,
    sigmoid,
    states_from,
    walks,
)


@array_function
def lstm_forward(gx: Any, w: Any, h0: Any, c0: Any, mask: Any, reverse: bool, keep: bool) -> tuple[Any, ...]:
    """``(y, h_last, c_last, states, gates, cells)``; without ``keep`` the last three are None."""
    xp, dtype = array_module(gx), gx.dtype
    gx, w, h0, c0 = computed(gx, w, h0, c0)
    steps, size = gx.shape[0], w.shape[1]
    states, cells = states_from(h0, steps, reverse), states_from(c0, steps, reverse)
    gates = empty(gx.shape, gx.dtype, like=gx)
    h, c = h0, c0
    for t in in_order(steps, reverse):
        z = gx[t] + h @ w.T
        i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
        i, f, g, o = sigmoid(i), sigmoid(f), xp.tanh(g), sigmoid(o)
        z = xp.concatenate((i, f, g, o), axis=1)
        c_next = f * c + i * g
        h_next = o * xp.tanh(c_next)
        if mask is not None:
            here = mask[t][:, None]
            c_next, h_next, z = xp.where(here, c_next, c), xp.where(here, h_next, h), xp.where(here, z, 0)
        h, c = h_next, c_next
        after(states, reverse)[t], after(cells, reverse)[t], gates[t] = h, c, z
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    ends = (a.astype(dtype, copy=False) for a in (last(states, reverse), last(cells, reverse)))
    return (y, *ends, states, gates, cells) if keep else (y, *ends, None, None, None)


@array_function
def lstm_backward(
    dy: Any, w: Any, states: Any, gates: Any, cells: Any, mask: Any, reverse: bool, needs: Any
) -> tuple[Any, ...]:
    """``(dgx, dw, dh0, dc0)``; ``dy`` are the gradients of y, h_last and c_last, None where there is none."""
    xp = array_module(gates)
    w = w.astype(gates.dtype, copy=False)
    steps, size = gates.shape[0], w.shape[1]
    dgx = empty(gates.shape, gates.dtype, like=gates)
    dh, dc = (gradient_of_state(d, states[0]) for d in dy[1:])
    for t in in_order(steps, not reverse):
        i, f, g, o = (gates[t][:, k * size : (k + 1) * size] for k in range(4))
        c, tanh_c = before(cells, reverse)[t], xp.tanh(after(cells, reverse)[t])
        dh_here = dh if dy[0] is None else dh + dy[0][t]
        dc_here = dc + dh_here * o * (1 - tanh_c * tanh_c)
        dz = xp.concatenate(
            (
                dc_here * g * i * (1 - i),
                dc_here * c * f * (1 - f),
                dc_here * i * (1 - g * g),
                dh_here * tanh_c * o * (1 - o),
            ),
            axis=1,
        )
        dc_next = dc_here * f
        if mask is None:
            dh = dz @ w
        else:
            here = mask[t][:, None]
            dz, dc_next = xp.where(here, dz, 0), xp.where(here, dc_next, dc)
            dh = xp.where(here, dz @ w, dh)
        dgx[t], dc = dz, dc_next
    dw = flat(dgx).T @ flat(before(states, reverse)) if needs[1] else None
    return dgx if needs[0] else None, dw, dh if needs[2] else None, dc if needs[3] else None


# -- kernels -----------------------------------------------------------------------------------------------------------


@lstm_forward.kernel(accepts=ACCEPTS)
def _(gx: Any, w: Any, h0: Any, c0: Any, mask: Any, reverse: bool, keep: bool) -> Any:
    dtype = gx.dtype
    gx, w, h0, c0 = computed(gx, w, h0, c0)
    if not fits(gx, w, h0, c0):
        return NotImplemented
    (steps, n, width), size = gx.shape, w.shape[1]
    gx, mask = contiguous(gx), contiguous(mask)
    states = states_from(h0, steps, reverse)
    cells = states_from(c0, steps, reverse) if keep else c0.copy()
    gates = empty(gx.shape if keep else (n, width), gx.dtype, like=gx)
    if walks(gx, w):
        b = packed(w, turned=True)
        ran = b is not None and recurrences(
            "lstm_sequence", gx, n, 4 * width, gx, b, states, cells, gates, mask, steps, n, size, reverse, keep
        )
    else:
        ran = True
        for t in in_order(steps, reverse):
            z, c = (gates[t], cells[t : t + 2]) if keep else (gates, cells)
            array_module(gx).matmul(before(states, reverse)[t], w.T, out=z)
            ran = ran and recurrences(
                "lstm_sequence", gx, n, size, only(gx, t), None, states[t : t + 2], c, z, only(mask, t), 1, n, size,
                reverse, keep,
            )  # fmt: skip
    if not ran:
        return NotImplemented
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    c_last = last(cells, reverse) if keep else cells
    ends = (last(states, reverse).astype(dtype, copy=False), c_last.astype(dtype, copy=False))
    return (y, *ends, states, gates, cells) if keep else (y, *ends, None, None, None)


@lstm_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, w: Any, states: Any, gates: Any, cells: Any, mask: Any, reverse: bool, needs: Any) -> Any:
    w = w.astype(gates.dtype, copy=False)
    if not fits(gates, w):
        return NotImplemented
    (steps, n, width), size = gates.shape, w.shape[1]
    xp, mask = array_module(gates), contiguous(mask)
    dgx = empty(gates.shape, gates.dtype, like=gates)
    dh, dc = (gradient_of_state(d, states[0]) for d in dy[1:])
    dys = None if dy[0] is None else contiguous(dy[0].astype(gates.dtype, copy=False))
    if walks(gates, w):
        b = packed(w, turned=False)
        ran = b is not None and recurrences(
            "lstm_sequence_backward", gates, n, 4 * width, dys, b, cells, gates, mask, dgx, dh, dc, steps, n, size, reverse
        )
    else:
        ran = True
        for t in in_order(steps, not reverse):
            ran = ran and recurrences(
                "lstm_sequence_backward", gates, n, size, only(dys, t), None, cells[t : t + 2], only(gates, t),
                only(mask, t), only(dgx, t), dh, dc, 1, n, size, reverse,
            )  # fmt: skip
            dh += dgx[t] @ w
    if not ran:
        return NotImplemented
    dw = xp.matmul(flat(dgx).T, flat(before(states, reverse)), out=empty(w.shape, w.dtype, like=w)) if needs[1] else None
    return dgx if needs[0] else None, dw, dh if needs[2] else None, dc if needs[3] else None
