"""Plans: the layers that are made of them, their names and their planes."""

from functools import partial

import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, MaxPool, Parallel, identity, relu
from minitorch_flux.models.inceptions.plans import MAX, Builder, Residual, fork, inception, same, valid

from ..zoo_tools import images


def made(plan, planes=3, width_mult=1.0, **keywords):
    return Builder(width_mult, None, **keywords).chain(plan, planes)


def test_steps():
    assert same(3, 8) == ((3, 3), 8, 1, (1, 1))
    assert same((1, 7), 8) == ((1, 7), 8, 1, (0, 3))
    assert same(7, 64, 2) == ((7, 7), 64, 2, (3, 3))
    assert valid(3, 8, 2) == ((3, 3), 8, 2, (0, 0))


def test_a_chain_is_named_by_kind_and_number():
    m, planes = made([same(3, 4), MAX, valid(3, 6), fork([same(1, 2)], [MAX]), Residual(fork([same(1, 2)]), 0.5), MAX])
    assert list(m.names) == ["conv1", "norm1", "pool1", "conv2", "norm2", "mixed1", "residual1", "pool2"]
    assert planes == 8
    assert isinstance(m.pool1, MaxPool)
    assert m.pool1 is not m.pool2
    assert (m.norm1.activation, m.norm1.eps) == (relu, 1e-3)
    assert m.conv1.bias is None
    without, _ = made([same(3, 4), valid(3, 6)], batchnorm=False)
    assert list(without.names) == ["conv1", "conv2"]
    assert without.conv1.activation is relu
    assert without.conv1.bias is not None


def test_a_fork_is_joined_along_the_channels():
    m, planes = made([fork([same(1, 4), same(3, 5)], [], [same(1, 2), fork([same(1, 1)], [same(1, 1)])])])
    assert planes == 5 + 3 + 2
    assert m(images(2, 3, 4, 5)).shape == (2, 10, 4, 5)
    assert list(m.mixed1.names) == ["branch1", "branch2", "branch3"]
    assert len(m.mixed1.branch2) == 0


@pytest.mark.parametrize(("scale", "activation"), [(0.5, relu), (1.0, identity)])
def test_a_residual_block(scale, activation):
    m, planes = made([Residual(fork([same(1, 2)], [same(3, 3)]), scale, activation)], 4)
    assert planes == 4
    block = m.residual1
    assert isinstance(block, Parallel)
    x = images(2, 4, 3, 3)
    branch = block["branch"]
    assert list(branch.names) == ["mixed", "up", "scale"][: 3 if scale != 1 else 2]
    assert isinstance(branch.up, Conv)
    assert branch.up.bias is not None
    wanted = activation(flux.tensor(x) + scale * branch.up(branch.mixed(x)))
    assert abs(m(x).numpy() - wanted.numpy()).max() < 1e-6


def test_width_mult_multiplies_all_planes():
    m, planes = made([same(1, 8), fork([same(1, 6)], [same(1, 3)])], width_mult=0.5)
    assert (m.conv1.out, planes) == (4, 5)
    assert made([same(1, 3)], width_mult=0.01)[1] == 1
    assert made([same(1, 3)], width_mult=2)[1] == 6


def test_the_network_around_them():
    build = partial(inception, "Name", {"stem": [same(3, 4, 2)], "stage1": [fork([same(1, 2)], [same(1, 3)])]},
                    imsize=(8, 8), inchannels=1, nclasses=6, rng=None, dropout_prob=None)
    m = build(width_mult=1)
    assert list(m.backbone.names) == ["stem", "stage1"]
    assert isinstance(m.backbone.stem, Chain)
    assert m(images(2, 1, 8, 8)).shape == (2, 6)
    for wrong in (0, -1.5, float("nan")):
        with pytest.raises(ValueError, match=f"Name: width_mult multiplies the planes and must be positive, got {wrong}"):
            build(width_mult=wrong)
