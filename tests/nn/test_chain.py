"""Chain: the identities of the Flux page, indexing, slicing, names, and the path in errors."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, Tensor, relu


def test_chain_of_functions_on_a_number():
    m = Chain(lambda x: x**2, lambda x: x + 1)
    assert m(5) == 26
    assert type(m(5)) is int


def test_chain_equals_its_layers_in_turn():
    m = Chain(Dense(10, 5), Dense(5, 2))
    x = np.random.default_rng(0).random(10, np.float32)
    np.testing.assert_array_equal(m(x).data, m[1](m[0](x)).data)
    assert m(x).shape == (2,)


def test_the_output_of_the_first_layers():
    m = Chain(Dense(4, 3, relu), Dense(3, 2), Dense(2, 5))
    x = np.ones((6, 4), np.float32)
    np.testing.assert_array_equal(m[0:2](x).data, m[1](m[0](x)).data)
    assert m[:-1](x).shape == (6, 2)
    outputs = flux.activations(m, x)
    assert [y.shape for y in outputs] == [(6, 3), (6, 2), (6, 5)]
    assert flux.activations(Chain(), x) == []


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
    with pytest.raises(IndexError, match="mask of 2 for 3 layers"):
        m[[True, False]]
    with pytest.raises(IndexError):
        m[3]
    with pytest.raises(IndexError):
        m[[5]]


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


def test_errors_carry_the_path_through_nested_chains():
    m = Chain(Dense(4, 4), Chain(relu, Dense(64, 10)))
    with pytest.raises(ValueError, match=r"^Chain\[1\]\.Chain\[1\] Dense\(64, 10\): the input has 4 features, expected 64 "
                                         r"\(input shape \(8, 4\)\)$"):
        m(np.zeros((8, 4), np.float32))
    named = Chain(enc=Dense(5, 4))
    with pytest.raises(ValueError, match=r"^Chain\['enc'\] Dense\(5, 4\)"):
        named(np.zeros((8, 4), np.float32))


def test_gradients_of_a_chain_follow_its_indices():
    m = Chain(Dense(2, 3), relu, Dense(3, 1))
    g = flux.gradient(lambda m: m(np.ones((4, 2), np.float32)).sum(), m)
    assert len(g) == 3
    assert g[0].weight.shape == (3, 2)
    assert g[1] is None
    assert g[2].bias.tolist() == [4]
    assert [part is None for part in g] == [False, True, False]
