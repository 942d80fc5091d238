"""Large CPU arrays from a pool: no page faults and no new memory in a steady training step.

The system allocator gives large blocks back to the kernel as soon as they are freed, and every page of a fresh
block costs a fault on its first touch (about three times the cost of writing it). ``empty`` therefore keeps
the memory of dead arrays and hands it out again.

A block returns to the pool when the *last* reference to it has died, and not before: every view of an array
holds its ``_Loan``, whose finaliser is the only way back. On a GPU CuPy's own pool does the same work.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from typing import Any

import numpy as np

from .arrays import Array, array_module

SMALLEST = 1 << 16  # below 64 kB the system allocator is as fast and reuses memory itself
ALIGNMENT = 64  # one AVX-512 vector, one cache line
KEPT = 1 << 28  # free memory that is kept even when little is in use


class _Pool:
    def __init__(self) -> None:
        self.free: dict[int, list[np.ndarray]] = defaultdict(list)
        # Finalisers run at any point, also inside take() of this very thread, and must not wait for a lock: they only
        # append to this queue, which is atomic. All the rest happens under the lock (reentrant: a finaliser of the
        # user's may ask for memory).
        self.returned: deque[np.ndarray] = deque()
        self.lock = threading.RLock()
        self.held = self.used = self.fresh_bytes = self.fresh_blocks = self.reused_blocks = 0

    def take(self, size: int) -> np.ndarray:
        with self.lock:
            self.collect()
            blocks = self.free[size]
            if blocks:
                raw = blocks.pop()
                self.held -= size
                self.reused_blocks += 1
            else:
                if self.held > max(self.used, KEPT):  # the sizes have changed: let the old ones go
                    self.release()
                raw = self.fresh(size)
            self.used += size
            return raw

    def fresh(self, size: int) -> np.ndarray:
        try:
            raw = _aligned(size)
        except MemoryError:
            released = self.release()
            try:
                raw = _aligned(size)
            except MemoryError:
                raise MemoryError(
                    f"no memory for an array of {size:,} bytes: {self.used:,} bytes are in use by arrays that live, "
                    f"{released:,} free ones have been given back just now; use a smaller batch, or let arrays go"
                ) from None
        self.fresh_bytes += size
        self.fresh_blocks += 1
        return raw

    def collect(self) -> None:
        """Sort in what finalisers have returned."""
        while self.returned:
            raw = self.returned.popleft()
            self.free[raw.nbytes].append(raw)
            self.used -= raw.nbytes
            self.held += raw.nbytes

    def release(self) -> int:
        """Let all free memory go: how many bytes it was."""
        with self.lock:
            self.collect()
            released, self.held = self.held, 0
            self.free = defaultdict(list)
            return released


class _Memory(np.ndarray):
    """A piece of memory that the pool owns. A type of its own: NumPy makes views of one type views of the first one."""

    __slots__ = ()


def _aligned(size: int) -> np.ndarray:
    raw = np.ndarray.__new__(_Memory, (size + ALIGNMENT,), np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


_pool = _Pool()


def _after_fork() -> None:
    _pool.lock = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Loan(np.ndarray):
    """What an array that is handed out is a view of: it lives as long as any view of the array."""

    __slots__ = ()

    def __del__(self, give: Any = _pool.returned.append) -> None:  # bound here: module globals go before the last arrays
        give(self.base)


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
    return np.ndarray(shape, dtype, _pool.take(_size_class(nbytes)).view(_Loan))


def empty_like(x: Array) -> Array:
    """``empty`` with the shape, dtype and device of ``x`` (C-contiguous whatever the order of ``x``)."""
    return empty(x.shape, x.dtype, like=x)


def contiguous(x: Any) -> Any:
    """``x`` (an array, or None) in row-major order, as kernels read it: itself, or a copy in memory of the pool."""
    if x is None or x.flags.c_contiguous:
        return x
    copy = empty(x.shape, x.dtype, like=x)
    copy[...] = x
    return copy


def is_whole(x: Array) -> bool:
    """Whether an array is the only one of its memory as it was made: no view of another array."""
    return x.base is None or type(x.base) is _Loan


def memory_stats() -> dict[str, int]:
    """Bytes of the CPU pool: ``used`` by living arrays, ``held`` free, and what was ever newly allocated.

    ``fresh_bytes`` and ``fresh_blocks`` count new memory, ``reused_blocks`` the requests served without any: in
    a steady training step ``fresh_bytes`` does not move.
    """
    with _pool.lock:
        _pool.collect()
    return {
        "used": _pool.used,
        "held": _pool.held,
        "fresh_bytes": _pool.fresh_bytes,
        "fresh_blocks": _pool.fresh_blocks,
        "reused_blocks": _pool.reused_blocks,
    }


def free_memory() -> int:
    """Give the pool's free memory back to the system; returns the number of bytes released."""
    return _pool.release()
