"""Chain: the identities of the Flux page, indexing, slicing, names, and the path in errors."""

import inspect

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, Tensor, relu


def test_chain_multiple_functions_called_in_sequence_m_5_is_26():
    m = Chain(lambda x: x**2, lambda x: x + 1)
    assert m(5) == 26
    assert type(m(5)) is int


def test_m_x_is_m1_of_m0_of_x():
    m = Chain(Dense(10, 5), Dense(5, 2))
    x = np.random.default_rng(0).random(10, np.float32)
    np.testing.assert_array_equal(m(x).data, m[1](m[0](x)).data)
    assert m(x).shape == (2,)


def test_indexing_and_slicing_m_1_or_m_up_to_the_last():
    m = Chain(Dense(10, 5), Dense(5, 2))
    assert m[1] is m.layers[1]
    assert list(m[:-1]) == [m[0]]
    assert isinstance(m[:-1], Chain)


def test_m_0_to_3_of_x_is_the_output_of_the_first_three_layers():
    m = Chain(Dense(4, 3, relu), Dense(3, 2), relu, Dense(2, 5))
    x = np.ones((6, 4), np.float32)
    np.testing.assert_array_equal(m[0:3](x).data, m[2](m[1](m[0](x))).data)
    np.testing.assert_array_equal(m[0:3](x).data, flux.activations(m, x)[2].data)


def test_the_output_of_the_first_layers():
    m = Chain(Dense(4, 3, relu), Dense(3, 2), Dense(2, 5))
    x = np.ones((6, 4), np.float32)
    np.testing.assert_array_equal(m[0:2](x).data, m[1](m[0](x)).data)
    assert m[:-1](x).shape == (6, 2)
    outputs = flux.activations(m, x)
    assert [y.shape for y in outputs] == [(6, 3), (6, 2), (6, 5)]
    assert flux.activations(Chain(), x) == []
    with pytest.raises(TypeError, match="activations takes a Chain, got Parallel"):
        flux.activations(flux.Parallel(flux.add, relu, relu), x)


def test_indexing_shares_layers():
    m = Chain(Dense(2, 2), relu, Dense(2, 2))
    assert m[0] is m.layers[0]
    assert m[-1] is m[2]
    assert isinstance(m[1:], Chain)
    assert m[1:][1] is m[2]
    assert list(m[[2, 0]]) == [m[2], m[0]]
    assert list(m[[True, False, True]]) == [m[0], m[2]]
    assert list(m[np.array([False, True, False])]) == [relu]
    assert list(m[np.array([1, -1])]) == [relu, m[2]]
    assert len(m) == 3
    assert m[np.int64(1)] is m[Tensor(np.array(1))] is relu
    assert list(m[[np.True_, np.False_, np.False_]]) == [m[0]]
    assert list(m[()]) == list(m[[]]) == []
    assert list(m[::-2]) == [m[2], m[0]]
    with pytest.raises(IndexError, match="mask of 2 for 3 layers"):
        m[[True, False]]
    for wrong in (3, -4, [5]):
        with pytest.raises(IndexError, match=r"Chain has 3 layers, there is none at (3|-4|5)"):
            m[wrong]
    for wrong in (1.0, [0.5], np.array([0.5])):
        with pytest.raises(TypeError, match="integer"):
            m[wrong]
    with pytest.raises(KeyError, match=r"no layer called 'enc'; it has \[\]"):
        m["enc"]


def test_named_layers():
    m = Chain(enc=Dense(4, 3), dec=Dense(3, 4))
    assert m["enc"] is m.enc is m[0]
    assert m[1:].names == ("dec",)
    assert m[[1, 0]].names == ("dec", "enc")
    assert list(m.state_dict()) == ["enc.weight", "enc.bias", "dec.weight", "dec.bias"]
    grads = flux.gradient(lambda m: m(np.ones((1, 4), np.float32)).sum(), m)
    assert grads.enc.weight is grads["enc"].weight is grads[0].weight
    with pytest.raises(KeyError, match=r"no layer called 'mid'; it has \['enc', 'dec'\]"):
        m["mid"]
    with pytest.raises(AttributeError, match="no layer or attribute 'mid'"):
        _ = m.mid
    with pytest.raises(ValueError, match="may not be called 'layers'"):
        Chain(layers=relu)
    with pytest.raises(TypeError, match="not both"):
        Chain(relu, enc=relu)


