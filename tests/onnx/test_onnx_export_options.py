"""What ``onnx.save`` can be told, what it refuses and how, and what happens to files."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import LSTM, BatchNorm, Chain, Conv, Dense, Dropout, Embedding, MaxPool, flatten, relu
from minitorch_flux.autograd import operation
from minitorch_flux.onnx import exporting

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx_cases import floats  # noqa: E402
from onnx_export import op_types, round_trip, saved, session, stored  # noqa: E402

X = floats(0, 2, 4)


def network():
    return Chain(Conv((3, 3), 1, 8, relu, pad=1), MaxPool((2, 2)), flatten, Dense(8 * 4 * 4, 10))


@pytest.fixture
def rules(monkeypatch):
    table = copy.copy(exporting.RULES)
    monkeypatch.setattr(exporting, "RULES", table)
    return table


def sizes(proto, which="input"):
    return [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in getattr(proto.graph, which)]


# -- names and axes ----------------------------------------------------------------------------------------------------


def test_names_in_the_file_are_those_of_the_layers_and_of_the_state_dict():
    model = network()
    proto = saved(model, (2, 1, 8, 8))
    assert [n.name for n in proto.graph.node] == ["0/Conv", "0/Relu", "1/MaxPool", "2/Reshape", "3/Gemm"]
    arrays = stored(proto)
    assert {"0.weight", "0.bias", "3.weight", "3.bias"} == set(arrays) & set(model.state_dict())
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(arrays[name], a)
    assert (sizes(proto), sizes(proto, "output")) == ([["batch", 1, 8, 8]], [["batch", 10]])
    assert (proto.graph.input[0].name, proto.graph.output[0].name, proto.producer_name) == ("x", "y", "minitorch_flux")
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 21)]


def test_names_that_were_given():
    add = lambda a, b: (a + b, a * b)  # noqa: E731
    proto = saved(add, X, X, inputs=["left", "right"], outputs=["sum", "product"])
    assert [i.name for i in proto.graph.input] == ["left", "right"]
    assert [o.name for o in proto.graph.output] == ["sum", "product"]
    assert [i.name for i in saved(add, X, X).graph.input] == ["x0", "x1"]
    assert [o.name for o in saved(add, X, X).graph.output] == ["y0", "y1"]
    assert saved(Dense(4, 2), X, outputs="scores").graph.output[0].name == "scores"
    with pytest.raises(ValueError, match=r"inputs=\['a'\] must be 2 different names, one for each of the 2 inputs"):
        saved(add, X, X, inputs=["a"])
    with pytest.raises(ValueError, match="'x' cannot be the name of an input and of an output"):
        saved(Dense(4, 2), X, outputs=["x"])
    with pytest.raises(ValueError, match="outputs=.* must be 2 different names"):
        saved(add, X, X, outputs=["a", "a"])


def test_parameters_that_are_called_like_inputs_and_outputs():
    class Line(flux.Module):
        def __init__(self):
            self.x, self.y = flux.Param(np.ones(4, np.float32)), flux.Param(np.ones(4, np.float32))

        def __call__(self, a):
            return a * self.x + self.y

    proto, _ = round_trip(Line(), X)
    assert sorted(stored(proto)) == ["x_1", "y_1"]


def test_a_layer_that_is_called_twice_has_nodes_of_its_own_each_time():
    shared = Dense(4, 4)
    proto, _ = round_trip(Chain(shared, relu, shared), X)
    assert [n.name for n in proto.graph.node] == ["0/Gemm", "1/Relu", "0/Gemm_1"]
    assert list(stored(proto)) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(("model", "example", "wanted"), [
    (lambda: Dense(4, 2), (3, 4), ["batch", 4]),
    (lambda: LSTM(4, 2), (5, 3, 4), ["time", "batch", 4]),
    (lambda: Chain(Dropout(0.5), LSTM(4, 2, batch_first=True)), (5, 3, 4), ["batch", "time", 4]),
    (lambda: LSTM(4, 2), (3, 4), ["batch", 4]),
    (lambda: Chain(Embedding(9, 4), LSTM(4, 2)), np.zeros((5, 3), int), ["time", "batch"]),
    (lambda: Chain(Conv((3,), 4, 4), lambda x: x.transpose(2, 0, 1), LSTM(4, 2)), (3, 4, 9), ["batch", 4, 9]),
])  # fmt: skip
def test_the_axes_that_are_free_by_default(model, example, wanted):
    assert sizes(saved(model(), example)) == [wanted]


def test_axes_that_were_given():
    model = Chain(Conv((3, 3), 1, 4, relu), lambda x: x.mean(axis=(2, 3)))
    proto = saved(model, (1, 1, 8, 8), axes={0: "n", 2: "h", 3: "w"})
    assert (sizes(proto), sizes(proto, "output")) == ([["n", 1, "h", "w"]], [["n", 4]])
    assert sizes(saved(model, (1, 1, 8, 8), axes={})) == [[1, 1, 8, 8]]
    both = saved(lambda a, b: (a.sum(axis=1), b), X, X, axes={"x1": {0: "rows"}})
    assert sizes(both) == [[2, 4], ["rows", 4]]


@pytest.mark.parametrize(("axes", "what"), [
    ({"z": {0: "batch"}}, "axes names the input 'z'; the inputs are x"),
    ({7: "batch"}, "7: 'batch' is not the number and the name of an axis of the input 'x'"),
    ({0: 3}, "0: 3 is not the number and the name"),
])  # fmt: skip
def test_axes_that_do_not_exist(axes, what):
    with pytest.raises(ValueError, match=what):
        saved(Dense(4, 2), X, axes=axes)


def test_axes_are_a_dict():
    with pytest.raises(TypeError, match="axes is a dict such as"):
        saved(Dense(4, 2), X, axes=["batch"])


def test_lengths_that_are_computed_from_free_axes():
    def windows(x):  # (N, 6, 4) as (3 N, 2, 4) and back, and rows of N + 2
        y = x.reshape(x.shape[0] * 3, 2, 4)
        z = flux.cat([x[:, 0], x[:2, 0]], axis=0)
        ones = flux.tensor(np.ones(x.shape[0], "float32"))
        return y.reshape(y.shape[0] // 3, 6, 4), flux.broadcast_to(z[:1], (z.shape[0], 4)), ones

    round_trip(windows, floats(0, 2, 6, 4), others=[(floats(0, 7, 6, 4),)])
    pairs = lambda x: flux.broadcast_to(x.reshape(1, -1, 4), (2, x.shape[0] * x.shape[1], 4))  # noqa: E731
    round_trip(pairs, floats(0, 2, 3, 4), axes={0: "a", 1: "b"}, others=[(floats(0, 5, 7, 4),)])
    positions = lambda x: x + np.arange(x.shape[1])[:, None]  # noqa: E731
    round_trip(positions, floats(0, 2, 3, 4), axes={0: "a", 1: "b"}, others=[(floats(0, 5, 7, 4),)])


@pytest.mark.parametrize(("model", "what"), [
    (lambda x: x * float(x.shape[1]), "a number in it depends on the length of a dynamic axis"),
    (lambda x: x + np.random.default_rng(0).random(x.shape[1]).astype("float32"), "a constant of shape"),
    (lambda x: sum(x[:, i] for i in range(x.shape[1])), "does something else|another number of operations"),
    (lambda x: x.reshape(-1)[: x.shape[1] ** 2], "cannot be told from those of the inputs"),
])  # fmt: skip
def test_lengths_that_onnx_cannot_be_told_of(model, what):
    with pytest.raises(flux.onnx.ExportError, match=what):
        saved(model, floats(0, 2, 9), axes={1: "length"})


# -- opsets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21, 22, 23])
def test_a_network_at_every_opset(opset):
    model = Chain(Conv((3, 3), 2, 4, flux.gelu), BatchNorm(4), flux.GroupNorm(4, 2), flux.GlobalMeanPool(), flatten,
                  Dense(4, 3), flux.LayerNorm(3), flux.softmax)  # fmt: skip
    proto, _ = round_trip(model, floats(0, 2, 2, 7, 7), opset=opset)
    assert proto.opset_import[0].version == opset
    assert ("Gelu" in op_types(proto)) == (opset >= 20)
    assert ("GroupNormalization" in op_types(proto)) == (opset >= 21)


@pytest.mark.parametrize("opset", [16, 0, 1000, "21"])
def test_opsets_that_are_too_old_or_not_there_yet(opset):
    with pytest.raises(ValueError, match=rf"opset must be from 17 to \d+ \(of the installed onnx\), got {opset!r}"):
        saved(Dense(4, 2), X, opset=opset)


# -- what is given -----------------------------------------------------------------------------------------------------


def test_the_model_is_left_as_it_is():
    model = Chain(BatchNorm(2), Dropout(0.5), LSTM(4, 2))
    flux.trainmode(model)
    x = floats(0, 3, 2, 4)
    model[2](x[0])
    before, state, kind = model.state_dict(), model[2].state[0].numpy(), type(model[0])
    saved(model, x, axes={})
    assert type(model[0]) is kind
    assert model[0].active is True
    np.testing.assert_array_equal(model[2].state[0].numpy(), state)
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


def test_it_is_written_in_test_mode_also_inside_a_recording_scope():
    model = flux.trainmode(Chain(Dense(4, 4), Dropout(0.5)))
    with flux.record():
        proto = saved(model, X)
    assert op_types(proto) == ["Gemm"]


def test_examples_are_arrays_tensors_or_shapes():
    protos = [saved(Dense(4, 2, bias=np.ones(2)), x) for x in (X, flux.tensor(X), (2, 4), [2, 4], X.astype("float64"))]
    assert {p.graph.input[0].type.tensor_type.elem_type for p in protos} == {onnx.TensorProto.FLOAT}
    with pytest.raises(TypeError, match="give what the model is called with, or its shape"):
        saved(Dense(4, 2))
    with pytest.raises(TypeError, match="an example is an array or a shape, a tuple of ints, got 'x'"):
        saved(Dense(4, 2), "x")


def test_functions_keep_the_dtype_of_the_example():
    proto, _ = round_trip(lambda x: x * 2, X.astype("float64"))
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


def test_a_model_without_numbers():
    with flux.shapes_only():
        model = Dense(4, 2)
    with pytest.raises(flux.onnx.ExportError, match="made inside flux.shapes_only.*; load weights into it"):
        saved(model, X)


def test_inputs_and_outputs_in_tuples_and_dicts():
    model = lambda pair, x: {"sum": pair[0] + pair[1], "rest": [x * 2, 3]}  # noqa: E731
    proto = saved(model, (X, X), X)
    assert [i.name for i in proto.graph.input] == ["x0", "x1", "x2"]
    assert [o.name for o in proto.graph.output] == ["y0", "y1"]
    got = session(proto).run(None, {"x0": X, "x1": X, "x2": X})
    np.testing.assert_array_equal(got[0], X + X)
    np.testing.assert_array_equal(got[1], X * 2)


def test_a_wrong_example_is_the_error_of_the_layer_with_its_shapes():
    with pytest.raises(ValueError, match="the input has 5 features, expected 4") as error:
        saved(Chain(Dense(4, 2)), (2, 5))
    assert "while the model was followed with inputs of the shapes" in error.value.__notes__[-1]


def test_open_sizes():
    with pytest.raises(ValueError, match=r"layer 0, Dense\(None, 2\) does not know its size yet: call the model once"):
        saved(Chain(Dense(None, 2)), X)


def test_tied_weights_are_stored_once():
    table = Embedding(9, 4)
    model = Chain(table, lambda h: h @ table.weight.T)
    proto, _ = round_trip(model, np.array([[1, 2]]))
    assert [a.shape for a in stored(proto).values() if a.ndim == 2] == [(9, 4)]


def test_an_imported_model_can_be_saved_again(tmp_path):
    flux.onnx.save(Chain(LSTM(4, 3), Dense(3, 2)), tmp_path / "a.onnx", (5, 2, 4))
    round_trip(flux.onnx.load(tmp_path / "a.onnx"), floats(0, 5, 2, 4))


# -- operations without a form -----------------------------------------------------------------------------------------


def _twice(x, by=2.0):
    return x * by


twice = operation("twice_in_the_tests_of_onnx", _twice, gradient=lambda dy, by: dy * by)


def test_an_operation_without_a_form_is_named_with_its_layer(rules):
    class Doubling(flux.Module):
        def __call__(self, x):
            return twice(x, by=3.0)

    model = Chain(Dense(4, 4), Chain(Doubling()))
    wanted = (r"layer 1\.0: the operation 'twice_in_the_tests_of_onnx' has no form in ONNX here; "
              r".*@flux\.onnx\.register_export\('twice_in")
    with pytest.raises(flux.onnx.ExportError, match=wanted):
        saved(model, X)

    @flux.onnx.register_export("twice_in_the_tests_of_onnx")
    def doubling(g, x, *, by=2.0):
        assert (x.shape[1], x.dtype, x.array) == (4, np.float32, None)
        return x * g.constant(by, x.dtype)

    proto, _ = round_trip(model, X)
    assert op_types(proto) == ["Gemm", "Mul"]


def test_a_node_of_a_domain_of_its_own(rules):
    @flux.onnx.register_export("twice_in_the_tests_of_onnx")
    def doubling(g, x, *, by=2.0):
        return g.node("Scaled", x, domain="my.domain", by=by)

    proto = saved(lambda x: twice(x), X)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 21), ("my.domain", 1)]
    assert [(n.op_type, n.domain) for n in proto.graph.node] == [("Scaled", "my.domain")]


def test_register_export_takes_names():
    with pytest.raises(TypeError, match=r"register_export takes names of operations, got \(\)"):
        flux.onnx.register_export()


# -- files -------------------------------------------------------------------------------------------------------------


def test_arrays_in_a_file_of_their_own(tmp_path):
    model = Chain(Dense(64, 64), Dense(64, 3))
    x = floats(0, 2, 64)
    path = tmp_path / "model.onnx"
    flux.onnx.save(model, path, x, inline_limit=1000)
    (data,) = [p for p in tmp_path.iterdir() if p != path]
    assert data.name.startswith("model.onnx.")
    assert data.suffix == ".data"
    onnx.checker.check_model(path, full_check=True)
    got = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    np.testing.assert_allclose(got, model(x).numpy(), atol=1e-5)
    np.testing.assert_allclose(flux.onnx.load(path)(x).numpy(), model(x).numpy(), atol=1e-5)
    proto = onnx.load(path, load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer if t.external_data}
    assert list(places) == ["0.weight"]  # what is small stays in the model
    assert places["0.weight"] == {"location": data.name, "offset": "0", "length": str(64 * 64 * 4)}

    model[0].weight.data[...] = 1  # another file of arrays, and the old one goes
    flux.onnx.save(model, path, x, inline_limit=1000)
    assert sorted(p.name for p in tmp_path.iterdir())[0] == "model.onnx"
    assert not data.exists()
    np.testing.assert_allclose(flux.onnx.load(path)(x).numpy(), model(x).numpy(), atol=1e-5)
    flux.onnx.save(model, path, x)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("limit", [10**9, 100])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, limit):
    model, path = Chain(Dense(64, 64), Dense(64, 3)), tmp_path / "model.onnx"
    x = floats(0, 2, 64)
    flux.onnx.save(model, path, x, inline_limit=100)
    before, wanted = sorted(p.name for p in tmp_path.iterdir()), model(x).numpy()
    changed = Chain(Dense(64, 64), Dense(64, 3))
    replace = os.replace
    for failing in (1, 2):
        calls = []

        def fails(*args, calls=calls, failing=failing):
            calls.append(args)
            if len(calls) == failing or limit > 100:
                raise OSError("no space left")
            replace(*args)

        monkeypatch.setattr("os.replace", fails)
        with pytest.raises(OSError, match="no space left"):
            flux.onnx.save(changed, path, x, inline_limit=limit)
        assert set(before) <= {p.name for p in tmp_path.iterdir()}
        np.testing.assert_allclose(flux.onnx.load(path)(x).numpy(), wanted, atol=1e-5)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder .* does not exist"):
        flux.onnx.save(Dense(4, 2), tmp_path / "no" / "model.onnx", X)


@pytest.mark.slow
def test_a_model_beyond_two_gigabytes(tmp_path):
    if shutil.disk_usage(tmp_path).free < 6e9:
        pytest.fail("a test of large files needs 6 GB of free disk")
    rows = 540_000  # of 1000 numbers: 2.16 GB, most of them pages of zeros that nobody has touched
    table = np.zeros((rows, 1000), np.float32)
    table[-1] = np.arange(1000)
    model, path = Embedding(table), tmp_path / "large.onnx"
    x = np.array([[0, rows - 1]])
    flux.onnx.save(model, path, x)
    (data,) = tmp_path.glob("large.onnx.*.data")
    assert data.stat().st_size == table.nbytes
    assert path.stat().st_size < 10_000
    onnx.checker.check_model(path)
    got = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, table[x])
    np.testing.assert_array_equal(flux.onnx.load(path)(x).numpy(), table[x])


def test_without_the_package_onnx_the_error_says_what_to_install(tmp_path):
    code = f"""
