"""The datasets in the package: what they are, that they are intact, and that damage is seen."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest

import minitorch_flux.data.embedded as embedded
from minitorch_flux.data import digits, fashion_mnist

FOLDER = files("minitorch_flux.data")


@pytest.mark.parametrize("name", sorted(embedded.SHA256))
def test_sha256_in_code_and_licences(name):
    data = FOLDER.joinpath(name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == embedded.SHA256[name]
    row = next(line for line in FOLDER.joinpath("LICENSES.md").read_text().splitlines() if f"`{name}`" in line)
    assert embedded.SHA256[name] in row


def test_small_enough():
    assert sum(len(FOLDER.joinpath(name).read_bytes()) for name in embedded.SHA256) <= 1_250_000


def test_damage_is_seen(monkeypatch):
    monkeypatch.setitem(embedded.SHA256, "digits.npz", "00")
    embedded.read_embedded.cache_clear()
    try:
        with pytest.raises(ValueError, match="digits.npz inside the package has the sha256 b2dab.* is damaged"):
            digits()
    finally:
        embedded.read_embedded.cache_clear()


def test_fashion_mini():
    data = fashion_mnist()
    assert data.train.images.shape == (2000, 1, 28, 28)
    assert data.test.images.shape == (500, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(data.train.labels), [200] * 10)
    np.testing.assert_array_equal(np.bincount(data.test.labels), [50] * 10)
    for split in (data.train, data.test):
        assert split.images.dtype == np.float32
        assert split.labels.dtype == np.int64
        assert (split.images.min(), split.images.max()) == (0, 1)
    # the labels that the official files begin with: ankle boot, T-shirt, T-shirt, dress, ...
    np.testing.assert_array_equal(data.train.labels[:10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5])
    np.testing.assert_array_equal(data.test.labels[:10], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7])
    assert [data.classes[i] for i in data.train.labels[:2]] == ["Ankle boot", "T-shirt/top"]
    raw = fashion_mnist(dtype="uint8")
    np.testing.assert_array_equal(data.train.images, raw.train.images.astype("f4") / np.float32(255))
    # near those of the 60,000, of which this is a thirtieth
    assert abs(data.train.images.mean() - data.mean[0]) < 0.01
    assert abs(data.train.images.std() - data.std[0]) < 0.01


def test_digits():
    data, raw = digits(), digits(dtype="uint8")
    assert data.train.images.shape == (1442, 1, 8, 8)
    assert data.test.images.shape == (355, 1, 8, 8)
    assert (raw.train.images.dtype, raw.train.images.max(), raw.scale) == (np.uint8, 16, 16.0)
    np.testing.assert_array_equal(data.test.images, raw.test.images / 16)
    assert abs(data.train.images.mean() - data.mean[0]) < 1e-4
    assert abs(data.train.images.std() - data.std[0]) < 1e-4
    np.testing.assert_array_equal(data.train.labels[:10], range(10))  # the file begins 0 1 2 ... 9
    counts = np.bincount(data.train.labels) + np.bincount(data.test.labels)
    np.testing.assert_array_equal(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    np.testing.assert_array_equal(np.bincount(data.test.labels), counts // 5)


def test_digits_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    stored = embedded.load_embedded("digits")
    np.testing.assert_array_equal(stored["images"], theirs.images)
    np.testing.assert_array_equal(stored["labels"], theirs.target)


def test_every_call_gives_new_arrays():
    a, b = digits(), digits()
    a.train.images[...] = -1
    assert b.train.images.min() == 0


@pytest.mark.parametrize("load", [digits, fashion_mnist])
def test_wrong_dtype(load):
    with pytest.raises(ValueError, match="images come as 'float32'"):
        load(dtype="int64")
