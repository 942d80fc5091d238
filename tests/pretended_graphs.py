"""Streams, pools and graphs of a pretended GPU.

While a stream captures, calls are written down as functions of NumPy's arrays. Results get their memory at once, as on a
device, and are NaN there until the graph is launched: what looks at them too early cannot go unnoticed.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
import weakref
from typing import Any

import numpy as np


class _State(threading.local):
    graph: Any = None  # what is written down, while a stream of this thread captures
    pool: Any = None

    def __init__(self) -> None:
        self.stream = Stream(null=True)


class Stream:
    """A CUDA stream; everything on it runs at once, or is captured."""

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = 0 if null else id(self)
        self._before: list[Any] = []

    def __enter__(self) -> Stream:
        self._before.append(state.stream)
        state.stream = self
        return self

    def __exit__(self, *error: object) -> None:
        state.stream = self._before.pop()

    def synchronize(self) -> None:
        forbid("synchronize")

    def begin_capture(self, mode: Any = None) -> None:
        if not self.ptr:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if state.stream is not self:
            raise RuntimeError("the pretended device captures the current stream only")
        state.graph = Graph()

    def end_capture(self) -> Graph:
        graph, state.graph = state.graph, None
        if graph.broken:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture")
        return graph


class Graph:
    """What was written down."""

    living: weakref.WeakSet[Graph] = weakref.WeakSet()

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.memory: list[np.ndarray] = []  # the calls of cuBLAS hold addresses only
        self.broken = False
        Graph.living.add(self)

    def launch(self, stream: Any = None) -> None:
        global launches
        forbid("launching another graph")
        launches += 1
        for call in self.calls:
            call()


state = _State()
launches = 0  # of all graphs


def forbid(what: str, error: type[Exception] = RuntimeError) -> None:
    """Raise, as CUDA or CuPy do, where a stream captures."""
    if state.graph is not None:
        state.graph.broken = True
        raise error(f"cudaErrorStreamCaptureUnsupported: {what} is not permitted when stream is capturing")


def run(call: Any) -> None:
    """Call what writes into arrays, or write it down."""
    if state.graph is None:
        call()
    else:
        state.graph.calls.append(call)


def fresh(call: Any, source: np.ndarray | None = None) -> Any:
    """Call what gives new arrays or views of ``source``; while a stream captures, new ones are NaN until the launch."""
    if state.graph is None:
        return call()
    with np.errstate(all="ignore"):
        y = call()
    parts = [p for p in _flat(y) if isinstance(p, np.ndarray | np.generic)]
    if source is not None and any(p is source or np.may_share_memory(p, source) for p in parts):
        return y
    y = [np.asarray(p) for p in _flat(y)] if isinstance(y, tuple | list) else np.asarray(y)
    kept = _flat(y)

    def again() -> None:
        for a, b in zip(kept, _flat(call()), strict=True):
            a[...] = b

    for a in kept:
        poisoned(a)
    state.graph.calls.append(again)
    return y


def poisoned(a: np.ndarray) -> np.ndarray:
    """An array as it is while a stream captures: nothing has been written to it."""
    if state.graph is not None:
        a[...] = np.nan if a.dtype.kind in "fc" else 0
    return a


def _flat(y: Any) -> list[Any]:
    return [v for part in y for v in _flat(part)] if isinstance(y, tuple | list) else [y]


class MemoryPool:
    """Knows the arrays that were made with it."""

    living: weakref.WeakSet[MemoryPool] = weakref.WeakSet()

    def __init__(self) -> None:
        self.taken = 0
        MemoryPool.living.add(self)

    def malloc(self, size: int) -> None:
        self.taken += size

    def total_bytes(self) -> int:
        return self.taken


@contextlib.contextmanager
def using_allocator(malloc: Any) -> Any:
    before, state.pool = state.pool, malloc
    try:
        yield
    finally:
        state.pool = before


def allocated(a: Any) -> None:
    """An array was made: in a graph only from a private pool."""
    if state.pool is not None:
        state.pool(a.inner.nbytes)
        if state.graph is not None:
            state.graph.memory.append(a.inner)
    elif state.graph is not None:
        raise RuntimeError("memory of the common pool inside a graph: it would be given to others while the graph uses it")


class Event:
    """A moment of the host's clock."""

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        forbid("synchronize")


def get_elapsed_time(first: Event, last: Event) -> float:
    return (last.at - first.at) * 1e3


