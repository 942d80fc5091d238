import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.autograd import Tensor
from minitorch_flux.backend import use_kernels
from minitorch_flux.backend.threads import num_threads
from minitorch_flux.ops import recurrences, time_steps
from minitorch_flux.ops.dense import dense
from minitorch_flux.ops.gru_passes import gru_backward, gru_forward
from minitorch_flux.ops.lstm_passes import lstm_backward, lstm_forward
from minitorch_flux.ops.nonlinearities import ACTIVATIONS, gelu, relu, tanh
from minitorch_flux.ops.recurrences import gru_sequence, lstm_layer, lstm_sequence, rnn_sequence
from minitorch_flux.ops.rnn_passes import rnn_backward, rnn_forward
from minitorch_flux.ops.time_steps import MANY, SHORT
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_against_torch, check_operation, needs_compiler, normal

GATES = {"rnn": 1, "lstm": 4, "lstm_layer": 4, "gru": 3, "gruv3": 3}
FEATURES = 3
KINDS = list(GATES)
PASSES = {
    "rnn": (rnn_forward, rnn_backward),
    "lstm": (lstm_forward, lstm_backward),
    "lstm_layer": (lstm_forward, lstm_backward),
    "gru": (gru_forward, gru_backward),
    "gruv3": (gru_forward, gru_backward),
}


def inputs(kind, steps, batch, size, dtype=np.float64, scale=1.0):
    """gx (or x, w_ih, b_ih), w_hh, (b_hh,) h0 (, c0) of a sequence."""
    g = GATES[kind]
    shapes = [(steps, batch, g * size), (g * size, size), (batch, size)]
    if kind.startswith("gru"):
        shapes.insert(2, (g * size,))
    if kind.startswith("lstm"):
        shapes.append((batch, size))
    if kind == "lstm_layer":
        shapes[:1] = [(steps, batch, FEATURES), (g * size, FEATURES), (g * size,)]
    return [scale * normal(*shape, seed=k, dtype=dtype) for k, shape in enumerate(shapes)]


def sequence(kind, mask=None, **keywords):
    """The function of the arrays alone."""
    if kind == "lstm":
        return lambda gx, w, h, c: lstm_sequence(gx, w, h, c, mask, **keywords)
    if kind == "lstm_layer":
        return lambda *arrays: lstm_layer(*arrays, mask, **keywords)
    if kind == "rnn":
        return lambda gx, w, h: rnn_sequence(gx, w, h, mask, **keywords)
    return lambda gx, w, b, h: gru_sequence(gx, w, b, h, mask, form=kind, **keywords)


def some_mask(steps, batch, seed=0):
    return np.random.default_rng(seed).random((steps, batch)) < 0.6


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def loops(kind, arrays, mask=None, reverse=False, activation=math.tanh):
    """One number at a time: ``(y, *last states)``."""
    if kind == "lstm_layer":
        return loops("lstm", (arrays[0] @ arrays[1].T + arrays[2], *arrays[3:]), mask, reverse)
    gx, w, *rest = arrays
    steps, batch, width = gx.shape
    size = width // GATES[kind]
    b = rest.pop(0) if kind.startswith("gru") else np.zeros(width)
    state = [a.copy() for a in rest]
    y = np.zeros((steps, batch, size))

    def gate(k, t, n, j, h):  # the state's part
        return sum(w[k * size + j, i] * h[i] for i in range(size)) + b[k * size + j]

    for t in reversed(range(steps)) if reverse else range(steps):
        for n in range(batch):
            if mask is not None and not mask[t, n]:
                continue
            h, x = state[0][n].copy(), gx[t, n]
            if kind.startswith("gru"):
                r = [sigmoid(x[j] + gate(0, t, n, j, h)) for j in range(size)]
            for j in range(size):
                if kind == "rnn":
                    v = activation(x[j] + gate(0, t, n, j, h))
                elif kind == "lstm":
                    i, f, g, o = (x[k * size + j] + gate(k, t, n, j, h) for k in range(4))
                    c = state[1][n, j] = sigmoid(f) * state[1][n, j] + sigmoid(i) * math.tanh(g)
                    v = sigmoid(o) * math.tanh(c)
                else:
                    z = sigmoid(x[size + j] + gate(1, t, n, j, h))
                    if kind == "gru":
                        inner = r[j] * gate(2, t, n, j, h)
                    else:
                        inner = gate(2, t, n, j, [a * b for a, b in zip(r, h, strict=True)])
                    v = (1 - z) * math.tanh(x[2 * size + j] + inner) + z * h[j]
                y[t, n, j] = state[0][n, j] = v
    return y, *state


