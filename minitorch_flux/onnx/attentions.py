"""Attention over keys and values, with caches, masks and grouped heads; and rotary position embeddings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops.comparisons import where
from ..ops.elementwise import as_tensor
from ..ops.joining import concatenate
from ..ops.nonlinearities import tanh
from ..ops.padding import pad
from ..ops.products import matmul
from ..ops.reductions import all as all_of
from ..ops.shapes import repeat
from ..ops.softmaxes import softmax
from .arguments import like
from .protos import dtype_of
from .registry import register


def heads(x: Any, number: int | None) -> Tensor:
    """(N, L, heads D) as (N, heads, L, D); four axes are left alone."""
    x = as_tensor(x)
    if x.ndim == 4:
        return x
    if not number or x.shape[2] % number:
        raise ValueError(f"an input of shape {x.shape} cannot be split into {number} heads; give q_num_heads, kv_num_heads")
    return x.reshape(x.shape[0], x.shape[1], number, x.shape[2] // number).transpose(0, 2, 1, 3)


def _allowed(
    queries: int, keys: int, offset: Any, causal: bool, left: int, right: int, lengths: Any, xp: Any
) -> Any:
    """Which keys a query may see, by their places: booleans that broadcast to (N, heads, L, S), or None for all."""
    at = xp.arange(queries)[:, None] + offset
    ahead = xp.arange(keys) - at
    seen = None
    for rule in (ahead <= 0 if causal else None, -ahead <= left if left >= 0 else None, ahead <= right if right >= 0 else None,
                 None if lengths is None else xp.arange(keys) < lengths):
        if rule is not None:
            seen = rule if seen is None else seen & rule
    return seen


@register("Attention")
def attention(
    q: Any, k: Any, v: Any, attn_mask: Any = None, past_key: Any = None, past_value: Any = None,
    nonpad_kv_seqlen: Any = None, *, is_causal: int = 0, kv_num_heads: int | None = None, left_window_size: int = -1,
    q_num_heads: int | None = None, qk_matmul_output_mode: int = 0, right_window_size: int = -1, scale: float | None = None,
    softcap: float = 0.0, softmax_precision: int | None = None, node: Any,
) -> Any:
    """softmax(cap(q k^T scale) + bias) v; a query that may see no key gives zeros.

    The mask is added, or true where a key may be seen; it may be shorter than the keys. Query i sits at place ``offset +
    i``: after the past, or at the end of the keys that are not padding.
    """
    q4, k4, v4 = heads(q, q_num_heads), heads(k, kv_num_heads), heads(v, kv_num_heads)
    if past_key is not None:
        k4, v4 = concatenate([past_key, k4], 2), concatenate([past_value, v4], 2)
    present = k4, v4
    groups = q4.shape[1] // k4.shape[1]
    k4, v4 = (t if groups == 1 else repeat(t, groups, 1) for t in (k4, v4))
    root = math.sqrt(1 / math.sqrt(q4.shape[-1]) if scale is None else scale)
    raw = matmul(like(q4 * root, q4), like(k4 * root, k4).swapaxes(2, 3))
    capped = like(tanh(raw / softcap) * softcap, raw) if softcap else raw
    xp, shape = array_module(capped.data), capped.shape
    lengths, offset = None, 0 if past_key is None else as_tensor(past_key).shape[2]
    if nonpad_kv_seqlen is not None:
        lengths = as_tensor(nonpad_kv_seqlen).data.reshape(-1, 1, 1, 1)
        offset = lengths - shape[2] if past_key is None else offset
    seen = _allowed(shape[2], shape[3], offset, bool(is_causal), left_window_size, right_window_size, lengths, xp)
    biased = capped
    if attn_mask is not None:
        mask = as_tensor(attn_mask)
        lack = shape[3] - mask.shape[-1]
        boolean = mask.dtype == np.bool_
        if lack:
            mask = pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, lack)], value=False if boolean else -math.inf)
        if not boolean:
            biased = biased + mask
        open_ = mask.data if boolean else mask.data > -math.inf
        seen = open_ if seen is None else seen & open_
    if seen is not None:
        biased = where(seen, biased, -math.inf)
    scores = biased if softmax_precision is None else biased.astype(dtype_of(softmax_precision, "Attention"))
    if seen is None:
        p = softmax(scores)
    else:
        blind = all_of(Tensor(~xp.broadcast_to(seen, shape)), -1, keepdims=True).data
        p = where(blind, 0.0, softmax(where(blind, 0.0, scores)))
    p = like(p, q4)
    y = matmul(p, v4)
    if as_tensor(q).ndim == 3:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], y.shape[1] * y.shape[3])
    shown = (raw, capped, biased, p)[qk_matmul_output_mode]
    return (y, *present, shown)[: max(len(node.outputs), 1)]


@register("RotaryEmbedding")
def rotary_embedding(
    x: Any, cos_cache: Any, sin_cache: Any, position_ids: Any = None, *, interleaved: int = 0, num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> Any:
    """Pairs of features turned by the angle of their place: x (N, heads, L, D) or (N, L, heads D)."""
    x4 = heads(x, num_heads)
    width = rotary_embedding_dim or x4.shape[-1]
    cos, sin = as_tensor(cos_cache), as_tensor(sin_cache)
    if position_ids is not None:
        at = as_tensor(position_ids).data
        cos, sin = cos[at], sin[at]  # (N, L, width / 2)
    cos, sin = (t[:, None, :, : width // 2] for t in (cos, sin))
    turned, rest = x4[..., :width], x4[..., width:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
    else:
        a, b = turned[..., : width // 2], turned[..., width // 2 :]
    a, b = a * cos - b * sin, a * sin + b * cos
    if interleaved:
        pairs = concatenate([a.reshape(*a.shape, 1), b.reshape(*b.shape, 1)], -1)
        turned = pairs.reshape(*turned.shape)
    else:
        turned = concatenate([a, b], -1)
    y = concatenate([turned, rest], -1)
    if as_tensor(x).ndim == 3:
        y = y.transpose(0, 2, 1, 3).reshape(as_tensor(x).shape)
    return like(y, x4)
