"""ConvNeXt: parameters and shapes of every configuration, and the network beside plain PyTorch."""

from functools import partial

import pytest

import minitorch_flux as flux
from minitorch_flux import Layers, models
from minitorch_flux.models.convnexts import convnextblock

from .zoo_tools import CLASSES, check_network, error_beside_torch, images

COUNTS = {"tiny": 28_589_128, "small": 50_223_688, "base": 88_591_464, "large": 197_767_336, "xlarge": 350_196_968}
PLANES = {"tiny": 768, "small": 768, "base": 1024, "large": 1536, "xlarge": 2048}
small = partial(models.convnext, [2, 1], [8, 12])


def torch_convnext(depths, planes):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class ChannelNorm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class Scale(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(n))

        def forward(self, x):
            return x * self.weight

    class Block(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.conv = nn.Conv2d(n, n, 7, padding=3, groups=n)
            self.mlp = nn.Sequential(nn.LayerNorm(n, eps=1e-6), nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n), Scale(n))

        def forward(self, x):
            return x + self.mlp(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    layers = [nn.Conv2d(3, planes[0], 4, 4), ChannelNorm(planes[0], eps=1e-6)]
    for i, (depth, n) in enumerate(zip(depths, planes, strict=True)):
        if i:
            layers += [ChannelNorm(planes[i - 1], eps=1e-6), nn.Conv2d(planes[i - 1], n, 2, 2)]
        layers += [Block(n) for _ in range(depth)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(planes[-1], eps=1e-6), nn.Linear(planes[-1], CLASSES)]
    return nn.Sequential(*layers, *head)


@pytest.mark.parametrize("config", COUNTS)
def test_parameters(config):
    with flux.shapes_only():
        m = models.ConvNeXt(config)
    assert models.num_parameters(m, buffers=True) == COUNTS[config]
    assert (m.imsize, m.inchannels, m.nclasses) == ((224, 224), 3, 1000)
    assert m.backbone.names == ("stem", "stage1", "down1", "stage2", "down2", "stage3", "down3", "stage4")


@pytest.mark.parametrize("config", COUNTS)
def test_shapes(config):
    with flux.shapes_only():
        m = models.ConvNeXt(config)
    features = (2, PLANES[config], 7, 7)
    assert flux.outputsize(m.backbone, (2, 3, 224, 224)) == features
    assert flux.outputsize(m.classifier, features) == (2, 1000)


@pytest.mark.parametrize("train", [False, True])
def test_beside_torch(train):
    assert error_beside_torch(small(nclasses=CLASSES), torch_convnext([2, 1], [8, 12]), images(2, 3, 19, 24), train) < 1e-11


def test_training_modes_state_and_printing():
    check_network(small, images(6, 3, 16, 16))


def test_the_block():
    m = convnextblock(8, None, layerscale_init=None, activation=flux.relu)
    assert repr(m.layer).count("relu") == 1
    assert m.layer.names == ("conv", "channels_last", "norm", "dense1", "dense2", "channels_first", "drop_path")
    assert m.layer.drop_path is flux.identity
    assert convnextblock(8, layerscale_init=0).layer.names == m.layer.names
    x = images(2, 8, 5, 6)
    assert m(x).shape == x.shape
    scaled = convnextblock(8, layerscale_init=0.5)
    assert scaled.layer.scale.weight.tolist() == [0.5] * 8
    y = flux.trainmode(convnextblock(8, 1.0, layerscale_init=1.0))(x)
    assert (y.numpy() == x).all()  # every branch is dropped
    flux.check(flux.f64(convnextblock(2, layerscale_init=1.0, rng=flux.Generator(0))), images(1, 2, 3, 3, dtype="float64"))


def test_options():
    m = small(stochastic_depth_prob=0.3, layerscale_init=0.1, dropout_prob=0.2, activation=flux.swish, imsize=(32, 48),
              inchannels=1, nclasses=7, rng=flux.Generator(0))  # fmt: skip
    assert [b.layer.drop_path.p for stage in (m.backbone.stage1, m.backbone.stage2) for b in stage] == pytest.approx(
        [0, 0.1, 0.2])
    assert m.classifier.dropout.p == 0.2
    assert m.imsize == (32, 48)
    assert flux.trainmode(m)(images(2, 1, 32, 48)).shape == (2, 7)
    assert small(stochastic_depth_prob=None).backbone.stage1[1].layer.drop_path is flux.identity
    ones = [t for name, t in small(layerscale_init=0.1).named_parameters() if name.endswith("scale.weight")]
    assert len(ones) == 3
    assert isinstance(m.backbone.stem.norm, Layers.ChannelLayerNorm)


def test_what_there_is_not():
    with pytest.raises(ValueError, match="ConvNeXt: the configuration is one of 'tiny', 'small', 'base', .* got 'nano'"):
        models.ConvNeXt("nano")
    with pytest.raises(ValueError, match="convnext: every stage has a depth and a number of planes, got 2 depths and 1 num"):
        models.convnext([1, 1], [8])
    with pytest.raises(ValueError, match="got 0 depths"):
        models.convnext([], [])
    with pytest.raises(ValueError, match="Conv.*channels on axis 1, expected 3"):
        small()(images(1, 1, 16, 16))
    with pytest.raises(TypeError, match="lambda_ is a number"):
        small(layerscale_init="a")
