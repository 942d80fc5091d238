"""state and loadmodel: the model's structure in plain arrays, and back, all or nothing."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import (
    LSTM,
    BatchNorm,
    Buffer,
    Chain,
    Conv,
    Dense,
    Maxout,
    Module,
    Parallel,
    Param,
    SkipConnection,
    Tensor,
    loadmodel,
    relu,
    state,
    tanh,
)
from minitorch_flux.nn.state_dicts import StateError


def arrays(x):
    """Every array in a nested structure."""
    if isinstance(x, np.ndarray):
        return [x]
    return [a for v in (x.values() if isinstance(x, dict) else x if isinstance(x, list | tuple) else []) for a in arrays(v)]


class Deep(Module):
    def __init__(self):
        self.blocks = [Dense(2, 2), {"a": Dense(2, 2), "b": relu}, (relu, 3)]
        self.scale, self.label, self.mean = Param(np.float32([4])), "deep", Buffer(np.int64([7]))
        self.note = Tensor(np.ones(2))  # a value of the layer's own, not saved

    def __call__(self, x):
        return self.blocks[0](x)


def test_the_structure_is_the_models():
    m = Chain(Dense(1, 2, tanh), relu, Dense(2, 1, bias=False))
    s = state(m)
    assert list(s) == ["layers"]
    first, second, third = s["layers"]
    assert list(first) == ["weight", "bias"]
    assert second == ()
    assert third["bias"] is False
    assert first["weight"].shape == (2, 1)
    assert type(first["weight"]) is np.ndarray
    named = state(Chain(enc=Dense(1, 2), dec=Chain()))
    assert list(named["layers"]) == ["enc", "dec"]
    assert named["layers"]["dec"] == ()
    assert state(Chain()) == state(relu) == ()
    s = state(Deep())
    assert list(s) == ["blocks", "scale", "mean"]
    assert [type(v) for v in s["blocks"]] == [dict, dict, tuple]
    assert s["blocks"][1]["b"] == ()
    assert s["mean"].tolist() == [7]


def test_layers_that_combine_layers():
    s = state(Parallel(flux.add, a=Dense(1, 1), b=SkipConnection(Maxout(Dense(1, 1), relu), flux.add)))
    assert list(s) == ["layers"]
    assert list(s["layers"]["b"]) == ["layer"]
    assert s["layers"]["b"]["layer"]["layers"][1] == ()
    s = state(Parallel(Scaled(), relu))
    assert s["layers"] == ((),)
    assert s["connection"]["w"].tolist() == [1]


class Scaled(Module):
    def __init__(self):
        self.w = Param(np.float32([1]))

    def __call__(self, *xs):
        return self.w * xs[0]


def test_the_arrays_are_copies():
    d = Dense(2, 2)
    m = Chain(d, d)
    s = state(m)
    before = s["layers"][0]["weight"].copy()
    d.weight.data += 1
    np.testing.assert_array_equal(s["layers"][0]["weight"], before)
    assert s["layers"][0]["weight"] is s["layers"][1]["weight"]  # one parameter, one array
    m = LSTM(2, 3)
    m(np.ones((4, 2), np.float32))
    assert [a.shape for a in arrays(state(m))] == [(12, 2), (12, 3), (12,)]  # the running state is no part of it
    assert list(state(BatchNorm(2))) == ["weight", "bias", "running_mean", "running_var"]


MODELS = {
    "chain": lambda: Chain(Dense(3, 4, tanh), relu, Dense(4, 2, bias=False)),
    "named": lambda: Chain(a=Conv((2, 2), 1, 2), b=BatchNorm(2), c=Chain(LSTM(2, 3, num_layers=2, bias=False))),
    "combined": lambda: Parallel(Scaled(), SkipConnection(Dense(3, 3), flux.add), Maxout(lambda: Dense(3, 3), 2)),
    "deep": Deep,
    "list": lambda: [Dense(2, 2), {"x": Dense(1, 1)}],
    "dict": lambda: {"encoder": Dense(2, 2), "scale": Param(np.ones(1))},
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("way", ["state", "model", "state dict"])
def test_a_round_trip(name, way):
    a, b = MODELS[name](), MODELS[name]()
    for i, p in enumerate(flux.autograd.parameters(a)):
        p.data[...] = np.random.default_rng(i).standard_normal(p.shape)
    src = state(a) if way == "state" else a
    if way == "state dict":
        src = flux.nn.state_dicts.state_dict(a)
    elif way == "model" and not isinstance(a, Module):
        src = state(a)
    assert loadmodel(b, src) is b
    for x, y in zip(arrays(state(a)), arrays(state(b)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_copied_not_shared():
    a, b = Dense(2, 2), Dense(2, 2)
    w = b.weight.data
    loadmodel(b, a)
    assert b.weight.data is w
    assert not np.shares_memory(w, a.weight.data)
    version = b.weight.version
    loadmodel(b, state(a))
    assert b.weight.version == version + 1
    loadmodel(a, a)


def test_activations_and_settings_are_not_copied():
    dst, src = Chain(Dense(2, 3, relu), BatchNorm(3, eps=1e-3)), Chain(Dense(2, 3, tanh), BatchNorm(3, eps=1e-5))
    loadmodel(dst, src)
    assert dst[0].activation is relu
    assert dst[1].eps == 1e-3
    np.testing.assert_array_equal(dst[0].weight.data, src[0].weight.data)


def test_a_bias_left_out_loads_as_zeros_and_zeros_load_into_none():
    dst, src = Dense(2, 3), Dense(2, 3, bias=False)
    for wrap in (lambda m: m, state):
        dst.bias.data[:] = 5
        loadmodel(dst, wrap(src))
        assert not dst.bias.data.any()
        np.testing.assert_array_equal(dst.weight.data, src.weight.data)
        loadmodel(src, wrap(dst))
        assert src.bias is None
    dst.bias.data[1] = 2
    before = src.weight.numpy().copy()
    dst.weight.data += 1
    for wrap in (lambda m: m, state):
        with pytest.raises(StateError, match="bias: is not zero, the model has none"):
            loadmodel(src, wrap(dst))
    np.testing.assert_array_equal(src.weight.data, before)
    rnn = LSTM(2, 3)
    loadmodel(rnn, LSTM(2, 3, bias=False))
    assert not rnn.bias_ih_l0.data.any()
    with pytest.raises(StateError, match="bias: True, the model has an array of shape"):
        loadmodel(dst, {"weight": np.ones((3, 2)), "bias": True})


@pytest.mark.parametrize(("src", "text"), [
    (Chain(Dense(2, 3)), "layers: 1 parts, the model has 2"),
    (Chain(a=Dense(2, 3), b=Dense(3, 1)), "layers: a dict of a, b, the model has 2 parts there"),
    (Chain(Dense(2, 4), Dense(4, 1)), r"layers\.0\.weight: shape \(4, 2\), the model has \(3, 2\)\n"
                                      r"  layers\.0\.bias: shape \(4,\), the model has \(3,\)\n"
                                      r"  layers\.1\.weight: shape \(1, 4\), the model has \(1, 3\)$"),
    (Chain(relu, Dense(3, 1)), r"layers\.0: nothing, the model has a dict of weight, bias there"),
    (Chain(Dense(2, 3), BatchNorm(1)), r"layers\.1\.weight: shape \(1,\), the model has \(1, 3\)\n"
                                       r"  layers\.1\.running_mean: an array of shape \(1,\), the model has nothing there"),
    (Dense(2, 3), "layers: nothing, the model has 2 parts there\n  weight: an array of shape"),
    ({"layers": 3}, "layers: 3, the model has 2 parts there"),
    ({"layers": ({"weight": None}, ())}, r"layers\.0\.weight: nothing, the model has an array of shape \(3, 2\) there"),
    ({"layers": ({"weight": "text", "bias": {}}, ())}, r"layers\.0\.bias: a dict of nothing, the model has an array"),
    ({"layers": ({"weight": "text", "bias": np.ones(3)}, ())}, r"layers\.0\.weight: str is no array"),
    ([1, 2], "the model: 2 parts, the model has a dict of layers there"),
    ({}, "layers: nothing, the model has 2 parts there"),
    ((), "the model: nothing, the model has a dict of layers there"),
    ({"0.weight": np.ones((3, 2)), "2.weight": np.ones(1)}, r"0\.bias: missing\n.*\n.*\n  2\.weight: unexpected$"),
])
def test_what_does_not_fit_is_listed_and_changes_nothing(src, text):
    m = Chain(Dense(2, 3), Dense(3, 1))
    before = m.state_dict()
    with pytest.raises(StateError, match=rf"^the state dict does not fit the model, nothing was loaded:\n(.*\n)*  {text}"):
        loadmodel(m, src)
    for key, a in m.state_dict().items():
        np.testing.assert_array_equal(a, before[key])


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"src is a model, what flux\.state gave, or a state dict, got str; for a file write "
                                        r"flux\.load\(path, dst\)"):
        loadmodel(Dense(1, 1), "weights.npz")
    with pytest.raises(TypeError, match="dst is a model, got int"):
        loadmodel(3, Dense(1, 1))


def test_a_shared_parameter_needs_one_value():
    d = Dense(2, 2)
    tied = Chain(d, d)
    src = Chain(Dense(2, 2), Dense(2, 2))
    before = d.weight.numpy().copy()
    with pytest.raises(StateError, match=r"layers\.1\.weight: differs from layers\.0\.weight, but both are one shared "):
        loadmodel(tied, src)
    np.testing.assert_array_equal(d.weight.data, before)
    src[1].weight = src[0].weight
    loadmodel(tied, src)
    np.testing.assert_array_equal(d.weight.data, src[0].weight.data)
    loadmodel(src, tied)


def test_a_model_that_knows_itself():
    m = Deep()
    m.parent = m
    s = state(m)
    assert "parent" not in s
    loadmodel(Deep(), s)
    loadmodel(m, s)


def test_other_dtypes_and_values_are_converted():
    m = Dense(2, 2)
    s = state(m)
    loadmodel(m, {"weight": s["weight"].astype(np.float64) + 1, "bias": [1, 2]})
    assert m.weight.dtype == np.float32
    assert m.bias.tolist() == [1, 2]
    loadmodel(m, {"weight": Tensor(s["weight"]), "bias": Param(s["bias"])})
    np.testing.assert_array_equal(m.weight.data, s["weight"])
    with pytest.raises(StateError, match="weight: dtype complex64"):
        loadmodel(m, {"weight": s["weight"] * 1j, "bias": s["bias"]})
    torch = pytest.importorskip("torch")
    loadmodel(m, dict(torch.nn.Linear(2, 2).named_parameters()))


def test_the_state_survives_as_plain_data():
    m = Chain(Dense(2, 3), relu, Dense(3, 1, bias=False))
    listed = json.loads(json.dumps(state(m), default=lambda a: a.tolist()))  # tuples are lists, arrays are lists
    other = loadmodel(Chain(Dense(2, 3), relu, Dense(3, 1, bias=False)), listed)
    np.testing.assert_array_equal(other[0].weight.data, m[0].weight.data)


def test_state_of_an_open_size():
    with pytest.raises(ValueError, match=r"Dense\(None, 3\) does not know its size yet"):
        state(Chain(Dense(None, 3)))
    m = Chain(Dense(None, 3), Dense(None, 1))
    with pytest.raises(StateError, match=r"layers\.0: missing, nothing tells its size"):
        loadmodel(m, {"layers": ((), {"weight": np.ones((1, 3)), "bias": np.ones(1)})})
    assert "None" in repr(m[1])
    loadmodel(m, Chain(Dense(2, 3, bias=False), Dense(3, 1)))
    assert m[0].in_ == 2
    assert not m[0].bias.data.any()


def nested(depth):
    """Random models of Dense(2, 2)."""
    leaf = st.builds(lambda bias: Dense(2, 2, bias=bias), st.booleans())
    if not depth:
        return leaf
    inner = st.lists(st.one_of(leaf, st.just(relu), nested(depth - 1)), min_size=1, max_size=3)
    return st.one_of(
        inner.map(lambda ls: Chain(*ls)),
        inner.map(lambda ls: Chain(**{f"n{i}": v for i, v in enumerate(ls)})),
        inner.map(lambda ls: Parallel(tuple, *ls)),
        inner.map(lambda ls: SkipConnection(ls[0], flux.add)),
        inner.map(lambda ls: Maxout(*ls)),
    )


@given(nested(2))
def test_any_nest_of_layers_comes_back(m):
    other = copy.deepcopy(m)
    for p in m.parameters():
        p.data += 1
    loadmodel(other, state(m))
    for key, a in m.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], a)
    again = copy.deepcopy(m)
    for p in again.parameters():
        p.data *= 0
    loadmodel(again, m)
    assert arrays(state(again)) == [] or all(np.array_equal(a, b) for a, b in zip(arrays(state(again)), arrays(state(m)),
                                                                                  strict=True))
