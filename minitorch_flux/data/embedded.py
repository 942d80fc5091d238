"""The datasets inside the package: files that are verified by their sha256 and never unpickled.

``LICENSES.md`` beside them says where they come from; ``python -m minitorch_flux.data.embed`` makes them again.
"""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from .datasets import ImageDataset, dtype_name, make_split

SHA256 = {
    "digits.npz": "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e",
    "fashion_mini.npz": "0c6c4b2f5ee9fbf5f326f31791a60a6055cc4907064e13517e35ec26e2345a6a",
    "names.txt": "afd18b939729b97a3ba09af1e935b4551e27d2dcae3299cef5bfa77defc5f791",
}
SCALE = 16.0  # the digits' pixels are 0 to 16
MEAN, STD = (0.3051,), (0.3762,)  # of the digits' training images
EVERY = 5  # in every class each fifth digit is a test image


@functools.cache
def read_embedded(name: str) -> bytes:
    """The bytes of an embedded file, verified once in a process; they, compressed as they are, are kept."""
    data = Path(__file__).with_name(name).read_bytes()
    if (digest := hashlib.sha256(data).hexdigest()) != SHA256[name]:
        raise ValueError(f"{name} inside the package has the sha256 {digest}, expected {SHA256[name]}: the "
                         "installation is damaged; install minitorch-flux again")
    return data


def load_embedded(name: str) -> dict[str, np.ndarray]:
    """The arrays of the embedded ``{name}.npz``; fresh ones on every call."""
    with np.load(io.BytesIO(read_embedded(f"{name}.npz")), allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def digits(dtype: Any = "float32") -> ImageDataset:
    """UCI's optical digits: 1797 handwritten digits ``(1, 8, 8)``, 10 classes; embedded.

    The split is ours and fixed: in every class each fifth digit, counted in the file's order, is a test image (355),
    the others are training images (1442); both keep the file's order. Neighbours in the file are often by the same
    writer, so the test images are drawn from the same writers as the training images.

    ``dtype``: ``"float32"`` in [0, 1] or the stored ``"uint8"`` from 0 to 16 (``scale`` is 16).
    """
    dtype_name(dtype)
    stored = load_embedded("digits")
    images, labels = stored["images"], stored["labels"]
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[EVERY - 1 :: EVERY]] = True
    return ImageDataset("digits", make_split(images[~test], labels[~test], dtype, SCALE),
                        make_split(images[test], labels[test], dtype, SCALE),
                        tuple("0123456789"), MEAN, STD, SCALE)
