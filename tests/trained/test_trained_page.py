"""Two trained networks of an OCR look at a photographed page: which way up is a line, and what does it say?

A MobileNetV3 tells lines from lines that are upside down; a convolutional network with attention reads them. Both are ONNX
files of the package rapidocr-onnxruntime (PaddleOCR's, Apache-2.0); the page comes with scikit-image.
"""

import numpy as np
import pytest

import minitorch_flux as flux

from .trained_files import agree, outputs, runtime, trained_file

ORIENTATION = "rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", "e47acedf663230f8"
READER = "rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", "48fc40f24f6d2a20"
DETECTOR = "rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", "d2a7720d45a54257"

LINES = {
    "Region-based segmentation": (10, 36, 300),
    "Let us first determine markers of the coins and the": (46, 68, 384),
    "background. These markers are pixels that we can label": (63, 85, 384),
    "unambiguously as either object or background. Here,": (81, 104, 384),
    "the markers are found at the two extreme parts of the": (98, 122, 384),
    "histogram of grey values:": (115, 140, 180),
}
"""The page's lines, by what they say: first row, last row, last column."""


@pytest.fixture(scope="module")
def lines():
    import skimage.data

    page = skimage.data.page()
    return {text: page[top:bottom, :right] for text, (top, bottom, right) in LINES.items()}


def prepared(image, width):
    """A grey image as the networks were trained on it: (3, 48, width), from -1 to 1, zeros on the right."""
    from PIL import Image

    n = min(width, -(-48 * image.shape[1] // image.shape[0]))
    x = np.zeros((3, 48, width), np.float32)
    x[:, :, :n] = np.asarray(Image.fromarray(image).resize((n, 48), Image.Resampling.BILINEAR), np.float32) / 127.5 - 1
    return x


@pytest.fixture(scope="module")
def pieces(lines):
    """The first and the second piece of each line, upright and upside down: (24, 3, 48, 192)."""
    cut = [line[:, part] for line in lines.values() for part in (slice(130), slice(100, 260))]
    return np.stack([prepared(image, 192) for piece in cut for image in (piece, piece[::-1, ::-1])])


def test_a_mobilenet_knows_which_way_up_a_line_is(pieces):
    path = trained_file(*ORIENTATION)
    model = flux.onnx.load(path)
    found = model(pieces)
    agree(found, outputs(runtime(path), pieces), 1e-5)
    upside_down = found.numpy().argmax(1).reshape(-1, 2)
    assert (upside_down[:, 1] == 1).all()
    assert (upside_down[:, 0] == 0).sum() >= 11  # one of twelve upright pieces fools it, in ONNX Runtime too


def test_photographs_of_lines_in_any_size(lines):
    """The graph takes any width: one line as it is."""
    path = trained_file(*ORIENTATION)
    model, session = flux.onnx.load(path), runtime(path)
    for width in (32, 100, 333):
        x = prepared(next(iter(lines.values())), width)[None]
        agree(model(x), outputs(session, x), 1e-5)


def test_a_text_recogniser_reads_the_page(lines):
    path = trained_file(*READER)
    model, session = flux.onnx.load(path), runtime(path)
    letters = ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    for text, image in lines.items():
        x = prepared(image, 48 * image.shape[1] // image.shape[0])[None]
        scores = model(x)
        agree(scores, outputs(session, x), 1e-4)
        best = scores.numpy()[0].argmax(1)
        read = "".join(letters[i] for i, before in zip(best, [0, *best], strict=False) if i != before)
        assert read.replace(" ", "") == text.replace(" ", "")


def test_a_text_detector_finds_the_lines(lines):
    """Where there is text: the third network of the package, a U-shaped one with transposed convolutions."""
    import skimage.data

    path = trained_file(*DETECTOR)
    page = np.pad(skimage.data.page(), ((0, 1), (0, 0)), mode="edge")  # 192 x 384
    mean, deviation = np.array([[[0.485]], [[0.456]], [[0.406]]]), np.array([[[0.229]], [[0.224]], [[0.225]]])
    x = ((page / 255 - mean) / deviation).astype(np.float32)[None]
    found = flux.onnx.load(path)(x)
    agree(found, outputs(runtime(path), x), 1e-4)
    there = found.numpy()[0, 0] > 0.3
    for top, bottom, right in LINES.values():
        assert there[(top + bottom) // 2, 10 : right - 10].mean() > 0.5
    assert not there[145:158, 20:360].any()  # the ruled line


@pytest.mark.parametrize("file", [ORIENTATION, READER, DETECTOR], ids=lambda file: file[1][7:-5])
def test_captured_they_give_the_same_bits(file):
    """Shapes that the graph computes are the same at every replay."""
    model = flux.onnx.load(trained_file(*file))
    captured = flux.capture(model)
    height = 32 if file is DETECTOR else 48
    for x in np.random.default_rng(0).normal(size=(3, 1, 3, height, 96)).astype(np.float32):
        np.testing.assert_array_equal(captured(x).numpy(), model(x).numpy())


def test_the_gradient_of_a_line():
    """Against central differences in double precision, along a random direction."""
    model = flux.f64(flux.onnx.load(trained_file(*ORIENTATION)))
    rng = np.random.default_rng(0)
    x, direction = rng.normal(size=(1, 3, 48, 32)), rng.normal(size=(1, 3, 48, 32))
    slope = float((flux.gradient(lambda x: flux.log(model(x))[:, 0].sum(), x) * direction).sum())
    h = 1e-6
    up, down = (np.log(model(x + s * h * direction).numpy())[:, 0].sum() for s in (1, -1))
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-4)
