"""Fashion-MNIST: the embedded tenth of it, or all of it from a folder or a verified download.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .datasets import ImageDataset, dtype_name, make_split
from .embedded import load_embedded
from .fetching import NotFetched, fetch, search_folders
from .idx import NAMES, find_files, read_idx

URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SHA256 = dict(  # of the decompressed files
    zip(
        NAMES,
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        strict=True,
    )
)
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")  # in fashion_mini.npz
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MEAN, STD = (0.2860,), (0.3530,)  # of the 60,000 training images


def fashion_mnist(mini: bool = True, dtype: Any = "float32") -> ImageDataset:
    """Fashion-MNIST: photographs of clothes, ``(1, 28, 28)``, 10 classes.

    ``mini=True``: the embedded subset, the first 200 training and the first 50 test images of each class (2000 and
    500), in the order of the official files, so the classes are mixed. No network, no other package.

    ``mini=False``: all 60,000 and 10,000, from four idx files that are looked for in ``$MINITORCH_FLUX_DATA``, in the
    cache folder and where Debian's package ``dataset-fashion-mnist`` puts them, and else downloaded (31 MB, needs the
    extra ``data``). The sha256 of the decompressed files is verified on every load.

    ``dtype``: ``"float32"`` in [0, 1] or the stored ``"uint8"``. ``mean`` and ``std`` are those of the 60,000.
    """
    dtype_name(dtype)
    if mini:
        stored = load_embedded("fashion_mini")
        name, arrays = "fashion-mnist mini", [stored[key] for key in ARRAYS]
    else:
        files = _find()
        name, arrays = "fashion-mnist", [read_idx(f, sha256=SHA256[n]) for f, n in zip(files, NAMES, strict=True)]
    train, test = make_split(arrays[0], arrays[1], dtype), make_split(arrays[2], arrays[3], dtype)
    return ImageDataset(name, train, test, CLASSES, MEAN, STD)


def _find() -> list[Path]:
    """The four files in the first folder that has them all, else downloaded."""
    folders = search_folders("fashion-mnist")
    for folder in (*folders, DEBIAN):
        if (files := find_files(folder)) is not None:
            return files
    try:
        return [_fetch(name, folders[-1] / f"{name}.gz") for name in NAMES]
    except NotFetched as error:
        raise FileNotFoundError(
            f"Fashion-MNIST's four files are in none of {', '.join(map(str, [*folders, DEBIAN]))} and were not "
            f"downloaded: {error}. On Debian and Ubuntu: apt-get install dataset-fashion-mnist. The embedded subset, "
            "fashion_mnist(), needs nothing"
        ) from error


def _fetch(name: str, path: Path) -> Path:
    if path.is_file():  # an earlier download that was interrupted between two files
        return path
    return fetch(f"{URL}{name}.gz", path, lambda part: read_idx(part, sha256=SHA256[name]))
