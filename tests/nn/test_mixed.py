"""mixed: what is converted and what stays, that every layer and some models compute in it, files, capture and ONNX."""

import importlib.util

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    LSTM,
    BatchNorm,
    Buffer,
    Chain,
    Conv,
    Dense,
    Dropout,
    Embedding,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LayerNormV2,
    Layers,
    MaxPool,
    Module,
    MultiHeadAttention,
    Param,
    RMSNorm,
    Scale,
    SkipConnection,
    WeightNorm,
    models,
)
from minitorch_flux.backend import use_kernels
from minitorch_flux.losses import logitcrossentropy
from tests.nn.test_every_layer import CASES, mapped, outputs, run
from tests.oracles import assert_rounded, normal, short_dtypes

SHORT = [d.name for d in short_dtypes()]
NEAR = {"float16": 0.02, "bfloat16": 0.1}
in_both = pytest.mark.parametrize("dtype", SHORT)


def net():
    flux.seed(0)
    return Chain(Conv((3, 3), 1, 4, flux.relu, pad=1), BatchNorm(4), MaxPool((2, 2)), flux.flatten, Dense(64, 8, flux.gelu),
                 LayerNorm(8), Dropout(0.2), Dense(8, 3))


X, Y = normal(5, 1, 8, 8, dtype=np.float32), np.arange(5) % 3


def dtypes(model):
    return {name: a.dtype.name for name, a in model.state_dict().items()}


def wide(a):
    return np.asarray(a).astype(np.float32)


def step(model, opt, x, y):
    loss, grads = flux.withgradient(lambda m: logitcrossentropy(m(x), y), model)
    flux.update(opt, model, grads)
    return loss


# -- what is converted -------------------------------------------------------------------------------------------------


@in_both
def test_norms_stay_in_float32_and_the_rest_is_converted(dtype):
    model = net()
    before = model.state_dict()
    converted = flux.mixed(model, dtype)
    for name, a in converted.state_dict().items():
        assert a.dtype.name == ("float32" if name[0] in "15" else dtype)
        np.testing.assert_array_equal(a, before[name].astype(a.dtype))
        np.testing.assert_array_equal(model.state_dict()[name], before[name])
    assert {a.dtype.name for a in flux.f32(converted).state_dict().values()} == {"float32"}
    assert dtypes(flux.mixed(flux.f64(model), dtype)) == dtypes(converted)


def test_the_dtype_is_bfloat16_unless_another_is_given():
    pytest.importorskip("ml_dtypes")
    assert flux.mixed(Dense(2, 3)).weight.dtype.name == "bfloat16"
    for given in (np.float16, np.dtype(np.float16), "float16"):
        assert flux.mixed(Dense(2, 3), given).weight.dtype == np.float16


@in_both
@pytest.mark.parametrize("norm", [
    BatchNorm(4), BatchNorm(4, affine=False), GroupNorm(4, 2), InstanceNorm(4, affine=True, track_stats=True), LayerNorm(4),
    LayerNormV2(4), RMSNorm(4), Layers.ChannelLayerNorm(4), InstanceNorm(4), LayerNorm(4, affine=False),
], ids=repr)  # fmt: skip
def test_every_norm_takes_16_bits_as_they_are(norm, dtype):
    """y and dx are those of float32, rounded once; the parameters' gradients are float32, unrounded."""
    m = flux.mixed(norm, dtype)
    assert set(dtypes(m).values()) <= {"float32"}
    x = normal(6, 4, 5, 4, dtype=np.float32).astype(short(dtype))
    dy = normal(*x.shape, seed=1).astype(x.dtype)
    for mode in ("auto", True):
        y, back = flux.vjp(lambda m, x: m(x), flux.testmode(m, mode), x)
        exact, exact_back = flux.vjp(lambda m, x: m(x), flux.testmode(norm, mode), x.astype(np.float32))
        (g, dx), (g_exact, dx_exact) = back(dy), exact_back(dy.astype(np.float32))
        assert y.dtype == dx.dtype == x.dtype
        assert_rounded(y, exact)
        assert_rounded(dx, dx_exact)
        for name, p in m.named_parameters():
            assert p.dtype == getattr(g, name).dtype == np.float32
            np.testing.assert_allclose(getattr(g, name), getattr(g_exact, name), rtol=1e-5, atol=1e-5)
    assert m(x.astype(np.float32)).dtype == np.float32
    assert m(x.astype(np.float64)).dtype == (np.float32 if m.state_dict() else np.float64)
    for name, b in m.named_buffers():  # moved alike
        np.testing.assert_allclose(b.data, getattr(norm, name).data, rtol=1e-5, atol=1e-6)


