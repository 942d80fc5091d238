"""Python arguments against a kernel's parameters: what each must be, and in words what is wrong."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import KernelError
from .source import Parameter, Signature

# How the readings spell NumPy's element types; flux.h defines the short names.
C_NAMES = {
    "bool": "bool",
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "uint16": "u16",
    "int32": "i32",
    "uint32": "u32",
    "int64": "i64",
    "uint64": "u64",
    "float16": "_Float16",
    "bfloat16": "bf16",
    "float32": "float",
    "float64": "double",
}
CUDA_NAMES = C_NAMES | {"float16": "__half", "bfloat16": "__nv_bfloat16"}

# The spellings that signatures may use besides T, ACC and the types that the file declares.
DTYPES = {name: np.dtype(dtype) for dtype, name in C_NAMES.items() if dtype not in ("bfloat16", "float16")} | {
    "signed char": np.dtype("int8"),
    "unsigned char": np.dtype("uint8"),
    "short": np.dtype("int16"),
    "unsigned short": np.dtype("uint16"),
    "int": np.dtype("int32"),
    "unsigned": np.dtype("uint32"),
    "unsigned int": np.dtype("uint32"),
    "long long": np.dtype("int64"),
    "unsigned long long": np.dtype("uint64"),
    "int32_t": np.dtype("int32"),
    "uint32_t": np.dtype("uint32"),
    "int64_t": np.dtype("int64"),
    "uint64_t": np.dtype("uint64"),
}


LARGEST_INT = 2**31 - 1 - 1024
"""An int may count the elements of a row, and the threads of a GPU's block, up to 1024, look one step beyond the last."""


def accumulation_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """ACC for this T: float64 for float64, int64 for integers, float32 for every shorter float."""
    if dtype.kind in "biu":
        return np.dtype("uint64" if dtype.kind == "u" else "int64")
    return np.dtype("float64" if dtype.itemsize == 8 else "float32")


def type_defines(types: Mapping[str, np.dtype[Any]], names: Mapping[str, str]) -> dict[str, str] | None:
    """`#define`s of the types of a build in one reading's spelling, or None where it has no such type."""
    if not all(dtype.name in names for dtype in types.values()):
        return None
    return {key: names[dtype.name] for key, dtype in types.items()}


def parameter_dtype(signature: Signature, parameter: Parameter, types: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
    """The NumPy dtype that a parameter stands for in a build with these types."""
    dtype = types.get(parameter.ctype) or DTYPES.get(parameter.ctype)
    if dtype is None:
        raise KernelError(
            f"{signature.name}: `{parameter}` has the type {parameter.ctype}, which is no element type and is not "
            f"given; pass {parameter.ctype}=dtype in the call, or use one of {', '.join(DTYPES)}"
        )
    return dtype


def fit_arguments(
    signature: Signature, types: Mapping[str, np.dtype[Any]], args: Sequence[Any], array_type: Any, device: Any
) -> list[Any]:
    """The arguments as the kernel takes them: arrays and None as they are, numbers as scalars of their declared dtype.

    Raises TypeError or ValueError with the kernel, the parameter, what it takes and what it got.
    """
    wanted = signature.parameters
    if len(args) != len(wanted):
        names = ", ".join(map(str, wanted))
        raise TypeError(f"{signature.name} takes {len(wanted)} arguments ({names}), got {len(args)}")
    dtypes = (parameter_dtype(signature, p, types) for p in wanted)
    return [_fit(signature, *each, array_type, device) for each in zip(wanted, dtypes, args, strict=True)]


def _fit(s: Signature, p: Parameter, dtype: np.dtype[Any], value: Any, array_type: Any, device: Any) -> Any:
    what = f"{s.name}: `{p}`"
    if not p.pointer:
        return _fit_number(what, dtype, value)
    if value is None:
        if p.optional:
            return None
        raise TypeError(f"{what} got None; if it may be missing, write OPTIONAL before it in the kernel's signature")
    if not isinstance(value, array_type):
        raise TypeError(f"{what} takes a {array_type.__module__}.{array_type.__name__}, got {_described(value)}")
    if value.dtype != dtype:
        raise TypeError(f"{what} takes {dtype.name}, got {value.dtype} of shape {value.shape}")
    if getattr(value, "device", device) != device:
        raise ValueError(f"{what} is on {value.device}, the call is for {device}; move it first")
    flags = value.flags
    if not flags.c_contiguous:
        raise ValueError(f"{what} takes a C-contiguous array, got strides {value.strides} for shape {value.shape}")
    if not getattr(flags, "aligned", True):
        raise ValueError(f"{what} takes an array aligned to its elements")
    if not p.const and not getattr(flags, "writeable", True):
        raise ValueError(f"{what} is written to, but the array is read-only")
    return value


def _described(value: Any) -> str:
    kind = f"{type(value).__module__}.{type(value).__name__}"
    return kind.removeprefix("builtins.") + (f" of shape {value.shape}" if hasattr(value, "shape") else f" {value!r}")


def _fit_number(what: str, dtype: np.dtype[Any], value: Any) -> Any:
    if dtype.kind in "iub":
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{what} takes an integer, got {_described(value)}") from None
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        high = LARGEST_INT if dtype.name == "int32" else high
        if not low <= number <= high:
            raise OverflowError(f"{what} takes {dtype.name} ({low} to {high}), got {number}")
        return dtype.type(number)
    if dtype.itemsize == 2:
        raise KernelError(f"{what} is a 16-bit number; declare it as ACC")
    try:
        return dtype.type(float(value))
    except (TypeError, ValueError):
        raise TypeError(f"{what} takes a number, got {_described(value)}") from None
