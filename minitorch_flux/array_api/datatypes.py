"""Data types: converting, promoting, asking; and what the namespace says of itself. They are NumPy's ``dtype`` objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import DEFAULT, DeviceError, find_cupy, is_array, is_float
from ..ops import shapes
from ..ops.elementwise import as_tensor
from ..ops.transfers import move_tensor


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: str | None = None) -> Tensor:
    """``x`` in another dtype; gradients flow between floating-point ones. ``copy=False``: ``x`` itself where it has it."""
    x = as_tensor(x)
    y = x if x.dtype == np.dtype(dtype) else shapes.astype(x, dtype)
    y = y if device is None else move_tensor(y, device)
    return shapes.copy(y) if copy and y is x else y


def _dtype(x: Any) -> Any:
    """The dtype of an array or tensor; a dtype as NumPy's object; Python's numbers as they are."""
    if isinstance(x, Tensor) or is_array(x):
        return x.dtype
    return x if type(x) in (int, float, bool) else np.dtype(x)


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The dtype of an operation on these arrays, dtypes and Python numbers, which never widen one.

    Raises TypeError where there is none, for float16 with bfloat16 for instance.
    """
    return np.result_type(*map(_dtype, arrays_and_dtypes))


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether promotion can turn the dtype (of) ``from_`` into ``to`` without losing information."""
    return bool(np.can_cast(_dtype(from_), np.dtype(to), "safe"))


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether ``dtype`` is of a ``kind``: a dtype, a name of the standard's such as "real floating", or a tuple of those."""
    dtype = np.dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if is_float(dtype):  # NumPy does not know bfloat16 as a float
        return kind in ("real floating", "numeric") or (kind not in (*KINDS, *UNIONS) and np.dtype(kind) == dtype)
    return bool(np.isdtype(dtype, kind))


def finfo(type: Any, /) -> np.finfo:
    """The limits of a floating-point dtype, or of an array's: bits, eps, max, min, smallest_normal."""
    return np.finfo(_dtype(type))


def iinfo(type: Any, /) -> np.iinfo:
    """The limits of an integer dtype, or of an array's: bits, max, min."""
    return np.iinfo(_dtype(type))


KINDS = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float32", "float64"),
    "complex floating": (),
}
UNIONS = {
    "integral": ("signed integer", "unsigned integer"),
    "numeric": ("signed integer", "unsigned integer", "real floating", "complex floating"),
}


class Information:
    """What the namespace can do, as the standard's ``__array_namespace_info__`` asks for it."""

    def capabilities(self) -> dict[str, Any]:
        """Boolean indexing and results whose shape depends on the data are there; NumPy allows 64 axes."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where new tensors are made."""
        return "cpu"

    def default_dtypes(self, *, device: str | None = None) -> dict[str, np.dtype]:
        """The dtypes that Python's numbers become."""
        return {"real floating": np.dtype(DEFAULT), "integral": np.dtype(np.int64), "indexing": np.dtype(np.int64)}

    def devices(self) -> list[str]:
        """``"cpu"``, and ``"cuda:N"`` for every CUDA device that CuPy can use."""
        try:
            count = find_cupy().cuda.runtime.getDeviceCount()
        except DeviceError:
            count = 0
        return ["cpu", *(f"cuda:{i}" for i in range(count))]

    def dtypes(self, *, device: str | None = None, kind: Any = None) -> dict[str, np.dtype]:
        """The standard's dtypes by name, of a ``kind`` or a tuple of kinds where one is given."""
        kinds = tuple(KINDS) if kind is None else kind if isinstance(kind, tuple) else (kind,)
        unknown = [k for k in kinds if k not in KINDS and k not in UNIONS]
        if unknown:
            raise ValueError(f"dtypes: the kinds are {', '.join((*KINDS, *UNIONS))}, got {unknown[0]!r}")
        groups = [group for k in kinds for group in UNIONS.get(k, (k,))]
        return {name: np.dtype(name) for group in dict.fromkeys(groups) for name in KINDS[group]}
