"""Module: plain objects that are walked, moved, put into modes; no registration."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Buffer, Chain, Dense, Module, Param


class Residual(Module):
    def __init__(self, f):
        self.f = f

    def __call__(self, x):
        return x + self.f(x)


class Forward(Module):
    def __init__(self):
        self.blocks = [Dense(2, 2), {"a": Dense(2, 2)}]
        self.table = {"x": Param(np.ones(1)), "n": 3}
        self.mean = Buffer(np.zeros(2))
        self.label = "forward"

    def forward(self, x):
        return self.blocks[0](x)


def test_a_class_without_init_call_is_a_complete_layer():
    m = Residual(Dense(3, 3))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(m(x).data, x + m.f(x).data)
    assert [p for p, _ in m.named_parameters()] == ["f.weight", "f.bias"]


def test_forward_is_the_call_too():
    m = Forward()
    assert m(np.ones((1, 2), np.float32)).shape == (1, 2)


def test_walking_finds_attributes_lists_tuples_and_dicts():
    m = Forward()
    assert [p for p, _ in m.named_parameters()] == [
        "blocks.0.weight", "blocks.0.bias", "blocks.1.a.weight", "blocks.1.a.bias", "table.x"]
    assert [p for p, _ in m.named_buffers()] == ["mean"]
    assert len(m.parameters()) == 5
    assert [type(x).__name__ for x in m.modules()] == ["Forward", "Dense", "Dense"]


def test_a_shared_parameter_is_one_parameter():
    d = Dense(2, 2)
    m = Chain(d, Chain(d))
    assert [p for p, _ in m.named_parameters()] == ["0.weight", "0.bias"]
    assert len(list(m.modules())) == 3
    m[0].weight.data[:] = 7
    assert (m[1][0].weight.data == 7).all()


def test_a_model_that_holds_itself_is_walked_once():
    m = Forward()
    m.me = m
    assert len(m.parameters()) == 5
    assert len(m.state_dict()) == 6


def test_modes():
    m = Chain(Dense(2, 2), Residual(Dense(2, 2)))
    layers = list(m.modules())
    assert all(x.active is None for x in layers)
    assert flux.testmode(m) is m
    assert all(x.active is False for x in layers)
    assert flux.testmode(m, False) is m
    assert all(x.active is True for x in layers)
    flux.testmode(m, "auto")
    assert all(x.active is None for x in layers)
    assert flux.trainmode(m) is m
    assert m[1].active is True
    flux.trainmode(m, False)
    assert m[1].active is False
    assert m.train() is m
    assert m[1].f.active is True
    assert m.eval() is m
    assert m[1].f.active is False
    flux.trainmode(m, "auto")
    assert m[0].active is None
    with pytest.raises(ValueError, match="True, False or 'auto', got 'train'"):
        flux.testmode(m, "train")


def test_moving_without_a_device_says_what_is_missing(monkeypatch):
    m = Dense(2, 2)
    assert m.to("cpu") is m
    with pytest.raises(flux.DeviceError, match="unknown device 'tpu'"):
        m.to("tpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(flux.DeviceError, match=r"CuPy is not installed.*minitorch-flux\[gpu\]"):
        m.to("cuda:0")
    with pytest.raises(flux.DeviceError, match="CuPy is not installed"):
        flux.gpu(m)


def test_foreign_keywords_get_our_spelling():
    with pytest.raises(TypeError, match="Dense: `in_features=` is spelled the first argument here"):
        Dense(in_features=3, out_features=4)
    with pytest.raises(AttributeError, match="'Linear': it is spelled Dense here"):
        _ = flux.Linear
    with pytest.raises(AttributeError, match=r"has no 'nonsense'$"):
        _ = flux.nonsense