# -- values and derivatives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_derivatives(kind, masked, reverse, steps):
    arrays = inputs(kind, steps, 2, 2)
    mask = some_mask(steps, 2) if masked else None
    check_operation(sequence(kind, mask, reverse=reverse), *arrays,
                    oracle=lambda *a: loops(kind, a, mask, reverse), layouts=steps == 5, order=2 if steps == 2 else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_second_order_of_long_sequences(kind):
    mask = some_mask(6, 2, seed=3)
    check_operation(sequence(kind, mask, reverse=True), *inputs(kind, 6, 2, 3), dtypes=(), layouts=False, tolerance=1e-5)


def test_third_order():
    check_operation(sequence("lstm"), *inputs("lstm", 2, 1, 1), order=3, dtypes=(), layouts=False, tolerance=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name):
    act = ACTIVATIONS[name]
    scalar = lambda x: float(act(np.array([x])).data[0])  # noqa: E731
    mask = some_mask(4, 2)
    # 0.37: away from the kinks of the piecewise ones
    arrays = inputs("rnn", 4, 2, 2, scale=0.37)
    check_operation(sequence("rnn", mask, activation=act), *arrays, layouts=False, order=1,
                    oracle=lambda *a: loops("rnn", a, mask, activation=scalar))


@pytest.mark.parametrize("act", [gelu, relu], ids=repr)
def test_activations_to_the_second_order(act):
    check_operation(sequence("rnn", some_mask(3, 2), activation=act), *inputs("rnn", 3, 2, 2), dtypes=())


@given(
    kind=st.sampled_from(KINDS), steps=st.integers(0, 6), batch=st.integers(0, 3), size=st.integers(1, 4),
    reverse=st.booleans(), data=st.data(),
)  # fmt: skip
def test_any_shape_and_mask(kind, steps, batch, size, reverse, data):
    mask = None
    if data.draw(st.booleans()):
        bits = data.draw(st.lists(st.booleans(), min_size=steps * batch, max_size=steps * batch))
        mask = np.array(bits, bool).reshape(steps, batch)
    arrays = inputs(kind, steps, batch, size)
    check_operation(sequence(kind, mask, reverse=reverse), *arrays, order=1, layouts=False,
                    oracle=lambda *a: loops(kind, a, mask, reverse))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 3, 2), (0, 0, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1)])
def test_empty_axes(kind, shape):
    arrays = inputs(kind, *shape)
    y, *ends = sequence(kind)(*arrays)
    assert y.shape == shape
    for end, start in zip(ends, arrays[-len(ends) :], strict=True):
        assert end.shape == shape[1:]
        if not shape[0]:
            np.testing.assert_array_equal(end.data, start)
    grads = flux.gradient(lambda *a: sum((t * t).sum() for t in sequence(kind)(*a)), *arrays)
    assert [g.shape for g in grads] == [a.shape for a in arrays]


def test_a_bias_of_a_gru_can_be_missing():
    for kind in ("gru", "gruv3"):
        gx, w, b, h = inputs(kind, 5, 3, 2)
        f = sequence(kind)
        check_operation(lambda gx, w, h, f=f: f(gx, w, None, h), gx, w, h, layouts=False,
                        oracle=lambda gx, w, h, k=kind, b=b: loops(k, (gx, w, 0 * b, h)))


