"""Recurrent cells against PyTorch's, and as the pure functions that they are."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import GRUCell, GRUv3Cell, LSTMCell, Recur, RNNCell, relu, tanh

CELLS = [RNNCell, LSTMCell, GRUCell, GRUv3Cell]


def doubled(layer):
    """The layer in float64, with biases other than the first ones."""
    rng = np.random.default_rng(0)
    for p in layer.parameters():
        p.data = p.data.astype(np.float64)
        if p.ndim == 1:
            p.data += rng.uniform(-0.5, 0.5, p.shape)
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(cell, h, x):
    """The equations of the cells with NumPy, for one sample: the next state's parts."""
    p = {k: v.astype(np.float64) for k, v in cell.state_dict().items()}
    gx, gh = p["weight_ih"] @ x, p["weight_hh"]
    zero = np.zeros(len(gh))
    gx, inner = gx + p.get("bias_ih", zero), p.get("bias_hh", zero)
    if isinstance(cell, RNNCell):
        return (np.tanh(gx + gh @ h[0] + inner),)
    if isinstance(cell, LSTMCell):
        i, f, g, o = np.split(gx + gh @ h[0] + inner, 4)
        c = sigmoid(f) * h[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    h = h[0]
    xr, xz, xn = np.split(gx, 3)
    wr, wz, wn = np.split(gh, 3)
    br, bz, bn = np.split(inner, 3)
    r, z = sigmoid(xr + wr @ h + br), sigmoid(xz + wz @ h + bz)
    n = np.tanh(xn + wn @ (r * h) + bn) if isinstance(cell, GRUv3Cell) else np.tanh(xn + r * (wn @ h + bn))
    return ((1 - z) * n + z * h,)


@given(st.sampled_from(CELLS), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(),
       st.integers(0, 99))
def test_cells_are_their_equations(kind, n, fan_in, out, bias, hidden_bias, seed):
    rng = np.random.default_rng(seed)
    cell = doubled(kind(fan_in, out, bias=bias, hidden_bias=hidden_bias))
    parts = 2 if kind is LSTMCell else 1
    hs = [rng.standard_normal((n, out)) for _ in range(parts)]
    x = rng.standard_normal((n, fan_in))
    state, y = cell(hs[0] if parts == 1 else tuple(hs), x)
    states = state if parts == 2 else (state,)
    assert y.shape == (n, out)
    np.testing.assert_array_equal(y.data, states[0].data)
    for k in range(n):
        wanted = by_hand(cell, [h[k] for h in hs], x[k])
        for s, w in zip(states, wanted, strict=True):
            np.testing.assert_allclose(s.data[k], w, rtol=1e-9, atol=1e-12)
        one, y1 = cell(hs[0][k] if parts == 1 else tuple(h[k] for h in hs), x[k])  # without a batch axis
        assert y1.shape == (out,)
        np.testing.assert_allclose(y1.data, wanted[0], rtol=1e-9, atol=1e-12)
        assert (one[1] if parts == 2 else one).shape == (out,)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [True, False])
