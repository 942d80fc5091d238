"""What the other suites leave out: older opsets, rare modes, and what each translator refuses."""

from __future__ import annotations

import numpy as np
import pytest

import minitorch_flux as flux

onnx = pytest.importorskip("onnx")

from onnx_cases import floats, graph_of, outputs_of, single  # noqa: E402

X = floats(0, 2, 3, 4)
NONE = np.zeros(0, np.float32)


def run(op, inputs, weights=None, **more):
    return outputs_of(single(op, inputs, weights, **more), list(inputs.values()))


# -- older opsets ------------------------------------------------------------------------------------------------------


def test_explicit_broadcasting_before_opset_7():
    b = floats(1, 3)
    y = run("Add", {"x": X}, {"b": b}, opset=6, broadcast=1, axis=1)[0]
    np.testing.assert_allclose(y, X + b[:, None], rtol=1e-6)
    y = run("Mul", {"x": X}, {"b": floats(1, 4)}, opset=6, broadcast=1)[0]
    np.testing.assert_allclose(y, X * floats(1, 4), rtol=1e-6)
    with pytest.raises(flux.onnx.UnsupportedOperator, match="the attribute broadcast=1"):
        run("Add", {"x": X}, {"b": b}, opset=7, broadcast=1)


def test_attributes_that_became_inputs():
    np.testing.assert_array_equal(run("Clip", {"x": X}, opset=6, min=-0.5)[0], np.maximum(X, np.float32(-0.5)))
    low, high = (float(f(np.finfo(np.float32).max)) for f in (np.negative, np.positive))
    np.testing.assert_array_equal(run("Clip", {"x": X}, opset=6, min=low, max=high)[0], X)
    np.testing.assert_array_equal(run("Pad", {"x": X}, opset=2, pads=[0, 1, 0, 0, 0, 2], value=2.0)[0],
                                  np.pad(X, ((0, 0), (1, 0), (0, 2)), constant_values=2))
    np.testing.assert_array_equal(run("Pad", {"x": X}, opset=1, paddings=[0, 1, 0, 0, 0, 2])[0],
                                  np.pad(X, ((0, 0), (1, 0), (0, 2))))
    np.testing.assert_array_equal(run("Slice", {"x": X}, opset=1, starts=[1, -3], ends=[3, 99], axes=[1, 2])[0], X[:, 1:3, -3:])
    np.testing.assert_array_equal(run("Squeeze", {"x": X[:1]}, opset=1, axes=[0])[0], X[0])
    np.testing.assert_array_equal(run("Unsqueeze", {"x": X}, opset=1, axes=[0, 2])[0], X[None, :, None])
    np.testing.assert_array_equal(run("Reshape", {"x": X}, opset=1, shape=[0, -1])[0], X.reshape(2, 12))
    np.testing.assert_array_equal(run("TopK", {"x": X}, opset=1, k=2, axis=1, outputs=2)[0], -np.sort(-X, 1)[:, :2])
    np.testing.assert_array_equal(run("Split", {"x": X}, opset=2, split=[1, 2], axis=1, outputs=2)[1], X[:, 1:])
    np.testing.assert_array_equal(run("Concat", {"x": X}, {"w": X}, opset=1)[0], np.concatenate([X, X], 1))
    np.testing.assert_array_equal(run("Cast", {"x": X}, opset=1, to="INT32")[0], X.astype(np.int32))
    tiled = run("Tile", {"x": X}, {"n": np.array(3), "a": np.array(1)}, opset=1)[0]
    np.testing.assert_array_equal(tiled, np.tile(X, (1, 3, 1)))
    images = floats(0, 1, 2, 3, 4)
    y = run("Upsample", {"x": images}, opset=1, height_scale=2.0, width_scale=3.0)[0]
    np.testing.assert_array_equal(y, images.repeat(2, 2).repeat(3, 3))
    y = run("Resize", {"x": images}, {"s": np.array([1, 1, 2, 2], np.float32)}, opset=10, mode="linear")[0]
    np.testing.assert_allclose(y[..., ::2, ::2], images, rtol=1e-5)