def test_a_bias_of_an_lstm_can_be_missing():
    for batch in (2, MANY):
        x, w_ih, b, *rest = inputs("lstm_layer", 4, batch, 2)
        check_operation(lambda x, w_ih, *rest: lstm_layer(x, w_ih, None, *rest), x, w_ih, *rest, layouts=False, order=1,
                        oracle=lambda x, w_ih, *rest, b=b: loops("lstm_layer", (x, w_ih, 0 * b, *rest)))


def test_only_the_gradients_that_are_needed():
    for kind in KINDS:
        arrays = inputs(kind, 5, 3, 2)
        whole = flux.gradient(lambda *a, k=kind: sequence(k)(*a)[0].sum(), *arrays)
        for i, wanted in enumerate(whole):
            others = [Tensor(a) for a in arrays]

            def loss(x, i=i, others=others, k=kind):
                return sequence(k)(*others[:i], x, *others[i + 1 :])[0].sum()

            np.testing.assert_array_equal(flux.gradient(loss, arrays[i]), wanted)
            second = flux.gradient(lambda x, loss=loss: (flux.gradient(loss, x) ** 2).sum(), arrays[i])
            assert second.shape == arrays[i].shape


# -- against PyTorch ---------------------------------------------------------------------------------------------------


def torch_layer(kind, size, features, way):
    torch = pytest.importorskip("torch")
    nonlinearity = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    layer = getattr(torch.nn, "RNN" if nonlinearity else kind.upper())
    return torch, layer(features, size, bidirectional=way, dtype=torch.float64, **nonlinearity)


@pytest.mark.parametrize("lengths", [None, (5, 2, 4)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["tanh", "relu", "lstm", "gru"])
def test_against_torch(kind, reverse, lengths):
    """Whole layers: the reverse ones are the second half of a bidirectional one; masks are packed sequences."""
    steps, batch, size, features = 5, 3, 4, 2
    torch, layer = torch_layer(kind, size, features, reverse)
    suffix = "_l0_reverse" if reverse else "_l0"
    g = {"lstm": 4, "gru": 3}.get(kind, 1)
    mask = None if lengths is None else np.arange(steps)[:, None] < np.array(lengths)

    def ours(x, w_ih, w_hh, b_ih, b_hh, h, c):
        if kind == "gru":
            y, h = gru_sequence(dense(x, w_ih, b_ih), w_hh, b_hh, h, mask, reverse=reverse)
        elif kind == "lstm":
            y, h, c = lstm_sequence(dense(x, w_ih, b_ih + b_hh), w_hh, h, c, mask, reverse=reverse)
        else:
            act = relu if kind == "relu" else tanh
            y, h = rnn_sequence(dense(x, w_ih, b_ih + b_hh), w_hh, h, mask, activation=act, reverse=reverse)
        return y, h, c * 1

    def theirs(x, w_ih, w_hh, b_ih, b_hh, h, c):
        parts = dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (w_ih, w_hh, b_ih, b_hh), strict=True))
        states = [torch.stack([0 * s, s]) if reverse else s[None] for s in (h, c)]
        if lengths is not None:
            x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        y, last = torch.func.functional_call(
            layer, {name + suffix: p for name, p in parts.items()}, (x, tuple(states) if kind == "lstm" else states[0])
        )
        if lengths is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=steps)
        h, c = last if kind == "lstm" else (last, c[None])
        return y[..., -size:], h[-1], c[-1] * 1

    width, state = g * size, (batch, size)
    shapes = [(steps, batch, features), (width, features), (width, size), (width,), (width,), state, state]
    check_against_torch(ours, theirs, *(normal(*s, seed=k) for k, s in enumerate(shapes)))


# -- kernels -----------------------------------------------------------------------------------------------------------


