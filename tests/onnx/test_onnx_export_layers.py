"""Every layer as ONNX: the checker, ONNX Runtime and this library's reader agree, with a free batch axis."""

from __future__ import annotations

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    GRU,
    LSTM,
    RNN,
    WHCN,
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    AlphaDropout,
    BatchNorm,
    Bilinear,
    Chain,
    Checkpointed,
    Conv,
    ConvTranspose,
    CrossCor,
    Dense,
    DepthwiseConv,
    Dropout,
    Embedding,
    EmbeddingBag,
    GlobalMaxPool,
    GlobalMeanPool,
    GroupNorm,
    GRUCell,
    GRUv3,
    GRUv3Cell,
    InstanceNorm,
    LayerNorm,
    LayerNormV2,
    Layers,
    LpPool,
    LSTMCell,
    Maxout,
    MaxPool,
    MeanPool,
    MultiHeadAttention,
    PairwiseFusion,
    Parallel,
    PixelShuffle,
    Recur,
    RMSNorm,
    RNNCell,
    SamePad,
    Scale,
    SkipConnection,
    Upsample,
    WeightNorm,
    flatten,
    relu,
    tanh,
)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_cases import floats
from onnx_export import node, op_types, round_trip, saved, shaken, stored

IMAGE = (4, 10, 11)
FREE = {0: "batch", 2: "height", 3: "width"}


def rows(*shape, high=20):
    return np.random.default_rng(shape).integers(0, high, shape)


def images(make, **keywords):
    """A layer of images, tried with two and with five of them."""
    return make, (floats(0, 2, *IMAGE),), [(floats(1, 5, *IMAGE),)], keywords


def sizes(make, **keywords):
    """A layer of images of any size."""
    return make, (floats(0, 2, *IMAGE),), [(floats(1, 3, 4, 8, 13),)], {"axes": FREE, **keywords}


def of(make, *shape, other=None, **keywords):
    return make, (floats(0, *shape),), [(floats(1, *(other or (5, *shape[1:]))),)], keywords


def sequences(make, *shape, other):
    return make, (floats(0, *shape),), [(floats(1, *other),)], {}