def test_softmax_before_opset_13_takes_all_later_axes_together():
    e = np.exp(X - X.max())
    np.testing.assert_allclose(run("Softmax", {"x": X}, opset=11, axis=1)[0], e / e.sum((1, 2), keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(run("Softmax", {"x": X}, opset=11, axis=3)[0], np.ones_like(X))
    np.testing.assert_allclose(run("Softmax", {"x": X}, opset=13, axis=1)[0], e / e.sum(1, keepdims=True), rtol=1e-5)


def test_dropout_before_opset_12_drops_nothing():
    np.testing.assert_array_equal(run("Dropout", {"x": X}, opset=10, ratio=0.5)[0], X)


def test_selu_of_the_first_opset_and_with_other_numbers():
    for opset, more, (a, g) in ((1, {}, (1.6732, 1.0507)), (6, {"alpha": 2.0, "gamma": 0.5}, (2.0, 0.5))):
        wanted = g * np.where(X > 0, X, a * np.expm1(np.minimum(X, 0)))
        np.testing.assert_allclose(run("Selu", {"x": X}, opset=opset, **more)[0], wanted, rtol=1e-5)


def test_statistics_for_each_pixel_are_refused():
    weights = {n: floats(i, 3) for i, n in enumerate("gbmv")}
    with pytest.raises(ValueError, match="spatial=0"):
        run("BatchNormalization", {"x": X}, weights, opset=7, spatial=0)


# -- rare modes --------------------------------------------------------------------------------------------------------


def test_pools_over_everything():
    x = floats(0, 2, 3, 4, 5)
    np.testing.assert_allclose(run("GlobalLpPool", {"x": x}, p=3)[0], (np.abs(x) ** 3).sum((2, 3), keepdims=True) ** (1 / 3),
                               rtol=1e-5)
    np.testing.assert_allclose(run("GlobalMaxPool", {"x": x})[0], x.max((2, 3), keepdims=True))


def test_infinities_of_one_sign_or_none():
    x = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    for negative, positive, wanted in ((1, 0, [0, 0, 1, 0]), (0, 1, [0, 1, 0, 0]), (0, 0, [0] * 4), (1, 1, [0, 1, 1, 0])):
        y = run("IsInf", {"x": x}, detect_negative=negative, detect_positive=positive)[0]
        np.testing.assert_array_equal(y, np.array(wanted, bool))


def test_extremes_of_nothing_are_those_of_the_type():
    axes = {"a": np.array([1])}
    for dtype, low, high in ((np.float32, -np.inf, np.inf), (np.int32, -(2**31), 2**31 - 1), (np.bool_, False, True)):
        x = {"x": np.zeros((2, 0), dtype)}
        np.testing.assert_array_equal(run("ReduceMax", x, axes, opset=20)[0], np.full((2, 1), low, dtype))
        np.testing.assert_array_equal(run("ReduceMin", x, axes, opset=20)[0], np.full((2, 1), high, dtype))


def test_reductions_of_integers_keep_their_type():
    x = {"x": np.array([[1, 2], [3, 5]], np.int32)}
    for op, wanted in (("ReduceSum", [3, 8]), ("ReduceMean", [1, 4]), ("ReduceL2", [2, 5]), ("ReduceProd", [2, 15])):
        y = run(op, x, {"a": np.array([1])}, keepdims=0, opset=18)[0]
        np.testing.assert_array_equal(y, np.array(wanted, np.int32))
        assert y.dtype == np.int32


def test_integers_divide_towards_zero_and_have_negative_powers():
    a, b = np.array([7, -7, 7, -7], np.int64), np.array([2, 2, -2, -2], np.int64)
    np.testing.assert_array_equal(run("Div", {"a": a, "b": b})[0], [3, -3, -3, 3])
    big = np.array([2**62 + 1], np.int64)
    np.testing.assert_array_equal(run("Div", {"a": -big, "b": np.array([1], np.int64)})[0], -big)
    np.testing.assert_array_equal(run("Pow", {"a": np.array([1, 2], np.int64), "b": np.array([-1, -1], np.int64)})[0], [1, 0])


def test_resize_to_a_single_pixel():
    x = floats(0, 1, 1, 4, 5)
    for mode, row, column in (("align_corners", 0, 0), ("pytorch_half_pixel", 0, 0)):
        y = run("Resize", {"x": x}, {"n": np.array([1, 1, 1, 1])}, order=["x", "", "", "n"], mode="linear", opset=19,
                coordinate_transformation_mode=mode)[0]
        np.testing.assert_allclose(y[0, 0, 0, 0], x[0, 0, row, column], rtol=1e-6)
    y = run("Resize", {"x": x}, {"n": np.array([1, 1, 2, 5])}, order=["x", "", "", "n"], opset=11, nearest_mode="floor",
            coordinate_transformation_mode="tf_half_pixel_for_nn")[0]
    np.testing.assert_array_equal(y, x[:, :, [1, 3]])


def test_sampling_a_single_row_by_reflection():
    x = np.full((1, 1, 1, 3), 2.0, np.float32)
    y = run("GridSample", {"x": x, "g": floats(1, 1, 2, 2, 2) * 3}, opset=20, padding_mode="reflection", align_corners=1)[0]
    np.testing.assert_allclose(y, 2)


def test_unsorted_unique_values_and_their_places():
    x = np.array([3, 1, 3, 2, 1], np.int64)
    values, first, inverse, counts = run("Unique", {"x": x}, sorted=0, outputs=4)
    np.testing.assert_array_equal(values, [3, 1, 2])
    np.testing.assert_array_equal(first, [0, 1, 3])
    np.testing.assert_array_equal(values[inverse], x)
    np.testing.assert_array_equal(counts, [2, 2, 1])


def test_a_loop_that_never_runs():
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [a], [b]) for a, b in (("c", "c2"), ("h", "h2"), ("h", "row"))],
        "body",
        [onnx.helper.make_tensor_value_info("i", 7, []), onnx.helper.make_tensor_value_info("c", 9, []),
         onnx.helper.make_tensor_value_info("h", 1, None)],
        [onnx.helper.make_tensor_value_info("c2", 9, []), onnx.helper.make_tensor_value_info("h2", 1, None),
         onnx.helper.make_tensor_value_info("row", 1, None)],
    )  # fmt: skip
    node = onnx.helper.make_node("Loop", ["n", "", "x"], ["y", "rows"], name="loop", body=body)
    model = graph_of([node], {"x": X}, {"n": np.array(0)}, ["y", "rows"])
    with pytest.raises(ValueError, match="a loop that never runs leaves the shapes of its scanned outputs unknown"):
        outputs_of(model, [X])


