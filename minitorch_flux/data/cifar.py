"""CIFAR-10 in its binary format: six files of 10,000 records, each a label and 3 x 32 x 32 bytes, channel by channel.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .datasets import ImageDataset, Split, dtype_name, make_split
from .fetching import NotFetched, fetch, search_folders

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"  # of the archive
FOLDER = "cifar-10-batches-bin"
FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6)) + ("test_batch.bin",)
RECORDS = 10_000
RECORD = 1 + 3 * 32 * 32
SLACK = 1 << 20  # bytes of the unpacked archive beside the records: two small files and the tar headers
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the 50,000 training images


def cifar10(source: str | os.PathLike[str] | None = None, dtype: Any = "float32") -> ImageDataset:
    """CIFAR-10: 50,000 training and 10,000 test images ``(3, 32, 32)`` of 10 classes, in the files' order.

    ``source``: the folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, the one above it,
    or the archive ``cifar-10-binary.tar.gz``. Without it the folder or archive is looked for in
    ``$MINITORCH_FLUX_DATA`` and in the cache folder, and else the archive is downloaded (162 MB, needs the extra
    ``data``) and its sha256 verified. ``dtype``: ``"float32"`` in [0, 1] (737 MB) or the stored ``"uint8"`` (184 MB).

    ValueError for a file of the wrong size and for a label above 9. Nothing is unpickled or unpacked to disk.
    """
    dtype_name(dtype)
    path = Path(source) if source is not None else _find()
    records = _read_archive(path) if path.is_file() else _read_folder(path)
    train, test = [records[name] for name in FILES[:5]], records[FILES[5]]
    return ImageDataset("cifar-10", _split(train, dtype), _split([test], dtype), CLASSES, MEAN, STD)


def _find() -> Path:
    """The folder or the archive in one of the usual places, else the archive downloaded."""
    folders = search_folders(FOLDER)
    for folder in folders:
        if (folder / FILES[0]).is_file():
            return folder
        for archive in (folder / Path(URL).name, folder.parent / Path(URL).name):
            if archive.is_file():
                return archive
    try:
        return fetch(URL, folders[-1] / Path(URL).name, _verify)
    except NotFetched as error:
        raise FileNotFoundError(f"CIFAR-10 is in none of {', '.join(map(str, folders))} and was not downloaded: "
                                f"{error}; or get {URL} yourself and pass its path") from error


def _verify(path: Path) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ValueError(f"{URL}: the sha256 of the download is {digest}, expected {SHA256}")


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    if not (folder / FILES[0]).is_file() and (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: CIFAR-10's binary files are missing: {', '.join(missing)} (the Python and "
                                "MATLAB versions of CIFAR-10 are other formats)")
    records = {}
    for name in FILES:
        _check_size(folder / name, (folder / name).stat().st_size)
        records[name] = _check(folder / name, (folder / name).read_bytes())
    return records


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    """The six members, straight from the archive: no path of it is ever used as a path here."""
    import tarfile  # here, because it is slow to import and seldom needed

    records: dict[str, np.ndarray] = {}
    try:
        with gzip.open(path) as unpacked:
            bounded = _Bounded(path, unpacked, len(FILES) * RECORDS * RECORD + SLACK)
            with tarfile.open(fileobj=bounded, mode="r|", bufsize=1 << 20) as archive:  # type: ignore[call-overload]
                for member in archive:
                    name = member.name.rpartition("/")[2]
                    if member.isfile() and name in FILES and name not in records:
                        _check_size(f"{path}: {name}", member.size)
                        records[name] = _check(f"{path}: {name}", archive.extractfile(member).read())
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged or truncated archive, or no cifar-10-binary.tar.gz ({error})") from error
    missing = [name for name in FILES if name not in records]
    if missing:
        raise ValueError(f"{path}: the archive lacks {', '.join(missing)}")
    return records


class _Bounded:
    """A stream that ends in an error after ``left`` bytes: a small archive may unpack to anything."""

    def __init__(self, path: Path, file: BinaryIO | gzip.GzipFile, left: int) -> None:
        self.path, self.file, self.left = path, file, left

    def read(self, n: int) -> bytes:
        data = self.file.read(min(n, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"{self.path}: unpacks to more than CIFAR-10's six files: not cifar-10-binary.tar.gz")
        return data


def _check_size(what: object, size: int) -> None:
    if size != RECORDS * RECORD:
        raise ValueError(f"{what}: {size:,} bytes, expected {RECORDS * RECORD:,} ({RECORDS:,} records of "
                         f"{RECORD:,} bytes)")


def _check(what: object, data: bytes) -> np.ndarray:
    """Records ``(RECORDS, 3073)`` with labels below 10."""
    _check_size(what, len(data))
    records = np.frombuffer(data, np.uint8).reshape(RECORDS, RECORD)
    if (largest := int(records[:, 0].max())) > 9:
        raise ValueError(f"{what}: record {int(records[:, 0].argmax())} has the label {largest}, expected 0 to 9")
    return records


def _split(batches: list[np.ndarray], dtype: Any) -> Split:
    records = np.concatenate(batches) if len(batches) > 1 else batches[0]
    return make_split(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], dtype)
