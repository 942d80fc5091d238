"""How exact float32 is on a GPU: as float32, unless tf32 is allowed."""

from __future__ import annotations

import threading
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from .arrays import _loaded_cupy, device_of
from .dtypes import accumulator

_lock = threading.Lock()
_allowed = False


def tf32_allowed() -> bool:
    """Whether float32 convolutions and matrix products on a GPU may round their factors to tf32."""
    return _allowed


def _set(on: bool) -> None:
    global _allowed
    with _lock:
        _allowed = on
    cupy = _loaded_cupy()
    if cupy is not None and cupy.cuda.is_available():
        tell_cupy(cupy)


def tell_cupy(cupy: ModuleType) -> None:
    """Have CuPy's matrix products follow."""
    linear = cupy._core._routines_linalg
    linear.set_compute_type(np.dtype(np.float32), linear.COMPUTE_TYPE_TF32 if _allowed else linear.COMPUTE_TYPE_DEFAULT)


def product_dtype(x: Any, dtype: Any) -> np.dtype[Any]:
    """The dtype to give to matmul where ``x`` lives, for products of ``dtype`` whose sums are formed in ``accumulator``.

    CuPy's (cuBLAS) adds 16-bit floats up in float32 by itself, NumPy's must be given float32.
    """
    return np.dtype(dtype) if device_of(x) != "cpu" else accumulator(dtype)


class allow_tf32:
    """Allow tf32 on GPUs in the whole process: ``flux.allow_tf32()``, or for a while: ``with flux.allow_tf32():``.

    Float32 convolutions and matrix products then run on tensor cores: their factors are rounded to 10 bits of fraction
    (float32 has 23), the products are added up in float32. Without it, and on the CPU always, float32 is float32.
    ``allow_tf32(False)`` forbids it again.
    """

    def __init__(self, on: bool = True) -> None:
        self._before = _allowed
        _set(bool(on))

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _set(self._before)
