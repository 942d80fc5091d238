"""What ONNX's own cases cannot see (their kernels are all ones, their recurrent weights all equal): the same operators
with seeded random weights and inputs, against ONNX Runtime and, where it lacks something, ONNX's reference in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx_cases import (  # noqa: E402
    floats,
    graph_of,
    onnxruntime_outputs,
    outputs_of,
    reference_outputs,
    single,
)


def agree(model, inputs, oracle=onnxruntime_outputs, tolerance=1e-5):
    """Outputs equal to the oracle's, to ``tolerance`` of the largest number."""
    wanted = oracle(model, inputs)
    got = outputs_of(model, list(inputs.values()))
    assert len(got) == len(wanted)
    for y, w in zip(got, wanted, strict=True):
        assert (y.shape, y.dtype) == (w.shape, w.dtype)
        np.testing.assert_allclose(y, w, rtol=0, atol=tolerance * max(np.abs(w).max(initial=0), 1))
    return got


# -- convolutions ------------------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "1d": ((2, 4, 11), (6, 4, 3), {}),
    "2d": ((2, 4, 7, 9), (6, 4, 3, 2), {}),
    "3d": ((1, 2, 5, 6, 7), (4, 2, 2, 3, 2), {"pads": [1, 0, 1, 0, 2, 1], "strides": [2, 1, 2]}),
    "pads": ((2, 3, 6, 7), (4, 3, 3, 3), {"pads": [0, 2, 1, 1]}),
    "strides": ((2, 3, 9, 8), (4, 3, 3, 2), {"strides": [2, 3]}),
    "dilations": ((2, 3, 11, 10), (4, 3, 3, 2), {"dilations": [2, 3], "pads": [1, 2, 3, 0]}),
    "groups": ((2, 6, 6, 7), (8, 3, 3, 3), {"group": 2}),
    "depthwise": ((2, 4, 6, 7), (8, 1, 3, 3), {"group": 4, "strides": [2, 1], "dilations": [1, 2]}),
    "pointwise": ((2, 5, 4, 4), (3, 5, 1, 1), {}),
    "valid": ((1, 2, 8, 9), (3, 2, 3, 4), {"auto_pad": "VALID", "strides": [2, 2]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_conv(name, bias):
    x, w, attributes = CONVOLUTIONS[name]
    weights = {"w": floats(1, *w)} | ({"b": floats(2, w[0])} if bias else {})
    agree(single("Conv", {"x": floats(0, *x)}, weights, **attributes), {"x": floats(0, *x)})


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (3, 2), (4, 3), (5, 2), (1, 2)])
def test_conv_auto_pad(auto_pad, kernel, stride):
    x = {"x": floats(0, 1, 2, 8, 11)}
    agree(single("Conv", x, {"w": floats(1, 3, 2, kernel, kernel)}, auto_pad=auto_pad, strides=[stride, 1]), x)


