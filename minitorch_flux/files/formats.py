"""Arrays by name in a file: safetensors or npz by the file's ending, written whole or not at all.

A file is written under another name beside its place, flushed to the disk, and then put in place by one rename: whoever
reads sees the old file or the new one, also after a crash or a full disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "minitorch_flux"
VERSION = 1
METADATA = "__metadata__"  # the entry of an npz file that holds what safetensors keeps in its header


class FileError(ValueError):
    """A file that cannot be read: truncated, damaged, of another kind, or from a newer version."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the body succeeds and vanishes when it does not."""
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except FileNotFoundError:
        raise FileNotFoundError(f"cannot save {path}: the folder {path.parent} does not exist") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as f:
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _kind(path: Path) -> str:
    if path.suffix not in (".safetensors", ".npz"):
        raise FileError(f"{path}: the ending must be .safetensors or .npz, got {path.suffix!r}")
    return path.suffix


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None) -> None:
    """Write named arrays and JSON-like metadata to ``path`` (.safetensors or .npz)."""
    path = Path(path)
    kind = _kind(path)
    header = {"format": FORMAT, "version": str(VERSION), "metadata": json.dumps(dict(metadata or {}))}
    contiguous = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    if METADATA in contiguous:
        raise FileError(f"{path}: an array may not be called {METADATA!r}")
    with replacing(path) as temporary:
        if kind == ".safetensors":
            from safetensors.numpy import save_file

            save_file(contiguous, temporary, metadata=header)
        else:
            with temporary.open("wb") as f:
                np.savez(f, **contiguous, **{METADATA: np.array(json.dumps(header))})  # type: ignore[arg-type]


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """``(arrays, metadata)`` of a .safetensors or .npz file, of this library or another.

    Raises FileError for a truncated, damaged or foreign file, FileNotFoundError where there is none. Nothing is ever
    unpickled.
    """
    path = Path(path)
    reader: Callable[[Path], tuple[dict[str, np.ndarray], dict[str, Any]]]
    reader = _read_safetensors if _kind(path) == ".safetensors" else _read_npz
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    arrays, header = reader(path)
    if header.get("format") != FORMAT:
        return arrays, {}
    try:
        version = int(header.get("version", 0))
        metadata = json.loads(header.get("metadata", "{}"))
    except (ValueError, TypeError) as error:
        raise FileError(f"{path}: damaged metadata ({error})") from None
    if version > VERSION:
        raise FileError(f"{path}: written in format version {version}, this library reads up to {VERSION}; update it")
    return arrays, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            return {name: f.get_tensor(name) for name in f.keys()}, f.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})") from None


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for info in archive.infolist():
                with archive.open(info) as f:
                    arrays[info.filename.removesuffix(".npy")] = _read_npy(f.read, info.file_size)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileError(f"{path}: not a whole npz file of plain arrays ({error})") from None
    raw = arrays.pop(METADATA, None)
    try:
        return arrays, json.loads(str(raw)) if raw is not None else {}
    except ValueError as error:
        raise FileError(f"{path}: damaged metadata ({error})") from None


def _read_npy(read: Callable[[], bytes], size: int) -> np.ndarray:
    data = read()
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} were announced")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
