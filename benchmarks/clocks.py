"""How long calls take: by the host's clock, or on a GPU between two events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def on_host(f: Callable[[], Any], n: int) -> float:
    """Seconds of ``n`` calls."""
    start = time.perf_counter()
    for _ in range(n):
        f()
    return time.perf_counter() - start


def between(first: Any, last: Any, f: Callable[[], Any], n: int) -> None:
    """``n`` calls between two events of a device, which has done them when this returns."""
    first.record()
    for _ in range(n):
        f()
    last.record()
    last.synchronize()


def on_cupy(f: Callable[[], Any], n: int) -> float:
    """Seconds of ``n`` calls on CuPy's device."""
    from cupy import cuda

    first, last = cuda.Event(), cuda.Event()
    between(first, last, f, n)
    return float(cuda.get_elapsed_time(first, last)) / 1e3
