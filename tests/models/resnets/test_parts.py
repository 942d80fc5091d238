"""Shortcuts, stems, and the layers that blocks are made of."""

import copy
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, GroupNorm, MeanPool, identity, tanh
from minitorch_flux.models.resnets import (
    Scales,
    ZeroPadShortcut,
    basicblock,
    bottle2neck,
    bottleneck,
    downsample_conv,
    downsample_identity,
    downsample_pool,
    resnet_stem,
)

from ..layers.tools import randn, randomise


@pytest.mark.parametrize(("stride", "size"), [(1, (5, 6)), (2, (3, 3)), (3, (2, 2))])
def test_zero_pad_shortcut(stride, size):
    m, x = ZeroPadShortcut(3, 5, stride), randn(2, 3, 5, 6)
    y = m(x).numpy()
    assert y.shape == (2, 5, *size)
    np.testing.assert_array_equal(y[:, :3], x[:, :, ::stride, ::stride])
    np.testing.assert_array_equal(y[:, 3:], 0)
    assert repr(eval(repr(m))) == repr(m)
    assert m.state_dict() == {}
    assert flux.outputsize(m, x.shape) == y.shape
    flux.check(m, randn(1, 3, 3, 4))


def test_the_kinds_of_shortcuts():
    assert downsample_identity(4, 4) is identity
    assert repr(downsample_identity(4, 4, stride=2)) == "ZeroPadShortcut(4, 4, 2)"
    assert repr(downsample_identity(4, 8, norm_layer=GroupNorm)) == "ZeroPadShortcut(4, 8)"
    x = randn(2, 4, 5, 7)
    for f in (downsample_conv, downsample_pool):
        assert f(4, 8, stride=2)(x).shape == (2, 8, 3, 4)
        assert f(4, 6)(x).shape == (2, 6, 5, 7)
        assert repr(f(4, 8, norm_layer=GroupNorm)["norm"]).startswith("GroupNorm(8, 8)")
        assert list(f(4, 8, revnorm=True).names) == ["norm", "conv"]
        a, b = (f(4, 8, rng=flux.Generator(0)).state_dict()["conv.weight"] for _ in range(2))
        np.testing.assert_array_equal(a, b)
    assert list(downsample_pool(4, 8, stride=2).names) == ["pool", "conv", "norm"]
    assert list(downsample_pool(4, 8).names) == ["conv", "norm"]


@pytest.mark.parametrize(("kind", "replace", "names", "planes"), [
    ("default", False, ["conv1", "norm1", "pool"], [16]),
    ("default", True, ["conv1", "norm1", "conv2", "norm2"], [16, 16]),
    ("deep", False, ["conv1", "norm1", "conv2", "norm2", "conv3", "norm3", "pool"], [8, 8, 16]),
    ("deep_tiered", True, [f"{k}{i}" for i in (1, 2, 3, 4) for k in ("conv", "norm")], [6, 8, 16, 16]),
])  # fmt: skip
def test_stems(kind, replace, names, planes):
    m = resnet_stem(kind, inchannels=2, outplanes=16, replace_pool=replace)
    assert list(m.names) == names
    assert [layer.out for layer in m if isinstance(layer, Conv)] == planes
    assert m(randn(2, 2, 33, 30)).shape == (2, 16, 9, 8)
    norms = resnet_stem(kind, norm_layer=lambda planes: GroupNorm(planes, 2), activation=tanh, replace_pool=replace)
    assert [n for n in norms.names if n.startswith("act")] == [f"act{i + 1}" for i in range(len(planes))]
    assert list(resnet_stem(kind, revnorm=True).names)[:2] == ["norm1", "conv1"]


def test_scales_by_hand():
    convs = [Conv((3, 3), 2, 2, tanh, pad=1) for _ in range(2)]
    x = randn(2, 6, 4, 5)
    a, b, c = x[:, :2], x[:, 2:4], x[:, 4:]
    for added in (True, False):
        m = Scales(identity, *convs, added=added)
        first = convs[0](a)
        wanted = [first, convs[1](b + first if added else b), c]
        np.testing.assert_allclose(m(x).numpy(), np.concatenate([np.asarray(getattr(w, "data", w)) for w in wanted], 1),
                                   rtol=1e-5)
        assert list(m.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
        for other in (eval(repr(m), vars(flux) | {"Scales": Scales}), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
            assert repr(other) == repr(m)
    pooled = Scales(MeanPool((3, 3), stride=1, pad=1), *convs)
    np.testing.assert_allclose(pooled(x).numpy()[:, 4:], MeanPool((3, 3), stride=1, pad=1)(c).numpy(), rtol=1e-5)
    assert isinstance(pooled.rest, MeanPool)
    assert isinstance(pooled[:1], Chain)
    flux.check(randomise(Scales(identity, *(Conv((1, 1), 1, 1, tanh) for _ in range(2)))), randn(1, 3, 2, 2))
    assert flux.outputsize(pooled, (2, 6, 4, 5)) == (2, 6, 4, 5)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: ZeroPadShortcut(8, 4), "8 channels cannot be padded to 4; a shortcut to fewer needs a convolution"),
    (lambda: ZeroPadShortcut(3, 4)(randn(2, 2, 4, 4)),
     r"ZeroPadShortcut\(3, 4\): expected an input \(N, 3, H, W\) \(input shape"),
    (lambda: Scales(identity, identity)(randn(2, 3, 4, 4)), "the channels of axis 1 cannot be split into 2 parts"),
])  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_blocks_are_chains_without_what_is_off():
    assert list(basicblock(4, 4).names) == ["conv1", "norm1", "conv2", "norm2"]
    assert list(bottleneck(4, 4).names) == [f"{k}{i}" for i in (1, 2, 3) for k in ("conv", "norm")]
    assert list(bottle2neck(4, 4, base_width=64).names) == ["conv1", "norm1", "scales", "conv2", "norm2"]
    assert basicblock(4, 6, stride=2)(randn(2, 4, 5, 5)).shape == (2, 6, 3, 3)
    assert bottleneck(4, 6, stride=2)(randn(2, 4, 5, 5)).shape == (2, 24, 3, 3)
    assert bottle2neck(4, 6, stride=2, base_width=64, is_first=True)(randn(2, 4, 5, 5)).shape == (2, 24, 3, 3)
