"""RNN, LSTM, GRU and GRUv3: against PyTorch, against their cells step by step, and by what they promise of their state."""

import copy
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import GRU, LSTM, RNN, Chain, Dense, GRUCell, GRUv3, GRUv3Cell, LSTMCell, Recur, RNNCell, relu, reset, tanh

KINDS = [RNN, LSTM, GRU, GRUv3]
CELLS = {RNN: RNNCell, LSTM: LSTMCell, GRU: GRUCell, GRUv3: GRUv3Cell}


def doubled(model):
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    return model


def randomised(model, seed=0):
    """In float64, with random biases and initial states."""
    rng = np.random.default_rng(seed)
    for p in doubled(model).parameters():
        if p.ndim == 1:
            p.data += rng.uniform(-0.5, 0.5, p.shape)
    return model


def leaves(state):
    """The parts of a nested state, in order."""
    return [a for s in state for a in leaves(s)] if isinstance(state, tuple | list) else [state]


def flat(state):
    """Their arrays."""
    return [s.data for s in leaves(state)]


def assert_states(got, want, **tolerance):
    for a, b in zip(flat(got), flat(want), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_rnn_essentially_acts_as_a_dense_layer_but_with_the_output_fed_back_into_the_input_each_time_step():
    rnn, x = randomised(RNN(2, 3)), np.random.default_rng(0).standard_normal((4, 2))
    dense = Dense(np.concatenate([rnn.weight_ih_l0.data, rnn.weight_hh_l0.data], 1), rnn.bias_ih_l0.data, tanh)
    y = np.zeros(3)
    for step in x:
        y = dense(np.concatenate([step, y])).data
        np.testing.assert_allclose(rnn(step).data, y, rtol=1e-12)


def test_lstm_and_gru_behave_like_an_rnn():
    for layer in (LSTM(4, 8), GRU(4, 8), GRUv3(4, 8), RNN(4, 8), RNN(4, 8, relu)):
        assert isinstance(layer, Recur)
        seq = layer(np.zeros((5, 32, 4), "float32"))  # (T, N, out)
        assert seq.shape == (5, 32, 8)
        assert layer(np.zeros((32, 4))).shape == (32, 8)
        assert reset(layer)(np.zeros(4)).shape == (8,)


# -- against PyTorch ---------------------------------------------------------------------------------------------------


def torch_pair(name, *args, seed=0, **keywords):
    """A torch layer in float64 and ours with its weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    ref = getattr(torch.nn, name)(*args, **keywords).double()
    own = {"bias": True, **keywords}
    act = [relu] if own.pop("nonlinearity", "") == "relu" else []
    layer = doubled(getattr(flux, name)(*args, *act, hidden_bias=own["bias"], **own))
    layer.load_state_dict({k: v.detach().numpy() for k, v in ref.state_dict().items()})
    assert list(layer.state_dict()) == list(ref.state_dict())
    return torch, ref, layer


def ours_of(parts):
    """torch's (layers, N, H) of each part in the form of ours."""
    layers = [tuple(p[k] for p in parts) for k in range(len(parts[0]))]
    layers = [s[0] if len(s) == 1 else s for s in layers]
    return layers[0] if len(layers) == 1 else tuple(layers)


SETTINGS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    ("LSTM", {}),
    ("LSTM", {"bias": False, "bidirectional": True}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("GRU", {}),
    ("GRU", {"num_layers": 3}),
    ("GRU", {"num_layers": 2, "bidirectional": True}),
]


@pytest.mark.parametrize(("name", "keywords"), SETTINGS)
@pytest.mark.parametrize("lengths", [None, [5, 1, 3]])
@pytest.mark.parametrize("start", [False, True])
def test_outputs_states_and_gradients_are_those_of_torch(name, keywords, lengths, start):
    torch, ref, layer = torch_pair(name, 3, 4, **keywords)
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3, 3))
    first = bool(keywords.get("batch_first"))
    tx = torch.tensor(x.transpose(1, 0, 2) if first else x, requires_grad=True)
    shape = (ref.num_layers * (1 + ref.bidirectional), 3, 4)
    parts = [rng.standard_normal(shape) for _ in range(1 + (name == "LSTM"))]
    given = [torch.tensor(p, requires_grad=True) for p in parts] if start else []
    tstate = (tuple(given) if name == "LSTM" else given[0]) if start else None
    if lengths is None:
        ty, tlast = ref(tx, tstate)
    else:
        packed = pack_padded_sequence(tx, torch.tensor(lengths), batch_first=first, enforce_sorted=False)
        ty, tlast = ref(packed, tstate)
        ty = pad_packed_sequence(ty, batch_first=first, total_length=5)[0]
    tlast = tlast if name == "LSTM" else (tlast,)
    (ty**3).sum().backward(retain_graph=True)
    sum((s**2).sum() for s in tlast).backward()

    def loss(m, x, *parts):
        y = m(x, ours_of(parts) if parts else None, lengths=lengths)
        return (y**3).sum() + sum((s**2).sum() for s in leaves(m.state)), y, leaves(m.state)

    (_, y, states), (grads, dx, *dparts) = flux.withgradient(loss, layer, tx.detach().numpy(), *(parts if start else ()))
    close = {"rtol": 1e-8, "atol": 1e-10}
    np.testing.assert_allclose(y, ty.detach().numpy(), **close)
    for a, b in zip(states, leaves(ours_of([s.detach().numpy() for s in tlast])), strict=True):
        np.testing.assert_allclose(a, b, **close)
    np.testing.assert_allclose(dx, tx.grad.numpy(), **close)
    for d, t in zip(dparts, given, strict=True):
        np.testing.assert_allclose(d, t.grad.numpy(), **close)
    for key, p in ref.named_parameters():
        np.testing.assert_allclose(getattr(grads, key), p.grad.numpy(), err_msg=key, **close)


