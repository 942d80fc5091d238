"""inverted_residual_network: what is built from a table of stages."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Conv, Generator, SkipConnection, identity, models, relu, relu6, sigmoid, swish
from minitorch_flux.models import inverted_residual_network
from minitorch_flux.models.layers import StochasticDepth, dwsep_conv_norm, fused_mbconv, mbconv, round_channels
from minitorch_flux.models.mobilenets import Stage

from ..layers.tools import randn, trains

STAGES = [
    Stage(dwsep_conv_norm, 3, 8, 1, 1, 1),
    Stage(fused_mbconv, 3, 8, 2, 1, 2),
    Stage(mbconv, 5, 16, 3, 2, 3, 4, swish),
]


def build(**keywords):
    return inverted_residual_network(STAGES, **{"inplanes": 8, "headplanes": 24, "nclasses": 5, **keywords})


def test_its_structure():
    m = build(stochastic_depth_prob=0.6, dropout_prob=0.5)
    assert list(m.backbone.names) == ["stem", "stage1", "stage2", "stage3", "head"]
    assert [len(m.backbone[f"stage{i}"]) for i in (1, 2, 3)] == [1, 2, 3]
    separable, (fused, _), (first, second, third) = (m.backbone[f"stage{i}"] for i in (1, 2, 3))
    assert list(separable[0].names) == ["depthwise_conv", "depthwise_norm", "pointwise_conv", "pointwise_norm"]
    assert isinstance(fused, SkipConnection)
    assert list(fused.layer.names) == ["fused_conv", "fused_norm", "project_conv", "project_norm", "drop_path"]
    names = ["expand_conv", "expand_norm", "depthwise_conv", "depthwise_norm", "squeeze_excite", "project_conv", "project_norm"]
    assert list(first.names) == names  # a stride: nothing goes around it, and nothing drops it
    assert list(second.layer.names) == [*names, "drop_path"]
    assert second.connection is flux.add
    drops = [layer.p for layer in m.modules() if isinstance(layer, StochasticDepth)]
    assert drops == pytest.approx([0.1, 0.2, 0.4, 0.5])  # of six blocks those with a residual connection
    assert first.expand_norm.activation is swish
    assert m.backbone.stem.norm.activation is relu
    assert first.project_norm.activation is identity
    assert first.squeeze_excite.layer[1].out == 2  # a quarter of the 8 planes that come in
    assert first.squeeze_excite.layer[2].activation is sigmoid
    assert "backbone.stage3.1.layer.squeeze_excite.layer.1.weight" in m.state_dict()
    trains(flux.testmode(build()), randn(4, 3, 21, 18))


def test_stages_may_be_tuples():
    a, b = (inverted_residual_network(stages, inplanes=8, nclasses=5, rng=Generator(0)).state_dict()
            for stages in (STAGES, [tuple(stage)[: 6 + 2 * (i == 2)] for i, stage in enumerate(STAGES)]))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("stage", "message"), [
    ((Conv, 3, 8, 1, 1, 1), "stage 1: the block is mbconv, fused_mbconv or dwsep_conv_norm, got .*Conv"),
    ((fused_mbconv, 3, 8, 2, 1, 1, 4), "stage 1: fused_mbconv has no squeeze and excitation, got reduction=4; mbconv has"),
    ((dwsep_conv_norm, 3, 8, 2, 1, 1), "stage 1: dwsep_conv_norm expands nothing, got expansion=2, expected 1"),
    ((mbconv, 3, 8, 2, 3, 1), "mbconv: stride has to be 1 or 2, got 3"),
])  # fmt: skip
def test_stages_that_are_none(stage, message):
    with pytest.raises(ValueError, match=message):
        inverted_residual_network([stage])


def test_squeezing_what_is_inside_and_its_activations():
    m = build(se_from_explanes=True, se_round_fn=round_channels, se_activation=relu6, gate_activation=flux.hardsigmoid)
    squeeze, excite = m.backbone.stage3[1].layer.squeeze_excite.layer[1:]
    assert (squeeze.out, squeeze.activation, excite.activation) == (16, relu6, flux.hardsigmoid)  # 48 / 4 = 12, rounded


def test_factors_heads_and_hidden_layers():
    m = build(width_mult=2, depth_mult=1.4, headplanes=None, hidden_planes=6)
    assert list(m.backbone.names) == ["stem", "stage1", "stage2", "stage3"]
    assert [len(m.backbone[f"stage{i}"]) for i in (1, 2, 3)] == [2, 3, 5]
    assert m.backbone.stem.conv.out == 16
    assert flux.outputsize(m.backbone, (1, 3, 32, 32)) == (1, 32, 8, 8)
    assert (m.classifier.hidden.weight.shape, m.classifier.last.weight.shape) == ((6, 32), (5, 6))
    assert m.classifier.hidden.activation is relu


@pytest.mark.parametrize("norm", [flux.GroupNorm, identity, lambda planes: flux.GroupNorm(planes, 2)])
def test_norms_that_take_no_activation_and_none_at_all(norm):
    m = build(norm_layer=norm)
    trains(m, randn(2, 3, 24, 24))
    assert m.backbone.stem(randn(1, 3, 8, 8)).numpy().min() >= 0  # the activation is there
    pairs = m.backbone.stage1[0]
    assert [name for name in pairs.names if name.endswith("conv")] == ["depthwise_conv", "pointwise_conv"]


def test_padding():
    for m, pad in ((build(), "SamePad()"), (build(pad=flux.SamePad("upper")), "SamePad('upper')")):
        convs = [layer for layer in m.modules() if isinstance(layer, Conv) and layer.weight.shape[-1] > 1]
        assert len(convs) == 7
        assert all(f"pad={pad}" in repr(layer) for layer in convs)
        assert flux.outputsize(m.backbone, (1, 3, 33, 30)) == (1, 24, 9, 8)


def test_it_prints_what_rebuilds_it():
    m = build(stochastic_depth_prob=0.2, dropout_prob=0.1, imsize=(32, 32), rng=None)
    text = repr(m)
    again = eval(text, {**vars(flux), "Network": models.Network, "StochasticDepth": StochasticDepth})
    assert repr(again) == text
    again.load_state_dict(m.state_dict())
    x = randn(2, 3, 32, 32)
    np.testing.assert_array_equal(again(x).numpy(), m(x).numpy())
    assert f"{models.num_parameters(m):_} parameters" in text


def test_the_generator_decides():
    a, b, c = (build(rng=Generator(n), dropout_prob=0.5, stochastic_depth_prob=0.5) for n in (0, 0, 1))
    assert all(np.array_equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert not np.array_equal(a.state_dict()["backbone.stem.conv.weight"], c.state_dict()["backbone.stem.conv.weight"])
    drops = [layer for layer in a.modules() if isinstance(layer, StochasticDepth)]
    assert all(isinstance(layer.rng, Generator) for layer in drops)


def test_factors_of_numpy():
    assert build(width_mult=np.float32(2), depth_mult=np.int64(1)).backbone.stem.conv.out == 16


@pytest.mark.parametrize("factor", [0, -1, float("inf"), float("nan"), True, None, "2"])
def test_factors_that_are_none(factor):
    for name in ("width_mult", "depth_mult"):
        with pytest.raises(ValueError, match=f"inverted_residual_network: {name} must be a positive number, got"):
            build(**{name: factor})