def passes(kind, arrays, mask, reverse, keep=True):
    """Everything that the two passes compute."""
    forward, backward = PASSES[kind]
    lstm = kind.startswith("lstm")
    if kind == "lstm":
        arrays = [arrays[0], None, None, *arrays[1:]]
    extra = (tanh,) if kind == "rnn" else ()
    form = (kind,) if kind.startswith("gru") else ()
    outs = forward(*arrays, mask, *extra, reverse, *form, keep)
    if not keep:
        return list(outs)
    n = 3 if lstm else 2
    dys = tuple([normal(*y.shape, seed=k, dtype=y.dtype) for k, y in enumerate(outs[:n])])
    saved = (*arrays[:2], arrays[3]) if lstm else (arrays[1],)
    grads = backward(dys, *saved, *outs[n:], mask, *extra, reverse, *form, tuple([a is not None for a in arrays]))
    return [*outs, *grads]


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 2, 5), (4, 1, 50), (5, 29, 17), (6, 10, 96)])
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_equal_references(kind, shape, dtype):
    """Short and long sequences; fewer and more of them than are walked together; panels whole and in part."""
    arrays = inputs(kind, *shape, dtype=dtype, scale=1 / math.sqrt(shape[2]))
    for mask, reverse in ((None, False), (some_mask(*shape[:2]), True)):
        counts = [f.launches for f in PASSES[kind]]
        got = passes(kind, arrays, mask, reverse)
        assert [f.launches for f in PASSES[kind]] == [n + 1 for n in counts]
        with use_kernels(False):
            wanted = passes(kind, arrays, mask, reverse)
        for a, b in zip(got, wanted, strict=True):
            if a is None:
                assert b is None
            else:
                np.testing.assert_allclose(a, b, atol=2e-5 if dtype == np.float32 else 1e-12)


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_unless_it_is_asked_for(kind, monkeypatch):
    arrays = inputs(kind, 5, 3, 4)
    for kernels in (True, False):
        with use_kernels(kernels):
            *outs, = passes(kind, arrays, None, False, keep=False)
            n = 3 if kind.startswith("lstm") else 2
            assert all(a is None for a in outs[n:])
            for a, b in zip(outs[:n], passes(kind, arrays, None, False), strict=False):
                np.testing.assert_array_equal(a, b)
    asked = []
    name = f"{kind.removesuffix('v3').removesuffix('_layer')}_forward"
    forward = getattr(recurrences, name)
    monkeypatch.setattr(recurrences, name, lambda *a: asked.append(a[-1]) or forward(*a))
    sequence(kind)(*arrays)
    sequence(kind)(flux.tensor(arrays[0], requires_grad=True), *arrays[1:])
    assert asked == [False, True]


@needs_compiler
def test_what_the_kernels_leave_to_the_references():
    def launched(kind, arrays, **keywords):
        before = PASSES[kind][0].launches
        sequence(kind, **keywords)(*arrays)
        return PASSES[kind][0].launches - before

    assert launched("rnn", inputs("rnn", 4, 2, 3), activation=gelu) == 0
    assert launched("lstm", inputs("lstm", 0, 2, 3)) == 0
    assert launched("gru", inputs("gru", 4, 0, 3)) == 0
    assert launched("lstm", inputs("lstm", 4, 2, 3, dtype=np.float16)) == 1


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_blas_makes_the_products_of_large_layers_on_a_gpu(kind, monkeypatch):
    arrays, mask = inputs(kind, 6, MANY, 5, scale=0.4), some_mask(6, MANY)
    wanted = passes(kind, arrays, mask, True)
    monkeypatch.setattr(time_steps, "device_of", lambda a: "cuda:0")
    assert time_steps.walks(arrays[0], normal(1024, 1024))
    assert not time_steps.walks(arrays[0], normal(1025, 1024))
    assert not time_steps.takes_inputs(arrays[0], normal(8, 8))
    monkeypatch.setattr(time_steps, "WEIGHTS", 0)
    before = PASSES[kind][0].launches
    for a, b in zip(passes(kind, arrays, mask, True), wanted, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-12)
    assert PASSES[kind][0].launches == before + 1


@needs_compiler
@pytest.mark.parametrize("options", [{}, {"lanes": 64}, {"backwards": True, "grid": 2}])
def test_in_the_emulator(options):
    for kind in KINDS:
        batch = MANY if kind == "lstm_layer" else 3
        arrays, mask = inputs(kind, SHORT, batch, 20, dtype=np.float32, scale=0.2), some_mask(SHORT, batch)
        with use_kernels(False):
            wanted = passes(kind, arrays, mask, True)
        with emulated(**options) as count:
            got = passes(kind, arrays, mask, True)
        assert count.launches == (6 if kind in ("gruv3", "lstm_layer") else 4)
        for a, b in zip(got, wanted, strict=True):
            if a is not None:
                np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("sanitize", ["address", "thread"])
