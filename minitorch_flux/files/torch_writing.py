"""Files that ``torch.load(weights_only=True)`` reads, written without PyTorch.

The zip format: a pickle, whose few instructions are put down here one by one, and a record for each array, which begins at
a multiple of 64 bytes so that PyTorch can map it into memory.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..autograd import Structure, Tensor
from ..backend import is_array, to_device
from ..nn.state_dicts import tensors_by_path
from .formats import replacing
from .torch_storages import PLAIN, STORAGES

ALIGNMENT = 64
CLASSES = {dtype: name for name, dtype in STORAGES.items()}


def save_torch(model: Any, path: str | Path) -> None:
    """Save the parameters and buffers of ``model`` to a file of PyTorch, for ``torch.load(path, weights_only=True)``.

    ``model``: a model, whose state dict is saved (a shared parameter under each of its names, sharing memory there too),
    or dicts, lists and tuples of models, arrays, numbers and strings, as in ``save_torch({"model": model, "epoch": 3}, path)``.
    Arrays become tensors of the same dtype. The file is replaced whole or not at all: an interrupted save leaves the old
    one. Any ending will do but .safetensors and .npz, which ``flux.save`` writes and PyTorch reads with other functions.

    Raises TypeError for what such a file cannot hold, ValueError for a value that contains itself.
    """
    path = Path(path)
    if path.suffix.lower() in (".safetensors", ".npz"):
        raise ValueError(f"save_torch(model, path): {path} is called like another kind of file; use flux.save(path, model), or "
                         "an ending such as .pt")
    writer = _Pickle()
    writer.value(model, "")
    with replacing(path) as temporary, temporary.open("wb") as f, zipfile.ZipFile(f, "w") as archive:
        _record(archive, f, "data.pkl", bytes(writer.out) + b".")
        _record(archive, f, "byteorder", b"little")
        for key, a in enumerate(writer.arrays):
            _record(archive, f, f"data/{key}", a.reshape(-1).view(np.uint8).data)
        _record(archive, f, "version", b"3\n")


def _record(archive: zipfile.ZipFile, f: BinaryIO, name: str, data: bytes | memoryview) -> None:
    entry = zipfile.ZipInfo(f"archive/{name}")  # of the year 1980: the same arrays give the same bytes
    entry.file_size = len(data)
    large = len(data) >= zipfile.ZIP64_LIMIT // 2
    begin = f.tell() + 30 + len(entry.filename) + 4 + 20 * large  # of the data, behind the headers
    padding = -begin % ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(entry, "w", force_zip64=large) as record:
        record.write(data)


class _Pickle:
    """The instructions that build a value, and the arrays that they refer to."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.arrays: list[np.ndarray] = []
        self.keys: dict[int, int] = {}  # the number of a tensor's or an array's storage
        self.kept: list[Any] = []
        self.open: set[int] = set()

    def value(self, x: Any, path: str) -> None:
        if isinstance(x, Tensor) or is_array(x):
            self.tensor(x, path)
        elif isinstance(x, np.complexfloating):
            self.tensor(np.asarray(x), path)  # a pickle has no complex numbers
        elif isinstance(x, np.generic):
            self.value(x.item(), path)
        elif x is None or isinstance(x, bool):
            self.out += b"N" if x is None else b"\x88" if x else b"\x89"
        elif isinstance(x, int):
            self.integer(x, path)
        elif isinstance(x, float):
            self.out += b"G" + struct.pack(">d", x)
        elif isinstance(x, str):
            text = x.encode()
            self.out += b"X" + struct.pack("<I", len(text)) + text
        elif isinstance(x, Structure | Mapping | list | tuple):
            self.container(x, path)
        else:
            raise TypeError(f"save_torch: such a file holds models, dicts, lists, tuples, arrays, numbers and strings; "
                            f"{path or 'the value'} is a {type(x).__name__}")

    def integer(self, x: int, path: str) -> None:
        size = x.bit_length() // 8 + 1
        if size > 255:
            raise TypeError(f"save_torch: the number at {path or 'the top'} has more than 2000 bits")
        if -(2**31) <= x < 2**31:
            self.out += b"J" + struct.pack("<i", x)
        else:
            self.out += b"\x8a" + bytes([size]) + x.to_bytes(size, "little", signed=True)

    def container(self, x: Any, path: str) -> None:
        if id(x) in self.open:
            raise ValueError(f"save_torch: the value at {path} contains itself")
        self.open.add(id(x))
        if isinstance(x, Structure):
            self.value(tensors_by_path(x), path)
        elif isinstance(x, Mapping):
            self.out += b"}("
            for key, v in x.items():
                if not isinstance(key, str | int):
                    raise TypeError(f"save_torch: keys are strings and integers, got {key!r} at {path or 'the top'}")
                self.value(key, path)
                self.value(v, f"{path}.{key}" if path else str(key))
            self.out += b"u"
        else:
            self.out += b"(" if isinstance(x, tuple) else b"]("
            for i, v in enumerate(x):
                self.value(v, f"{path}.{i}" if path else str(i))
            self.out += b"t" if isinstance(x, tuple) else b"e"
        self.open.remove(id(x))

    def tensor(self, x: Any, path: str) -> None:
        a = to_device(x.data if isinstance(x, Tensor) else x, "cpu")
        name = a.dtype.name
        if name not in CLASSES and name not in PLAIN:
            raise TypeError(f"save_torch: the array {path or 'itself'} has dtype {a.dtype}, which PyTorch does not have")
        key = self.keys.setdefault(id(x), len(self.arrays))
        if key == len(self.arrays):
            self.kept.append(x)
            self.arrays.append(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).reshape(a.shape))
        typed = name in CLASSES
        self.name("torch._utils", "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3")
        self.out += b"(("
        self.value("storage", path)
        self.name(*("torch", CLASSES[name]) if typed else ("torch.storage", "UntypedStorage"))
        self.value(str(key), path)
        self.value("cpu", path)
        self.integer(a.size if typed else a.nbytes, path)
        self.out += b"tQ"  # the storage
        self.integer(0, path)
        strides = [max(int(np.prod(a.shape[i + 1 :], dtype=object)), 1) for i in range(a.ndim)]
        for sizes in (a.shape, strides):
            self.value(tuple(map(int, sizes)), path)
        self.out += b"\x89"  # does not require a gradient
        self.name("collections", "OrderedDict")
        self.out += b")R"  # no hooks
        if not typed:
            self.name("torch", name)
        self.out += b"tR"

    def name(self, module: str, name: str) -> None:
        self.out += f"c{module}\n{name}\n".encode()
