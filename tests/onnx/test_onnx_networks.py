"""An imported graph is an ordinary model: called, printed, differentiated, trained, saved, copied, moved."""

from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.autograd import tensor
from minitorch_flux.backend import DeviceError, find_cupy

onnx = pytest.importorskip("onnx")

from onnx_cases import floats, graph_of, onnxruntime_outputs, outputs_of, single  # noqa: E402

make = onnx.helper
X = floats(0, 2, 3, 8, 8)
WEIGHTS = {
    "conv.weight": floats(1, 4, 3, 3, 3), "conv.bias": floats(2, 4),
    "bn.weight": floats(3, 4), "bn.bias": floats(4, 4), "bn.running_mean": floats(5, 4), "bn.running_var": floats(6, 4) ** 2,
    "zero": np.array(0), "front": np.array([0]), "rest": np.array([-1]), "low": np.float32(0), "high": np.float32(6),
    "/fc/weight": floats(7, 5, 16) / 4, "fc.bias": floats(8, 5),
}  # fmt: skip
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def small_net():
    """Convolution, batch norm, a clip, a pool, a reshape by computed sizes, a dense layer."""
    nodes = [
        make.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        make.make_node("BatchNormalization", ["c", *(f"bn.{n}" for n in STATISTICS)], ["b"], name="bn"),
        make.make_node("Clip", ["b", "low", "high"], ["r"]),
        make.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        make.make_node("Shape", ["m"], ["s"]),
        make.make_node("Gather", ["s", "zero"], ["n"]),
        make.make_node("Unsqueeze", ["n", "front"], ["n1"]),
        make.make_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        make.make_node("Reshape", ["m", "shape"], ["f"], name="flat"),
        make.make_node("Gemm", ["f", "/fc/weight", "fc.bias"], ["y"], name="fc", transB=1),
    ]
    return graph_of(nodes, {"x": X}, WEIGHTS, ["y"])


@pytest.fixture
def net():
    return flux.onnx.load(small_net())


# -- loading -----------------------------------------------------------------------------------------------------------


