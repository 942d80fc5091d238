"""The passes of a GRU, in its two forms, through time (kernels: kernels/recurrences.cu; the mathematics: recurrences.py).

Gates lie side by side in the order r, z, n. Residuals: ``states`` (T + 1, N, H) and ``gates`` (T, N, 4H) after their
nonlinearities, the fourth of which is what r is multiplied with: h W_hn^T + b_hn for ``form="gru"``, and r h for
``form="gruv3"``; in 16 bits where the outputs are.
"""

from __future__ import annotations

from typing import Any

from ..backend import array_function, array_module, contiguous, empty
from .dense import dense_weights
from .nonlinearities import bias_backward
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
    packs,
    recurrences,
    sigmoid,
    states_from,
    walks,
)


@array_function
def gru_forward(
    gx: Any, w: Any, b: Any, h0: Any, mask: Any, reverse: bool, form: str, keep: bool
) -> tuple[Any, ...]:
    """``(y, h_last, states, gates)``; without ``keep`` the last two are None."""
    xp, dtype = array_module(gx), gx.dtype
    gx, w, b, h0 = computed(gx, w, b, h0)
    steps, size = gx.shape[0], w.shape[1]
    b = xp.zeros(3 * size, gx.dtype) if b is None else b
    states = states_from(h0, steps, reverse)
    gates = empty((*gx.shape[:2], 4 * size), gx.dtype, like=gx)
    both, new = slice(2 * size), slice(2 * size, 3 * size)
    h = h0
    for t in in_order(steps, reverse):
        rz = sigmoid(gx[t][:, both] + h @ w[both].T + b[both])
        r, z = rz[:, :size], rz[:, size:]
        if form == "gru":
            inner = h @ w[new].T + b[new]
            n = xp.tanh(gx[t][:, new] + r * inner)
        else:
            inner = r * h
            n = xp.tanh(gx[t][:, new] + inner @ w[new].T + b[new])
        gates[t] = xp.concatenate((rz, n, inner), axis=1)
        h_next = n + z * (h - n)
        if mask is not None:
            here = mask[t][:, None]
            h_next, gates[t] = xp.where(here, h_next, h), xp.where(here, gates[t], 0)
        after(states, reverse)[t] = h = h_next
    end = last(states, reverse).astype(dtype, copy=False)
    states, gates = kept(dtype, states, gates if keep else None)
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    return (y, end, states, gates) if keep else (y, end, None, None)


@array_function
def gru_backward(
    dy: Any, w: Any, states: Any, gates: Any, mask: Any, reverse: bool, form: str, needs: Any
) -> tuple[Any, ...]:
    """``(dgx, dw, db, dh0)``; ``dy`` are the gradients of y and h_last, None where there is none."""
    xp = array_module(gates)
    w, states, gates = computed(w, states, gates)
    steps, size = gates.shape[0], w.shape[1]
    shape = (*gates.shape[:2], 3 * size)
    dgx = empty(shape, gates.dtype, like=gates)
    dgh = empty(shape, gates.dtype, like=gates) if form == "gru" else dgx  # of the state's part of the gates
    both, new = slice(2 * size), slice(2 * size, 3 * size)
    dh = gradient_of_state(dy[1], states[0])
    for t in in_order(steps, not reverse):
        r, z, n, inner = (gates[t][:, k * size : (k + 1) * size] for k in range(4))
        h = before(states, reverse)[t]
        dh_here = dh if dy[0] is None else dh + dy[0][t]
        dn = dh_here * (1 - z) * (1 - n * n)
        dz = dh_here * (h - n) * z * (1 - z)
        if form == "gru":
            dinner = dn * r
            dr = dn * inner * r * (1 - r)
            direct = dh_here * z
        else:
            dinner = dn
            drh = dn @ w[new]
            dr = drh * h * r * (1 - r)
            direct = dh_here * z + drh * r
        parts = (dr, dz, dn, dinner)
        if mask is not None:
            here = mask[t][:, None]
            parts = tuple([xp.where(here, p, 0) for p in parts])
        dr, dz, dn, dinner = parts
        dgx[t] = xp.concatenate((dr, dz, dn), axis=1)
        if form == "gru":
            dgh[t] = xp.concatenate((dr, dz, dinner), axis=1)
            through = dgh[t] @ w
        else:
            through = dgx[t][:, both] @ w[both]
        dh_next = direct + through
        dh = dh_next if mask is None else xp.where(mask[t][:, None], dh_next, dh)
    return _gradients(dgx, dgh, dh, states, gates, reverse, form, needs)