@pytest.mark.parametrize(("name", "keywords"), [("RNN", {}), ("LSTM", {"bidirectional": True}), ("GRU", {"num_layers": 2})])
def test_second_derivatives_are_those_of_torch(name, keywords):
    torch, ref, layer = torch_pair(name, 2, 3, **keywords)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 2, 2))
    names = [k for k, _ in ref.named_parameters()]
    us = {k: rng.standard_normal(p.shape) for k, p in ref.named_parameters()}
    tx = torch.tensor(x, requires_grad=True)
    targets = [*ref.parameters(), tx]
    grads = torch.autograd.grad((ref(tx)[0] ** 3).sum(), targets, create_graph=True)
    total = sum((g * torch.tensor(us[k])).sum() for k, g in zip(names, grads, strict=False)) + (grads[-1] ** 2).sum()
    wanted = torch.autograd.grad(total, targets)

    def outer(m, x):
        inner, dx = flux.gradient(lambda m, x: (m(x) ** 3).sum(), m, x)
        return sum((getattr(inner, k) * us[k]).sum() for k in names) + (dx**2).sum()

    second, dx = flux.gradient(outer, layer, x)
    for key, want in zip(names, wanted, strict=False):
        np.testing.assert_allclose(getattr(second, key), want.numpy(), rtol=1e-7, atol=1e-9, err_msg=key)
    np.testing.assert_allclose(dx, wanted[-1].numpy(), rtol=1e-7, atol=1e-9)


def test_the_default_weights_of_a_torch_layer_load_in_float32():
    torch = pytest.importorskip("torch")
    ref = torch.nn.LSTM(4, 8, num_layers=2, bidirectional=True)
    layer = LSTM(4, 8, num_layers=2, bidirectional=True, hidden_bias=True)
    layer.load_state_dict({k: v.detach().numpy() for k, v in ref.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(layer(x).data, ref(torch.tensor(x))[0].detach().numpy(), atol=1e-6)
    assert layer(x).dtype == np.float32


# -- gradients by finite differences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [
    {"hidden_bias": True, "train_init": True},
    {"num_layers": 2, "bidirectional": True, "bias": False, "train_init": True},
])
def test_gradients_of_both_orders(kind, settings):
    layer = randomised(kind(2, 2, **settings))
    x = np.random.default_rng(0).standard_normal((3, 2, 2))
    mask = np.array([[True, True], [True, False], [False, True]])
    before = reset(layer)._memory.left
    flux.check(lambda x: layer(x, mask=mask), x, few=3, directions=1)
    assert layer._memory.left is before


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_single_steps(kind):
    layer = randomised(kind(2, 2, num_layers=2, train_init=True))
    x = np.random.default_rng(0).standard_normal((3, 2, 2))
    flux.check(lambda x: sum((layer(step) ** 2).sum() for step in x), x, few=3, directions=1)


# -- one step and a whole sequence -------------------------------------------------------------------------------------


@given(st.sampled_from(KINDS), st.integers(0, 4), st.integers(0, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 2),
       st.booleans(), st.booleans())
