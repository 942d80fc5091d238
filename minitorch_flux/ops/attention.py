"""Scaled dot-product attention, in blocks of queries (kernels: kernels/attention.cu).

    s = scale q k^T          q (N, H, L, D), k (N, K, S, D), v (N, K, S, E); H is a multiple of K: head h of the queries
    p = softmax(s)           reads head h // (H / K) of the keys and values
    y = p v                  over the S keys that query l may see: mask (N, H, L, S) true, and key <= l if causal

    dv = p^T dy              dq = ds k
    dp = dy v^T              dk = ds^T q                summed over the heads that share a key
    ds = scale p (dp - sum(p dp))

A query that sees no key gives zeros and no gradient. The products of a block are formed, used and forgotten, and the
backward pass forms them again from the logarithm of the softmax's normaliser: the memory is O(L + block), not O(L S).

Sources: Vaswani and others, "Attention is all you need", NIPS 2017; Dao and others, "FlashAttention", NeurIPS 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import (
    array_function,
    array_module,
    as_array,
    contiguous,
    device_of,
    empty,
    empty_like,
    is_float,
    too_small,
    workspace_limit,
)
from ..readings import KernelFile
from .comparisons import where
from .elementwise import as_tensor
from .fused_attention import ACCEPTS, attend, attend_backward, beside, carried, packed, sizes_of, suits, wide
from .joining import cat
from .products import matmul
from .softmaxes import softmax

# -- the softmax of a block --------------------------------------------------------------------------------------------


def _seen(s: Any, mask: Any, first: int) -> Any:
    """Which keys each query may see, to broadcast with ``s`` (.., L, S); None: all. ``first`` < 0: not causal."""
    if first < 0:
        return mask
    xp, (length, width) = array_module(s), s.shape[-2:]
    earlier = xp.arange(width) <= xp.arange(first, first + length)[:, None]
    return earlier if mask is None else mask & earlier


@array_function
def attention_weights(s: Any, mask: Any, scale: float, first: int) -> tuple[Any, Any]:
    """``(p, lse)`` of the products ``s`` (N, H, L, S), which are used up; lse (N, H, L). ``first``: of causal queries."""
    xp, seen = array_module(s), _seen(s, mask, first)
    s = s * scale
    if seen is not None:
        s = xp.where(seen, s, s.dtype.type(-math.inf))
    top = s.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        e = xp.exp(xp.where(s == top, 0, s - top))
    total = e.sum(axis=-1, keepdims=True)
    nothing = top == -math.inf
    p = xp.where(nothing, 0, e / total)
    return p, xp.where(nothing, s.dtype.type(math.inf), top + xp.log(total))[..., 0]


@array_function
def attention_weights_backward(s: Any, dp: Any, mask: Any, lse: Any, scale: float, first: int) -> tuple[Any, Any]:
    """``(p, ds)`` of the products ``s`` and ``dp`` = dy v^T, which are used up."""
    xp, seen = array_module(s), _seen(s, mask, first)
    p = xp.exp(s * scale - lse[..., None])
    if seen is not None:
        p = xp.where(seen, p, 0)
    return p, scale * p * (dp - (p * dp).sum(axis=-1, keepdims=True))


# -- references --------------------------------------------------------------------------------------------------------

BLOCK = 1 << 18
"""Products that are formed at a time: 1 MB of float32, which stays in the second cache."""


def _block(name: str, q: Any, k: Any, mask: Any, arrays: int, beside: int = 0) -> int:
    """How many products are formed at a time: BLOCK, or fewer where work space is bounded.

    ``arrays``: how many arrays of them there are at a time; ``beside``: bytes of sums for a sample of which a part is done, or
    whose heads share keys.
    """
    if (limit := workspace_limit()) is None or device_of(q) != "cpu":
        return BLOCK
    (_, heads, length, _), width = q.shape, k.shape[2]
    one = arrays * (q.itemsize + -(-q.itemsize // width)) + (mask is not None)  # and its part of lse
    sample = max(heads * length * width, 1)
    if heads == k.shape[1] and limit >= one * sample:
        return min(BLOCK, limit // one)
    if (least := one * heads * width + beside) > limit:
        raise too_small(name, least)
    return min(BLOCK, (limit - beside) // one, max(2 * sample - 1, limit // (one + -(-beside // sample))))


def _blocks(n: int, heads: int, length: int, width: int, block: int) -> Iterator[tuple[slice, int, int]]:
    """``(samples, first query, query after the last)``: whole samples where several fit, else parts of one."""
    samples = max(block // max(heads * length * width, 1), 1)
    queries = max(length if samples > 1 else min(block // max(heads * width, 1), length), 1)
    for i in range(0, n, samples):
        for first in range(0, length, queries):
            yield slice(i, min(i + samples, n)), first, min(first + queries, length)


def _grouped(x: Any, groups: int) -> Any:
    """Heads (N, H, ..) as (N, H / groups, groups, ..), a view."""
    n, h, length, d = x.shape
    return x.reshape(n, h // groups, groups, length, d)


def _mask_part(mask: Any, samples: slice, first: int, end: int) -> Any:
    if mask is None:
        return None
    part = mask[samples if mask.shape[0] > 1 else slice(None), :, slice(first, end) if mask.shape[2] > 1 else slice(None)]
    return array_module(mask).ascontiguousarray(part)


def _heads(shape: tuple[int, ...], like: Any) -> Any:
    """An array (N, H, L, D) in the memory of (N, L, H, D), so that joining the heads costs nothing."""
    n, h, length, d = shape
    return empty((n, length, h, d), like.dtype, like=like).swapaxes(1, 2)


def _attend(q: Any, k: Any, v: Any, y: Any, mask: Any, causal: bool, scale: float) -> Any:
    """Write attention into ``y``; gives lse (N, H, L). All in float32 or float64."""
    xp, (n, h, length, _), groups = array_module(q), q.shape, q.shape[1] // k.shape[1]
    width = k.shape[2]
    lse = empty((n, h, length), q.dtype, like=q)
    block = _block("attention_forward", q, k, mask, 1) if width else 0
    q, y, k, v = _grouped(q, groups), _grouped(y, groups), _grouped(k, 1), _grouped(v, 1)
    if not width:
        y[...], lse[...] = 0, math.inf
        return lse
    for i, first, end in _blocks(n, h, length, width, block):
        s = xp.matmul(q[i, :, :, first:end], k[i].swapaxes(-1, -2))
        s = s.reshape(s.shape[0], h, end - first, width)
        p, lse[i, :, first:end] = attention_weights(s, _mask_part(mask, i, first, end), scale, first if causal else -1)
        xp.matmul(_grouped(p, groups), v[i], out=y[i, :, :, first:end])
        del s, p  # a block's arrays go before the next one's come
    return lse


def _attend_backward(
    dy: Any, q: Any, k: Any, v: Any, lse: Any, grads: tuple[Any, Any, Any], mask: Any, causal: bool, scale: float
) -> None:
    """Write the gradients into the three arrays ``grads``."""
    xp, (n, h, length, _), groups = array_module(q), q.shape, q.shape[1] // k.shape[1]
    width = k.shape[2]
    sums = (h + 2 * k.shape[1]) * width * max(k.shape[3], v.shape[3]) * k.itemsize
    block = _block("attention_backward", q, k, mask, 2, sums) if width else 0
    dq, dk, dv = _grouped(grads[0], groups), grads[1], grads[2]
    q, dy, k, v = _grouped(q, groups), _grouped(dy, groups), _grouped(k, 1), _grouped(v, 1)
    if not (length and width):
        dq[...] = dk[...] = dv[...] = 0
        return
    for i, first, end in _blocks(n, h, length, width, block):
        part = (i, slice(None), slice(None), slice(first, end))
        s, dp = xp.matmul(q[part], k[i].swapaxes(-1, -2)), xp.matmul(dy[part], v[i].swapaxes(-1, -2))
        shape = (s.shape[0], h, end - first, width)
        p, ds = attention_weights_backward(
            s.reshape(shape), dp.reshape(shape), _mask_part(mask, i, first, end), lse[i, :, first:end], scale,
            first if causal else -1,
        )  # fmt: skip
        p, ds = _grouped(p, groups), _grouped(ds, groups)
        xp.matmul(ds, k[i], out=dq[part])
        _add_product(dv[i], p.swapaxes(-1, -2), dy[part], first)
        _add_product(dk[i], ds.swapaxes(-1, -2), q[part], first)
        del s, dp, p, ds


def _add_product(out: Any, a: Any, b: Any, first: int) -> None:
    """``out`` (N, K, S, D) = or, after the first block, += the sum of a b over the groups."""
    xp = array_module(out)
    if a.shape[2] == 1 and not first:
        xp.matmul(a[:, :, 0], b[:, :, 0], out=out)
        return
    product = xp.matmul(a, b).sum(axis=2)
    out[...] = product if not first else out + product


@array_function
def attention_forward(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> tuple[Any, Any]:
    """``(y, lse)``: y (N, H, L, E), and lse (N, H, L) for the backward pass."""
    dtype = q.dtype
    q, k, v = wide(q, k, v)
    y = _heads((*q.shape[:3], v.shape[3]), q)
    lse = _attend(q, k, v, y, mask, causal, scale)
    return y.astype(dtype, copy=False), lse


@array_function
def attention_backward(
    dy: Any, q: Any, k: Any, v: Any, lse: Any, mask: Any, causal: bool, scale: float
) -> tuple[Any, Any, Any]:
    """``(dq, dk, dv)``."""
    dtype = q.dtype
    q, k, v, dy = wide(q, k, v, dy)
    grads = (_heads(q.shape, q), _heads(k.shape, q), _heads(v.shape, q))
    _attend_backward(dy, q, k, v, lse, grads, mask, causal, scale)
    dq, dk, dv = (g.astype(dtype, copy=False) for g in grads)
    return dq, dk, dv


@array_function
def self_attention_forward(x: Any, heads: int, kvheads: int, mask: Any, causal: bool, scale: float) -> tuple[Any, Any]:
    """``attention_forward`` of queries, keys and values that lie side by side; y (N, L, heads D)."""
    y, lse = attention_forward(*packed(x, heads, kvheads), mask, causal, scale)
    n, h, length, d = y.shape
    return y.swapaxes(1, 2).reshape(n, length, h * d), lse


@array_function
def self_attention_backward(
    dy: Any, x: Any, lse: Any, heads: int, kvheads: int, mask: Any, causal: bool, scale: float
) -> Any:
    """The three gradients side by side."""
    dtype = x.dtype
    x, dy = wide(x, dy)
    dx = empty(x.shape, x.dtype, like=x)
    n, length, width = dy.shape
    dy = dy.reshape(n, length, heads, width // heads).swapaxes(1, 2)
    q, k, v = packed(x, heads, kvheads)
    _attend_backward(dy, q, k, v, lse, packed(dx, heads, kvheads), mask, causal, scale)
    return dx.astype(dtype, copy=False)


# -- the same in differentiable operations -----------------------------------------------------------------------------


def _split(x: Tensor, groups: int) -> Tensor:
    n, h, length, d = x.shape
    return x.reshape(n, h // groups, groups, length, d)


def _weights(q: Tensor, k: Tensor, mask: Any, causal: bool, scale: float) -> Tensor:
    """p (N, H, L, S)."""
    groups = q.shape[1] // k.shape[1]
    s = matmul(_split(q, groups), _split(k, 1).swapaxes(-1, -2)) * scale
    s = s.reshape(*q.shape[:3], k.shape[2])
    seen = _seen(s.data, mask, 0 if causal else -1)
    if seen is None or not s.shape[3]:
        return softmax(s)
    zero = array_module(s.data).zeros((), s.dtype)
    return where(seen, softmax(where(seen, s, zero - math.inf)), zero)


def _rule(dy: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Any, causal: bool, scale: float) -> tuple[Tensor, ...]:
    groups = q.shape[1] // k.shape[1]
    p, dy = _weights(q, k, mask, causal, scale), _split(dy, groups)
    dp = matmul(dy, _split(v, 1).swapaxes(-1, -2)).reshape(p.shape)
    ds = _split(p * (dp - (p * dp).sum(axis=-1, keepdims=True)) * scale, groups)
    dk = matmul(ds.swapaxes(-1, -2), _split(q, groups)).sum(axis=2)
    dv = matmul(_split(p, groups).swapaxes(-1, -2), dy).sum(axis=2)
    return matmul(ds, _split(k, 1)).reshape(q.shape), dk, dv


def _self_rule(
    dy: Tensor, x: Tensor, heads: int, kvheads: int, mask: Any, causal: bool, scale: float
) -> Tensor:
    n, length, width = dy.shape
    dy = dy.reshape(n, length, heads, width // heads).swapaxes(1, 2)
    grads = _rule(dy, *packed(x, heads, kvheads), mask, causal, scale)
    return cat([g.swapaxes(1, 2) for g in grads], axis=2).reshape(x.shape)


_attention = operation(
    "dot_product_attention", attention_forward, backward=attention_backward, rule=_rule, residuals=("lse",)
)
self_attention = operation(
    "self_attention", self_attention_forward, backward=self_attention_backward, rule=_self_rule, residuals=("lse",)
)


# -- the public function -----------------------------------------------------------------------------------------------


def read_mask(name: str, mask: Any, shape: tuple[int, int, int, int], like: Any) -> Any:
    """``mask`` as (N or 1, H or 1, L or 1, S) for scores of ``shape`` (N, H, L, S); else TypeError or ValueError."""
    m = as_array(mask.data if isinstance(mask, Tensor) else mask, like=like)
    if m.dtype != np.bool_:
        raise TypeError(f"{name}: mask must hold booleans, True where a query may attend to a key, got dtype {m.dtype}; of "
                        "numbers to be added to the scores, 0 or minus infinity, take numbers == 0")
    n, h, length, width = shape
    full = m[None, None] if m.ndim == 2 else m[:, None] if m.ndim == 3 else m
    if full.ndim != 4 or any(a not in (1, b) for a, b in zip(full.shape, shape, strict=True)):
        raise ValueError(f"{name}: mask must have the shape (queries, keys) = {(length, width)}, {(n, length, width)} with "
                         f"the batch, or {shape} with the batch and the heads, got {m.shape}")
    return array_module(m).broadcast_to(full, (*full.shape[:3], width))


def dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    drop: Callable[[Tensor], Any] | None = None,
    return_weights: bool = False,
    name: str = "dot_product_attention",
) -> Any:
    """softmax(scale q k^T) v for queries (N, H, L, D), keys (N, K, S, D) and values (N, K, S, E): (N, H, L, E).

    Each of the K heads of keys and values serves H / K heads of queries, one after the other. ``mask``: booleans, True
    where a query may attend to a key, of shape (L, S), (N, L, S) or (N, H, L, S), an axis of size one standing for any;
    ``causal=True``: query l attends to the keys 0 to l only. A query with nothing to attend to gives zeros. ``scale``:
    1 / sqrt(D) by default. ``return_weights=True`` gives ``(y, weights)``, weights (N, H, L, S), and ``drop`` is a
    function that they go through, such as dropout; with either all L x S weights are formed at once.

    Integers become float64, mixed dtypes are promoted. Raises ValueError for shapes that do not fit, TypeError for a
    mask that is not boolean. Source: NNlib's ``dot_product_attention``.
    """
    q, k, v = (as_tensor(x) for x in (q, k, v))
    dtype = np.result_type(*(t.dtype for t in (q, k, v)))
    dtype = dtype if is_float(dtype) else np.dtype(np.float64)
    q, k, v = (t if t.dtype == dtype else t.astype(dtype) for t in (q, k, v))
    shapes = f"queries {q.shape}, keys {k.shape}, values {v.shape}"
    if not (q.ndim == k.ndim == v.ndim == 4):
        raise ValueError(f"{name}: queries, keys and values must have four axes, (batch, heads, length, size), got {shapes}")
    if not (q.shape[0] == k.shape[0] == v.shape[0] and q.shape[3] == k.shape[3] and k.shape[1:3] == v.shape[1:3]):
        raise ValueError(f"{name}: all must have one batch size, queries and keys vectors of one size, keys and values the "
                         f"same heads and length, got {shapes}")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ValueError(f"{name}: the {q.shape[1]} heads of the queries must be a multiple of the {k.shape[1]} heads of the "
                         f"keys, got {shapes}")
    if mask is not None:
        mask = read_mask(name, mask, (*q.shape[:3], k.shape[2]), q.data)
    if scale is None:
        scale = 1 / math.sqrt(max(q.shape[3], 1))
    if drop is None and not return_weights:
        return _attention(q, k, v, mask=mask, causal=causal, scale=scale)
    p = _weights(q, k, mask, causal, scale)
    p = p if drop is None else drop(p)
    y = matmul(_split(p, q.shape[1] // k.shape[1]), _split(v, 1)).reshape(*q.shape[:3], v.shape[3])
    return (y, p) if return_weights else y


# -- kernels -----------------------------------------------------------------------------------------------------------

attention = KernelFile("attention.cu")


def _mask_arguments(s: Any, mask: Any) -> tuple[int, ...]:
    """The steps of ``mask`` and the sizes of ``s``, as the kernels want them."""
    n, h, length, width = s.shape
    steps = (0, 0, 0) if mask is None else (b // mask.itemsize if m > 1 else 0
                                            for b, m in zip(mask.strides[:3], mask.shape[:3], strict=True))
    return *steps, n * h * length, h, length, width


def _bytes(mask: Any) -> Any:
    """Booleans as bytes, which compilers can read many at a time."""
    return None if mask is None else mask.view(np.uint8)


@attention_weights.kernel(accepts="contiguous products of float32 or float64, at least one")
def _(s: Any, mask: Any, scale: float, first: int) -> Any:
    if not (s.size and s.flags.c_contiguous and s.dtype.kind == "f" and s.dtype.itemsize > 2):
        return NotImplemented
    lse = empty(s.shape[:3], s.dtype, like=s)
    arguments = _mask_arguments(s, mask)
    ran = attention("attention_weights", s, lse.size, s.shape[3], s, _bytes(mask), lse, scale, first, *arguments)
    return (s, lse) if ran else NotImplemented


@attention_weights_backward.kernel(accepts="contiguous products of float32 or float64, at least one")
def _(s: Any, dp: Any, mask: Any, lse: Any, scale: float, first: int) -> Any:
    if not (s.size and s.flags.c_contiguous and dp.flags.c_contiguous and s.dtype.kind == "f" and s.dtype.itemsize > 2):
        return NotImplemented
    lse = array_module(lse).ascontiguousarray(lse)
    arguments = _mask_arguments(s, mask)
    ran = attention("attention_weights_backward", s, lse.size, s.shape[3], s, dp, _bytes(mask), lse, scale, first, *arguments)
    return (s, dp) if ran else NotImplemented


@attention_forward.kernel(accepts=ACCEPTS)
def _(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> Any:
    dtype, (q, k, v) = q.dtype, wide(q, k, v)
    if not suits(q, k, v, False):
        return NotImplemented
    (a, _, i), (b, _, j), (c, _, m) = carried(q), carried(k), carried(v)
    found = attend(a, b, c, sizes_of(q, v), (0, 0, 0), (*i, *j, *m), mask, causal, scale)
    return found if found is NotImplemented else (found[0].swapaxes(1, 2).astype(dtype, copy=False), found[1])


@attention_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, q: Any, k: Any, v: Any, lse: Any, mask: Any, causal: bool, scale: float) -> Any:
    dtype, (dy, q, k, v) = q.dtype, wide(dy, q, k, v)
    if not suits(q, k, v, True):
        return NotImplemented
    sizes = sizes_of(q, v)
    (q, *_, i), (k, *_, j), (v, *_, m) = given = carried(q), carried(k), carried(v)
    grads = [empty_like(a) for a in (q, k, v)]
    dy, steps = contiguous(dy.swapaxes(1, 2)), (*i, *j, *m)
    if not attend_backward(dy, q, k, v, contiguous(lse), grads, sizes, (0, 0, 0), steps, mask, causal, scale):
        return NotImplemented
    return tuple([(g.swapaxes(1, 2) if joined else g).astype(dtype, copy=False)
                  for g, (_, joined, _) in zip(grads, given, strict=True)])  # fmt: skip


@self_attention_forward.kernel(accepts=ACCEPTS)
def _(x: Any, heads: int, kvheads: int, mask: Any, causal: bool, scale: float) -> Any:
    dtype, (x,) = x.dtype, wide(x)
    if not suits(*packed(x, heads, kvheads), False):
        return NotImplemented
    x = contiguous(x)
    found = attend(x, x, x, *beside(x, heads, kvheads), mask, causal, scale)
    if found is NotImplemented:
        return NotImplemented
    y, lse = found
    return y.reshape(*x.shape[:2], -1).astype(dtype, copy=False), lse


@self_attention_backward.kernel(accepts=ACCEPTS)
def _(dy: Any, x: Any, lse: Any, heads: int, kvheads: int, mask: Any, causal: bool, scale: float) -> Any:
    dtype, (dy, x) = x.dtype, wide(dy, x)
    if not suits(*packed(x, heads, kvheads), True):
        return NotImplemented
    x, dy = contiguous(x), contiguous(dy)
    dx = empty_like(x)
    if not attend_backward(dy, x, x, x, contiguous(lse), (dx, dx, dx), *beside(x, heads, kvheads), mask, causal, scale):
        return NotImplemented
    return dx.astype(dtype, copy=False)
