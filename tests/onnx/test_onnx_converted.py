"""Real exports that the onnx package carries: PyTorch's layers with random weights, and the graphs of known networks."""

from __future__ import annotations

import numpy as np
import pytest

import minitorch_flux as flux

onnx = pytest.importorskip("onnx")

from pathlib import Path  # noqa: E402

from onnx_cases import assert_same, onnxruntime_outputs, outputs_of  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def folders(kind):
    return sorted(p.name for p in (DATA / kind).iterdir() if (p / "model.onnx").exists())


def tensors(folder, what):
    """The stored inputs or outputs of a test case, in order."""
    files = sorted(folder.glob(f"{what}_*.pb"), key=lambda p: int(p.stem.rpartition("_")[2]))
    return [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(p.read_bytes())) for p in files]


def test_the_suites_are_complete():
    assert len(folders("pytorch-converted")) == 82
    assert len(folders("pytorch-operator")) == 35


@pytest.mark.parametrize("name", [f"{k}/{n}" for k in ("pytorch-converted", "pytorch-operator") for n in folders(k)])
def test_exports_of_pytorch_give_the_stored_outputs(name):
    """All of the opset that they were written in: old broadcasting, attributes that became inputs."""
    net = flux.onnx.load(DATA / name / "model.onnx")
    sets = list((DATA / name).glob("test_data_set_*"))
    assert sets
    for folder in sets:
        got = outputs_of(net, tensors(folder, "input"))
        for y, wanted in zip(got, tensors(folder, "output"), strict=True):
            assert_same(y, wanted, 1e-4, 1e-5)


SIMPLE = ("expand_shape_model1", "expand_shape_model2", "expand_shape_model3", "expand_shape_model4", "shrink",
          "sign_model", "single_relu_model")


@pytest.mark.parametrize("name", SIMPLE)
def test_small_graphs(name):
    folder = DATA / "simple" / f"test_{name}"
    net = flux.onnx.load(folder / "model.onnx")
    for data in folder.glob("test_data_set_*"):
        for y, wanted in zip(outputs_of(net, tensors(data, "input")), tensors(data, "output"), strict=True):
            assert_same(y, wanted, 1e-5, 1e-6)


def test_what_is_refused_of_the_small_graphs_is_sequences_strings_and_gradients():
    refused = [n for n in folders("simple") if n.removeprefix("test_") not in SIMPLE]
    for name in refused:
        with pytest.raises(flux.onnx.UnsupportedOperator, match="Sequence|String|Gradient"):
            flux.onnx.load(DATA / "simple" / name / "model.onnx")
    assert len(refused) == 16


def with_random_weights(path, size):
    """A graph whose constant weights are replaced by seeded random ones, and its input made ``size`` pixels wide."""
    model = onnx.load(str(path))
    rng = np.random.default_rng(0)
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    made, kept = [], []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            shape = tuple(shapes[node.input[0]])
            a = rng.standard_normal(shape) * (2 / max(np.prod(shape[1:]), 1)) ** 0.5 if len(shape) > 1 else rng.random(shape)
            made.append(onnx.numpy_helper.from_array(np.asarray(a + (len(shape) < 2) * 0.5, np.float32), node.output[0]))
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(made)
    names = {t.name for t in model.graph.initializer}
    image = [i for i in model.graph.input if i.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(image)
    x = rng.standard_normal((1, 3, size, size)).astype(np.float32)
    for axis, n in enumerate(x.shape):
        image[0].type.tensor_type.shape.dim[axis].dim_value = n
    model.ir_version = 10
    return model, image[0].name, x


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet", "shufflenet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2",
                                                            "resnet50", "zfnet512")),
    ],
)  # fmt: skip
def test_networks_with_random_weights_agree_with_onnx_runtime(name):
    model, image, x = with_random_weights(DATA / "light" / f"light_{name}.onnx", 224)
    wanted = onnxruntime_outputs(model, {image: x})
    for y, w in zip(outputs_of(model, [x]), wanted, strict=True):
        np.testing.assert_allclose(y, w, rtol=0, atol=1e-4 * np.abs(w).max())
        assert np.ptp(y) > 0  # not the one number of the weights as they are stored
