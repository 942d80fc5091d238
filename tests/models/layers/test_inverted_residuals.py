"""mbconv and fused_mbconv against PyTorch's builds of them."""

import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, GroupNorm, SamePad, SkipConnection, hardswish, identity, relu6, sigmoid, swish
from minitorch_flux.models.layers import fused_mbconv, mbconv, round_channels

from .tools import randn, same_as_torch, trains


def prints(m):
    return [repr(layer).partition("  #")[0] for layer in m]


@pytest.mark.parametrize(("arguments", "keywords", "wanted"), [
    ((4, 8, 6), {"stride": 1}, ["Conv((3, 3), 8, 8, pad=SamePad(), groups=8, bias=False)", "BatchNorm(8, relu)"]),
    ((8, 8, 6), {"stride": 2}, ["Conv((3, 3), 8, 8, stride=2, pad=SamePad(), groups=8, bias=False)", "BatchNorm(8, relu)"]),
    ((4, 8, 6, swish), {"stride": 2, "pad": 1, "norm_layer": GroupNorm},
     ["Conv((3, 3), 8, 8, stride=2, pad=1, groups=8, bias=False)", "GroupNorm(8, 8, swish)"]),
    ((4, 8, 6), {"stride": 1, "norm_layer": identity}, ["Conv((3, 3), 8, 8, relu, pad=SamePad(), groups=8)"]),
])  # fmt: skip
def test_the_layers_of_mbconv(arguments, keywords, wanted):
    m = mbconv((3, 3), *arguments, **keywords)
    assert isinstance(m, Chain)
    layers = prints(m)
    at = 0 if arguments[0] == arguments[1] else len(wanted)  # nothing is expanded where there is nothing to expand
    assert layers[at : at + len(wanted)] == wanted
    if at:
        assert layers[0].startswith("Conv((1, 1), 4, 8")
    last = "Conv((1, 1), 8, 6)" if keywords.get("norm_layer") is identity else "Conv((1, 1), 8, 6, bias=False)"
    assert layers[at + len(wanted)] == last  # without activation
    if "norm_layer" not in keywords:
        assert layers[-1] == "BatchNorm(6)"
    trains(m, randn(3, arguments[0], 6, 7))


def test_every_convolution_has_the_norm_and_the_keywords():
    """Upstream the last one has BatchNorm, whatever was asked for."""
    m = mbconv((3, 3), 4, 8, 6, stride=1, reduction=2, norm_layer=GroupNorm, init=flux.kaiming_normal, bias=True)
    assert [type(layer).__name__ for layer in m] == ["Conv", "GroupNorm", "Conv", "GroupNorm", "SkipConnection", "Conv",
                                                     "GroupNorm"]
    assert all(m[i].init is flux.kaiming_normal and m[i].bias is not None for i in (0, 2, 5))


@pytest.mark.parametrize(("keywords", "planes", "inner", "gate"), [
    ({"reduction": 4}, 8, "relu6", "hardsigmoid"),
    ({"reduction": 12}, 3, "relu6", "hardsigmoid"),  # 32 / 12 = 2.67, rounded
    ({"reduction": 4, "se_round_fn": round_channels, "se_activation": hardswish, "gate_activation": sigmoid}, 8, "hardswish",
     "sigmoid"),
])  # fmt: skip
def test_the_squeeze_and_excitation_layer(keywords, planes, inner, gate):
    m = mbconv((3, 3), 8, 32, 8, relu6, stride=1, **keywords)
    assert f"Conv((1, 1), 32, {planes}, {inner})" in repr(m[4])
    assert f"Conv((1, 1), {planes}, 32, {gate})" in repr(m[4])


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("kernel", "inplanes", "stride", "reduction"), [(3, 4, 1, None), (5, 4, 2, 4), (3, 8, 2, 2)])
def test_mbconv_against_torch(kernel, inplanes, stride, reduction, train):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    expanded = 8

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 8 // reduction, 1), nn.Conv2d(8 // reduction, 8, 1)

        def forward(self, x):
            return x * torch.sigmoid(self.b(nn.functional.silu(self.a(x.mean((2, 3), keepdim=True)))))

    theirs = [] if inplanes == expanded else [nn.Conv2d(inplanes, 8, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU()]
    theirs += [nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False), nn.BatchNorm2d(8), nn.SiLU()]
    theirs += [] if reduction is None else [Gate()]
    theirs += [nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)]
    ours = mbconv((kernel, kernel), inplanes, 8, 6, swish, stride=stride, reduction=reduction, gate_activation=sigmoid)
    same_as_torch(ours, nn.Sequential(*theirs), randn(4, inplanes, 7, 8), train=train)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("explanes", "stride"), [(8, 1), (8, 2), (4, 2)])