def short(dtype):
    return next(d for d in short_dtypes() if d.name == dtype)


def test_keep_by_class_by_several_and_by_function():
    model = Chain(Dense(4, 4), Chain(MultiHeadAttention(4, nheads=2), Dense(4, 4)), LSTM(4, 3))
    assert set(dtypes(flux.mixed(model, "float16", keep=LSTM)).items()) > {("0.weight", "float16"),
                                                                          ("2.weight_hh_l0", "float32")}
    for keep in ([MultiHeadAttention, LSTM], lambda path, layer: path in ("1.0", "2")):
        found = dtypes(flux.mixed(model, "float16", keep=keep))
        assert {n for n, d in found.items() if d == "float16"} == {"0.weight", "0.bias", "1.1.weight", "1.1.bias"}
    whole = flux.mixed(model, "float16", keep=lambda path, layer: path == "")
    assert set(dtypes(whole).values()) == {"float32"}


def test_a_kept_layer_computes_in_float32_and_the_next_one_converts_back():
    model = flux.mixed(Chain(Dense(4, 5), Dense(5, 5), Dense(5, 2)), "float16", keep=lambda path, _: path == "1")
    x = normal(3, 4, dtype=np.float32)
    seen = flux.activations(model, x)
    assert [y.dtype.name for y in seen] == ["float16", "float32", "float16"]
    np.testing.assert_array_equal(seen[1].data, model[1](wide(seen[0].data)).data)


def test_ones_own_layer_says_that_it_stays():
    class Own(Module):
        stays_float32 = True

        def __init__(self):
            self.weight, self.inner, self.count = Param(np.ones(3, np.float32)), Dense(3, 3), Buffer(np.arange(3))

        def __call__(self, x):
            return x * self.weight

    own = flux.mixed(Chain(Own(), Dense(3, 3)), "float16")
    assert dtypes(own) == {"0.weight": "float32", "0.inner.weight": "float32", "0.inner.bias": "float32", "0.count": "int64",
                           "1.weight": "float16", "1.bias": "float16"}


def test_tied_parameters_stay_tied():
    class Tied(Module):
        def __init__(self):
            self.table, self.scale = Embedding(5, 4), Scale(4)
            self.out = Dense(4, 5, bias=False)
            self.out.weight = self.table.weight
            self.norm = LayerNorm(4)
            self.norm.weight = self.scale.weight

    one, two = flux.mixed([tied := Tied(), tied], "float16")
    assert one is two
    assert one.out.weight is one.table.weight
    assert one.table.weight.dtype == np.float16
    assert one.norm.weight is one.scale.weight, "shared with a kept layer: one parameter, in float32"
    assert one.scale.weight.dtype == np.float32
    assert tied.table.weight.dtype == np.float32


def test_the_state_of_recurrent_layers_goes_along():
    rnn = LSTM(3, 4)
    rnn(np.ones((2, 3)))
    for keep, wanted in (((), "float16"), (LSTM, "float32")):
        m = flux.mixed(Chain(rnn), "float16", keep=keep)
        assert {s.dtype.name for s in m[0].state} == {wanted}
        assert m(np.ones((2, 3))).dtype == wanted
    frozen = flux.mixed(flux.freeze(Dense(2, 2)), "float16")
    assert not flux.gradient(lambda m: m(np.ones((1, 2))).sum(), Chain(frozen, Dense(2, 1)))[0]


