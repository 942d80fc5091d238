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
LARGE, RATIO = 2**28, 100  # so much may an archive hold, or so many times its own size: real arrays are never that empty


@contextmanager
def reading_archive() -> Iterator[None]:
    """The many errors that ``zipfile`` has for damaged archives become ValueError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise ValueError(str(error)[:300] or type(error).__name__) from None  # it may quote half of the file
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
        for entry in entries:
            if entry.file_size > entry.compress_size * EXPANSION:
                raise ValueError(f"{entry.filename[:80]} promises {entry.file_size:,} bytes in {entry.compress_size:,} "
                                 "compressed ones")
        whole = sum(entry.file_size for entry in entries)
        if whole > max(LARGE, RATIO * size):
            raise ValueError(f"its entries expand to {whole:,} bytes, more than {RATIO} times the file's {size:,}; if they are "
                             "meant to, save them with np.savez, uncompressed")
        arrays: dict[str, np.ndarray] = {}
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"two entries are called {name[:80]!r}")
            arrays[name] = _read_entry(archive, entry)
        return arrays


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    name = entry.filename[:80]
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by another method than deflate")
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
        raise ValueError(f"{name}: {str(error)[:300]}") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds pickled Python objects, which are never loaded")
    start = stream.tell()
    if any(type(n) is not int or not 0 <= n < 2**63 for n in shape) or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"{name} promises shape {str(shape)[:80]} of {str(dtype)[:80]}, but has {len(data) - start:,} bytes")
    flat = np.frombuffer(data, dtype, offset=start).astype(dtype.newbyteorder("="))  # a copy, so that it is writable
    return flat.reshape(shape, order="F" if fortran else "C")
