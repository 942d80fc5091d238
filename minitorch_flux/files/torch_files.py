"""PyTorch's files, read without PyTorch and without unpickling: the zip format, and the legacy one before it.

A zip file (PyTorch 1.6 and later) holds a pickle, ``data.pkl``, and a record for each storage. A legacy file is a row of
pickles (a magic number, a version, facts of the machine, the value, the keys of its storages) with the storages behind it.
Memory is taken for what the file has, never for what it promises.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .formats import FileError
from .npz import reading_archive
from .torch_numbers import complex_number, counter, number_type, raw, scalar
from .torch_pickles import DEPTH, Callee, Stream, checked_key, read_pickle
from .torch_storages import PLAIN, SIZES, STORAGES, UNTYPED, WIDENED, Storage, Storages, View, checked_view

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
PARTS = 10_000_000
"""So many parts may a value have when each is counted at all its places."""


def read_torch(path: str | Path) -> Any:
    """What a file of ``torch.save`` holds: dicts, lists, tuples, numbers and strings, with arrays for its tensors.

    Reads the zip format and the legacy one. Parameters are arrays like other tensors, dtypes and devices strings; bfloat16
    and 8-bit floats come as float32, complex32 as complex64, which hold them exactly. Tensors that share memory do so here.
    A Counter is a dict, NumPy's scalars are Python's numbers.

    Nothing is unpickled: FileError names what else the file asks for, and says what is wrong with a damaged one.
    FileNotFoundError where there is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb") as f:
        start = f.read(265)
        try:
            if start.startswith(b"PK\x03\x04"):
                return _read_zip(path)
            if start.startswith(b"\x80"):
                f.seek(0)
                return _read_legacy(f, path.stat().st_size)
            if start[257:262] == b"ustar":
                raise ValueError("it is in the tar format that PyTorch wrote before version 0.2; load and save it there once")
            raise ValueError("it begins like no file of torch.save")
        except ValueError as error:
            raise FileError(f"{path}: not a file of PyTorch that can be read ({error})") from None


# -- the two formats ---------------------------------------------------------------------------------------------------


def _read_zip(path: Path) -> Any:
    size = path.stat().st_size
    with reading_archive(), zipfile.ZipFile(path) as archive:
        entries = _checked_entries(archive, size)
        folder = archive.infolist()[0].filename.partition("/")[0] if entries else ""
        if f"{folder}/data.pkl" not in entries:
            raise ValueError("its archive has no data.pkl")
        order = archive.read(f"{folder}/byteorder") if f"{folder}/byteorder" in entries else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"its byte order is {order[:20]!r}")

        def contents(key: str) -> np.ndarray:
            name = f"{folder}/data/{key}"
            if name not in entries:
                raise ValueError(f"there is no storage {key[:40]!r}")
            raw = np.empty(entries[name].file_size, np.uint8)
            with archive.open(name) as f:
                if f.readinto(raw.data) != len(raw):  # type: ignore[attr-defined]
                    raise ValueError(f"the storage {key[:40]!r} ends early")
            return raw

        pickled = archive.read(f"{folder}/data.pkl")
        tree = read_pickle(Stream(io.BytesIO(pickled), len(pickled)), NAMES, _storage)
        return _Finish(Storages(contents, order == b"big")).value(tree)


def _checked_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in sorted(archive.infolist(), key=lambda e: not e.filename.endswith("/constants.pkl")):
        name = entry.filename
        if name in entries:
            raise ValueError(f"two entries are called {name[:80]!r}")
        if name.startswith("/") or ".." in name.split("/") or "\\" in name:
            raise ValueError(f"an entry is called {name[:80]!r}, which leads out of the archive")
        if name.endswith("/constants.pkl"):
            raise ValueError("it is a program of TorchScript (torch.jit.save); save the model's state_dict() instead")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"{name[:80]!r} is compressed; PyTorch writes its records as they are")
        entries[name] = entry
    if sum(entry.file_size for entry in entries.values()) > size:
        raise ValueError(f"its entries promise more than the file's {size:,} bytes")
    return entries


