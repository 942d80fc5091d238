"""The layers Dropout and AlphaDropout: modes, axes, printing, state."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import AlphaDropout, Chain, Dense, Dropout, Generator

LAYERS = [Dropout, AlphaDropout]


def ones(*shape):
    return np.ones(shape, np.float32)


def test_either_sets_that_input_to_0_with_probability_p_or_scales_it_by_1_over_1_minus_p():
    x = np.random.default_rng(0).uniform(1, 2, (200, 50)).astype(np.float32)
    layer = flux.trainmode(Dropout(0.25, rng=Generator(1)))
    y, back = flux.vjp(layer, x)
    dropped = y == 0
    np.testing.assert_allclose(y[~dropped], x[~dropped] / 0.75, rtol=1e-6)
    assert abs(dropped.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / x.size)
    np.testing.assert_allclose(back(x), np.where(dropped, 0, x / np.float32(0.75)), rtol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_does_nothing_to_the_input_once_in_testmode(kind):
    x, t = ones(3, 4), flux.tensor(ones(3, 4))
    layer = flux.testmode(kind(0.5))
    y = layer(x)
    assert isinstance(y, flux.Tensor)  # of an array, too
    assert y.data is x
    with flux.record():
        assert layer(t) is t
    value, grad = flux.withgradient(lambda x: layer(x).sum(), x)
    assert value == 12
    assert (grad == 1).all()


def test_alphadropout_ensures_that_mean_and_variance_of_activations_remain_the_same():
    x = np.random.default_rng(0).standard_normal((400, 500)).astype(np.float32)
    y = flux.trainmode(AlphaDropout(0.3, rng=Generator(2)))(x).data
    assert abs(y.mean() - x.mean()) < 4 / np.sqrt(x.size)
    assert abs(y.var() - x.var()) < 0.015
    assert abs(flux.trainmode(Dropout(0.3, rng=Generator(2)))(x).data.var() - x.var()) > 0.4  # plain dropout does not


@pytest.mark.parametrize("kind", LAYERS)
def test_three_modes(kind):
    layer, x = kind(0.5), ones(64)
    assert layer.active is None
    assert layer(x).data is x  # automatic: test mode outside a recording scope
    with flux.record():
        assert (layer(x).data != 1).any()
        with flux.no_grad():
            assert layer(x).data is x
    _, grad = flux.withgradient(lambda x: layer(x).sum(), x)
    assert (grad == 0).any()
    flux.trainmode(layer)
    assert (layer(x).data != 1).any()
    flux.testmode(layer)
    with flux.record():
        assert layer(x).data is x
    flux.testmode(layer, "auto")
    assert layer(x).data is x
    assert (kind(0.5, active=True)(x).data != 1).any()
    with flux.record():
        assert kind(0.5, active=False)(x).data is x


@pytest.mark.parametrize("kind", LAYERS)
def test_the_ends_of_p(kind):
    x = ones(5)
    with flux.record():
        assert kind(0)(x).data is x
        assert not kind(1)(x).data.any()
    for p in (-0.5, 1.01, np.nan):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: the probability p must be between 0 and 1, got {p}"):
            kind(p)
    with pytest.raises(TypeError, match=rf"{kind.__name__}: the probability p must be a number between 0 and 1, got 'x'"):
        kind("x")
    layer = flux.trainmode(kind(0.5))
    layer.p = 2
    with pytest.raises(ValueError, match="the probability p must be between 0 and 1, got 2"):
        layer(x)


@pytest.mark.parametrize("axis", [0, (0, 1), [0, 1], 2, ()])
def test_dropout_with_dims(axis):
    x = ones(6, 5, 4)
    layer = flux.trainmode(Dropout(0.5, dims=axis, rng=Generator(3)))
    y = layer(x).data
    assert layer.dims == layer.axis == (tuple(axis) if isinstance(axis, list) else axis)
    np.testing.assert_array_equal(y, flux.trainmode(Dropout(0.5, axis=axis, rng=Generator(3)))(x).data)
    chosen = (axis,) if isinstance(axis, int) else axis
    first = y[tuple(slice(None) if i in chosen else slice(1) for i in range(3))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, x.shape))  # shared along the other axes
    if chosen:
        assert first.min() == 0
        assert first.max() == 2


def test_channels_as_torch_drops_them():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(1, 2, (20, 30, 2, 3)).astype(np.float32)
    y = flux.trainmode(Dropout(0.5, axis=(0, 1)))(x).data
    wanted = torch.nn.functional.dropout2d(torch.tensor(x), 0.5).numpy()
    for a in (y, wanted):
        factor = a / x
        np.testing.assert_allclose(factor, np.broadcast_to(factor[:, :, :1, :1], x.shape), rtol=1e-6)
        np.testing.assert_allclose(np.unique(np.round(factor, 5)), [0, 2])


def test_wrong_arguments():
    with pytest.raises(TypeError, match="Dropout: axis=0 and dims=1 are two words for the same; give one"):
        Dropout(0.5, axis=0, dims=1)
    with pytest.raises(TypeError, match="Dropout: `dim=` is spelled `axis=` here"):
        Dropout(0.5, dim=0)
    with pytest.raises(IndexError, match=r"Dropout\(0.5, axis=3, active=True\): there is no axis 3 in an array of shape"):
        Dropout(0.5, axis=3, active=True)(ones(2, 3))
    for kind in LAYERS:
        with pytest.raises(ValueError, match=rf"{kind.__name__}: active must be True \(train\), False \(test\) or None"):
            kind(0.5, active="always")


def test_printing_rebuilds_the_layer():
    cases = {
        "Dropout(0.5)": Dropout(0.5),
        "Dropout(0.25, axis=(0, 1))": Dropout(np.float32(0.25), dims=[0, 1]),
        "Dropout(0.5, axis=0, rng=Generator(3))": Dropout(0.5, axis=0, rng=Generator(3)),
        "Dropout(0.5, active=False)": flux.testmode(Dropout(0.5)),
        "AlphaDropout(0.1)": AlphaDropout(0.1),
        "AlphaDropout(0.1, rng=Generator(4), active=True)": AlphaDropout(0.1, rng=Generator(4), active=True),
    }
    for text, layer in cases.items():
        assert repr(layer) == text
        assert repr(eval(text, vars(flux))) == text


@pytest.mark.parametrize("kind", LAYERS)
def test_no_state_any_shape_and_every_float(kind):
    layer = flux.trainmode(kind(0.5))
    assert layer.state_dict() == {}
    for shape in [(), (0,), (3, 0, 2), (1,), (2, 3, 4, 5)]:
        assert layer(ones(*shape)).shape == shape
    for dtype in (np.float16, np.float32, np.float64):
        assert layer(np.ones(3, dtype)).dtype == dtype


@pytest.mark.parametrize("kind", LAYERS)
def test_check_and_repetition(kind):
    flux.check(kind(0.4), np.random.default_rng(0).standard_normal((3, 5)))
    flux.check(kind(0.4, rng=Generator(1)), np.random.default_rng(0).standard_normal((3, 5)))
    model = Chain(Dense(4, 8), kind(0.5))
    runs = []
    for _ in range(2):
        flux.seed(5)
        runs.append(flux.gradient(lambda m: (m(ones(3, 4)) ** 2).sum(), model)[0].weight)
    np.testing.assert_array_equal(*runs)
