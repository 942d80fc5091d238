"""Recurrent layers over whole sequences, fused (kernels: kernels/recurrences.cu).

gx (T, N, G H) is the input's part of the gates, ``x W_ih^T + b_ih``, of all steps at once; w_hh (G H, H). For every
step, from the state h (N, H) before it to the state h' after it:

    rnn    h' = act(gx + h W^T)                                                                     G = 1
    lstm   i, f, g, o = gx + h W^T                                                                  G = 4
           c' = sigmoid(f) c + sigmoid(i) tanh(g)
           h' = sigmoid(o) tanh(c')
    gru    r, z = sigmoid(gx_rz + h W_rz^T + b_rz)                                                  G = 3
           n = tanh(gx_n + r (h W_n^T + b_n))            form="gru": arXiv:1406.1078v1, as cuDNN and PyTorch
           n = tanh(gx_n + (r h) W_n^T + b_n)            form="gruv3": arXiv:1406.1078v3
           h' = (1 - z) n + z h

``lstm_layer`` takes x (T, N, I), w_ih (G H, I) and b_ih (G H,) or None instead of gx, which then is never written.

y (T, N, H) are the states after the steps, in the order of time; ``reverse=True`` walks from the last step to the
first. ``mask`` (T, N), an array of booleans or None: where it is False the state stays as it was and y is 0, so that
sequences of different lengths lie in one batch.

The gates of all steps are kept for the gradient, if one is wanted. It walks through time the other way; of its
products only dh = dz W is made step by step, and dW of all steps together. The gradient of the gradient is that of the
formulas above, operation by operation: exact, and slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, gradient, operation
from .comparisons import where
from .dense import dense
from .elementwise import as_tensor
from .gru_passes import gru_backward, gru_forward
from .joining import stack
from .lstm_passes import lstm_backward, lstm_forward
from .nonlinearities import Activation, activation_of, sigmoid, tanh
from .products import matmul
from .rnn_passes import rnn_backward, rnn_forward
from .time_steps import in_order

# -- the formulas, operation by operation ------------------------------------------------------------------------------


def _split(z: Tensor, size: int) -> list[Tensor]:
    return [z[:, k : k + size] for k in range(0, z.shape[1], size)]


def rnn_step(gx: Tensor, state: Any, w: Tensor, activation: Activation) -> tuple[Tensor, ...]:
    return (activation(gx + matmul(state[0], w.T)),)


def _lstm_step(gx: Tensor, state: Any, w: Tensor) -> tuple[Tensor, ...]:
    h, c = state
    i, f, g, o = _split(gx + matmul(h, w.T), w.shape[1])
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru_step(gx: Tensor, state: Any, w: Tensor, b: Tensor | None, form: str) -> tuple[Tensor, ...]:
    (h,), size = state, w.shape[1]
    gr, gz, gn = _split(gx, size)
    if b is not None:
        br, bz, bn = (b[k * size : (k + 1) * size] for k in range(3))
        gr, gz = gr + br, gz + bz
    r = sigmoid(gr + matmul(h, w[:size].T))
    z = sigmoid(gz + matmul(h, w[size : 2 * size].T))
    inner = matmul(h if form == "gru" else r * h, w[2 * size :].T)
    if b is not None:
        inner = inner + bn
    n = tanh(gn + (r * inner if form == "gru" else inner))
    return ((1 - z) * n + z * h,)


def through_time(step: Any, gx: Tensor, state: Any, mask: Any, reverse: bool) -> tuple[Tensor, ...]:
    """``(y, *last states)`` of ``state = step(gx[t], state)``."""
    ys: list[Any] = [None] * gx.shape[0]
    for t in in_order(len(ys), reverse):
        following = step(gx[t], state)
        if mask is None:
            ys[t] = following[0]
        else:
            here = mask[t][:, None]
            ys[t] = where(here, following[0], 0.0)
            following = tuple([where(here, new, old) for new, old in zip(following, state, strict=True)])
        state = following
    if not ys:
        return as_tensor(gx).reshape(0, *state[0].shape), *state
    return stack(ys), *state


def _composed(unfused: Any, dy: Any, inputs: Any, needs: Any) -> tuple[Any, ...]:
    """The gradients of ``unfused(*inputs)``, for those inputs that need one, recorded."""
    active = [k for k, need in enumerate(needs) if need]
    full = [x if x is None else as_tensor(x) for x in inputs]

    def projected(*xs: Any) -> Any:
        for k, x in zip(active, xs, strict=True):
            full[k] = x
        total: Any = 0.0
        for y, d in zip(unfused(*full), dy, strict=True):
            if d is not None:
                total = total + (y * d).sum()
        return total

    found = gradient(projected, *(full[k] for k in active))
    grads = dict(zip(active, found if len(active) > 1 else (found,), strict=True))
    return tuple([grads.get(k) for k in range(len(full))])


# -- the operations ----------------------------------------------------------------------------------------------------


def _rnn(gx: Any, w: Any, h0: Any, *, mask: Any, activation: Any, reverse: bool, keep: bool) -> Any:
    return rnn_forward(gx, w, h0, mask, activation, reverse, keep)


def _rnn_rule(dy: Any, gx: Any, w: Any, h0: Any, mask: Any, activation: Any, reverse: bool, needs: Any) -> Any:
    def unfused(gx: Any, w: Any, h0: Any) -> Any:
        return through_time(lambda x, s: rnn_step(x, s, w, activation), gx, (h0,), mask, reverse)

    return _composed(unfused, dy, (gx, w, h0), needs)


def _lstm(x: Any, w_in: Any, b: Any, w: Any, h0: Any, c0: Any, *, mask: Any, reverse: bool, keep: bool) -> Any:
    return lstm_forward(x, w_in, b, w, h0, c0, mask, reverse, keep)


def _lstm_rule(
    dy: Any, x: Any, w_in: Any, b: Any, w: Any, h0: Any, c0: Any, mask: Any, reverse: bool, needs: Any
) -> Any:
    def unfused(x: Any, w_in: Any, b: Any, w: Any, h0: Any, c0: Any) -> Any:
        gx = x if w_in is None else dense(x, w_in, b)
        return through_time(lambda x, s: _lstm_step(x, s, w), gx, (h0, c0), mask, reverse)

    return _composed(unfused, dy, (x, w_in, b, w, h0, c0), needs)


def _gru(
    gx: Any, w: Any, b: Any, h0: Any, *, mask: Any, reverse: bool, form: str, keep: bool
) -> Any:
    return gru_forward(gx, w, b, h0, mask, reverse, form, keep)


def _gru_rule(dy: Any, gx: Any, w: Any, b: Any, h0: Any, mask: Any, reverse: bool, form: str, needs: Any) -> Any:
    def unfused(gx: Any, w: Any, b: Any, h0: Any) -> Any:
        return through_time(lambda x, s: _gru_step(x, s, w, b, form), gx, (h0,), mask, reverse)

    return _composed(unfused, dy, (gx, w, b, h0), needs)


_rnn_operation = operation(
    "rnn", _rnn, backward=rnn_backward, rule=_rnn_rule, outputs=2, residuals=("states", "sums")
)
_lstm_operation = operation(
    "lstm", _lstm, backward=lstm_backward, rule=_lstm_rule, outputs=3, residuals=("states", "gates", "cells")
)
_gru_operation = operation(
    "gru", _gru, backward=gru_backward, rule=_gru_rule, outputs=2, residuals=("states", "gates")
)


# -- what layers call --------------------------------------------------------------------------------------------------


def _checked(name: str, gates: int, gx: tuple[int, ...], w: Any, states: Any, mask: Any) -> Any:
    """The mask as an array; raises what does not fit, the shape of ``gx`` given."""
    if len(gx) != 3:
        raise ValueError(f"{name}: gx must have the axes (T, N, {gates} H), got shape {gx}")
    steps, batch, width = gx
    size = width // gates
    if width % gates or w.shape != (width, size):
        raise ValueError(f"{name}: w_hh must have the shape ({gates} H, H) where gx has (T, N, {gates} H), got {w.shape} "
                         f"and {gx}")
    for what, state in states:
        if state.shape != (batch, size):
            raise ValueError(f"{name}: {what} has the shape {state.shape}, expected {(batch, size)}: the batch of gx "
                             f"(shape {gx}) and the size of the state")
    if mask is None:
        return None
    mask = mask.data if isinstance(mask, Tensor) else mask
    if getattr(mask, "dtype", None) != np.bool_ or mask.shape != (steps, batch):
        raise ValueError(f"{name}: mask must be an array of booleans of the shape {(steps, batch)}, got "
                         f"{getattr(mask, 'dtype', type(mask).__name__)} of shape {getattr(mask, 'shape', ())}")
    return mask


def _recorded(*inputs: Any) -> bool:
    return any([isinstance(x, Tensor) and x.recorded for x in inputs])


def rnn_sequence(
    gx: Any, w_hh: Any, h0: Any, mask: Any = None, *, activation: Any = tanh, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """``(y, h_last)``: gx (T, N, H), w_hh (H, H), h0 (N, H), mask (T, N) booleans or None.

    ``activation``: one of the library's. Raises ValueError for shapes that do not fit, TypeError for another function.
    """
    if activation_of(activation) is None:
        raise TypeError(f"rnn_sequence: the activation must be one of the library's, got {activation!r}")
    gx, w_hh, h0 = as_tensor(gx), as_tensor(w_hh), as_tensor(h0)
    mask = _checked("rnn_sequence", 1, gx.shape, w_hh, (("h0", h0),), mask)
    keep = _recorded(gx, w_hh, h0)
    return _rnn_operation(gx, w_hh, h0, mask=mask, activation=activation, reverse=reverse, keep=keep)


def lstm_sequence(
    gx: Any, w_hh: Any, h0: Any, c0: Any, mask: Any = None, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """``(y, h_last, c_last)``: gx (T, N, 4H), gates i, f, g, o; w_hh (4H, H), h0 and c0 (N, H), mask (T, N) or None.

    Raises ValueError for shapes that do not fit.
    """
    gx, w_hh, h0, c0 = as_tensor(gx), as_tensor(w_hh), as_tensor(h0), as_tensor(c0)
    mask = _checked("lstm_sequence", 4, gx.shape, w_hh, (("h0", h0), ("c0", c0)), mask)
    keep = _recorded(gx, w_hh, h0, c0)
    return _lstm_operation(gx, None, None, w_hh, h0, c0, mask=mask, reverse=reverse, keep=keep)


def lstm_layer(
    x: Any, w_ih: Any, b_ih: Any, w_hh: Any, h0: Any, c0: Any, mask: Any = None, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """``lstm_sequence(dense(x, w_ih, b_ih), w_hh, ...)`` in one operation: x (T, N, I), w_ih (4H, I), b_ih (4H,) or None.

    Raises ValueError for shapes that do not fit.
    """
    x, w_ih, w_hh, h0, c0 = as_tensor(x), as_tensor(w_ih), as_tensor(w_hh), as_tensor(h0), as_tensor(c0)
    b_ih = None if b_ih is None else as_tensor(b_ih)
    if x.ndim != 3 or w_ih.shape[1:] != x.shape[2:] or (b_ih is not None and b_ih.shape != w_ih.shape[:1]):
        bias = "None" if b_ih is None else b_ih.shape
        raise ValueError("lstm_layer: x, w_ih and b_ih must have the shapes (T, N, I), (4 H, I) and (4 H,), got "
                         f"{x.shape}, {w_ih.shape} and {bias}")
    shape = (*x.shape[:2], w_ih.shape[0])
    mask = _checked("lstm_layer", 4, shape, w_hh, (("h0", h0), ("c0", c0)), mask)
    keep = _recorded(x, w_ih, b_ih, w_hh, h0, c0)
    return _lstm_operation(x, w_ih, b_ih, w_hh, h0, c0, mask=mask, reverse=reverse, keep=keep)


def gru_sequence(
    gx: Any, w_hh: Any, b_hh: Any, h0: Any, mask: Any = None, *, reverse: bool = False, form: str = "gru"
) -> tuple[Tensor, Tensor]:
    """``(y, h_last)``: gx (T, N, 3H), gates r, z, n; w_hh (3H, H), b_hh (3H,) or None, h0 (N, H), mask (T, N) or None.

    ``form``: "gru" or "gruv3", see the head of this file. Raises ValueError for another, or shapes that do not fit.
    """
    if form not in ("gru", "gruv3"):
        raise ValueError(f'gru_sequence: form must be "gru" or "gruv3", got {form!r}')
    gx, w_hh, h0 = as_tensor(gx), as_tensor(w_hh), as_tensor(h0)
    mask = _checked("gru_sequence", 3, gx.shape, w_hh, (("h0", h0),), mask)
    if b_hh is not None:
        b_hh = as_tensor(b_hh)
        if b_hh.shape != w_hh.shape[:1]:
            raise ValueError(f"gru_sequence: b_hh has the shape {b_hh.shape}, expected {w_hh.shape[:1]}, a number for "
                             "each row of w_hh")
    keep = _recorded(gx, w_hh, b_hh, h0)
    return _gru_operation(gx, w_hh, b_hh, h0, mask=mask, reverse=reverse, form=form, keep=keep)
