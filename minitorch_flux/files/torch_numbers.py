"""Numbers in PyTorch's pickles that are made by a call: complex ones, counters of numbers, and NumPy's scalars.

Training programs keep the best accuracy as ``np.float64`` and schedules their milestones as a ``Counter``. They become
Python's numbers and a dict.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"})


class NumberType:
    """``numpy.dtype`` of a number; its byte order is told later, as its state."""

    def __init__(self, name: str) -> None:
        self.kind, self.order, self.name = name, "|", f"numpy.dtype({name!r})"

    def build(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "|"):
            raise ValueError("the state of a numpy.dtype has no byte order")
        self.order = state[1]


class Raw:
    """Bytes on their way into a number."""

    name = "bytes"

    def __init__(self, data: bytes) -> None:
        self.data = data


def complex_number(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError("a complex number is not made of two numbers")
    return complex(real, imaginary)


def counter(counts: Any = None) -> dict[Any, Any]:
    if counts is not None and type(counts) is not dict:
        raise ValueError("a Counter is not made of a dict")
    return dict(counts or {})


def number_type(name: Any, align: Any = False, copy: Any = True) -> NumberType:
    if type(name) is not str or name not in TYPES:
        raise ValueError(f"a numpy.dtype is {str(name)[:40]!r}, which is no number")
    return NumberType(name)


def raw(text: Any, encoding: Any = "") -> Raw:
    if type(text) is not str or encoding != "latin1":
        raise ValueError("bytes are not made of a text in latin1")
    return Raw(text.encode("latin1", "replace"))


def scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, NumberType) or not isinstance(data, Raw):
        raise ValueError("a NumPy scalar is not made of a type and bytes")
    dtype = np.dtype(kind.order + kind.kind)
    if len(data.data) != dtype.itemsize:
        raise ValueError(f"a NumPy scalar of {dtype} has {len(data.data)} bytes")
    return np.frombuffer(data.data, dtype)[0].item()
