"""inputscale, swapdims, flatten_chains, round_channels and the connections."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, Parallel, SkipConnection, relu, swish, tanh
from minitorch_flux.models.layers import actadd, addact, cat_channels, flatten_chains, inputscale, round_channels, swapdims

from .tools import randn


@pytest.mark.parametrize("layer", [inputscale(0.5), inputscale(-2, activation=relu), swapdims((0, 2, 1)), swapdims(())])
def test_layers_print_as_python_that_rebuilds_them(layer):
    for other in (eval(repr(layer)), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer)
        assert type(other) is type(layer)


def test_inputscale():
    x = randn(3, 4)
    np.testing.assert_array_equal(inputscale(0.1)(x).numpy(), x * np.float32(0.1))
    np.testing.assert_allclose(inputscale(0.1, activation=tanh)(x).numpy(), np.tanh(x * np.float32(0.1)), rtol=1e-6)
    assert inputscale(0.1)(x).dtype == np.float32
    assert inputscale(0.1).state_dict() == {}
    assert inputscale(2)(3.0).item() == 6
    flux.check(inputscale(0.3, activation=swish), x)
    assert flux.outputsize(inputscale(0.3), (2, 5)) == (2, 5)
    with pytest.raises(TypeError, match="the scale is a number, got 'a'"):
        inputscale("a")
    with pytest.raises(TypeError, match="the activation must be a function, got 3"):
        inputscale(0.1, activation=3)


@pytest.mark.parametrize("perm", [(0, 2, 1), (2, 0, 1), [1, 0, 2], (0, 1, 2)])
def test_swapdims(perm):
    x = randn(2, 3, 4)
    np.testing.assert_array_equal(swapdims(perm)(x).numpy(), np.transpose(x, perm))
    flux.check(swapdims(perm), x)
    assert flux.outputsize(swapdims(perm), (2, 3, 4)) == np.transpose(x, perm).shape
    with pytest.raises(ValueError, match=r"swapdims\(.*\): the input has 2 axes, expected 3 \(input shape \(3, 4\)\)"):
        swapdims(perm)(x[0])


@pytest.mark.parametrize("perm", [(0, 2), (1, 2, 3), (0, 0, 1), (0, -1)])
def test_swapdims_of_what_is_no_permutation(perm):
    with pytest.raises(ValueError, match="perm must hold each of the axes"):
        swapdims(perm)


def test_flatten_chains():
    a, b, c, d = Dense(2, 2), Dense(2, 2), relu, SkipConnection(Chain(Dense(2, 2)), flux.add)
    m = Chain(a, Chain(Chain(b), c), Chain(), Chain(inner=d))
    layers = list(flatten_chains(m))
    assert layers == [a, b, c, d]
    assert list(flatten_chains(a)) == [a]
    assert list(flatten_chains(Chain())) == []
    assert next(flatten_chains(m)) is a  # an iterator
    x = randn(3, 2)
    np.testing.assert_array_equal(Chain(*layers)(x).numpy(), m(x).numpy())


@pytest.mark.parametrize(("channels", "divisor", "least", "wanted"), [
    (32, 8, 0, 32), (33, 8, 0, 32), (36, 8, 0, 40), (18, 8, 0, 24), (4, 8, 0, 8), (3, 8, 0, 8), (1, 8, 16, 16),
    (24.5, 4, 0, 24),
    (0, 8, 0, 0), (100, 1, 0, 100),
])  # fmt: skip
def test_round_channels(channels, divisor, least, wanted):
    assert round_channels(channels, divisor, least) == wanted


@given(st.integers(1, 2000), st.integers(1, 32))
def test_round_channels_never_loses_more_than_a_tenth(channels, divisor):
    n = round_channels(channels, divisor)
    assert n % divisor == 0
    assert n >= 0.9 * channels
    assert n - channels < divisor


def test_addact_and_actadd():
    x, y, z = randn(3, 4), randn(4, 3).T, randn(3, 4) * 2
    np.testing.assert_array_equal(addact(x, y).numpy(), np.maximum(x + y, 0))
    np.testing.assert_array_equal(actadd(x, y).numpy(), np.maximum(x, 0) + np.maximum(y, 0))
    np.testing.assert_allclose(addact(tanh, x, y, z).numpy(), np.tanh(x + y + z), rtol=1e-5)
    np.testing.assert_allclose(actadd(tanh, x, y, z).numpy(), np.tanh(x) + np.tanh(y) + np.tanh(z), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(addact(tanh, x).numpy(), np.tanh(x), rtol=1e-5)
    for f in (addact, actadd):
        flux.check(partial(f, tanh), x, y)
        m = SkipConnection(Dense(4, 4), partial(f, tanh))
        np.testing.assert_array_equal(m(x).numpy(), f(tanh, m.layer(x), x).numpy())
        m = Parallel(f, Dense(4, 4), Dense(4, 4), Dense(4, 4))
        np.testing.assert_array_equal(m(x).numpy(), f(*(layer(x) for layer in m)).numpy())
        with pytest.raises(TypeError, match=f"{f.__name__}.*nothing to add up"):
            f(relu)


def test_cat_channels():
    x, y, z = randn(2, 1, 3, 3), randn(2, 2, 3, 3), randn(2, 4, 3, 3)
    wanted = np.concatenate([x, y, z], axis=1)
    for arrays in ((x, y, z), (x, (y, z)), ((x, y), z), ((x, y, z),), ([x, y], (z,))):
        np.testing.assert_array_equal(cat_channels(*arrays).numpy(), wanted)
    flux.check(cat_channels, x, y)
    m = Parallel(cat_channels, Conv((3, 3), 2, 3, pad=1), lambda x: x)
    assert m(y).shape == (2, 5, 3, 3)
    assert flux.outputsize(m, (2, 2, 3, 3)) == (2, 5, 3, 3)
    with pytest.raises(TypeError, match="nothing to join"):
        cat_channels()
    with pytest.raises(ValueError, match="concatenate"):
        cat_channels(x, randn(2, 1, 3, 4))
