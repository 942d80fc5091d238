"""The published MobileNets and MNASNets: parameters, shapes, equality with plain PyTorch, a training step."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Generator, models
from minitorch_flux.models import MNASNet, MobileNetv1, MobileNetv2, MobileNetv3

COUNTS = [
    (MobileNetv1, (0.5,), 1_331_592), (MobileNetv1, (0.75,), 2_585_560), (MobileNetv1, (), 4_231_976),
    (MobileNetv1, (1.3,), 6_703_624),
    (MobileNetv2, (0.5,), 1_968_680), (MobileNetv2, (0.75,), 2_636_424), (MobileNetv2, (), 3_504_872),
    (MobileNetv2, (1.3,), 5_386_792),  # with the paper's head of 1664; Metalhead's is below
    (MobileNetv3, ("small",), 2_542_856), (MobileNetv3, ("large",), 5_483_032),
    (MNASNet, ("B1",), 4_383_312), (MNASNet, ("A1",), 3_887_038), (MNASNet, ("small",), 2_030_264),
]  # fmt: skip
OTHERS = [
    (MobileNetv2, (1.3,), {"headplanes": 1280}, 4_842_280),
    (MobileNetv3, ("large",), {"width_mult": 0.75}, 3_993_528),
    (MobileNetv3, ("small",), {"width_mult": 0.75}, 2_041_872),
    (MNASNet, ("B1",), {"width_mult": 0.5}, 2_218_512),
    (MNASNet, ("B1",), {"width_mult": 0.75}, 3_170_208),
    (MNASNet, ("B1",), {"width_mult": 1.3}, 6_282_256),
]
SMALL = {MobileNetv1: (0.25,), MobileNetv2: (0.25,), MobileNetv3: ("small",), MNASNet: ("A1",)}
FEATURES = {MobileNetv1: 1024, MobileNetv2: 1280, MobileNetv3: None, MNASNet: 1280}


def small(family, **keywords):
    width = {} if family in (MobileNetv1, MobileNetv2) else {"width_mult": 0.25}
    return family(*SMALL[family], **{**width, "nclasses": 4, **keywords})


def residual(family, **keywords):
    """What MobileNetv1 has not."""
    return {} if family is MobileNetv1 else keywords


def images(n=8, channels=3, size=40):
    return np.random.default_rng(0).standard_normal((n, channels, size, size)).astype(np.float32)


@pytest.mark.parametrize(("family", "arguments", "wanted"), COUNTS)
def test_parameters_and_shapes(family, arguments, wanted):
    with flux.shapes_only():
        m = family(*arguments)
    assert models.num_parameters(m) == wanted
    assert (m.imsize, m.inchannels, m.nclasses) == ((224, 224), 3, 1000)
    assert flux.outputsize(m, (2, 3, 224, 224)) == (2, 1000)
    n, planes, *size = flux.outputsize(models.backbone(m), (2, 3, 224, 224))
    assert (n, size) == (2, [7, 7])
    if not arguments:
        assert planes == FEATURES[family]


@pytest.mark.parametrize(("family", "arguments", "keywords", "wanted"), OTHERS)
def test_parameters_of_other_widths(family, arguments, keywords, wanted):
    with flux.shapes_only():
        assert models.num_parameters(family(*arguments, **keywords)) == wanted


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), [
    (MobileNetv1, "mobilenet_v1"), (MobileNetv2, "mobilenet_v2"),
    (lambda **keywords: MobileNetv3("small", **keywords), "mobilenet_v3_small"),
    (lambda **keywords: MNASNet("A1", **keywords), "mnasnet_a1"),
])  # fmt: skip
def test_against_plain_pytorch(ours, theirs, train):
    """The published networks: output, gradients and running statistics."""
    pytest.importorskip("torch")
    from . import plain_torch

    m = ours(nclasses=7, dropout_prob=None) if train else ours(nclasses=7)
    x = np.random.default_rng(0).standard_normal((4, 3, 33, 38))
    assert plain_torch.largest_error(m, getattr(plain_torch, theirs)(7), x, train) < 1e-11


@pytest.mark.parametrize("family", SMALL)
def test_a_training_step_modes_and_the_state(family):
    flux.seed(0)
    m, x, y = small(family, dropout_prob=None, rng=Generator(0)), images(), np.arange(8) % 4
    f = lambda m: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    flux.trainmode(m)
    before, grads = flux.withgradient(f, m)
    flux.update(flux.setup(flux.Descent(1e-4), m), m, grads)
    assert float(f(m)) < float(before)
    flux.testmode(m)
    np.testing.assert_allclose(m(x[:1]).numpy(), m(x).numpy()[:1], rtol=1e-3, atol=1e-5)  # no batch in it
    np.testing.assert_array_equal(m.classifier(m.backbone(x)).numpy(), m(x).numpy())
    other = small(family, dropout_prob=0.5, rng=Generator(1), **residual(family, stochastic_depth_prob=0.3))
    other.load_state_dict(m.state_dict())  # the keys do not depend on what is dropped
    np.testing.assert_array_equal(flux.testmode(other)(x).numpy(), m(x).numpy())
    flux.trainmode(other)
    assert not np.array_equal(other(x).numpy(), other(x).numpy())


@pytest.mark.parametrize("family", SMALL)
def test_all_keywords(family):
    m = small(family, inplanes=24, activation=flux.swish, norm_layer=lambda planes: flux.GroupNorm(planes, 4),
              connection=flux.maximum, dropout_prob=0.1, imsize=(50, 40), inchannels=2,
              depth_mult=1.5, pad=flux.SamePad("upper"), rng=Generator(0),
              **residual(family, stochastic_depth_prob=0.2, headplanes=20))  # fmt: skip
    kinds = [type(layer) for layer in m.modules()]
    assert flux.GroupNorm in kinds
    assert BatchNorm not in kinds  # not anywhere, not even in the last convolution of a block
    assert (m.imsize, m.inchannels, m.nclasses) == ((50, 40), 2, 4)
    assert m.backbone.stem.conv.out == models.layers.round_channels(24 * 0.25)
    assert "SamePad('upper')" in repr(m)
    assert "swish" in repr(m)
    assert flux.outputsize(m, (3, 2, 50, 40)) == m(images(3, 2)).shape == (3, 4)
    a, b = (small(family, rng=Generator(5)).state_dict() for _ in range(2))
    assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("family", "keywords", "planes"), [
    (MobileNetv2, {"width_mult": 0.5}, 1280), (MobileNetv2, {"width_mult": 1.4}, 1792),
    (MobileNetv2, {"max_width": 64}, 64), (MNASNet, {"config": "small", "max_width": 64, "width_mult": 1.3}, 64),
    (MobileNetv3, {"config": "small", "max_width": 64, "width_mult": 1.5}, 96),
    (MobileNetv3, {"config": "large", "width_mult": 0.5}, 1280),
])  # fmt: skip
def test_the_width_of_the_head(family, keywords, planes):
    with flux.shapes_only():
        m = family(**keywords)
    assert m.classifier.last.weight.shape == (1000, planes)


def test_their_names():
    with flux.shapes_only():
        for name in models.list_models("m*net*"):
            m = models.get_model(name, nclasses=10)
            assert models.num_parameters(m) in {n - 990 * (m.classifier.last.weight.shape[1] + 1) for _, _, n in COUNTS}
    assert len(models.list_models("m*net*")) == 7


def norms(m):
    return {(layer.eps, layer.momentum) for layer in m.modules() if isinstance(layer, BatchNorm)}


def test_the_published_norms_activations_and_dropout():
    with flux.shapes_only():
        nets = [MobileNetv1(), MobileNetv2(), MobileNetv3("small"), MNASNet("A1")]
    assert [norms(m) for m in nets] == [{(1e-5, 0.1)}, {(1e-5, 0.1)}, {(1e-3, 0.01)}, {(1e-5, 0.0003)}]
    assert [m.backbone.stem.norm.activation.name for m in nets] == ["relu6", "relu6", "hardswish", "relu"]
    drops = [[layer.p for layer in m.modules() if isinstance(layer, flux.Dropout)] for m in nets]
    assert drops == [[], [0.2], [0.2], [0.2]]
    gates = [layer for layer in nets[2].modules() if isinstance(layer, flux.Conv) and layer.activation is flux.hardsigmoid]
    assert len(gates) == 9
    assert [gate.activation for gate in nets[2].modules() if isinstance(gate, flux.Conv)].count(flux.relu) == 9


@pytest.mark.parametrize(("make", "message"), [
    (lambda: MobileNetv3("medium"), "MobileNetv3: the configuration is one of 'small', 'large', got 'medium'"),
    (lambda: MNASNet("b1"), "MNASNet: the configuration is one of 'B1', 'A1', 'small', got 'b1'"),
    (lambda: MNASNet(1), "MNASNet: the configuration is one of 'B1', 'A1', 'small', got 1"),
    (lambda: MobileNetv1(0), "MobileNetv1: width_mult must be a positive number, got 0"),
    (lambda: MobileNetv2(-1.0), r"MobileNetv2: width_mult must be a positive number, got -1\.0"),
    (lambda: MobileNetv3("small", width_mult="1"), "MobileNetv3: width_mult must be a positive number, got '1'"),
    (lambda: MNASNet("A1", width_mult=float("nan")), "MNASNet: width_mult must be a positive number, got nan"),
    (lambda: MobileNetv1(depth_mult=0), "inverted_residual_network: depth_mult must be a positive number, got 0"),
    (lambda: MobileNetv1(stochastic_depth_prob=0.1), r"stochastic_depth_prob=0\.1 has nothing to drop: none of the blocks"),
    (lambda: small(MobileNetv1)(images(1, 1)), r"Network\['backbone'\]\.Chain\['stem'\]\.Chain\['conv'\] Conv.*1 channels"),
])  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_keyword_that_there_is_not():
    with pytest.raises(TypeError, match="pretrain"):
        MobileNetv2(pretrain=True)
