"""resnet against plain PyTorch, and each of its options switched on."""

from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    AdaptiveMeanPool,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    Generator,
    GroupNorm,
    MeanPool,
    identity,
    swish,
)
from minitorch_flux.models import backbone, basicblock, bottle2neck, bottleneck, classifier, resnet
from minitorch_flux.models.layers import (
    AdaptiveMeanMaxPool,
    DropBlock,
    StochasticDepth,
    actadd,
    effective_squeeze_excite,
    squeeze_excite,
)
from minitorch_flux.models.resnets import downsample_conv, downsample_pool

from ..layers.tools import randn, same_as_torch, trains

SMALL = {"inplanes": 8, "planes": 8, "nclasses": 5}


def count(m, kind):
    return [type(layer) for layer in m.modules()].count(kind)


CASES = [
    (basicblock, "basic", [1, 2], {}, {}),
    (basicblock, "basic", [1, 1], {"downsample": "A"}, {"down": "A"}),
    (basicblock, "basic", [1, 2], {"downsample": "C"}, {"down": "C"}),
    (basicblock, "basic", [1, 1], {"downsample": "D"}, {"down": "D"}),
    (basicblock, "basic", [1, 1], {"connection": actadd}, {"act_first": True}),
    (basicblock, "basic", [1, 1], {"stem": "deep", "inchannels": 1}, {"stem_kind": "deep", "inchannels": 1}),
    (basicblock, "basic", [1], {"stem": "deep_tiered", "replace_stem_pool": True},
     {"stem_kind": "deep_tiered", "replace_pool": True}),
    (bottleneck, "bottle", [1, 2], {}, {}),
    (bottleneck, "bottle", [1, 1], {"downsample": "A"}, {"down": "A"}),
    (bottleneck, "bottle", [1, 1], {"base_width": 128}, {"base_width": 128}),
    (bottleneck, "bottle", [1, 1], {"base_width": 16, "cardinality": 4}, {"base_width": 16, "groups": 4}),
    (bottleneck, "bottle", [1, 1], {"attn_fn": squeeze_excite}, {"gate": True}),
    (bottle2neck, "bottle", [2, 2], {"base_width": 32, "scale": 3}, {"base_width": 32, "scale": 3}),
    (bottle2neck, "bottle", [1, 2], {"base_width": 16, "cardinality": 2, "scale": 4},
     {"base_width": 16, "groups": 2, "scale": 4}),
]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("block", "kind", "repeats", "ours", "theirs"), CASES)
def test_against_plain_pytorch(block, kind, repeats, ours, theirs, train):
    """Outputs, gradients by input and parameters and running statistics in float64; odd sizes."""
    pytest.importorskip("torch")
    from .plain_torch import network

    m = resnet(block, repeats, **{**SMALL, **ours})
    same_as_torch(m, network(kind, repeats, **theirs), randn(3, theirs.get("inchannels", 3), 27, 22), train=train,
                  tolerance=1e-7)


@pytest.mark.parametrize(("block", "kind"), [(basicblock, "basic"), (bottleneck, "bottle")])
def test_weights_of_pytorchs_networks_load_in_their_order(block, kind):
    torch = pytest.importorskip("torch")
    from .plain_torch import network

    theirs = network(kind, [2, 2]).double().eval()
    with flux.shapes_only():
        m = resnet(block, [2, 2], **SMALL)
    m = flux.f64(m)
    assert flux.load_torch(m, theirs).how == "order"
    x = randn(2, 3, 32, 32, dtype=np.float64)
    np.testing.assert_allclose(m(x).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-9, atol=1e-12)


def test_its_structure():
    m = resnet(basicblock, [1, 2], **SMALL)
    assert list(backbone(m).names) == ["stem", "stage1", "stage2"]
    assert [len(stage) for stage in list(backbone(m))[1:]] == [1, 2]
    assert (m.imsize, m.inchannels, m.nclasses) == ((256, 256), 3, 5)
    assert flux.outputsize(backbone(m), (2, 3, 64, 48)) == (2, 16, 8, 6)
    assert flux.outputsize(m, (2, 3, 64, 48)) == (2, 5)
    first = backbone(m).stage1[0]
    assert first["shortcut"] is identity
    assert list(first["branch"].names) == ["conv1", "norm1", "conv2", "norm2"]
    assert eval(repr(classifier(m)), vars(flux)) is not None
    assert "backbone.stage2.0.shortcut.conv.weight" in m.state_dict()


def test_keys_do_not_depend_on_what_is_dropped():
    plain = resnet(bottleneck, [1, 1], **SMALL)
    dropping = resnet(bottleneck, [1, 1], dropblock_prob=0.1, stochastic_depth_prob=0.1, **SMALL)
    dropping.load_state_dict(plain.state_dict())
    x = randn(2, 3, 32, 32)
    np.testing.assert_allclose(dropping(x).numpy(), plain(x).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [basicblock, bottleneck])
