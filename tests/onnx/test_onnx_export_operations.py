"""Every operation of the library as ONNX nodes: the checker, ONNX Runtime and this library's reader agree with it."""

from __future__ import annotations

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import losses
from minitorch_flux.autograd.operations import OPERATIONS
from minitorch_flux.onnx.exporting import RULES

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_cases import floats
from onnx_export import op_types, round_trip, saved

WITHOUT_A_FORM = {
    # parts of gradients
    "adaptive_max_gather", "adaptive_max_spread", "adaptive_mean_spread", "conv_filter", "jacobian_rows", "max_pool_gather",
    "max_pool_spread", "mean_pool_spread", "place", "products_before", "recurrence", "shift", "spread",
    "take_along_axis_backward", "take_backward",
    # without a counterpart
    "all_sum", "ctc", "nextafter",
}  # fmt: skip


def test_every_operation_has_a_form_or_is_known_to_have_none():
    ours = {name for name, op in OPERATIONS.items() if op.forward.__module__.startswith("minitorch_flux.")}
    assert len(ours) > 100
    assert ours - set(RULES) <= WITHOUT_A_FORM
    assert WITHOUT_A_FORM.isdisjoint(RULES)


X = floats(0, 3, 4, 5)
Y = np.abs(floats(1, 3, 4, 5)) + 0.1
WHOLE = np.arange(60, dtype=np.int32).reshape(3, 4, 5) - 17
I = np.array([[2, 0, 1], [3, 3, 0]])


def called(name):
    return getattr(flux, name, None) or OPERATIONS[name]


def of(f, *xs):
    return f, xs


