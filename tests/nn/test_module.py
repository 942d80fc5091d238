"""Module: plain objects that are walked, moved, put into modes; no registration."""

import copy

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Buffer, Chain, Dense, Module, Param, Tensor


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


def test_a_call_of_the_users_own_is_kept():
    class Twice(Module):
        def __call__(self, x):
            return self.forward(x) * 2

    class Plus(Twice):
        def forward(self, x):
            return x + 1

    class Base(Module):
        def forward(self, x):
            return x

    class Other(Base):
        def forward(self, x):
            return x - 1

    class Both(Module):
        def forward(self, x):
            return x

        def __call__(self, x):
            return self.forward(x) * 3

    assert Plus()(1) == 4
    assert Other()(1) == 0
    assert Both()(1) == 3
    with pytest.raises(TypeError, match="not callable"):
        Module()()


def test_keyword_arguments_of_the_users_own_layers_are_theirs():
    class Attention(Module):
        def __init__(self, dim, num_heads=2):
            self.dim, self.num_heads = dim, num_heads

    class Any(Module):
        def __init__(self, **options):
            self.options = options

    assert Attention(dim=3, num_heads=4).num_heads == 4
    assert Any(dims=2, padding=1).options == {"dims": 2, "padding": 1}
    assert list(Chain(generator=Dense(2, 2), discriminator=Dense(2, 1)).state_dict())[0] == "generator.weight"
    with pytest.raises(TypeError, match="Attention: `dims=` is spelled `axis=` here"):
        Attention(dims=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        Attention(size=3)


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


def test_containers_that_hold_themselves_are_walked_once():
    m, block = Forward(), [Dense(2, 2)]
    m.blocks = [block, block, {"again": block}]
    assert len(list(m.modules())) == 2
    assert len(m.parameters()) == 3
    assert [p for p, _ in m.named_parameters()] == ["blocks.0.0.weight", "blocks.0.0.bias", "table.x"]


def test_values_that_a_layer_keeps_are_neither_saved_nor_moved():
    m = Residual(Dense(2, 2))
    x = flux.tensor(np.ones((1, 2)), requires_grad=True)
    m.last, m.constant = m(x), Tensor(np.ones(2))
    assert m.to("cpu") is m
    assert m.last.node is not None
    assert list(m.state_dict()) == ["f.weight", "f.bias"]
    m.scale = flux.tensor(np.ones(1), requires_grad=True)  # it trains, so it is saved
    assert list(m.state_dict()) == ["f.weight", "f.bias", "scale"]


def test_models_are_copied_with_what_they_share():
    d = Dense(2, 2)
    m = Chain(d, Chain(d))
    flux.freeze(d.bias)
    for other in (copy.deepcopy(m), flux.cpu(m)):
        assert other[0] is other[1][0]
        assert other[0] is not d
        assert other[0].bias.track == 0
        other[0].weight.data[:] = 7
        assert not (d.weight.data == 7).any()
    a, b = flux.cpu([m, Chain(d)])
    assert a[0] is b[0]
    assert copy.copy(m)[0] is d


def test_zero_grad_forgets_stored_gradients():
    m = Chain(Dense(2, 2), Dense(2, 2))
    with flux.record():
        loss = m(np.ones((1, 2), np.float32)).sum()
    loss.backward()
    assert all(p.grad is not None for p in m.parameters())
    assert flux.zero_grad(m) is m
    assert all(p.grad is None for p in m.parameters())
    w = Param(np.ones(1))
    w.grad = np.ones(1)
    flux.zero_grad([{"w": w}])
    assert w.grad is None


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


def test_modes_belong_to_each_layer():
    m = Chain(Dense(2, 2), Dense(2, 2))
    flux.testmode(m[0])
    flux.trainmode(m[1])
    assert [layer.active for layer in m] == [False, True]
    assert m.active is None
    assert flux.testmode([m[0], {"x": m[1]}], "auto")[0].active is None
    assert m[1].active is None
    assert flux.testmode(flux.relu) is flux.relu


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