def _gradients(dgx: Any, dgh: Any, dh: Any, states: Any, gates: Any, reverse: bool, form: str, needs: Any) -> tuple[Any, ...]:
    """``(dgx, dw, db, dh0)``, the sums over all steps at once; dgh is the gradient of the state's part of the gates."""
    xp, size = array_module(dgx), states.shape[-1]
    dw = None
    if needs[1]:
        hidden = flat(before(states, reverse))
        if form == "gru":
            dw = dense_weights(flat(dgh), hidden)
        else:
            both, new = flat(dgx)[:, : 2 * size], flat(dgx)[:, 2 * size :]
            dw = xp.concatenate((dense_weights(both, hidden), dense_weights(new, flat(gates)[:, 3 * size :])))
    return dgx if needs[0] else None, dw, bias_backward(flat(dgh), 1) if needs[2] else None, dh if needs[3] else None


# -- kernels -----------------------------------------------------------------------------------------------------------


def _both_packed(w: Any, form: str, turned: bool) -> tuple[Any, Any]:
    """The weights as the kernels read them: all, or those of r and z apart from those of n."""
    if form == "gru":
        return packed(w, turned), None
    size = w.shape[1]
    return packed(w[: 2 * size], turned), packed(w[2 * size :], turned)


@gru_forward.kernel(accepts=ACCEPTS)
def _(gx: Any, w: Any, b: Any, h0: Any, mask: Any, reverse: bool, form: str, keep: bool) -> Any:
    dtype = gx.dtype
    gx, w, b, h0 = computed(gx, w, b, h0)
    if not fits(gx, w, b, h0) or (form == "gruv3" and not packs(gx, w)):
        return NotImplemented
    (steps, n, width), size = gx.shape, w.shape[1]
    gx, b, mask = contiguous(gx), contiguous(b), contiguous(mask)
    states = states_from(h0, steps, reverse)
    gates = empty((steps, n, 4 * size) if keep else (n, 4 * size), gx.dtype, like=gx)
    if form == "gruv3" or walks(gx, w):
        weights, new = _both_packed(w, form, turned=True)
        ran = weights is not None and recurrences(
            "gru_sequence", gx, n, 4 * width, gx, weights, new, b, states, gates, mask, steps, n, size, reverse, keep,
            as_team(gx, w),
        )  # fmt: skip
    else:
        ran = True
        for t in in_order(steps, reverse):
            z = gates[t] if keep else gates
            z[:, :width] = before(states, reverse)[t] @ w.T
            ran = ran and recurrences(
                "gru_sequence", gx, n, size, only(gx, t), None, None, b, states[t : t + 2], z, only(mask, t), 1, n, size,
                reverse, keep, False,
            )  # fmt: skip
    if not ran:
        return NotImplemented
    end = last(states, reverse).astype(dtype, copy=False)
    states, gates = kept(dtype, states, gates if keep else None)
    y = outputs(states, mask, reverse).astype(dtype, copy=False)
    return (y, end, states, gates) if keep else (y, end, None, None)


@gru_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, w: Any, states: Any, gates: Any, mask: Any, reverse: bool, form: str, needs: Any) -> Any:
    w, states, gates = computed(w, states, gates)
    if not fits(gates, w) or (form == "gruv3" and not packs(gates, w)):
        return NotImplemented
    (steps, n, _), (width, size) = gates.shape, w.shape
    mask, dgx = contiguous(mask), empty((steps, n, width), gates.dtype, like=gates)
    dgh: Any = empty(dgx.shape, gates.dtype, like=gates) if form == "gru" else None
    dh = gradient_of_state(dy[1], states[0])
    dys = None if dy[0] is None else contiguous(dy[0].astype(gates.dtype, copy=False))
    if form == "gruv3" or walks(dgx, w):
        weights, new = _both_packed(w, form, turned=False)
        ran = weights is not None and recurrences(
            "gru_sequence_backward", gates, n, 4 * width, dys, weights, new, states, gates, mask, dgx, dgh, dh, steps, n,
            size, reverse, as_team(dgx, w),
        )  # fmt: skip
    else:
        ran = True
        for t in in_order(steps, not reverse):
            ran = ran and recurrences(
                "gru_sequence_backward", gates, n, size, only(dys, t), None, None, states[t : t + 2], only(gates, t),
                only(mask, t), only(dgx, t), only(dgh, t), dh, 1, n, size, reverse, False,
            )  # fmt: skip
            dh += dgh[t] @ w
    if not ran:
        return NotImplemented
    return _gradients(dgx, dgx if dgh is None else dgh, dh, states, gates, reverse, form, needs)
