"""More cases of ``python -m benchmarks.kernels``: dense and recurrent layers, attention, CTC, bags, the backward passes of
norms and pools, optimisers."""

from __future__ import annotations

from typing import Any

from .kernel_cases import CASES, Case, Draw, _binary, _of, _plain, _relu, _unary, _window, case

__all__ = ["CASES"]

# -- elementwise and along rows ----------------------------------------------------------------------------------------


def _positive(name: str) -> Any:
    """As ``_unary``, of positive numbers."""
    make = _unary(name)
    return lambda d: (make(d)[0], (abs(d.normal(d.n)),), 0.0)


for _name in ("subtract", "multiply", "divide"):
    case(f"{_name}_forward")(_binary(_name))
for _name in ("expm1", "sin", "cos"):
    case(f"{_name}_forward")(_unary(_name))
for _name in ("sqrt", "log", "log1p"):
    case(f"{_name}_forward")(_positive(_name))
for _name in ("min", "argmin"):
    _plain(f"{_name}_forward", "extremes", lambda d: (d.rows(1024), (1,)))
_plain("cumprod_forward", "scans", lambda d: (d.rows(1024), 1))
_plain("recurrence_forward", "scans", lambda d: (d.rows(1024) * 0.1, d.rows(1024), 1))
_plain("philox_bernoulli", "philox", lambda d: (1, 2, (d.n,), 0.9, d.normal(1)), ("float32",))
_plain("rms_norm_backward", "layer_norms",
       lambda d: (d.rows(768), d.rows(768), d.normal(768), _scales(d, 768), 1, (True, True)))
_plain("bag_sum_forward", "embedding", lambda d: (d.rows(256), None, *_bags(d)))
_plain("bag_argmax", "embedding", lambda d: (d.rows(256), *_bags(d)))


def _scales(d: Draw, width: int) -> Any:
    """A scale for each row, as sums have it."""
    return abs(d.rows(width)[:, :1]).astype("float32") + 1


