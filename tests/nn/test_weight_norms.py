"""WeightNorm: PyTorch's parametrisation and the formula as oracles; the layer around it stays what it is."""

import copy
import pickle
import threading

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import LSTM, Bilinear, Chain, Conv, ConvTranspose, Dense, LayerNorm, Param, WeightNorm, relu, tanh
from minitorch_flux.nn import weight_norms
from tests.oracles import normal


def filled(layer, seed=0):
    """The layer in float64 with random parameters."""
    for i, (_, p) in enumerate(layer.named_parameters()):
        p.data = normal(*p.shape, seed=seed + i)
    return layer


def formula(g, v, axis):
    axes = tuple(i for i in range(v.ndim) if i != axis)
    return v * (g / np.sqrt((v**2).sum(axis=axes, keepdims=True).reshape(g.shape)))


# -- values and gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize(("make", "kind", "sizes", "shape"), [
    (lambda: Dense(3, 4), "Linear", (3, 4), (5, 3)),
    (lambda: Conv((3, 2), 2, 4, stride=2, pad=1), "Conv2d", (2, 4, (3, 2), 2, 1), (2, 2, 5, 4)),
    (lambda: ConvTranspose((2,), 2, 3), "ConvTranspose1d", (2, 3, 2), (2, 2, 4)),
])  # fmt: skip
def test_it_is_pytorchs_weight_norm(make, kind, sizes, shape, axis):
    torch = pytest.importorskip("torch")
    layer = filled(WeightNorm(make(), axis=axis))
    theirs = torch.nn.utils.parametrizations.weight_norm(getattr(torch.nn, kind)(*sizes, dtype=torch.float64), dim=axis)
    state = layer.state_dict()
    assert list(state) == ["weight_g", "weight_v", "bias"]
    parts = theirs.parametrizations.weight
    assert parts.original0.shape == state["weight_g"].shape
    theirs.load_state_dict({"parametrizations.weight.original0": torch.tensor(state["weight_g"]),
                            "parametrizations.weight.original1": torch.tensor(state["weight_v"]),
                            "bias": torch.tensor(state["bias"])})  # fmt: skip
    x = normal(*shape)
    t = torch.tensor(x, requires_grad=True)
    y = theirs(t)
    dy = normal(*y.shape, seed=3)
    (y * torch.tensor(dy)).sum().backward()
    np.testing.assert_allclose(layer(x).data, y.detach().numpy(), rtol=1e-9, atol=1e-11)
    grads, dx = flux.gradient(lambda m, x: (m(x) * dy).sum(), layer, x)
    pairs = (dx, t), (grads.weight_g, parts.original0), (grads.weight_v, parts.original1), (grads.bias, theirs.bias)
    for got, wanted in pairs:
        np.testing.assert_allclose(got, wanted.grad.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("layer", "shape"), [
    (WeightNorm(Dense(3, 4, tanh)), (2, 3)),
    (WeightNorm(Dense(3, 4, tanh, bias=False), axis=1), (2, 3)),
    (WeightNorm(Conv((2, 3), 2, 3), axis=None), (1, 2, 3, 4)),
    (WeightNorm(LayerNorm(4)), (2, 4)),
    (WeightNorm(Bilinear((3, 3), 2), axis=-1), (2, 3)),
    (WeightNorm(Dense(3, 4), "bias", axis=None), (2, 3)),
    (WeightNorm(LSTM(3, 2), "weight_hh_l0"), (3, 1, 3)),
    (WeightNorm(WeightNorm(LSTM(3, 2), "weight_ih_l0"), "weight_hh_l0", axis=None), (3, 1, 3)),
], ids=lambda v: repr(v).split("  #")[0])  # fmt: skip
def test_gradients_of_both_orders(layer, shape):
    flux.check(layer, normal(*shape))


@pytest.mark.parametrize("axis", [0, 1, None])
def test_it_starts_at_the_weight_of_the_layer(axis):
    layer = Dense(3, 4)
    normed = WeightNorm(layer, axis=axis)
    assert normed.weight_g.shape == {0: (4, 1), 1: (1, 3), None: ()}[axis]
    np.testing.assert_array_equal(normed.weight_v.data, layer.weight.data)
    np.testing.assert_allclose(normed.weight.data, layer.weight.data, rtol=1e-6)
    x = normal(5, 3)
    np.testing.assert_allclose(normed(x).data, layer(x).data, rtol=1e-5, atol=1e-6)


