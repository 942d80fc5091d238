"""LinearAttention: a state of key-value products that is read by queries, step after step."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor
from ..backend import accumulator, array_module
from ..ops.elementary import exp
from ..ops.elementwise import as_tensor
from ..ops.joining import stack
from ..ops.products import matmul
from ..ops.shapes import repeat
from .arguments import like
from .attentions import heads
from .registry import register

RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}
"""Whether the state decays, and whether what it holds already is taken from the value before it is written."""


@register("LinearAttention")
def linear_attention(
    query: Any, key: Any, value: Any, past_state: Any = None, decay: Any = None, beta: Any = None, *, q_num_heads: int,
    kv_num_heads: int, chunk_size: int = 64, scale: float = 0.0, update_rule: str = "gated_delta",
) -> Any:
    """``(y, state)``: S = exp(decay) S + k (beta (v - S^T k))^T, y = scale S^T q; without decay or correction less of it.

    query (N, T, heads D), key (N, T, kv_heads D), value (N, T, kv_heads E), state (N, kv_heads, D, E), in float32 at least.
    """
    if update_rule not in RULES:
        raise ValueError(f"update_rule={update_rule!r} is not one of {', '.join(RULES)}")
    gated, corrected = RULES[update_rule]
    for name, given, wanted in (("decay", decay, gated), ("beta", beta, corrected)):
        if (given is not None) != wanted:
            raise ValueError(f"update_rule={update_rule!r} {'needs' if wanted else 'takes no'} {name}")
    x = as_tensor(query)
    wide = accumulator(x.dtype)
    numbers = (q_num_heads, kv_num_heads, kv_num_heads)
    q, k, v = (heads(as_tensor(a).astype(wide), n) for a, n in zip((query, key, value), numbers, strict=True))
    n, steps, size = q.shape[0], q.shape[2], q.shape[3]
    fade = None if decay is None else _gates(exp(as_tensor(decay).astype(wide)), kv_num_heads)
    rate = None if beta is None else _gates(as_tensor(beta).astype(wide), kv_num_heads)
    state: Any = Tensor(array_module(x.data).zeros((n, kv_num_heads, size, v.shape[3]), wide))
    state = state if past_state is None else as_tensor(past_state).astype(wide)
    factor = scale or 1 / math.sqrt(size)
    ys = []
    for t in range(steps):
        if fade is not None:
            state = state * fade[:, :, t, :, None]
        row, new = k[:, :, t, :, None], v[:, :, t, None, :]
        if rate is not None:
            new = rate[:, :, t, :, None] * (new - matmul(row.swapaxes(-1, -2), state))
        state = state + row * new
        read = state if q_num_heads == kv_num_heads else repeat(state, q_num_heads // kv_num_heads, axis=1)
        ys.append(matmul(q[:, :, t, None, :], read)[:, :, 0] * factor)
    y = stack(ys, 1).reshape(n, steps, q_num_heads * v.shape[3])
    return like(y, x), like(state, x if past_state is None else past_state)


def _gates(a: Tensor, number: int) -> Tensor:
    """(N, T, heads), (N, T, 1) or (N, T, heads D) as (N, heads or 1, T, 1 or D)."""
    n, steps, width = a.shape
    if width == 1:
        return a.reshape(n, 1, steps, 1)
    return a.reshape(n, steps, number, width // number).transpose(0, 2, 1, 3)