TRANSPOSED = {
    "1d": ((2, 4, 5), (4, 3, 3), {"strides": [2]}),
    "2d": ((2, 4, 5, 3), (4, 3, 3, 2), {}),
    "3d": ((1, 3, 3, 4, 3), (3, 2, 2, 3, 2), {"strides": [2, 1, 2], "pads": [0, 1, 0, 1, 0, 1]}),
    "pads": ((2, 3, 5, 4), (3, 4, 3, 3), {"pads": [0, 2, 1, 1], "strides": [2, 2]}),
    "output_padding": ((2, 3, 4, 5), (3, 2, 3, 3), {"strides": [3, 2], "output_padding": [2, 1], "pads": [1, 1, 1, 1]}),
    "dilations": ((2, 3, 4, 5), (3, 2, 3, 2), {"dilations": [2, 3], "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "groups": ((2, 6, 4, 3), (6, 2, 3, 3), {"group": 3, "strides": [2, 2]}),
    "output_shape": ((1, 2, 3, 4), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [8, 8]}),
    "output_shape upper": ((1, 2, 3, 4), (2, 3, 4, 3), {"strides": [3, 2], "output_shape": [7, 8], "auto_pad": "SAME_UPPER"}),
    "same upper": ((1, 2, 3, 4), (2, 3, 4, 3), {"strides": [3, 2], "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 2, 3, 4), (2, 3, 4, 3), {"strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    "valid": ((1, 2, 3, 4), (2, 3, 4, 3), {"strides": [3, 2], "auto_pad": "VALID"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose(name):
    x, w, attributes = TRANSPOSED[name]
    weights = {"w": floats(1, *w), "b": floats(2, w[1] * attributes.get("group", 1))}
    agree(single("ConvTranspose", {"x": floats(0, *x)}, weights, **attributes), {"x": floats(0, *x)})


@pytest.mark.parametrize("groups", [1, 2])
def test_deform_conv(groups):
    x = {"x": floats(0, 2, 4, 6, 5)}
    weights = {"w": floats(1, 4, 4 // groups, 3, 2), "offset": floats(2, 2, 2 * 6 * groups, 5, 5), "b": floats(3, 4),
               "mask": floats(4, 2, 6 * groups, 5, 5)}
    model = single("DeformConv", x, weights, opset=19, group=groups, offset_group=groups, pads=[1, 1, 0, 0], dilations=[1, 1])
    agree(model, x, reference_outputs, 1e-4)


# -- pools -------------------------------------------------------------------------------------------------------------

POOLS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 1, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 2]},
    {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"kernel_shape": [2, 3], "auto_pad": "VALID", "strides": [2, 2]},
]


@pytest.mark.parametrize("i", range(len(POOLS)))
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "AveragePool+pads", "LpPool"])
def test_pools(op, i):
    attributes = dict(POOLS[i])
    if op == "AveragePool+pads":
        attributes["count_include_pad"] = 1
    if op == "LpPool":
        attributes["p"] = 3
    x = {"x": floats(i, 2, 3, 8, 9)}
    agree(single(op.partition("+")[0], x, opset=18 if op == "LpPool" else 17, **attributes), x)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_dilated_pools(op):
    x = {"x": floats(0, 2, 3, 9, 10)}
    attributes = {"kernel_shape": [2, 3], "dilations": [3, 2], "strides": [2, 1], "pads": [1, 2, 0, 1]}
    agree(single(op, x, opset=19, **attributes), x)


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 7, 8), (1, 2, 5, 4, 6)])
def test_places_of_the_maxima(shape, storage_order):
    n = len(shape) - 2
    x = {"x": floats(0, *shape)}
    attributes = {"kernel_shape": [2] * n, "strides": [2] * n, "pads": [1] * n + [0] * n, "storage_order": storage_order}
    if n == 1 or not storage_order:
        agree(single("MaxPool", x, outputs=2, **attributes), x)
    places = outputs_of(single("MaxPool", x, outputs=2, **attributes), [x["x"]])[1]
    planes = x["x"].reshape(shape[0] * shape[1], *shape[2:])
    if storage_order:
        planes = planes.transpose(0, *range(n, 0, -1))
    assert np.array_equal(planes.reshape(-1)[places], outputs_of(single("MaxPool", x, **attributes), [x["x"]])[0])


# -- normalisation -----------------------------------------------------------------------------------------------------


def channel_weights(c):
    return {"scale": floats(1, c), "b": floats(2, c), "mean": floats(3, c), "var": floats(4, c) ** 2 + 0.1}


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 6), (2, 3, 4, 3, 2)])
def test_batch_norm(shape):
    x = {"x": floats(0, *shape)}
    agree(single("BatchNormalization", x, channel_weights(3), epsilon=1e-3), x)


def test_batch_norm_in_training_mode_moves_the_statistics():
    x = {"x": floats(0, 4, 3, 5)}
    model = single("BatchNormalization", x, channel_weights(3), outputs=3, training_mode=1, momentum=0.7)
    agree(model, x, reference_outputs)


