"""NumPy's npz format, a zip archive of npy files, written without surprises and read without trust.

``np.load`` allocates what a header promises before it looks at the bytes, and ``np.savez`` loses arrays whose names are
its own keywords; hence these two functions. Files are exchangeable with NumPy's both ways.
"""

from __future__ import annotations

import errno
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

EXPANSION = 1032  # deflate cannot expand a byte into more


@contextmanager
def reading_archive() -> Iterator[None]:
    """The many errors that ``zipfile`` has for damaged archives become ValueError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ValueError("it points to before its beginning") from None


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write C-contiguous arrays, uncompressed; the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, a in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as f:
                np.lib.format.write_array(f, a, allow_pickle=False)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays by name, in the machine's byte order.

    ValueError for anything that is no whole npz file of plain arrays: damaged, truncated, with pickled objects, or with
    sizes that the file cannot hold.
    """
    size = path.stat().st_size
    with reading_archive(), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.compress_size for entry in entries) > size:
            raise ValueError(f"its entries promise more than the file's {size:,} bytes")
        arrays: dict[str, np.ndarray] = {}
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"two entries are called {name!r}")
            arrays[name] = _read_entry(archive, entry)
        return arrays


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    name = entry.filename
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by another method than deflate")
    if entry.file_size > entry.compress_size * EXPANSION:
        raise ValueError(f"{name} promises {entry.file_size:,} bytes in {entry.compress_size:,} compressed ones")
    with archive.open(entry) as f:
        data = f.read()
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"npy version {version}")
    except Exception as error:  # NumPy evaluates the header as a Python literal, which fails in many ways
        raise ValueError(f"{name}: {error}") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds pickled Python objects, which are never loaded")
    start = stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"{name} promises shape {shape} of {dtype}, but has {len(data) - start:,} bytes")
    flat = np.frombuffer(data, dtype, offset=start).astype(dtype.newbyteorder("="))  # a copy, so that it is writable
    return flat.reshape(shape, order="F" if fortran else "C")