def test_load_takes_a_path_bytes_and_a_proto(tmp_path):
    model = small_net()
    wanted = onnxruntime_outputs(model, {"x": X})[0]
    path = tmp_path / "net.onnx"
    onnx.save(model, str(path))
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), model):
        y = flux.onnx.load(source)(X)
        assert isinstance(y, flux.Tensor)
        np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_weights_in_a_file_beside_the_model(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(small_net(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    np.testing.assert_array_equal(flux.onnx.load(path)(X).numpy(), flux.onnx.load(small_net())(X).numpy())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises((flux.onnx.OnnxError, FileNotFoundError), match=r"weights\.bin"):
        flux.onnx.load(path)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        flux.onnx.load(tmp_path / "none.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x00\x01 no protobuf at all")
    with pytest.raises(flux.onnx.OnnxError, match=r"bad\.onnx is no ONNX model"):
        flux.onnx.load(bad)
    with pytest.raises(flux.onnx.OnnxError, match="no graph"):
        flux.onnx.load(b"")
    with pytest.raises(flux.onnx.OnnxError, match="no ONNX model"):
        flux.onnx.load(small_net().SerializeToString()[:200])
    with pytest.raises(TypeError, match="takes a path, bytes or a ModelProto, got a int"):
        flux.onnx.load(3)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    real = importlib.import_module

    def absent(name, *rest):
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r'pip install "minitorch-flux\[onnx\]"'):
        flux.onnx.load("model.onnx")


def test_importing_flux_onnx_does_not_import_the_package():
    import subprocess
    import sys

    code = "import sys, minitorch_flux as flux; flux.onnx.register; sys.exit('onnx.helper' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- calling -----------------------------------------------------------------------------------------------------------


def two_by_two():
    nodes = [make.make_node("Add", ["a", "b"], ["sum"]), make.make_node("Sub", ["a", "b"], ["difference"])]
    return graph_of(nodes, {"a": X, "b": X}, {}, ["difference", "sum"])


def test_inputs_by_position_and_by_name_and_outputs_in_the_order_of_the_graph():
    net = flux.onnx.load(two_by_two())
    a, b = floats(1, 2, 3, 8, 8), floats(2, 2, 3, 8, 8)
    for got in (net(a, b), net(a, b=b), net(b=b, a=a)):
        assert isinstance(got, tuple)
        np.testing.assert_array_equal(got[0].numpy(), a - b)
        np.testing.assert_array_equal(got[1].numpy(), a + b)
    assert [i.name for i in net.inputs] == ["a", "b"]
    assert [o.name for o in net.outputs] == ["difference", "sum"]


def test_wrong_inputs_are_named():
    net = flux.onnx.load(two_by_two())
    with pytest.raises(TypeError, match="'b' is missing; it takes a, b"):
        net(X)
    with pytest.raises(TypeError, match="takes 2 inputs .a, b., got 3"):
        net(X, X, X)
    with pytest.raises(TypeError, match="'c' is none of its inputs: a, b"):
        net(X, c=X)
    with pytest.raises(TypeError, match="'a' is given twice"):
        net(X, a=X)
    with pytest.raises(ValueError, match=r"the input has shape \(3,\), expected a \(a0, a1, a2, a3\) float32"):
        net(floats(0, 3), X)


def test_inputs_are_converted_to_the_type_of_the_graph(net):
    assert net(X.astype(np.float64)).dtype == np.float32
    assert net(tensor(X)).dtype == np.float32
    assert net(np.ones(X.shape, int)).dtype == np.float32
    ids = flux.onnx.load(single("Gather", {"i": np.array([1])}, {"w": floats(0, 4, 3)}, order=["w", "i"]))
    np.testing.assert_array_equal(ids(np.array([2], np.int32)).numpy(), floats(0, 4, 3)[[2]])
    with pytest.raises(TypeError, match=r"dtype float32, expected i \(i0,\) int64"):
        ids(np.array([2.0], np.float32))
    flag = flux.onnx.load(single("Not", {"b": np.array([True])}))
    with pytest.raises(TypeError, match="expected b"):
        flag(np.array([1]))


def test_fixed_sizes_of_inputs_are_checked():
    model = single("Relu", {"x": X})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    net = flux.onnx.load(model)
    net(floats(0, 5, 3, 2, 2))
    with pytest.raises(ValueError, match=r"shape \(5, 4, 2, 2\), expected x \(x0, 3, x2, x3\) float32"):
        net(floats(0, 5, 4, 2, 2))


def test_an_error_names_the_node(net):
    with pytest.raises(ValueError, match=r"node 'fc' \(Gemm, opset 17\): matmul: .* axis -1 of the first has 36"):
        net(floats(0, 2, 3, 12, 12))


def test_nothing_is_recorded_or_moved_by_a_plain_call(net):
    before = net.state_dict()
    assert net(X).node is None
    for name, a in net.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


# -- what trains -------------------------------------------------------------------------------------------------------


def test_weights_bear_their_onnx_names(net):
    names = [f"{layer}.{kind}" for layer in ("conv", "bn", "fc") for kind in ("weight", "bias")]
    assert [n for n, _ in net.named_parameters()] == names
    assert [n for n, _ in net.named_buffers()] == ["bn.running_mean", "bn.running_var"]


def test_names_that_become_equal_stay_apart():
    x = {"x": floats(0, 3)}
    nodes = [make.make_node("Add", ["x", "/a/w"], ["h"]), make.make_node("Mul", ["h", "a.w"], ["y"])]
    net = flux.onnx.load(graph_of(nodes, x, {"/a/w": floats(1, 3), "a.w": floats(2, 3)}, ["y"]))
    assert list(net.state_dict()) == ["a.w", "a.w_2"]


def test_numbers_in_formulas_shapes_and_bounds_do_not_train():
    x = {"x": floats(0, 3)}
    nodes = [
        make.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(floats(1, 3))),
        make.make_node("Constant", [], ["one"], value_floats=[2.0]),
        make.make_node("Constant", [], ["two"], value_float=2.0),
        make.make_node("Constant", [], ["ints"], value_ints=[3]),
        make.make_node("Mul", ["x", "k"], ["a"]),
        make.make_node("Mul", ["a", "one"], ["b"]),
        make.make_node("Pow", ["b", "two"], ["c"]),
        make.make_node("Add", ["c", "scalar"], ["d"]),
        make.make_node("Clip", ["d", "", "limit"], ["e"]),
        make.make_node("Reshape", ["e", "ints"], ["y"]),
    ]
    net = flux.onnx.load(graph_of(nodes, x, {"scalar": np.float32(3), "limit": np.float32(9)}, ["y"]))
    assert [n for n, _ in net.named_parameters()] == ["k"]
    assert not list(net.named_buffers())
    np.testing.assert_allclose(net(x["x"]).numpy(), np.minimum((x["x"] * floats(1, 3) * 2) ** 2 + 3, 9), rtol=1e-6)


def test_gradients_agree_with_finite_differences_and_kernels_with_references(net):
    report = flux.check(net, X[:1].astype(np.float64))
    assert "fc.weight" in str(report)


def test_it_trains_and_its_statistics_stay(net):
    target = floats(9, 2, 5)
    opt = flux.setup(flux.Adam(1e-2), net)
    before, losses = net.state_dict(), []
    for _ in range(20):
        loss, grads = flux.withgradient(lambda m: flux.losses.mse(m(X), target), net)
        assert grads["conv.weight"].shape == (4, 3, 3, 3)
        flux.update(opt, net, grads)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    after = net.state_dict()
    assert not np.array_equal(after["conv.weight"], before["conv.weight"])
    np.testing.assert_array_equal(after["bn.running_mean"], before["bn.running_mean"])


def test_it_freezes_copies_and_loads_as_any_model(net, tmp_path):
    opt = flux.setup(flux.Descent(0.1), net)
    other = copy.deepcopy(net)
    flux.freeze(opt)
    _, grads = flux.withgradient(lambda m: m(X).sum(), net)
    flux.update(opt, net, grads)
    np.testing.assert_array_equal(net(X).numpy(), other(X).numpy())
    other.weights["fc.bias"].data += 1
    assert not np.array_equal(net(X).numpy(), other(X).numpy())
    flux.save(tmp_path / "w.safetensors", other)
    flux.load(tmp_path / "w.safetensors", net)
    np.testing.assert_array_equal(net(X).numpy(), other(X).numpy())
    np.testing.assert_array_equal(flux.cpu(net).to("cpu")(X).numpy(), other(X).numpy())


def test_a_model_converted_to_another_dtype_takes_its_inputs_in_it(net):
    for t in net.weights.values():
        t.data = t.data.astype(np.float64)
    x = X.astype(np.float64)
    assert net(x).dtype == np.float64
    assert net(X).dtype == np.float64


def test_shapes_are_followed_without_numbers(net):
    assert flux.outputsize(net, (7, 3, 8, 8)) == (7, 5)


@pytest.mark.gpu
def test_it_moves_to_a_device(net):
    try:
        find_cupy()
    except DeviceError as error:
        pytest.skip(str(error))
    wanted = net(X).numpy()
    there = flux.gpu(net)
    y = there(flux.gpu(X))
    assert y.device == "cuda:0"
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-4, atol=1e-4)


