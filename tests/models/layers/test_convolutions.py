"""conv_norm, basic_conv_bn and dwsep_conv_norm: their tables, and PyTorch's build of each row."""

from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, Conv, GroupNorm, InstanceNorm, SamePad, identity, relu, sigmoid, swish, tanh
from minitorch_flux.models.layers import basic_conv_bn, conv_norm, dwsep_conv_norm

from .tools import randn, same_as_torch, trains


def prints(layers):
    return [repr(layer).partition("  #")[0] for layer in layers]


@pytest.mark.parametrize(("keywords", "wanted"), [
    ({"norm_layer": identity}, ["Conv((3, 3), 4, 6, swish)"]),
    ({"norm_layer": identity, "bias": False}, ["Conv((3, 3), 4, 6, swish, bias=False)"]),
    ({}, ["Conv((3, 3), 4, 6, bias=False)", "BatchNorm(6, swish)"]),
    ({"bias": True}, ["Conv((3, 3), 4, 6)", "BatchNorm(6, swish)"]),
    ({"revnorm": True}, ["BatchNorm(4)", "Conv((3, 3), 4, 6, swish, bias=False)"]),
    ({"preact": True}, ["Conv((3, 3), 4, 6, swish, bias=False)", "BatchNorm(6)"]),
    ({"norm_layer": GroupNorm}, ["Conv((3, 3), 4, 6, bias=False)", "GroupNorm(6, 2, swish)"]),
    ({"norm_layer": GroupNorm, "revnorm": True}, ["GroupNorm(4, 4)", "Conv((3, 3), 4, 6, swish, bias=False)"]),
    ({"norm_layer": lambda planes: GroupNorm(planes, 3), "preact": True},
     ["Conv((3, 3), 4, 6, swish, bias=False)", "GroupNorm(6, 3)"]),
    ({"norm_layer": lambda planes: GroupNorm(planes, 3)}, ["Conv((3, 3), 4, 6, bias=False)", "GroupNorm(6, 3)", "swish"]),
    ({"norm_layer": lambda planes, act: BatchNorm(planes, act, eps=1e-3)},
     ["Conv((3, 3), 4, 6, bias=False)", "BatchNorm(6, swish, eps=0.001)"]),
    ({"stride": 2, "pad": 1, "dilation": 2, "groups": 2},
     ["Conv((3, 3), 4, 6, stride=2, pad=1, dilation=2, groups=2, bias=False)", "BatchNorm(6, swish)"]),
    ({"pad": SamePad(), "init": flux.kaiming_normal, "flipkernel": True},
     ["Conv((3, 3), 4, 6, pad=SamePad(), flipkernel=True, bias=False, init=kaiming_normal)", "BatchNorm(6, swish)"]),
    ({"bias": np.ones(6), "init_bias": flux.ones}, ["Conv((3, 3), 4, 6, init_bias=ones)", "BatchNorm(6, swish)"]),
])  # fmt: skip
def test_the_rows_of_its_table_and_every_keyword(keywords, wanted):
    layers = conv_norm((3, 3), 4, 6, swish, **keywords)
    assert isinstance(layers, list)
    assert prints(layers) == wanted
    m = Chain(*layers)
    trains(m, randn(3, 4, 8, 9))
    assert flux.outputsize(m, (3, 4, 8, 9)) == m(randn(3, 4, 8, 9)).shape


def test_the_planes_as_a_pair():
    for layers in (conv_norm((3, 3), (4, 6)), conv_norm((3, 3), 4, 6), conv_norm((3, 3), 4, 6, relu),
                   conv_norm((3, 3), (4, 6), relu)):
        assert prints(layers) == ["Conv((3, 3), 4, 6, bias=False)", "BatchNorm(6, relu)"]
    assert prints(conv_norm((3, 3), [4, 6], activation=tanh))[1] == "BatchNorm(6, tanh)"
    assert prints(basic_conv_bn((3, 3), (4, 6), tanh))[1] == "BatchNorm(6, tanh, eps=0.001)"


def test_other_numbers_of_axes():
    assert Chain(*conv_norm((3,), 2, 4))(randn(2, 2, 9)).shape == (2, 4, 7)
    assert Chain(*conv_norm((3, 2, 1), 2, 4))(randn(2, 2, 5, 4, 3)).shape == (2, 4, 3, 3, 3)


def test_the_weight_is_taken_and_the_generator_decides():
    weight = randn(6, 2, 3, 3)
    layers = conv_norm((3, 3), 4, 6, groups=2, weight=weight)
    np.testing.assert_array_equal(layers[0].weight.numpy(), weight)
    assert layers[0].bias is None
    assert layers[0].weight.data is not weight
    assert conv_norm((3, 3), 4, 6, groups=2, weight=flux.tensor(weight), bias=np.arange(6.0))[0].bias.numpy()[5] == 5
    plain = conv_norm((3, 3), 4, 6, norm_layer=identity, groups=2, weight=weight, stride=2)
    assert prints(plain) == ["Conv((3, 3), 4, 6, relu, stride=2, groups=2)"]
    a, b, c = (conv_norm((3, 3), 4, 6, rng=flux.Generator(n))[0].weight.numpy() for n in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("row", ["identity", "norm", "revnorm", "preact"])
def test_against_torch(row, train):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    conv, keywords = nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=row == "identity"), {"stride": 2, "pad": 1, "groups": 2}
    theirs = {
        "identity": [conv, nn.ReLU()],
        "norm": [conv, nn.BatchNorm2d(6), nn.ReLU()],
        "revnorm": [nn.BatchNorm2d(4), conv, nn.ReLU()],
        "preact": [conv, nn.ReLU(), nn.BatchNorm2d(6)],
    }[row]
    if row == "identity":
        keywords["norm_layer"] = identity
    elif row != "norm":
        keywords[row] = True
    same_as_torch(Chain(*conv_norm((3, 3), 4, 6, **keywords)), nn.Sequential(*theirs), randn(5, 4, 7, 8), train=train)


