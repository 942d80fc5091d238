"""One number of threads for everything that computes on the CPU: NumPy's BLAS and the kernels.

At start it is $OMP_NUM_THREADS, else what BLAS took for itself, else the CPUs of this process.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

# (set, get, C type of the number) as NumPy's possible BLAS libraries export them; Accelerate has none.
_BLAS = (
    *(
        (f"{prefix}openblas_set_num_threads{suffix}", f"{prefix}openblas_get_num_threads{suffix}")
        for prefix in ("scipy_", "")
        for suffix in ("64_", "")
    ),
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads"),
)

_listeners: list[Callable[[int], None]] = []
_lock = threading.Lock()
_number: int | None = None


@functools.cache
def _library() -> tuple[ctypes.CDLL, str, str] | None:
    """The BLAS that NumPy is linked to, with the names of its functions that set and get the threads, if it has them."""
    try:
        import numpy._core._multiarray_umath as umath
    except ImportError:  # NumPy 1
        import numpy.core._multiarray_umath as umath
    # Looking up a name in NumPy's own module finds it in the libraries that the module is linked to. Windows looks
    # no further than the module, so there the wheel's folder of libraries is searched as well.
    beside = Path(np.__file__).parent.parent / "numpy.libs"
    for path in (Path(umath.__file__), *sorted(beside.glob("*openblas*.dll"))):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for set_name, get_name in _BLAS:
            if hasattr(library, set_name) and hasattr(library, get_name):
                return library, set_name, get_name
    return None


@functools.cache
def _blas() -> tuple[Callable[[int], None], Callable[[], int]] | None:
    """The functions that set and get the threads of BLAS, if it has them."""
    if (found := _library()) is None:
        return None
    library, set_name, get_name = found
    setter, getter = getattr(library, set_name), getattr(library, get_name)
    setter.argtypes, setter.restype = [ctypes.c_int], None
    getter.argtypes, getter.restype = [], ctypes.c_int
    return setter, getter


TIMEOUT = "OPENBLAS_THREAD_TIMEOUT"
"""Of the environment: after 2 to the power of so many cycles without work OpenBLAS's threads sleep."""


def _let_blas_sleep() -> bool:
    """Let OpenBLAS's threads sleep 10 us after a product, not 25 ms; True where that could be done.

    Awake they spin, which keeps the kernels' threads off their cores: on two cores a training step of an LSTM took 1.3
    times as long, and a kernel after a product of 384 x 384 matrices 1.4 times as long with 0.4 ms as with 10 us; products
    alone take equally long with both. OpenBLAS reads the number when its threads start, so they are stopped here, before
    anything computes; the next product starts them again. The user's own setting wins, and the environment is left as it
    was. Where other Python threads run, which may be in the middle of a product, nothing is done.
    """
    if TIMEOUT in os.environ or threading.active_count() > 1 or (found := _library()) is None:
        return False
    try:
        read, stop = found[0].openblas_read_env, found[0].blas_thread_shutdown_
    except AttributeError:  # another BLAS, or another OpenBLAS
        return False
    os.environ[TIMEOUT] = "15"
    try:
        read()
        stop()
    finally:
        del os.environ[TIMEOUT]
    return True


_let_blas_sleep()


def blas_threads() -> int | None:
    """How many threads NumPy's BLAS uses now, or None where it does not say."""
    blas = _blas()
    return None if blas is None else blas[1]()


def _at_start() -> int:
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdigit() and int(first) > 0:
        return int(first)
    if blas := blas_threads():
        return blas
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_threads() -> int:
    """The number of threads that BLAS and kernels may use on the CPU."""
    global _number
    if _number is None:
        _number = _at_start()
    return _number


def set_num_threads(n: int) -> None:
    """Let NumPy's BLAS and the kernels use `n` threads on the CPU from now on, in every Python thread.

    Raises TypeError where `n` is no integer and ValueError where it is below 1.
    """
    global _number
    n = operator.index(n)
    if n < 1:
        raise ValueError(f"set_num_threads: the number of threads must be at least 1, got {n}")
    with _lock:
        _number = one_blas_thread.before = n
        if (blas := _blas()) and not one_blas_thread.depth:
            blas[0](n)
        for listener in _listeners:
            listener(n)


SMALL = 1 << 22
"""Multiplications up to which a matrix product is as fast with one thread of BLAS as with two."""


class _OneThread:
    """``with one_blas_thread:`` NumPy's BLAS uses one thread; nests, also across Python threads.

    A small product gains nothing from more, and where other work shares the cores it loses much: BLAS's threads wait for
    each other by spinning, so that one that is not scheduled stops all (five times slower was measured).
    """

    def __init__(self) -> None:
        self.depth = 0
        self.before = 1

    def __enter__(self) -> None:
        blas = _blas()
        with _lock:
            if not self.depth and blas:
                self.before = blas[1]()
                blas[0](1)
            self.depth += 1

    def __exit__(self, *error: object) -> None:
        blas = _blas()
        with _lock:
            self.depth -= 1
            if not self.depth and blas:
                blas[0](self.before)


one_blas_thread = _OneThread()


def on_num_threads(listener: Callable[[int], None]) -> None:
    """Call `listener` with the number of threads now and after every change."""
    with _lock:
        _listeners.append(listener)
        listener(num_threads())