def test_fused_mbconv_against_torch(explanes, stride, train):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    out = 6 if explanes == 4 else explanes
    theirs = [nn.Conv2d(4, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.SiLU()]
    theirs += [] if explanes == 4 else [nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)]
    ours = fused_mbconv((3, 3), 4, explanes, 6, swish, stride=stride)
    same_as_torch(ours, nn.Sequential(*theirs), randn(4, 4, 7, 8), train=train)


def test_fused_mbconv_keywords():
    m = fused_mbconv((3, 3), 4, 8, 6, stride=1, norm_layer=identity, pad="same", init=flux.kaiming_normal)
    assert prints(m) == ["Conv((3, 3), 4, 8, relu, pad='same', init=kaiming_normal)", "Conv((1, 1), 8, 6, init=kaiming_normal)"]
    assert fused_mbconv((3, 3), 4, 4, 4, stride=1)[0].pad == SamePad()


def test_the_residual_connection_is_the_users():
    block = mbconv((3, 3), 4, 8, 4, stride=1)
    x = randn(2, 4, 5, 5)
    m = SkipConnection(block, flux.add)
    assert (m(x).numpy() == block(x).numpy() + x).all()
    assert flux.outputsize(mbconv((5, 5), 4, 8, 6, stride=2, reduction=4), (2, 4, 9, 8)) == (2, 6, 5, 4)


def test_generators():
    for make, key in ((lambda n: mbconv((3, 3), 4, 8, 4, stride=1, reduction=2, rng=flux.Generator(n)), "expand_conv.weight"),
                      (lambda n: fused_mbconv((3, 3), 4, 8, 4, stride=1, rng=flux.Generator(n)), "fused_conv.weight")):
        a, b = make(0).state_dict(), make(0).state_dict()
        assert all((a[k] == b[k]).all() for k in a)
        assert (make(1).state_dict()[key] != a[key]).any()


def test_state_dict_keys():
    def pair(role):
        return [f"{role}_conv.weight", *(f"{role}_norm.{k}" for k in ("weight", "bias", "running_mean", "running_var"))]

    gate = [f"squeeze_excite.layer.{i}.{k}" for i in (1, 2) for k in ("weight", "bias")]
    wanted = [*pair("expand"), *pair("depthwise"), *gate, *pair("project")]
    assert list(mbconv((3, 3), 4, 8, 6, stride=1, reduction=2).state_dict()) == wanted
    plain = mbconv((3, 3), 8, 8, 6, stride=1, norm_layer=lambda planes: GroupNorm(planes, 2))
    assert list(plain.names) == ["depthwise_conv", "depthwise_norm", "depthwise_act", "project_conv", "project_norm"]
    assert list(fused_mbconv((3, 3), 4, 8, 6, stride=1).state_dict()) == [*pair("fused"), *pair("project")]


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: mbconv((3, 3), 4, 8, 6, stride=3), ValueError, "mbconv: stride has to be 1 or 2, got 3"),
    (lambda: fused_mbconv((3, 3), 4, 8, 6, stride=0), ValueError, "fused_mbconv: stride has to be 1 or 2, got 0"),
    (lambda: mbconv((3, 3), 4, 8, 6), TypeError, "stride"),
    (lambda: mbconv((3, 3), 4, 8, 6, stride=1, reduction=100), ValueError, "8 planes reduced by 100 leave 0"),
    (lambda: mbconv((3, 3), 4, 8, 6, stride=1, padding=1), TypeError, "`padding=` is spelled `pad=` here"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