# -- printing ----------------------------------------------------------------------------------------------------------


def test_it_prints_its_nodes(net):
    lines = repr(net).splitlines()
    assert lines[0] == "OnnxModel('<g>')  # Total: 205 parameters, plus 8 non-trainable, 852 bytes."
    assert lines[1] == "  input x (x0, x1, x2, x3) float32"
    assert lines[2].startswith("  conv: Conv(x, conv.weight, conv.bias, pads=[1, 1, 1, 1], strides=[2, 2]) -> c ")
    assert lines[2].endswith("  # 112 parameters")
    assert lines[-1] == "  output y"
    assert len(lines) == 1 + 1 + 10 + 1


def test_inside_another_model_it_prints_as_one_line(net, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(small_net(), str(path))
    chain = flux.Chain(flux.onnx.load(path), flux.relu)
    assert f"OnnxModel({str(path)!r})," in repr(chain)
    np.testing.assert_array_equal(chain(X).numpy(), np.maximum(net(X).numpy(), 0))


def test_long_attributes_arrays_and_graphs_are_shortened():
    body = make.make_graph([make.make_node("Relu", ["x"], ["b"])], "body", [], [make.make_value_info("b", onnx.TypeProto())])
    nodes = [
        make.make_node("If", ["go"], ["y"], name="if", then_branch=body, else_branch=body),
        make.make_node("ConstantOfShape", ["n"], ["z"], name="fill", value=onnx.numpy_helper.from_array(np.zeros(1, int))),
        make.make_node("Transpose", ["z"], ["t"], name="turn", perm=list(range(9))),
    ]
    model = graph_of(nodes, {"x": X, "go": np.array(True)}, {"n": np.ones(9, int)}, ["y", "t"])
    text = repr(flux.onnx.load(model))
    assert "if: If(go, else_branch=<graph of 1 nodes>, then_branch=<graph of 1 nodes>) -> y" in text
    assert "value=<(1,) int64>" in text
    assert "perm=[9 values]" in text


# -- what is not supported ---------------------------------------------------------------------------------------------


def custom(op="Twice", domain="my.domain", **attributes):
    node = make.make_node(op, ["x"], ["y"], name="n1", domain=domain, **attributes)
    return graph_of([node], {"x": X}, {}, ["y"], my_domain=3)


@pytest.fixture
def table():
    """The table of operators, put back afterwards."""
    from minitorch_flux.onnx import registry

    before = {name: dict(versions) for name, versions in registry.TABLE.items()}
    yield registry.TABLE
    registry.TABLE.clear()
    registry.TABLE.update(before)


def test_an_unknown_operator_is_named_with_its_node_and_how_to_supply_it():
    with pytest.raises(flux.onnx.UnsupportedOperator, match=(
        r"node 'n1' \(Twice, my.domain, opset 3\): the operator is not supported; supply it before loading: "
        r"@flux.onnx.register\('Twice', domain='my.domain'\)"
    )):  # fmt: skip
        flux.onnx.load(custom())


def test_all_unknown_operators_are_listed():
    nodes = [make.make_node("One", ["x"], ["a"], domain="my.domain"), make.make_node("Other", ["a"], ["b"], domain="my.domain"),
             make.make_node("TfIdfVectorizer", ["b"], ["y"])]
    model = graph_of(nodes, {"x": X}, {}, ["y"], my_domain=3)
    with pytest.raises(flux.onnx.UnsupportedOperator, match=r"Missing too: Other \(my.domain\), TfIdfVectorizer"):
        flux.onnx.load(model)


def test_a_supplied_operator_is_used(table):
    @flux.onnx.register("Twice", domain="my.domain")
    def twice(x, *, offset=0.0):
        return x * 2 + offset

    net = flux.onnx.load(custom(offset=1.5))
    np.testing.assert_allclose(net(X).numpy(), X * 2 + 1.5)
    gradient = flux.gradient(lambda x: net(x).sum(), X)
    np.testing.assert_array_equal(gradient, np.full_like(X, 2))


def test_the_newest_version_that_is_not_newer_than_the_model_holds(table):
    for since in (1, 3, 4):
        flux.onnx.register("Twice", domain="my.domain", since=since)(lambda x, since=since: x * since)
    np.testing.assert_allclose(flux.onnx.load(custom())(X).numpy(), X * 3)


def test_host_parameters_are_arrays_and_fixed_ones_do_not_train(table):
    seen = {}

    @flux.onnx.register("Shifted", domain="my.domain", host=("by",), fixed=("scale",))
    def shifted(x, by, scale, *, node):
        seen["by"], seen["node"] = by, node
        return x * scale + int(by)

    node = make.make_node("Shifted", ["x", "by", "s"], ["y"], name="n1", domain="my.domain")
    net = flux.onnx.load(graph_of([node], {"x": floats(0, 3), "by": np.array(2)}, {"s": floats(1, 3)}, ["y"], my_domain=1))
    np.testing.assert_allclose(net(floats(0, 3), np.array(2)).numpy(), floats(0, 3) * floats(1, 3) + 2, rtol=1e-6)
    assert type(seen["by"]) is np.ndarray
    assert seen["node"].name == "n1"
    assert not list(net.named_parameters())
    assert [n for n, _ in net.named_buffers()] == ["s"]


def test_register_refuses_what_makes_no_sense():
    with pytest.raises(TypeError, match=r"@register\('Name'\)"):
        flux.onnx.register(lambda x: x)
    with pytest.raises(TypeError, match="no parameter 'axes'"):
        flux.onnx.register("Twice", host=("axes",))(lambda x: x)


def test_attributes_and_inputs_that_a_translator_does_not_have(table):
    flux.onnx.register("Twice", domain="my.domain")(lambda x, *, needed: x)
    with pytest.raises(flux.onnx.UnsupportedOperator, match="the attribute speed=3 is not supported"):
        flux.onnx.load(custom(speed=3, needed=1))
    with pytest.raises(flux.onnx.OnnxError, match="'needed' is missing"):
        flux.onnx.load(custom())
    flux.onnx.register("Twice", domain="my.domain")(lambda: 1)
    with pytest.raises(flux.onnx.UnsupportedOperator, match="has 1 inputs, only the first 0 are supported"):
        flux.onnx.load(custom())


def test_an_output_that_a_translator_does_not_give(table):
    flux.onnx.register("Relu")(lambda x: x)
    net = flux.onnx.load(single("Relu", {"x": X}, outputs=2))
    with pytest.raises(ValueError, match=r"the output 1 \('y1'\) is not supported"):
        net(X)


def test_types_that_are_not_supported():
    strings = single("Relu", {"x": X})
    strings.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(flux.onnx.UnsupportedOperator, match="'x': the type STRING is not supported"):
        flux.onnx.load(strings)
    sequence = single("Relu", {"x": X})
    sequence.graph.input[0].CopyFrom(make.make_tensor_sequence_value_info("x", onnx.TensorProto.FLOAT, None))
    with pytest.raises(flux.onnx.UnsupportedOperator, match="'x' is a sequence; only tensors are supported"):
        flux.onnx.load(sequence)
    complex_numbers = single("Add", {"x": X}, {"w": np.ones(3, np.complex64)})
    with pytest.raises(flux.onnx.UnsupportedOperator, match="initializer 'w': values of type COMPLEX64"):
        flux.onnx.load(complex_numbers)
    words = single("Relu", {"x": X})
    words.graph.node[0].attribute.append(make.make_attribute("t", make.make_tensor_type_proto(1, None)))
    with pytest.raises(flux.onnx.UnsupportedOperator, match=r"the attribute 't' has a type .*TYPE_PROTO"):
        flux.onnx.load(words)


def test_graphs_that_do_not_hang_together():
    loose = single("Relu", {"x": X})
    loose.graph.node[0].input[0] = "z"
    with pytest.raises(flux.onnx.OnnxError, match="uses the value 'z', which nothing before it makes"):
        flux.onnx.load(loose)
    open_end = single("Relu", {"x": X})
    open_end.graph.output[0].name = "z"
    with pytest.raises(flux.onnx.OnnxError, match="nothing makes the output 'z'"):
        flux.onnx.load(open_end)
    stranger = custom()
    del stranger.opset_import[1:]
    with pytest.raises(flux.onnx.OnnxError, match="domain 'my.domain', which the model does not import"):
        flux.onnx.load(stranger)
    empty = graph_of([make.make_node("Constant", [], ["y"])], {}, {}, ["y"])
    with pytest.raises(flux.onnx.OnnxError, match="has no value"):
        flux.onnx.load(empty)
    sparse = single("Relu", {"x": X})
    sparse.graph.sparse_initializer.add()
    with pytest.raises(flux.onnx.UnsupportedOperator, match="sparse"):
        flux.onnx.load(sparse)
    short = single("Add", {"x": X}, {"w": floats(0, 3)})
    short.graph.initializer[0].raw_data = b"\x00"
    with pytest.raises(flux.onnx.OnnxError, match="initializer 'w': the stored values cannot be read"):
        flux.onnx.load(short)


def test_a_reference_to_an_attribute_outside_any_function():
    model = single("Relu", {"x": X})
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "alpha", "outer", onnx.AttributeProto.FLOAT
    with pytest.raises(flux.onnx.OnnxError, match="refers to 'outer'"):
        flux.onnx.load(model)


# -- functions and subgraphs -------------------------------------------------------------------------------------------


def test_functions_of_the_model_are_inlined():
    body = [make.make_node("Mul", ["a", "a"], ["s"]), make.make_node("Elu", ["s"], ["r"])]
    body[1].attribute.append(make.make_attribute("alpha", 1.0))
    function = make.make_function("my.domain", "SquaredElu", ["a"], ["r"], body, [make.make_opsetid("", 17)])
    model = custom("SquaredElu")
    model.functions.append(function)
    np.testing.assert_allclose(flux.onnx.load(model)(X).numpy(), X * X, rtol=1e-6)


def test_an_operator_that_onnx_defines_by_others_needs_no_translator(table):
    del table["", "HardSwish"]
    model = single("HardSwish", {"x": X}, opset=14)
    net = flux.onnx.load(model)
    assert len(net.nodes) > 1
    np.testing.assert_allclose(net(X).numpy(), onnxruntime_outputs(model, {"x": X})[0], rtol=1e-5, atol=1e-6)


def test_weights_in_a_branch_train():
    def branch(name, array):
        node = make.make_node("Mul", ["x", "w"], [name])
        return make.make_graph([node], name, [], [make.make_value_info(name, onnx.TypeProto())],
                               [onnx.numpy_helper.from_array(array, "w")])

    branches = {"then_branch": branch("a", floats(1, 3)), "else_branch": branch("b", floats(2, 3))}
    node = make.make_node("If", ["go"], ["y"], name="if", **branches)
    net = flux.onnx.load(graph_of([node], {"x": floats(0, 3), "go": np.array(True)}, {}, ["y"]))
    assert sorted(n for n, _ in net.named_parameters()) == ["if.w", "if.w_2"]
    _, grads = flux.withgradient(lambda m: m(floats(0, 3), np.array(True)).sum(), net)
    used = [grads[n] for n, p in net.named_parameters() if np.array_equal(p.numpy(), floats(1, 3))]
    np.testing.assert_array_equal(used[0], floats(0, 3))


def test_a_loop_differentiates():
    body = make.make_graph(
        [make.make_node("Mul", ["h", "w"], ["h2"]), make.make_node("Identity", ["c"], ["c2"]),
         make.make_node("Identity", ["h2"], ["row"])],
        "body",
        [make.make_tensor_value_info("i", 7, []), make.make_tensor_value_info("c", 9, []),
         make.make_tensor_value_info("h", 1, None)],
        [make.make_tensor_value_info("c2", 9, []), make.make_tensor_value_info("h2", 1, None),
         make.make_tensor_value_info("row", 1, None)],
    )  # fmt: skip
    node = make.make_node("Loop", ["n", "", "x"], ["y", "rows"], name="loop", body=body)
    net = flux.onnx.load(graph_of([node], {"x": floats(0, 3)}, {"n": np.array(3), "w": floats(1, 3)}, ["y", "rows"]))
    y, rows = net(floats(0, 3))
    w = floats(1, 3)
    np.testing.assert_allclose(y.numpy(), floats(0, 3) * w**3, rtol=1e-5)
    assert rows.shape == (3, 3)
    _, grads = flux.withgradient(lambda m: m(floats(0, 3))[0].sum(), net)
    np.testing.assert_allclose(grads["w"], 3 * w**2 * floats(0, 3), rtol=1e-5)


def test_memory_of_dead_values_is_given_back(net):
    from minitorch_flux.onnx.graphs import Graph

    graph = net.graph
    assert isinstance(graph, Graph)
    assert sorted(name for names in graph.dead for name in names) == ["b", "c", "f", "m", "n", "n1", "r", "s", "shape"]


# -- dropout and random numbers ----------------------------------------------------------------------------------------


def test_dropout_in_training_mode_drops_and_gives_its_mask():
    x = np.ones((50, 60), np.float32)
    weights = {"p": np.float32(0.3), "on": np.array(True)}
    net = flux.onnx.load(single("Dropout", {"x": x}, weights, outputs=2, seed=5))
    y, mask = net(x)
    assert mask.dtype == np.bool_
    np.testing.assert_allclose(y.numpy(), mask.numpy() / np.float32(0.7), rtol=1e-6)
    assert abs(mask.numpy().mean() - 0.7) < 0.05
    np.testing.assert_array_equal(net(x)[0].numpy(), y.numpy())  # the file has a seed
    np.testing.assert_array_equal(outputs_of(single("Dropout", {"x": x}, weights, seed=5), [x])[0], y.numpy())


def test_random_numbers_have_the_moments_that_the_node_asks_for():
    x = np.zeros((100, 100), np.float32)
    flux.seed(3)
    for op, more, mean, std in (
        ("RandomNormal", {"mean": 2.0, "scale": 3.0, "shape": [100, 100]}, 2, 3),
        ("RandomNormalLike", {"mean": -1.0, "scale": 0.5}, -1, 0.5),
        ("RandomUniform", {"low": -1.0, "high": 3.0, "shape": [100, 100]}, 1, 4 / 12**0.5),
        ("RandomUniformLike", {"low": 0.0, "high": 1.0}, 0.5, 1 / 12**0.5),
    ):
        inputs = {"x": x} if op.endswith("Like") else {}
        y = outputs_of(single(op, inputs, **more), list(inputs.values()))[0]
        assert y.shape == (100, 100)
        assert y.dtype == np.float32
        assert abs(y.mean() - mean) < 0.1
        assert abs(y.std() - std) < 0.1
    p = np.full((100, 100), 0.3, np.float32)
    y = outputs_of(single("Bernoulli", {"x": p}), [p])[0]
    assert set(np.unique(y)) == {0.0, 1.0}
    assert abs(y.mean() - 0.3) < 0.05
    with pytest.raises(ValueError, match="random numbers are floats, not int64"):
        outputs_of(single("RandomNormalLike", {"x": x}, dtype=7), [x])


