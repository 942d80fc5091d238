"""Where arrays live and what counts as one."""

import sys
import types

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.backend import (
    DeviceError,
    address_of,
    array_module,
    as_array,
    device_of,
    find_cupy,
    is_array,
    is_view,
    parse_device,
    read_only,
    to_device,
)
from minitorch_flux.backend.arrays import same_device


class GpuArray:
    """What the backend sees of a CuPy array."""

    def __init__(self, shape=(2,), device=0):
        self.shape, self.dtype = shape, np.dtype(np.float32)
        self.device = types.SimpleNamespace(id=device)
        self.data = types.SimpleNamespace(ptr=4096)

    def get(self):
        return np.zeros(self.shape, self.dtype)


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy with one device."""
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=OSError)
    module = types.ModuleType("cupy")
    module.ndarray, module.__version__ = GpuArray, "14.0"
    module.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    return module


def test_arrays_of_the_cpu():
    a = np.ones(3)
    assert array_module() is array_module(a, 3, None, [1]) is np
    assert is_array(a)
    assert not any(is_array(x) for x in (1.0, [1], np.float64(1), flux.Tensor(a), None))
    assert device_of(a) == "cpu"
    assert address_of(a) == a.ctypes.data
    assert to_device(a, "cpu") is a


def test_arrays_of_a_gpu(cupy):
    g = GpuArray()
    assert array_module(np.ones(1), g) is cupy
    assert array_module(np.ones(1)) is np
    assert is_array(g)
    assert device_of(g) == "cuda:0"
    assert address_of(g) == 4096
    assert to_device(g, "cuda") is to_device(g, "cuda:0") is g
    assert type(to_device(g, "cpu")) is np.ndarray
    assert read_only(g) is g
    assert find_cupy() is cupy
    with pytest.raises(DeviceError, match=r"device 'cuda:3': this machine has 1 CUDA device\(s\), numbered from 0"):
        to_device(np.ones(1), "cuda:3")


def test_arrays_on_different_devices_are_named(cupy):
    same_device("f", (np.ones(1), 3, np.ones(2)))
    same_device("f", (GpuArray(), None, GpuArray()))
    with pytest.raises(DeviceError, match=r"f: argument 0 \(shape \(1,\)\) is on cpu but argument 2 \(shape \(2,\)\) is on "
                                          r"cuda:0; move one with flux\.gpu\(\.\.\.\) or flux\.cpu"):
        same_device("f", (np.ones(1), 3, GpuArray()))
    with pytest.raises(DeviceError, match=r"argument 0 .* is on cuda:0 but argument 1 .* is on cuda:1"):
        same_device("f", (GpuArray(), GpuArray(device=1)))


def test_a_cupy_that_another_thread_is_still_importing_is_not_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    a = np.ones(2)
    assert array_module(a) is np
    assert is_array(a)
    assert (flux.Tensor(a) + 1.0).tolist() == [2, 2]


def test_missing_pieces_are_named(cupy, monkeypatch):
    def no_driver():
        raise OSError("no driver")

    cupy.cuda.runtime.getDeviceCount = no_driver
    with pytest.raises(DeviceError, match=r"CuPy 14\.0 is installed but finds no usable CUDA device \(no driver\).*nvidia-smi"):
        find_cupy()
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(DeviceError, match="this machine has no CUDA device"):
        find_cupy()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"CuPy is not installed; install it with: pip install 'minitorch-flux\[gpu\]'"):
        find_cupy()


def test_device_names():
    assert parse_device("cpu") is None
    assert [parse_device(d) for d in ("cuda", "gpu", "cuda:0", "cuda:12", "gpu:1")] == [0, 0, 0, 12, 1]
    for wrong in ("tpu", "cuda:", "cuda:x", "cpu:0", "", "cuda:-1", 0):
        with pytest.raises(DeviceError, match="unknown device .*use 'cpu', 'cuda' or 'cuda:N'"):
            parse_device(wrong)


def test_as_array_converts_numbers_only():
    a = np.ones(3)
    assert as_array(a) is a
    assert as_array([1, 2.5]).tolist() == [1, 2.5]
    assert as_array(True).dtype == np.bool_
    assert as_array(1j).dtype == np.complex128  # refused by the ops, in their own name
    for wrong in ("a", None, object(), ["a"], {1}):
        with pytest.raises(TypeError, match=f"cannot make an array of {type(wrong).__name__}"):
            as_array(wrong)
    with pytest.raises(TypeError, match=r"an array of dtype object \(shape \(2,\)\) does not hold numbers"):
        as_array(np.array([1, None]))
    with pytest.raises(ValueError, match="inhomogeneous"):
        as_array([[1, 2], [3]])
    swapped = np.arange(3, dtype=">i4")
    assert as_array(swapped).dtype.isnative
    assert as_array(swapped).tolist() == [0, 1, 2]
    assert as_array(np.ones(2, np.longdouble)).dtype == np.longdouble


def test_is_view_tells_views_from_copies():
    owner = np.arange(12.0).reshape(3, 4)  # itself a view
    for a in (owner, owner.copy(), owner[1:], owner.T, np.asarray(memoryview(np.ones((3, 4))))):
        for view in (a, a[:1], a.T, a[None], a[...], np.broadcast_to(a, (2, *a.shape)), a.view()):
            assert is_view(view, a)
            assert np.shares_memory(view, a)
        for made in (a.copy(), a + 0, a[[0]], a.astype(np.float32), np.stack([a])[0]):
            assert not is_view(made, a)
    assert not is_view(owner.T.reshape(-1), owner)
    assert is_view(owner.reshape(-1), owner)


def test_read_only_views():
    a = np.ones(2)
    r = read_only(a)
    with pytest.raises(ValueError, match="read-only"):
        r[0] = 2
    a[0] = 3
    assert r[0] == 3
