"""AlexNet against plain PyTorch, its count and its options."""

import pytest

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.models import AlexNet

from .zoo_tools import check_network, check_published, count, error_beside_torch, images, on_meta


def test_parameters_and_shapes():
    check_published(AlexNet, 61_100_840, (256, 6, 6), (224, 224))
    from .plain_torch import alexnet

    assert count(on_meta(alexnet, 3, 1000, 4096)) == 61_100_840


def test_against_plain_pytorch():
    pytest.importorskip("torch")
    from .plain_torch import alexnet

    ours = AlexNet(fcsize=16, inchannels=1, nclasses=5)
    assert error_beside_torch(ours, alexnet(1, 5, 16), images(2, 1, 80, 67)) < 1e-12


def test_it_learns_prints_and_saves():
    check_network(lambda **keywords: AlexNet(fcsize=16, **keywords), images(6, 3, 63, 63))


def test_every_option():
    m = AlexNet(fcsize=8, dropout_prob=0.25, imsize=[256, 256], inchannels=2, nclasses=7, rng=flux.Generator(0))
    assert (m.imsize, m.inchannels, m.nclasses) == ((256, 256), 2, 7)
    assert flux.outputsize(m, (2, 2, 256, 256)) == (2, 7)
    assert flux.outputsize(models.backbone(m), (2, 2, 256, 256)) == (2, 256, 7, 7)
    assert repr(m).count("Dropout(0.25, rng=") == 2
    assert "Dropout" not in repr(AlexNet(fcsize=8, dropout_prob=None))
    assert m.state_dict()["classifier.dense2.weight"].shape == (8, 8)


@pytest.mark.parametrize(("keywords", "error", "message"), [
    ({"dropout_prob": 2}, ValueError, "Dropout"),
    ({"nclasses": 2.5}, TypeError, "Dense"),
    ({"pretrain": True}, TypeError, "pretrain"),
])  # fmt: skip
def test_errors(keywords, error, message):
    with flux.shapes_only(), pytest.raises(error, match=message):
        AlexNet(**keywords)


def test_images_that_are_too_small():
    with flux.shapes_only():
        m = AlexNet()
    assert flux.outputsize(m, (1, 3, 63, 63)) == (1, 1000)
    with pytest.raises(ValueError, match=r"Chain\['pool5'\] MaxPool.*larger than the input on axis -2 \(height\)"):
        flux.outputsize(m, (1, 3, 62, 63))