class Cublas:
    """cuBLAS's functions on addresses of the host, as far as minitorch_flux/backend/cublas.py calls them.

    A workspace must have been set since the stream was, and every call must be on the current stream.
    """

    REALS = {0: np.float32, 1: np.float64, 2: np.float16}
    calls: list[str] = []

    def __init__(self) -> None:
        self.stream = self.workspace = None

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:
        self.stream, self.workspace = stream.value, None
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, memory: Any, size: Any) -> int:
        self.workspace = memory.value
        return 0

    def _product(self, name: str, flips: Any, m: int, n: int, k: int, dtype: Any, a: Any, b: Any, c: Any) -> int:
        """c (m, n) = op(a) op(b), all column-major: (address, length of a line) each."""
        assert self.workspace, "no workspace since the stream was set"
        assert self.stream == (state.stream.ptr or None)
        Cublas.calls.append(name)
        x = _matrix(b, n, k, dtype, flips[1])
        y = _matrix(a, k, m, dtype, flips[0])
        z = _matrix(c, n, m, dtype, 0)
        run(lambda: np.matmul(x, y, out=z))
        return 0

    def cublasGemmEx(self, h: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: Any, ka: int, lda: int, b: Any,
                     kb: int, ldb: int, zero: Any, c: Any, kc: int, ldc: int, compute: int,
                     algorithm: int) -> int:  # fmt: skip
        real = self.REALS[ka]
        assert ka == kb == kc
        assert (compute == 70) == (real is np.float64)
        return self._product("gemmEx", (ta, tb), m, n, k, real, (a.value, lda), (b.value, ldb), (c.value, ldc))

    def cublasGemmStridedBatchedEx(self, h: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: Any, ka: int, lda: int,
                                   sa: Any, b: Any, kb: int, ldb: int, sb: Any, zero: Any, c: Any, kc: int, ldc: int, sc: Any,
                                   count: int, compute: int, algorithm: int) -> int:  # fmt: skip
        real, size = self.REALS[ka], np.dtype(self.REALS[ka]).itemsize
        for i in range(count):
            at = [(v.value + i * s.value * size, ld) for v, s, ld in ((a, sa, lda), (b, sb, ldb), (c, sc, ldc))]
            self._product("gemmStridedBatchedEx", (ta, tb), m, n, k, real, *at)
        return 0

    def _batched(self, name: str, real: Any, m: int, n: int, k: int, tables: Any, lines: Any, count: int) -> int:
        """The tables are read when the product runs: inside a capture they are filled later."""
        assert self.workspace
        Cublas.calls.append(name)

        def product() -> None:
            a, b, c = (np.ctypeslib.as_array((ctypes.c_uint64 * count).from_address(t.value)) for t in tables)
            for p, q, r in zip(a, b, c, strict=True):
                x, y = _matrix((int(q), lines[1]), n, k, real, 0), _matrix((int(p), lines[0]), k, m, real, 0)
                np.matmul(x, y, out=_matrix((int(r), lines[2]), n, m, real, 0))

        run(product)
        return 0

    def cublasSgemmBatched(self, h: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: Any, lda: int, b: Any, ldb: int,
                           zero: Any, c: Any, ldc: int, count: int) -> int:  # fmt: skip
        return self._batched("SgemmBatched", np.float32, m, n, k, (a, b, c), (lda, ldb, ldc), count)

    def cublasDgemmBatched(self, h: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: Any, lda: int, b: Any, ldb: int,
                           zero: Any, c: Any, ldc: int, count: int) -> int:  # fmt: skip
        return self._batched("DgemmBatched", np.float64, m, n, k, (a, b, c), (lda, ldb, ldc), count)

    def cublasGemmBatchedEx(self, h: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: Any, ka: int, lda: int, b: Any,
                            kb: int, ldb: int, zero: Any, c: Any, kc: int, ldc: int, count: int, compute: int,
                            algorithm: int) -> int:  # fmt: skip
        return self._batched("GemmBatchedEx", self.REALS[ka], m, n, k, (a, b, c), (lda, ldb, ldc), count)


def _matrix(place: tuple[int, int], rows: int, columns: int, dtype: Any, flip: int) -> np.ndarray:
    """The transpose of a column-major matrix, which is row-major (rows, columns); with ``flip`` it lies transposed again."""
    address, line = place
    size = np.dtype(dtype).itemsize
    length = (line * ((columns if flip else rows) - 1) + (rows if flip else columns)) * size
    strides = (size, line * size) if flip else (line * size, size)
    return np.ndarray((rows, columns), dtype, (ctypes.c_byte * length).from_address(address), 0, strides)
