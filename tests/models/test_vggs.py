"""VGG against plain PyTorch, the counts of its variants and its options."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.models import VGG, vgg
from minitorch_flux.models.vggs import CONFIGS

from .zoo_tools import check_network, check_published, count, error_beside_torch, images, on_meta

COUNTS = {
    (11, False): 132_863_336, (13, False): 133_047_848, (16, False): 138_357_544, (19, False): 143_667_240,
    (11, True): 132_868_840, (13, True): 133_053_736, (16, True): 138_365_992, (19, True): 143_678_248,
}  # fmt: skip
LETTERS = {  # the paper's table 1
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    13: [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    16: [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    19: [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}


@pytest.mark.parametrize(("depth", "batchnorm"), COUNTS)
def test_parameters_and_shapes(depth, batchnorm):
    wanted = COUNTS[depth, batchnorm]
    check_published(lambda: VGG(depth, batchnorm=batchnorm), wanted, (512, 7, 7), (224, 224))
    from .plain_torch import vgg as plain

    assert count(on_meta(plain, LETTERS[depth], 3, 1000, 4096, 512 * 49, batchnorm)) == wanted


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_against_plain_pytorch(batchnorm, train):
    """Odd sizes; the bias before a norm in train mode has no gradient but rounding errors."""
    pytest.importorskip("torch")
    from .plain_torch import vgg as plain

    ours = vgg((36, 33), config=[(4, 1), (6, 2), (8, 2)], batchnorm=batchnorm, fcsize=10, nclasses=5)
    theirs = plain([4, "M", 6, 6, "M", 8, 8, "M"], 3, 5, 10, 8 * 4 * 4, batchnorm)
    assert error_beside_torch(ours, theirs, images(3, 3, 36, 33), train) < (1e-7 if batchnorm and train else 1e-12)


@pytest.mark.parametrize("depth", CONFIGS)
def test_every_depth_against_plain_pytorch(depth):
    """With an eighth of the planes."""
    pytest.importorskip("torch")
    from .plain_torch import vgg as plain

    ours = vgg((32, 32), config=[(planes // 8, n) for planes, n in CONFIGS[depth]], batchnorm=True, fcsize=8, nclasses=5)
    theirs = plain([n if n == "M" else n // 8 for n in LETTERS[depth]], 3, 5, 8, 64, True)
    assert error_beside_torch(ours, theirs, images(1, 3, 32, 32)) < 1e-11


@pytest.mark.parametrize("batchnorm", [False, True])
def test_it_learns_prints_and_saves(batchnorm):
    check_network(
        lambda **keywords: vgg((32, 32), config=[(8, 1), (8, 2)], fcsize=16, batchnorm=batchnorm, **keywords),
        images(6, 3, 32, 32),
    )


def test_every_option():
    m = vgg([20, 12], config=((4, 2), (6, 1)), batchnorm=True, fcsize=5, dropout_prob=0.25, inchannels=2, nclasses=7,
            rng=flux.Generator(0))  # fmt: skip
    assert (m.imsize, m.inchannels, m.nclasses) == ((20, 12), 2, 7)
    assert m(images(3, 2, 20, 12)).shape == (3, 7)
    assert flux.outputsize(models.backbone(m), (3, 2, 20, 12)) == (3, 6, 5, 3)
    assert list(m.backbone.names) == ["stage1", "stage2"]
    assert list(m.backbone.stage1.names) == ["conv1", "norm1", "conv2", "norm2", "pool"]
    assert m.backbone.stage1.conv1.bias is not None
    assert repr(m).count("Dropout(0.25, rng=") == 2
    assert repr(vgg((8, 8), config=[(4, 1)], fcsize=4)).count("Dropout(0.0)") == 2
    assert "Dropout" not in repr(vgg((8, 8), config=[(4, 1)], fcsize=4, dropout_prob=None))
    with flux.shapes_only():
        small = VGG(11, imsize=(32, 64), dropout_prob=0.1, fcsize=100, batchnorm=True, inchannels=1, nclasses=10)
        assert repr(VGG(11)).count("Dropout(0.5)") == 2
    assert flux.outputsize(small, (2, 1, 32, 64)) == (2, 10)
    assert small.classifier.dense1.weight.shape == (100, 512 * 2)


def test_keys_do_not_depend_on_the_norms():
    plain = vgg((8, 8), config=[(4, 2)], fcsize=4).state_dict()
    assert set(plain) < set(vgg((8, 8), config=[(4, 2)], fcsize=4, batchnorm=True).state_dict())


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: VGG(12), ValueError, "VGG: the depth is one of 11, 13, 16, 19, got 12"),
    (lambda: VGG("11"), ValueError, "the depth is one of 11, 13, 16, 19, got '11'"),
    (lambda: VGG(16, imsize=(224, 31)), ValueError,
     r"images of 224 x 31 \(height x width\) are too small for 5 pools, expected at least 32 each way"),
    (lambda: vgg((8, 8), config=[]), ValueError, r"at least one convolution each, got \[\]"),
    (lambda: vgg((8, 8), config=[(4, 0)]), ValueError, r"at least one convolution each, got \[\(4, 0\)\]"),
    (lambda: vgg((8, 8)), TypeError, "config"),
    (lambda: VGG(11, pretrain=True), TypeError, "pretrain"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_images_of_another_size():
    m = vgg((16, 16), config=[(4, 1)], fcsize=4)
    with pytest.raises(ValueError, match=r"Chain\['dense1'\] Dense\(256, 4, relu\): the input has 320 features, expected 256"):
        m(np.zeros((1, 3, 20, 16), np.float32))
