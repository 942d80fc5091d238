"""ConvMixer: parameters and shapes of every configuration, and the network beside plain PyTorch."""

from functools import partial

import pytest

import minitorch_flux as flux
from minitorch_flux import models

from .zoo_tools import CLASSES, check_network, error_beside_torch, images

COUNTS = [
    ("small", {}, 21_060_328),
    ("base", {}, 51_562_984),
    ("large", {}, 23_889_896),
    ("small", {"bias": True}, 21_110_248),
    ("base", {"bias": True}, 51_625_960),
    ("large", {"bias": True, "patch_size": (14, 14)}, 24_383_464),
]
small = partial(models.convmixer, 8, 2, kernel_size=(3, 5), patch_size=(2, 2))


def torch_convmixer(bias):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    def layers(*args, **keywords):
        return nn.Conv2d(*args, bias=bias, **keywords), nn.GELU(), nn.BatchNorm2d(8)

    blocks = [
        nn.Sequential(Residual(*layers(8, 8, (3, 5), groups=8, padding="same")), *layers(8, 8, 1)) for _ in range(2)
    ]
    return nn.Sequential(*layers(3, 8, 2, stride=2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))


@pytest.mark.parametrize(("config", "keywords", "wanted"), COUNTS)
def test_parameters(config, keywords, wanted):
    with flux.shapes_only():
        m = models.ConvMixer(config, **keywords)
    assert models.num_parameters(m) == wanted
    assert (m.imsize, m.inchannels, m.nclasses) == ((224, 224), 3, 1000)


@pytest.mark.parametrize(("config", "planes"), [("small", 768), ("base", 1536), ("large", 1024)])
def test_shapes(config, planes):
    with flux.shapes_only():
        m = models.ConvMixer(config)
    assert flux.outputsize(m.backbone, (2, 3, 224, 224)) == (2, planes, 32, 32)
    assert flux.outputsize(m.classifier, (2, planes, 32, 32)) == (2, 1000)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_beside_torch(bias, train):
    assert error_beside_torch(small(nclasses=CLASSES, bias=bias), torch_convmixer(bias), images(3, 3, 11, 12), train) < 1e-10


def test_training_modes_state_and_printing():
    check_network(small, images(6, 3, 12, 12))


def test_options():
    m = small(activation=flux.relu, norm_layer=lambda planes: flux.GroupNorm(planes, 2), bias=True, dropout_prob=0.5,
              imsize=(16, 16), inchannels=1, nclasses=7, rng=flux.Generator(0))  # fmt: skip
    assert m.imsize == (16, 16)
    assert flux.trainmode(m)(images(2, 1, 16, 16)).shape == (2, 7)
    block = m.backbone.block2
    assert repr(block.depthwise.layer.conv).startswith("Conv((3, 5), 8, 8, relu, pad=SamePad(), groups=8)")
    assert repr(block.pointwise.norm).startswith("GroupNorm(8, 2, ")
    with flux.shapes_only():
        assert models.ConvMixer("small").backbone.stem.conv.activation is flux.relu
        assert models.ConvMixer().backbone.stem.conv.activation is flux.gelu_erf


def test_what_there_is_not():
    with pytest.raises(ValueError, match="ConvMixer: the configuration is one of 'small', 'base', 'large', got 'tiny'"):
        models.ConvMixer("tiny")
    with pytest.raises(ValueError, match="preact=True has no meaning with norm_layer=identity"):
        small(norm_layer=flux.identity)
    with pytest.raises(ValueError, match="channels on axis 1, expected 3"):
        small()(images(1, 1, 16, 16))
