"""Large CPU arrays from a pool: no page faults and no new memory in a steady training step.

The system allocator gives large blocks back to the kernel as soon as they are freed, and every page of a fresh
block costs a fault on its first touch (about three times the cost of writing it). ``empty`` therefore keeps
the memory of dead arrays and hands it out again.

An array lies at the lowest address where it fits, and what is free joins with its neighbours: arrays of any size take the
places of others, so that a step needs little more memory than its arrays at their peak, and steps that are alike find the
same places.

A block returns to the pool when the *last* reference to it has died, and not before: every view of an array
holds its ``_Loan``, whose finaliser is the only way back. On a GPU CuPy's own pool does the same work.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from bisect import bisect
from collections import deque
from typing import Any

import numpy as np

from .arrays import Array, array_module

SMALLEST = 1 << 16  # below 64 kB the system allocator is as fast and reuses memory itself
KEPT = 1 << 28  # free memory that is kept even when little is in use
PAGE = mmap.PAGESIZE
PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
SEGMENT = 1 << 30 if PRIVATE else 1 << 26  # addresses reserved at a time: without memory, but Windows sets it aside


def _reserve(size: int) -> mmap.mmap:
    """Addresses without memory behind them yet, in large pages where the system has such."""
    try:
        memory = mmap.mmap(-1, size, **PRIVATE)
    except (OSError, OverflowError, ValueError):
        raise MemoryError from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class _Segment:
    """A range of addresses and its free blocks, ``starts[i]`` to ``ends[i]`` in the order of their addresses.

    Of each block the pages before ``touched[i]`` have memory behind them, those after it none.
    """

    __slots__ = ("ends", "memory", "size", "starts", "touched")

    def __init__(self, size: int) -> None:
        self.memory, self.size = _reserve(size), size
        self.starts, self.ends, self.touched = [0], [size], [0]

    def take(self, size: int) -> tuple[int, int] | None:
        """``(start, fresh)`` of the lowest place for ``size`` bytes, ``fresh`` of them untouched; None where there is none."""
        for i, start in enumerate(self.starts):
            end = start + size
            if end <= self.ends[i]:
                fresh = max(0, end - self.touched[i])
                if end == self.ends[i]:
                    del self.starts[i], self.ends[i], self.touched[i]
                else:
                    self.starts[i], self.touched[i] = end, max(end, self.touched[i])
                return start, fresh
        return None

    def give(self, start: int, size: int) -> int:
        """Take a block back, and join it with the free ones beside it: how many bytes more are now free and touched."""
        i, end = bisect(self.starts, start), start + size
        touched, more = end, size
        if i and self.ends[i - 1] == start:
            i -= 1
            if self.touched[i] < start:  # touched pages come first in a block: these would not
                more -= self.untouch(start, end)
                touched = self.touched[i]
            start = self.starts[i]
            del self.starts[i], self.ends[i], self.touched[i]
        if i < len(self.starts) and self.starts[i] == end:
            if touched == end:
                touched = self.touched[i]
            else:
                more -= self.untouch(end, self.touched[i])
            end = self.ends[i]
            del self.starts[i], self.ends[i], self.touched[i]
        self.starts.insert(i, start)
        self.ends.insert(i, end)
        self.touched.insert(i, touched)
        return more

    def untouch(self, start: int, end: int) -> int:
        """Give pages back to the system: how many bytes."""
        if end > start:
            self.memory.madvise(mmap.MADV_DONTNEED, start, end - start)
        return end - start

    def release(self) -> int:
        """Give all free pages back to the system: how many bytes."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return 0
        released = sum(self.untouch(a, b) for a, b in zip(self.starts, self.touched, strict=True))
        self.touched = list(self.starts)
        return released

    @property
    def free(self) -> bool:
        """Whether nothing of it is in use."""
        return self.starts == [0] and self.ends == [self.size]