def test_a_named_layer_can_be_exchanged():
    m = Chain(enc=Dense(4, 3), dec=Dense(3, 4))
    m.enc = new = Dense(4, 3, relu)
    assert m[0] is m.enc is m["enc"] is new
    assert len(m) == 2
    m.note = "free"
    assert m.note == "free"
    with pytest.raises(TypeError, match="layer 1 is a int, which cannot be called"):
        m.dec = 3
    assert m.dec.out == 4


def test_the_empty_chain_is_the_identity():
    x = Tensor(np.ones(3))
    assert Chain()(x) is x
    assert Chain()(7) == 7


def test_several_arguments_become_one_tuple():
    assert Chain(lambda t: t)(1, 2, 3) == (1, 2, 3)


def test_layers_must_be_callable():
    with pytest.raises(TypeError, match=r"layer 1 is a list.*forget the \*"):
        Chain(relu, [relu])
    with pytest.raises(TypeError, match="layer 0 is a int"):
        Chain(3)
    with pytest.raises(TypeError, match=r"layer 1 is the class Dense, not a layer: write Dense\(\.\.\.\)"):
        Chain(relu, Dense)
    assert Chain(float)(np.float64(2)) == 2


def test_what_is_no_array_of_numbers_passes_through():
    for x in ("text", {"a": 1}, None, [1, 2], np.array(["a", "b"]), 3, Tensor(np.ones(2))):
        assert Chain()(x) is x
        assert Chain(lambda x: x)(x) is x
    assert isinstance(Chain()(np.ones(2)), Tensor)
    assert isinstance(flux.activations(Chain(lambda x: x * 2), np.ones(2))[0], Tensor)


def test_errors_carry_the_path_through_nested_chains():
    m = Chain(Dense(4, 4), Chain(relu, Dense(64, 10)))
    with pytest.raises(ValueError, match=r"^Chain\[1\]\.Chain\[1\] Dense\(64, 10\): the input has 4 features, expected 64 "
                                         r"\(input shape \(8, 4\)\)$"):
        m(np.zeros((8, 4), np.float32))
    named = Chain(enc=Dense(5, 4))
    with pytest.raises(ValueError, match=r"^Chain\['enc'\] Dense\(5, 4\)"):
        named(np.zeros((8, 4), np.float32))


class Residual(flux.Module):
    def __init__(self, f):
        self.f = f

    def __call__(self, x):
        return x + self.f(x)


def test_errors_carry_the_path_through_layers_that_hold_chains():
    m = Chain(Dense(4, 4), a := Residual(Chain(relu, Residual(Chain(Dense(5, 4))))))
    with pytest.raises(ValueError, match=r"^Chain\[1\]\.Residual\.f\.Chain\[1\]\.Residual\.f\.Chain\[0\] Dense\(5, 4\): "):
        m(np.zeros((8, 4), np.float32))
    with pytest.raises(ValueError, match=r"^Chain\[1\] Dense\(5, 4\)"):
        flux.activations(Chain(relu, Dense(5, 4)), np.zeros((8, 4), np.float32))
    assert isinstance(a.f, Chain)


class Branches(flux.Module):
    """Layers in a list, in a dict and as an attribute, called by hand."""

    def __init__(self, *layers, heads=None, last=flux.identity):
        self.layers, self.heads, self.last = list(layers), heads or {}, last

    def forward(self, x, head=None):
        for layer in self.layers:
            x = layer(x)
        return self.last(x if head is None else self.heads[head](x))