def test_the_schedules_are_linear_over_all_blocks_and_where_they_stand(block):
    m = resnet(block, [2, 2], dropblock_prob=0.2, stochastic_depth_prob=0.4, dropout_prob=0.5, **SMALL)
    drops = [layer for layer in m.modules() if isinstance(layer, DropBlock)]
    depths = [layer for layer in m.modules() if isinstance(layer, StochasticDepth)]
    assert [d.drop_block_prob for d in drops] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert [d.p for d in depths] == pytest.approx([0, 0.1, 0.2, 0.3])
    branch = backbone(m).stage1[1]["branch"]
    i = 1 if block is basicblock else 2
    names = list(branch.names)
    assert names[names.index(f"norm{i}") :][:3] == [f"norm{i}", "drop_block", f"act{i}"]
    assert branch[f"norm{i}"].activation is identity
    assert names[-1] == "drop_path"
    assert count(m, Dropout) == 1
    x = randn(4, 3, 40, 40)
    assert np.isfinite(flux.trainmode(m)(x).numpy()).all()
    assert not np.array_equal(m(x).numpy(), m(x).numpy())
    flux.testmode(m)
    np.testing.assert_array_equal(m(x).numpy(), m(x).numpy())


@pytest.mark.parametrize("keywords", [
    {"norm_layer": GroupNorm}, {"norm_layer": lambda planes: GroupNorm(planes, 4)},
    {"norm_layer": partial(BatchNorm, eps=1e-3)},
    {"norm_layer": identity}, {"revnorm": True}, {"activation": swish}, {"reduction_factor": 2},
    {"attn_fn": effective_squeeze_excite},
    {"attn_fn": partial(squeeze_excite, reduction=4)}, {"downsample": (downsample_pool, downsample_conv)},
    {"dropout_prob": 0.0},
    {"stem": "deep", "norm_layer": GroupNorm, "activation": swish},
])  # fmt: skip
def test_further_options_reach_every_part_and_train(keywords):
    m = resnet(bottleneck, [1, 1], **{**SMALL, **keywords})
    trains(m, randn(4, 3, 32, 32))
    kinds = {type(layer) for layer in m.modules()}
    norm = keywords.get("norm_layer", BatchNorm)
    if norm is not BatchNorm and not isinstance(norm, partial):
        assert BatchNorm not in kinds  # not even in the stem
    if keywords.get("activation") is swish:
        assert "relu" not in repr(m)


@pytest.mark.parametrize(("keywords", "x", "shape"), [
    ({"pool_layer": AdaptiveMeanMaxPool((1, 1))}, (2, 3, 32, 32), (2, 5)),
    ({"pool_layer": MeanPool((4, 4))}, (2, 3, 32, 32), (2, 5)),
    ({"use_conv": True}, (2, 3, 32, 32), (2, 5, 1, 1)),
    ({"use_conv": True, "pool_layer": identity}, (2, 3, 48, 32), (2, 5, 6, 4)),
    ({"inchannels": 1}, (2, 1, 28, 28), (2, 5)),
    ({"imsize": (32, 32)}, (2, 3, 32, 32), (2, 5)),
    ({"stem": Chain(Conv((3, 3), 3, 8, pad=1))}, (2, 3, 8, 8), (2, 5)),
])  # fmt: skip
def test_pools_heads_and_stems(keywords, x, shape):
    m = resnet(basicblock, [1, 1], **{**SMALL, **keywords})
    assert m(randn(*x)).shape == shape
    assert flux.outputsize(m, x) == shape
    trains(m, randn(*x))


def test_everything_at_once_learns():
    m = resnet(bottleneck, [1, 1], "D", stem="deep_tiered", replace_stem_pool=True,
               attn_fn=partial(squeeze_excite, reduction=4),
               dropblock_prob=0.1, stochastic_depth_prob=0.1, dropout_prob=0.1, norm_layer=partial(BatchNorm, momentum=0.2),
               activation=swish, connection=actadd, pool_layer=AdaptiveMeanMaxPool((1, 1)), cardinality=2, base_width=32,
               rng=Generator(0), **SMALL)  # fmt: skip
    x, y = randn(10, 3, 32, 32), np.arange(10) % 5
    loss = lambda m: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    opt = flux.setup(flux.Adam(3e-3), m)
    flux.trainmode(m)
    first = loss(m).item()
    for _ in range(8):
        value, grads = flux.withgradient(loss, m)
        flux.update(opt, m, grads)
    assert value < first


def test_the_generator_decides():
    a, b, c = (resnet(basicblock, [1, 1], rng=Generator(n), **SMALL).state_dict() for n in (0, 0, 1))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["backbone.stem.conv1.weight"], c["backbone.stem.conv1.weight"])


