"""The feedforward blocks and the mixers' blocks against PyTorch's builds of them."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, Dropout, LayerNorm, LayerNormV2, SkipConnection, gelu, gelu_erf, identity, relu, tanh
from minitorch_flux.models.layers import (
    SpatialGatingUnit,
    StochasticDepth,
    gated_mlp_block,
    mixerblock,
    mlp_block,
    resmixerblock,
    spatial_gating_block,
)

from .tools import randn, randomise, same_as_torch, trains


def prints(m):
    return [repr(layer).partition("  #")[0] for layer in m]


def test_mlp_block():
    assert prints(mlp_block(4, 8)) == ["Dense(4, 8, gelu)", "Dropout(0.0)", "Dense(8, 4)", "Dropout(0.0)"]
    assert prints(mlp_block(4, 8, outplanes=3, dropout_prob=0.2, activation=relu)) == [
        "Dense(4, 8, relu)", "Dropout(0.2)", "Dense(8, 3)", "Dropout(0.2)"]  # fmt: skip
    off = mlp_block(4, 8, dropout_prob=None)
    assert off[1] is identity
    assert off[3] is identity
    assert list(off.state_dict()) == list(mlp_block(4, 8).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    x = randn(2, 5, 4)
    m = mlp_block(4, 8, dropout_prob=0.5)
    flux.testmode(m)
    np.testing.assert_array_equal(m(x).numpy(), m[2](m[0](x)).numpy())
    flux.trainmode(m)
    assert (m(x).numpy() == 0).any()
    a, b = (mlp_block(4, 8, rng=flux.Generator(0))(x).numpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert flux.outputsize(mlp_block(4, 8, outplanes=3), (2, 5, 4)) == (2, 5, 3)
    trains(mlp_block(4, 8), x)


def test_mlp_block_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    same_as_torch(mlp_block(4, 8, outplanes=3, activation=gelu_erf), nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)),
                  randn(2, 5, 4))
    same_as_torch(mlp_block(4, 8), nn.Sequential(nn.Linear(4, 8), nn.GELU(approximate="tanh"), nn.Linear(8, 4)), randn(2, 5, 4))


def test_gated_mlp_block():
    m = gated_mlp_block(lambda planes: SpatialGatingUnit(planes, 5), 4, 8, outplanes=3, dropout_prob=0.1, activation=relu)
    assert prints(m) == ["Dense(4, 8, relu)", "Dropout(0.1)", "SpatialGatingUnit(8, 5)", "Dense(4, 3)", "Dropout(0.1)"]
    assert m(randn(2, 5, 4)).shape == (2, 5, 3)
    trains(gated_mlp_block(lambda planes: SpatialGatingUnit(planes, 5), 4, 8), randn(2, 5, 4))
    assert repr(gated_mlp_block(identity, 4, 7, outplanes=2)) == repr(mlp_block(4, 7, outplanes=2))
    halves = gated_mlp_block(lambda planes: lambda x: x[..., : planes // 2], 4, 8)
    assert halves(randn(2, 4)).shape == (2, 4)
    np.testing.assert_array_equal(*(gated_mlp_block(lambda n: Dense(n, n // 2, init=flux.ones), 4, 8,
                                                    rng=flux.Generator(0))(randn(2, 4)).numpy()
                                    for _ in range(2)))


class TorchGate:
    """Made in a function, as torch may not be installed."""

    @staticmethod
    def make(torch, planes, patches, eps=1e-5):
        nn = torch.nn

        class Gate(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm, self.proj = nn.LayerNorm(planes // 2, eps=eps), nn.Linear(patches, patches)

            def forward(self, x):
                u, v = x.chunk(2, dim=-1)
                return u * self.proj(self.norm(v).transpose(1, 2)).transpose(1, 2)

        return Gate()


def test_spatial_gating_unit():
    torch = pytest.importorskip("torch")
    m = SpatialGatingUnit(8, 5)
    assert repr(m).startswith("SpatialGatingUnit(8, 5)  # 38 parameters")
    assert {k: v.shape for k, v in m.state_dict().items()} == {
        "norm.weight": (4,), "norm.bias": (4,), "proj.weight": (5, 5), "proj.bias": (5,)}  # fmt: skip
    x = randn(2, 5, 8)
    np.testing.assert_allclose(m(x).numpy(), x[..., :4], rtol=1e-3, atol=1e-4)  # the gate begins at one
    same_as_torch(SpatialGatingUnit(8, 5, norm_layer=LayerNormV2), TorchGate.make(torch, 8, 5), x)
    assert "norm_layer=LayerNormV2" in repr(SpatialGatingUnit(8, 5, norm_layer=LayerNormV2))
    assert SpatialGatingUnit(8, 5, norm_layer=identity)(x).shape == (2, 5, 4)
    flux.check(randomise(SpatialGatingUnit(4, 3)), randn(2, 3, 4))
    assert flux.outputsize(m, (7, 5, 8)) == (7, 5, 4)
    a, b = (SpatialGatingUnit(4, 3, rng=flux.Generator(0)).proj.weight.numpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert 0 < np.abs(a).max() < 1e-4
    assert "init=normal_init(std=1e-06), init_bias=ones" in repr(SpatialGatingUnit(4, 3).proj)


def torch_residual(torch, *layers, out=None):
    """x + the layers of x."""
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x):
            y = x
            for layer in self.layers:
                y = layer(y)
            return x + y

    return Residual()


def torch_swap(torch):
    class Swap(torch.nn.Module):
        def forward(self, x):
            return x.transpose(1, 2)

    return Swap()


def test_mixerblock_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    ours = mixerblock(8, 5, norm_layer=LayerNormV2, activation=gelu_erf)
    theirs = nn.Sequential(
        torch_residual(torch, nn.LayerNorm(8), torch_swap(torch), nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 5),
                       torch_swap(torch)),
        torch_residual(torch, nn.LayerNorm(8), nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)),
    )
    same_as_torch(ours, theirs, randn(3, 5, 8), train=True)


def test_resmixerblock_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Affine(nn.Module):
        def __init__(self, bias):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8))
            self.bias = nn.Parameter(torch.zeros(8)) if bias else 0

        def forward(self, x):
            return x * self.weight + self.bias

    theirs = nn.Sequential(
        torch_residual(torch, Affine(True), torch_swap(torch), nn.Linear(5, 5), torch_swap(torch), Affine(False)),
        torch_residual(torch, Affine(True), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8), Affine(False)),
    )
    same_as_torch(resmixerblock(8, 5, mlp_ratio=2, activation=gelu_erf), theirs, randn(3, 5, 8), train=True)


def test_spatial_gating_block_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    theirs = torch_residual(torch, nn.LayerNorm(8), nn.Linear(8, 48), nn.GELU(), TorchGate.make(torch, 48, 5), nn.Linear(24, 8))
    ours = spatial_gating_block(8, 5, mlp_ratio=6, norm_layer=LayerNormV2, activation=gelu_erf)
    same_as_torch(ours, theirs, randn(3, 5, 8), train=True)


@pytest.mark.parametrize("block", [mixerblock, resmixerblock, spatial_gating_block])
def test_the_options_of_the_blocks(block):
    x = randn(4, 5, 8)
    m = block(8, 5, dropout_prob=0.1, stochastic_depth_prob=0.4, activation=tanh)
    kinds = [type(layer) for layer in m.modules()]
    residuals = kinds.count(SkipConnection)
    assert kinds.count(StochasticDepth) == residuals  # at the end of every branch
    assert kinds.count(Dropout) == (2 if block is resmixerblock else 2 * residuals)
    assert all(isinstance(r.layer[-1], StochasticDepth) for r in m.modules() if isinstance(r, SkipConnection))
    assert flux.outputsize(m, (4, 5, 8)) == (4, 5, 8)
    off = block(8, 5, dropout_prob=None, stochastic_depth_prob=None)
    assert not {Dropout, StochasticDepth} & {type(layer) for layer in off.modules()}
    flux.trainmode(m)
    y = np.stack([m(x).numpy() for _ in range(40)])
    assert (y == x).all(axis=(2, 3)).any()  # all branches of a sample dropped
    flux.check(randomise(block(4, 3, mlp_ratio=(1.0, 2.0) if block is mixerblock else 2.0), 0.3), randn(2, 3, 4))
    trains(block(8, 5), x)


def test_own_layers_in_the_blocks():
    class Two(Dense):
        pass

    def mlp(inplanes, hidden, *, dropout_prob, activation):
        return Chain(Two(inplanes, hidden, activation), Two(hidden, inplanes))

    assert [type(m) for m in mixerblock(8, 5, mlp_layer=mlp).modules()].count(Two) == 4
    assert [type(m) for m in resmixerblock(8, 5, mlp_layer=mlp).modules()].count(Two) == 2
    assert isinstance(mixerblock(8, 5, norm_layer=lambda n: LayerNormV2(n, eps=1e-3))[0].layer[0], LayerNormV2)
    assert resmixerblock(8, 5, layerscale_init=None)[0].layer[4] is identity
    gated = spatial_gating_block(8, 5, mlp_layer=lambda gate, a, b, **keywords: gated_mlp_block(gate, a, 16, **keywords))
    assert gated.layer[1][0].out == 16
    gate = spatial_gating_block(8, 5, norm_layer=LayerNormV2).layer[1][2]
    assert isinstance(gate.norm, LayerNormV2)
    both = spatial_gating_block(8, 5, norm_layer=LayerNormV2, gate_norm_layer=LayerNorm).layer
    assert [type(both[0]), type(both[1][2].norm)] == [LayerNormV2, LayerNorm]


@pytest.mark.parametrize("block", [mixerblock, resmixerblock, spatial_gating_block])
def test_the_generator_reaches_every_layer_of_the_blocks(block):
    a, b, c = (block(8, 5, rng=flux.Generator(n)).state_dict() for n in (0, 0, 1))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    drawn = [key for key in a if a[key].ndim == 2]
    assert drawn
    assert not any(np.array_equal(a[key], c[key]) for key in drawn)
    dropping = [block(8, 5, stochastic_depth_prob=0.5, dropout_prob=0.5, rng=flux.Generator(0)) for _ in range(2)]
    np.testing.assert_array_equal(*(flux.trainmode(m)(randn(4, 5, 8)).numpy() for m in dropping))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: gated_mlp_block(lambda n: Dense(n, n // 2), 4, 7), ValueError,
     "hidden_planes must be even, the gate halves them, got 7"),
    (lambda: gated_mlp_block(lambda n: None, 4, 8), TypeError, "gate_layer makes a layer .* it gave None"),
    (lambda: SpatialGatingUnit(7, 5), ValueError, "planes must be even, they are split into halves, got 7"),
    (lambda: SpatialGatingUnit(8.0, 5), TypeError, "planes must be a whole number"),
    (lambda: SpatialGatingUnit(8, 5)(randn(2, 6, 8)), ValueError,
     r"SpatialGatingUnit\(8, 5\): expected an input \(N, 5, 8\): \(N, patches, planes\) \(input shape \(2, 6, 8\)\)"),
    (lambda: SpatialGatingUnit(8, 5)(randn(5, 8)), ValueError, r"expected an input \(N, 5, 8\)"),
    (lambda: mlp_block(4, 8, dropout_prob=2), ValueError, "probability p must be between 0 and 1"),
    (lambda: mixerblock(8, 5)(randn(2, 6, 8)), ValueError, "the input has 6 features, expected 5"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_gelu_is_the_default():
    assert mlp_block(4, 8)[0].activation is gelu
    assert gated_mlp_block(identity, 4, 8)[0].activation is gelu
