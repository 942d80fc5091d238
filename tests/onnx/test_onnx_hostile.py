"""Files that are damaged or mean harm: an error that says what is wrong, and nothing else happens."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.onnx import OnnxError

onnx = pytest.importorskip("onnx")
from onnx import helper as make  # noqa: E402

FOUND = Path(__file__).with_name("found_by_fuzzing.txt")
X = np.ones((2, 4), np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    model = flux.Chain(flux.Conv((3, 3), 1, 2, flux.relu), flux.BatchNorm(2), flux.flatten, flux.Dense(8, 3))
    flux.onnx.save(model, path, (1, 1, 4, 4))
    return path.read_bytes()


def loads_or_refuses(data):
    """Whether the bytes load; any error but OnnxError comes out."""
    try:
        net = flux.onnx.load(data)
        repr(net)
        net.state_dict()
    except OnnxError:
        return False
    return True


# -- damage ------------------------------------------------------------------------------------------------------------


@given(st.data())
def test_a_file_that_was_cut_off(whole, data):
    end = data.draw(st.integers(0, len(whole) - 1))
    assert not loads_or_refuses(whole[:end])


@given(st.data())
def test_a_file_with_other_bytes(whole, data):
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    loads_or_refuses(bytes(damaged))


@given(st.data())
def test_a_file_with_parts_moved(whole, data):
    a, b, c = sorted(data.draw(st.integers(0, len(whole))) for _ in range(3))
    loads_or_refuses(whole[:a] + whole[b:c] + whole[a:b] + whole[c:])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model(data):
    assert not loads_or_refuses(data)


@pytest.mark.parametrize("line", FOUND.read_text().splitlines())
def test_what_a_fuzzer_has_found(line):
    assert not loads_or_refuses(base64.b64decode(line.split()[-1]))


# -- lies --------------------------------------------------------------------------------------------------------------


def model_of(nodes, stored=(), inputs=("x",), outputs=("y",), **more):
    infos = [make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None, 4]) for n in inputs]
    ends = [make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs]
    graph = make.make_graph(list(nodes), "g", infos, ends, list(stored))
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 21), *more.pop("domains", ())], **more)


def add(weight):
    return model_of([make.make_node("Add", ["x", "w"], ["y"])], [weight])


def tensor(dims, raw, data_type=onnx.TensorProto.FLOAT):
    t = onnx.TensorProto(name="w", data_type=data_type, raw_data=raw)
    t.dims.extend(dims)
    return t


@pytest.mark.parametrize("dims", [[1 << 40], [-1], [3, 1 << 62], [2, 2], [(1 << 63) - 1, 2], [0, -5]])
def test_a_shape_that_its_numbers_do_not_fill(dims):
    with pytest.raises(OnnxError, match="initializer 'w'"):
        flux.onnx.load(add(tensor(dims, b"\0" * 12)))


def test_a_type_that_does_not_exist():
    with pytest.raises(OnnxError, match="initializer 'w'"):
        flux.onnx.load(add(tensor([3], b"\0" * 12, data_type=99)))


def test_a_graph_that_runs_in_a_circle():
    nodes = [make.make_node("Add", ["x", "b"], ["a"]), make.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(OnnxError, match="uses the value 'b', which nothing before it makes"):
        flux.onnx.load(model_of(nodes, outputs=["b"]))


def test_functions_that_call_each_other_in_a_circle():
    domain = make.make_opsetid("d", 1)
    functions = [
        make.make_function("d", name, ["x"], ["y"], [make.make_node(other, ["x"], ["y"], domain="d")], [domain])
        for name, other in (("A", "B"), ("B", "A"))
    ]
    model = model_of([make.make_node("A", ["x"], ["y"], domain="d")], functions=functions, domains=[domain])
    with pytest.raises(OnnxError, match="the model is not valid: Cycle detected in model-local function references"):
        flux.onnx.load(model)


def test_an_opset_beyond_all_numbers():
    model = add(onnx.numpy_helper.from_array(X[0], "w"))
    model.opset_import[0].version = 1 << 40
    with pytest.raises(OnnxError, match="the opset of the domain '' is said to be 1099511627776"):
        flux.onnx.load(model)


def test_a_model_that_onnx_itself_holds_for_invalid_is_not_given_to_its_inliner():
    nodes = [make.make_node("Twice", ["x"], ["y"], domain="d")]
    body = [make.make_node("Add", ["x"], ["y"])]
    function = make.make_function("d", "Twice", ["x"], ["y"], body, [make.make_opsetid("", 21)])
    with pytest.raises(OnnxError, match="the model is not valid"):
        flux.onnx.load(model_of(nodes, functions=[function], domains=[make.make_opsetid("d", 1)]))


# -- numbers in files of their own -------------------------------------------------------------------------------------


def outside(**entries):
    t = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, data_location=onnx.TensorProto.EXTERNAL)
    t.dims.extend(entries.pop("dims", [4]))
    for key, value in entries.items():
        t.external_data.add(key=key, value=str(value))
    return add(t).SerializeToString()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    inner = tmp_path / "model"
    (inner / "deep").mkdir(parents=True)
    (inner / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (inner / "deep" / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    return inner


def loaded(folder, **entries):
    (folder / "m.onnx").write_bytes(outside(**entries))
    return flux.onnx.load(folder / "m.onnx")


def test_arrays_beside_the_model_and_below(folder):
    for location in ("w.bin", "deep/w.bin", "./deep/../w.bin"):
        net = loaded(folder, location=location, offset=8, length=16)
        np.testing.assert_array_equal(net(X).numpy(), X + [2, 3, 4, 5])
    np.testing.assert_array_equal(loaded(folder, location="w.bin")(X).numpy(), X + [0, 1, 2, 3])


@pytest.mark.parametrize("location", ["../secret.bin", "deep/../../secret.bin", "{absolute}", "link.bin", "linked/secret.bin",
                                      ""])  # fmt: skip
def test_paths_that_lead_out_of_the_folder(folder, location):
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "linked").symlink_to(folder.parent)
    with pytest.raises(OnnxError, match="leads out of the folder of the model, and is not followed"):
        loaded(folder, location=location.format(absolute=folder.parent / "secret.bin"))


@pytest.mark.parametrize(("entries", "what"), [
    ({"location": "none.bin"}, "the file 'none.bin' with its numbers is missing"),
    ({"location": "deep"}, "the file 'deep' with its numbers is missing"),
    ({"location": "w.bin", "offset": 20}, "takes 16 bytes; the file 'w.bin' has 12 from 20 on"),
    ({"location": "w.bin", "offset": 1 << 60}, "has 0 from"),
    ({"location": "w.bin", "length": 8}, "the length is said to be 8"),
    ({"location": "w.bin", "offset": -4}, "the offset of its external data is '-4', not a number"),
    ({"location": "w.bin", "length": "9" * 30}, "the length of its external data is '9999"),
    ({"location": "w.bin", "dims": [1 << 40]}, "takes 4398046511104 bytes"),
    ({"location": "w.bin", "dims": [-1]}, "has a length below 0"),
])  # fmt: skip
def test_arrays_that_are_not_there(folder, entries, what):
    with pytest.raises(OnnxError, match=what):
        loaded(folder, **entries)


def test_arrays_beside_a_model_that_has_no_place():
    with pytest.raises(OnnxError, match="lies in the file 'w.bin' beside the model: load the model from its path"):
        flux.onnx.load(outside(location="w.bin"))


def test_a_pipe_is_no_file(folder):
    os.mkfifo(folder / "pipe.bin")
    with pytest.raises(OnnxError, match="with its numbers is missing"):
        loaded(folder, location="pipe.bin")