def test_instance_norm_and_lrn():
    x = {"x": floats(0, 2, 6, 4, 5)}
    agree(single("InstanceNormalization", x, {"scale": floats(1, 6), "b": floats(2, 6)}), x)
    for size in (1, 3, 5):
        agree(single("LRN", x, size=size, alpha=0.5, beta=0.6, bias=1.5), x)


def test_lrn_over_an_even_number_of_channels_sees_one_more_after():
    x = floats(0, 2, 6, 3)
    y = outputs_of(single("LRN", {"x": x}, size=4, alpha=0.5, beta=0.6, bias=1.5), [x])[0]
    for c in range(6):
        total = (x[:, max(c - 1, 0) : c + 3] ** 2).sum(axis=1)
        np.testing.assert_allclose(y[:, c], x[:, c] / (1.5 + 0.5 / 4 * total) ** 0.6, rtol=1e-5)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_norm(opset):
    x, n = {"x": floats(0, 2, 6, 4)}, 3 if opset == 18 else 6
    model = single("GroupNormalization", x, {"scale": floats(1, n), "b": floats(2, n)}, opset=opset, num_groups=3)
    agree(model, x)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer_norm_and_rms_norm(axis):
    x = {"x": floats(0, 2, 3, 4)}
    sizes = (2, 3, 4)[axis:]
    agree(single("LayerNormalization", x, {"scale": floats(1, *sizes), "b": floats(2, *sizes)}, outputs=3, axis=axis), x)
    agree(single("RMSNormalization", x, {"scale": floats(1, *sizes)}, opset=23, axis=axis), x)


# -- recurrences -------------------------------------------------------------------------------------------------------

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, SIZE, HIDDEN = 5, 3, 4, 2


def recurrent(op, direction="forward", *, bias=True, lengths=False, initial=False, peepholes=False, **attributes):
    """A recurrent node with random weights, and its inputs."""
    d, g = 2 if direction == "bidirectional" else 1, GATES[op]
    inputs = {"x": floats(0, STEPS, BATCH, SIZE)}
    weights = {"w": floats(1, d, g * HIDDEN, SIZE), "r": floats(2, d, g * HIDDEN, HIDDEN)}
    order = ["x", "w", "r", "", "", "", "", ""]
    if bias:
        weights["b"], order[3] = floats(3, d, 2 * g * HIDDEN), "b"
    if lengths:
        inputs["lengths"], order[4] = np.array([5, 2, 3], np.int32), "lengths"
    if initial:
        inputs["h"], order[5] = floats(4, d, BATCH, HIDDEN), "h"
        if op == "LSTM":
            inputs["c"], order[6] = floats(5, d, BATCH, HIDDEN), "c"
    if peepholes:
        weights["p"], order[7] = floats(6, d, 3 * HIDDEN), "p"
    while not order[-1]:
        order.pop()
    model = single(op, inputs, weights, order=order, outputs=3 if op == "LSTM" else 2, hidden_size=HIDDEN,
                   direction=direction, **attributes)
    return model, inputs


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("bias", "lengths", "initial"), [(True, False, False), (False, True, True), (True, True, True)])
def test_recurrent_layers(op, direction, bias, lengths, initial):
    agree(*recurrent(op, direction, bias=bias, lengths=lengths, initial=initial))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_gru_with_the_reset_after_the_product(direction, clip):
    more = {} if clip is None else {"clip": clip}
    agree(*recurrent("GRU", direction, lengths=True, initial=True, linear_before_reset=1, **more))


@pytest.mark.parametrize("op", GATES)
def test_clipped_gates(op):
    agree(*recurrent(op, "bidirectional", lengths=True, initial=True, clip=0.4))


def test_peepholes_and_coupled_gates():
    agree(*recurrent("LSTM", "bidirectional", lengths=True, initial=True, peepholes=True))
    agree(*recurrent("LSTM", peepholes=True, clip=0.5))
    agree(*recurrent("LSTM", initial=True, input_forget=1))


