"""gpu, cpu and .to without a device: what is moved, what is shared, and the errors. A stand-in plays the GPU."""

import sys
import types
from typing import NamedTuple

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Buffer, Chain, Dense, DeviceError, Module, Param, Tensor
from minitorch_flux.backend import arrays


class GpuArray(np.ndarray):
    """A NumPy array that says it lives on a GPU."""

    device = types.SimpleNamespace(id=0)

    def get(self):
        return np.array(self)


@pytest.fixture
def gpu(monkeypatch):
    """Replaces what the backend knows of devices: arrays of the class above are on cuda:0."""
    class Device:
        def __init__(self, index):
            pass

        __enter__ = __exit__ = lambda self, *error: None

    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(
        Device=Device, runtime=types.SimpleNamespace(getDeviceCount=lambda: 1)), asarray=lambda a: np.array(a).view(GpuArray))
    on_gpu = lambda x: isinstance(x, GpuArray)  # noqa: E731

    def to_device(x, device):
        if arrays.parse_device(device) is None:
            return x.get() if on_gpu(x) else x
        return x if on_gpu(x) else cupy.asarray(x)

    for name in ("minitorch_flux.nn.moving", "minitorch_flux.nn.module", "minitorch_flux.ops.transfers"):
        module = sys.modules[name]
        for attribute, value in {"to_device": to_device, "find_cupy": lambda: cupy,
                                 "device_of": lambda x: "cuda:0" if on_gpu(x) else "cpu"}.items():
            if hasattr(module, attribute):
                monkeypatch.setattr(module, attribute, value)
    for name in ("tensors", "operations", "walk"):  # which would make plain arrays of a subclass
        monkeypatch.setattr(f"minitorch_flux.autograd.{name}.as_array", lambda x, like=None: x)
    return on_gpu


class Pair(NamedTuple):
    a: object
    b: object


def test_arrays_and_nested_values(gpu):
    a = np.ones(2)
    assert gpu(flux.gpu(a))
    moved = flux.gpu({"x": [a, (a, 3)], "p": Pair(a, "text"), "f": flux.relu, "class": Dense})
    assert gpu(moved["x"][0])
    assert gpu(moved["x"][1][0])
    assert isinstance(moved["p"], Pair)
    assert gpu(moved["p"].a)
    assert (moved["x"][1][1], moved["p"].b, moved["f"], moved["class"]) == (3, "text", flux.relu, Dense)
    assert not gpu(flux.cpu(moved)["x"][0])
    assert flux.cpu(a) is a
    g = flux.gpu(a)
    assert flux.gpu(g) is g


def test_a_tensor_stays_where_it_is_and_gradients_travel_back(gpu):
    t = Tensor(np.ones(2))
    assert flux.cpu(t) is t
    x = flux.tensor(np.ones(2), requires_grad=True)
    y = flux.gpu(x, "cuda")
    assert gpu(y.data)
    assert flux.gpu(y, "cuda") is flux.gpu(y) is flux.gpu(y, "gpu:0") is y
    y.backward(np.array([3.0, 4.0]).view(GpuArray))
    assert not gpu(x.grad)
    assert x.grad.tolist() == [3, 4]


def test_models_are_copied_by_gpu_and_moved_by_to(gpu):
    m = Chain(Dense(2, 2), Dense(2, 2))
    m[1].weight = m[0].weight
    m[0].mean = Buffer(np.zeros(2))
    moved = flux.gpu(m)
    assert moved is not m
    assert moved[0].weight is moved[1].weight
    assert all(gpu(t.data) for t in (moved[0].weight, moved[0].bias, moved[0].mean))
    assert not gpu(m[0].weight.data)
    w, version = m[0].weight, m[0].weight.version
    w.grad = np.ones((2, 2))
    assert m.to("cuda:0") is m
    assert m[0].weight is w
    assert gpu(w.data)
    assert w.version == version + 1
    assert w.grad is None
    m.to("cuda")  # there already: nothing happens
    assert w.version == version + 1


def test_models_that_share_layers_share_their_copies(gpu):
    d = Dense(2, 2)
    a, b = flux.gpu((Chain(d), Chain(d, flux.relu)))
    assert a[0] is b[0]
    assert gpu(a[0].weight.data)


def test_a_failed_move_changes_nothing(monkeypatch):
    class Two(Module):
        def __init__(self):
            self.a, self.b = Param(np.ones(2)), Param(np.ones(3))

    m = Two()
    before = m.a.data, m.b.data

    def fail(x, device):
        if x.shape == (3,):
            raise DeviceError("out of memory")
        return x.copy()

    monkeypatch.setattr("minitorch_flux.nn.module.to_device", fail)
    with pytest.raises(DeviceError):
        m.to("cuda:0")
    assert m.a.data is before[0]
    assert m.a.version == 0


def test_unknown_devices_are_named():
    for f in (Dense(1, 1).to, lambda d: flux.cpu(np.ones(1)) if d is None else Dense(1, 1).to(d)):
        with pytest.raises(DeviceError, match="unknown device 'tpu': use 'cpu', 'cuda' or 'cuda:N'"):
            f("tpu")
