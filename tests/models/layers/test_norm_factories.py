"""norm_layer: all ways in which a user may say how to normalise."""

from functools import partial

import pytest

from minitorch_flux import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LayerNormV2, RMSNorm, identity, relu, tanh
from minitorch_flux.models.layers import ChannelLayerNorm, norm_layers


class Holder:
    def one(self, planes):
        return BatchNorm(planes)

    def __call__(self, planes, activation):
        return BatchNorm(planes, activation)


def by_default(planes, act=identity):
    return BatchNorm(planes, act)


def with_number(planes, eps=1e-3):
    return BatchNorm(planes, eps=eps)


def with_name(planes, *, activation, eps=1e-3):
    return BatchNorm(planes, activation, eps=eps)


def any_arguments(*arguments):
    return BatchNorm(*arguments)


def any_keywords(planes, **keywords):
    return BatchNorm(planes, **keywords)


@pytest.mark.parametrize(("factory", "wanted"), [
    (BatchNorm, ["BatchNorm(24, relu)"]),
    (InstanceNorm, ["InstanceNorm(24, relu)"]),
    (LayerNorm, ["LayerNorm(24, relu)"]),
    (LayerNormV2, ["LayerNormV2(24, relu)"]),
    (RMSNorm, ["RMSNorm(24, relu)"]),
    (ChannelLayerNorm, ["ChannelLayerNorm(24, relu)"]),
    (GroupNorm, ["GroupNorm(24, 8, relu)"]),
    (partial(GroupNorm, eps=1e-3), ["GroupNorm(24, 8, relu, eps=0.001)"]),
    (partial(GroupNorm, groups=4), ["GroupNorm(24, 4, relu)"]),
    (partial(partial(GroupNorm, groups=4), eps=1e-3), ["GroupNorm(24, 4, relu, eps=0.001)"]),
    (partial(BatchNorm, eps=1e-3), ["BatchNorm(24, relu, eps=0.001)"]),
    (lambda planes: GroupNorm(planes, 4), ["GroupNorm(24, 4)", "relu"]),
    (lambda planes, act: GroupNorm(planes, 4, act), ["GroupNorm(24, 4, relu)"]),
    (lambda n, activation: BatchNorm(n, activation), ["BatchNorm(24, relu)"]),
    (by_default, ["BatchNorm(24, relu)"]),
    (with_number, ["BatchNorm(24, eps=0.001)", "relu"]),
    (with_name, ["BatchNorm(24, relu, eps=0.001)"]),
    (any_arguments, ["BatchNorm(24, relu)"]),
    (any_keywords, ["BatchNorm(24)", "relu"]),
    (Holder().one, ["BatchNorm(24)", "relu"]),
    (Holder(), ["BatchNorm(24, relu)"]),
    (lambda planes: identity, ["identity", "relu"]),
    (identity, ["relu"]),
])  # fmt: skip
def test_the_activation_goes_to_whom_takes_it(factory, wanted):
    assert [repr(layer).partition("  #")[0] for layer in norm_layers(factory, 24, relu)] == wanted
    without = [repr(layer).partition("  #")[0] for layer in norm_layers(factory, 24)]
    assert without == [w.replace(", relu",
                                 "") for w in wanted if w != "relu"] or (factory is identity and without == ["identity"])


@pytest.mark.parametrize(("planes", "groups"), [(64, 32), (32, 32), (48, 16), (7, 1), (20, 4), (1, 1)])
def test_group_norm_alone_has_the_greatest_common_divisor_of_planes_and_32(planes, groups):
    (norm,) = norm_layers(GroupNorm, planes, tanh)
    assert norm.groups == groups


def test_what_makes_no_layer():
    with pytest.raises(TypeError, match="norm_layer is what makes a layer from the number of planes, .* got 5"):
        norm_layers(5, 24)
    with pytest.raises(TypeError, match=r"got the layer LayerNorm\(24\)"):
        norm_layers(LayerNorm(24), 24)
    with pytest.raises(TypeError, match="norm_layer str gave '24' for 24 planes, expected a layer"):
        norm_layers(str, 24)  # which does not tell what it takes
