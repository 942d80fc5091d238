"""Fourier transforms, determinants, boxes and image files, with random numbers: against ONNX Runtime, PyTorch and NumPy."""

from __future__ import annotations

import io

import numpy as np
import pytest

import minitorch_flux as flux

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx_cases import floats, onnxruntime_outputs, outputs_of, single  # noqa: E402

INT = np.int64


def agree(op_type, inputs, opset=20, tolerance=1e-5, **attributes):
    """As ONNX Runtime; gives the output."""
    model = single(op_type, inputs, opset=opset, **attributes)
    (wanted,) = onnxruntime_outputs(model, inputs)
    (got,) = outputs_of(model, list(inputs.values()))
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(initial=0), 1))
    return got


# -- transforms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_a_transform(n, parts, inverse):
    x = floats(0, 3, n, parts)
    got = agree("DFT", {"x": x}, opset=17, axis=1, inverse=inverse)
    z = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    wanted = (np.fft.ifft if inverse else np.fft.fft)(z, axis=1)
    np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], wanted, atol=1e-5)


@pytest.mark.parametrize("n", [5, 8])
@pytest.mark.parametrize("length", [None, 4, 9])
def test_one_side_of_the_spectrum_and_back(n, length):
    x = floats(0, 2, n, 3, 1)
    given = {"x": x, "length": np.asarray(n if length is None else length, INT), "axis": np.asarray(1, INT)}
    model = single("DFT", given, opset=20, onesided=1)
    (got,) = outputs_of(model, list(given.values()))
    wanted = np.fft.rfft(x[..., 0], n=length, axis=1)
    np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], wanted, atol=1e-5)
    back = single("DFT", {**given, "x": got}, opset=20, onesided=1, inverse=1)
    (again,) = outputs_of(back, [got, given["length"], given["axis"]])
    np.testing.assert_allclose(again[..., 0], np.fft.irfft(wanted, n=n if length is None else length, axis=1), atol=1e-5)


def test_the_gradient_of_a_transform():
    x = floats(0, 2, 9, 2)
    net = flux.onnx.load(single("DFT", {"x": x}, opset=17, axis=1))
    dy = floats(1, 2, 9, 2)
    dx = flux.gradient(lambda x: (net(x) * dy).sum(), x)
    there = torch.tensor(x, requires_grad=True)
    z = torch.view_as_real(torch.fft.fft(torch.view_as_complex(there), dim=1))
    (z * torch.tensor(dy)).sum().backward()
    np.testing.assert_allclose(dx, there.grad.numpy(), atol=1e-4)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", [False, True])
def test_a_short_time_transform(onesided, window):
    inputs = {"signal": floats(0, 2, 37, 1), "step": np.asarray(5, INT)}
    if window:
        inputs["window"] = np.hanning(16).astype(np.float32)
    else:
        inputs["window"] = np.ones(16, np.float32)
    got = agree("STFT", {**inputs, "length": np.asarray(16, INT)}, opset=17, onesided=onesided)
    assert got.shape == (2, 5, 9 if onesided else 16, 2)


def test_frames_that_do_not_fit():
    inputs = {"signal": floats(0, 2, 7, 1), "step": np.asarray(5, INT), "window": np.ones(16, np.float32)}
    with pytest.raises(ValueError, match="frames of 16 numbers every 5 do not fit into a signal of 7"):
        outputs_of(single("STFT", inputs, opset=17), list(inputs.values()))


def test_mel_weights():
    inputs = {"bins": np.asarray(8, INT), "length": np.asarray(64, INT), "rate": np.asarray(8000, INT),
              "low": np.asarray(0, np.float32), "high": np.asarray(4000, np.float32)}  # fmt: skip
    agree("MelWeightMatrix", inputs, opset=17)


# -- determinants ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 4, 4), (2, 3, 7, 7), (0, 3, 3)])
def test_a_determinant(shape):
    x = floats(0, *shape, dtype=np.float64)
    (got,) = outputs_of(single("Det", {"x": x}), [x])
    np.testing.assert_allclose(got, np.linalg.det(x), rtol=1e-9)


def test_determinants_of_singular_matrices_and_of_a_permutation():
    x = np.array([[[1, 2], [2, 4]], [[0, 0], [0, 0]], [[0, 1], [1, 0]]], np.float32)
    (got,) = outputs_of(single("Det", {"x": x}), [x])
    np.testing.assert_array_equal(got, [0, 0, -1])
    with pytest.raises(ValueError, match="determinants are of square matrices, got shape"):
        outputs_of(single("Det", {"x": x[0, :1]}), [x[0, :1]])


def test_the_gradient_of_a_determinant():
    x = floats(0, 3, 4, 4, dtype=np.float64)
    net = flux.onnx.load(single("Det", {"x": x}))
    dx = flux.gradient(lambda x: (net(x) ** 2).sum(), x)
    there = torch.tensor(x, requires_grad=True)
    (torch.linalg.det(there) ** 2).sum().backward()
    np.testing.assert_allclose(dx, there.grad.numpy(), rtol=1e-8)