def _bags(d: Draw) -> tuple[Any, Any]:
    """Indices of all rows, in bags of eight."""
    rows = max(1, d.n // 256)
    index = d.whole(rows, rows)
    return index, (index * 0 + 1).cumsum()[::8] - 1


# -- images ------------------------------------------------------------------------------------------------------------

_plain("adaptive_max_forward", "adaptive_pooling", lambda d: (d.images(256, 13), (6, 6)))
_plain("adaptive_mean_backward", "adaptive_pooling", lambda d: (d.images(256, 6, d.n // 4), (13, 13)))
_plain("depthwise_data", "depthwise",
       lambda d: (d.images(128, 56), d.normal(128, 1, 3, 3), _window(3, 1, 1, 128), (56, 56)), ("float32",))
_plain("depthwise_filter", "depthwise", lambda d: (d.images(128, 56), d.images(128, 56), _window(3, 1, 1, 128)), ("float32",))


@case("adaptive_max_backward")
def _adaptive_max_back(d: Draw) -> Any:
    y, arg = _of("adaptive_pooling", "adaptive_max_forward")(d.images(256, 13), (6, 6))
    return _of("adaptive_pooling", "adaptive_max_backward"), (y, arg, (13, 13)), 0.0


@case("lp_pool_backward")
def _lp_pool_back(d: Draw) -> Any:
    x = abs(d.images(64, 56))
    y = _of("lp_pooling", "lp_pool_forward")(x, _window(2, 2), 2.0)
    return _of("lp_pooling", "lp_pool_backward"), (y, x, y, _window(2, 2), 2.0), 0.0


@case("fixed_norm_forward")
def _fixed_norm(d: Draw) -> Any:
    x, w = d.images(64, 56), d.normal(64)
    stats = _of("channel_norms", "batch_norm_forward")(x, w, w, 1e-5, _relu())[1]
    return _of("channel_norms", "fixed_norm_forward"), (x, w, w, stats, _relu()), 0.0


@case("group_norm_backward")
def _group_norm_back(d: Draw) -> Any:
    x, w = d.images(64, 56), d.normal(64)
    stats = _of("channel_norms", "group_norm_forward")(x, w, w, 32, 1e-5)[1]
    return _of("channel_norms", "group_norm_backward"), (d.images(64, 56), x, w, w, stats, 32, _relu(), (True,) * 3), 0.0


@case("conv_bias_act_forward", ("float32",))
def _conv_bias_act(d: Draw) -> Any:
    x, w = d.images(64, 56, d.n // 4), d.normal(64, 64, 1, 1)
    return _of("convolution", "conv_bias_act_forward"), (x, w, d.normal(64), _window(1), _relu()), 2.0 * x.size * 64


# -- multiplication ----------------------------------------------------------------------------------------------------

WIDTH = 512


def _rows_of(d: Draw) -> int:
    return max(32, d.n // 8 // WIDTH)


@case("dense_forward", ("float32",))
def _dense(d: Draw) -> Any:
    x, w = d.normal(_rows_of(d), WIDTH), d.normal(WIDTH, WIDTH)
    return _of("dense", "dense_forward"), (x, w, d.normal(WIDTH), _relu()), 2.0 * x.size * WIDTH


@case("dense_data", ("float32",))
def _dense_data(d: Draw) -> Any:
    x, w = d.normal(_rows_of(d), WIDTH), d.normal(WIDTH, WIDTH)
    return _of("dense", "dense_data"), (x, w), 2.0 * x.size * WIDTH


@case("dense_weights", ("float32",))
def _dense_weights(d: Draw) -> Any:
    x = d.normal(max(1024, _rows_of(d)), WIDTH)
    return _of("dense", "dense_weights"), (x, x.copy()), 2.0 * x.size * WIDTH


# -- sequences ---------------------------------------------------------------------------------------------------------

STEPS, HIDDEN = 32, 128


def _sequence(d: Draw, gates: int) -> tuple[Any, ...]:
    """(T, N, gates H) inputs of about ``d.n / 4`` numbers, (gates H, H) weights, (N, H) first states, (T, N, H) gradients."""
    n = max(1, d.n // 4 // (STEPS * HIDDEN * gates))
    w = d.normal(gates * HIDDEN, HIDDEN) / d.dtype.type(HIDDEN**0.5)
    return d.normal(STEPS, n, gates * HIDDEN), w, d.normal(n, HIDDEN), d.normal(STEPS, n, HIDDEN)


def _products(x: Any) -> float:
    """Operations of the products of a forward pass; a backward pass has twice as many."""
    return 2.0 * x.size * HIDDEN


@case("rnn_forward", ("float32",))
def _rnn(d: Draw) -> Any:
    x, w, h, _ = _sequence(d, 1)
    return _of("rnn_passes", "rnn_forward"), (x, w, h, None, _of("nonlinearities", "tanh"), False, True), _products(x)


@case("rnn_backward", ("float32",))
def _rnn_back(d: Draw) -> Any:
    x, w, h, dy = _sequence(d, 1)
    tanh = _of("nonlinearities", "tanh")
    _, _, states, sums = _of("rnn_passes", "rnn_forward")(x, w, h, None, tanh, False, True)
    return _of("rnn_passes", "rnn_backward"), ((dy, None), w, states, sums, None, tanh, False, (True,) * 3), 2 * _products(x)


@case("gru_forward", ("float32",))
def _gru(d: Draw) -> Any:
    x, w, h, _ = _sequence(d, 3)
    return _of("gru_passes", "gru_forward"), (x, w, d.normal(3 * HIDDEN), h, None, False, "gru", True), _products(x)


@case("gru_backward", ("float32",))
def _gru_back(d: Draw) -> Any:
    f, (x, w, b, h, *rest), operations = _gru(d)
    states, gates = f(x, w, b, h, *rest)[2:4]
    return _of("gru_passes", "gru_backward"), ((x[..., :HIDDEN].copy(), None), w, states, gates, None, False, "gru",
                                               (True,) * 4), 2 * operations  # fmt: skip


@case("lstm_forward", ("float32",))
def _lstm(d: Draw) -> Any:
    x, w, h, _ = _sequence(d, 4)
    return _of("lstm_passes", "lstm_forward"), (x, None, None, w, h, h.copy(), None, False, True), _products(x)


@case("lstm_backward", ("float32",))
def _lstm_back(d: Draw) -> Any:
    f, (x, _, _, w, *rest), operations = _lstm(d)
    states, gates, cells = f(x, None, None, w, *rest)[3:6]
    dy = (x[..., :HIDDEN].copy(), None, None)
    return _of("lstm_passes", "lstm_backward"), (dy, x, None, w, states, gates, cells, None, False, (True,) * 6), 2 * operations


@case("attention_weights", ("float32",))
def _attention_weights(d: Draw) -> Any:
    return _of("attention", "attention_weights"), (d.normal(max(1, d.n // (8 * 256**2)), 8, 256, 256), None, 0.1, -1), 0.0


@case("attention_weights_backward", ("float32",))
def _attention_weights_back(d: Draw) -> Any:
    f, (s, *rest), _ = _attention_weights(d)
    _, lse = f(s.copy(), *rest)
    return _of("attention", "attention_weights_backward"), (s, s.copy(), None, lse, 0.1, -1), 0.0


TOKENS, HEADS, DEPTH = 256, 8, 64


@case("attention_backward", ("float32",))
def _attention_back(d: Draw) -> Any:
    q = d.normal(max(1, d.n // 4 // (TOKENS * HEADS * DEPTH)), HEADS, TOKENS, DEPTH)
    y, lse = _of("attention", "attention_forward")(q, q, q, None, False, DEPTH**-0.5)
    return _of("attention", "attention_backward"), (y, q, q, q, lse, None, False, DEPTH**-0.5), 10.0 * q.size * TOKENS


@case("self_attention_forward", ("float32",))
def _self_attention(d: Draw) -> Any:
    x = d.normal(max(1, d.n // 4 // (TOKENS * HEADS * DEPTH * 3)), TOKENS, 3 * HEADS * DEPTH)
    return _of("attention", "self_attention_forward"), (x, HEADS, HEADS, None, False, DEPTH**-0.5), 4 / 3 * x.size * TOKENS


@case("self_attention_backward", ("float32",))
def _self_attention_back(d: Draw) -> Any:
    f, (x, *rest), operations = _self_attention(d)
    y, lse = f(x, *rest)
    return _of("attention", "self_attention_backward"), (y, x, lse, *rest), 2.5 * operations


@case("ctc_forward", ("float32",))
def _ctc(d: Draw) -> Any:
    steps, classes, length = 100, 40, 20
    n = max(1, d.n // 4 // (steps * classes))
    lp = _of("softmaxes", "logsoftmax_forward")(d.normal(steps, n, classes), -1)
    labels = d.whole(classes - 1, n, 2 * length + 1) + 1
    labels[:, ::2] = 0
    return _of("ctc", "ctc_forward"), (lp, labels, labels[:, 0] + steps, labels[:, 0] + 2 * length + 1), 0.0


@case("ctc_backward", ("float32",))
def _ctc_back(d: Draw) -> Any:
    f, inputs, _ = _ctc(d)
    loss, alpha = f(*inputs)
    return _of("ctc", "ctc_backward"), (loss * 0 + 1, *inputs, alpha, loss, 0.0), 0.0


# -- optimisers --------------------------------------------------------------------------------------------------------


def _update(name: str, count: int, *numbers: float) -> None:
    """One parameter, its gradient and the state of a rule."""

    def make(d: Draw) -> Any:
        from minitorch_flux.ops.batches import Batch

        x, g, slots = d.normal(d.n), d.normal(d.n), tuple(abs(d.normal(d.n)) for _ in range(count))
        batch = Batch([x], [0])
        batch.final = True
        batch.load([g], copy=False)

        def update(x: Any, g: Any, *slots: Any) -> Any:
            _of("updates", name)(batch, *slots, *numbers)
            return x, *slots

        return update, (x, g, *slots), 0.0

    CASES[name] = Case(name, make, ("float32",))


_update("momentum_update", 1, -1.0, 0.1, 0.05, 0.9, 0.8, 1.0, 0.9)
_update("rmsprop_update", 3, 1.0, 0.1, 0.01, 0.99, 0.01, 0.01, 1e-4, 0.5)
_update("adam_update", 3, 1.0, 0.1, 0.99, 0.9, 0.1, 0.99, 0.01, 1.0, 1e-3, 2.0, 1e-3, 0.01, 0.02)
_update("adamax_update", 2, 1.0, 0.1, 0.01, 0.9, 0.1, 0.99, 1e-3)
_update("adadelta_update", 2, 1.0, 0.1, 0.5, 0.9, 0.1, 1e-4)
_update("lion_update", 1, -1.0, 0.1, 0.99, 0.02, 0.9, 0.1, 0.99, 0.01)