import sys
sys.modules["onnx"] = None
import minitorch_flux as flux
try:
    flux.onnx.save(flux.Dense(4, 2), {str(tmp_path / "m.onnx")!r}, (2, 4))
except ImportError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'needs the package onnx: pip install "minitorch-flux[onnx]"' in told


def test_saving_imports_onnx_only_when_it_is_called():
    code = "import sys, minitorch_flux.onnx; print('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_session_runs_what_was_saved_for_another_batch():
    proto = saved(network(), (1, 1, 8, 8))
    assert session(proto).run(None, {"x": floats(0, 7, 1, 8, 8)})[0].shape == (7, 10)


# -- programs drawn at random ------------------------------------------------------------------------------------------


MOVES = ["transpose", "merge", "split", "double", "first", "add", "sum", "stack"]


def walked(x, steps):
    for kind, number in steps:
        axis = number % x.ndim
        if kind == "transpose":
            x = x.swapaxes(axis, (axis + 1) % x.ndim)
        elif kind == "merge" and axis + 1 < x.ndim:
            x = x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])
        elif kind == "split":
            x = x.reshape(*x.shape[:axis], 1, *x.shape[axis:])
        elif kind == "double":
            x = flux.concatenate([x, 2 * x], axis=axis)
        elif kind == "first":
            x = x[(slice(None),) * axis + (slice(0, 2),)]
        elif kind == "add":
            x = x + flux.broadcast_to(x.mean(axis=axis, keepdims=True), x.shape)
        elif kind == "sum" and x.ndim > 1:
            x = x.sum(axis=axis)
        elif kind == "stack" and x.ndim < 6:
            x = flux.stack([x, -x], axis=axis)
    return x


@given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 7)), min_size=1, max_size=6))
def test_programs_of_moves_with_a_free_axis(steps):
    round_trip(lambda x: walked(x, steps), floats(0, 2, 3, 4), others=[(floats(1, 5, 3, 4),)], tolerance=1e-5)
