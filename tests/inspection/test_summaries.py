"""summary: counts against hand-made formulas, memory against what is measured, and what it looks like."""

import gc
import tracemalloc

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    GRU,
    LSTM,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Dense,
    DepthwiseConv,
    Dropout,
    Embedding,
    GlobalMeanPool,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    Parallel,
    SkipConnection,
    flatten,
    gelu,
    models,
    relu,
    swish,
)
from minitorch_flux.inspection.flop_counts import COUNTS, MOVES, PRODUCTS
from tests.inspection.measured import measured_peak
from tests.nn.test_every_layer import CASES


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def small():
    return Chain(Conv((3, 3), 1, 8, relu, pad=1), MaxPool((2, 2)), flatten, Dense(8 * 14 * 14, 10))


# -- memory: predicted and measured ------------------------------------------------------------------------------------

STEPS = {
    "LeNet": (models.LeNet, normal(32, 1, 28, 28)),
    "LSTM": (lambda: LSTM(32, 64, num_layers=2), normal(10, 16, 32)),
    "bidirectional GRU": (lambda: GRU(32, 48, bidirectional=True), normal(10, 16, 32)),
    "ResNet-18": (lambda: models.ResNet(18, nclasses=10), normal(1, 3, 64, 64)),
    "attention": (lambda: MultiHeadAttention(64, nheads=4), normal(8, 64, 64)),
    "MLP": (lambda: Chain(LayerNorm(256), Dense(256, 512, gelu), Dense(512, 10)), normal(64, 256)),
    "norms and dropout": (
        lambda: Chain(Conv((3, 3), 3, 16, swish, pad=1), BatchNorm(16, relu), Dropout(0.3), Conv((3, 3), 16, 32, stride=2),
                      GlobalMeanPool(), flatten, Dense(32, 10)),
        normal(16, 3, 32, 32),
    ),
    "depthwise and transposed": (
        lambda: Chain(DepthwiseConv((3, 3), 16, 1, relu, pad=1), Conv((1, 1), 16, 32), ConvTranspose((2, 2), 32, 8, stride=2)),
        normal(8, 16, 32, 32),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_the_predicted_peak_of_a_training_step_is_what_is_measured_within_3_percent(name, monkeypatch):
    make, x = STEPS[name]
    model = make()
    s = flux.summary(model, x)
    predicted = s.peak_bytes - s.parameter_bytes - s.input_bytes  # those lie there before the step
    assert predicted == pytest.approx(measured_peak(monkeypatch, model, x), rel=0.03)


def test_what_is_kept_for_the_backward_pass_is_what_the_pool_lends(monkeypatch):
    model, x = models.LeNet(), normal(64, 1, 28, 28)
    flux.withgradient(lambda m: m(x).mean(), model)
    gc.collect()
    before = flux.memory_stats()["used"]
    with flux.record():
        y = model(x)
    used = flux.memory_stats()["used"] - before
    assert flux.summary(model, x).activation_bytes == pytest.approx(used, rel=0.03)  # what is below 64 kB is not the pool's
    assert y.shape == (64, 10)


def test_nothing_is_allocated():
    with flux.shapes_only():
        model = models.LeNet()
    tracemalloc.start()
    s = flux.summary(model, (1, 28, 28), batchsize=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert s.peak_bytes > 50e9
    assert peak < 1e6


def test_the_state_of_the_optimiser_counts():
    model = small()
    plain, momentum, adam = (
        flux.summary(model, (1, 28, 28), optimiser=rule)
        for rule in (flux.Descent(0.1), flux.Momentum(0.1), flux.OptimiserChain(flux.ClipNorm(1), flux.Adam(1e-3)))
    )
    n = models.num_parameters(model) * 4
    assert (plain.optimiser_bytes, momentum.optimiser_bytes, adam.optimiser_bytes) == (0, n, 2 * n)
    assert adam.peak_bytes - plain.peak_bytes >= 2 * n


@pytest.mark.parametrize(
    "rule",
    [flux.Adam(1e-3), flux.Momentum(0.1), flux.OptimiserChain(flux.ClipNorm(1.0), flux.AdamW(1e-3)), flux.AccumGrad(2)],
    ids=str,
)
def test_the_peak_of_a_step_with_its_update(rule, monkeypatch):
    model, x = Chain(Dense(300, 200, relu), Dense(200, 10)), normal(32, 300)
    s = flux.summary(model, x, optimiser=rule)
    predicted = s.peak_bytes - s.parameter_bytes - s.input_bytes
    assert predicted == pytest.approx(measured_peak(monkeypatch, model, x, rule=rule), rel=0.05)


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "flops"),
    [
        (Dense(5, 3), (5,), 2 * 5 * 3 + 3),
        (Dense(5, 3, relu, bias=False), (5,), 2 * 5 * 3 + 3),
        (Conv((3, 3), 2, 4), (2, 8, 8), 6 * 6 * 4 * (2 * 9 * 2 + 1)),
        (Conv((3, 3), 4, 4, relu, groups=2, bias=False), (4, 8, 8), 6 * 6 * 4 * (2 * 9 * 2 + 1)),
        (ConvTranspose((2, 2), 3, 5, stride=2, bias=False), (3, 4, 4), 2 * 4 * 4 * 3 * 4 * 5),
        (MaxPool((2, 2)), (3, 8, 8), 3 * 16 * 4),
        (BatchNorm(3), (3, 8, 8), 8 * 3 * 64),
        (LayerNorm(6), (6,), 8 * 6),
        (Embedding(10, 6), (4,), 0),
        (flatten, (3, 4), 0),
        (SkipConnection(Dense(4, 4, bias=False), lambda a, b: a + b), (4,), 2 * 16 + 4),
        (relu, (7,), 7),
        (lambda x: x @ np.ones((4, 3), "float32"), (5, 4), 2 * 5 * 4 * 3),
        (lambda x: flux.einsum("nij,njk->nik", x, x), (4, 4), 2 * 64),
        (lambda x: flux.softmax(x).sum(), (6,), 5 * 6 + 6),
    ],
)
def test_flops(layer, shape, flops):
    dtype = int if isinstance(layer, Embedding) else np.float32
    one, many = (flux.summary(layer, shape, batchsize=n, dtype=dtype).flops for n in (1, 7))
    assert (one, many) == (flops, 7 * flops)


def test_flops_of_recurrent_layers_and_attention():
    t, n, i, h = 5, 3, 4, 8
    assert flux.summary(LSTM(i, h), (t, n, i), batchsize=None).flops == t * n * (8 * h * (i + h) + 17 * h)
    assert flux.summary(GRU(i, h), (t, n, i), batchsize=None).flops >= t * n * 6 * h * (i + h)
    d, length = 16, 10
    s = flux.summary(MultiHeadAttention(d, nheads=2), (length, d), batchsize=n)
    assert s.flops == pytest.approx(n * length * (8 * d * d + 4 * length * d + 5 * length * 2), rel=0.05)


def test_resnet_50_takes_4_giga_multiply_adds_a_picture_as_its_paper_says():
    with flux.shapes_only():
        model = models.ResNet(50)
    s = flux.summary(model, (3, 224, 224))
    assert s.parameters == 25_557_032
    assert 3.8e9 < s.flops / 2 < 4.2e9
    assert s.backward_flops == pytest.approx(2 * s.flops, rel=0.03)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("alexnet", 0.71), ("squeezenet", 0.35), ("resnet18", 1.81), ("convnext-tiny", 4.46), ("vit-base", 17.56)],
)
def test_multiply_adds_of_known_networks_are_those_that_are_published(name, billions):
    """As torchvision's table of models has them; it counts products alone, so ours are a little more."""
    with flux.shapes_only():
        model = models.get_model(name)
    assert billions <= flux.summary(model, (3, 224, 224)).flops / 2e9 <= 1.03 * billions


