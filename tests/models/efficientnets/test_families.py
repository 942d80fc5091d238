"""The published EfficientNets: parameters, shapes, equality with plain PyTorch, a training step."""

from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Generator, models
from minitorch_flux.models import EfficientNet, EfficientNetLite, EfficientNetv2
from minitorch_flux.models.efficientnets.efficientnetv2 import EFFICIENTNETV2S
from minitorch_flux.models.layers import StochasticDepth

COUNTS = [
    (EfficientNet, "b0", 224, 5_288_548, 1280), (EfficientNet, "b1", 240, 7_794_184, 1280),
    (EfficientNet, "b2", 260, 9_109_994, 1408), (EfficientNet, "b3", 300, 12_233_232, 1536),
    (EfficientNet, "b4", 380, 19_341_616, 1792), (EfficientNet, "b5", 456, 30_389_784, 2048),
    (EfficientNet, "b6", 528, 43_040_704, 2304), (EfficientNet, "b7", 600, 66_347_960, 2560),
    (EfficientNet, "b8", 672, 87_413_142, 2816),
    (EfficientNetv2, "small", 384, 21_458_488, 1280), (EfficientNetv2, "medium", 480, 54_139_356, 1280),
    (EfficientNetv2, "large", 480, 118_515_272, 1280), (EfficientNetv2, "xlarge", 512, 208_119_808, 1280),
    (EfficientNetLite, "lite0", 224, 4_652_008, 1280), (EfficientNetLite, "lite1", 240, 5_416_680, 1280),
    (EfficientNetLite, "lite2", 260, 6_092_072, 1280), (EfficientNetLite, "lite3", 280, 8_197_096, 1280),
    (EfficientNetLite, "lite4", 300, 13_006_568, 1280),
]  # fmt: skip
SMALL = {EfficientNet: "b0", EfficientNetv2: "small", EfficientNetLite: "lite0"}


def small(family, **keywords):
    return family(SMALL[family], **{"width_mult": 0.25, "depth_mult": 0.3, "headplanes": 32, "nclasses": 4, **keywords})


def images(n=8, channels=3, size=40):
    return np.random.default_rng(0).standard_normal((n, channels, size, size)).astype(np.float32)


