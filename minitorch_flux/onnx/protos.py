"""Reading what an ONNX file holds: tensors as arrays, attributes as Python values, types in words.

The ``onnx`` package, an extra, is imported when something is read.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .registry import OnnxError, UnsupportedOperator

TYPES = frozenset(
    ["bool", "bfloat16", *(f"float{n}" for n in (16, 32, 64)), *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64))]
)
"""The names of the dtypes that this library computes with."""
INSTALL = 'pip install "minitorch-flux[onnx]"'


def onnx_package() -> ModuleType:
    """The ``onnx`` package, or ImportError that says how to get it."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(f"reading ONNX models needs the package onnx: {INSTALL}") from error


def read_model(source: Any) -> Any:
    """The ModelProto of a path, of bytes, or itself. Raises OnnxError for what is none, FileNotFoundError."""
    onnx = onnx_package()
    if isinstance(source, onnx.ModelProto):
        return source
    try:
        if isinstance(source, str | os.PathLike):
            model = onnx.load(os.fspath(source))
        elif isinstance(source, bytes | bytearray | memoryview):
            model = onnx.load_model_from_string(bytes(source))
        else:
            raise TypeError(f"onnx.load takes a path, bytes or a ModelProto, got a {type(source).__name__}")
    except (FileNotFoundError, IsADirectoryError, PermissionError, TypeError):
        raise
    except Exception as error:  # protobuf's DecodeError, a ValidationError of external data, ...
        raise OnnxError(f"{_called(source)} is no ONNX model: {error}") from None
    if not model.graph.node and not model.graph.output:
        raise OnnxError(f"{_called(source)} is no ONNX model: it has no graph")
    return model


def _called(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else "the input"


def array_of(tensor: Any, what: str) -> np.ndarray:
    """A TensorProto as an array of its own. Raises UnsupportedOperator for strings and quantised types."""
    onnx = onnx_package()
    try:
        a = np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise OnnxError(f"{what}: the stored values cannot be read: {error}") from None
    if a.dtype.name not in TYPES:
        raise UnsupportedOperator(f"{what}: values of type {type_name(tensor.data_type)} are not supported")
    return a if a.flags.writeable and a.flags.owndata else a.copy()


def type_name(code: int) -> str:
    """The ONNX name of an element type: ``"FLOAT"``."""
    types = onnx_package().TensorProto.DataType
    return types.Name(code) if code in types.values() else f"number {code}"


def dtype_of(code: int | str, what: str) -> np.dtype:
    """The dtype of an ONNX element type. Raises UnsupportedOperator for one that this library does not compute with."""
    onnx = onnx_package()
    if isinstance(code, str):  # the first opsets wrote the name
        code = onnx.TensorProto.DataType.Value(code.upper())
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
    except KeyError:
        dtype = np.dtype(object)
    if dtype.name not in TYPES:
        raise UnsupportedOperator(f"{what}: the type {type_name(int(code))} is not supported")
    return dtype


def attribute_value(attribute: Any, what: str) -> Any:
    """An AttributeProto as a Python value: numbers, str, arrays, lists of them; graphs stay protos."""
    value = onnx_package().helper.get_attribute_value(attribute)
    kinds = type(attribute)
    if attribute.type == kinds.TENSOR:
        return array_of(value, what)
    if attribute.type == kinds.STRING:
        return value.decode("utf-8", "replace")
    if attribute.type == kinds.STRINGS:
        return [v.decode("utf-8", "replace") for v in value]
    if attribute.type in (kinds.FLOATS, kinds.INTS):
        return list(value)
    if attribute.type in (kinds.FLOAT, kinds.INT, kinds.GRAPH):
        return value
    raise UnsupportedOperator(f"{what}: the attribute {attribute.name!r} has a type that is not supported "
                              f"({kinds.AttributeType.Name(attribute.type)})")


@dataclass(frozen=True)
class ValueType:
    """What a graph says about an input or output: name, dtype, and a length, a name or None per axis."""

    name: str
    dtype: np.dtype | None
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        sizes = "" if self.shape is None else " (" + ", ".join("?" if n is None else str(n) for n in self.shape)
        sizes += "" if self.shape is None else ",)" if len(self.shape) == 1 else ")"
        return f"{self.name}{sizes}{'' if self.dtype is None else f' {self.dtype}'}"


def value_type(info: Any) -> ValueType:
    """A ValueInfoProto. Raises UnsupportedOperator for sequences, maps, optional values and types without arithmetic."""
    kind = info.type.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        raise UnsupportedOperator(f"{info.name!r} is a {kind.removesuffix('_type')}; only tensors are supported")
    tensor = info.type.tensor_type
    if not tensor.elem_type:
        return ValueType(info.name, None, None)
    shape: tuple[int | str | None, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim
        )
    return ValueType(info.name, dtype_of(tensor.elem_type, repr(info.name)), shape)
