"""NCCL: sums and broadcasts of arrays between GPUs, one process each, through CuPy's binding."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .arrays import Array, DeviceError, device_of

INSTALL = "pip install 'nvidia-nccl-cu13>=2.27'"


def _nccl() -> Any:
    """CuPy's module; DeviceError, which says what to install, without the library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns where it does not find the library, and we raise
        from cupy.cuda import nccl

    if not nccl.available:
        raise DeviceError(f"arrays on a GPU travel between processes by NCCL, which CuPy does not find: {INSTALL}")
    return nccl


class NcclGroup:
    """The ranks of a job that hold their arrays on GPUs, each on its own."""

    def __init__(self, name: bytes, rank: int, size: int) -> None:
        self._communicator = _nccl().NcclCommunicator(size, tuple(np.frombuffer(name, np.int8).tolist()), rank)

    @staticmethod
    def new_name() -> bytes:
        """The name of a new group: 128 bytes, which one rank makes and tells the others."""
        return np.array(_nccl().get_unique_id(), np.int8).tobytes()

    def sum(self, a: Array) -> None:
        """Replace ``a`` by the sum over all ranks, in the order of the current stream."""
        kind, stream = self._kind(a)
        self._communicator.allReduce(a.data.ptr, a.data.ptr, a.size, kind, _nccl().NCCL_SUM, stream)

    def broadcast(self, a: Array, root: int) -> None:
        """Replace ``a`` by that of rank ``root``, in the order of the current stream."""
        nccl = _nccl()
        _, stream = self._kind(a)
        self._communicator.bcast(a.data.ptr, a.nbytes, nccl.NCCL_INT8, root, stream)

    def _kind(self, a: Array) -> tuple[int, int]:
        from cupy import cuda

        nccl = _nccl()
        kinds = {"float16": nccl.NCCL_FLOAT16, "float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64,
                 "int32": nccl.NCCL_INT32, "int64": nccl.NCCL_INT64, "uint8": nccl.NCCL_UINT8, "int8": nccl.NCCL_INT8}
        if a.dtype.name not in kinds:
            raise DeviceError(f"NCCL does not add arrays of {a.dtype} ({device_of(a)}); it adds {', '.join(kinds)}")
        return kinds[a.dtype.name], cuda.get_current_stream().ptr