def test_torch_state_dicts_load_and_give_torch_s_numbers_and_gradients(name, bias):
    torch = pytest.importorskip("torch")
    ref = getattr(torch.nn, name)(3, 4, bias=bias).double()
    cell = doubled(getattr(flux, name)(3, 4, bias=bias, hidden_bias=bias))
    cell.load_state_dict({k: v.detach().numpy() for k, v in ref.state_dict().items()})
    assert list(cell.state_dict()) == list(ref.state_dict())
    rng = np.random.default_rng(0)
    pair = name == "LSTMCell"
    x, hs = rng.standard_normal((5, 3)), [rng.standard_normal((5, 4)) for _ in range(1 + pair)]
    tx, ths = torch.tensor(x, requires_grad=True), [torch.tensor(h, requires_grad=True) for h in hs]
    out = ref(tx, tuple(ths) if pair else ths[0])
    sum((o**3).sum() for o in (out if pair else (out,))).backward()

    def loss(cell, x, *hs):
        state, y = cell(hs if pair else hs[0], x)
        return ((y**3).sum() + (state[1] ** 3).sum() if pair else (y**3).sum()), y

    (_, y), (grads, *given) = flux.withgradient(loss, cell, x, *hs)
    np.testing.assert_allclose(y, (out[0] if pair else out).detach().numpy(), rtol=1e-9)
    for got, want in zip(given, [tx, *ths], strict=True):
        np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-8, atol=1e-12)
    for key, p in ref.named_parameters():
        np.testing.assert_allclose(getattr(grads, key), p.grad.numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_gradients_of_both_orders(kind, shape):
    rng = np.random.default_rng(0)
    cell = doubled(kind(2, 2, hidden_bias=True))
    x, h, c = (rng.standard_normal(shape) for _ in range(3))
    flux.check(lambda h, c, x: cell((h, c) if kind is LSTMCell else h, x), h, c, x, few=6, directions=2)


@pytest.mark.parametrize("act", [relu, flux.gelu, tanh, flux.identity, lambda z: flux.tanh(z) * 2, flux.softmax])
def test_an_rnn_takes_any_activation(act):
    cell = doubled(RNNCell(3, 4, act))
    x, h = np.random.default_rng(0).standard_normal((2, 5, 4))
    x = x[:, :3]
    p = cell.state_dict()
    wanted = act(x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T)
    np.testing.assert_allclose(cell(h, x)[1].data, wanted.data, rtol=1e-9, atol=1e-12)
    flux.check(cell, h, x, few=4, directions=2, order=1)


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_pure(kind):
    cell = kind(3, 4)
    h, x = cell.initial_state(2), np.ones((2, 3), np.float32)
    a, _ = cell(h, x)
    before = copy.deepcopy(vars(cell))
    cell(a, x)
    b, _ = cell(h, x)
    for s, t in zip(*([v] if kind is not LSTMCell else v for v in (a, b)), strict=True):
        np.testing.assert_array_equal(s.data, t.data)
        assert s.node is None
    assert before.keys() == vars(cell).keys()
    assert not any(s.data.any() for s in (h if kind is LSTMCell else [h]))


def test_first_weights_and_states():
    cell = LSTMCell(3, 2)
    assert cell.bias_ih.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]  # the forget gate
    assert LSTMCell(3, 2, init_bias=flux.ones).bias_ih.tolist() == [1] * 8
    assert LSTMCell(3, 2, init_bias=flux.zeros).bias_ih.tolist() == [0] * 8
    both = LSTMCell(3, 2, hidden_bias=True)
    assert (both.bias_ih.data + both.bias_hh.data).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert LSTMCell(3, 2, bias=False, hidden_bias=True).bias_hh.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert GRUCell(3, 2).bias_ih.tolist() == [0] * 6
    assert RNNCell(3, 2, bias=np.array([1.0, 2.0])).bias_ih.tolist() == [1, 2]
    assert RNNCell(3, 2, hidden_bias=[3, 4]).bias_hh.tolist() == [3, 4]
    assert RNNCell(3, 2, bias=False).bias_ih is None
    assert [s.shape for s in cell.initial_state()] == [(2,), (2,)]
    assert [s.shape for s in cell.initial_state(5)] == [(5, 2), (5, 2)]
    assert GRUCell(3, 2).initial_state(0).shape == (0, 2)
    assert doubled(GRUCell(3, 2)).initial_state().dtype == np.float64
    a, b = (GRUCell(3, 2, rng=flux.Generator(4)).state_dict() for _ in range(2))
    assert all((a[k] == b[k]).all() for k in a)
    made = GRUCell(3, 2, init=flux.ones, init_recurrent=flux.orthogonal)
    assert made.weight_ih.data.all()
    np.testing.assert_allclose(made.weight_hh.data.T @ made.weight_hh.data, np.eye(2), atol=1e-6)
    large = RNNCell(300, 200)
    assert large.weight_ih.data.std() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert large.weight_hh.data.std() == pytest.approx((1 / 200) ** 0.5, rel=0.02)


def test_signatures_and_printing():
    assert RNNCell((4, 8), relu).activation is relu
    assert RNNCell((4, 8)).activation is tanh
    cell = RNNCell(4, 8, relu, bias=False)
    assert repr(cell) == "RNNCell(4, 8, relu, bias=False)  # 96 parameters"
    texts = ["LSTMCell(4, 8)", "GRUCell(4, 8, hidden_bias=True)", "GRUv3Cell(4, 8, init=ones, init_bias=ones)",
             "RNNCell(4, 8, identity, init_recurrent=orthogonal)", "RNNCell(4, 8)"]
    for text in texts:
        again = eval(text, vars(flux))
        assert repr(again).split("  #")[0] == text
        assert (again.in_, again.out) == (4, 8)
    assert (cell.bias, cell.hidden_bias, cell.init) == (False, False, flux.glorot_uniform)


def test_dtypes():
    cell = GRUCell(3, 2)
    x, h = np.ones((4, 3)), np.zeros((4, 2), np.float64)
    assert cell(h, x)[1].dtype == np.float32
    assert cell(h, np.ones((4, 3), int))[0].dtype == np.float32
    assert doubled(cell)(h.astype(np.float32), x)[1].dtype == np.float64
    for p in cell.parameters():
        p.data = p.data.astype(np.float16)
    assert cell(h, x)[1].dtype == np.float16
    assert cell(np.zeros(2), [1, 2, 3])[1].shape == (2,)
    with pytest.raises(TypeError, match="complex"):
        cell(h, x * 1j)