def test_every_count_is_of_an_operation():
    known = set(flux.autograd.OPERATIONS)
    assert not (set(COUNTS) | PRODUCTS | MOVES) - known
    assert not set(COUNTS) & MOVES


def test_parameters_are_counted_once_and_those_that_do_not_train_by_themselves():
    shared = Dense(4, 4)
    s = flux.summary(Chain(shared, relu, shared), (4,))
    assert s.parameters == 20
    assert [row.parameters for row in s.rows] == [0, 20, 0]
    frozen = Chain(Dense(4, 4), Dense(4, 2))
    flux.freeze(frozen[0])
    s = flux.summary(frozen, (4,))
    assert (s.parameters, s.trained, s.gradient_bytes) == (30, 10, 40)
    assert "20 of them do not train" in str(s)


# -- every layer -------------------------------------------------------------------------------------------------------


PLAIN = [c for c in CASES if c.order and not c.call and all(isinstance(x, np.ndarray) for x in c.inputs)]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_every_layer_has_a_summary_and_is_left_as_it_was(case):
    m = case.layer()
    before = {k: v.copy() for k, v in m.state_dict().items()}
    state = flux.backend.default_generator().state_dict()
    s = flux.summary(m, *case.inputs)
    assert type(m).__name__ == type(case.layer()).__name__
    assert not type(m).__call__.__qualname__.startswith("_followed")
    assert state == flux.backend.default_generator().state_dict() or case.keywords
    for k, v in m.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    assert s.output == (None if s.output is None else _shapes(m(*case.inputs)))
    assert s.parameters == sum(p.size for p in m.parameters())
    assert sum(row.parameters for row in s.rows) == s.parameters
    assert sum(row.flops for row in s.rows) == s.flops


