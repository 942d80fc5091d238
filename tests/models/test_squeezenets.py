"""SqueezeNet against plain PyTorch, its count and its options."""

import pytest

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.models import SqueezeNet
from minitorch_flux.models.squeezenets import fire

from .zoo_tools import check_network, check_published, count, error_beside_torch, images, on_meta


def test_parameters_and_shapes():
    check_published(SqueezeNet, 1_235_496, (512, 13, 13), (224, 224))
    from .plain_torch import squeezenet

    assert count(on_meta(squeezenet, 3, 1000)) == 1_235_496


@pytest.mark.parametrize("size", [(46, 50), (25, 31)])
def test_against_plain_pytorch(size):
    """Maps of an even size: the pools keep their last window."""
    pytest.importorskip("torch")
    from .plain_torch import squeezenet

    assert error_beside_torch(SqueezeNet(nclasses=5), squeezenet(3, 5), images(2, 3, *size)) < 1e-12


def test_it_learns_prints_and_saves():
    check_network(SqueezeNet, images(6, 3, 32, 32))


def test_every_option():
    m = SqueezeNet(dropout_prob=0.25, imsize=[64, 48], inchannels=2, nclasses=7, rng=flux.Generator(0))
    assert (m.imsize, m.inchannels, m.nclasses) == ((64, 48), 2, 7)
    assert flux.outputsize(m, (2, 2, 64, 48)) == (2, 7)
    assert list(m.backbone.names) == ["conv", "stage1", "stage2", "stage3"]
    assert list(models.classifier(m).names) == ["dropout", "conv", "pool", "flatten"]
    assert "Dropout(0.25, rng=" in repr(m)
    with flux.shapes_only():
        assert "Dropout" not in repr(SqueezeNet(dropout_prob=None))


def test_a_fire_module():
    m = fire(4, 2, 3)
    assert m(images(2, 4, 5, 6)).shape == (2, 6, 5, 6)
    assert list(m.state_dict())[::2] == ["squeeze.weight", "expand.conv1x1.weight", "expand.conv3x3.weight"]
    flux.check(flux.f64(m), images(1, 4, 3, 3))


@pytest.mark.parametrize(("keywords", "error", "message"), [
    ({"dropout_prob": -0.1}, ValueError, "Dropout"),
    ({"inchannels": None, "nclasses": "ten"}, TypeError, "Conv"),
    ({"pretrain": True}, TypeError, "pretrain"),
])  # fmt: skip
def test_errors(keywords, error, message):
    with flux.shapes_only(), pytest.raises(error, match=message):
        SqueezeNet(**keywords)