PAIR = ((1, 2), (0, 1))
LAYERS = {
    "Dense": of(lambda: Dense(4, 3, tanh), 2, 4),
    "Dense without bias": of(lambda: Dense(4, 3, bias=False), 2, 4),
    "Dense of tokens": of(lambda: Dense(4, 3), 2, 5, 4),
    "Dense of one": (lambda: Dense(4, 3), (floats(0, 4),), [], {"axes": {}}),
    "Bilinear": (lambda: Bilinear((4, 5), 3), (floats(0, 2, 4), floats(0, 2, 5)), [(floats(1, 6, 4), floats(1, 6, 5))], {}),
    "Scale": of(lambda: Scale(4), 2, 4),
    "Maxout": of(lambda: Maxout(lambda: Dense(4, 3), 3), 2, 4),
    "Conv": sizes(lambda: Conv((3, 3), 4, 6, relu)),
    "Conv, stride and pad": sizes(lambda: Conv((3, 3), 4, 6, stride=2, pad=PAIR)),
    "Conv, dilation": sizes(lambda: Conv((3, 3), 4, 6, dilation=2, bias=False)),
    "Conv, groups": sizes(lambda: Conv((3, 3), 4, 6, groups=2)),
    "Conv, SamePad": sizes(lambda: Conv((3, 2), 4, 6, pad=SamePad())),
    "Conv, upper": sizes(lambda: Conv((3, 3), 4, 6, stride=2, pad=SamePad("upper"))),
    "Conv, upper, one size": images(lambda: Conv((3, 3), 4, 6, stride=2, pad=SamePad("upper"))),
    "Conv, flipped": images(lambda: Conv((3, 3), 4, 6, flipkernel=True)),
    "Conv of one": (lambda: Conv((3, 3), 4, 6), (floats(0, *IMAGE),), [], {"axes": {}}),
    "Conv, one axis": of(lambda: Conv((3,), 4, 6, relu), 2, 4, 9),
    "Conv, three axes": of(lambda: Conv((3, 2, 3), 4, 6), 2, 4, 5, 6, 7),
    "CrossCor": images(lambda: CrossCor((3, 3), 4, 6)),
    "DepthwiseConv": sizes(lambda: DepthwiseConv((3, 3), 4, 2)),
    "ConvTranspose": sizes(lambda: ConvTranspose((3, 3), 4, 6, relu)),
    "ConvTranspose, stride and pad": sizes(lambda: ConvTranspose((3, 3), 4, 6, stride=2, pad=PAIR)),
    "ConvTranspose, outpad": sizes(lambda: ConvTranspose((3, 3), 4, 6, stride=2, outpad=1)),
    "ConvTranspose, outpad and pad": sizes(lambda: ConvTranspose((3, 3), 4, 6, stride=2, pad=1, outpad=1)),
    "ConvTranspose, dilation, groups": sizes(lambda: ConvTranspose((3, 3), 4, 6, dilation=2, groups=2)),
    "ConvTranspose, SamePad": sizes(lambda: ConvTranspose((3, 3), 4, 6, stride=2, pad=SamePad())),
    "ConvTranspose, one axis": of(lambda: ConvTranspose((3,), 4, 6), 2, 4, 9),
    "WeightNorm of Conv": images(lambda: WeightNorm(Conv((3, 3), 4, 6), "weight")),
    "MaxPool": sizes(lambda: MaxPool((3, 2), stride=1, pad=1)),
    "MaxPool, ceil": sizes(lambda: MaxPool((3, 3), stride=2, ceil_mode=True)),
    "MaxPool, upper": sizes(lambda: MaxPool((3, 3), stride=2, pad=SamePad("upper"))),
    "MaxPool, dilation": images(lambda: MaxPool((3, 3), dilation=2)),
    "MaxPool, one axis": of(lambda: MaxPool((3,)), 2, 4, 10),
    "MeanPool": sizes(lambda: MeanPool((3, 2), stride=1, pad=1)),
    "MeanPool, ceil": images(lambda: MeanPool((3, 3), stride=2, pad=1, ceil_mode=True)),
    "MeanPool without pad": sizes(lambda: MeanPool((3, 3), pad=1, count_include_pad=False)),
    "LpPool": images(lambda: LpPool((3, 3), 2)),
    "LpPool, broken power": images(lambda: LpPool((3, 3), 1.5)),
    "GlobalMaxPool": sizes(GlobalMaxPool),
    "GlobalMeanPool": sizes(GlobalMeanPool),
    "AdaptiveMaxPool": images(lambda: AdaptiveMaxPool((3, 4))),
    "AdaptiveMaxPool that divides": images(lambda: AdaptiveMaxPool((5, 11))),
    "AdaptiveMaxPool to one": sizes(lambda: AdaptiveMaxPool((1, 1))),
    "AdaptiveMeanPool": images(lambda: AdaptiveMeanPool((3, 4))),
    "AdaptiveMeanPool that divides": images(lambda: AdaptiveMeanPool((5, 11))),
    "AdaptiveMeanPool to more": images(lambda: AdaptiveMeanPool((13, 12))),
    "AdaptiveMeanPool, one axis": of(lambda: AdaptiveMeanPool((3,)), 2, 4, 10),
    "AdaptiveMeanPool, three axes": of(lambda: AdaptiveMeanPool((3, 2, 2)), 2, 4, 7, 5, 5),
    "AdaptiveMeanMaxPool": images(Layers.AdaptiveMeanMaxPool),
    "BatchNorm": sizes(lambda: BatchNorm(4, relu)),
    "BatchNorm of features": of(lambda: BatchNorm(4), 2, 4),
    "BatchNorm without weights": images(lambda: BatchNorm(4, affine=False)),
    "BatchNorm without statistics": images(lambda: BatchNorm(4, track_stats=False)),
    "GroupNorm": sizes(lambda: GroupNorm(4, 2, relu)),
    "GroupNorm, one axis": of(lambda: GroupNorm(4, 2), 2, 4, 9),
    "InstanceNorm": sizes(lambda: InstanceNorm(4)),
    "InstanceNorm with weights": images(lambda: InstanceNorm(4, affine=True)),
    "InstanceNorm with statistics": images(lambda: InstanceNorm(4, affine=True, track_stats=True)),
    "LayerNorm": images(lambda: LayerNorm(11)),
    "LayerNorm over two": images(lambda: LayerNorm((10, 11))),
    "LayerNorm without weights": images(lambda: LayerNorm(11, affine=False)),
    "LayerNormV2": images(lambda: LayerNormV2(11)),
    "LayerNormV2 over two": images(lambda: LayerNormV2((10, 11))),
    "RMSNorm": images(lambda: RMSNorm(11)),
    "RMSNorm, opset 23": images(lambda: RMSNorm(11), opset=23),
    "ChannelLayerNorm": images(lambda: Layers.ChannelLayerNorm(4)),
    "Dropout": of(lambda: Chain(Dense(4, 4), Dropout(0.5), AlphaDropout(0.3)), 2, 4),
    "DropBlock": images(lambda: Layers.DropBlock(0.1)),
    "StochasticDepth": images(lambda: Layers.StochasticDepth(0.2)),
    "Embedding": (lambda: Embedding(20, 5), (rows(2, 3),), [(rows(7, 3),)], {}),
    "EmbeddingBag, mean": (lambda: EmbeddingBag(20, 5), (rows(2, 3),), [(rows(7, 3),)], {}),
    "EmbeddingBag, sum": (lambda: EmbeddingBag(20, 5, "sum"), (rows(2, 3),), [(rows(7, 3),)], {}),
    "EmbeddingBag, max": (lambda: EmbeddingBag(20, 5, "max"), (rows(2, 3),), [(rows(7, 3),)], {}),
    "MultiHeadAttention": of(lambda: MultiHeadAttention(8, 4), 2, 5, 8, other=(3, 7, 8), axes={0: "batch", 1: "tokens"}),
    "MultiHeadAttention, grouped": of(lambda: MultiHeadAttention(8, 4, nkvheads=2), 2, 5, 8),
    "MultiHeadAttention without bias": of(lambda: MultiHeadAttention(8, 2, bias=False), 2, 5, 8),
    "MultiHeadAttention, crossed": (
        lambda: MultiHeadAttention(8, 4, kdim=6, vdim=7), (floats(0, 2, 5, 8), floats(0, 2, 6, 6), floats(0, 2, 6, 7)),
        [(floats(1, 3, 4, 8), floats(1, 3, 9, 6), floats(1, 3, 9, 7))],
        {"axes": {"x0": {0: "batch", 1: "queries"}, "x1": {0: "batch", 1: "keys"}, "x2": {0: "batch", 1: "keys"}}}),
    "MHAttention": of(lambda: Layers.MHAttention(8, 2), 2, 5, 8),
    "ClassTokens": of(lambda: Layers.ClassTokens(8), 2, 5, 8),
    "ViPosEmbedding": of(lambda: Layers.ViPosEmbedding(8, 5), 2, 5, 8),
    "PatchEmbedding": of(lambda: Layers.PatchEmbedding((12, 8), inchannels=4, patch_size=(4, 4), embedplanes=6), 2, 4, 12, 8),
    "LayerScale": of(lambda: Layers.LayerScale(8, 0.1), 2, 5, 8),
    "squeeze_excite": images(lambda: Layers.squeeze_excite(4)),
    "effective_squeeze_excite": images(lambda: Layers.effective_squeeze_excite(4)),
    "gated_mlp_block": of(lambda: Layers.gated_mlp_block(lambda n: Layers.SpatialGatingUnit(n, 5), 8, 12), 2, 5, 8),
    "Upsample, nearest": sizes(lambda: Upsample("nearest", scale=(2, 3))),
    "Upsample, broken scale": images(lambda: Upsample("nearest", scale=1.5)),
    "Upsample, bilinear": sizes(lambda: Upsample("bilinear", scale=(2, 3))),
    "Upsample, bilinear, broken scale": images(lambda: Upsample("bilinear", scale=1.7)),
    "Upsample, bilinear, size": images(lambda: Upsample("bilinear", size=(23, 7))),
    "Upsample, corners": images(lambda: Upsample("bilinear", size=(17, 5), align_corners=True)),
    "Upsample, corners, free": sizes(lambda: Upsample("bilinear", scale=3, align_corners=True)),
    "Upsample, bicubic": sizes(lambda: Upsample("bicubic", scale=2)),
    "Upsample, bicubic, corners": images(lambda: Upsample("bicubic", size=(12, 20), align_corners=True)),
    "Upsample, linear": of(lambda: Upsample("linear", scale=2), 2, 4, 9),
    "Upsample, trilinear": of(lambda: Upsample("trilinear", scale=2), 2, 2, 3, 4, 5),
    "PixelShuffle": sizes(lambda: PixelShuffle(2)),
    "Checkpointed": of(lambda: Checkpointed(Chain(Dense(4, 3, tanh), Dense(3, 2))), 2, 4),
    "flatten": images(lambda: Chain(flatten, Dense(440, 2))),
    "a function": images(lambda: Chain(Conv((3, 3), 4, 6), lambda x: x.mean(axis=(2, 3)), Dense(6, 2))),
    "a function of two axes": sizes(lambda: Chain(lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1, 4), Dense(4, 2))),
    "Parallel": of(lambda: Parallel(lambda a, b: a * b, Dense(4, 3), Dense(4, 3, tanh)), 2, 4),
    "PairwiseFusion": (lambda: PairwiseFusion(lambda a, b: a + b, Dense(4, 4), Dense(4, 4)),
                       ((floats(0, 2, 4), floats(1, 2, 4)),), [((floats(2, 3, 4), floats(3, 3, 4)),)], {}),
    "SkipConnection": of(lambda: SkipConnection(Dense(4, 4), lambda fx, x: flux.cat([fx * x, x], axis=1)), 2, 4),
    "several outputs": of(lambda: Chain(Dense(4, 4), lambda h: (h, 2 * h)), 2, 4),
    "the input itself": of(lambda: Chain(lambda x: (x, x)), 2, 4),
    "WHCN": (lambda: WHCN(Chain(Conv((3, 3), 4, 6, relu), GlobalMeanPool(), flatten, Dense(6, 2))),
             (np.ascontiguousarray(floats(0, 2, *IMAGE).T),), [(np.ascontiguousarray(floats(1, 5, *IMAGE).T),)], {}),
    "Recur of RNNCell": of(lambda: Recur(RNNCell(3, 4)), 2, 3),
    "Recur of LSTMCell": of(lambda: Recur(LSTMCell(3, 4)), 2, 3),
    "Recur of GRUCell": of(lambda: Recur(GRUCell(3, 4)), 2, 3),
    "Recur of GRUv3Cell": of(lambda: Recur(GRUv3Cell(3, 4, hidden_bias=True)), 2, 3),
    "words": (lambda: Chain(Embedding(20, 3), LSTM(3, 4), Dense(4, 20)), (rows(5, 2),), [(rows(7, 3),)], {}),
    "the last step": sequences(
        lambda: Chain(LSTM(3, 4, batch_first=True), lambda h: h[:, -1], Dense(4, 2)), 2, 5, 3, other=(3, 7, 3)),
}  # fmt: skip
for _kind in (RNN, LSTM, GRU, GRUv3):
    _name = _kind.__name__
    LAYERS[_name] = sequences(lambda kind=_kind: kind(3, 4), 5, 2, 3, other=(7, 3, 3))
    LAYERS[f"{_name}, two layers, both directions"] = sequences(
        lambda kind=_kind: kind(3, 4, num_layers=2, bidirectional=True, batch_first=True, hidden_bias=True, train_init=True),
        2, 5, 3, other=(3, 7, 3))  # fmt: skip
    LAYERS[f"{_name} without bias"] = sequences(lambda kind=_kind: kind(3, 4, bias=False), 5, 2, 3, other=(7, 3, 3))
    LAYERS[f"{_name}, one step"] = of(lambda kind=_kind: kind(3, 4), 2, 3)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name):
    make, xs, others, keywords = LAYERS[name]
    model = shaken(make())
    proto, _ = round_trip(model, *xs, others=others, tolerance=1e-5, **keywords)
    recurrent = {"RNN", "LSTM", "GRU"} & set(op_types(proto))
    assert recurrent or {n for n in stored(proto) if "." in n or n.startswith("weight")} <= set(model.state_dict())
    if "opset" not in keywords and "ceil" not in name and "LpPool" not in name:
        round_trip(model, *xs, others=others, tolerance=1e-5, opset=17, **keywords)