@pytest.mark.parametrize(("arguments", "keywords", "message"), [
    ((Dense, [1]), {}, "the block is basicblock, bottleneck or bottle2neck, got <class"),
    ((basicblock, [1]), {"cardinality": 2},
     "basicblock has no cardinality, got cardinality=2; it takes dropblock_prob, reduction_factor"),
    ((basicblock, [1]), {"base_width": 128}, "basicblock has no base_width"),
    ((basicblock, [1]), {"scale": 4}, "basicblock has no scale"),
    ((bottle2neck, [1]), {"dropblock_prob": 0.1}, "bottle2neck has no dropblock_prob, got dropblock_prob=0.1"),
    ((bottle2neck, [1]), {"stochastic_depth_prob": 0.1}, "bottle2neck has no stochastic_depth_prob"),
    ((bottle2neck, [1]), {"reduction_factor": 2}, "bottle2neck has no reduction_factor"),
    ((bottle2neck, [1]), {"scale": 1}, "scale is the number of parts, at least 2, got 1"),
    ((basicblock, [1], "E"), {}, "downsample is 'A', 'B', 'C' or 'D', or two functions .* got 'E'"),
    ((basicblock, [1], (downsample_conv,)), {}, "downsample is 'A', 'B', 'C' or 'D', or two functions"),
    ((basicblock, [1]), {"stem": "wide"}, "there is no stem 'wide', expected one of default, deep, deep_tiered"),
    ((basicblock, [1]), {"stem": Chain(), "replace_stem_pool": True}, "replace_stem_pool=True is for a stem by name"),
    ((bottleneck, [1]), {"revnorm": True, "norm_layer": identity}, "revnorm=True has no meaning with norm_layer=identity"),
])  # fmt: skip
def test_errors(arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        resnet(*arguments, **{**SMALL, **keywords})


def test_an_error_names_the_path():
    with pytest.raises(ValueError,
                       match=r"Network\['backbone'\]\.Chain\['stem'\]\.Chain\['conv1'\] Conv.*1 channels on axis 1"):
        resnet(basicblock, [1], **SMALL)(randn(2, 1, 32, 32))


def test_the_pool_is_adaptive_by_default():
    assert isinstance(classifier(resnet(basicblock, [1], **SMALL))[0], AdaptiveMeanPool)


COMMON = {"norm_layer": lambda planes, activation: GroupNorm(planes, 2, activation), "activation": swish, "connection": actadd,
          "stem": "deep", "replace_stem_pool": True, "pool_layer": AdaptiveMeanMaxPool((1, 1)), "dropout_prob": 0.1,
          "attn_fn": partial(squeeze_excite, reduction=2, activation=swish), "inchannels": 2, "imsize": (24, 24),
          "revnorm": True}  # fmt: skip
OWN = {
    basicblock: {"reduction_factor": 2, "dropblock_prob": 0.1, "stochastic_depth_prob": 0.1},
    bottleneck: {"reduction_factor": 2, "dropblock_prob": 0.1, "stochastic_depth_prob": 0.1, "cardinality": 2,
                 "base_width": 32},
    bottle2neck: {"cardinality": 2, "base_width": 16, "scale": 3},
}


@pytest.mark.parametrize("downsample", ["A", "B", "C", "D"])
@pytest.mark.parametrize("block", OWN, ids=lambda block: block.__name__)
def test_every_option_of_every_block_at_once(block, downsample):
    m = resnet(block, [1, 2], downsample, rng=Generator(0), **COMMON, **OWN[block], **SMALL)
    kinds = {type(layer) for layer in m.modules()}
    assert BatchNorm not in kinds
    assert "relu" not in repr(m)
    assert {DropBlock, StochasticDepth} <= kinds or block is bottle2neck
    assert count(m, Dropout) == 1
    x = randn(4, 2, 24, 24)
    trains(m, x)
    np.testing.assert_array_equal(classifier(m)(backbone(m)(x)).numpy(), m(x).numpy())
    other = resnet(block, [1, 2], downsample, rng=Generator(1), **COMMON, **OWN[block], **SMALL)
    other.load_state_dict(m.state_dict())
    np.testing.assert_array_equal(other(x).numpy(), m(x).numpy())
    assert flux.outputsize(m, (4, 2, 24, 24)) == (4, 5)


@pytest.mark.parametrize(("block", "conv", "planes"), [(basicblock, "conv1", 4), (bottleneck, "conv1", 4)])
def test_the_reduction_factor_narrows_the_first_convolution(block, conv, planes):
    m = resnet(block, [1], reduction_factor=2, **SMALL)
    assert backbone(m).stage1[0]["branch"][conv].out == planes
    assert m(randn(1, 3, 16, 16)).shape == (1, 5)


def test_in_train_mode_dropped_branches_leave_the_shortcut():
    m = resnet(basicblock, [1, 1], stochastic_depth_prob=1.0, connection=lambda activation, x, y: x + y, **SMALL)
    second = backbone(m).stage2[0]  # the schedule gives it one half
    x = randn(64, 8, 6, 6)
    flux.trainmode(m)
    y = second(x).numpy()
    shortcut = second["shortcut"](x).numpy()
    dropped = np.isclose(y, shortcut, atol=1e-6).all(axis=(1, 2, 3))
    assert 16 < dropped.sum() < 48
