"""Matrix products inside a CUDA graph: cuBLAS through ctypes.

CuPy refuses to call cuBLAS while a stream is captured. cuBLAS itself allows it where it has a workspace that lives as long as
the graph. So ``Products`` makes the very calls that ``cupy.matmul`` makes (the same handle, function, order of operands,
algorithm and compute type), with a workspace of the default's size:

    no operand has more than two axes    cublasGemmEx            transposed operands are read as they lie
    leading axes alike                   cublasGemmStridedBatchedEx
    leading axes that broadcast          cublasSgemmBatched, cublasDgemmBatched, cublasGemmBatchedEx

cuBLAS's matrices are column-major, so that z = x y is computed as z^T = y^T x^T.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

import numpy as np

from .precision import tf32_allowed

COMPUTE_32F, COMPUTE_64F, COMPUTE_TF32 = 68, 70, 77
DEFAULT, TENSOR_OP = -1, 99
TYPES = {"float32": 0, "float64": 1, "float16": 2}
"""CUDA's numbers for dtypes."""
WORKSPACE = {9: 32 << 20, 10: 32 << 20, 12: 12 << 20}
"""By major compute capability: what cuBLAS takes by default. 4 MiB on all others."""


class ProductError(RuntimeError):
    """cuBLAS refused a product."""