def test_step_by_step_equals_whole_sequence(kind, steps, batch, fan_in, out, layers, hidden_bias, train_init):
    layer = randomised(kind(fan_in, out, num_layers=layers, hidden_bias=hidden_bias, train_init=train_init))
    x = np.random.default_rng(steps).standard_normal((steps, batch, fan_in))
    whole = layer(x)
    last = layer.state
    assert whole.shape == (steps, batch, out)
    reset(layer)
    for t in range(steps):
        np.testing.assert_allclose(layer(x[t]).data, whole.data[t], rtol=1e-10, atol=1e-12)
    if steps:
        assert_states(layer.state, last, rtol=1e-10, atol=1e-12)
    if steps and batch:
        one = reset(layer).map(x[:, 0])  # one sample
        np.testing.assert_allclose(one.data, whole.data[:, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_a_recur_around_a_pure_cell(kind):
    layer = randomised(kind(3, 4, hidden_bias=True))
    cell = CELLS[kind](3, 4, hidden_bias=True)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    doubled(cell).load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    np.testing.assert_allclose(Recur(cell).map(x).data, layer(x).data, rtol=1e-12)
    h, y = layer.cell(layer.initial_state(2), x[0])
    np.testing.assert_allclose(y.data, layer(x).data[0], rtol=1e-12)
    left = layer.state
    layer.cell(h, x[1])
    assert layer.state is left  # pure
    np.testing.assert_allclose(Recur(layer.cell, layer.initial_state(2)).map(x).data, layer(x).data, rtol=1e-12)


def test_gradients_step_by_step_are_those_of_the_whole_sequence():
    layer = randomised(LSTM(3, 4, num_layers=2))
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    whole = flux.gradient(lambda m, x: (m(x) ** 3).sum(), layer, x)
    reset(layer)
    steps = flux.gradient(lambda m, x: (m.map(x) ** 3).sum(), layer, x)
    np.testing.assert_allclose(steps[1], whole[1], rtol=1e-9)
    for k in layer.state_dict():
        np.testing.assert_allclose(getattr(steps[0], k), getattr(whole[0], k), rtol=1e-9)


def test_an_activation_of_the_users_own():
    for act, n in ((lambda z: flux.tanh(z), 1), (flux.softmax, 2)):
        own = randomised(RNN(2, 3, act, num_layers=n, bidirectional=True))
        x = np.random.default_rng(0).standard_normal((4, 2, 2))
        y = own(x, lengths=[4, 2])
        assert y.shape == (4, 2, 6)
        assert not y.data[2:, 1].any()
        flux.check(lambda x: own(x, lengths=[4, 2]), x, few=2, directions=1)  # noqa: B023
    other = RNN(2, 3, num_layers=2, bidirectional=True)
    own = RNN(2, 3, lambda z: flux.tanh(z), num_layers=2, bidirectional=True)
    own.load_state_dict(other.state_dict())
    np.testing.assert_allclose(own(x).data, other(x).data, rtol=1e-5, atol=1e-6)
    assert own(np.zeros((0, 2, 2))).shape == (0, 2, 6)


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_continues_and_a_sequence_begins_anew(kind):
    layer = randomised(kind(2, 3))
    x = np.random.default_rng(0).standard_normal((6, 4, 2))
    whole = layer(x).data
    np.testing.assert_array_equal(layer(x).data, whole)  # again from the initial state
    layer(x[:3])
    np.testing.assert_allclose(layer(x[3]).data, whole[3], rtol=1e-10)  # from what the sequence has left
    np.testing.assert_allclose(layer(x[4]).data, whole[4], rtol=1e-10)
    np.testing.assert_allclose(layer(x[:2, :1]).data, whole[:2, :1], rtol=1e-10)  # another batch size: a sequence may
    assert flat(reset(layer).state)[0].shape == (3,)
    assert not any(a.any() for a in flat(layer.state))


def test_stateful_sequences_continue():
    layer = randomised(GRU(2, 3, num_layers=2, stateful=True))
    x = np.random.default_rng(0).standard_normal((6, 4, 2))
    whole = reset(layer)(x).data
    reset(layer)
    parts = [layer(x[:2]), layer(x[2]).reshape(1, 4, 3), layer(x[3:])]
    np.testing.assert_allclose(np.concatenate([p.data for p in parts]), whole, rtol=1e-10)
    with pytest.raises(ValueError, match=r"GRU\(2, 3, num_layers=2, stateful=True\): the state h is of batch size 4, the input "
                       r"is of batch size 1: call flux.reset\(model\) before a batch of another size"):
        layer(x[:, :1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_batch_size_without_reset_raises(kind):
    layer = kind(2, 3)
    layer(np.zeros((32, 2)))
    before = layer.state
    for x, now in ((np.zeros((16, 2)), "is of batch size 16"), (np.zeros(2), "is one sample without a batch axis")):
        with pytest.raises(ValueError, match=rf"{kind.__name__}\(2, 3\): the state h is of batch size 32, the input {now}: "
                           r"call flux.reset\(model\) before a batch of another size"):
            layer(x)
        assert layer.state is before
    assert reset(layer)(np.zeros((16, 2))).shape == (16, 3)


def test_truncated_backpropagation_equals_the_loop_by_hand():
    layer = randomised(LSTM(2, 3, stateful=True))
    x = np.random.default_rng(0).standard_normal((6, 4, 2))
    cell, state = layer.cell, layer.initial_state(4)
    for k in range(0, 6, 2):
        grads = flux.gradient(lambda m, k=k: (m(x[k : k + 2]) ** 2).sum(), layer)

        def by_hand(m, k=k, state=state):
            total = 0
            for step in x[k : k + 2]:
                state, y = cell(state, step)
                total = total + (y**2).sum()
            return total, state

        (_, state), wanted = flux.withgradient(by_hand, layer)
        for name in layer.state_dict():
            np.testing.assert_allclose(getattr(grads, name), getattr(wanted, name), rtol=1e-8, atol=1e-10)


def test_within_one_scope_the_state_stays_connected_until_it_is_truncated():
    layer = randomised(GRU(2, 3, stateful=True))
    x = np.random.default_rng(0).standard_normal((4, 1, 2))

    def loss(m, x, cut):
        reset(m)
        m(x[:2])
        if cut:
            flux.truncate(m)
        return (m(x[2:]) ** 2).sum()

    whole, parts = (flux.gradient(lambda x: loss(layer, x, cut), x) for cut in (False, True))  # noqa: B023
    assert whole[:2].any()
    assert not parts[:2].any()
    np.testing.assert_allclose(parts[2:], whole[2:])
    with flux.record():  # two backward passes in one scope need it
        (layer(x) ** 2).sum().backward()
        flux.truncate(layer)
        (layer(x) ** 2).sum().backward()
        with pytest.raises(flux.TapeError, match="used and freed"):
            (layer(x) ** 2).sum().backward()


@pytest.fixture
def xs():
    return np.random.default_rng(0).standard_normal((5, 3, 2))


def test_a_state_may_be_given(xs):
    for layer in (randomised(LSTM(2, 3, num_layers=2)), randomised(GRU(2, 3)), randomised(RNN(2, 3, bidirectional=True))):
        layer(xs[:2])
        state = layer.state
        if not layer.bidirectional:
            whole = layer(xs)
            np.testing.assert_allclose(layer(xs[2:], state).data, whole.data[2:], rtol=1e-10)
            np.testing.assert_allclose(layer(xs[2], state=state).data, whole.data[2], rtol=1e-10)
        layer.state = state
        assert_states(layer.state, state)
    dh = flux.gradient(lambda h: GRU(2, 3)(xs, h).sum(), np.zeros((3, 3)))
    assert dh.shape == (3, 3)
    assert dh.any()


def test_state_is_a_constant_in_the_next_scope_and_in_no_state_dict(xs):
    layer = LSTM(2, 3, stateful=True)
    for _ in range(3):
        with flux.record():
            loss = (layer(xs) ** 2).sum()
        loss.backward()
    assert layer(xs).node is None
    assert list(layer.state_dict()) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"]
    other = copy.deepcopy(layer)
    assert_states(other.state, layer.state)
    other(xs)
    with pytest.raises(AssertionError):
        assert_states(other.state, layer.state)
    assert_states(flux.cpu(layer).state, layer.state)


def test_state_follows_the_dtype_of_the_weights(xs):
    layer = LSTM(2, 3)
    layer(xs[0])
    doubled(layer)
    assert layer(xs[1]).dtype == np.float64
    assert layer.state[1].dtype == np.float64


def test_a_failed_call_leaves_the_state_as_it_was(xs):
    calls = itertools.count()

    def breaks(z):
        if next(calls) >= 3:
            raise ArithmeticError("broken")
        return flux.tanh(z)

    layer = RNN(2, 3, breaks, num_layers=2)
    layer(xs[0])
    before = layer.state
    with pytest.raises(ArithmeticError):
        layer(xs[1])  # in the second layer
    with pytest.raises(ArithmeticError):
        layer(xs)
    with pytest.raises(ArithmeticError):
        layer.map(xs)
    assert layer.state is before


def test_check_hessian_and_outputsize_leave_the_state_as_they_found_it(xs):
    layer = randomised(GRU(2, 2))
    layer(xs[0])
    before = flat(layer.state)[0].copy()
    flux.check(layer, xs[1], few=2, directions=1)
    flux.hessian(lambda x: (layer(x) ** 2).sum(), xs[1])
    assert flux.outputsize(Chain(layer, Dense(2, 7)), (5, 3, 2)) == (5, 3, 7)
    np.testing.assert_array_equal(flat(layer.state)[0], before)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_without_arithmetic(kind):
    assert flux.outputsize(kind(2, 3, num_layers=2, bidirectional=True), (5, 4, 2)) == (5, 4, 6)
    assert flux.outputsize(kind(2, 3, batch_first=True), (4, 5, 2)) == (4, 5, 3)
    assert flux.outputsize(kind(2, 3), (4, 2)) == (4, 3)
    assert flux.outputsize(kind(2, 3), (2,)) == (3,)
    with pytest.raises(ValueError, match="the input has 3 features on axis 2, expected 2"):
        flux.outputsize(kind(2, 3), (5, 4, 3))


def test_a_size_left_open():
    model = Chain(LSTM(None, 8, num_layers=2), Dense(None, 3))
    assert repr(LSTM(None, 8)) == "LSTM(None, 8)  # size not known yet"
    assert reset(model) is model
    assert model[0].map(np.zeros((3, 2, 4))).shape == (3, 2, 8)
    assert reset(model)(np.zeros((5, 2, 4))).shape == (5, 2, 3)
    assert model[0].weight_ih_l0.shape == (32, 4)
    layer = RNN((None, 3), relu)
    layer.load_state_dict(RNN(7, 3, relu).state_dict())
    assert (layer.in_, layer.activation) == (7, relu)


# -- several lengths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_every_sequence_is_as_if_it_were_alone(kind, batch_first):
    layer = randomised(kind(2, 3, num_layers=2, bidirectional=True, batch_first=batch_first))
    rng = np.random.default_rng(0)
    lengths = [4, 0, 6, 1]
    x = rng.standard_normal((4, 6, 2))
    batched = x if batch_first else x.transpose(1, 0, 2)
    y = layer(batched, lengths=lengths)
    state = layer.state
    mask = np.arange(6)[:, None] < lengths
    np.testing.assert_array_equal(layer(batched, mask=mask.T if batch_first else mask).data, y.data)
    y = y.data if batch_first else y.data.transpose(1, 0, 2)
    for k, n in enumerate(lengths):
        alone = layer(x[k : k + 1, :n] if batch_first else x[k, :n, None])
        alone = alone.data.reshape(n, 6)
        np.testing.assert_allclose(y[k, :n], alone, rtol=1e-9, atol=1e-12)
        assert not y[k, n:].any()
        for a, b in zip(flat(state), flat(layer.state), strict=True):
            np.testing.assert_allclose(a[k], b[0], rtol=1e-9, atol=1e-12)


def test_padding_changes_nothing():
    layer = randomised(GRU(2, 3))
    x = np.random.default_rng(0).standard_normal((5, 2, 2))
    lengths = np.array([2, 5])
    y, back = flux.vjp(lambda x: layer(x, lengths=lengths), x)
    changed = x.copy()
    changed[2:, 0] = np.nan
    np.testing.assert_array_equal(layer(changed, lengths=lengths).data, y)
    dx = back(np.ones_like(y))
    assert not dx[2:, 0].any()
    assert dx[:2, 0].any()
    for same in (flux.tensor(lengths), lengths.tolist(), lengths.astype(np.uint8)):
        np.testing.assert_array_equal(layer(x, lengths=same).data, y)
    np.testing.assert_array_equal(layer(x, mask=flux.tensor(np.arange(5)[:, None] < lengths)).data, y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [2, 40])  # few features are multiplied inside of the pass, many before it
def test_nan_where_there_is_no_step_reaches_no_gradient(kind, inputs):
    layer = randomised(kind(inputs, 3, num_layers=2, bidirectional=True))
    x = np.random.default_rng(0).standard_normal((5, 2, inputs))
    lengths = np.array([2, 5])
    changed = x.copy()
    changed[2:, 0] = np.nan
    wanted, grads = (flux.gradient(lambda m, x: (m(x, lengths=lengths) ** 2).sum(), layer, x) for x in (x, changed))
    assert not grads[1][2:, 0].any()
    for name, _ in layer.named_parameters():
        np.testing.assert_array_equal(getattr(grads[0], name), getattr(wanted[0], name))


def test_holes_are_skipped():
    layer = randomised(LSTM(2, 3))
    x = np.random.default_rng(0).standard_normal((5, 1, 2))
    mask = np.array([False, True, True, False, True])[:, None]
    y = layer(x, mask=mask).data
    state = layer.state
    np.testing.assert_allclose(y[mask[:, 0]], layer(x[mask[:, 0]]).data, rtol=1e-10)
    assert_states(state, layer.state, rtol=1e-10)


def test_lengths_in_a_stateful_layer():
    layer = randomised(GRU(2, 3, stateful=True))
    x = np.random.default_rng(0).standard_normal((5, 2, 2))
    layer(x[:3], lengths=[1, 3])
    y = layer(x[3:])
    alone = reset(layer)(np.concatenate([x[:1, :1], x[3:, :1]]))
    np.testing.assert_allclose(y.data[:, :1], alone.data[1:], rtol=1e-10)


# -- keywords ----------------------------------------------------------------------------------------------------------


def test_the_initial_state_trains_and_is_saved(xs):
    layer = LSTM(2, 4, train_init=True, num_layers=2)
    names = [f"{a}_l{k}" for k in (0, 1) for a in ("weight_ih", "weight_hh", "bias_ih", "h0", "c0")]
    assert list(layer.state_dict()) == names
    assert layer.h0_l0.shape == layer.c0_l1.shape == (4,)
    grads = flux.gradient(lambda m: (m(xs) ** 2).sum(), layer)
    assert all(getattr(grads, k).any() for k in names)
    grads = flux.gradient(lambda m: (m(xs[0]) ** 2).sum(), reset(layer))
    assert grads.c0_l1.any()
    layer.c0_l1.data[:] = 7
    assert flat(reset(layer).state)[3].tolist() == [7] * 4
    other = LSTM(2, 4, train_init=True, num_layers=2)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other(xs).data, layer(xs).data)
    both = GRU(2, 4, train_init=True, bidirectional=True)
    assert "h0_l0_reverse" in both.state_dict()


def test_batch_first(xs):
    layer = randomised(LSTM(2, 3))
    other = randomised(LSTM(2, 3, batch_first=True))
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other(xs.transpose(1, 0, 2)).data.transpose(1, 0, 2), layer(xs).data)
    assert_states(other.state, layer.state)
    assert other(xs[0]).shape == (3, 3)  # one step is one step


def test_bidirectional_is_two_layers(xs):
    both = randomised(GRU(2, 3, bidirectional=True))
    sd = both.state_dict()
    ways = [doubled(GRU(2, 3)) for _ in range(2)]
    ways[0].load_state_dict({k: v for k, v in sd.items() if not k.endswith("_reverse")})
    ways[1].load_state_dict({k.removesuffix("_reverse"): v for k, v in sd.items() if k.endswith("_reverse")})
    y = both(xs).data
    np.testing.assert_allclose(y[..., :3], ways[0](xs).data, rtol=1e-10)
    np.testing.assert_allclose(y[..., 3:], ways[1](xs[::-1]).data[::-1], rtol=1e-10)
    assert_states(both.state, (ways[0].state, ways[1].state), rtol=1e-10)


def test_dropout_between_layers(xs):
    layer = GRU(2, 64, num_layers=2, dropout=0.5, rng=flux.Generator(3))
    first, second = (GRU(n, 64) for n in (2, 64))
    sd = layer.state_dict()
    for k, part in enumerate((first, second)):
        part.load_state_dict({key.replace(f"_l{k}", "_l0"): v for key, v in sd.items() if key.endswith(f"_l{k}")})
    plain = second(first(xs)).data
    np.testing.assert_allclose(layer(xs).data, plain, rtol=1e-5, atol=1e-6)  # test mode
    twin = copy.deepcopy(layer)
    flux.trainmode(layer)
    y = layer(xs).data
    assert np.abs(y - plain).max() > 1e-3
    draw = flux.dropout(first(xs), 0.5, rng=copy.deepcopy(twin.rng), active=True)
    np.testing.assert_allclose(y, second(draw).data, rtol=1e-5, atol=1e-6)
    with flux.record():
        np.testing.assert_array_equal(twin(xs).data, y)  # automatic
    assert reset(layer)(xs[0]).shape == (3, 64)
    flux.check(layer, xs, few=1, directions=1, order=1)
    once = GRU(2, 3, num_layers=2, dropout=1.0)
    assert flux.trainmode(once)(xs).shape == (5, 3, 3)


def test_biases_and_initialisers():
    assert LSTM(2, 3).bias_ih_l0.tolist() == [0] * 3 + [1] * 3 + [0] * 6
    assert LSTM(2, 3, num_layers=2, bidirectional=True).bias_ih_l1_reverse.tolist() == [0] * 3 + [1] * 3 + [0] * 6
    assert GRU(2, 3).bias_ih_l0.tolist() == [0] * 9
    assert LSTM(2, 3, init_bias=flux.ones, hidden_bias=True).bias_hh_l0.tolist() == [1] * 12
    layer = RNN(2, 3, bias=np.arange(3.0), num_layers=2)
    assert layer.bias_ih_l0.tolist() == layer.bias_ih_l1.tolist() == [0, 1, 2]
    layer.bias_ih_l0.data[:] = 5
    assert layer.bias_ih_l1.tolist() == [0, 1, 2]
    assert RNN(2, 3, bias=False).bias_ih_l0 is None
    assert LSTM(2, 3).parameters()[1].shape == (12, 3)
    layer = GRU(2, 3, init=flux.ones, init_recurrent=flux.zeros)
    assert layer.weight_ih_l0.data.all()
    assert not layer.weight_hh_l0.data.any()
    a, b = (LSTM(2, 3, num_layers=2, rng=flux.Generator(1)).state_dict() for _ in range(2))
    assert all((a[k] == b[k]).all() for k in a)
    assert (a["weight_hh_l0"] != a["weight_hh_l1"]).any()


@pytest.mark.parametrize("text", [
    "LSTM(4, 8)", "GRU(4, 8, num_layers=2)", "GRUv3(4, 8, bias=False, bidirectional=True)", "RNN(4, 8, relu)", "RNN(4, 8)",
    "RNN(4, 8, identity, hidden_bias=True, stateful=True)", "LSTM(4, 8, num_layers=2, batch_first=True, dropout=0.5)",
    "GRU(4, 8, init=orthogonal, init_recurrent=orthogonal, init_bias=ones, train_init=True)",
])
def test_printing(text):
    layer = eval(text, vars(flux))
    assert repr(layer).split("  #")[0] == text
    layer(np.zeros((1, 1, 4)))
    assert repr(layer).split("  #")[0] == text
    assert {k: v.shape for k, v in eval(text, vars(flux)).state_dict().items()} == \
        {k: v.shape for k, v in layer.state_dict().items()}


def test_signatures_and_counts():
    assert repr(LSTM(4, 8)) == "LSTM(4, 8)  # 416 parameters"
    assert RNN((4, 8), relu).activation is relu
    assert LSTM((4, 8)).out == 8
    layer = GRU(4, 8, num_layers=2, bidirectional=True)
    assert (layer.in_, layer.out, layer.num_layers, layer.bidirectional, layer.bias) == (4, 8, 2, True, True)
    assert layer.weight_ih_l1.shape == (24, 16)
    assert sum(p.size for p in layer.parameters()) == 2 * (24 * 4 + 24 * 8 + 24) + 2 * (24 * 16 + 24 * 8 + 24)


# -- in models ---------------------------------------------------------------------------------------------------------


def test_a_chain_of_recurrent_and_dense_layers():
    model = Chain(flux.Embedding(6, 3), LSTM(3, 4), Dense(4, 6))
    i = np.random.default_rng(0).integers(0, 6, (5, 2))
    assert model(i).shape == (5, 2, 6)
    assert [k for k in model.state_dict() if k.startswith("1.")] == ["1.weight_ih_l0", "1.weight_hh_l0", "1.bias_ih_l0"]
    assert model(i[0]).shape == (2, 6)  # a step, from where the sequence has ended
    with pytest.raises(ValueError, match=r"Chain\[1\] LSTM\(3, 4\): the state h is of batch size 2, the input is one sample"):
        model(i[0, 0])
    assert reset(model)(i[0, 0]).shape == (6,)


@pytest.mark.parametrize("stateful", [False, True])
def test_training_lowers_the_loss(stateful):
    flux.seed(0)
    model = Chain(GRU(3, 8, stateful=stateful), Dense(8, 3))
    i = np.arange(4 * 5).reshape(4, 5) % 3  # 0 1 2 0 1 ...: the next one is easy to tell
    data = [(np.eye(3, dtype=np.float32)[i[:, :-1].T], i[:, 1:].T)] * 20
    loss = lambda m, x, y: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    before = loss(reset(model), *data[0]).item()
    flux.train(loss, model, data, flux.Adam(0.03))
    assert loss(reset(model), *data[0]).item() < before / 3


def test_threads_have_their_own_copies():
    model = randomised(LSTM(2, 3))
    xs = np.random.default_rng(0).standard_normal((4, 5, 2, 2))
    wanted = [flux.gradient(lambda m, x: (m(x) ** 2).sum(), model, x)[1] for x in xs]
    steps = [reset(model).map(x).data for x in xs]
    found, walked = [None] * 4, [None] * 4

    def work(k):
        for _ in range(5):
            found[k] = flux.gradient(lambda m, x: (m(x) ** 2).sum(), model, xs[k])[1]  # sequences: the model itself
            walked[k] = reset(own[k]).map(xs[k]).data  # steps: a copy

    own = [copy.deepcopy(model) for _ in xs]
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(4):
        np.testing.assert_array_equal(found[k], wanted[k])
        np.testing.assert_allclose(walked[k], steps[k], rtol=1e-12)


def test_inputs_of_any_layout_are_left_as_they_are():
    layer = randomised(GRU(3, 4, bidirectional=True))
    wide = np.random.default_rng(0).standard_normal((9, 4, 6))
    for x in (wide[::2, :, ::2], np.asfortranarray(wide[:5, :, :3]), wide[4::-1, ::-1, :3],
              np.broadcast_to(wide[0, :, :3], (5, 4, 3))):
        before = x.copy()
        f = lambda m, x: (m(x) ** 2).sum()  # noqa: E731
        value, (grads, dx) = flux.withgradient(f, layer, x)
        wanted, (grads0, dx0) = flux.withgradient(f, layer, np.ascontiguousarray(x))
        np.testing.assert_allclose(value, wanted, rtol=1e-12)
        np.testing.assert_allclose(dx, dx0, rtol=1e-9)
        np.testing.assert_allclose(grads.weight_hh_l0, grads0.weight_hh_l0, rtol=1e-9)
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (0, 0, 3), (1, 1, 3)])
def test_no_steps_and_no_samples(kind, shape):
    layer = kind(3, 4, bidirectional=True, num_layers=2, train_init=True)
    y, (grads, dx) = flux.withgradient(lambda m, x: ((y := m(x)).sum(), y), layer, np.ones(shape, np.float32))
    assert y[1].shape == (*shape[:2], 8)
    assert dx.shape == shape
    assert flat(layer.state)[0].shape == (shape[1], 4)
    assert flux.gradient(lambda m: sum(s.sum() for s in m.initial_state(2)[0]), layer).h0_l0.shape == (4,)


