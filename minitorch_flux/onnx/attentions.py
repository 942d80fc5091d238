"""Attention over keys and values, with caches, masks and grouped heads; and rotary position embeddings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops.attention import dot_product_attention
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
    xp, lengths, offset = array_module(q4.data), None, 0 if past_key is None else as_tensor(past_key).shape[2]
    if nonpad_kv_seqlen is not None:
        lengths = as_tensor(nonpad_kv_seqlen).data.reshape(-1, 1, 1, 1)
        offset = lengths - q4.shape[2] if past_key is None else offset
    seen = _allowed(q4.shape[2], k4.shape[2], offset, bool(is_causal), left_window_size, right_window_size, lengths, xp)
    bias = None
    if attn_mask is not None:
        mask = as_tensor(attn_mask)
        boolean, lack = mask.dtype == np.bool_, k4.shape[2] - mask.shape[-1]
        if lack:
            mask = pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, lack)], value=False if boolean else -math.inf)
        open_ = mask.data if boolean else mask.data > -math.inf
        seen = open_ if seen is None else seen & open_
        bias = None if boolean else mask
    if seen is not None:
        seen = seen.reshape((1,) * (4 - seen.ndim) + seen.shape)
    scale = 1 / math.sqrt(q4.shape[-1]) if scale is None else scale
    if bias is None and not softcap and softmax_precision is None and len(node.outputs) < 4:
        y, shown = dot_product_attention(q4, k4, v4, mask=seen, scale=scale), None
    else:
        dtype = None if softmax_precision is None else dtype_of(softmax_precision, "Attention")
        y, shown = _composed(q4, k4, v4, seen, bias, scale, softcap, dtype, qk_matmul_output_mode)
    if as_tensor(q).ndim == 3:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], y.shape[1] * y.shape[3])
    return (y, *present, shown)[: max(len(node.outputs), 1)]


def _composed(
    q: Tensor, k: Tensor, v: Tensor, seen: Any, bias: Any, scale: float, softcap: float, dtype: Any, mode: int
) -> tuple[Tensor, Tensor]:
    """Step by step: the output, and the products of queries and keys before or after one of the steps."""
    groups, root = q.shape[1] // k.shape[1], math.sqrt(scale)
    k, v = (t if groups == 1 else repeat(t, groups, 1) for t in (k, v))
    products = matmul(like(q * root, q), like(k * root, k).swapaxes(2, 3))
    capped = like(tanh(products / softcap) * softcap, products) if softcap else products
    biased = capped if bias is None else capped + bias
    biased = biased if seen is None else where(seen, biased, -math.inf)
    scores = biased if dtype is None else biased.astype(dtype)
    if seen is None:
        p = softmax(scores)
    else:
        blind = all_of(Tensor(~array_module(seen).broadcast_to(seen, scores.shape)), -1, keepdims=True).data
        p = where(blind, 0.0, softmax(where(blind, 0.0, scores)))
    p = like(p, q)
    return matmul(p, v), (products, capped, biased, p)[mode]


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