def test_every_layer_is_here():
    text = " ".join(LAYERS)
    layers = {n for n in flux.__all__ if isinstance(getattr(flux, n), type) and issubclass(getattr(flux, n), flux.Module)}
    assert {n for n in layers if n not in text} == {"Module", "AlphaDropout"} | ({"Chain"} - set(text.split()))


# -- recurrent layers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "leakyrelu", "elu", "softsign", "softplus", "hardsigmoid",
                                        "trelu", "identity"])  # fmt: skip
def test_activations_of_an_rnn(activation):
    round_trip(shaken(RNN(3, 4, getattr(flux, activation))), floats(0, 5, 2, 3))


def test_recurrent_layers_are_nodes_with_onnx_gates():
    model = shaken(GRU(3, 4, hidden_bias=True))
    proto = saved(model, floats(0, 5, 2, 3))
    assert op_types(proto) == ["GRU", "Squeeze"]
    assert node(proto, "GRU") == {"direction": b"forward", "hidden_size": 4, "linear_before_reset": 1}
    state, kept = model.state_dict(), stored(proto)
    r, z, n = np.split(state["weight_ih_l0"], 3)
    np.testing.assert_array_equal(kept["W_l0"][0], np.concatenate([z, r, n]))
    shapes = {name: a.shape for name, a in kept.items() if "_l0" in name}
    assert shapes == {"W_l0": (1, 12, 3), "R_l0": (1, 12, 4), "B_l0": (1, 24)}
    assert "linear_before_reset" not in node(saved(GRUv3(3, 4), floats(0, 5, 2, 3)), "GRU")


