"""Writing a model: one file, or beyond a limit the stored arrays in a second one, array after array.

The file of arrays bears a part of its checksum in its name, and only when it lies in its place the model that refers to it
takes the place of the old one: at every moment there is a whole model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..files.formats import replacing
from .protos import onnx_package

INLINE_LIMIT = 1_500_000_000
SMALL = 1024  # bytes: such arrays stay in the model, where tools look for shapes and axes
ALIGNMENT = 4096
CHUNK = 1 << 24


def write_model(proto: Any, stored: dict[str, np.ndarray], path: Path, limit: int) -> None:
    """Write a model and its arrays to ``path``."""
    onnx = onnx_package()
    total = sum(a.nbytes for a in stored.values())
    outside = {name: a for name, a in stored.items() if a.nbytes > SMALL} if total > limit else {}
    for name, a in stored.items():
        if name not in outside:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), name))
    beside = _write_outside(proto, outside, path) if outside else ""
    with replacing(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
    for old in path.parent.iterdir():
        if old.name != beside and re.fullmatch(re.escape(path.name) + r"\.[0-9a-f]{8}\.data", old.name):
            old.unlink()


def _write_outside(proto: Any, arrays: dict[str, np.ndarray], path: Path) -> str:
    """Write arrays to a file beside ``path`` and refer to them from the model; the name of the file."""
    onnx, digest, end = onnx_package(), hashlib.sha256(), 0
    places = {}
    for name, a in arrays.items():
        places[name] = end + -end % ALIGNMENT
        end = places[name] + a.nbytes
        for part in _chunks(a):
            digest.update(part)
    final = path.with_name(f"{path.name}.{digest.hexdigest()[:8]}.data")
    with replacing(final) as temporary, temporary.open("wb") as f:
        for name, a in arrays.items():
            f.seek(places[name])
            for part in _chunks(a):
                f.write(part)
            t = onnx.TensorProto(name=name, dims=a.shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(a.dtype))
            t.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", final.name), ("offset", places[name]), ("length", a.nbytes)):
                t.external_data.add(key=key, value=str(value))
            proto.graph.initializer.append(t)
    return final.name


def _chunks(a: np.ndarray) -> Iterator[Any]:
    """The bytes of an array, a part at a time."""
    flat = a.reshape(-1) if a.flags.c_contiguous else np.ascontiguousarray(a).reshape(-1)
    step = max(CHUNK // max(a.itemsize, 1), 1)
    for i in range(0, flat.size, step):
        yield flat[i : i + step].view(np.uint8).data
