"""ImageDataset: what every dataset function returns."""

import numpy as np
import pytest

from minitorch_flux.data import DataLoader, digits
from minitorch_flux.data.datasets import dtype_name, make_split


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 3, 6, 5)])
def test_make_split(shape):
    stored = np.random.default_rng(0).integers(0, 17, shape, dtype=np.uint8)
    labels = np.arange(4, dtype=np.uint8)
    split = make_split(stored, labels, np.float32, 16.0)
    assert split.images.shape == (4, shape[1] if len(shape) == 4 else 1, 6, 5)
    assert split.images.dtype == np.float32
    np.testing.assert_array_equal(split.images.ravel(), (stored / 16).ravel())
    assert split.labels.dtype == np.int64
    raw = make_split(stored, labels, "uint8")
    assert raw.images.dtype == np.uint8
    np.testing.assert_array_equal(raw.images.ravel(), stored.ravel())


def test_white_is_exactly_one():
    assert make_split(np.full((1, 2, 2), 255, np.uint8), np.zeros(1, np.uint8), "float32").images.max() == 1


def test_dtype_names():
    assert [dtype_name(d) for d in ("float32", np.float32, np.dtype("u1"))] == ["float32", "float32", "uint8"]
    for wrong in ("float64", "bytes8", int):
        with pytest.raises(ValueError, match=r"images come as 'float32' in \[0, 1\] or as the stored 'uint8'"):
            dtype_name(wrong)


def test_a_dataset_is_ready_to_use():
    data = digits()
    x, y = data.train
    assert (x is data.train.images, y is data.train.labels) == (True, True)
    assert repr(data) == (
        "ImageDataset('digits': 1442 training and 355 test images (1, 8, 8) float32, 10 classes)"
    )
    xb, yb = next(iter(DataLoader(data.train, batchsize=32)))
    assert (xb.shape, yb.shape) == ((32, 1, 8, 8), (32,))


def test_normalise_is_the_same_from_bytes_and_from_floats():
    a, b = digits(), digits(dtype="uint8")
    np.testing.assert_allclose(a.normalise(a.train.images), b.normalise(b.train.images), atol=1e-6)
    z = a.normalise(a.train.images)
    assert z.dtype == np.float32
    assert abs(z.mean()) < 1e-3
    assert abs(z.std() - 1) < 1e-3
