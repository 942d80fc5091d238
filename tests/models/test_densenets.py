"""DenseNet against plain PyTorch, the counts of its variants and its options."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.models import DenseNet, densenet
from minitorch_flux.models.densenets import beside_input, dense_layer, transition

from .zoo_tools import check_network, check_published, count, error_beside_torch, images, on_meta

COUNTS = {121: 7_978_856, 161: 28_681_000, 169: 14_149_480, 201: 20_013_928}
FEATURES = {121: 1024, 161: 2208, 169: 1664, 201: 1920}
BLOCKS = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}  # the paper's table 1


@pytest.mark.parametrize("depth", COUNTS)
def test_parameters_and_shapes(depth):
    check_published(lambda: DenseNet(depth), COUNTS[depth], (FEATURES[depth], 7, 7), (224, 224))
    from .plain_torch import densenet as plain

    assert count(on_meta(plain, BLOCKS[depth], 48 if depth == 161 else 32, 3, 1000)) == COUNTS[depth]


def test_the_default_and_another_growth():
    with flux.shapes_only():
        assert models.num_parameters(DenseNet()) == COUNTS[121]
        narrow = DenseNet(161, growth_rate=32)
    assert models.num_parameters(narrow) == 13_290_344
    assert narrow.backbone.stem.conv.out == 64


@pytest.mark.parametrize("train", [False, True])
def test_against_plain_pytorch(train):
    pytest.importorskip("torch")
    from .plain_torch import densenet as plain

    ours = densenet([2, 3, 2], growth_rate=3, nclasses=5)
    assert error_beside_torch(ours, plain([2, 3, 2], 3, 3, 5), images(3, 3, 40, 37), train) < 1e-10


@pytest.mark.parametrize("depth", [121, pytest.param(161, marks=pytest.mark.slow), pytest.param(201, marks=pytest.mark.slow)])
def test_a_published_depth_against_plain_pytorch(depth):
    """Whose layers add four planes."""
    pytest.importorskip("torch")
    from .plain_torch import densenet as plain

    ours = DenseNet(depth, growth_rate=4, nclasses=5)
    assert error_beside_torch(ours, plain(BLOCKS[depth], 4, 3, 5), images(2, 3, 33, 40)) < 1e-11


def test_it_learns_prints_and_saves():
    check_network(lambda **keywords: densenet([2, 2], growth_rate=4, **keywords), images(6, 3, 32, 32),
                  names={"beside_input": beside_input})


def test_every_option():
    m = densenet((1, 2, 1), growth_rate=6, reduction=0.75, dropout_prob=0.25, imsize=[64, 48], inchannels=2, nclasses=7,
                 rng=flux.Generator(0))  # fmt: skip
    assert (m.imsize, m.inchannels, m.nclasses) == ((64, 48), 2, 7)
    assert m(images(2, 2, 64, 48)).shape == (2, 7)
    names = ["stem", "block1", "transition1", "block2", "transition2", "block3", "norm"]
    assert list(models.backbone(m).names) == names
    assert m.backbone.transition1.conv.out == int(0.75 * 18)
    assert [len(m.backbone[f"block{i}"]) for i in (1, 2, 3)] == [1, 2, 1]
    assert "Dropout(0.25, rng=" in repr(m)
    first = next(iter(m.state_dict()))
    np.testing.assert_array_equal(
        m.state_dict()[first], densenet((1, 2, 1), growth_rate=6, reduction=0.75, inchannels=2,
                                        rng=flux.Generator(0)).state_dict()[first])  # fmt: skip


def test_every_resolution_is_a_part_of_the_backbone():
    m = densenet([1, 1, 1], growth_rate=4)
    sizes = [flux.outputsize(models.backbone(m)[: i + 1], (1, 3, 64, 64))[2] for i in range(7)]
    assert sizes == [16, 16, 8, 8, 4, 4, 4]


def test_a_layer_keeps_its_input_and_a_transition_halves_it():
    x = images(2, 3, 6, 5)
    layer = dense_layer(3, 2)
    y = layer(x).numpy()
    assert y.shape == (2, 5, 6, 5)
    np.testing.assert_array_equal(y[:, :3], x)
    assert list(layer.state_dict())[0] == "layer.norm1.weight"
    np.testing.assert_array_equal(beside_input(x[:, :1], x)[:, :3].numpy(), x)
    assert transition(3, 2)(x).shape == (2, 2, 3, 2)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: DenseNet(120), ValueError, "DenseNet: the depth is one of 121, 161, 169, 201, got 120"),
    (lambda: densenet([]), ValueError, r"at least one each, got \[\]"),
    (lambda: densenet([2, 0]), ValueError, r"at least one each, got \[2, 0\]"),
    (lambda: densenet([1, 1], growth_rate=2, reduction=0.1), ValueError,
     "reduction=0.1 leaves none of the 6 planes after block 1; it is the share"),
    (lambda: DenseNet(121, pretrain=True), TypeError, "pretrain"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