def _read_legacy(f: BinaryIO, size: int) -> Any:
    stream = Stream(f, size)
    if read_pickle(stream, {}, _no_storage) != MAGIC:
        raise ValueError("it is a pickle, but none of torch.save")
    if (version := read_pickle(stream, {}, _no_storage)) != VERSION:
        raise ValueError(f"its format has version {str(version)[:20]}, expected {VERSION}")
    read_pickle(stream, {}, _no_storage)  # facts of the machine; the numbers are always in little order
    known: dict[str, Storage] = {}

    def storage(value: Any) -> Storage:
        found = _storage(value)
        first = known.setdefault(found.key, found)
        if first.dtype != found.dtype:
            raise ValueError(f"the storage {found.key[:40]!r} is one of {first.dtype} and one of {found.dtype}")
        return found

    tree = read_pickle(stream, NAMES, storage)
    keys = read_pickle(stream, {}, _no_storage)
    if type(keys) is not list:
        raise ValueError("it has no list of its storages")
    contents: dict[str, np.ndarray] = {}
    for key in keys:
        if type(key) is not str or key not in known or key in contents:
            raise ValueError("its list of storages has one that no tensor uses, or one twice")
        length = int.from_bytes(stream.take(8), "little", signed=True)
        if length < 0:
            raise ValueError(f"the storage {key[:40]!r} has the length {length}")
        data = stream.take(length * SIZES[known[key].dtype])
        contents[key] = np.frombuffer(bytearray(data), np.uint8)

    def stored(key: str) -> np.ndarray:
        if key not in contents:
            raise ValueError(f"there is no storage {key[:40]!r}")
        return contents[key]

    return _Finish(Storages(stored)).value(tree)


# -- what the names in a pickle stand for ------------------------------------------------------------------------------


class _DType(str):
    """The name of a dtype, as ``torch.float32``: a string in what is returned."""


class _Kind:
    """A class of storages or tensors, which a pickle may name but not make."""

    def __init__(self, name: str, dtype: str = "") -> None:
        self.name, self.dtype = name, dtype


def _no_storage(_: Any) -> Any:
    raise ValueError("its pickle has a storage where none can be")


def _storage(value: Any) -> Storage:
    """What a persistent id stands for: ("storage", class, key, place, length), with where a view lies in legacy files."""
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] != "storage":
        raise ValueError("its pickle asks for something that is no storage")
    _, kind, key, _, length = value[:5]
    if not isinstance(kind, _Kind) or not kind.dtype or type(key) is not str or type(length) is not int:
        raise ValueError("a storage is not made of a class, a key, a place and a length")
    start = 0
    if len(value) == 6 and value[5] is not None:
        view = value[5]
        if type(view) is not tuple or len(view) != 3 or type(view[1]) is not int or type(view[2]) is not int:
            raise ValueError("a view of a storage is not made of a key, an offset and a length")
        _, start, length = view
    if not 0 <= length < 2**63 or not 0 <= start < 2**63:
        raise ValueError(f"a storage has the length {length}")
    return Storage(key, kind.dtype, length, start)


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any = None, _hooks: Any = None, meta: Any = None
) -> View:
    if meta:
        raise ValueError("a tensor is a conjugate or negative view; save it after .resolve_conj().resolve_neg()")
    return checked_view(storage, offset, shape, strides)


def _typed_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, meta: Any = None
) -> View:
    if meta:
        raise ValueError("a tensor is a conjugate or negative view; save it after .resolve_conj().resolve_neg()")
    if not isinstance(dtype, _DType) or (name := dtype.removeprefix("torch.")) not in SIZES:
        raise ValueError(f"a tensor has the dtype {str(dtype)[:40]}, which is not read")
    return checked_view(storage, offset, shape, strides, name)


def _parameter(data: Any, *_: Any) -> View:
    if not isinstance(data, View):
        raise ValueError("a parameter is not made of a tensor")
    return data


def _of_type(function: Any, kind: Any, arguments: Any, _state: Any) -> View:
    """A tensor with attributes of its own, which are left out."""
    if not isinstance(function, Callee) or function.name not in TENSORS or type(arguments) is not tuple:
        raise ValueError("a tensor is made by something else than PyTorch's functions")
    if getattr(kind, "name", "") not in ("Tensor", "torch.nn.parameter.Parameter"):
        raise ValueError("a tensor is of an unknown class")
    return function.call(*arguments)


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    if type(pairs) not in (tuple, list) or any(type(p) not in (tuple, list) or len(p) != 2 for p in pairs):
        raise ValueError("an ordered dict is not made of pairs")
    return {checked_key(key): value for key, value in pairs}


