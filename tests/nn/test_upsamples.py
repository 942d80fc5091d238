"""Upsample and PixelShuffle as layers: PyTorch's as oracles, printing, errors."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, PixelShuffle, Upsample
from tests.oracles import normal

AXES = {"nearest": (1, 2, 3), "linear": (1,), "bilinear": (2,), "trilinear": (3,), "bicubic": (2,)}


@pytest.mark.parametrize("mode", AXES)
@pytest.mark.parametrize("given", [{"scale": 2}, {"scale": 1.6}, {"size": 5}, {"scale": 2, "align_corners": True}])
def test_upsample_is_pytorchs(mode, given):
    torch = pytest.importorskip("torch")
    if mode == "nearest" and "align_corners" in given:
        pytest.skip("not for nearest")
    theirs = {"scale_factor" if k == "scale" else k: v for k, v in given.items()}
    for axes in AXES[mode]:
        x = normal(2, 3, *(4, 3, 2)[:axes])
        wanted = torch.nn.Upsample(mode=mode, **theirs)(torch.tensor(x))
        np.testing.assert_allclose(Upsample(mode, **given)(x).data, wanted.numpy(), rtol=1e-10, atol=1e-12)


def test_flux_s_bilinear_is_ours_with_align_corners():
    """The example in Flux's manual: the corners keep their values."""
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    y = Upsample("bilinear", scale=2, align_corners=True)(x).data[0, 0]
    np.testing.assert_allclose(y[[0, 0, -1, -1], [0, -1, 0, -1]], [0, 1, 2, 3])
    np.testing.assert_allclose(y[0], [0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("layer", [
    Upsample(scale=2), Upsample("bilinear", scale=(2, 1.5)), Upsample("bilinear", size=(3, 5), align_corners=True),
    Upsample("bicubic", scale=2), PixelShuffle(2),
], ids=repr)  # fmt: skip
def test_gradients_of_both_orders(layer):
    flux.check(layer, normal(1, 4, 3, 2))


@pytest.mark.parametrize("shape", [(2, 8, 3), (2, 8, 3, 2), (1, 8, 2, 1, 3)])
def test_pixel_shuffle(shape):
    r = 2
    y = PixelShuffle(r)(normal(*shape))
    assert y.shape == (shape[0], 8 // r ** (len(shape) - 2), *(n * r for n in shape[2:]))
    torch = pytest.importorskip("torch")
    if len(shape) == 4:
        np.testing.assert_array_equal(y.data, torch.nn.PixelShuffle(r)(torch.tensor(normal(*shape))).numpy())


def test_in_a_model():
    model = Chain(Conv((3, 3), 1, 4, pad=1), PixelShuffle(2), Upsample("bilinear", scale=2), Upsample(size=(7, 9)))
    x = normal(2, 1, 3, 4, dtype=np.float32)
    assert model(x).shape == flux.outputsize(model, x.shape) == (2, 1, 7, 9)
    assert model(x).dtype == np.float32
    assert flux.gradient(lambda m: (m(x) ** 2).sum(), model)[0].weight.shape == (4, 1, 3, 3)


@pytest.mark.parametrize("text", [
    "Upsample(scale=2)", "Upsample('bilinear', scale=(2, 1.5), align_corners=True)", "Upsample('trilinear', size=(2, 3, 4))",
    "Upsample('bicubic', size=5)", "PixelShuffle(3)",
])  # fmt: skip
def test_they_print_as_the_calls_that_rebuild_them(text):
    assert repr(eval(text, vars(flux).copy())) == text


def test_arguments_are_kept():
    layer = Upsample("bilinear", scale=[2, 3], align_corners=True)
    assert (layer.mode, layer.scale, layer.size, layer.align_corners) == ("bilinear", (2, 3), None, True)
    assert PixelShuffle(2).r == 2
    assert layer.state_dict() == {}


def test_errors():
    with pytest.raises(ValueError, match=r"Upsample: the mode is one of 'nearest', 'linear', 'bilinear', 'trilinear', "
                                         r"'bicubic', got 'area'$"):  # fmt: skip
        Upsample("area", scale=2)
    with pytest.raises(ValueError, match=r"got 2; write Upsample\('nearest', scale=\.\.\.\)"):
        Upsample(2)
    with pytest.raises(TypeError, match="Upsample: give either scale= or size=, got neither"):
        Upsample("nearest")
    with pytest.raises(TypeError, match="Upsample: give either scale= or size=, got both"):
        Upsample("nearest", scale=2, size=3)
    for keywords in ({"scale": 0}, {"scale": (2, -1)}, {"scale": "2"}, {"size": 0}, {"size": 2.5}, {"size": (3, None)}):
        with pytest.raises(ValueError, match="Upsample: .* is a positive .*number or a tuple with one for each axis, got"):
            Upsample("bilinear", **keywords)
    with pytest.raises(ValueError, match="PixelShuffle: r is a whole number from 1 on, got 0"):
        PixelShuffle(0)
    with pytest.raises(TypeError, match="PixelShuffle: r must be a whole number, got 1.5"):
        PixelShuffle(1.5)
    with pytest.raises(ValueError, match="Upsample: align_corners is for linear interpolation"):
        Upsample("nearest", scale=2, align_corners=True)
    with pytest.raises(TypeError, match="Upsample: `scale_factor=` is spelled `scale=` here"):
        Upsample(scale_factor=2)
    with pytest.raises(ValueError, match=r"Upsample\('bilinear', scale=2\): takes an input of 4 axes \(N, C, H, W\); got 3 "
                                         r"axes \(input shape \(2, 3, 4\)\)"):  # fmt: skip
        Upsample("bilinear", scale=2)(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"Upsample\('linear', scale=2\): takes an input of 3 axes \(N, C, W\); got 4 axes"):
        Upsample("linear", scale=2)(np.zeros((2, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"Upsample\('trilinear', scale=2\): takes an input of 5 axes \(N, C, D, H, W\); got"):
        Upsample("trilinear", scale=2)(np.zeros((2, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"Upsample\(scale=\(2, 2\)\): scale \(2, 2\) has 2 numbers, the input has 1 axes"):
        Upsample(scale=(2, 2))(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"PixelShuffle\(3\): axis 1 of the input has 8 channels, which cannot be divided by "
                                         r"r\^2 = 9 \(input shape \(1, 8, 2, 2\)\)"):  # fmt: skip
        PixelShuffle(3)(np.zeros((1, 8, 2, 2)))