def test_what_cannot_be_mixed(monkeypatch):
    for wrong in ("float32", "half-and-half", np.int16, None, 16):
        with pytest.raises(TypeError, match=r"mixed\(model, dtype\): the dtype is 'float16' or 'bfloat16', got "):
            flux.mixed(Dense(2, 3), wrong)
    for wrong in ("Dense", [Dense, "LSTM"], int, 3):
        with pytest.raises(TypeError, match=r"keep is a class of layers, several of them, or a function keep\(path, layer\)"):
            flux.mixed(Dense(2, 3), "float16", keep=wrong)
    with pytest.raises(TypeError, match=r"mixed\(model\): takes a model, got a ndarray; arrays are converted by flux.f16"):
        flux.mixed(np.ones(3), "float16")
    for lazy in (Dense(None, 3), BatchNorm(None)):
        with pytest.raises(ValueError, match=r"\(None.* does not know its size yet: call the model once, or flux.build"):
            flux.mixed(Chain(lazy), "float16")
    with pytest.raises(AttributeError, match=r"autocast.*mixed"):
        flux.autocast  # noqa: B018
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install ml_dtypes"):
        flux.mixed(Dense(2, 3))


# -- every layer, and models -------------------------------------------------------------------------------------------


# By the references: to build every kernel for two more dtypes takes minutes.
by_both = pytest.mark.parametrize("kernels", [False, pytest.param(True, marks=pytest.mark.slow)])


@by_both
@in_both
def test_every_layer_computes_and_learns(dtype, kernels):
    """Values near float32's, outputs of 16 bits for inputs of 16, finite gradients in the parameters' dtypes."""
    with use_kernels(kernels):
        check_every_layer(dtype)


def check_every_layer(dtype):
    for case in CASES:
        m, plain = flux.mixed(case.layer(), dtype), case.layer()
        where = f"{case} in {dtype}"
        low = outputs(run(flux.testmode(m), case))
        for y, exact in zip(low, outputs(run(flux.testmode(plain), case)), strict=True):
            y, exact = wide(y.data), exact.numpy()
            np.testing.assert_allclose(y, exact, rtol=0, atol=NEAR[dtype] * np.abs(exact).max(initial=1e-6), err_msg=where)
        x = mapped(case.inputs, lambda a: a if a.dtype.kind in "iu" else a.astype(short(dtype)))
        with flux.record():
            ys = outputs(run(flux.testmode(m, "auto"), case, x))
            recorded = [y for y in ys if y.recorded]
            loss = sum((flux.losses.mse(y, np.zeros(y.shape)) for y in recorded), flux.tensor(0.0))
        assert {y.dtype.name for y in ys} == {dtype}, where
        if recorded:
            loss.backward()
        for name, p in m.named_parameters():
            if p.grad is not None:
                assert p.grad.dtype == p.dtype, f"{where}: {name}"
                assert np.isfinite(wide(p.grad)).all(), f"{where}: {name}"


def cosine(a, b):
    """Of the gradients of two models with the same parameters, as two long vectors."""
    u, v = (np.concatenate([wide(p.grad).ravel() for p in m.parameters()]) for m in (a, b))
    return u @ v / np.sqrt((u @ u) * (v @ v))


MODELS = {
    "resnet18": (lambda: models.resnet18(nclasses=5), (2, 3, 32, 32)),
    "mobilenet": (lambda: models.MobileNetv1(0.25, nclasses=5), (2, 3, 48, 48)),
    "vit": (lambda: models.ViT("tiny", imsize=(16, 16), patch_size=(8, 8), nclasses=5), (2, 3, 16, 16)),
}


@by_both
@pytest.mark.parametrize("name", MODELS)
def test_models(name, kernels):
    make, shape = MODELS[name]
    flux.seed(0)
    plain, x, y = make(), normal(*shape, dtype=np.float32), np.arange(shape[0])
    with flux.record():
        for _ in range(10 if any(plain.named_buffers()) else 0):  # running statistics
            plain(x)
    for dtype in ("float32", *SHORT):
        m = flux.testmode(plain if dtype == "float32" else flux.mixed(plain, dtype))
        with use_kernels(kernels or dtype == "float32"), flux.record():
            loss = logitcrossentropy(m(x), y)
            (loss * 1024.0).backward()
        assert loss.dtype == np.float32
        if dtype == "float32":
            exact = loss.item()
        else:
            assert loss.item() == pytest.approx(exact, rel=NEAR[dtype])
            assert {p.dtype.name for p in m.parameters()} == {"float32", dtype}
            assert cosine(m, plain) > (0.99 if dtype == "float16" else 0.95)