ACTIVATIONS = {
    "LSTM": ["HardSigmoid", "Softsign", "Tanh", "Sigmoid", "Softplus", "Relu"],
    "GRU": ["HardSigmoid", "LeakyRelu", "Sigmoid", "Elu"],
    "RNN": ["Relu", "Softplus"],
}


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("parameters", [False, True])
def test_other_activations(op, parameters):
    names = ACTIVATIONS[op]
    more = {}
    if parameters:  # each takes the next numbers, as far as it has parameters
        names = {"LSTM": ["HardSigmoid", "ScaledTanh", "Affine", "Sigmoid", "LeakyRelu", "ThresholdedRelu"],
                 "GRU": ["Sigmoid", "Affine", "HardSigmoid", "LeakyRelu"], "RNN": ["ScaledTanh", "Elu"]}[op]
        more = {"activation_alpha": {"LSTM": [0.3, 0.8, 0.5, 0.2, 0.1], "GRU": [0.5, 0.3, 0.2], "RNN": [0.7, 0.4]}[op],
                "activation_beta": {"LSTM": [0.4, 0.9, 0.1], "GRU": [0.1, 0.6], "RNN": [1.2]}[op]}
    agree(*recurrent(op, "bidirectional", lengths=True, activations=names, **more))


@pytest.mark.parametrize("op", GATES)
def test_batch_first_layout(op):
    """ONNX Runtime has no layout=1: it is compared with the same weights time-first."""
    first, inputs = recurrent(op, "bidirectional", initial=True)
    second, _ = recurrent(op, "bidirectional", initial=True, layout=1)
    wanted = outputs_of(first, list(inputs.values()))
    got = outputs_of(second, [a.swapaxes(0, 1) for a in inputs.values()])
    np.testing.assert_array_equal(got[0], wanted[0].transpose(2, 0, 1, 3))
    for y, w in zip(got[1:], wanted[1:], strict=True):
        np.testing.assert_array_equal(y, w.swapaxes(0, 1))


# -- products, shapes, positions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(a, b):
    x = {"x": floats(0, *((4, 3) if a else (3, 4)))}
    weights = {"w": floats(1, *((5, 4) if b else (4, 5))), "c": floats(2, 5)}
    agree(single("Gemm", x, weights, transA=a, transB=b, alpha=0.5, beta=2.0), x)


def test_einsum_and_matmul():
    x = {"x": floats(0, 2, 3, 4)}
    agree(single("Einsum", x, {"w": floats(1, 4, 2, 5)}, equation="bij, jbk -> bik"), x)
    agree(single("MatMul", x, {"w": floats(1, 4, 5)}), x)
    agree(single("MatMul", x, {"w": floats(1, 4)}), x)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(mode):
    x = {"x": floats(0, 2, 4, 5)}
    weights = {"pads": np.array([0, 1, 2, 0, 3, 1])} | ({"v": np.float32(0.5)} if mode == "constant" else {})
    agree(single("Pad", x, weights, mode=mode, opset=19), x)
    if mode == "constant":
        weights["pads"] = np.array([0, -1, 2, 0, 3, -2])
        agree(single("Pad", x, weights, mode=mode, opset=19), x)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter(reduction):
    x = {"x": floats(0, 4, 5)}
    repeated = np.array([[0, 1, 1], [3, 0, 3], [1, 1, 2]]) if reduction != "none" else np.array([[0, 1, 2], [3, 0, 1]])
    weights = {"i": repeated, "u": floats(1, *repeated.shape)}
    agree(single("ScatterElements", x, weights, axis=0, reduction=reduction, opset=18), x)
    rows = {"i": np.array([[1], [3], [1]]) if reduction != "none" else np.array([[1], [3], [0]]), "u": floats(1, 3, 5)}
    agree(single("ScatterND", x, rows, reduction=reduction, opset=18), x)