@functools.cache
def library() -> Any:
    """cuBLAS, as CuPy has loaded it."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except (ImportError, RuntimeError):
        return ctypes.CDLL("libcublas.so.13")


class Products:
    """Products on a capturing stream. ``cupy``, ``device``: where; ``keep(array)`` lets an array live as long as the graph;
    ``place(array)`` brings a host array to the device for as long. Operands need not last: what comes later on the stream may
    have their memory."""

    def __init__(self, cupy: Any, device: Any, stream: Any, keep: Any, place: Any) -> None:
        self.cupy, self.stream, self.place = cupy, stream, place
        self.capability = int(device.compute_capability)
        self.cublas = library()
        self.handle = cupy.cuda.device.get_cublas_handle()
        size = WORKSPACE.get(self.capability // 10, 4 << 20)
        self.workspace = cupy.empty(size, np.uint8)
        keep(self.workspace)
        self.count = 0

    def matmul(self, x: Any, y: Any, out: Any = None) -> Any:
        """``x @ y`` for float16, float32 and float64, into ``out`` where it is given."""
        dtype = np.promote_types(x.dtype, y.dtype)
        if dtype.name not in TYPES or not x.ndim or not y.ndim:
            raise ProductError(f"the product of {x.dtype} {x.shape} and {y.dtype} {y.shape} is none of cuBLAS")
        x, y = x.astype(dtype, copy=False), y.astype(dtype, copy=False)
        rows, columns = (x.shape[:-1], y.shape[-1:]) if y.ndim > 1 else (x.shape[:-1], ())
        a, b = x.reshape(1, -1) if x.ndim == 1 else x, y.reshape(-1, 1) if y.ndim == 1 else y
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*leading, *(rows[-1:] if x.ndim > 1 else ()), *columns)
        z = out if out is not None and out.dtype == dtype and out.flags.c_contiguous else self.cupy.empty(shape, dtype)
        if z.size:
            full = z.reshape(*leading, a.shape[-2], b.shape[-1])
            if not a.size:
                z.fill(0)
            elif not leading:
                self._matrices(a, b, full)
            else:
                self._batches(a, b, full, leading)
        if out is None or z is out:
            return z
        out[...] = z
        return out

    def _matrices(self, a: Any, b: Any, z: Any) -> None:
        (n, k), m = a.shape, b.shape[1]
        if n == m == 1:  # as CuPy does it
            (a.ravel() * b.ravel()).sum(out=z.reshape(()))
            return
        a, flip_a, lda = _as_lying(a.T, 0)
        b, flip_b, ldb = _as_lying(b, 1)
        algorithm = TENSOR_OP if self.capability >= (70 if z.dtype == np.float16 else 80) else DEFAULT
        code, compute, one, zero = self._numbers(z.dtype, tf32_allowed())
        self._call("cublasGemmEx", flip_b, flip_a, m, n, k, one, _at(b), code, ldb, _at(a), code, lda, zero, _at(z), code, m,
                   compute, algorithm)

    def _batches(self, a: Any, b: Any, z: Any, leading: tuple[int, ...]) -> None:
        xp = self.cupy
        a, b = xp.ascontiguousarray(a), xp.ascontiguousarray(b)
        (n, k), m, count = a.shape[-2:], b.shape[-1], math.prod(leading)
        code, compute, one, zero = self._numbers(z.dtype, False)
        of_a, of_b = ((1,) * (len(leading) + 2 - v.ndim) + v.shape[:-2] for v in (a, b))
        if of_a == of_b:
            strides = [ctypes.c_longlong(v) for v in (k * m, n * k, n * m)]
            self._call("cublasGemmStridedBatchedEx", 0, 0, m, n, k, one, _at(b), code, m, strides[0], _at(a), code, k,
                       strides[1], zero, _at(z), code, m, strides[2], count, compute, DEFAULT)
        else:
            p, q, r = (self.place(_addresses(v, shape, leading)) for v, shape in ((b, of_b), (a, of_a), (z, leading)))
            if z.dtype == np.float16:
                self._call("cublasGemmBatchedEx", 0, 0, m, n, k, one, _at(p), code, m, _at(q), code, k, zero, _at(r), code, m,
                           count, compute, DEFAULT)
            else:
                name = "cublasSgemmBatched" if z.dtype == np.float32 else "cublasDgemmBatched"
                self._call(name, 0, 0, m, n, k, one, _at(p), m, _at(q), k, zero, _at(r), m, count)

    def _numbers(self, dtype: Any, tf32: bool) -> tuple[Any, ...]:
        """The codes of the dtype and of the computation, and 1 and 0."""
        if dtype == np.float64:
            return TYPES[dtype.name], COMPUTE_64F, ctypes.c_double(1), ctypes.c_double(0)
        compute = COMPUTE_TF32 if tf32 and dtype == np.float32 else COMPUTE_32F
        return TYPES[dtype.name], compute, ctypes.c_float(1), ctypes.c_float(0)

    def _call(self, name: str, *args: Any) -> None:
        handle = ctypes.c_void_p(self.handle)
        size = ctypes.c_size_t(self.workspace.nbytes)
        passed = [ctypes.byref(a) if isinstance(a, ctypes.c_float | ctypes.c_double) else a for a in args]
        for function, arguments in (
            ("cublasSetStream_v2", (ctypes.c_void_p(self.stream.ptr),)),  # which takes the workspace away
            ("cublasSetWorkspace_v2", (_at(self.workspace), size)),
            (name, passed),
        ):
            if status := getattr(self.cublas, function)(handle, *arguments):
                raise ProductError(f"{function} gave the status {status}")
        self.count += 1


def _at(x: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data.ptr)


def _as_lying(a: Any, flip: int) -> tuple[Any, int, int]:
    """A matrix as cuBLAS can read it: itself or a copy, whether it is transposed, and the length of its lines."""
    if a.flags.f_contiguous:
        return a, flip, max(a.strides[1] // a.itemsize, a.shape[0])
    if not a.flags.c_contiguous:
        a = a.copy()
    return a, 1 - flip, a.strides[0] // a.itemsize


def _addresses(v: Any, shape: tuple[int, ...], leading: tuple[int, ...]) -> np.ndarray:
    """Where each matrix of a contiguous array begins, for leading axes of ``shape`` that broadcast to ``leading``."""
    size = v.shape[-2] * v.shape[-1] * v.itemsize
    first = v.data.ptr + size * np.arange(math.prod(shape), dtype=np.uint64).reshape(shape)
    return np.broadcast_to(first, leading).ravel()
