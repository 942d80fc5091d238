"""Reading what an ONNX file holds: tensors as arrays, attributes as Python values, types in words.

The ``onnx`` package, an extra, is imported when something is read.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .registry import OnnxError, UnsupportedOperator

FOLDER = "minitorch_flux.folder"
"""The entry of external data, added when a file is read, with the folder that the file is in."""
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
    try:
        if isinstance(source, onnx.ModelProto):
            model = source
        elif isinstance(source, str | os.PathLike):
            model = onnx.load(os.fspath(source), load_external_data=False)
            mark_external(model, os.path.dirname(os.path.realpath(source)))
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
    for name in _names(model.graph):
        if not isinstance(name, str):
            raise OnnxError(f"{_called(source)} is damaged: the name {name!r:.60} is no text")
    return model


def _names(graph: Any) -> Iterator[Any]:
    """All names in a graph and in the graphs inside it."""
    yield graph.name
    yield from (x.name for values in (graph.input, graph.output, graph.initializer) for x in values)
    for n in _nodes(graph.node):
        yield from (n.name, n.op_type, n.domain, *n.input, *n.output)
        for a in n.attribute:
            yield a.name
            for inner in (a.g, *a.graphs):
                yield from (x.name for values in (inner.input, inner.output, inner.initializer) for x in values)


def _nodes(nodes: Any) -> Iterator[Any]:
    """Nodes, and those of the graphs in them."""
    for n in nodes:
        yield n
        for a in n.attribute:
            for graph in (a.g, *a.graphs):
                yield from _nodes(graph.node)


# -- external data -----------------------------------------------------------------------------------------------------


def is_external(tensor: Any) -> bool:
    """Whether the numbers of a TensorProto are in a file of their own."""
    return tensor.data_location == tensor.EXTERNAL


def mark_external(model: Any, folder: str) -> None:
    """Tell all tensors whose numbers are in files of their own where the model was."""
    for tensor in _tensors(model):
        if is_external(tensor):
            tensor.external_data.add(key=FOLDER, value=folder)


def _tensors(model: Any) -> Iterator[Any]:
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for n in graph.node:
            for a in n.attribute:
                yield from (a.t, *a.tensors)
                graphs.extend((a.g, *a.graphs))
    for f in model.functions:
        for n in _nodes(f.node):
            for a in n.attribute:
                yield from (a.t, *a.tensors)


def check_sound(model: Any) -> None:
    """Raise OnnxError for a model that the checker of the onnx package refuses: its inliner may crash on such a one.

    What lies in files of its own is left out: the checker looks for it in the current folder.
    """
    onnx = onnx_package()
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for info in bare.graph.output:  # which this library needs no types of
        if info.type.WhichOneof("value") is None:
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if info.type.WhichOneof("value") == "tensor_type" and not info.type.tensor_type.HasField("shape"):
            info.type.tensor_type.shape.SetInParent()
    for tensor in _tensors(bare):
        if is_external(tensor):
            for field in ("data_location", "external_data", "dims"):
                tensor.ClearField(field)
            tensor.dims.append(0)
    try:
        onnx.checker.check_model(bare)
    except Exception as error:  # a ValidationError, or protobuf's
        raise OnnxError(f"the model is not valid: {str(error)[:500]}") from None


def external_array(tensor: Any, what: str) -> np.ndarray:
    """The numbers of a tensor in a file of its own, which lies in the folder of the model or below.

    Raises OnnxError for a path that leads elsewhere, for a file that is missing, and for one that is too short.
    """
    entries = {e.key: e.value for e in reversed(tensor.external_data)}
    location, folder = entries.get("location", ""), entries.get(FOLDER)
    if folder is None:
        raise OnnxError(f"{what} lies in the file {location!r} beside the model: load the model from its path")
    folder = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(folder, location))
    if not location or os.path.isabs(location) or os.path.commonpath([place, folder]) != folder:
        raise OnnxError(f"{what}: the path {location!r} of its numbers leads out of the folder of the model, and is not "
                        "followed")
    if not os.path.isfile(place):
        raise OnnxError(f"{what}: the file {location!r} with its numbers is missing")
    dtype, count = dtype_of(tensor.data_type, what), math.prod(tensor.dims)
    offset, size = (_whole(entries.get(key, "0"), what, key) for key in ("offset", "length"))
    available = os.path.getsize(place) - offset
    needed = count * dtype.itemsize
    if needed > available or ("length" in entries and size != needed):
        said = f", the length is said to be {size}" if "length" in entries else ""
        raise OnnxError(f"{what}: its shape {tuple(tensor.dims)} takes {needed} bytes; the file {location!r} has "
                        f"{max(available, 0)} from {offset} on{said}")
    with open(place, "rb") as f:
        f.seek(offset)
        return np.fromfile(f, dtype, count).reshape(tuple(tensor.dims))


def _whole(text: str, what: str, key: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise OnnxError(f"{what}: the {key} of its external data is {text[:40]!r}, not a number")
    return int(text)


def _called(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else "the input"


def array_of(tensor: Any, what: str) -> np.ndarray:
    """A TensorProto as an array of its own. Raises UnsupportedOperator for strings and quantised types."""
    onnx = onnx_package()
    if min(tensor.dims, default=0) < 0:
        raise OnnxError(f"{what}: the shape {tuple(tensor.dims)} has a length below 0")
    try:
        a = external_array(tensor, what) if is_external(tensor) else np.asarray(onnx.numpy_helper.to_array(tensor))
    except OnnxError:
        raise
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
            (d.dim_value if d.dim_value >= 0 else None) if d.HasField("dim_value") else d.dim_param or None
            for d in tensor.shape.dim
        )  # some exporters write -1 for a length that is not known
    return ValueType(info.name, dtype_of(tensor.elem_type, repr(info.name)), shape)
