"""The same functions on CuPy arrays give the same results, on the GPU."""

import numpy as np
import pytest

from minitorch_flux.backend import DeviceError, device_of, find_cupy, to_device
from minitorch_flux.backend.generator import Generator
from minitorch_flux.data import (
    DataLoader,
    cutout,
    normalise,
    onecold,
    onehot,
    onehotbatch,
    random_crop,
    random_flip,
    splitobs,
)

pytestmark = pytest.mark.gpu

X = np.random.default_rng(0).standard_normal((9, 3, 6, 5)).astype("f4")
Y = np.arange(9) % 4


@pytest.fixture(scope="module", autouse=True)
def device():
    try:
        find_cupy()
    except DeviceError as error:
        pytest.skip(str(error))


def same(on_gpu, on_cpu):
    assert device_of(on_gpu) == "cuda:0"
    assert on_gpu.dtype == on_cpu.dtype
    np.testing.assert_array_equal(to_device(on_gpu, "cpu"), on_cpu)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: random_flip(x, rng=Generator(1)),
        lambda x: random_crop(x, (5, 4), pad=2, fill=1, rng=Generator(1)),
        lambda x: cutout(x, (2, 3), p=0.5, rng=Generator(1)),
        lambda x: splitobs(x, 0.5, shuffle=True, rng=Generator(1), stratified=Y)[1],
        lambda x: onecold(x, axis=1),
        lambda x: onecold(x, [3, 4, 5], axis=1),
    ],
)
def test_images(f):
    same(f(to_device(X, "cuda")), f(X))


def test_normalise():
    y = normalise(to_device(X, "cuda"), (1, 2, 3), (4, 5, 6))
    np.testing.assert_allclose(to_device(y, "cpu"), normalise(X, (1, 2, 3), (4, 5, 6)), rtol=1e-6)


@pytest.mark.parametrize("labels", [4, range(4), np.arange(4)[::-1]])
def test_onehot(labels):
    y = to_device(Y, "cuda")
    same(onehot(y, labels), onehot(Y, labels))
    same(onehotbatch(y, labels), onehot(Y, labels))
    with pytest.raises(ValueError, match="label 9 is out of range|9 is not among"):
        onehot(y + 6, labels)


def test_text_comes_back_to_the_host():
    names = onecold(to_device(X, "cuda"), "abc", axis=1)
    np.testing.assert_array_equal(names, onecold(X, "abc", axis=1))


@pytest.mark.parametrize("shuffle", [False, True])
def test_loader(shuffle):
    on_gpu = DataLoader((to_device(X, "cuda"), to_device(Y, "cuda")), 4, shuffle, rng=Generator(2))
    on_cpu = DataLoader((X, Y), 4, shuffle, rng=Generator(2))
    for (x, y), (a, b) in zip(on_gpu, on_cpu, strict=True):
        same(x, a)
        same(y, b)
    x, y = next(iter(DataLoader([(to_device(x, "cuda"), int(y)) for x, y in zip(X, Y, strict=True)], 4)))
    same(x, X[:4])
    with pytest.raises(ValueError, match="prefetch= is for data in the host's memory"):
        DataLoader((X, to_device(Y, "cuda")), prefetch=1)
