"""Scaled dot-product attention in one kernel, its products included (kernels/fused_attention.cu): for CPUs.

    y = softmax(scale q k^T) v        of a block of queries of a head at a time; formulas and gradients in attention.py

A core takes a share of the heads. It packs a head's keys and values once, and the products of a block of queries stay in its
cache, which a BLAS would write and read again in between. On a GPU, and for what this declines, attention.py's blocks serve.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import accumulator, array_module, contiguous, device_of, empty, within_limit
from ..backend.threads import num_threads
from ..readings import KernelFile

fused = KernelFile("fused_attention.cu")

PANEL = 48  # columns that lie side by side when packed, as in products.h
LONGEST = 1 << 14
"""More keys would not stay in the second cache."""
PRODUCTS = 1 << 15
"""Products of a block of queries, if it has 8 queries or more."""

Steps = tuple[int, int, int]
ACCEPTS = (
    "floats on the CPU, not empty, at most 16384 keys, with a head of the keys for each thread; copied where the layout asks it"
)


def _panels(rows: int, columns: int) -> int:
    return -(-columns // PANEL) * rows * PANEL


def plan(length: int, width: int, d: int, e: int, backward: bool) -> tuple[int, int]:
    """``(queries at a time, numbers of work space of a share)``."""
    block = min(max(PRODUCTS // width // 8 * 8, 8), 64, length)
    line = -(-width // 16) * 16 + 16
    if not backward:
        return block, _panels(d, width) + _panels(width, e) + block * line
    both = _panels(d, width) + _panels(width, d) + _panels(e, width) + _panels(block, d) + _panels(block, e)
    return block, both + 2 * block * line


def suits(q: Any, k: Any, v: Any, backward: bool) -> bool:
    """Whether the kernels take queries (N, H, L, D), keys (N, K, S, D) and values (N, K, S, E) of one dtype."""
    (n, _, length, d), (_, kvheads, width, e), shares = q.shape, v.shape, num_threads()
    if q.dtype.char not in "fd" or device_of(q) != "cpu" or not (q.size and k.size and v.size):
        return False
    space = plan(length, width, d, e, backward)[1]
    return width <= LONGEST and n * kvheads >= shares and within_limit(shares * space * q.itemsize)


def wide(*arrays: Any) -> tuple[Any, ...]:
    """The arrays in float32 or float64, with the last axis in one piece, as BLAS needs them."""
    dtype = accumulator(arrays[0].dtype)
    xp = array_module(arrays[0])
    arrays = tuple([a.astype(dtype, copy=False) for a in arrays])
    return tuple([a if a.strides[-1] == a.itemsize else xp.ascontiguousarray(a) for a in arrays])


def packed(x: Any, heads: int, kvheads: int) -> tuple[Any, Any, Any]:
    """Queries, keys and values (N, heads, L, D) as views of one array (N, L, (heads + 2 kvheads) D)."""
    n, length, width = x.shape
    x = x.reshape(n, length, heads + 2 * kvheads, width // (heads + 2 * kvheads)).swapaxes(1, 2)
    return x[:, :heads], x[:, heads : heads + kvheads], x[:, heads + kvheads :]


def sizes_of(q: Any, v: Any) -> tuple[int, ...]:
    """N, H, K, L, S, D, E."""
    return (*q.shape[:2], v.shape[1], q.shape[2], v.shape[2], q.shape[3], v.shape[3])


def beside(x: Any, heads: int, kvheads: int) -> tuple[Any, Any, Any]:
    """The sizes, offsets and steps of queries, keys and values that lie side by side."""
    n, length, width = x.shape
    d = width // (heads + 2 * kvheads)
    return (n, heads, kvheads, length, length, d, d), (0, heads * d, (heads + kvheads) * d), (length * width, d, width) * 3


def carried(x: Any) -> tuple[Any, bool, Steps]:
    """Heads (N, H, L, D) as an array in one piece: it, whether it is (N, L, H, D), steps between samples, heads and rows."""
    n, h, length, d = x.shape
    joined = x.swapaxes(1, 2)
    if joined.flags.c_contiguous:
        return joined, True, (length * h * d, d, h * d)
    return contiguous(x), False, (h * length * d, length * d, d)


def _mask_steps(mask: Any) -> tuple[Any, Steps]:
    """The mask as bytes in one piece, and its steps."""
    if mask is None:
        return None, (0, 0, 0)
    mask = array_module(mask).ascontiguousarray(mask).view(np.uint8)
    _, h, length, width = mask.shape
    steps = (h * length * width, length * width, width)
    return mask, tuple(step if m > 1 else 0 for step, m in zip(steps, mask.shape, strict=False))  # type: ignore[return-value]


def attend(q: Any, k: Any, v: Any, shape: Any, offsets: Steps, steps: Any, mask: Any, causal: bool, scale: float) -> Any:
    """``(y, lse)``: y (N, L, H, E). ``shape``: N, H, K, L, S, D, E; q, k and v from ``offsets`` on, with nine ``steps``."""
    n, h, kvheads, length, width, d, e = shape
    shares, (block, space) = num_threads(), plan(length, width, d, e, False)
    mask, mask_steps = _mask_steps(mask)
    y, lse = empty((n, length, h, e), q.dtype, like=q), empty((n, h, length), q.dtype, like=q)
    work = empty((shares, space), q.dtype, like=q)
    ran = fused(
        "fused_attention_forward", q, shares, PANEL, q, k, v, mask, y, lse, work, scale, causal, *offsets, *steps, *mask_steps,
        n, h, h // kvheads, length, width, d, e, block, shares, space,
    )  # fmt: skip
    return (y, lse) if ran else NotImplemented


def attend_backward(
    dy: Any, q: Any, k: Any, v: Any, lse: Any, grads: Any, shape: Any, offsets: Steps, steps: Any, mask: Any, causal: bool,
    scale: float,
) -> bool:  # fmt: skip
    """Write the gradients into three arrays like q, k and v; dy (N, L, H, E). False where this machine has no kernel."""
    n, h, kvheads, length, width, d, e = shape
    shares, (block, space) = num_threads(), plan(length, width, d, e, True)
    mask, mask_steps = _mask_steps(mask)
    work = empty((shares, space), q.dtype, like=q)
    return fused(
        "fused_attention_backward", q, shares, PANEL, dy, q, k, v, mask, lse, *grads, work, scale, causal, *offsets, *steps,
        *mask_steps, n, h, h // kvheads, length, width, d, e, block, shares, space,
    )  # fmt: skip
