"""ChannelLayerNorm, LayerScale, prenorm and LayerNormV2 against plain NumPy and PyTorch."""

import copy
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, Dense, GroupNorm, LayerNorm, Scale, gelu, identity, relu, tanh
from minitorch_flux.models.layers import ChannelLayerNorm, LayerNormV2, LayerScale, prenorm

from .tools import randn, randomise, same_as_torch, trains


def test_channel_layer_norm_is_that_of_every_pixel():
    m = randomise(ChannelLayerNorm(3, eps=1e-2))
    x = randn(2, 3, 4, 5)
    y = m(x).numpy()
    w, b = m.weight.numpy(), m.bias.numpy()
    for n in range(2):
        for i in range(4):
            for j in range(5):
                v = x[n, :, i, j]
                wanted = w * (v - v.mean()) / np.sqrt(((v - v.mean()) ** 2).mean() + 1e-2) + b
                np.testing.assert_allclose(y[n, :, i, j], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [identity, tanh, gelu, lambda x: x * x])
def test_channel_layer_norm_against_torch(activation):
    torch = pytest.importorskip("torch")
    f = {identity: lambda y: y, tanh: torch.tanh,
         gelu: lambda y: torch.nn.functional.gelu(y, approximate="tanh")}.get(activation, lambda y: y * y)

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.LayerNorm(6, eps=1e-6)

        def forward(self, x):
            return f(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    same_as_torch(ChannelLayerNorm(6, activation), Theirs(), randn(3, 6, 4, 5))


def test_channel_layer_norm_gradients_modes_and_sizes():
    flux.check(randomise(ChannelLayerNorm(3, tanh)), randn(2, 3, 2, 3))
    m = ChannelLayerNorm(4)
    assert m(np.zeros((0, 4, 2, 2), np.float32)).shape == (0, 4, 2, 2)
    assert flux.outputsize(m, (2, 4, 5, 6)) == (2, 4, 5, 6)
    np.testing.assert_array_equal(m(np.full((1, 4, 2, 2), 3.0)).numpy(), 0)  # no variance: 0 / sqrt(eps)
    x = randn(2, 4, 3, 3)
    np.testing.assert_array_equal(flux.testmode(m)(x).numpy(), flux.trainmode(m)(x).numpy())
    assert {k: v.shape for k, v in m.state_dict().items()} == {"weight": (4,), "bias": (4,)}
    assert repr(ChannelLayerNorm(4, relu, eps=1e-5)).startswith("ChannelLayerNorm(4, relu, eps=1e-05)  # 8 parameters")
    assert repr(ChannelLayerNorm(4)).startswith("ChannelLayerNorm(4)  #")
    assert flux.f64(m)(x).dtype == np.float64


@pytest.mark.parametrize(("make", "x", "error", "message"), [
    (lambda: ChannelLayerNorm(4), np.ones((2, 4, 3)), ValueError,
     r"has 3 axes, expected 4, \(N, channels, H, W\) \(input shape \(2, 4, 3\)"),
    (lambda: ChannelLayerNorm(4), np.ones((2, 5, 3, 3)), ValueError,
     r"ChannelLayerNorm\(4\): the input has 5 channels on axis 1, expected 4"),
    (lambda: ChannelLayerNorm(4.5), None, TypeError, "number of channels must be a whole number"),
    (lambda: ChannelLayerNorm(4, 3), None, TypeError, "activation must be a function, got 3"),
    (lambda: ChannelLayerNorm(4, eps=-1), None, ValueError, "eps must be 0 or a small positive number, got -1"),
    (lambda: LayerScale(4, "a"), None, TypeError, "lambda_ is a number, .* got 'a'"),
    (lambda: LayerScale(4, True), None, TypeError, "lambda_ is a number"),
    (lambda: LayerScale(None, 0.1), None, TypeError, "number of planes must be a whole number, got None"),
    (lambda: LayerScale((4, 3), 0.1), None, TypeError, "number of planes must be a whole number"),
    (lambda: LayerScale(4, 0.1), np.ones((2, 5)), ValueError,
     r"LayerScale\(4, 0.1\): axis -1 of the input has size 5, expected 4"),
    (lambda: prenorm(4, 5), None, TypeError, "layer 1 is a int, which cannot be called"),
])  # fmt: skip
def test_errors(make, x, error, message):
    with pytest.raises(error, match=message):
        make()(x)


def test_layer_scale():
    m = LayerScale(4, 1e-3)
    assert isinstance(m, Scale)
    assert repr(m) == "LayerScale(4, 0.001)  # 4 parameters"
    assert {k: v.tolist() for k, v in m.state_dict().items()} == {"weight": [np.float32(1e-3)] * 4}
    assert (m.planes, m.lambda_, m.bias) == (4, 1e-3, None)
    x = randn(2, 3, 4)
    np.testing.assert_allclose(m(x).numpy(), x * np.float32(1e-3))
    randomise(m)
    np.testing.assert_array_equal(m(x).numpy(), x * m.weight.numpy())
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m)), eval(repr(m))):
        assert repr(other) == repr(m)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(m)).weight.numpy(), m.weight.numpy())
    flux.check(m, x)
    trains(m, x)


@pytest.mark.parametrize("off", [0, 0.0, -1, -1e-6, None])
def test_layer_scale_that_is_off_is_identity(off):
    assert LayerScale(4, off) is identity
    assert LayerScale(planes=4, lambda_=off) is identity
    assert isinstance(LayerScale(planes=4, lambda_=np.float32(0.1)), LayerScale)


def test_layer_norm_v2_is_the_packages_own_and_pytorchs():
    torch = pytest.importorskip("torch")
    assert LayerNormV2 is flux.LayerNormV2
    same_as_torch(LayerNormV2((3, 4), eps=1e-3), torch.nn.LayerNorm((3, 4), eps=1e-3), randn(2, 3, 4))


def test_prenorm():
    block = Dense(4, 4, relu)
    m = prenorm(4, block)
    assert isinstance(m, Chain)
    assert len(m) == 2
    assert isinstance(m[0], LayerNorm)
    assert m[1] is block
    x = randn(3, 4)
    np.testing.assert_array_equal(m(x).numpy(), block(m[0](x)).numpy())
    assert repr(prenorm(64, block, norm_layer=GroupNorm)[0]).startswith("GroupNorm(64, 32)")
    assert prenorm(4, block, norm_layer=identity)[0] is identity
    assert isinstance(prenorm(4, block, norm_layer=lambda planes, act: BatchNorm(planes, act))[0], BatchNorm)
    trains(m, x)