def _size(sizes: Any) -> tuple[int, ...]:
    if type(sizes) not in (tuple, list) or any(type(n) is not int for n in sizes):
        raise ValueError("a torch.Size is not made of whole numbers")
    return tuple(sizes)


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise ValueError("a torch.device is not made of a name and a number")
    return kind if index is None else f"{kind}:{index}"


def _names() -> dict[tuple[str, str], Any]:
    def callee(module: str, name: str, call: Callable[..., Any]) -> tuple[tuple[str, str], Any]:
        return (module, name), Callee(f"{module}.{name}", call)

    dtypes = [*PLAIN, *WIDENED, "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"]
    return dict([
        callee("torch._utils", "_rebuild_tensor", _tensor),
        callee("torch._utils", "_rebuild_tensor_v2", _tensor),
        callee("torch._utils", "_rebuild_tensor_v3", _typed_tensor),
        callee("torch._utils", "_rebuild_parameter", _parameter),
        callee("torch._utils", "_rebuild_parameter_with_state", _parameter),
        callee("torch._tensor", "_rebuild_from_type_v2", _of_type),
        callee("torch.nn.parameter", "Parameter", _parameter),
        callee("collections", "OrderedDict", _ordered_dict),
        callee("torch", "Size", _size),
        callee("torch", "device", _device),
        callee("collections", "Counter", counter),
        *[callee(module, "complex", complex_number) for module in ("__builtin__", "builtins")],
        *[callee(f"numpy.{core}.multiarray", "scalar", scalar) for core in ("core", "_core")],
        callee("numpy", "dtype", number_type),
        callee("_codecs", "encode", raw),
        *[((module, name), _Kind(name, dtype)) for module in ("torch", "torch.cuda") for name, dtype in STORAGES.items()],
        (("torch.storage", "UntypedStorage"), _Kind("UntypedStorage", UNTYPED)),
        (("torch", "Tensor"), _Kind("Tensor")),
        *[(("torch", name), _DType(f"torch.{name}")) for name in dtypes],
    ])  # fmt: skip


NAMES = _names()
TENSORS = {name.name for (_, key), name in NAMES.items() if key.startswith("_rebuild_tensor")}


class _Finish:
    """Arrays in the places of views, and a look at what cannot be walked: what is nested without end or beyond measure."""

    def __init__(self, storages: Storages) -> None:
        self.storages = storages
        self.done: dict[int, _Finished] = {}  # a container, finished
        self.kept: list[Any] = []  # so that no id is used twice
        self.open: set[int] = set()

    def value(self, tree: Any) -> Any:
        return self.finish(tree, 0).value

    def finish(self, x: Any, depth: int) -> _Finished:
        if x is None or type(x) in (bool, int, float, complex, str):
            return _Finished(x, 1, 0)
        if isinstance(x, _DType):
            return _Finished(str(x), 1, 0)
        if id(x) in self.open:
            raise ValueError("its value contains itself")
        if id(x) not in self.done and depth <= DEPTH:
            self.open.add(id(x))
            self.done[id(x)] = self.container(x, depth + 1)
            self.kept.append(x)
            self.open.remove(id(x))
        if depth > DEPTH or self.done[id(x)].height > DEPTH:
            raise ValueError(f"its value is nested more than {DEPTH} deep")
        if self.done[id(x)].parts > PARTS:
            raise ValueError(f"its value has more than {PARTS:,} parts when each is counted at all its places")
        return self.done[id(x)]

    def container(self, x: Any, depth: int) -> _Finished:
        if type(x) is View:
            return _Finished(self.storages.array(x), 1, 0)
        if type(x) not in (dict, list, tuple):
            raise ValueError(f"its value has a part {getattr(x, 'name', type(x).__name__)}, which is no number or text")
        each = [self.finish(v, depth) for v in (x.values() if type(x) is dict else x)]
        values = [f.value for f in each]
        whole = dict(zip(x, values)) if type(x) is dict else type(x)(values)
        return _Finished(whole, 1 + sum(f.parts for f in each), 1 + max((f.height for f in each), default=0))


class _Finished(NamedTuple):
    value: Any
    parts: int  # how many there are in it, each counted at all its places
    height: int  # how deep it is nested