@in_both
def test_a_weight_norm_keeps_both_of_its_parameters_short(dtype):
    layer = WeightNorm(Dense(64, 8))
    m, x = flux.mixed(layer, dtype), normal(4, 64, dtype=np.float32)
    assert dtypes(m)["weight_g"] == dtypes(m)["weight_v"] == dtype
    np.testing.assert_allclose(wide(m(x).data), layer(x).data, atol=NEAR[dtype])


def test_the_input_is_converted_where_it_meets_the_first_16_bit_layer():
    skip = flux.mixed(Chain(SkipConnection(Chain(LayerNorm(4), Dense(4, 4)), lambda y, x: y + x)), "float16")
    x = normal(2, 4, dtype=np.float32)
    assert skip(x).dtype == np.float32, "x goes round the layer as it is"
    assert skip(flux.f16(x)).dtype == np.float16
    loader = flux.DataLoader((X, Y), batchsize=5)
    m = flux.mixed(net(), "float16")
    assert [m(x).dtype.name for x, _ in loader] == ["float16"]


# -- what is done to models --------------------------------------------------------------------------------------------


@in_both
def test_it_learns_and_a_captured_step_does_the_same(dtype):
    def made():
        m = flux.mixed(net(), dtype)
        flux.testmode(m[6])
        return m, flux.setup(flux.Adam(1e-2), m)

    (one, opt), (two, other) = made(), made()
    captured = flux.capture(lambda x, y: step(one, opt, x, y))
    losses = [(captured(X, Y).item(), step(two, other, X, Y).item()) for _ in range(8)]
    for a, b in losses:
        assert a == pytest.approx(b, rel=1e-5)
    assert losses[-1][0] < 0.3 * losses[0][0]


@in_both
def test_files(dtype, tmp_path):
    m = flux.mixed(net(), dtype)
    flux.testmode(m[6])
    y = wide(m(X).data)
    for fill in ("state_dict", "safetensors", "checkpoint"):
        again = flux.mixed(net(), dtype)
        flux.testmode(again[6])
        again[0].weight.data[...] = 0
        if fill == "state_dict":
            again.load_state_dict(m.state_dict())
        elif fill == "safetensors":
            flux.save(tmp_path / "m.safetensors", m)
            flux.load(tmp_path / "m.safetensors", again)
            plain = net()
            flux.load(tmp_path / "m.safetensors", plain)  # into float32, exactly
            assert set(dtypes(plain).values()) == {"float32"}
            np.testing.assert_array_equal(plain[0].weight.data, wide(m[0].weight.data))
        else:
            opt, other = flux.setup(flux.Adam(1e-2), m), flux.setup(flux.Adam(1e-2), again)
            step(m, opt, X, Y)
            flux.save_checkpoint(tmp_path / "c.safetensors", {"model": m.state_dict(), "opt": opt.state_dict()})
            found = flux.load_checkpoint(tmp_path / "c.safetensors")
            again.load_state_dict(found["model"])
            other.load_state_dict(found["opt"])
            step(again, other, X, Y)
            step(m, opt, X, Y)
            y = wide(m(X).data)
        assert dtypes(again) == dtypes(m)
        np.testing.assert_array_equal(wide(again(X).data), y)


@in_both
def test_onnx(dtype, tmp_path):
    """What is written computes the same; ONNX Runtime, which has no convolution of bfloat16, runs the float16 one."""
    norms = [BatchNorm(4), GroupNorm(4, 2), InstanceNorm(4, affine=True), LayerNorm(8), LayerNormV2(8), RMSNorm(8)]
    flux.seed(0)
    m = flux.testmode(flux.mixed(Chain(Conv((3, 3), 4, 4, pad=1), *norms, Conv((1, 1), 4, 2)), dtype))
    x = normal(2, 4, 8, 8, dtype=np.float32)
    flux.onnx.save(m, tmp_path / "m.onnx", x)
    y, near = wide(m(x).data), NEAR[dtype]
    np.testing.assert_allclose(wide(flux.onnx.load(tmp_path / "m.onnx")(x).data), y, atol=near * np.abs(y).max())
    if dtype == "float16":
        session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "m.onnx")
        theirs = session.run(None, {session.get_inputs()[0].name: x.astype(np.float16)})[0]
        assert theirs.dtype == np.float16
        np.testing.assert_allclose(wide(theirs), y, atol=near * np.abs(y).max())