@pytest.mark.parametrize(("family", "config", "size", "wanted", "planes"), COUNTS)
def test_parameters_and_shapes(family, config, size, wanted, planes):
    with flux.shapes_only():
        m = family(config)
    assert models.num_parameters(m) == wanted
    assert (m.imsize, m.inchannels, m.nclasses) == ((size, size), 3, 1000)
    maps = (2, planes, -(-size // 32), -(-size // 32))
    assert flux.outputsize(m.backbone, (2, 3, size, size)) == maps
    assert flux.outputsize(m.classifier, maps) == (2, 1000)


@pytest.mark.parametrize(("family", "theirs", "train"), [
    (EfficientNet, "efficientnet_b0", False), (EfficientNet, "efficientnet_b0", True),
    (EfficientNetLite, "efficientnet_lite0", False), (EfficientNetLite, "efficientnet_lite0", True),
    (EfficientNetv2, "efficientnet_v2_s", False),
    pytest.param(EfficientNetv2, "efficientnet_v2_s", True, marks=pytest.mark.slow),
])  # fmt: skip
def test_against_plain_pytorch(family, theirs, train):
    """The published networks: output, gradients and running statistics."""
    pytest.importorskip("torch")
    from ..mobilenets import plain_torch

    off = {"dropout_prob": None, "stochastic_depth_prob": None} if train else {}
    x = np.random.default_rng(0).standard_normal((4 if train else 2, 3, 33, 38))
    ours = family(SMALL[family], nclasses=7, **off)
    assert plain_torch.largest_error(ours, getattr(plain_torch, theirs)(7), x, train) < 1e-11


@pytest.mark.parametrize("family", SMALL)
def test_a_training_step_modes_and_the_state(family):
    flux.seed(0)
    x, y = images(), np.arange(8) % 4
    m = small(family, dropout_prob=None, stochastic_depth_prob=None, rng=Generator(0))
    f = lambda m: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    flux.trainmode(m)
    before, grads = flux.withgradient(f, m)
    flux.update(flux.setup(flux.Descent(1e-4), m), m, grads)
    assert float(f(m)) < float(before)
    flux.testmode(m)
    np.testing.assert_allclose(m(x[:1]).numpy(), m(x).numpy()[:1], rtol=1e-3, atol=1e-5)  # no batch in it
    np.testing.assert_array_equal(m.classifier(m.backbone(x)).numpy(), m(x).numpy())
    other = small(family, rng=Generator(1))
    other.load_state_dict(m.state_dict())  # the keys do not depend on what is dropped
    np.testing.assert_array_equal(flux.testmode(other)(x).numpy(), m(x).numpy())
    flux.trainmode(other)
    assert not np.array_equal(other(x).numpy(), other(x).numpy())


@pytest.mark.parametrize("family", SMALL)
def test_all_keywords(family):
    m = small(family, inplanes=40, activation=flux.mish, norm_layer=lambda planes: flux.GroupNorm(planes, 4),
              connection=flux.maximum, dropout_prob=0.1, stochastic_depth_prob=0.3, imsize=(50, 40), inchannels=2,
              pad=flux.SamePad("lower"), rng=Generator(0))  # fmt: skip
    kinds = [type(layer) for layer in m.modules()]
    assert flux.GroupNorm in kinds
    assert BatchNorm not in kinds
    assert (m.imsize, m.inchannels, m.nclasses) == ((50, 40), 2, 4)
    assert "pad=SamePad()" in repr(m)
    assert "mish" in repr(m)
    assert flux.outputsize(m, (3, 2, 50, 40)) == m(images(3, 2)).shape == (3, 4)


def test_the_factors_of_a_configuration():
    with flux.shapes_only():
        assert models.num_parameters(EfficientNet("b0", width_mult=2.0, depth_mult=3.1)) == 66_347_960  # b7
        assert models.num_parameters(EfficientNetLite("lite0", width_mult=1.4, depth_mult=1.8)) == 13_006_568  # lite4
        assert EfficientNet("b0", width_mult=0.5).classifier.last.weight.shape == (1000, 1280)
    assert models.num_parameters(EfficientNetLite(nclasses=10)) == 4_652_008 - 990 * 1281


def test_metalheads_table_of_xlarge():
    """It has other planes in two stages, and fits no published weights."""
    stages = [stage._replace(planes={256: 384, 640: 768}.get(stage.planes, stage.planes))
              for stage in EFFICIENTNETV2S["xlarge"][2]]
    with flux.shapes_only():
        assert models.num_parameters(models.inverted_residual_network(stages, activation=flux.swish)) == 257_483_232


def test_their_names():
    names = models.list_models("efficientnet*")
    assert len(names) == len(COUNTS)
    with flux.shapes_only():
        for name, (_, config, size, wanted, _) in zip(names, COUNTS, strict=True):
            assert name.endswith(config)
            if size < 300:
                assert models.num_parameters(models.get_model(name)) == wanted


def details(m):
    eps = {layer.eps for layer in m.modules() if isinstance(layer, BatchNorm)}
    drops = [layer.p for layer in m.modules() if type(layer) is flux.Dropout]
    paths = [layer.p for layer in m.modules() if isinstance(layer, StochasticDepth)]
    return eps, drops, max(paths, default=None)


def test_the_published_norms_and_drops():
    with flux.shapes_only():
        b0, b5, v2, lite = EfficientNet("b0"), EfficientNet("b5"), EfficientNetv2("medium"), EfficientNetLite("lite2")
        none = EfficientNet("b0", norm_layer=partial(BatchNorm, eps=1e-3), dropout_prob=None, stochastic_depth_prob=None)
    assert details(b0) == ({1e-5}, [0.2], pytest.approx(0.2 * 14 / 16))  # the last of its blocks has no residual connection
    assert details(b5)[:2] == ({1e-3}, [0.4])
    assert details(v2)[:2] == ({1e-3}, [0.3])
    assert details(lite)[:2] == ({1e-3}, [0.3])
    assert details(none) == ({1e-3}, [], None)
    assert [m.backbone.stem.norm.activation.name for m in (b0, v2, lite)] == ["swish", "swish", "relu6"]
    assert "SamePad('upper')" in repr(lite.backbone.stem)
    assert "SamePad()" in repr(b0.backbone.stem)
    assert "squeeze_excite" not in "".join(lite.state_dict())


@pytest.mark.parametrize(("make", "message"), [
    (lambda: EfficientNet("b9"), "EfficientNet: the configuration is one of 'b0', .*, 'b8', got 'b9'"),
    (lambda: EfficientNet(0), "EfficientNet: the configuration is one of 'b0', .*, got 0"),
    (lambda: EfficientNetv2("s"), "EfficientNetv2: the configuration is one of 'small', .*, 'xlarge', got 's'"),
    (lambda: EfficientNetLite("b0"), "EfficientNetLite: the configuration is one of 'lite0', .*, got 'b0'"),
    (lambda: EfficientNet("b0", width_mult=0), "EfficientNet: width_mult must be a positive number, got 0"),
    (lambda: EfficientNetLite(width_mult=0), "EfficientNetLite: width_mult must be a positive number, got 0"),
    (lambda: EfficientNetLite(depth_mult="2"), "EfficientNetLite: depth_mult must be a positive number, got '2'"),
    (lambda: EfficientNetv2("small", width_mult=-1), "width_mult must be a positive number, got -1"),
    (lambda: small(EfficientNet)(images(1, 1)), r"Network\['backbone'\]\.Chain\['stem'\]\.Chain\['conv'\] Conv.*1 channels"),
])  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_keyword_that_there_is_not():
    with pytest.raises(TypeError, match="pretrain"):
        EfficientNet("b0", pretrain=True)