def test_basic_conv_bn():
    assert prints(basic_conv_bn((3, 3), 4, 6)) == ["Conv((3, 3), 4, 6, bias=False)", "BatchNorm(6, relu, eps=0.001)"]
    assert prints(basic_conv_bn((3, 3), 4, 6, sigmoid, batchnorm=False, stride=2)) == ["Conv((3, 3), 4, 6, sigmoid, stride=2)"]
    assert prints(basic_conv_bn((1, 3), 4, 6, pad=(0, 1), revnorm=True)) == [
        "BatchNorm(4, eps=0.001)", "Conv((1, 3), 4, 6, relu, pad=(0, 1), bias=False)"]  # fmt: skip
    x = randn(2, 4, 6, 6)
    m = Chain(*basic_conv_bn((3, 3), 4, 6))
    z = m[0](x).numpy()
    flux.trainmode(m)
    wanted = np.maximum((z - z.mean((0, 2, 3), keepdims=True)) / np.sqrt(z.var((0, 2, 3), keepdims=True) + 1e-3), 0)
    np.testing.assert_allclose(m(x).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_dwsep_conv_norm():
    assert prints(dwsep_conv_norm((3, 3), 4, 6, swish, stride=2, pad=1, dilation=2, init=flux.kaiming_normal)) == [
        "Conv((3, 3), 4, 4, stride=2, pad=1, dilation=2, groups=4, bias=False, init=kaiming_normal)", "BatchNorm(4, swish)",
        "Conv((1, 1), 4, 6, bias=False, init=kaiming_normal)", "BatchNorm(6, swish)"]  # fmt: skip
    assert prints(dwsep_conv_norm((3, 3), 4, 6, norm_layer=identity)) == [
        "Conv((3, 3), 4, 4, relu, groups=4)", "Conv((1, 1), 4, 6, relu)"]  # fmt: skip
    assert prints(dwsep_conv_norm((3, 3), 4, 6, bias=True))[::2] == ["Conv((3, 3), 4, 4, groups=4)", "Conv((1, 1), 4, 6)"]
    weight = randn(4, 1, 3, 3)
    given = dwsep_conv_norm((3, 3), 4, 6, weight=weight)
    np.testing.assert_array_equal(given[0].weight.numpy(), weight)
    assert given[2].weight.shape == (6, 4, 1, 1)


@pytest.mark.parametrize("train", [False, True])
def test_dwsep_conv_norm_against_torch(train):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    theirs = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                           nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    same_as_torch(Chain(*dwsep_conv_norm((3, 3), 4, 6, stride=2, pad=1)), theirs, randn(3, 4, 8, 7), train=train)


def test_state_dict_keys():
    assert list(Chain(*conv_norm((3, 3), 4, 6)).state_dict()) == ["0.weight", "1.weight", "1.bias", "1.running_mean",
                                                                  "1.running_var"]
    assert list(Chain(*conv_norm((3, 3), 4, 6, norm_layer=identity)).state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), [
    ((4, 6), {"norm_layer": identity, "revnorm": True}, ValueError, "revnorm=True has no meaning with norm_layer=identity"),
    ((4, 6), {"norm_layer": identity, "preact": True}, ValueError, "preact=True has no meaning"),
    ((4, 6), {"norm_layer": identity, "preact": True, "revnorm": True}, ValueError,
     "revnorm=True and preact=True has no meaning"),
    ((4, 6), {"preact": True, "revnorm": True}, ValueError, "revnorm=True and preact=True exclude each other"),
    ((4,), {}, TypeError, "channels are two whole numbers"),
    (((4, 6), 7), {}, TypeError, "the planes are two numbers or a pair"),
    (((4, 6), relu, tanh), {}, TypeError, "the planes are two numbers or a pair"),
    (((4, 6, 8),), {}, TypeError, "the planes are two numbers or a pair"),
    ((4, 6), {"padding": 1}, TypeError, "Conv: `padding=` is spelled `pad=` here"),
    ((4, 6), {"weight": randn(6, 4, 3, 2)}, ValueError, r"the weight has shape \(6, 4, 3, 2\), expected \(6, 4, 3, 3\)"),
    ((4, 6), {"weight": randn(6, 4, 3, 3), "init": flux.ones}, TypeError, "give either weight, .* or init"),
    ((4, 6), {"weight": flux.ones}, TypeError, "weight is an array; to draw it in another way give init="),
    ((4, 6), {"norm_layer": None}, TypeError, "norm_layer is what makes a layer .* got None"),
    ((4, 6), {"norm_layer": BatchNorm(6)}, TypeError, r"got the layer BatchNorm\(6\)"),
    ((4, 6), {"norm_layer": lambda planes: None}, TypeError, "gave None for 6 planes, expected a layer"),
    ((4, 6), {"groups": 3}, ValueError, "cannot be split into 3 groups"),
])  # fmt: skip
def test_errors(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        conv_norm((3, 3), *arguments, **keywords)


def test_conv_alone_is_an_ordinary_layer():
    assert all(isinstance(layer, Conv | BatchNorm) for layer in conv_norm((3, 3), 4, 6,
                                                                          norm_layer=partial(BatchNorm, momentum=0.2)))
    assert isinstance(conv_norm((3, 3), 4, 6, norm_layer=InstanceNorm)[1], InstanceNorm)