UNARY = {
    name: (called(name), (x,))
    for x, names in (
        (X, "negative absolute sign floor ceil trunc round square exp exp2 expm1 sin cos tan arctan sinh cosh tanh arcsinh "
            "cbrt erf isnan isinf isfinite logical_not signbit"),
        (Y, "sqrt rsqrt reciprocal log log2 log10 log1p"),
        (X / 10, "arcsin arccos arctanh"),
        (Y + 1, "arccosh"),
        (WHOLE, "invert absolute sign"),
    )
    for name in names.split()
}  # fmt: skip
ACTIVATIONS = [
    "sigmoid", "hardsigmoid", "logsigmoid", "hardtanh", "tanh", "relu", "leakyrelu", "relu6", "elu", "gelu", "gelu_erf",
    "swish", "hardswish", "lisht", "selu", "celu", "softplus", "softsign", "logcosh", "mish", "tanhshrink", "softshrink",
    "hardshrink", "trelu", "rrelu", "identity",
]  # fmt: skip
BINARY = {
    name: (called(name), xs)
    for xs, names in (
        ((X, Y[:, :1]), "add subtract multiply divide floor_divide remainder fmod maximum minimum equal not_equal less "
                        "less_equal greater greater_equal logaddexp arctan2 hypot copysign"),
        ((Y, X), "power xlogy"),
        ((WHOLE, WHOLE[0] % 7), "bitwise_and bitwise_or bitwise_xor left_shift right_shift logical_and logical_or logical_xor"),
    )
    for name in names.split()
}  # fmt: skip
OTHERS = {
    "whole division": of(flux.floor_divide, WHOLE, np.full_like(WHOLE, 5)),
    "whole remainder": of(flux.remainder, WHOLE, np.full_like(WHOLE, 5)),
    "true division of integers": of(lambda x: x / 3, WHOLE),
    "a number on the left": of(lambda x: 1 - 2 / (x + 9), X),
    "a float beside integers": of(lambda x: x * 0.5, WHOLE),
    "two dtypes": of(lambda x, y: x * y, WHOLE, Y),
    "round to decimals": of(lambda x: flux.tensor(x).round(2), X),
    "where": of(lambda x: flux.where(flux.tensor(x) > 0, x, -1.0), X),
    "clip": of(lambda x: flux.clip(x, -0.5, 0.7), X),
    "clip by arrays": of(lambda x, y: flux.clip(x, -y, y), X, Y),
    "clip from below": of(lambda x: flux.clip(x, -0.5, None), X),
    "astype": of(lambda x: flux.tensor(x).astype("int64"), X),
    "copy": of(lambda x: flux.copy(x), X),
    "arctan2 on the axes": of(flux.arctan2, np.array([0, 0, 1, -1, 0], "float32"), np.array([1, -1, 0, 0, 0], "float32")),
    "xlogy at 0": of(flux.xlogy, np.zeros(3, "float32"), np.array([0, 1, 2], "float32")),
    "signbit of zeros": of(called("signbit"), np.array([0.0, -0.0, 1, -1], "float32")),
    "sum": of(lambda x: flux.tensor(x).sum(), X),
    "sum of bools": of(lambda x: (flux.tensor(x) > 0).sum(axis=1), X),
    "sum over axes": of(lambda x: flux.tensor(x).sum(axis=(0, 2), keepdims=True), X),
    "mean": of(lambda x: flux.tensor(x).mean(axis=-1), X),
    "prod": of(lambda x: flux.prod(x, axis=1), X),
    "max": of(lambda x: flux.tensor(x).max(axis=(1, 2)), X),
    "min": of(lambda x: flux.tensor(x).min(axis=0, keepdims=True), X),
    "argmax": of(lambda x: flux.argmax(x, axis=1), X),
    "argmin over all": of(lambda x: flux.argmin(x), X),
    "any": of(lambda x: (flux.tensor(x) > 1).any(axis=1), X),
    "all": of(lambda x: (flux.tensor(x) > -1).all(axis=(1, 2), keepdims=True), X),
    "count_nonzero": of(lambda x: flux.count_nonzero(flux.tensor(x) > 0, axis=2), X),
    "var": of(lambda x: flux.var(x, axis=(1, 2), ddof=1), X),
    "std": of(lambda x: flux.std(x, axis=-1, keepdims=True), X),
    "norm": of(lambda x: flux.norm(x, axis=1), X),
    "logsumexp": of(lambda x: flux.logsumexp(x, axis=1), X),
    "logsumexp kept": of(lambda x: flux.logsumexp(x, axis=-1, keepdims=True), X),
    "softmax": of(lambda x: flux.softmax(x, axis=1), X),
    "logsoftmax": of(lambda x: flux.logsoftmax(x, axis=-1), X),
    "cumsum": of(lambda x: flux.cumsum(x, axis=1), X),
    "cumprod": of(lambda x: flux.cumprod(x, axis=2), X),
    "sort": of(lambda x: flux.sort(x, axis=1), X),
    "argsort": of(lambda x: flux.argsort(x, axis=-1), X),
    "topk": of(lambda x: flux.topk(x, 2, axis=1), X),
    "topk least": of(lambda x: flux.topk(x, 3, axis=-1, largest=False), X),
    "sum_to": of(lambda x: flux.sum_to(flux.tensor(x), (4, 1)), X),
    "reshape": of(lambda x: flux.reshape(x, (5, -1)), X),
    "transpose": of(lambda x: flux.transpose(x, (2, 0, 1)), X),
    "broadcast_to": of(lambda x: flux.broadcast_to(flux.tensor(x)[:, :1], (2, 3, 4, 5)), X),
    "flip": of(lambda x: flux.flip(x, (0, 2)), X),
    "roll": of(lambda x: flux.roll(x, (1, -2), (0, 2)), X),
    "concatenate": of(lambda x, y: flux.concatenate([x, y, x], axis=1), X, Y),
    "stack": of(lambda x, y: flux.stack([x, y], axis=-1), X, Y),
    "split": of(lambda x: flux.split(x, [1, 3], axis=1), X),
    "unstack": of(lambda x: flux.unstack(x, axis=1), X),
    "tile": of(lambda x: flux.tile(x, (2, 1, 3)), X),
    "repeat": of(lambda x: flux.repeat(x, 3, axis=1), X),
    "pad": of(lambda x: flux.pad(x, ((0, 1), (2, 0), (1, 1)), value=2.5), X),
    "pad reflect": of(lambda x: flux.pad(x, ((0, 0), (1, 2), (2, 1)), "reflect"), X),
    "tril": of(lambda x: flux.tril(x, 1), X),
    "triu": of(flux.triu, X),
    "diagonal": of(lambda x: flux.diagonal(flux.tensor(x)[0]), X),
    "a slice": of(lambda x: flux.tensor(x)[1:, ::-2, None, -1], X),
    "an index": of(lambda x: flux.tensor(x)[-1, ..., 2:-1], X),
    "an array of indices": of(lambda x: flux.tensor(x)[:, np.array([[3, 0], [-1, 2]]), 1:], X),
    "arrays side by side": of(lambda x: flux.tensor(x)[:, np.array([3, 0, -1]), np.array([0, -1, 2])], X),
    "a mask": of(lambda x: flux.tensor(x)[:, np.array([True, False, True, True])], X),
    "an index from outside": of(lambda x, i: flux.tensor(x)[:, i], X, I),
    "take": of(lambda x, i: flux.take(x, i, axis=1), X, I),
    "take_along_axis": of(lambda x: flux.take_along_axis(x, np.array([[[1], [0], [3]]]), axis=1), X),
    "put_along_axis": of(lambda x: flux.put_along_axis(x, np.array([[[1]]]), 7.0, axis=1), X),
    "scatter": of(lambda x: flux.scatter(flux.tensor(x), (np.array([0, 2, 0]), 1), np.ones((3, 5), "float32")), X),
    "scatter_add": of(lambda x: flux.scatter_add(flux.tensor(x), (np.array([0, 2, 0]), 1), np.ones((3, 5), "float32")), X),
    "matmul": of(lambda x, y: flux.matmul(x, flux.swapaxes(y, 1, 2)), X, Y),
    "matmul of vectors": of(lambda x: flux.matmul(flux.tensor(x)[0], flux.tensor(x)[0, 0]), X),
    "einsum": of(lambda x, y: flux.einsum("abc,abd->acd", x, y), X, Y),
    "tensordot": of(lambda x, y: flux.tensordot(x, y, ((0, 1), (0, 1))), X, Y),
    "glu": of(lambda x: flux.glu(x, axis=1), X),
    "unfold": of(lambda x: flux.unfold(x, (2, 3), stride=(1, 2), pad=1), floats(0, 2, 3, 6, 7)),
    "fold": of(lambda x: flux.fold(x, (5, 6), (2, 3), stride=(1, 2), pad=1), floats(0, 2, 12, 18)),
    "bias_act": of(lambda x: flux.bias_act(x, np.arange(4, dtype="float32"), 1, flux.tanh), X),
    "mse": of(losses.mse, X, Y),
    "cross-entropy": of(lambda x: losses.logitcrossentropy(x, np.array([1, 0, 4])), X[:, 0]),
    "cross-entropy, weighted": of(
        lambda x: losses.logitcrossentropy(x, np.array([1, 0, 4]), weight=np.arange(1, 6), label_smoothing=0.1), X[:, 0]),
    "cross-entropy, each": of(lambda x, y: losses.logitcrossentropy(x, flux.softmax(y), agg="none"), X[:, 0], Y[:, 0]),
    "binary cross-entropy": of(lambda x: losses.logitbinarycrossentropy(x, (X > 0.5).astype("float32")), X),
}  # fmt: skip
ALL = {**UNARY, **{f"activation {n}": (getattr(flux, n), (3 * X,)) for n in ACTIVATIONS}, **BINARY, **OTHERS}


