"""The published residual networks: parameters of every variant, shapes, and one training step of each family."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Generator, models
from minitorch_flux.nn.inputs import nothing_drawn

COUNTS = {
    "ResNet": {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808},
    "WideResNet": {50: 68_883_240, 101: 126_886_696, 152: 174_658_344},
    "ResNeXt": {50: 25_028_904, 101: 44_177_704, 152: 59_951_400},
    "SEResNet": {18: 11_779_624, 34: 21_960_416, 50: 28_088_024, 101: 49_326_872, 152: 66_821_848},
    "SEResNeXt": {50: 27_559_896, 101: 48_955_416, 152: 66_580_440},
    "Res2Net": {50: 25_699_120, 101: 45_206_688, 152: 61_275_248},
    "Res2NeXt": {50: 24_671_464, 101: 43_502_568, 152: 59_014_376},
}
BUFFERS = {18: 9_600, 34: 17_024, 50: 53_120, 101: 105_344, 152: 151_424}
OTHERS = [
    ("ResNeXt", 50, {"cardinality": 32, "base_width": 8}, 48_021_800),
    ("ResNeXt", 50, {"cardinality": 64, "base_width": 4}, 45_192_488),
    ("ResNeXt", 50, {"cardinality": 64, "base_width": 8}, 91_178_280),
    ("ResNeXt", 101, {"cardinality": 32, "base_width": 8}, 88_791_336),
    ("ResNeXt", 101, {"cardinality": 64, "base_width": 4}, 83_455_272),
    ("ResNeXt", 101, {"cardinality": 64, "base_width": 8}, 172_682_536),
    ("ResNeXt", 152, {"cardinality": 32, "base_width": 8}, 122_372_392),
    ("ResNeXt", 152, {"cardinality": 64, "base_width": 4}, 114_971_944),
    ("ResNeXt", 152, {"cardinality": 64, "base_width": 8}, 239_813_928),
    ("Res2Net", 50, {"base_width": 48, "scale": 2}, 25_287_304),
    ("Res2Net", 50, {"base_width": 14, "scale": 8}, 25_059_816),
    ("Res2Net", 50, {"base_width": 26, "scale": 6}, 37_051_448),
    ("Res2Net", 50, {"base_width": 26, "scale": 8}, 48_403_776),
]
ROWS = [(family, depth, {}, n) for family, depths in COUNTS.items() for depth, n in depths.items()] + OTHERS


@pytest.mark.parametrize(("family", "depth", "keywords", "wanted"), ROWS)
def test_parameters_and_shapes(family, depth, keywords, wanted):
    with nothing_drawn():
        m = getattr(models, family)(depth, **keywords)
    assert models.num_parameters(m) == wanted
    if family in ("ResNet", "SEResNet"):
        assert models.num_parameters(m, buffers=True) - wanted == BUFFERS[depth]
    assert flux.outputsize(m, (2, 3, 224, 224)) == (2, 1000)
    assert flux.outputsize(models.backbone(m), (2, 3, 224, 224)) == (2, 512 if depth < 50 else 2048, 7, 7)
    assert (m.imsize, m.inchannels, m.nclasses) == ((224, 224), 3, 1000)


def test_other_classes_and_channels():
    m = models.ResNet(18, nclasses=10, inchannels=1)
    assert models.num_parameters(m) == 11_689_512 - 513_000 + 5_130 - 2 * 64 * 49
    assert m(np.zeros((1, 1, 28, 28), np.float32)).shape == (1, 10)
    assert f"{models.num_parameters(m):_} parameters" in repr(m)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_names_with_the_depth(depth):
    with nothing_drawn():
        m, wanted = getattr(models, f"resnet{depth}")(nclasses=7), models.ResNet(depth, nclasses=7)
    assert repr(m) == repr(wanted)
    assert getattr(models, f"resnet{depth}").__doc__ == f"``ResNet({depth}, ...)``."


@pytest.mark.parametrize("family", COUNTS)
def test_options_of_resnet_and_a_training_step(family):
    build = getattr(models, family)
    flux.seed(0)
    m = build(50, planes=8, inplanes=8, nclasses=4, stem="deep", rng=Generator(0))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3, 64, 64)).astype(np.float32), np.arange(6) % 4
    f = lambda m: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    flux.trainmode(m)
    before, grads = flux.withgradient(f, m)
    flux.update(flux.setup(flux.Descent(1e-4), m), m, grads)
    assert float(f(m)) < float(before)
    other = build(50, planes=8, inplanes=8, nclasses=4, stem="deep", rng=Generator(1))
    other.load_state_dict(m.state_dict())
    np.testing.assert_array_equal(flux.testmode(other)(x).numpy(), flux.testmode(m)(x).numpy())


@pytest.mark.parametrize(("family", "depth", "known"),
                         [("ResNet", 20, "18, 34, 50, 101, 152"), ("WideResNet", 18, "50, 101, 152"),
                                                        ("Res2Net", 34, "50, 101, 152"), ("SEResNet", "50", "18, 34")])
def test_depths_that_there_are_not(family, depth, known):
    with pytest.raises(ValueError, match=f"{family}: the depth is one of {known}.*, got {depth!r}"):
        getattr(models, family)(depth)