# -- boxes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_overlapping_boxes(centred, threshold):
    rng = np.random.default_rng(0)
    boxes = rng.random((2, 30, 4)).astype(np.float32)
    boxes[..., 2:] += 0.2
    inputs = {"boxes": boxes, "scores": rng.random((2, 3, 30)).astype(np.float32), "most": np.asarray([7], INT),
              "iou": np.asarray([0.3], np.float32), "score": np.asarray([threshold], np.float32)}  # fmt: skip
    agree("NonMaxSuppression", inputs, opset=17, center_point_box=centred)


def test_no_boxes_are_asked_for():
    inputs = {"boxes": np.ones((1, 2, 4), np.float32), "scores": np.ones((1, 1, 2), np.float32)}
    assert outputs_of(single("NonMaxSuppression", inputs, opset=17), list(inputs.values()))[0].shape == (0, 3)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_regions(mode, transformation, ratio):
    x = floats(0, 2, 3, 9, 11) if mode == "avg" else np.abs(floats(0, 2, 3, 9, 11))
    rois = np.array([[1, 1, 7, 6], [0, 0, 10, 8], [-3, 2, 4, 20], [2.5, 2.5, 2.6, 2.7]], np.float32)
    inputs = {"x": x, "rois": rois, "batch": np.array([0, 1, 1, 0])}
    agree("RoiAlign", inputs, opset=16, mode=mode, coordinate_transformation_mode=transformation, output_height=3,
          output_width=2, sampling_ratio=ratio, spatial_scale=0.9)  # fmt: skip


def test_regions_of_the_first_opset_and_none_at_all():
    x, none = floats(0, 1, 2, 6, 6), np.zeros((0, 4), np.float32)
    agree("RoiAlign", {"x": x, "rois": np.array([[1, 1, 5, 4]], np.float32), "batch": np.array([0])}, opset=10,
          output_height=2, output_width=2, sampling_ratio=2)  # fmt: skip
    inputs = {"x": x, "rois": none, "batch": np.zeros(0, INT)}
    assert outputs_of(single("RoiAlign", inputs, opset=16), list(inputs.values()))[0].shape == (0, 2, 1, 1)


def test_the_gradient_of_a_region():
    inputs = {"x": floats(0, 1, 2, 6, 6, dtype=np.float64), "rois": np.array([[1, 1, 5, 4]]), "batch": np.array([0])}
    net = flux.onnx.load(single("RoiAlign", inputs, opset=16, output_height=2, output_width=2, sampling_ratio=2))
    rest = list(inputs.values())[1:]
    dy = floats(1, 1, 2, 2, 2, dtype=np.float64)
    dx = flux.gradient(lambda x: (net(x, *rest) * dy).sum(), inputs["x"])
    step = floats(2, 1, 2, 6, 6, dtype=np.float64)  # it is linear in x
    rise = ((net(inputs["x"] + step, *rest).numpy() - net(inputs["x"], *rest).numpy()) * dy).sum()
    np.testing.assert_allclose((dx * step).sum(), rise, rtol=1e-9)


# -- image files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["RGB", "BGR", "Grayscale"])
def test_an_image_file(form):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "PNG")
    stream = np.frombuffer(file.getvalue(), np.uint8)
    (got,) = outputs_of(single("ImageDecoder", {"stream": stream}, pixel_format=form), [stream])
    wanted = {"RGB": pixels, "BGR": pixels[..., ::-1], "Grayscale": np.asarray(image.fromarray(pixels).convert("L"))[..., None]}
    np.testing.assert_array_equal(got, wanted[form])
    with pytest.raises(ValueError, match="the bytes are no image"):
        outputs_of(single("ImageDecoder", {"stream": stream}), [stream[:20]])
    with pytest.raises(ValueError, match="pixel_format='CMYK' is not one of RGB, BGR, Grayscale"):
        outputs_of(single("ImageDecoder", {"stream": stream}, pixel_format="CMYK"), [stream])


def test_image_files_need_pillow(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    stream = np.zeros(4, np.uint8)
    with pytest.raises(ImportError, match="ImageDecoder needs the package Pillow: pip install pillow"):
        outputs_of(single("ImageDecoder", {"stream": stream}), [stream])


# -- linear attention --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "gates", "what"), [
    ("squared", {}, "update_rule='squared' is not one of linear, gated, delta, gated_delta"),
    ("gated", {}, "update_rule='gated' needs decay"),
    ("linear", {"past": np.zeros((1, 1, 2, 2), np.float32), "decay": np.ones((1, 3, 1), np.float32)},
     "update_rule='linear' takes no decay"),
])  # fmt: skip
def test_rules_of_linear_attention(rule, gates, what):
    from minitorch_flux.onnx.linear_attention import linear_attention

    x = floats(0, 1, 3, 2)
    with pytest.raises(ValueError, match=what):
        linear_attention(x, x, x, gates.get("past"), gates.get("decay"), q_num_heads=1, kv_num_heads=1, update_rule=rule)
