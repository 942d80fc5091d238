"""MLPMixer, ResMLP and gMLP: parameters and shapes of every configuration, and the networks beside plain PyTorch."""

from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Layers, models
from minitorch_flux.models.mixers import building

from ..zoo_tools import CLASSES, check_network, error_beside_torch, images

COUNTS = {
    "MLPMixer": {"small": 18_528_264, "base": 59_880_472, "large": 208_196_168, "huge": 430_121_832},
    "ResMLP": {"small": 18_038_920, "base": 58_548_952, "large": 204_338_120, "huge": 423_384_424},
    "gMLP": {"small": 13_844_616, "base": 44_393_176, "large": 154_006_472, "huge": 318_526_824},
}
ROWS = [(family, config) for family, configs in COUNTS.items() for config in configs]
PAPERS = [
    (Layers.resmixerblock, 384, 12, {"norm_layer": flux.Scale}, 15_350_872),
    (Layers.spatial_gating_block, 128, 30, {"mlp_ratio": 6}, 5_867_328),
    (Layers.spatial_gating_block, 256, 30, {"mlp_ratio": 6}, 19_422_656),
    (Layers.spatial_gating_block, 512, 30, {"mlp_ratio": 6}, 73_075_392),
]
SIZES = {"imsize": (8, 12), "patch_size": (4, 4)}  # 6 patches


def tiny(family, **keywords):
    """The family's network with 8 planes and 2 blocks."""
    before = dict(building.CONFIGS)
    try:
        building.CONFIGS["small"] = 8, 2
        return getattr(models, family)("small", **{**SIZES, **keywords})
    finally:
        building.CONFIGS.update(before)


def torch_mixer(family):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    class Turned(nn.Sequential):
        def forward(self, x):
            return super().forward(x.transpose(1, 2)).transpose(1, 2)

    class Affine(nn.Module):
        def __init__(self, n, bias=True):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(n))
            self.bias = nn.Parameter(torch.zeros(n)) if bias else None

        def forward(self, x):
            return x * self.weight + (0 if self.bias is None else self.bias)

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.proj = nn.LayerNorm(16), nn.Linear(6, 6)

        def forward(self, x):
            u, v = x.chunk(2, -1)
            return u * self.proj(self.norm(v).mT).mT

    class Start(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).flatten(2).transpose(1, 2)

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1)

    def mlp(n, hidden):
        return nn.Linear(n, hidden), nn.GELU(), nn.Linear(hidden, n)

    def norm():
        return nn.LayerNorm(8, eps=1e-6)

    def block():
        if family == "MLPMixer":
            return Residual(norm(), Turned(*mlp(6, 4))), Residual(norm(), *mlp(8, 32))
        if family == "ResMLP":
            return (Residual(Affine(8), Turned(nn.Linear(6, 6)), Affine(8, bias=False)),
                    Residual(Affine(8), *mlp(8, 32), Affine(8, bias=False)))
        return (Residual(norm(), nn.Linear(8, 32), nn.GELU(), Gate(), nn.Linear(16, 8)),)

    last = Affine(8) if family == "ResMLP" else norm()
    return nn.Sequential(Start(3, 8, 4, 4), *block(), *block(), last, Mean(), nn.Linear(8, CLASSES))


@pytest.mark.parametrize(("family", "config"), ROWS)
def test_parameters(family, config):
    with flux.shapes_only():
        m = getattr(models, family)(config)
    assert models.num_parameters(m, buffers=True) == COUNTS[family][config]
    assert (m.imsize, m.inchannels, m.nclasses) == ((224, 224), 3, 1000)


@pytest.mark.parametrize(("block", "planes", "depth", "keywords", "wanted"), PAPERS)
def test_parameters_of_the_papers_networks(block, planes, depth, keywords, wanted):
    with flux.shapes_only():
        m = models.mixer(block, planes, depth, **keywords)
    assert models.num_parameters(m) == wanted


@pytest.mark.parametrize(("family", "config"), ROWS)
def test_shapes(family, config):
    with flux.shapes_only():
        m = getattr(models, family)(config)
    features = (2, 196, {"small": 512, "base": 768, "large": 1024, "huge": 1280}[config])
    assert flux.outputsize(m.backbone, (2, 3, 224, 224)) == features
    assert flux.outputsize(m.classifier, features) == (2, 1000)


@pytest.mark.parametrize("family", COUNTS)
def test_beside_torch(family):
    ours = tiny(family, nclasses=CLASSES)
    error = error_beside_torch(ours, torch_mixer(family), images(3, 3, 8, 12))
    assert error < 1e-9  # MLPMixer's norms take away what the last biases over the patches add: gradients of 1e-16


@pytest.mark.parametrize("family", COUNTS)
def test_training_modes_state_and_printing(family):
    check_network(partial(tiny, family), images(6, 3, 8, 12))


@pytest.mark.parametrize("family", COUNTS)
def test_options(family):
    ratio = {"mlp_ratio": (1.0, 2.0) if family == "MLPMixer" else 2.0}
    m = tiny(family, **ratio, dropout_prob=0.1, stochastic_depth_prob=0.5, activation=flux.relu, norm_layer=flux.LayerNorm,
             inchannels=1, nclasses=7, rng=flux.Generator(0))  # fmt: skip
    text = repr(m)
    assert "relu" in text
    assert "gelu" not in text
    assert "Dropout(0.1, rng=" in text
    assert "StochasticDepth(0.25" in text
    assert "LayerNorm(8)" in text
    assert "Dense(8, 16, relu)" in text
    x = images(2, 1, 8, 12)
    assert flux.trainmode(m)(x).shape == (2, 7)
    again = tiny(family, **ratio, dropout_prob=0.1, stochastic_depth_prob=0.5, activation=flux.relu, norm_layer=flux.LayerNorm,
                 inchannels=1, nclasses=7, rng=flux.Generator(0))  # fmt: skip
    np.testing.assert_array_equal(flux.testmode(m)(x).numpy(), again(x).numpy())  # rng reaches every layer
    off = tiny(family, stochastic_depth_prob=None, dropout_prob=None)
    assert "StochasticDepth" not in repr(off)
    assert "Dropout" not in repr(off)


def test_the_scale_of_resmlp():
    text = repr(tiny("ResMLP", layerscale_init=0.5))
    assert "LayerScale(8, 0.5)" in text
    assert "LayerScale(8, 0.0001)" in repr(tiny("ResMLP"))
    assert "LayerScale" not in repr(tiny("ResMLP", layerscale_init=None))


@pytest.mark.parametrize("family", COUNTS)
def test_what_there_is_not(family):
    with pytest.raises(ValueError, match=f"{family}: the configuration is one of 'small', 'base', 'large', 'huge', got 'tiny'"):
        getattr(models, family)("tiny")
    with pytest.raises(ValueError, match="images of 9 x 12 cannot be cut into patches of 4 x 4"):
        tiny(family, imsize=(9, 12))
    with pytest.raises(ValueError, match=r"input shape \(1, "):
        tiny(family)(images(1, 3, 8, 8))
    with pytest.raises(TypeError, match="depths"):
        tiny(family, depths=3)