def test_whole_sequences_are_one_operation_each_way(xs):
    layer = LSTM(2, 3)
    with flux.record():
        y = layer(xs)
        assert y.node.op.name == "lstm"
    with flux.record():
        assert GRU(2, 3)(xs).node.op.name == "gru"
        assert RNN(2, 3)(xs).node.op.name == "rnn"


# -- mistakes ----------------------------------------------------------------------------------------------------------

X = np.zeros((5, 3, 2))
MISTAKES = [
    (lambda: LSTM(2, 4)(np.zeros((5, 3, 7))),
     r"LSTM\(2, 4\): the input has 7 features on axis 2, expected 2 \(input shape \(5, 3, 7\)\)"),
    (lambda: LSTM(2, 4)(np.zeros((3, 7))), r"the input has 7 features on axis 1, expected 2"),
    (lambda: GRU(2, 4)(np.zeros((1, 5, 3, 2))),
     r"GRU\(2, 4\): the input has 4 axes, expected one step \(in,\) or \(N, in\), or a whole sequence \(T, N, in\) \(input"),
    (lambda: GRU(2, 4, batch_first=True)(1.0), r"the input has 0 axes, .* sequence \(N, T, in\)"),
    (lambda: GRU(2, 4, bidirectional=True)(np.zeros((3, 2))),
     r"a bidirectional layer takes whole sequences \(T, N, in\), no single steps \(input shape \(3, 2\)\)"),
    (lambda: GRU(2, 4, bidirectional=True).cell(np.zeros(4), np.zeros(2)), r"takes whole sequences, it has no cell"),
    (lambda: GRU(2, 4).cell(np.zeros((3, 4)), X), r"the input has 3 axes, expected \(in,\) or \(N, in\) \(input shape"),
    (lambda: GRU(2, 4)(np.zeros((3, 2)), lengths=[1, 2, 3]), r"mask and lengths are for whole sequences \(T, N, in\) \(input"),
    (lambda: GRU(2, 4)(X, lengths=[1, 2]), r"lengths must be 3 whole numbers, one for each sequence, got int64 of shape"),
    (lambda: GRU(2, 4)(X, lengths=[1.0, 2, 3]), r"got float64 of shape \(3,\) \(input shape \(5, 3, 2\)\)"),
    (lambda: GRU(2, 4)(X, lengths=[1, 6, 3]), r"lengths must be from 0 to 5, the number of steps, got 1 to 6"),
    (lambda: GRU(2, 4)(X, lengths=[1, -1, 3]), r"got -1 to 3"),
    (lambda: GRU(2, 4)(X, mask=np.ones((3, 5), bool)), r"the mask must be booleans of the shape \(5, 3\), got bool of"),
    (lambda: GRU(2, 4, batch_first=True)(X, mask=np.ones((3, 5), bool)), r"booleans of the shape \(5, 3\)"),
    (lambda: GRU(2, 4)(X, mask=np.ones((5, 3))), r"the mask must be booleans of the shape \(5, 3\), got float64"),
    (lambda: GRU(2, 4)(X, mask=np.ones((5, 3), bool), lengths=[1, 1, 1]), r"give mask or lengths, not both"),
    (lambda: GRU(2, 4)(X, np.zeros((2, 4))), r"the state h is of batch size 2, the input is of batch size 3"),
    (lambda: GRU(2, 4)(X, np.zeros((3, 5))), r"the state h must have the shape \(3, 4\)"),
    (lambda: GRU(2, 4, num_layers=0), r"GRU: num_layers must be at least 1, got 0"),
    (lambda: GRU(2, 4, dropout=0.5), r"GRU: dropout works between layers, but num_layers is 1"),
    (lambda: GRU(2, 4, num_layers=2, dropout=1.5), r"GRU: .*1.5"),
    (lambda: GRU(2, 4, bidirectional=True, stateful=True), r"GRU: bidirectional layers see whole sequences"),
    (lambda: GRU(2, 4, bias=np.zeros(4)), r"GRU: the bias has shape \(4,\), expected \(12,\)"),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


TYPES = [
    (lambda: LSTM(2, 4)(X, np.zeros((3, 4))), r"LSTM\(2, 4\): the state is the pair \(h, c\), got ndarray"),
    (lambda: LSTM(2, 4, num_layers=2)(X, (np.zeros((3, 4)),) * 3), r"the state is a tuple of 2 states, l0, l1, got 3"),
    (lambda: GRU(2, 4, bidirectional=True)(X, np.zeros((2, 3, 4))),
     r"the state is a tuple of 2 states, l0, l0_reverse, got a ndarray"),
    (lambda: GRU(2, 4, num_layers=1.5), r"GRU: num_layers must be a whole number, got 1.5"),
    (lambda: GRU(2, -4), r"GRU\(in, out\): `out` must be a whole number, got -4"),
    (lambda: RNN(2, 4, 5), r"RNN: the activation must be a function, got 5"),
    (lambda: LSTM(input_size=2, hidden_size=4), r"LSTM: `input_size=` is spelled the first argument here"),
    (lambda: GRU(2, 4, hidden_size=4), r"GRU: `hidden_size=` is spelled the second argument here"),
    (lambda: GRU(2, 4)("text"), r"GRU\(2, 4\): the input is a str, expected an array"),
    (lambda: GRU(2, 4)(X * 1j), r"complex"),
]


@pytest.mark.parametrize(("call", "message"), TYPES)
def test_what_is_of_the_wrong_type(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_names_of_pytorch_get_ours():
    with pytest.raises(AttributeError, match=r"pack_padded_sequence.*lengths="):
        flux.pack_padded_sequence  # noqa: B018
    with pytest.raises(AttributeError, match=r"Recurrence.*Recur"):
        flux.Recurrence  # noqa: B018