def test_the_weight_follows_the_formula():
    normed = filled(WeightNorm(Conv((3,), 2, 4)))
    np.testing.assert_allclose(normed.weight.data, formula(normed.weight_g.data, normed.weight_v.data, 0), rtol=1e-12)
    lengths = np.sqrt((normed.weight.data**2).sum(axis=(1, 2)))
    np.testing.assert_allclose(lengths, np.abs(normed.weight_g.data).ravel(), rtol=1e-12)


def test_where_v_is_0_so_are_the_weight_and_its_derivatives():
    normed = WeightNorm(Dense(2, 3))
    normed.weight_v.data[1] = 0
    normed.weight_g.data[:] = 2
    assert normed.weight.data[1].tolist() == [0, 0]
    grads = flux.gradient(lambda m: (m(np.ones((4, 2))) ** 2).sum(), normed)
    assert np.isfinite(grads.weight_v).all()
    assert grads.weight_v[1].tolist() == [0, 0]
    assert grads.weight_g[1] == 0


# -- it is the layer ---------------------------------------------------------------------------------------------------


def test_it_has_all_that_the_layer_has():
    normed = WeightNorm(Conv((3, 3), 2, 4, relu, stride=2))
    assert isinstance(normed, WeightNorm)
    assert isinstance(normed, Conv)
    assert (normed.stride, normed.kernel, normed.activation) == (2, (3, 3), relu)
    assert [n for n, _ in normed.named_parameters()] == ["weight_g", "weight_v", "bias"]
    grads = flux.gradient(lambda m: m(normal(1, 2, 5, 5)).sum(), normed)
    assert repr(grads) == "Gradients(weight_g=<(4, 1, 1, 1) float32>, weight_v=<(4, 2, 3, 3) float32>, bias=<(4,) float32>)"
    with pytest.raises(AttributeError):
        normed.weight = 3


def test_the_layer_given_stays_as_it_was():
    layer = Dense(3, 4)
    before, weight = layer.weight.data.copy(), layer.weight
    normed = WeightNorm(layer)
    opt = flux.setup(flux.Descent(0.1), normed)
    flux.update(opt, normed, flux.gradient(lambda m: (m(np.ones((2, 3))) ** 2).sum(), normed))
    assert layer.weight is weight
    np.testing.assert_array_equal(layer.weight.data, before)
    assert normed.bias is layer.bias
    assert type(layer) is Dense


def test_remove_gives_the_plain_layer():
    normed = filled(WeightNorm(Dense(3, 4, tanh)))
    plain, x = normed.remove(), normal(5, 3)
    assert type(plain) is Dense
    assert isinstance(plain.weight, Param)
    assert list(plain.state_dict()) == ["weight", "bias"]
    assert plain.bias is normed.bias
    np.testing.assert_array_equal(plain(x).data, normed(x).data)
    assert repr(plain) == "Dense(3, 4, tanh)  # 16 parameters"
    both = WeightNorm(WeightNorm(LSTM(3, 2), "weight_ih_l0"), "weight_hh_l0")
    assert repr(both.remove()).startswith("WeightNorm(LSTM(3, 2), name='weight_ih_l0')")
    assert type(both.remove().remove()) is LSTM


def test_modes_and_states_are_its_own():
    normed = WeightNorm(LSTM(3, 2), "weight_hh_l0")
    flux.testmode(normed)
    assert normed.active is False
    assert normed.remove().active is False
    x = normal(1, 3, dtype=np.float32)
    first, second = normed(x).data, normed(x).data
    assert not np.array_equal(first, second)
    flux.reset(normed)
    np.testing.assert_array_equal(normed(x).data, first)