def _shapes(y):
    return tuple(map(_shapes, y)) if isinstance(y, tuple | list) else tuple(y.shape)


# -- what it looks like ------------------------------------------------------------------------------------------------


def test_as_text():
    text = str(flux.summary(small(), (1, 28, 28), batchsize=2, optimiser=flux.Adam(1e-3)))
    lines = text.splitlines()
    assert lines[2].split() == ["path", "layer", "output", "parameters", "FLOPs", "activations", "gradients"]
    assert len({len(line) for line in lines[3:4] + [lines[9]]}) == 1  # the two rules
    columns = {line.index("(2, 8") for line in lines if "(2, 8" in line}
    assert len(columns) == 1
    assert lines[5].split() == ["0", "Conv((3,", "3),", "1,", "8,", "relu,", "pad=1)", "(2,", "8,", "28,", "28)", "80",
                                "250.88", "k", "49.0", "KiB", "320", "B"]
    assert "state of the optimiser" in text
    assert "a multiply-add is 2" in text


def test_folded():
    model = Chain(a=Chain(Dense(4, 8, relu), Dense(8, 8)), b=Parallel(flux.add, Dense(8, 2), Chain(Dense(8, 2))))
    whole, folded, root = (flux.summary(model, (4,), depth=depth) for depth in (None, 1, 0))
    assert [row.path for row in whole.rows] == ["", "a", "a.0", "a.1", "b", "b.0", "b.1", "b.1.0"]
    assert [row.path for row in folded.rows] == ["", "a", "b"]
    assert len(root.rows) == 1
    for name in ("parameters", "flops", "activations", "gradients"):
        assert len({sum(getattr(row, name) for row in s.rows) for s in (whole, folded, root)}) == 1


def test_as_html():
    html = flux.summary(Chain(flatten, Dense(4, 2, lambda x: x)), (2, 2))._repr_html_()
    assert "<table>" in html
    assert "&lt;lambda&gt;" in html
    assert html.count("<tr") == html.count("</tr>") == 5


def test_a_layer_that_is_called_twice_and_one_that_is_not():
    class Twice(flux.Module):
        def __init__(self):
            self.f, self.unused = Dense(4, 4), Dense(2, 2)

        def __call__(self, x):
            return self.f(self.f(x))

    s = flux.summary(Twice(), (4,))
    assert [(row.path, row.calls) for row in s.rows] == [("", 1), ("f", 2)]
    assert "(1, 4) x 2" in str(s)
    assert "not called" in str(s)
    assert s.not_called == ["unused"]
    assert s.parameters == 26


def test_several_inputs_and_outputs_and_a_loss():
    s = flux.summary(Parallel(tuple, Dense(3, 2), Dense(4, 5)), (3,), (4,), batchsize=6)
    assert s.output == ((6, 2), (6, 5))
    assert "((6, 2), (6, 5))" in str(s)
    labels = np.zeros(6, int)
    s = flux.summary(Dense(3, 2), (3,), batchsize=6, loss=lambda y: flux.losses.logitcrossentropy(y, labels))
    assert s.peak_bytes > 0


def test_sizes_left_open_stay_open():
    model = Chain(Dense(None, 3), Dense(None, 2))
    assert flux.summary(model, (5,)).parameters == 18 + 8
    assert "not known" in repr(model)


def test_one_sample_has_no_variance_but_a_summary():
    model = Chain(Dense(4, 3), BatchNorm(3))
    assert flux.summary(model, (4,)).parameters == 21
    flux.trainmode(model)
    assert flux.summary(model, (4,), batchsize=8).flops == 8 * 3 * (8 + 1 + 8)
    np.testing.assert_array_equal(model[1].running_mean.numpy(), 0)


def test_a_model_that_does_not_train():
    s = flux.summary(flatten, (2, 3))
    assert (s.output, s.parameters, s.backward_flops) == ((1, 6), 0, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: flux.summary(m), TypeError, "give the shape of one sample"),
        (lambda m: flux.summary(m, "3,2"), TypeError, "summary takes shapes such as"),
        (lambda m: flux.summary(m, (4, -1)), ValueError, "no negative sizes"),
        (lambda m: flux.summary(m, (4,), axis=3), ValueError, "the batch axis of a sample of shape"),
        (lambda m: flux.summary(m, (4,), optimiser="adam"), TypeError, "a rule such as flux.Adam"),
        (lambda m: flux.summary(m, (4,), loss=lambda y: y), ValueError, "gives one number"),
        (lambda m: flux.summary(m, (5,)), ValueError, "the input has 5 features"),
        (lambda m: flux.summary(lambda x: x if x.sum() > 0 else -x, (4,)), TypeError, "cannot be told from shapes"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(Dense(4, 2))
