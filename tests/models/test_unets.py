"""UNet: shapes with several encoders, and the network beside plain PyTorch."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, MaxPool, models
from minitorch_flux.models.unets import Decode, EncoderDecoder, icnr

from .zoo_tools import error_beside_torch, images


def encoder(**keywords):
    """Conv and pools: halves, then divides by 4."""
    return Chain(
        Chain(Conv((3, 3), 3, 4, flux.relu, pad=1, **keywords), MaxPool((2, 2))),
        Conv((3, 3), 4, 6, flux.relu, pad=1, **keywords),
        Conv((4, 4), 6, 10, flux.relu, stride=4, **keywords),
    )


def torch_unet():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def conv(n, out, kernel=3, stride=1):
        return nn.Conv2d(n, out, kernel, stride, kernel // 2 if stride == 1 else 0)

    def block(n, out, kernel=3):
        return nn.Conv2d(n, out, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.full = nn.Sequential(conv(3, 4), nn.ReLU())
            self.second = nn.Sequential(nn.MaxPool2d(2), conv(4, 6), nn.ReLU())
            self.eighth = nn.Sequential(conv(6, 10, 4, 4), nn.ReLU())
            self.middle = nn.Sequential(*block(10, 20), *block(20, 10))
            self.up1 = nn.Sequential(*block(10, 6 * 16, 1), nn.PixelShuffle(4))
            self.join1 = nn.Sequential(*block(12, 6), *block(6, 6))
            self.up2 = nn.Sequential(*block(6, 4 * 4, 1), nn.PixelShuffle(2))
            self.join2 = nn.Sequential(*block(8, 4), *block(4, 4))
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            full = self.full(x)
            half = self.second(full)
            y = self.up1(self.middle(self.eighth(half)))
            y = self.up2(self.join1(torch.cat([y, half], 1)))
            return self.last(self.join2(torch.cat([y, full], 1)))

    return Net()


def test_the_default_encoder():
    with flux.shapes_only():
        m = models.UNet()
    assert flux.outputsize(m, (2, 3, 256, 256)) == (2, 3, 256, 256)
    assert m.backbone.names == (*(f"stage{i}" for i in range(6)), "middle", *(f"step{i + 1}" for i in range(5)))
    encoder = m.backbone[:6]
    assert flux.outputsize(encoder, (1, 3, 256, 256)) == (1, 1024, 8, 8)
    assert [flux.outputsize(encoder[: i + 1], (1, 3, 256, 256))[1] for i in range(6)] == [3, 64, 128, 256, 512, 1024]
    assert [step.up.conv.out for step in m.backbone[7:]] == [2048, 1024, 512, 256, 128]
    assert models.num_parameters(encoder) == 7_978_856 - 1_025_000
    assert models.num_parameters(m) == 56_933_827
    assert (m.imsize, m.inchannels, m.nclasses) == ((256, 256), 3, 3)


def test_of_a_resnet():
    with flux.shapes_only():
        resnet = models.ResNet(18)
        m = models.UNet((256, 256), 3, 10, models.backbone(resnet))
        other = models.UNet((64, 96), 3, 10, models.backbone(resnet))
    assert flux.outputsize(m, (1, 3, 256, 256)) == (1, 10, 256, 256)
    assert flux.outputsize(m, (2, 3, 64, 32)) == (2, 10, 64, 32)
    assert flux.outputsize(other, (1, 3, 256, 256)) == (1, 10, 256, 256)
    assert [step.join.conv2.out for step in m.backbone[7:]] == [256, 128, 64, 64, 32]
    assert m.backbone.stage1[0] is resnet.backbone.stem.conv1  # shared
    assert models.num_parameters(m) == 23_788_650


@pytest.mark.parametrize(("build", "imsize", "steps"), [
    (lambda: models.ConvNeXt("tiny"), (64, 64), [(768, 2), (384, 2), (192, 2), (96, 4)]),
    (lambda: models.VGG(11), (64, 64), None),
    (lambda: models.ResNet(50, stem="deep", downsample="D"), (64, 64), None),
])
def test_of_other_backbones(build, imsize, steps):
    with flux.shapes_only():
        m = models.UNet(imsize, encoder_backbone=models.backbone(build()))
    assert flux.outputsize(m, (1, 3, *imsize)) == (1, 3, *imsize)
    if steps:
        assert [(step.up.conv.in_, step.up.shuffle.r) for step in m.backbone[len(m.backbone) // 2 + 1 :]] == steps


@pytest.mark.parametrize("train", [False, True])
def test_beside_torch(train):
    m = models.UNet((8, 16), 3, 2, encoder())
    assert m.backbone.names == ("stage0", "stage1", "stage2", "middle", "step1", "step2")
    assert error_beside_torch(m, torch_unet(), images(2, 3, 16, 8), train) < 1e-10


def test_a_training_step_modes_state_and_printing():
    def build(seed):
        rng = flux.Generator(seed)
        return models.UNet((8, 8), 3, 2, encoder(rng=rng), activation=flux.leakyrelu, norm_layer=flux.InstanceNorm, rng=rng)

    m = build(0)
    x = images(2, 3, 16, 16)
    y = (np.arange(512) % 2).reshape(2, 16, 16)
    loss = lambda m: flux.losses.logitcrossentropy(m(x), y, axis=1)  # noqa: E731
    np.testing.assert_array_equal(m.classifier(m.backbone(x)).numpy(), m(x).numpy())
    before, grads = flux.withgradient(loss, m)
    flux.update(flux.setup(flux.Descent(1e-2), m), m, grads)
    assert float(loss(m)) < float(before)
    other = build(1)
    assert not np.array_equal(other(x).numpy(), m(x).numpy())
    other.load_state_dict(m.state_dict())
    np.testing.assert_array_equal(other(x).numpy(), m(x).numpy())
    np.testing.assert_array_equal(build(0)(x).numpy(), build(0)(x).numpy())
    scope = {**vars(flux), "partial": partial, "Network": models.Network, "EncoderDecoder": EncoderDecoder, "Decode": Decode,
             "icnr": icnr}  # fmt: skip
    for again in (eval(repr(m), scope), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert [(k, a.shape) for k, a in again.state_dict().items()] == [(k, a.shape) for k, a in m.state_dict().items()]
        assert repr(again) == repr(m)
    text = repr(m)
    assert "leakyrelu" in text
    assert "InstanceNorm(4" in text
    assert f"{models.num_parameters(m):_} parameters" in text
    with_batch_norm = models.UNet((8, 8), 3, 2, encoder())
    running = with_batch_norm.state_dict()["backbone.middle.norm1.running_mean"]
    flux.trainmode(with_batch_norm)(x)
    assert not np.array_equal(with_batch_norm.state_dict()["backbone.middle.norm1.running_mean"], running)


def test_all_parameters_of_a_resnet_unet_have_gradients():
    resnet = models.resnet(models.basicblock, [1, 1], inplanes=4, planes=4, inchannels=1)
    m = flux.trainmode(models.UNet((32, 32), 1, 2, models.backbone(resnet)))
    with flux.record():
        (m(images(2, 1, 32, 32)) ** 2).sum().backward()
    for name, p in m.named_parameters():
        assert np.isfinite(p.grad).all(), name
        assert np.abs(p.grad).max() > 0, name


def test_the_first_weights_make_no_checkerboard():
    w = icnr(2, 8, 3, 1, 1, rng=flux.Generator(0))
    assert w.shape == (8, 3, 1, 1)
    np.testing.assert_array_equal(w.reshape(2, 4, 3), np.broadcast_to(w.reshape(2, 4, 3)[:, :1], (2, 4, 3)))
    assert not np.array_equal(w[0], w[4])
    m = models.UNet((8, 16), 3, 2, encoder())
    y = m.backbone.step1.up(images(1, 10, 2, 3)).numpy()
    np.testing.assert_array_equal(y, np.repeat(np.repeat(y[:, :, ::4, ::4], 4, 2), 4, 3))


def test_what_does_not_fit():
    m = models.UNet((8, 8), 3, 2, encoder())
    with pytest.raises(ValueError, match="Decode: maps of 6 x 4 pixels came back as 4 x 4.*multiples of all that it"):
        m(images(1, 3, 12, 8))
    with pytest.raises(ValueError, match=r"EncoderDecoder\['stage0'\]\.Chain\[0\] Conv.*channels on axis 1, expected 3"):
        m(images(1, 1, 8, 8))
    with flux.shapes_only():
        whole = models.ResNet(18)
    with pytest.raises(ValueError, match=r"UNet: the encoder gives maps .* flatten gives .*take models.backbone\(m\)"):
        models.UNet((64, 64), encoder_backbone=whole)
    with pytest.raises(ValueError, match=r"UNet: the layer Conv\(\(3, 3\), 3, 4\) of the encoder makes 6 x 6 of 8 x 8"):
        models.UNet((8, 8), encoder_backbone=Chain(Conv((3, 3), 3, 4)))
    with pytest.raises(ValueError, match=r"UNet: the layer Conv.* makes 4 x 2 of 8 x 8"):
        models.UNet((8, 8), encoder_backbone=Chain(Conv((2, 4), 3, 4, stride=(2, 4))))
    with pytest.raises(ValueError, match=r"UNet: the encoder Chain\(Conv.* never makes the maps smaller"):
        models.UNet((8, 8), encoder_backbone=Chain(Conv((3, 3), 3, 4, pad=1)))
    with pytest.raises(ValueError, match="expected 3"):
        models.UNet((8, 8), 1, 2, encoder())
    with pytest.raises(ValueError, match="EncoderDecoder: n stages, a middle and n - 1 steps .* even number of layers, got 3"):
        EncoderDecoder(*m.backbone.layers[:3])


def test_a_step_of_the_decoder():
    step = Decode(flux.PixelShuffle(2), lambda x: x)
    x, before = images(1, 4, 2, 2), images(1, 3, 4, 4)
    y = step(x, before).numpy()
    assert y.shape == (1, 4, 4, 4)
    np.testing.assert_array_equal(y[:, 1:], before)