def test_in_a_model():
    flux.seed(1)
    model = Chain(WeightNorm(Dense(3, 8, relu)), WeightNorm(Dense(8, 1)))
    assert repr(model).splitlines()[1].strip().startswith("WeightNorm(Dense(3, 8, relu)),  # 40 parameters")
    assert list(model.state_dict())[:3] == ["0.weight_g", "0.weight_v", "0.bias"]
    assert flux.outputsize(model, (5, 3)) == (5, 1)
    other = Chain(WeightNorm(Dense(3, 8, relu)), WeightNorm(Dense(8, 1)))
    other.load_state_dict(model.state_dict())
    x, opt = normal(16, 3, dtype=np.float32), flux.setup(flux.Adam(1e-2), model)
    np.testing.assert_array_equal(model(x).data, other(x).data)
    loss = lambda m: ((m(x) - x.sum(1, keepdims=True)) ** 2).mean()  # noqa: E731
    before = loss(model).item()
    for _ in range(40):
        flux.update(opt, model, flux.gradient(loss, model))
    assert loss(model).item() < before / 2
    with pytest.raises(ValueError, match=r"Chain\[0\] WeightNorm\(Dense\(3, 8, relu\)\): the input has 4 features, expected 3"):
        model(np.zeros((2, 4)))


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles(copied):
    for normed, x in ((WeightNorm(Dense(3, 4), axis=1), normal(2, 3)),
                      (WeightNorm(WeightNorm(LSTM(3, 2), "weight_ih_l0"), "weight_hh_l0"), normal(4, 1, 3))):  # fmt: skip
        other = copied(normed)
        assert type(other) is type(normed)
        np.testing.assert_array_equal(other(x).data, normed(x).data)
        assert repr(other) == repr(normed)


@pytest.mark.parametrize("text", [
    "WeightNorm(Dense(3, 4))", "WeightNorm(Conv((3,), 2, 4, relu, pad=1), axis=None)", "WeightNorm(Dense(3, 4), axis=1)",
    "WeightNorm(LSTM(3, 4), name='weight_hh_l0')",
])  # fmt: skip
def test_it_prints_as_the_call_that_rebuilds_it(text):
    assert repr(eval(text, vars(flux).copy())).split("  #")[0] == text


# -- what happens during a call ----------------------------------------------------------------------------------------


class Asks(flux.Module):
    """A layer that looks at its weight three times, calls itself, and fails for negative inputs."""

    def __init__(self):
        self.weight = Param(normal(2, 2))
        self.seen = []

    def __call__(self, x, again=True):
        self.seen += [self.weight, self.weight, self.weight]
        if again:
            self(x, again=False)
        if x < 0:
            raise ArithmeticError("negative")
        return self.weight * x


def test_the_weight_is_computed_once_in_a_call():
    normed = WeightNorm(Asks())
    normed(2.0)
    assert len({id(w) for w in normed.seen}) == 1
    assert normed.weight is not normed.weight


def test_an_exception_leaves_nothing_behind():
    normed = WeightNorm(Asks())
    with pytest.raises(ArithmeticError):
        normed(-1.0)
    assert weight_norms._computed.of == {}
    before = normed.weight.data
    normed.weight_g.data *= 2
    np.testing.assert_allclose(normed(1.0).data, before * 2)


def test_threads_do_not_see_each_others_weights():
    normed = WeightNorm(Dense(3, 4))
    x = normal(2, 3, dtype=np.float32)
    start, failed = threading.Barrier(2), []

    def train():
        start.wait()
        for _ in range(50):
            grads = flux.gradient(lambda m: (m(x) ** 2).sum(), normed)
            if grads is None or grads.weight_g is None:
                failed.append("no gradient")

    def evaluate():
        start.wait()
        for _ in range(50):
            if normed(x).node is not None:
                failed.append("recorded")

    threads = [threading.Thread(target=f) for f in (train, evaluate)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


def test_a_frozen_weight_stays_frozen():
    layer = Dense(3, 4)
    layer.weight.requires_grad = False
    normed = WeightNorm(layer)
    assert normed.weight_g.track == normed.weight_v.track == normed.remove().weight.track == 0


def test_errors():
    with pytest.raises(TypeError, match=r"WeightNorm\(layer\): a layer comes first, got a function"):
        WeightNorm(lambda x: x)
    with pytest.raises(TypeError, match=r"WeightNorm: Dense\(3, 4\) has no parameter 'kernel' of its own; it has weight, bias"):
        WeightNorm(Dense(3, 4), "kernel")
    with pytest.raises(TypeError, match="has no parameter 'weight' of its own; it has none"):
        WeightNorm(Chain(Dense(3, 4)))
    with pytest.raises(TypeError, match=r"Dense\(None, 4\) has no parameter 'weight' .*it has none; its size is open"):
        WeightNorm(Dense(None, 4))
    with pytest.raises(IndexError, match=r"WeightNorm: there is no axis 2 in an array of shape \(4, 3\)"):
        WeightNorm(Dense(3, 4), axis=2)
    with pytest.raises(TypeError, match=r"WeightNorm: `dim=` is spelled `axis=` here"):
        WeightNorm(Dense(3, 4), dim=0)