def test_errors_carry_the_path_through_modules_that_call_their_layers_by_hand():
    x = np.zeros((8, 4), np.float32)
    wrong = Dense(5, 4)
    for model, path in (
        (Branches(Dense(4, 4), wrong), r"Branches\.layers\[1\]"),
        (Branches(last=wrong), r"Branches\.last"),
        (Chain(relu, Branches(relu, Branches(relu, wrong))), r"Chain\[1\]\.Branches\.layers\[1\]\.Branches\.layers\[1\]"),
        (Branches(Chain(relu, wrong)), r"Branches\.layers\[0\]\.Chain\[1\]"),
    ):
        with pytest.raises(ValueError, match=rf"^{path} Dense\(5, 4\): the input has 4 features, expected 5"):
            model(x)
    with pytest.raises(ValueError, match=r"^Branches\.heads\.b Dense\(5, 4\): "):
        Branches(heads={"a": relu, "b": wrong})(x, head="b")


def test_an_error_of_the_modules_own_is_left_as_it_is():
    with pytest.raises(KeyError) as caught:
        Branches()(np.zeros((8, 4), np.float32), head="c")
    assert caught.value.args == ("c",)
    assert not hasattr(caught.value, "__notes__")
    assert list(inspect.signature(Branches()).parameters) == ["x", "head"]


def test_other_errors_carry_the_path_in_a_note():
    def broken(x):
        return {}["missing"]

    m = Chain(relu, Residual(Chain(a=broken)))
    with pytest.raises(KeyError) as error:
        m(np.ones(2))
    assert error.value.args == ("missing",)
    assert error.value.__notes__ == [
        "in Chain['a'], broken", "in Residual.f, Chain(a=broken)", "in Chain[1], Residual(Chain(a=broken))"
    ]


def test_gradients_of_a_chain_follow_its_indices():
    m = Chain(Dense(2, 3), relu, Dense(3, 1))
    g = flux.gradient(lambda m: m(np.ones((4, 2), np.float32)).sum(), m)
    assert len(g) == 3
    assert g[0].weight.shape == (3, 2)
    assert g[1] is None
    assert g[2].bias.tolist() == [4]
    assert [part is None for part in g] == [False, True, False]


def test_a_layer_that_is_there_twice_is_one_layer():
    d = Dense(3, 3)
    m, x = Chain(d, relu, d), np.ones((2, 3), np.float32)
    assert len(m.parameters()) == 2
    g = flux.gradient(lambda m: m(x).sum(), m)
    assert g[0].weight is g[2].weight
    w = d.weight.numpy().copy()
    flux.update(flux.setup(flux.Descent(1.0), m), m, g)
    np.testing.assert_allclose(d.weight.data, w - g[0].weight, rtol=1e-6)


def test_gradients_of_both_orders():
    flux.check(Chain(Dense(3, 2, flux.tanh), Chain(a=Dense(2, 2))), np.linspace(-1, 1, 6).reshape(2, 3))


def test_deep_nesting():
    m = Dense(2, 2)
    for _ in range(100):
        m = Chain(m)
    x = np.ones((3, 2), np.float32)
    assert m(x).shape == (3, 2)
    assert list(m.state_dict()) == ["0." * 100 + "weight", "0." * 100 + "bias"]
    g = flux.gradient(lambda m: m(x).sum(), m)
    for _ in range(100):
        g = g[0]
    assert g.bias.tolist() == [3, 3]
    flux.testmode(m)
    assert all(layer.active is False for layer in m.modules())


def test_a_slice_of_a_users_own_chain_is_a_chain():
    class Net(Chain):
        def __call__(self, x):
            return super().__call__(x) * 2

    m = Net(relu, relu)
    assert m(1.5).item() == 3
    assert type(m[:1]) is Chain
    assert repr(m) == "Net(\n  relu,\n  relu,\n)"