WRONG = [
    (lambda c: c(np.zeros((2, 4)), np.zeros((2, 5))),
     r"RNNCell\(3, 4\): the input has 5 features on axis 1, expected 3 \(input shape \(2, 5\)\)"),
    (lambda c: c(np.zeros(4), np.zeros(5)), r"the input has 5 features on axis 0, expected 3 \(input shape \(5,\)\)"),
    (lambda c: c(np.zeros((2, 4)), np.zeros((7, 2, 3))),
     r"the input has 3 axes, expected \(in,\) or \(N, in\) \(input shape \(7, 2, 3\)\)"),
    (lambda c: c(np.zeros((2, 4)), 1.0), r"the input has 0 axes"),
    (lambda c: c(np.zeros((2, 5)), np.zeros((2, 3))), r"the state h must have the shape \(2, 4\) \(state shape \(2, 5\)"),
    (lambda c: c(np.zeros(()), np.zeros(3)), r"the state h must have the shape \(4,\) \(state shape \(\)"),
    (lambda c: c(np.zeros((1, 2, 4)), np.zeros((2, 3))), r"the state h must have the shape \(2, 4\) \(state shape \(1, 2, 4\)"),
    (lambda c: c(np.zeros((1, 4)), np.zeros((2, 3))),
     r"the state h is of batch size 1, the input is of batch size 2: call flux.reset\(model\) before a batch of another size, "
     r"or give a state of this one \(state shape \(1, 4\), input shape \(2, 3\)\)"),
    (lambda c: c(np.zeros(4), np.zeros((2, 3))), r"is of one sample without a batch axis, the input is of batch size 2"),
    (lambda c: c(np.zeros((2, 4)), np.zeros(3)), r"is of batch size 2, the input is one sample without a batch axis"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(RNNCell(3, 4))


def test_other_mistakes():
    x = np.zeros((2, 3))
    with pytest.raises(TypeError, match=r"LSTMCell\(3, 4\): the state is the pair \(h, c\), got Tensor"):
        LSTMCell(3, 4)(flux.tensor(np.zeros((2, 4))), x)
    with pytest.raises(TypeError, match=r"the state is the pair \(h, c\), got 3 values"):
        LSTMCell(3, 4)((x, x, x), x)
    with pytest.raises(ValueError, match=r"the state c is of batch size 3, the input is of batch size 2"):
        LSTMCell(3, 4)((np.zeros((2, 4)), np.zeros((3, 4))), x)
    with pytest.raises(TypeError, match=r"GRUCell\(3, 4\): the state h is an array, got tuple"):
        GRUCell(3, 4)((x, x), x)
    with pytest.raises(TypeError, match=r"RNNCell\(in, out\): `out` must be a whole number, got None"):
        RNNCell(3)
    with pytest.raises(TypeError, match=r"RNNCell\(in, out\): `in` must be a whole number, got None"):
        RNNCell(None, 3)
    with pytest.raises(TypeError, match=r"GRUCell: give the sizes as a pair or as two numbers, got \(3, 4, 5\) and None"):
        GRUCell((3, 4, 5))
    with pytest.raises(TypeError, match=r"RNNCell: the activation must be a function, got 'relu'"):
        RNNCell(3, 4, "relu")
    with pytest.raises(ValueError, match=r"GRUCell: the bias has shape \(4,\), expected \(12,\)"):
        GRUCell(3, 4, bias=np.zeros(4))
    with pytest.raises(TypeError, match="`nonlinearity=` is spelled the activation, after the sizes here"):
        RNNCell(3, 4, nonlinearity="relu")


@pytest.mark.parametrize("kind", CELLS)
def test_no_samples_and_no_features(kind):
    cell = kind(0, 2)
    state, y = cell(cell.initial_state(3), np.zeros((3, 0)))
    assert y.shape == (3, 2)
    assert not y.data.any()
    cell = kind(3, 2)
    value, grads = flux.withgradient(lambda m: m(m.initial_state(0), np.zeros((0, 3)))[1].sum(), cell)
    assert value == 0
    assert grads.weight_ih.shape == cell.weight_ih.shape
    assert not grads.weight_ih.any()


@pytest.mark.parametrize("kind", CELLS)
def test_recur_of_a_cell_is_the_loop_by_hand(kind):
    cell = doubled(kind(3, 2))
    xs = np.random.default_rng(0).standard_normal((5, 4, 3))
    rnn, h = Recur(cell), cell.initial_state(4)
    ys = rnn.map(xs)
    for x, y in zip(xs, ys, strict=True):
        h, wanted = cell(h, x)
        np.testing.assert_array_equal(y.data, wanted.data)
    assert rnn.reset().map(xs[:, 0]).shape == (5, 2)  # one sample
    state = rnn.reset().state
    assert not (state[0] if kind is LSTMCell else state).data.any()