@pytest.mark.parametrize("kind", KINDS)
def test_under_the_sanitizers(kind, sanitize):
    for steps in (SHORT - 1, SHORT):
        with emulated(sanitize=sanitize, lanes=64):
            batch = MANY if kind == "lstm_layer" else 3
            passes(kind, inputs(kind, steps, batch, 70, dtype=np.float32, scale=0.2), some_mask(steps, batch), False)


# -- properties --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_again_and_with_any_number_of_threads(kind):
    arrays = inputs(kind, 30, 33, 32, dtype=np.float32, scale=0.3)
    mask, threads = some_mask(30, 33), num_threads()
    first = passes(kind, arrays, mask, False)
    try:
        for n in (threads, 1, 3):
            flux.set_num_threads(n)
            again = passes(kind, arrays, mask, False)
            for i, (a, b) in enumerate(zip(first, again, strict=True)):
                if a is not None and (n == threads or i < len(first) - len(arrays)):  # sums over T N are BLAS's
                    np.testing.assert_array_equal(a, b)
    finally:
        flux.set_num_threads(threads)


@needs_compiler
@pytest.mark.parametrize("size", [37, 96])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_walk_few_sequences_together(kind, size, monkeypatch):
    """The same bits as with one thread, for outputs and gradients; parts begin inside panels, one has no units."""
    steps, batch, threads = 640000 // size**2, 3, num_threads()
    monkeypatch.setattr(time_steps, "STEP", 1)
    monkeypatch.setattr(time_steps, "MANY", 1)  # the inputs' products, too
    arrays, mask = inputs(kind, steps, batch, size, dtype=np.float32, scale=1 / math.sqrt(size)), some_mask(steps, batch)
    try:
        for here, reverse in ((None, False), (mask, True)):
            flux.set_num_threads(1)
            wanted = passes(kind, arrays, here, reverse)
            for n in (2, 4):
                flux.set_num_threads(n)
                assert time_steps.as_team(arrays[0], normal(size, size))
                found = passes(kind, arrays, here, reverse)
                for i, (a, b) in enumerate(zip(wanted, found, strict=True)):
                    if a is not None and i not in (len(wanted) - len(arrays) + k for k in range(1, len(arrays) - 1)):
                        np.testing.assert_array_equal(a, b)  # but sums over T N, which are BLAS's
        assert not time_steps.as_team(np.empty((4, 4 * n + 1, 3)), normal(3, 3))
    finally:
        flux.set_num_threads(threads)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_goes_on_from_its_step_in_its_sequence_alone(kind, kernels):
    for steps in (3, 6):
        arrays = inputs(kind, steps, 3, 4)
        arrays[0][1, 2] = np.nan
        with use_kernels(kernels):
            y = sequence(kind)(*arrays)[0].data
            assert np.isnan(y[1:, 2]).all()
            assert np.isfinite(y[:, :2]).all()
            assert np.isfinite(y[0]).all()
            mask = np.ones((steps, 3), bool)
            mask[1, 2] = False  # a step that is left out may hold anything
            outs = sequence(kind, mask)(*arrays)
            assert all(np.isfinite(t.data).all() for t in outs)
            back = flux.gradient(lambda *a, m=mask: sequence(kind, m)(*a)[0].sum(), *arrays)
            assert all(np.isfinite(g).all() for g in back)
            assert (back[0][1, 2] == 0).all()


