"""Gradients through imported graphs: the same networks in PyTorch, with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

import minitorch_flux as flux

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx_cases import floats, graph_of, single  # noqa: E402

F = torch.nn.functional
node = onnx.helper.make_node


def close(a, b, tolerance=1e-5):
    b = b.detach().numpy()
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1))


def compare(model, f, x, dy_seed=99):
    """Value and all gradients of an imported model beside those of ``f(x, weights)`` in PyTorch."""
    net = flux.onnx.load(model)
    given = {n: torch.tensor(p.numpy().copy(), requires_grad=True) for n, p in net.named_parameters()}
    there = torch.tensor(x, requires_grad=True)
    wanted = f(there, given)
    dy = floats(dy_seed, *wanted.shape)
    (wanted * torch.tensor(dy)).sum().backward()
    y = net(x)
    close(y.numpy(), wanted)
    grads, dx = flux.gradient(lambda m, x: (m(x) * dy).sum(), net, x)
    close(dx, there.grad)
    for name, w in given.items():
        close(grads[name], w.grad)


def test_a_small_convolutional_network():
    rng = {"w1": floats(1, 6, 1, 3, 3), "b1": floats(2, 6), "g": floats(3, 6), "b": floats(4, 6), "w2": floats(7, 6, 2, 3, 2),
           "wt": floats(8, 6, 2, 2, 2), "fc": floats(9, 2 * 2 * 64, 5) / 8, "fb": floats(10, 5), "slope": floats(11, 6, 1, 1)}
    statistics = {"mean": floats(5, 6), "var": floats(6, 6) ** 2 + 0.5}
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], group=2, pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "g", "b", "mean", "var"], ["n"], epsilon=1e-3),
        node("PRelu", ["n", "slope"], ["p"]),
        node("Conv", ["p", "w2"], ["c"], group=3, dilations=[2, 1], strides=[1, 2], auto_pad="VALID"),
        node("AveragePool", ["c"], ["m"], kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=0),
        node("ConvTranspose", ["m", "wt"], ["t"], strides=[2, 2], group=3),
        node("LeakyRelu", ["t"], ["l"], alpha=0.2),
        node("ReduceMean", ["l"], ["r"], axes=[1], keepdims=1),
        node("Mul", ["l", "r"], ["u"]),
        node("Slice", ["u", "starts", "ends", "axes"], ["sl"]),
        node("Flatten", ["sl"], ["f"]),
        node("Gemm", ["f", "fc", "fb"], ["d"]),
        node("Softmax", ["d"], ["y"], axis=-1),
    ]
    limits = {"starts": np.array([0, 0, 0]), "ends": np.array([4, 8, 8]), "axes": np.array([1, 2, 3])}
    x = floats(0, 2, 2, 8, 10)
    model = graph_of(nodes, {"x": x}, rng | statistics | limits, ["y"])

    def wanted(x, w):
        h = F.conv2d(x, w["w1"], w["b1"], padding=1, groups=2)
        h = F.batch_norm(h, torch.tensor(statistics["mean"]), torch.tensor(statistics["var"]), w["g"], w["b"], eps=1e-3)
        h = torch.where(h > 0, h, h * w["slope"])
        h = F.conv2d(h, w["w2"], groups=3, dilation=(2, 1), stride=(1, 2))
        h = F.avg_pool2d(F.pad(h, (0, 1, 0, 1)), 2, 1) * 4 / F.avg_pool2d(F.pad(torch.ones_like(h), (0, 1, 0, 1)), 2, 1) / 4
        h = F.leaky_relu(F.conv_transpose2d(h, w["wt"], stride=2, groups=3), 0.2)
        h = (h * h.mean(1, keepdim=True))[:, :4, :8, :8]
        return torch.softmax(h.flatten(1) @ w["fc"] + w["fb"], -1)

    compare(model, wanted, x)


def blocks(a, order):
    """The gates of ONNX's weights in PyTorch's order."""
    return torch.cat([a.chunk(len(order), 0)[k] for k in order])


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent_networks(op):
    gates, order = {"LSTM": (4, (0, 2, 3, 1)), "GRU": (3, (1, 0, 2)), "RNN": (1, (0,))}[op]
    t, n, size, hidden = 4, 3, 5, 2
    weights = {"w": floats(1, 2, gates * hidden, size), "r": floats(2, 2, gates * hidden, hidden),
               "b": floats(3, 2, 2 * gates * hidden), "out": floats(4, 2 * hidden, 3)}
    more = {"linear_before_reset": 1} if op == "GRU" else {}
    nodes = [
        node(op, ["x", "w", "r", "b"], ["h"], hidden_size=hidden, direction="bidirectional", **more),
        node("Transpose", ["h"], ["p"], perm=[0, 2, 1, 3]),
        node("Reshape", ["p", "shape"], ["f"]),
        node("MatMul", ["f", "out"], ["y"]),
    ]
    x = floats(0, t, n, size)
    model = graph_of(nodes, {"x": x}, weights | {"shape": np.array([0, 0, -1])}, ["y"])

    def wanted(x, w):
        layer = getattr(torch.nn, op)(size, hidden, bidirectional=True)
        parts = {}
        for d, suffix in enumerate(("", "_reverse")):
            wb, rb = w["b"][d].chunk(2)
            for name, a in (("weight_ih", w["w"][d]), ("weight_hh", w["r"][d]), ("bias_ih", wb), ("bias_hh", rb)):
                parts[f"{name}_l0{suffix}"] = blocks(a, order)
        return torch.func.functional_call(layer, parts, (x,))[0] @ w["out"]

    compare(model, wanted, x)


def test_attention_and_layer_norm():
    x = floats(0, 2, 5, 8)
    weights = {"q": floats(1, 8, 8), "k": floats(2, 8, 8), "v": floats(3, 8, 8), "g": floats(4, 8), "b": floats(5, 8)}
    nodes = [
        node("LayerNormalization", ["x", "g", "b"], ["n"]),
        *(node("MatMul", ["n", w], [f"{w}x"]) for w in "qkv"),
        node("Attention", ["qx", "kx", "vx"], ["a"], q_num_heads=2, kv_num_heads=2, is_causal=1),
        node("Add", ["x", "a"], ["h"]),
        node("Gelu", ["h"], ["y"]),
    ]

    def wanted(x, w):
        n = F.layer_norm(x, (8,), w["g"], w["b"])
        q, k, v = (torch.unflatten(n @ w[name], -1, (2, 4)).transpose(1, 2) for name in "qkv")
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return F.gelu(x + a)

    compare(graph_of(nodes, {"x": x}, weights, ["y"], opset=23), wanted, x)


@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_resize(mode):
    x = floats(0, 1, 2, 4, 5)
    model = single("Resize", {"x": x}, {"n": np.array([1, 2, 7, 3])}, order=["x", "", "", "n"], mode=mode, opset=19,
                   coordinate_transformation_mode="asymmetric" if mode == "nearest" else "half_pixel",
                   nearest_mode="floor")  # fmt: skip
    kind = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}[mode]
    compare(model, lambda x, w: F.interpolate(x, (7, 3), mode=kind), x)


def test_grid_sample_differentiates_its_grid():
    x, grid = floats(0, 2, 3, 5, 4), floats(1, 2, 3, 6, 2) * 0.5
    net = flux.onnx.load(single("GridSample", {"x": x, "grid": grid}, opset=20))
    a, b = torch.tensor(x, requires_grad=True), torch.tensor(grid, requires_grad=True)
    wanted = F.grid_sample(a, b, align_corners=False)
    dy = floats(2, *wanted.shape)
    (wanted * torch.tensor(dy)).sum().backward()
    dx, dgrid = flux.gradient(lambda x, g: (net(x, g) * dy).sum(), x, grid)
    close(net(x, grid).numpy(), wanted)
    close(dx, a.grad)
    close(dgrid, b.grad)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore", [None, 2])
def test_losses(reduction, ignore):
    x, t, w = floats(0, 4, 5, 3), np.random.default_rng(1).integers(0, 5, (4, 3)), np.abs(floats(2, 5))
    more = {"reduction": reduction} | ({} if ignore is None else {"ignore_index": ignore})
    there = {"weight": torch.tensor(w), "reduction": reduction, "ignore_index": -1 if ignore is None else ignore}
    logits = single("SoftmaxCrossEntropyLoss", {"x": x}, {"t": t, "w": w}, **more)
    compare(logits, lambda x, _: F.cross_entropy(x, torch.tensor(t), **there), x)
    probabilities = single("NegativeLogLikelihoodLoss", {"x": x}, {"t": t, "w": w}, **more)
    compare(probabilities, lambda x, _: F.nll_loss(x, torch.tensor(t), **there), x)