def test_sequences_begin_from_the_initial_state():
    model = LSTM(3, 4, stateful=True)
    x = floats(0, 5, 2, 3)
    first = model(x).numpy()
    proto = saved(model, x)
    from onnx_export import session

    np.testing.assert_allclose(session(proto).run(None, {"x": x})[0], first, atol=1e-6)
    assert not np.allclose(model(x).numpy(), first)


def test_a_cell_walked_step_by_step_has_one_set_of_weights():
    rnn = Recur(LSTMCell(3, 4))
    proto, _ = round_trip(lambda x: (flux.reset(rnn), rnn.map(x))[1], floats(0, 3, 2, 3), axes={1: "batch"},
                          others=[(floats(1, 3, 5, 3),)])  # fmt: skip
    assert op_types(proto).count("LSTM") == 3
    assert sum(a.shape == (1, 16, 4) for a in stored(proto).values()) == 1


@pytest.mark.parametrize(("model", "call", "what"), [
    (LSTM(3, 4), lambda m: lambda x: m(x, lengths=[5, 3]), "a mask has no form"),
    (RNN(3, 4, flux.gelu), lambda m: m, "RNN has no activation gelu"),
    (EmbeddingBag(20, 5, padding_idx=0), lambda m: m, "without their padding_idx"),
])  # fmt: skip
def test_what_a_layer_cannot_say_in_onnx(model, call, what):
    x = rows(2, 3) if isinstance(model, EmbeddingBag) else floats(0, 5, 2, 3)
    with pytest.raises(flux.onnx.ExportError, match=what):
        saved(call(model), x, axes={})


