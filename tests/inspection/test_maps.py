"""Feature maps, filters and attention maps against plain NumPy and against the layers themselves."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, MultiHeadAttention, models, relu
from minitorch_flux.models.layers import MHAttention

RNG = np.random.default_rng(0)


def network():
    return Chain(Conv((3, 3), 3, 4, relu, pad=1), Chain(flux.MaxPool((2, 2)), Conv((3, 3), 4, 5)), flux.GlobalMeanPool(),
                 flux.flatten, Dense(5, 7))


def images(n=2):
    return RNG.standard_normal((n, 3, 8, 8)).astype("float32")


def test_feature_maps_are_the_outputs_of_the_layers():
    model, x = network(), images()
    maps = flux.feature_maps(model, x)
    assert list(maps) == ["0", "1.0", "1.1", "1", "2"]
    np.testing.assert_array_equal(maps["0"], model[0](x).numpy())
    np.testing.assert_array_equal(maps["1.1"], model[:2](x).numpy())
    np.testing.assert_array_equal(flux.feature_maps(model, x, layer="4"), model(x).numpy())  # of any shape
    np.testing.assert_array_equal(flux.feature_maps(model, x, layer=model[1][0]), maps["1.0"])
    assert type(maps["0"]) is np.ndarray
    np.testing.assert_array_equal(flux.feature_maps(model, x, "0"), maps["0"])
    recurrent = flux.feature_maps(Chain(flux.LSTM(3, 4)), np.zeros((5, 2, 3), "float32"))
    assert recurrent["0"].shape == (5, 2, 4)


def test_they_are_those_of_test_mode_and_change_nothing():
    model = flux.trainmode(Chain(Conv((1, 1), 3, 3), flux.BatchNorm(3), flux.Dropout(0.5)))
    before = model.state_dict()
    x = images()
    maps = flux.feature_maps(model, x)
    np.testing.assert_array_equal(maps["2"], maps["1"])  # nothing is dropped
    assert model[1].active
    assert model[2].active
    assert type(model[0]) is Conv
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    with flux.record():
        flux.feature_maps(model, x)
    assert model[0].weight.grad is None


def test_several_inputs():
    model = flux.Parallel(lambda a, b: a + b, Dense(2, 3), Dense(4, 3))
    a, b = np.ones((5, 2), "float32"), np.ones((5, 4), "float32")
    np.testing.assert_array_equal(flux.feature_maps(model, (a, b), "1"), model[1](b).numpy())


def test_filters():
    model = network()
    np.testing.assert_array_equal(flux.filters(model), model[0].weight.data)
    np.testing.assert_array_equal(flux.filters(model, "1.1"), model[1][1].weight.data)
    np.testing.assert_array_equal(flux.filters(model, model[1][1]), model[1][1].weight.data)
    assert flux.filters(models.resnet18(nclasses=2)).shape == (64, 3, 7, 7)


def softmax_of(q, k, scale, mask=None, causal=False):
    """(heads, L, D) twice, with Python's loops over queries."""
    heads, length, _ = q.shape
    out = np.zeros((heads, length, k.shape[1]))
    for h in range(heads):
        for i in range(length):
            s = scale * (k[h] @ q[h, i])
            seen = np.ones(len(s), bool) if mask is None else mask[i].copy()
            if causal:
                seen[i + 1 :] = False
            e = np.where(seen, np.exp(s - s[seen].max()), 0)
            out[h, i] = e / e.sum()
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_attention_maps_are_softmaxes(causal):
    layer = flux.f64(MultiHeadAttention(6, nheads=2))
    x = RNG.standard_normal((3, 5, 6))

    class Causal(flux.Module):
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, x):
            return self.inner(x, causal=causal)

    found = flux.attention_maps(Causal(layer), x)
    assert list(found) == ["inner"]
    weights = found["inner"]
    assert weights.shape == (3, 2, 5, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)
    projected = x @ layer.in_proj_weight.data.T + layer.in_proj_bias.data
    q, k = (projected[..., i : i + 6].reshape(3, 5, 2, 3).swapaxes(1, 2) for i in (0, 6))
    for n in range(3):
        np.testing.assert_allclose(weights[n], softmax_of(q[n], k[n], 3**-0.5, causal=causal), rtol=1e-10, atol=1e-14)
    _, own = layer(x, causal=causal, return_weights=True)
    np.testing.assert_allclose(weights, own.numpy(), rtol=1e-10, atol=1e-14)


def test_attention_maps_of_cross_attention_with_masks_and_grouped_heads():
    layer = flux.f64(MultiHeadAttention(8, nheads=4, nkvheads=2, kdim=3, vdim=8))
    q, k, v = RNG.standard_normal((2, 4, 8)), RNG.standard_normal((2, 6, 3)), RNG.standard_normal((2, 6, 8))
    mask = RNG.random((2, 4, 6)) < 0.7
    mask[..., 0] = True

    class Masked(flux.Module):
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, q, k, v):
            return self.inner(q, k, v, mask=mask)

    weights = flux.attention_maps(Masked(layer), q, k, v)["inner"]
    _, own = layer(q, k, v, mask=mask, return_weights=True)
    np.testing.assert_allclose(weights, own.numpy(), rtol=1e-10, atol=1e-14)
    assert (weights[~np.broadcast_to(mask[:, None], weights.shape)] == 0).all()


def test_attention_maps_of_vision_transformers():
    torch = pytest.importorskip("torch")
    layer = MHAttention(8, nheads=2)
    x = RNG.standard_normal((2, 5, 8)).astype("float32")
    weights = flux.attention_maps(flux.trainmode(Chain(layer)), x)["0"]
    q, k, _ = torch.tensor((x @ layer.qkv.weight.data.T).reshape(2, 5, 3, 2, 4)).permute(2, 0, 3, 1, 4)
    np.testing.assert_allclose(weights, torch.softmax(q @ k.mT / 2, -1).numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: flux.feature_maps(network(), images(), layer="9"), r"feature_maps: the model has no layer '9'; the first are '0'"),
    (lambda: flux.feature_maps(network(), images(), layer=Dense(1, 1)),
     "a path such as '0', or a layer of the model, got Dense"),
    (lambda: flux.filters(Chain(Dense(2, 2))), "filters: there is no convolution in this Chain"),
    (lambda: flux.filters(network(), "4"), "filters: Dense is no convolution"),
    (lambda: flux.attention_maps(network(), images()), "attention_maps: nothing in this Chain attends"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_layer_that_is_not_reached():
    class Skips(flux.Module):
        def __init__(self):
            self.used, self.unused = Dense(2, 2), Dense(2, 2)

        def __call__(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="feature_maps: the call does not reach the layer 'unused'"):
        flux.feature_maps(Skips(), np.ones((1, 2), "float32"), layer="unused")