class _Pool:
    def __init__(self) -> None:
        self.segments: list[_Segment] = []
        # Finalisers run at any point, also inside take() of this very thread, and must not wait for a lock: they only
        # append to this queue, which is atomic. All the rest happens under the lock (reentrant: a finaliser of the
        # user's may ask for memory, but where it comes in the middle of this, `busy`, it gets none of the pool's).
        self.returned: deque[tuple[_Segment, int, int]] = deque()
        self.lock, self.busy = threading.RLock(), False
        self.held = self.used = self.fresh_bytes = self.fresh_blocks = self.reused_blocks = 0

    def take(self, size: int) -> _Loan | None:
        """``size`` bytes, whole pages; None in the middle of another call."""
        with self.lock:
            if self.busy:
                return None
            self.busy = True
            try:
                self._collect()
                segment, start, fresh = self._place(size)
                self.held -= size - fresh
                self.used += size
                self.fresh_bytes += fresh
                self.fresh_blocks += fresh > 0
                self.reused_blocks += fresh == 0
                if fresh and self.held > max(self.used, KEPT):  # much is free, but in pieces: let them go
                    self._release()
                loan = np.ndarray.__new__(_Loan, (size,), np.uint8, segment.memory, start)
                loan.place = segment, start, size
                return loan
            finally:
                self.busy = False

    def _place(self, size: int) -> tuple[_Segment, int, int]:
        """The lowest place for ``size`` bytes: its segment, its start, and how many of the bytes are untouched."""
        for segment in self.segments:
            if (found := segment.take(size)) is not None:
                return segment, *found
        segment = self._reserved(size)
        self.segments.append(segment)
        segment.take(size)
        return segment, 0, size

    def _reserved(self, size: int) -> _Segment:
        for wanted in (max(size, SEGMENT), size):
            with contextlib.suppress(MemoryError):
                return _Segment(wanted)
        released = self._release()
        try:
            return _Segment(size)
        except MemoryError:
            raise MemoryError(
                f"no memory for an array of {size:,} bytes: {self.used:,} bytes are in use by arrays that live, "
                f"{released:,} free ones have been given back just now; use a smaller batch, or let arrays go"
            ) from None

    def collect(self) -> None:
        """Sort in what finalisers have returned."""
        with self.lock:
            if not self.busy:
                self._collect()

    def _collect(self) -> None:
        while self.returned:
            segment, start, size = self.returned.popleft()
            self.used -= size
            self.held += segment.give(start, size)

    def release(self) -> int:
        """Let all free memory go: how many bytes it was."""
        with self.lock:
            if self.busy:
                return 0
            self._collect()
            return self._release()

    def _release(self) -> int:
        before, kept = self.held, [s for s in self.segments if not s.free]
        self.held -= sum(s.touched[0] for s in self.segments if s.free) + sum(s.release() for s in kept)
        self.segments = kept
        return before - self.held


_pool = _Pool()


def _after_fork() -> None:
    _pool.lock = threading.RLock()  # another thread of the parent may have held it, and
    if _pool.busy:  # the free blocks may be half sorted: the child does without them
        for segment in _pool.segments:
            segment.starts, segment.ends, segment.touched = [], [], []
        _pool.held, _pool.busy = 0, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Loan(np.ndarray):
    """What an array that is handed out is a view of: it lives as long as any view of the array."""

    __slots__ = ("place",)
    place: tuple[_Segment, int, int]

    def __del__(self, give: Any = _pool.returned.append) -> None:  # bound here: module globals go before the last arrays
        give(self.place)


def empty(shape: Any, dtype: Any, like: Array | None = None) -> Array:
    """An uninitialised C-contiguous array on the device of ``like`` (default: the CPU).

    Arrays of 64 kB and more begin at a page and come from the pool.
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
    loan = _pool.take(-(-nbytes // PAGE) * PAGE)
    return np.empty(shape, dtype) if loan is None else np.ndarray(shape, dtype, loan)


def empty_like(x: Array) -> Array:
    """``empty`` with the shape, dtype and device of ``x`` (C-contiguous whatever the order of ``x``)."""
    return empty(x.shape, x.dtype, like=x)


def contiguous(x: Any, dtype: Any = None) -> Any:
    """``x`` (an array, or None) in row-major order (and of ``dtype``), as kernels read it: itself, or a copy in memory of the
    pool."""
    if x is None or (x.flags.c_contiguous and (dtype is None or x.dtype == dtype)):
        return x
    copy = empty(x.shape, x.dtype if dtype is None else dtype, like=x)
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
