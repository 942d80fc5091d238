"""PyTorch's tensors as arrays: the dtypes of its storages, and views into them that cannot reach outside.

A storage is a run of numbers, a tensor a view of one with an offset, sizes and strides. Several tensors may be views of one
storage, and their arrays then share its memory too. What NumPy has no dtype for becomes the smallest one that holds it
exactly: bfloat16 and the 8-bit floats float32, complex32 complex64.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

PLAIN = ("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
         "complex64", "complex128")  # fmt: skip
"""The dtypes that PyTorch and NumPy both have, under the same names."""

STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}  # fmt: skip
"""The dtypes of the storage classes of the module ``torch``."""

UNTYPED = "bytes"  # the dtype of an UntypedStorage, whose tensors name their own


def _float8(exponent: int, bias: int, special: dict[int, float]) -> np.ndarray:
    """The values of the 256 codes of an 8-bit float with a sign and so many bits of exponent."""
    codes = np.arange(256)
    mantissa = 7 - exponent
    e, f = codes >> mantissa & 2**exponent - 1, (codes & 2**mantissa - 1) / 2**mantissa
    values = np.where(e == 0, np.ldexp(f, 1 - bias), np.ldexp(1 + f, e - bias)) * np.where(codes < 128, 1, -1)
    for code, value in special.items():
        values[code] = value
    return values.astype(np.float32)


def _tables() -> dict[str, np.ndarray]:
    nan, inf = math.nan, math.inf
    infinite = {124 + sign + i: v for sign, s in ((0, 1), (128, -1)) for i, v in enumerate((s * inf, nan, nan, nan))}
    scales = np.ldexp(1.0, np.arange(256) - 127)
    scales[255] = nan
    return {
        "float8_e4m3fn": _float8(4, 7, {127: nan, 255: nan}),
        "float8_e5m2": _float8(5, 15, infinite),
        "float8_e4m3fnuz": _float8(4, 8, {128: nan}),
        "float8_e5m2fnuz": _float8(5, 16, {128: nan}),
        "float8_e8m0fnu": scales.astype(np.float32),
    }


TABLES = _tables()


def _widen_bfloat16(raw: np.ndarray) -> np.ndarray:
    return (raw.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32


WIDENED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "bfloat16": ("u2", _widen_bfloat16),
    "complex32": ("f2", lambda raw: raw.astype(np.float32).view(np.complex64)),
} | {name: ("u1", table.take) for name, table in TABLES.items()}
"""For each dtype that NumPy has not: as what its bytes are read, and what makes its numbers of that."""

SIZES = {name: np.dtype(name).itemsize for name in PLAIN} | {
    name: 4 if name == "complex32" else np.dtype(raw).itemsize for name, (raw, _) in WIDENED.items()
} | {UNTYPED: 1}


@dataclass(frozen=True)
class Storage:
    """What a pickle says of a storage: its key in the file, its dtype and its length in numbers; ``start``: of a view."""

    key: str
    dtype: str
    length: int
    start: int = 0


@dataclass(frozen=True)
class View:
    """What a pickle says of a tensor. ``dtype`` is its own where the storage has none."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def checked_view(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str | None = None) -> View:
    """A View that lies inside of its storage, or ValueError. Offset and strides count numbers, not bytes."""
    if not isinstance(storage, Storage) or not _counts((offset,)) or not _counts(shape) or not _counts(strides):
        raise ValueError("a tensor is not made of a storage, an offset, sizes and strides")
    untyped = storage.dtype == UNTYPED
    if untyped != (dtype is not None):
        raise ValueError("a tensor and its storage do not agree on which of them has the dtype")
    dtype = storage.dtype if dtype is None else dtype
    length = storage.length // SIZES[dtype] if untyped else storage.length
    if len(shape) != len(strides) or len(shape) > 64:
        raise ValueError(f"a tensor has {len(shape)} sizes and {len(strides)} strides, expected as many of both, up to 64")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
    if 0 not in shape and last >= length:
        raise ValueError(f"a tensor of shape {_short(shape)} with strides {_short(strides)} from {offset:,} on reaches "
                         f"outside of its storage of {length:,} numbers")
    return View(storage, dtype, offset if 0 not in shape else 0, tuple(shape), tuple(strides))


def _counts(values: Any) -> bool:
    """Whether these are a tuple (or list) of whole numbers, none of them negative or of more than 63 bits."""
    return type(values) in (tuple, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def _short(values: tuple[int, ...]) -> str:
    return str(tuple(values)) if len(values) <= 8 else f"{tuple(values[:8])}..."


class Storages:
    """The contents of storages by key, each made an array of numbers once."""

    def __init__(self, contents: Callable[[str], np.ndarray], big: bool = False) -> None:
        self.contents = functools.cache(contents)  # the bytes of a storage by its key
        self.big = big and sys.byteorder == "little" or not big and sys.byteorder == "big"
        self.arrays: dict[tuple[str, str], np.ndarray] = {}

    def array(self, view: View) -> np.ndarray:
        """The array of a tensor: a view into its storage's."""
        storage = view.storage
        numbers = self.numbers(storage.key, view.dtype, storage.dtype == UNTYPED)
        if storage.dtype != UNTYPED and storage.start + storage.length > len(numbers):
            raise ValueError(f"the storage {storage.key[:40]!r} has {len(numbers):,} numbers, its tensors expect "
                             f"{storage.start + storage.length:,}")
        size = numbers.itemsize
        try:
            return np.ndarray(view.shape, numbers.dtype, numbers, (storage.start + view.offset) * size,
                              tuple(step * size for step in view.strides))
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"a tensor of shape {_short(view.shape)} does not fit its storage ({error})") from None

    def numbers(self, key: str, dtype: str, untyped: bool) -> np.ndarray:
        if (key, dtype) not in self.arrays:
            raw = self.contents(key)
            name, widen = WIDENED.get(dtype, (dtype, None))
            if len(raw) % SIZES[dtype]:
                if not untyped:
                    raise ValueError(f"the storage {key[:40]!r} has {len(raw):,} bytes, which are no {dtype} numbers")
                raw = raw[: len(raw) // SIZES[dtype] * SIZES[dtype]]
            if self.big and untyped:
                raise ValueError("it comes from a machine of the other byte order and has bytes without a dtype")
            if dtype == "bool" and (raw > 1).any():
                raw = (raw != 0).view(np.uint8)
            values = raw.view(name)
            if self.big:
                values = values.byteswap()
            self.arrays[key, dtype] = values if widen is None else widen(values)
        return self.arrays[key, dtype]