@pytest.mark.filterwarnings("ignore:invalid value|divide by zero:RuntimeWarning")
@pytest.mark.parametrize("name", ALL)
def test_an_operation(name):
    f, xs = ALL[name]
    proto, _ = round_trip(f, *xs, axes={}, tolerance=1e-5)
    assert not {n for n in op_types(proto) if not n}
    saved(f, *xs, axes={}, opset=17)


@pytest.mark.parametrize("name", ["elu", "celu", "leakyrelu", "softshrink", "hardshrink", "trelu"])
def test_an_activation_with_a_parameter(name):
    round_trip(lambda x: getattr(flux, name)(x, 0.3), X)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "relu6", "hardtanh", "tanh"])
def test_an_activation_of_integers(name):
    round_trip(getattr(flux, name), WHOLE)


@pytest.mark.parametrize("opset", range(17, 24))
@pytest.mark.parametrize("name", ["gelu", "gelu_erf", "mish", "hardswish"])
def test_activations_at_every_opset(name, opset):
    round_trip(getattr(flux, name), 3 * X, opset=opset)


@pytest.mark.parametrize(("f", "xs", "what"), [
    (lambda x: flux.tensor(x)[np.array([0, 1]), :, np.array([0, 1])], (X,), "not beside each other"),
    (lambda x, i: flux.tensor(x)[i, i], (X, I[:1]), "several index arrays"),
    (lambda x: flux.tensor(x)[X > 0], (X,), "a mask of several axes"),
    (lambda x, i: flux.scatter(flux.tensor(x), i, 0.0), (X, I[0]), "an index that depends on the input"),
    (lambda x: flux.tensor(x)[flux.tensor(x) > 0], (X,), "depends on the numbers in its input"),
    (lambda x: flux.tensor(x) * flux.tensor(x).max().item(), (X,), "depends on the numbers in its input"),
    (lambda x: flux.tensor(np.exp(x.data)), (X,), "other functions than those of this library"),
    (lambda x: flux.median(x, axis=1), (X,), "other functions than those of this library"),
    (lambda x: flux.dropout(x, 0.5, active=True), (X,), "it draws random numbers in test mode, too"),
    (lambda x: "text", (X,), "gives no tensor"),
])  # fmt: skip
def test_what_has_no_form_is_refused(f, xs, what):
    with pytest.raises(flux.onnx.ExportError, match=what):
        saved(f, *xs, axes={})
