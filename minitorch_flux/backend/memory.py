"""Large CPU arrays from a pool: no page faults and no new memory in a steady training step.

The system allocator gives large blocks back to the kernel as soon as they are freed, and every page of a fresh
block costs a fault on its first touch (about three times the cost of writing it). ``empty`` therefore keeps
the memory of dead arrays and hands it out again.

A block returns to the pool when the *last* reference to it has died, and not before: every view of an array
holds its ``_Block``, whose finaliser is the only way back. On a GPU CuPy's own pool does the same work.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import numpy as np

from .arrays import Array, array_module

SMALLEST = 1 << 16  # below 64 kB the system allocator is as fast and reuses memory itself
ALIGNMENT = 64  # one AVX-512 vector, one cache line
KEPT = 1 << 28  # free memory that is kept even when little is in use


class _Pool:
    def __init__(self) -> None:
        self.free: dict[int, list[np.ndarray]] = defaultdict(list)
        self.lock = threading.Lock()
        self.held = self.used = self.fresh_bytes = self.fresh_blocks = self.reused_blocks = 0

    def take(self, size: int) -> np.ndarray:
        with self.lock:
            blocks = self.free.get(size)
            self.used += size
            if blocks:
                self.held -= size
                self.reused_blocks += 1
                return blocks.pop()
            self.fresh_bytes += size
            self.fresh_blocks += 1
            if self.held > max(self.used, KEPT):  # the sizes have changed: let the old ones go
                self.free.clear()
                self.held = 0
        return _aligned(size)

    def give(self, raw: np.ndarray) -> None:
        # Finalisers run at any point, also inside take() of this very thread: a plain lock would deadlock,
        # so the list operations (atomic under the GIL) come without it and only the counters are approximate.
        size = raw.nbytes
        self.free[size].append(raw)
        self.used -= size
        self.held += size


def _aligned(size: int) -> np.ndarray:
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


_pool = _Pool()


class _Block:
    """The owner of one piece of pool memory: lives as long as any view of it."""

    __slots__ = ("__array_interface__", "raw")

    def __init__(self, raw: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.raw = raw
        self.__array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (raw.ctypes.data, False),
            "version": 3,
        }

    def __del__(self, give: Any = _pool.give) -> None:  # bound here: module globals go before the last arrays
        give(self.raw)


def _size_class(nbytes: int) -> int:
    """``nbytes`` rounded up to an eighth of its power of two: at most 12.5 % is wasted."""
    step = max(1 << (nbytes - 1).bit_length() - 4, 1 << 12)
    return -(-nbytes // step) * step


def empty(shape: Any, dtype: Any, like: Array | None = None) -> Array:
    """An uninitialised C-contiguous array on the device of ``like`` (default: the CPU).

    Arrays of 64 kB and more are aligned to 64 bytes and come from the pool.
    """
    xp = array_module(like)
    dtype = np.dtype(dtype)
    if xp is not np:
        return xp.empty(shape, dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    nbytes = dtype.itemsize
    for n in shape:
        nbytes *= n
    if nbytes < SMALLEST or dtype.hasobject or dtype.kind == "V":
        return np.empty(shape, dtype)
    return np.asarray(_Block(_pool.take(_size_class(nbytes)), shape, dtype))


def empty_like(x: Array) -> Array:
    """``empty`` with the shape, dtype and device of ``x`` (C-contiguous whatever the order of ``x``)."""
    return empty(x.shape, x.dtype, like=x)


def memory_stats() -> dict[str, int]:
    """Bytes of the CPU pool: ``used`` by living arrays, ``held`` free, and what was ever newly allocated.

    ``fresh_bytes`` and ``fresh_blocks`` count new memory, ``reused_blocks`` the requests served without any: in
    a steady training step ``fresh_bytes`` does not move.
    """
    return {
        "used": _pool.used,
        "held": _pool.held,
        "fresh_bytes": _pool.fresh_bytes,
        "fresh_blocks": _pool.fresh_blocks,
        "reused_blocks": _pool.reused_blocks,
    }


def free_memory() -> int:
    """Give the pool's free memory back to the system; returns the number of bytes released."""
    with _pool.lock:
        released = _pool.held
        _pool.free = defaultdict(list)
        _pool.held = 0
    return released
