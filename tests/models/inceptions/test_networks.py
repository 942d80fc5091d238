"""The Inception networks against plain PyTorch, their counts and their options."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.models import GoogLeNet, InceptionResNetv2, Inceptionv3, Inceptionv4, Xception

from ..zoo_tools import check_network, check_published, count, error_beside_torch, images, on_meta

FAMILIES = {
    "GoogLeNet": (GoogLeNet, 6_998_552, (1024, 7, 7), (224, 224), (2, 3, 47, 60)),
    "GoogLeNet bn": (lambda **k: GoogLeNet(batchnorm=True, **k), 7_005_832, (1024, 7, 7), (224, 224), (2, 3, 32, 50)),
    "Inceptionv3": (Inceptionv3, 23_834_568, (2048, 8, 8), (299, 299), (1, 3, 75, 107)),
    "Inceptionv4": (Inceptionv4, 42_679_816, (1536, 8, 8), (299, 299), (1, 3, 75, 107)),
    "InceptionResNetv2": (InceptionResNetv2, 55_843_464, (1536, 8, 8), (299, 299), (1, 3, 75, 107)),
    "Xception": (Xception, 22_855_952, (2048, 10, 10), (299, 299), (2, 3, 32, 51)),
}
"""What builds it, its parameters, features and images; and the shape of the images that it is compared on."""


def plain(name, width_mult, nclasses):
    from . import plain_torch

    def planes(n):
        return max(1, round(n * width_mult))

    if name.startswith("GoogLeNet"):
        return plain_torch.googlenet(planes, nclasses, name.endswith("bn"))
    build = {"Inceptionv3": plain_torch.inception_v3, "Inceptionv4": plain_torch.inception_v4,
             "InceptionResNetv2": plain_torch.inception_resnet_v2, "Xception": plain_torch.xception}[name]  # fmt: skip
    return build(planes, nclasses)


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_and_shapes(name):
    build, wanted, features, imsize, _ = FAMILIES[name]
    check_published(build, wanted, features, imsize)
    pytest.importorskip("torch")
    assert count(on_meta(plain, name, 1, 1000)) == wanted


@pytest.mark.parametrize("name", FAMILIES)
def test_against_plain_pytorch(name):
    """All layers, with an eighth of the planes; images that are not square."""
    pytest.importorskip("torch")
    build, *_, shape = FAMILIES[name]
    assert error_beside_torch(build(width_mult=0.125, nclasses=5), plain(name, 0.125, 5), images(*shape)) < 1e-11


def test_googlenet_against_plain_pytorch_in_train_mode():
    pytest.importorskip("torch")
    ours = GoogLeNet(width_mult=0.125, nclasses=5, batchnorm=True, dropout_prob=None)
    assert error_beside_torch(ours, plain("GoogLeNet bn", 0.125, 5), images(5, 3, 64, 64), train=True) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_published_size_against_plain_pytorch(name):
    pytest.importorskip("torch")
    build, *_, shape = FAMILIES[name]
    assert error_beside_torch(build(), plain(name, 1, 1000), images(*shape)) < 1e-10


@pytest.mark.parametrize("name", FAMILIES)
def test_it_learns_prints_and_saves(name):
    build, *_, shape = FAMILIES[name]
    check_network(lambda **keywords: build(width_mult=0.0625, **keywords), images(6, *shape[1:-1], shape[-2]))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_option(name):
    build, *_, (_, _, h, w) = FAMILIES[name]
    m = build(width_mult=0.05, dropout_prob=0.25, imsize=[h, w], inchannels=2, nclasses=7, rng=flux.Generator(0))
    assert (m.imsize, m.inchannels, m.nclasses) == ((h, w), 2, 7)
    assert flux.outputsize(m, (2, 2, h, w)) == (2, 7)
    assert "Dropout(0.25, rng=" in repr(m)
    assert "Dropout" not in repr(build(width_mult=0.05, dropout_prob=None))
    with pytest.raises(ValueError, match=f"{name.split()[0]}: width_mult multiplies the planes and must be positive, got 0"):
        build(width_mult=0)
    with pytest.raises(TypeError, match="pretrain"):
        build(pretrain=True)


def test_default_dropout():
    with flux.shapes_only():
        assert "Dropout(0.4)" in repr(GoogLeNet())
        assert "Dropout(0.2)" in repr(Inceptionv3())
        assert not any("Dropout" in repr(f()) for f in (Inceptionv4, InceptionResNetv2, Xception))


def test_biases_of_googlenet():
    with flux.shapes_only():
        assert models.num_parameters(GoogLeNet(bias=False)) == 6_998_552 - 7_280
        assert models.num_parameters(GoogLeNet(bias=True, batchnorm=True)) == 7_005_832 + 7_280


@pytest.mark.parametrize("build", [Inceptionv3, Inceptionv4, InceptionResNetv2])
def test_images_that_are_too_small(build):
    with flux.shapes_only():
        m = build(nclasses=3)
    assert flux.outputsize(m, (1, 3, 75, 75)) == (1, 3)
    with pytest.raises(ValueError, match=r"Chain\['stage3'\].*the kernel is larger than the input on axis -2 \(height\)"):
        flux.outputsize(m, (1, 3, 74, 75))


def test_the_residual_blocks_of_inception_resnet():
    with flux.shapes_only():
        m = InceptionResNetv2(width_mult=0.1)
    stages = [m.backbone[f"stage{i}"] for i in (1, 2, 3)]
    blocks = [[layer for name, layer in zip(s.names, s, strict=True) if name.startswith("residual")] for s in stages]
    assert [len(b) for b in blocks] == [10, 20, 10]
    assert [b[0]["branch"].scale.lambda_ for b in blocks] == [0.17, 0.1, 0.2]
    assert list(blocks[2][-1]["branch"].names) == ["mixed", "up"]
    assert [repr(b.connection.args[0].name) for b in (blocks[2][0], blocks[2][-1])] == ["'relu'", "'identity'"]


def test_the_blocks_of_xception():
    with flux.shapes_only():
        backbone = Xception(width_mult=0.1).backbone
    assert [len(backbone[part]) for part in ("entry", "middle")] == [3, 8]
    assert list(backbone.entry[0]["branch"].names)[:2] == ["depthwise1", "pointwise1"]
    assert list(backbone.entry[1]["branch"].names)[0] == "act"
    assert "pool" not in backbone.middle[0]["branch"].names
    assert backbone.middle[0]["shortcut"] is flux.identity
    x = np.zeros((1, 3, 40, 40), np.float32)
    assert flux.outputsize(backbone, x.shape) == (1, 205, 2, 2)
