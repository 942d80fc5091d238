"""What this machine can do at most, measured with as many threads as the sides have: the roofs of the roofline."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .clocks import on_host

SIDE = 1536  # of the square matrices
BYTES = 1 << 27  # of an array: more than any cache holds
FRESH = 1 << 26  # for each thread: more than the C library keeps for itself when it is freed (32 MB at most)
QUICK = (512, 1 << 25)  # the first two, shortened


def best(f: Callable[[], object], tries: int = 5) -> float:
    """Seconds of the fastest of several calls, after one that does not count."""
    f()
    return min(on_host(f, 1) for _ in range(tries))


def ceilings(threads: int, side: int = SIDE, nbytes: int = BYTES) -> dict[str, float]:
    """``flops``: float32 operations a second of a large matrix product by NumPy's BLAS; ``copy``: bytes a second, read and
    written, of copying an array; ``fresh``: bytes a second written into memory that was never touched."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((side, side)).astype(np.float32) for _ in range(2))
    x = np.ones(nbytes // 4, np.float32)
    y = np.zeros_like(x)
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(np.copyto, np.array_split(y, threads), np.array_split(x, threads)))

        def touch() -> None:
            list(pool.map(lambda n: np.empty(n, np.uint8).fill(1), [FRESH] * threads))

        return {
            "flops": 2.0 * side**3 / best(lambda: a @ b),
            "copy": 2.0 * x.nbytes / best(copy),
            "fresh": FRESH * threads / best(touch),
        }