def test_gather_and_its_kin():
    x = {"x": floats(0, 3, 4, 5)}
    agree(single("Gather", x, {"i": np.array([[0, -1], [2, 1]])}, axis=1), x)
    agree(single("GatherElements", x, {"i": np.array([[[0, 1], [-1, 2]], [[3, 0], [1, 1]]])}, axis=1), x)
    agree(single("GatherND", x, {"i": np.array([[[1], [0]], [[3], [-1]], [[2], [2]]])}, batch_dims=1), x)
    agree(single("ReverseSequence", x, {"n": np.array([2, 1, 3, 2])}, batch_axis=1, time_axis=0), x)
    agree(single("TopK", x, {"k": np.array([2])}, outputs=2, axis=1, largest=0), x)


# -- resizing ----------------------------------------------------------------------------------------------------------

COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize(mode, coordinates):
    x = {"x": floats(0, 1, 2, 5, 4)}
    for scales in ([1, 1, 1.7, 2.3], [1, 1, 0.6, 0.75]):
        model = single("Resize", x, {"s": np.array(scales, np.float32)}, order=["x", "", "s"], mode=mode, opset=19,
                       coordinate_transformation_mode=coordinates)
        # align_corners: ONNX's cases take the length before it is rounded down, ONNX Runtime the one after it
        agree(model, x, reference_outputs if coordinates in ("half_pixel_symmetric", "align_corners") else onnxruntime_outputs)
    model = single("Resize", x, {"n": np.array([1, 2, 3, 7])}, order=["x", "", "", "n"], mode=mode, opset=19,
                   coordinate_transformation_mode=coordinates, **({"exclude_outside": 1} if mode == "cubic" else {}))
    agree(model, x)


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest_roundings(rounding):
    x = {"x": floats(0, 1, 1, 6, 5)}
    model = single("Resize", x, {"s": np.array([1, 1, 0.5, 1.6], np.float32)}, order=["x", "", "s"], mode="nearest",
                   nearest_mode=rounding, coordinate_transformation_mode="half_pixel", opset=19)
    agree(model, x)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased_resize(mode):
    x = {"x": floats(0, 1, 1, 9, 8)}
    model = single("Resize", x, {"s": np.array([0.4, 0.7], np.float32)}, order=["x", "", "s"], mode=mode, antialias=1,
                   axes=[2, 3], opset=19)
    agree(model, x, reference_outputs)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode, padding, align_corners):
    x = {"x": floats(0, 2, 3, 5, 4), "grid": floats(1, 2, 3, 6, 2) * 0.8}
    model = single("GridSample", x, opset=20, mode=mode, padding_mode=padding, align_corners=align_corners)
    agree(model, x)


# -- attention ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [0, 1])
def test_grouped_attention(causal):
    x = {"q": floats(0, 2, 4, 3, 5), "k": floats(1, 2, 2, 6, 5), "v": floats(2, 2, 2, 6, 4)}
    agree(single("Attention", x, {"mask": floats(3, 3, 6)}, opset=23, is_causal=causal, softcap=2.0), x, reference_outputs)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved):
    x = {"x": floats(0, 2, 3, 4, 6), "cos": floats(1, 2, 4, 2), "sin": floats(2, 2, 4, 2)}
    model = single("RotaryEmbedding", x, opset=23, interleaved=interleaved, rotary_embedding_dim=4)
    agree(model, x, reference_outputs)


# -- graphs in graphs --------------------------------------------------------------------------------------------------


def test_a_branch_that_uses_weights_from_outside():
    make = onnx.helper
    x = {"x": floats(0, 2, 3), "go": np.array(True)}

    def branch(op, name):
        node = make.make_node(op, ["h", "w"], [name])
        return make.make_graph([node], name, [], [make.make_value_info(name, onnx.TypeProto())])

    nodes = [
        make.make_node("Relu", ["x"], ["h"]),
        make.make_node("If", ["go"], ["y"], name="if", then_branch=branch("Mul", "a"), else_branch=branch("Add", "b")),
    ]
    model = graph_of(nodes, x, {"w": floats(1, 3)}, ["y"])
    for go in (True, False):
        y = outputs_of(model, [x["x"], np.array(go)])[0]
        h, w = np.maximum(x["x"], 0), floats(1, 3)
        np.testing.assert_allclose(y, h * w if go else h + w, rtol=1e-6)