def test_a_branch_that_returns_a_value_from_outside():
    empty = onnx.helper.make_graph([], "b", [], [onnx.helper.make_value_info("w", onnx.TypeProto())])
    node = onnx.helper.make_node("If", ["go"], ["y"], name="if", then_branch=empty, else_branch=empty)
    model = graph_of([node, onnx.helper.make_node("Add", ["x", "w"], ["z"])], {"x": X, "go": np.array(True)},
                     {"w": floats(1, 4)}, ["y", "z"])
    net = flux.onnx.load(model)
    y, z = net(X, np.array(True))
    np.testing.assert_array_equal(y.numpy(), floats(1, 4))
    _, grads = flux.withgradient(lambda m: m(X, np.array(True))[0].sum() + m(X, np.array(True))[1].sum(), net)
    np.testing.assert_array_equal(grads["w"], np.full(4, 1 + 6, np.float32))
    assert z.shape == X.shape


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "inputs", "more", "message"),
    [
        ("Conv", {"x": X, "w": floats(1, 2, 3, 3, 3)}, {}, r"shape \(2, 3, 4\), expected 4 axes \(N, C, ...\) as the weight"),
        ("Conv", {"x": X, "w": floats(1, 2, 3, 3)}, {"auto_pad": "SAME"}, "auto_pad='SAME' is not NOTSET"),
        ("CausalConvWithState", {"x": X, "w": floats(1, 3, 1, 2)}, {"activation": "relu", "opset": 27}, "activation='relu'"),
        ("ReduceSum", {"x": X}, {"axes": [5], "opset": 11}, "there is no axis 5 in an input of 3 axes"),
        ("Split", {"x": X}, {"split": [1, 1], "axis": 1, "opset": 2}, r"the parts \(1, 1\) do not add up to 3"),
        ("Attention", {"q": X, "k": X, "v": X}, {"q_num_heads": 3, "kv_num_heads": 3, "opset": 23}, "split into 3 heads"),
        ("ScatterElements", {"x": X, "i": np.zeros((1, 1, 1), int), "u": floats(1, 1, 1, 1)},
         {"reduction": "mean", "opset": 18}, "reduction='mean' is not"),
        ("GridSample", {"x": X[None], "g": floats(1, 1, 2, 2, 2)}, {"mode": "area", "opset": 20}, "mode='area'"),
        ("Resize", {"x": X, "r": NONE, "s": NONE, "n": np.array([2, 3])}, {}, "for 3 axes"),
        ("Resize", {"x": X, "r": NONE, "s": np.ones(3, np.float32) * 2},
         {"coordinate_transformation_mode": "corner"}, "coordinate_transformation_mode='corner' is not known"),
        ("LSTM", {"x": X, "w": floats(1, 1, 8, 4), "r": floats(2, 1, 8, 2)}, {"direction": "up"},
         "direction='up' is not forward"),
        ("RNN", {"x": X, "w": floats(1, 1, 2, 4), "r": floats(2, 1, 2, 2)}, {"activations": ["Swish"]},
         "there is no activation 'swish'; there are relu, tanh"),
        ("BitCast", {"x": X}, {"to": 11, "opset": 26}, "float32 and float64 have different sizes"),
    ],
)  # fmt: skip
def test_errors_name_the_node_and_say_what_is_wrong(op, inputs, more, message):
    with pytest.raises(ValueError, match=rf"node 'node' \({op}, opset \d+\): .*{message}"):
        run(op, inputs, **more)


def test_errors_of_other_kinds_name_the_node_in_a_note():
    with pytest.raises(np.exceptions.AxisError, match="concatenate: there is no axis 5") as caught:
        run("Concat", {"x": X, "w": X}, axis=5)
    assert caught.value.__notes__ == ["in node 'node' (Concat, opset 17)"]


def test_constants_of_text_are_refused():
    node = onnx.helper.make_node("Constant", [], ["y"], value_string="text")
    with pytest.raises(flux.onnx.UnsupportedOperator, match="a constant given by 'value_string'"):
        flux.onnx.load(graph_of([node], {}, {}, ["y"]))


def test_a_type_code_that_is_none():
    with pytest.raises(flux.onnx.UnsupportedOperator, match="Cast: the type number 99 is not supported"):
        run("Cast", {"x": X}, to=99)