@pytest.mark.parametrize("make", [lambda: AdaptiveMeanPool((3, 3)), lambda: AdaptiveMaxPool((2, 2)),
                                  lambda: Upsample("bilinear", size=(9, 9))])  # fmt: skip
def test_what_depends_on_the_size_of_an_image_needs_a_fixed_one(make):
    with pytest.raises(flux.onnx.ExportError, match="leave that axis out of axes=|name only axes of free length in axes="):
        saved(make(), (2, 4, 10, 11), axes=FREE)


def test_pools_of_old_opsets():
    with pytest.raises(flux.onnx.ExportError, match="ceil_mode of LpPool came with opset 18; give opset=18"):
        saved(lambda x: flux.lpnormpool(x, (3, 3), 2, ceil_mode=True), (2, 4, 10, 11), opset=17)


# -- attention ---------------------------------------------------------------------------------------------------------


def test_masks_of_attention():
    m = shaken(MultiHeadAttention(8, 4))
    axes = {0: "batch", 1: "tokens"}
    round_trip(lambda x: m(x, causal=True), floats(0, 2, 5, 8), others=[(floats(1, 3, 7, 8),)], axes=axes)
    mask = np.random.default_rng(0).random((5, 5)) > 0.4
    mask[2] = False
    round_trip(lambda x: m(x, mask=mask), floats(0, 2, 5, 8), others=[(floats(1, 3, 5, 8),)])
    round_trip(lambda x: m(x, return_weights=True), floats(0, 2, 5, 8))


# -- dtypes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("convert", "tolerance"), [(flux.f64, 1e-9), (flux.f16, 5e-3)])
def test_other_dtypes(convert, tolerance):
    model = shaken(convert(Chain(Dense(8, 8, tanh), MultiHeadAttention(8, 2), LayerNorm(8), Dense(8, 3), flux.softmax)))
    dtype = model[0].weight.dtype
    round_trip(model, floats(0, 2, 5, 8).astype(dtype), tolerance=tolerance)
    small = shaken(convert(Chain(Conv((3, 3), 4, 6, relu), BatchNorm(6), MaxPool((2, 2)), flatten, Dense(96, 2))))
    if convert is flux.f16:  # ONNX Runtime convolves no float64
        round_trip(small, floats(0, 2, *IMAGE).astype(dtype), tolerance=tolerance)
        round_trip(shaken(convert(LSTM(3, 4))), floats(0, 5, 2, 3).astype(dtype), tolerance=tolerance)


def test_bfloat16_is_written_as_such():
    model = flux.bf16(Chain(Dense(4, 3, relu)))
    proto = saved(model, (2, 4))
    assert {t.data_type for t in proto.graph.initializer} == {16}
    x = floats(0, 2, 4)
    again = flux.onnx.load(proto)
    np.testing.assert_array_equal(again(x).numpy().astype("float32"), model(x).numpy().astype("float32"))
