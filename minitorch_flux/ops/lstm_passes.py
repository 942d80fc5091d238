"""The passes of an LSTM through time (kernels: kernels/recurrences.cu; the mathematics: recurrences.py).

The input is gx, or x with w_in and b, so that gx = x w_in^T + b never lies in memory; w_in is None in the first case.
Gates lie side by side in the order i, f, g, o. Residuals: ``states`` and ``cells`` (T + 1, N, H), and ``gates``
(T, N, 4H) after their nonlinearities, in 16 bits where the outputs are.
"""

from __future__ import annotations

from typing import Any

from ..backend import array_function, array_module, contiguous, empty
from .dense import dense_backward, dense_forward, dense_weights
from .nonlinearities import identity
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
    sigmoid,
    states_from,
    takes_inputs,
    walks,
)


@array_function
def lstm_forward(
    x: Any, w_in: Any, b: Any, w: Any, h0: Any, c0: Any, mask: Any, reverse: bool, keep: bool
) -> tuple[Any, ...]:
    """``(y, h_last, c_last, states, gates, cells)``; without ``keep`` the last three are None."""
    xp, dtype = array_module(x), _dtype(x, w_in)
    x, w_in, b, w, h0, c0 = computed(x, w_in, b, w, h0, c0)
    gx = x if w_in is None else _input_part(x, w_in, b)
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
    ends = tuple([last(a, reverse).astype(dtype, copy=False) for a in (states, cells)])
    states, gates, cells = kept(dtype, states, gates, cells)
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    return (y, *ends, states, gates, cells) if keep else (y, *ends, None, None, None)


def _input_part(x: Any, w_in: Any, b: Any) -> Any:
    """gx = x w_in^T + b."""
    return dense_forward(flat(x), w_in, b)[0].reshape(*x.shape[:2], w_in.shape[0])


def _dtype(x: Any, w_in: Any) -> Any:
    """Of the outputs: that of gx."""
    return x.dtype if w_in is None else array_module(x).result_type(x, w_in)


@array_function
def lstm_backward(
    dy: Any, x: Any, w_in: Any, w: Any, states: Any, gates: Any, cells: Any, mask: Any, reverse: bool, needs: Any
) -> tuple[Any, ...]:
    """``(dx, dw_in, db, dw, dh0, dc0)``; ``dy`` are the gradients of y, h_last and c_last, None where there is none."""
    xp = array_module(gates)
    w, states, gates, cells = computed(w, states, gates, cells)
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
    return _gradients(None, dgx, dh, dc, x, w_in, states, mask, reverse, needs)


def _gradients(
    dx: Any, dgx: Any, dh: Any, dc: Any, x: Any, w_in: Any, states: Any, mask: Any, reverse: bool, needs: Any
) -> tuple[Any, ...]:
    """What ``lstm_backward`` returns: the sums over all steps at once, and dx where it is None but should not."""
    dw_in = db = dw = None
    if w_in is None:
        dx = dgx
    else:
        x, w_in = (a.astype(dgx.dtype, copy=False) for a in (x, w_in))
        if mask is not None:  # 0 times what lies there, perhaps NaN
            x = array_module(x).where(mask[..., None], x, x.dtype.type(0))
        missing = (needs[0] and dx is None, *needs[1:3])
        later, dw_in, db = dense_backward(dgx, x, w_in, None, None, identity, missing)
        dx = later if dx is None else dx
    if needs[3]:
        dw = dense_weights(flat(dgx), flat(before(states, reverse)))
    return dx if needs[0] else None, dw_in, db, dw, dh if needs[4] else None, dc if needs[5] else None


# -- kernels -----------------------------------------------------------------------------------------------------------


@lstm_forward.kernel(accepts=ACCEPTS)
def _(x: Any, w_in: Any, b: Any, w: Any, h0: Any, c0: Any, mask: Any, reverse: bool, keep: bool) -> Any:
    dtype = _dtype(x, w_in)
    x, w_in, b, w, h0, c0 = computed(x, w_in, b, w, h0, c0)
    if not fits(x, w_in, b, w, h0, c0):
        return NotImplemented
    (steps, n, features), (width, size) = x.shape, w.shape
    weights_in = None
    if w_in is not None:
        if takes_inputs(x, w):
            weights_in = packed(w_in, turned=True)
        else:
            x, b = _input_part(x, w_in, b), None
    x, b, mask = contiguous(x), contiguous(b), contiguous(mask)
    states = states_from(h0, steps, reverse)
    cells = states_from(c0, steps, reverse) if keep else c0.copy()
    gates = empty((steps, n, width) if keep else (n, width), x.dtype, like=x)
    if walks(x, w):
        weights = packed(w, turned=True)
        ran = weights is not None and recurrences(
            "lstm_sequence", x, n, 4 * width, x, weights_in, b, weights, states, cells, gates, mask, steps, n, features,
            size, reverse, keep, as_team(x, w),
        )  # fmt: skip
    else:
        ran = True
        for t in in_order(steps, reverse):
            z, c = (gates[t], cells[t : t + 2]) if keep else (gates, cells)
            array_module(x).matmul(before(states, reverse)[t], w.T, out=z)
            ran = ran and recurrences(
                "lstm_sequence", x, n, size, only(x, t), None, None, None, states[t : t + 2], c, z, only(mask, t), 1, n,
                features, size, reverse, keep, False,
            )  # fmt: skip
    if not ran:
        return NotImplemented
    c_last = last(cells, reverse) if keep else cells
    ends = (last(states, reverse).astype(dtype, copy=False), c_last.astype(dtype, copy=False))
    states, gates, cells = kept(dtype, states, *((gates, cells) if keep else (None, None)))
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    return (y, *ends, states, gates, cells) if keep else (y, *ends, None, None, None)


@lstm_backward.kernel(accepts=ACCEPTS)
def _(
    dy: Any, x: Any, w_in: Any, w: Any, states: Any, gates: Any, cells: Any, mask: Any, reverse: bool, needs: Any
) -> Any:
    w, states, gates, cells = computed(w, states, gates, cells)
    if not fits(gates, w) or not x.size:
        return NotImplemented
    (steps, n, width), size, features = gates.shape, w.shape[1], x.shape[2]
    mask, dgx = contiguous(mask), empty(gates.shape, gates.dtype, like=gates)
    dh, dc = (gradient_of_state(d, states[0]) for d in dy[1:])
    dys = None if dy[0] is None else contiguous(dy[0].astype(gates.dtype, copy=False))
    weights_in = dx = None
    if w_in is not None and needs[0] and takes_inputs(x, w):
        weights_in = packed(w_in.astype(gates.dtype, copy=False), turned=False)
        dx = empty(x.shape, gates.dtype, like=gates)
    if walks(gates, w):
        weights = packed(w, turned=False)
        ran = weights is not None and recurrences(
            "lstm_sequence_backward", gates, n, 4 * width, dys, weights_in, weights, cells, gates, mask, dx, dgx, dh, dc,
            steps, n, features, size, reverse, as_team(gates, w),
        )  # fmt: skip
    else:
        ran = True
        for t in in_order(steps, not reverse):
            ran = ran and recurrences(
                "lstm_sequence_backward", gates, n, size, only(dys, t), None, None, cells[t : t + 2], only(gates, t),
                only(mask, t), None, only(dgx, t), dh, dc, 1, n, features, size, reverse, False,
            )  # fmt: skip
            dh += dgx[t] @ w
    return _gradients(dx, dgx, dh, dc, x, w_in, states, mask, reverse, needs) if ran else NotImplemented
