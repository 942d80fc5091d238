"""Arrays by name in a file: safetensors or npz by the file's ending, written whole or not at all.

A file is written under another name beside its place, flushed to the disk, and then put in place by one rename: whoever
reads sees the old file or the new one, also after a crash or a full disk. Nothing in a file is trusted: nothing is
unpickled, and what a header promises is compared with what the file can hold before any memory is taken.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1
OURS = "minitorch_flux"  # the entry of a safetensors header with our version and metadata (one: their order is random)
METADATA = "__metadata__"  # the entry of an npz file with the same
KINDS = "fiub"
WIDENED_TYPES = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
"""The floats of safetensors that NumPy has not, under PyTorch's names."""


class FileError(ValueError):
    """A file that cannot be read: truncated, damaged, of another kind, or from a newer version."""


@contextmanager
def replacing(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the body succeeds and vanishes when it does not.

    A symbolic link stays and the file that it names is replaced; the new file has the old one's permissions, or those
    that the umask gives. ``sync=False`` leaves it to the system when the bytes reach the disk.
    """
    target = Path(os.path.realpath(path))
    temporary, mode = _create_beside(target, path)
    try:
        yield temporary
        temporary.chmod(mode)
        if sync:
            with temporary.open("rb+") as f:
                os.fsync(f.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _create_beside(target: Path, path: str | Path) -> tuple[Path, int]:
    """A new file beside ``target``, and the permissions that the finished one shall have."""
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        old = os.stat(target).st_mode if target.exists() else None
        if old is not None and not stat.S_ISREG(old):
            raise IsADirectoryError(0, "there is a folder (or a device) of this name")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            mode = os.fstat(handle).st_mode if old is None else old
        finally:
            os.close(handle)
    except OSError as error:
        why = error.strerror
        if isinstance(error, FileNotFoundError):
            why = f"the folder {target.parent} does not exist"
        elif isinstance(error, PermissionError):
            why = f"the folder {target.parent} is not writable ({error.strerror})"
        explained = type(error)(f"cannot save {path}: {why}")
        explained.errno = error.errno
        raise explained from None
    return temporary, stat.S_IMODE(mode)


def _kind(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in (".safetensors", ".npz"):
        foreign = kind in (".pt", ".pth", ".bin", ".ckpt")
        torch = "; flux.load_torch and flux.save_torch are for PyTorch's files" if foreign else ""
        raise FileError(f"{path}: the ending must be .safetensors or .npz, got {path.suffix!r}{torch}")
    return kind


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None) -> None:
    """Write named arrays of numbers or bools, and JSON-like metadata, to ``path`` (.safetensors or .npz)."""
    path = Path(path)
    kind = _kind(path)
    header = json.dumps({"version": VERSION, "metadata": dict(metadata or {})})
    contiguous = {}
    for name, a in arrays.items():
        if name == METADATA:
            raise FileError(f"{path}: an array may not be called {METADATA!r}")
        fits = a.dtype.kind in KINDS and a.dtype.itemsize <= 8
        if not fits and not (a.dtype.name == "bfloat16" and kind == ".safetensors"):
            raise TypeError(f"{path}: the array {name!r} has dtype {a.dtype}; files hold bools, integers and floats of "
                            "16 to 64 bits (bfloat16 in .safetensors only)")
        contiguous[name] = np.ascontiguousarray(a).reshape(a.shape)
    with replacing(path) as temporary:
        if kind == ".safetensors":
            from safetensors.numpy import save_file

            save_file(contiguous, temporary, metadata={OURS: header})
        else:
            from .npz import write_npz

            write_npz(temporary, {**contiguous, METADATA: np.frombuffer(header.encode(), np.uint8)})


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """``(arrays, metadata)`` of a .safetensors or .npz file, of this library or another.

    Raises FileError for a truncated, damaged or foreign file, FileNotFoundError where there is none. Nothing is ever
    unpickled. bfloat16 and 8-bit floats come as float32, which holds them exactly.
    """
    path = Path(path)
    reader: Callable[[Path], tuple[dict[str, np.ndarray], str | bytes | None]]
    reader = _read_safetensors if _kind(path) == ".safetensors" else _read_npz
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb"):  # where it may not be read, this says so
        pass
    arrays, text = reader(path)
    if text is None:
        return arrays, {}
    try:
        header = json.loads(text)
        version, metadata = int(header["version"]), header["metadata"]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise FileError(f"{path}: damaged metadata ({str(error)[:300]})") from None
    if version > VERSION:
        raise FileError(f"{path}: written in format version {version}, this library reads up to {VERSION}; update it")
    if not isinstance(metadata, dict):
        raise FileError(f"{path}: damaged metadata (a {type(metadata).__name__} where a dict is expected)")
    return arrays, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            arrays = {}
            for name in f.keys():  # noqa: SIM118
                dtype = f.get_slice(name).get_dtype()
                if dtype in WIDENED_TYPES:
                    arrays[name] = _read_widened(path, name, WIDENED_TYPES[dtype])
                    continue
                try:
                    arrays[name] = f.get_tensor(name)
                except (TypeError, AttributeError):  # what NumPy has no name for
                    raise FileError(f"{path}: {name[:80]} has the dtype {dtype}, which NumPy does not have") from None
            return arrays, (f.metadata() or {}).get(OURS)
    except SafetensorError as error:
        raise FileError(f"{path}: not a whole safetensors file ({str(error)[:300]})") from None


def _read_widened(path: Path, name: str, dtype: str) -> np.ndarray:
    """One array of a file that has passed safetensors' checks, as float32."""
    from .torch_storages import WIDENED

    kind, widen = WIDENED[dtype]
    with path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        entry = json.loads(f.read(length))[name]
        first, last = entry["data_offsets"]
        f.seek(8 + length + first)
        numbers = np.frombuffer(f.read(last - first), f"<{kind}")
    return widen(numbers).reshape(entry["shape"])


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], bytes | None]:
    from .npz import read_npz

    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise FileError(f"{path}: not a whole npz file of plain arrays ({error})") from None
    raw = arrays.pop(METADATA, None)
    return arrays, None if raw is None else raw.tobytes()