def test_large_gates_saturate():
    for kernels in (True, False):
        with use_kernels(kernels):
            for steps in (1, 5):
                gx = np.full((steps, 1, 4), 1e4, np.float32)
                gx[..., 0] = -1e4  # nothing in, everything kept
                y, h, c = lstm_sequence(gx, np.zeros((4, 1), np.float32), np.ones((1, 1), np.float32), np.full((1, 1), 3, "f"))
                np.testing.assert_allclose(c.data, 3)
                np.testing.assert_allclose(y.data, math.tanh(3), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits_are_computed_in_float32(kind):
    low = inputs(kind, 5, 2, 3, dtype=np.float16, scale=0.5)
    high = [a.astype(np.float32) for a in low]
    for kernels in (True, False):
        with use_kernels(kernels):
            outs = sequence(kind)(*low)
            for a, b in zip(outs, sequence(kind)(*high), strict=True):
                assert a.dtype == np.float16
                np.testing.assert_array_equal(a.data, b.data.astype(np.float16))
            grads = flux.gradient(lambda *a: sequence(kind)(*a)[0].sum(), *low)
            assert all(g.dtype == np.float16 for g in grads)


def test_mixed_dtypes():
    gx, w, h, c = inputs("lstm", 5, 2, 3)
    y = lstm_sequence(gx.astype(np.float32), w, h.astype(np.float32), c.astype(np.float32))[0]
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, loops("lstm", (gx, w, h, c))[0], rtol=1e-4, atol=1e-6)
    grads = flux.gradient(lambda gx, w: lstm_sequence(gx, w, h, c)[0].sum(), gx.astype(np.float32), w)
    assert [g.dtype for g in grads] == [np.float32, np.float64]


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors():
    gx, w, h, c = inputs("lstm", 3, 2, 5)
    with pytest.raises(ValueError, match=r"lstm_sequence: gx must have the axes \(T, N, 4 H\), got shape \(2, 20\)"):
        lstm_sequence(gx[0], w, h, c)
    with pytest.raises(ValueError, match=r"lstm_sequence: w_hh must have the shape \(4 H, H\) .* \(15, 5\) and \(3, 2, 20\)"):
        lstm_sequence(gx, w[:15], h, c)
    with pytest.raises(ValueError, match=r"lstm_sequence: w_hh must have .* got \(20, 5\) and \(3, 2, 19\)"):
        lstm_sequence(gx[..., :19], w, h, c)
    with pytest.raises(ValueError, match=r"lstm_sequence: c0 has the shape \(1, 5\), expected \(2, 5\): the batch of gx"):
        lstm_sequence(gx, w, h, c[:1])
    with pytest.raises(ValueError, match=r"rnn_sequence: h0 has the shape \(2, 5\), expected \(2, 20\)"):
        rnn_sequence(gx, normal(20, 20), h)
    with pytest.raises(ValueError, match=r"mask must be an array of booleans of the shape \(3, 2\), .* \(2, 3\)"):
        lstm_sequence(gx, w, h, c, np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"mask must be .* got float64 of shape \(3, 2\)"):
        lstm_sequence(gx, w, h, c, np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"mask must be .* got list of shape \(\)"):
        lstm_sequence(gx, w, h, c, [[True]])
    x, w_ih, b, *rest = inputs("lstm_layer", 3, 2, 5)
    for wrong in ((x[0], w_ih, b), (x, w_ih[:, :2], b), (x, w_ih, b[:5])):
        with pytest.raises(ValueError, match=r"lstm_layer: x, w_ih and b_ih must have the shapes \(T, N, I\), \(4 H, I\) and"):
            lstm_layer(*wrong, *rest)
    with pytest.raises(ValueError, match=r"lstm_layer: w_hh must have .* got \(20, 5\) and \(3, 2, 16\)"):
        lstm_layer(x, w_ih[:16], b[:16], *rest)
    gx, w, b, h = inputs("gru", 3, 2, 5)
    with pytest.raises(ValueError, match=r"gru_sequence: b_hh has the shape \(5,\), expected \(15,\)"):
        gru_sequence(gx, w, b[:5], h)
    with pytest.raises(ValueError, match=r'gru_sequence: form must be "gru" or "gruv3", got \'v3\''):
        gru_sequence(gx, w, b, h, form="v3")
    with pytest.raises(TypeError, match=r"rnn_sequence: the activation must be one of the library's, got <built-in"):
        rnn_sequence(gx, normal(15, 15), normal(2, 15), activation=math.tanh)
