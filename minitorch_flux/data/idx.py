"""The idx format of MNIST and its relatives, plain or gzipped: ``read_idx`` and ``mnist_idx``.

A file is the magic number ``00 00 type ndim``, then ``ndim`` big-endian 32-bit lengths, then the numbers in row-major
order (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"). Nothing in a file is trusted: what its
header promises is compared with what the file can hold before any memory is taken.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .datasets import ImageDataset, dtype_name, make_split

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 8
LARGEST = 1 << 31  # bytes: 40 times MNIST
EXPANSION = 1032  # deflate cannot expand a byte into more

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_idx(path: str | os.PathLike[str], sha256: str | None = None, max_bytes: int = LARGEST) -> np.ndarray:
    """The array in an idx file, plain or gzipped (told apart by content), in the machine's byte order.

    ``sha256``: the expected hash of the *decompressed* file. ``max_bytes``: the largest array that is accepted.
    ValueError for anything that is no complete idx file: wrong magic number, truncated, trailing bytes, a header
    that promises more than the file can hold or than ``max_bytes``, damaged gzip, another hash.
    """
    path = Path(path)
    with open(path, "rb") as raw:
        stored = os.fstat(raw.fileno()).st_size
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        try:
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    return _parse(path, unpacked, stored * EXPANSION, sha256, max_bytes)
            return _parse(path, raw, stored, sha256, max_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from error


def _parse(path: Path, file: Any, capacity: int, sha256: str | None, max_bytes: int) -> np.ndarray:
    """One idx stream that cannot hold more than ``capacity`` bytes."""
    magic = _read(file, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES:
        raise ValueError(f"{path}: not an idx file (it begins with {magic.hex(' ') or 'nothing'}, "
                         "expected 00 00, a type from 08 to 0e and the number of axes)")
    ndim = magic[3]
    if not 1 <= ndim <= MOST_AXES:
        raise ValueError(f"{path}: the header promises {ndim} axes, expected 1 to {MOST_AXES}")
    lengths = _read(file, 4 * ndim)
    if len(lengths) < 4 * ndim:
        raise ValueError(f"{path}: truncated inside its header")
    shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
    dtype = np.dtype(TYPES[magic[2]])
    # An axis of length 0 must not hide absurd lengths beside it.
    if (size := dtype.itemsize * math.prod(max(n, 1) for n in shape)) > max_bytes:
        raise ValueError(f"{path}: the header promises shape {shape}, {size:,} bytes; the limit is {max_bytes:,} "
                         "(max_bytes=)")
    size = dtype.itemsize * math.prod(shape)
    if size > capacity:
        raise ValueError(f"{path}: truncated: the header promises shape {shape}, {size:,} bytes, more than the file "
                         "can hold")
    data = np.empty(size, np.uint8)
    if (got := _fill(file, data)) < size:
        raise ValueError(f"{path}: truncated: the header promises shape {shape}, {size:,} bytes, found {got:,}")
    if file.read(1):  # reading to the end also makes gzip compare its checksum
        raise ValueError(f"{path}: more bytes follow the {size:,} that the header promises (shape {shape})")
    if sha256 is not None:
        digest = hashlib.sha256(magic + lengths)
        digest.update(data.data)
        if digest.hexdigest() != sha256:
            raise ValueError(f"{path}: the sha256 of the decompressed file is {digest.hexdigest()}, expected {sha256}; "
                             "the file is damaged or another one: delete it and fetch it again")
    return data.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read(file: BinaryIO, n: int) -> bytes:
    """Up to ``n`` bytes, fewer only at the end (a gzip stream may give fewer at a time)."""
    parts = b""
    while len(parts) < n and (part := file.read(n - len(parts))):
        parts += part
    return parts


def _fill(file: Any, data: np.ndarray) -> int:
    """Read into ``data`` until it is full or the file ends; the number of bytes read."""
    view, got = data.data, 0
    while got < len(view) and (n := file.readinto(view[got:])):
        got += n
    return got


def mnist_idx(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    dtype: Any = "float32",
    classes: Sequence[str] | None = None,
) -> ImageDataset:
    """A dataset in MNIST's format: MNIST itself, EMNIST, KMNIST, QMNIST or your own.

    ``source``: a folder with the four files of the usual names (``train-images-idx3-ubyte``,
    ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte``; or with ``.idx``; with ``.gz``
    or without), or the four files themselves in this order: training images, training labels, test images, test labels.
    ``dtype``: ``"float32"`` in [0, 1] or the stored ``"uint8"``. ``classes``: the names of the labels (default: the
    numbers ``"0"``, ``"1"``, ...). ``mean`` and ``std`` are computed from the training images.
    """
    dtype_name(dtype)
    if isinstance(source, (str, os.PathLike)):
        name, files = Path(source).name, find_files(Path(source))
        if files is None:
            raise FileNotFoundError(f"{source}: no MNIST-format files; expected {', '.join(NAMES)}, each with .gz or "
                                    "without, or pass the four files as a list")
    else:
        name, files = "idx files", [Path(path) for path in source]
        if len(files) != 4:
            raise ValueError(f"mnist_idx takes a folder or four files (training images, training labels, test images, "
                             f"test labels), got {len(files)}")
    train, test = _pair(files[0], files[1]), _pair(files[2], files[3])
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(f"{files[2]}: the test images are {test[0].shape[1:]}, the training images "
                         f"{train[0].shape[1:]}")
    count = 1 + int(max(train[1].max(), test[1].max()))
    names = tuple(classes) if classes is not None else tuple(str(i) for i in range(count))
    if count > len(names):
        raise ValueError(f"mnist_idx: a label is {count - 1} but classes= has {len(names)} names, for 0 to "
                         f"{len(names) - 1}")
    mean, std = moments(train[0])
    return ImageDataset(name, make_split(*train, dtype), make_split(*test, dtype), names, (mean,), (std,))


def find_files(folder: Path) -> list[Path] | None:
    """The four files of the usual names in a folder, or None where one is missing."""
    found = []
    for name in NAMES:
        spellings = [name + end for end in ("", ".gz")] + [name.replace("-idx", ".idx") + end for end in ("", ".gz")]
        path = next((folder / s for s in spellings if (folder / s).is_file()), None)
        if path is None:
            return None
        found.append(path)
    return found


def _pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, H, W)`` and labels ``(N,)``, both bytes and equally many."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != np.uint8 or not images.size:
        raise ValueError(f"{images_path}: expected images as uint8 (N, H, W), found {images.dtype} {images.shape}")
    if labels.ndim != 1 or labels.dtype != np.uint8:
        raise ValueError(f"{labels_path}: expected labels as uint8 (N,), found {labels.dtype} {labels.shape}")
    if len(images) != len(labels):
        raise ValueError(f"{images_path} has {len(images)} images but {labels_path} has {len(labels)} labels")
    return images, labels


def moments(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of uint8 images in units of [0, 1], exact: from the counts of the 256 values."""
    counts = np.zeros(256, np.int64)
    for first in range(0, len(images), 4096):  # bincount makes eight-byte copies: not of everything at once
        counts += np.bincount(images[first : first + 4096].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float(counts @ values / counts.sum())
    return mean, float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum()))
