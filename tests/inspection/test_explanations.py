"""explain: places are those of the code, formulas those of the pages, costs those of summary."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, explain
from minitorch_flux.autograd import OPERATIONS
from minitorch_flux.backend import FUNCTIONS as ALL
from minitorch_flux.inspection.formulas import blocks_of, formulas_of
from minitorch_flux.inspection.sources import PACKAGE, kernels_of, page_of, where_of
from minitorch_flux.readings.inventory import kernel_texts

FUNCTIONS = {name: f for name, f in ALL.items() if f.reference.__module__.startswith("minitorch_flux.")}  # not the tests'
PAGES = re.compile(r"minitorch_flux/(ops|losses)/")
OURS = [op for op in OPERATIONS.values() if page_of(op) is not None and PAGES.match(str(page_of(op)[1]))]
WITHOUT = {"scatter", "transfer", "tril", "triu"}
"""Operations whose pages have words alone."""


def line_of(where):
    return where.path.read_text(encoding="utf-8").splitlines()[where.line - 1]


def test_every_kernel_of_the_library_is_found_by_walking_the_code():
    known = {(text.path, name) for text in kernel_texts() for name in text.kernels}
    found = {(kernel.where.path, kernel.name) for f in FUNCTIONS.values() for kernel in kernels_of(f)}
    assert known <= found
    for f in FUNCTIONS.values():
        assert bool(kernels_of(f)) == (f.launcher is not None), f.name
        for kernel in kernels_of(f):
            assert re.match(rf"KERNEL\({kernel.name}\)", line_of(kernel.where))


def test_every_reference_is_where_it_is_said_to_be():
    for name, f in FUNCTIONS.items():
        where = where_of(f)
        text = "\n".join(where.path.read_text(encoding="utf-8").splitlines()[where.line - 1 : where.line + 3])
        assert f.__name__ in text or "def reference" in text or "def " in text, name
        assert where.path.is_relative_to(PACKAGE)


@pytest.mark.parametrize("op", OURS, ids=lambda op: op.name)
def test_every_operation_has_a_page_with_formulas(op):
    explanation = explain(op)
    (part,) = explanation.parts
    assert op.name in line_of(part.where) or op.name.removeprefix("_") in part.where.path.read_text(encoding="utf-8")
    assert part.formulas or op.name in WITHOUT, op.name
    assert (part.gradient is not None) == op.differentiable
    text = str(explanation)
    for where in [str(f.where) for f in (*part.forward, *part.backward)]:
        assert where in text
    assert "<div" in explanation._repr_html_()


def test_softmax():
    text = str(explain(flux.softmax))
    assert "y = exp(x - m) / s" in text
    assert "dx = y (dy - sum(dy y))" in text
    assert "logsumexp" not in text.replace("softmaxes", "")
    assert re.search(r"forward +softmax_forward +minitorch_flux/ops/softmaxes\.py:\d+", text)
    assert re.search(r"kernels +softmax_forward, softmax_forward_planes +kernels/softmaxes\.cu:\d+", text)
    assert re.search(r"backward +softmax_backward +minitorch_flux/ops/softmaxes\.py:\d+", text)
    assert re.search(r"axis +-1", text)


def test_a_layer():
    explanation = explain(Conv((3, 3), 16, 32, flux.relu, pad=1), (16, 28, 28), batchsize=8)
    assert explanation.title == "Conv((3, 3), 16, 32, relu, pad=1)"
    assert line_of(explanation.where).startswith("class Conv(")
    assert ("pad", "0", "1") in explanation.keywords
    assert ("stride", "1", "") in explanation.keywords
    assert ("bias", "True", "") in explanation.keywords
    assert explanation.arrays == [("weight", (32, 16, 3, 3), 4608), ("bias", (32,), 32)]
    summary = flux.summary(Conv((3, 3), 16, 32, flux.relu, pad=1), (16, 28, 28), batchsize=8)
    cost = explanation.cost
    assert (cost.flops, cost.backward_flops, cost.kept) == (summary.flops, summary.backward_flops, summary.activation_bytes)
    assert cost.output == (8, 32, 28, 28)
    assert cost.bytes == 4 * (8 * 16 * 28 * 28 + 32 * 16 * 9 + 32 + 8 * 32 * 28 * 28)
    assert cost.intensity == cost.flops / cost.bytes > 10
    (call,) = cost.calls
    assert (call.name, call.calls) == ("conv_bias_act", 1)
    assert "arithmetic is the limit" in str(explanation)
    for text in (str(explanation), explanation._repr_html_()):
        for part in ("conv_filter_forward", "32 × 16 × 3 × 3", "8 × 32 × 28 × 28", "conv_bias_act"):
            assert part in text


def test_the_kernels_of_a_call_are_those_that_run():
    layer, x = Dense(64, 10, flux.sigmoid), np.ones((512, 64), "float32")
    softmax = explain(flux.softmax, (4096, 32))
    assert softmax.cost.calls[0].kernels == ("softmax_forward",)
    with flux.profile() as p:
        flux.softmax(np.ones((4096, 32), "float32"))
    ran = [s.name for s in p.spans if s.kind == "kernel"]
    assert not ran or ran == ["softmax_forward"]
    names = [name for call in explain(layer, (64,), batchsize=512).cost.calls for name in call.kernels]
    with flux.profile(layer) as p:
        layer(x)
    assert not ran or names == [s.name for s in p.spans if s.kind == "kernel"]


def test_functions_losses_activations_and_optimisers():
    product = explain(flux.matmul, (64, 32), (32, 10))
    assert product.cost.flops == 2 * 64 * 32 * 10
    assert product.cost.backward_flops == 2 * product.cost.flops
    assert "dx = S(dz y^T)" in str(product)
    loss = explain(flux.losses.mse, (8,), (8,))
    assert loss.cost.flops == 24
    assert "(y_hat - y)^2" in str(loss)
    assert "|y_hat - y|" not in str(loss)
    assert explain(flux.losses.logitcrossentropy).parts[0].name == "logitcrossentropy"
    assert "relu(x) = max(0, x)" in str(explain(flux.relu))
    assert explain(flux.relu).where.path.name == "activation_table.py"
    adam = explain(flux.Adam(3e-4))
    assert ("eta", "0.001", "0.0003") in adam.keywords
    assert "sqrt(v / (1 - beta2^t))" in str(adam)
    assert explain(flux.Adam).keywords[0] == ("eta", "0.001", "")
    assert explain(flux.Embedding(10, 4), (5,), dtype=int).cost.output == (1, 5, 4)
    lstm = explain(flux.LSTM(4, 8), (5, 4), axis=1)
    assert lstm.cost.output == (5, 1, 8)
    assert "h' = sigmoid(o) tanh(c')" in str(lstm)


def test_classes_show_all_that_a_call_may_run():
    names = [part.name for part in explain(flux.MultiHeadAttention).parts]
    assert {"dense", "self_attention", "dot_product_attention", "dropout"} <= set(names)
    assert explain(flux.MultiHeadAttention).cost is None


def test_models_and_one_s_own_layers():
    class Twice(flux.Module):
        """y = f(f(x))"""

        def __init__(self, f):
            self.f = f

        def __call__(self, x):
            return flux.tanh(self.f(self.f(x)))

    explanation = explain(Twice(Dense(3, 3)), (3,))
    assert [(c.name, c.calls) for c in explanation.cost.calls] == [("dense", 2), ("tanh", 1)]
    assert "y = f(f(x))" in explanation.about
    assert line_of(explanation.where).strip().startswith("class Twice")
    assert [p.name for p in explain(Twice(Dense(3, 3))).parts] == ["tanh"]
    model = explain(Chain(Dense(4, 8, flux.relu), Dense(8, 2)), (4,))
    assert model.cost.parameters == 4 * 8 + 8 + 8 * 2 + 2
    assert model.cost.calls[0].output == (1, 8)


LAYERS = [n for n in flux.__all__ if inspect.isclass(v := getattr(flux, n)) and issubclass(v, flux.Module)]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_can_be_explained(name):
    explanation = explain(getattr(flux, name))
    assert name in str(explanation)
    assert explanation.where is not None


def test_files(tmp_path: Path):
    explanation = explain(flux.softmax, (4, 10))
    explanation.save(tmp_path / "softmax.txt")
    explanation.save(tmp_path / "softmax.html")
    assert (tmp_path / "softmax.txt").read_text(encoding="utf-8") == f"{explanation}\n"
    assert "&lt;" not in (tmp_path / "softmax.html").read_text(encoding="utf-8").split("</style>")[0]
    with pytest.raises(ValueError, match=r"explain: the file's name ends in \.html or \.txt, got 'softmax\.pdf'"):
        explanation.save(tmp_path / "softmax.pdf")


@pytest.mark.parametrize(("call", "message"), [
    (lambda: explain(np.ones(2)), "explain takes a layer, a function or an optimiser, got ndarray; print an array"),
    (lambda: explain(np.exp), "explain knows what this library is made of, and this is not of it"),
    (lambda: explain(len), "this is not of it: 'len'"),
    (lambda: explain(Dense, (3,)), r"explain\(Dense, shape\): a call has a cost, a class or an optimiser has none"),
    (lambda: explain(flux.Adam(), (3,)), "an optimiser has none"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_formulas():
    doc = """A page.

    add       z = x + y        dx = dz
              dy = dz
    subtract  z = x - y
    prose, more   without any sign

words

    exp  y = e^x     log  y = log x
"""
    assert blocks_of(doc)[1] == ["exp  y = e^x     log  y = log x"]
    assert formulas_of(doc, ["add"]) == ["add       z = x + y        dx = dz", "          dy = dz"]
    assert formulas_of(doc, ["_subtract"]) == ["subtract  z = x - y"]
    assert formulas_of(doc, ["log"]) == ["exp  y = e^x     log  y = log x"]
    assert len(formulas_of(doc, ["nothing"])) == len(formulas_of(doc, ["more"])) == 6
    assert formulas_of("Nothing.", ["x"]) == []
