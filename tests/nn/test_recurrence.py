"""Recur: state between calls, inside and outside recording scopes."""

import copy
import importlib
import importlib.util
import pickle
import threading

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, GRUCell, LSTMCell, Param, Recur, RNNCell, Tensor, reset, truncate

GPU = importlib.util.find_spec("cupy") is not None and importlib.import_module("cupy").is_available()


def accum(h, x):
    return h + x, x


def product(h, x):
    """A state and an output that depend on everything before."""
    h = h * x
    return h, h


# -- the page ----------------------------------------------------------------------------------------------------------


def test_a_recurrent_network_that_keeps_a_running_total_of_its_inputs():
    rnn = flux.Recur(accum, 0)
    assert rnn(2) == 2
    assert rnn(3) == 3
    assert rnn.state == 5
    assert rnn.map(range(1, 11)) == list(range(1, 11))  # apply to a sequence
    assert rnn.state == 60
    assert type(rnn.state) is int


def test_cell_should_be_a_model_of_the_form_h_y_is_cell_of_h_and_x():
    seen = []

    def cell(h, *x):
        seen.append((h, x))
        return h + len(x), x

    rnn = Recur(cell, 0)
    assert rnn(1, "two", None) == (1, "two", None)
    assert rnn() == ()
    assert rnn.map([1, 2], [3, 4]) == [(1, 3), (2, 4)]
    assert seen == [(0, (1, "two", None)), (3, ()), (3, (1, 3)), (5, (2, 4))]


# -- any values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [0, 1.5, None, "a", (1, "b"), [1, 2], {"k": 3}, {1, 2}, np.float32(2), object()])
def test_state_of_any_kind_is_handed_through(state):
    rnn = Recur(lambda h, x: (h, (h, x)), state)
    h, x = rnn("x")
    assert x == "x"
    assert h == state
    assert rnn.state == state
    assert type(rnn.state) is type(state)


def test_arrays_reach_the_cell_as_tensors():
    kinds = []

    def cell(h, x):
        kinds.append((type(h["a"]), type(h["b"][0]), type(x)))
        return h, x

    state = {"a": np.zeros(2), "b": (np.ones(1), "c")}
    rnn = Recur(cell, state)
    assert isinstance(rnn(np.ones(2)), Tensor)
    rnn(np.array(["text"]))  # no numbers
    assert kinds == [(Tensor, Tensor, Tensor), (Tensor, Tensor, np.ndarray)]
    assert type(state["a"]) is np.ndarray


def test_named_tuples_stay_what_they_are():
    from typing import NamedTuple

    class Pair(NamedTuple):
        total: object
        count: int

    rnn = Recur(lambda h, x: (Pair(h.total + x, h.count + 1), x), Pair(np.zeros(2), 0))
    rnn(np.ones(2))
    rnn(np.ones(2))
    assert type(rnn.state) is Pair
    assert rnn.state.count == 2
    assert rnn.state.total.tolist() == [2, 2]


def test_map_stacks_arrays_and_gives_a_list_for_numbers():
    rnn = Recur(accum, np.zeros(3))
    xs = np.arange(12.0).reshape(4, 3)
    ys = rnn.map(xs)
    assert isinstance(ys, Tensor)
    np.testing.assert_array_equal(ys.data, xs)
    np.testing.assert_array_equal(rnn.state.data, xs.sum(0))
    assert Recur(accum, 0).map(x for x in (1, 2)) == [1, 2]
    assert Recur(accum, 0).map([]) == []
    assert Recur(lambda h, x: (h, (x, x)), 0).map(xs)[1][0].tolist() == [3, 4, 5]  # pairs: a list of them
    assert Recur(accum, 0.0).map(np.arange(3.0)).shape == (3,)
    with pytest.raises(TypeError, match="map takes what to iterate over, got nothing"):
        rnn.map()


def test_a_map_that_fails_leaves_the_state_as_it_was():
    rnn = Recur(accum, 1)
    rnn(1)
    for xs in ([1, 2, "three"], [1, np.zeros(2), np.zeros(3)]):  # in the cell; when stacked
        with pytest.raises((TypeError, ValueError)):
            rnn.map(xs)
        assert rnn.state == 2
    two = Recur(lambda h, x, y: (h + x * y, h), 2)
    with pytest.raises(ValueError, match="zip"):
        two.map([1], [1, 2])
    assert two.state == 2


def test_a_call_that_fails_leaves_the_state_as_it_was():
    rnn = Recur(lambda h, x: (h + 1 / x, x), 1)
    rnn(1)
    with pytest.raises(ZeroDivisionError):
        rnn(0)
    assert rnn.state == 2


def test_the_state_can_be_set():
    rnn = Recur(accum, 0)
    rnn.state = 10
    assert rnn(1) == 1
    assert rnn.state == 11
    rnn.state = np.zeros(2)
    assert isinstance(rnn.state, Tensor)
    assert reset(rnn).state == 0


def test_what_is_no_cell():
    with pytest.raises(TypeError, match=r"the cell is a function `h, y = cell\(h, \*x\)`, got int, which cannot be called"):
        Recur(3, 0)
    with pytest.raises(TypeError, match="got the class LSTMCell"):
        Recur(LSTMCell)
    with pytest.raises(TypeError, match=r"give the state to begin with, accum has no initial_state"):
        Recur(accum)
    with pytest.raises(TypeError, match=r"LSTM\(4, 8\) keeps its state already; use it as it is"):
        Recur(flux.LSTM(4, 8))


@pytest.mark.parametrize(("result", "got"), [(1, "int"), ((1, 2, 3), "3 values"), (None, "NoneType"), ([1], "1 values")])
def test_a_cell_must_return_two_values(result, got):
    rnn = Recur(lambda h, x: result, 0)
    with pytest.raises(TypeError, match=rf"Recur\(<lambda>, 0\): the cell must return two values, the next .* got {got}"):
        rnn(1)
    assert rnn.state == 0


def test_the_cell_may_tell_the_state_to_begin_with():
    asked = []

    class Cell(flux.Module):
        def __init__(self):
            self.weight = Param(np.full(2, 3.0))

        def initial_state(self, batch):
            asked.append(batch)
            return np.zeros((2,) if batch is None else (batch, 2))

        def __call__(self, h, x):
            return h + self.weight * x, h

    rnn = Recur(Cell())
    assert rnn(np.ones((5, 2))).shape == (5, 2)
    rnn(np.ones((5, 2)))
    assert rnn.state.shape == (5, 2)
    assert reset(rnn).state.shape == (2,)
    assert rnn(np.ones(2)).shape == (2,)
    assert asked == [5, None, None]
    assert Recur(Cell(), np.ones(2))(np.ones(2)).tolist() == [1, 1]


# -- reset and truncate ------------------------------------------------------------------------------------------------


class Outer(flux.Module):
    def __init__(self):
        self.parts = {"a": Recur(accum, 0), "b": [Recur(accum, 1), Chain(Recur(accum, 2))]}
        self.shared = self.parts["a"]

    def __call__(self, x):
        return self.parts["b"][1](self.parts["b"][0](self.parts["a"](x)))


def test_reset_reaches_every_layer_and_returns_the_model():
    model = Chain(Outer(), lambda x: x * 2)
    rnns = [m for m in model.modules() if isinstance(m, Recur)]
    assert len(rnns) == 3
    assert model(5) == 10
    assert [r.state for r in rnns] == [5, 6, 7]
    assert reset(model) is model
    assert [r.state for r in rnns] == [0, 1, 2]
    assert model(5) == 10
    assert rnns[0].reset() is rnns[0]
    assert [r.state for r in rnns] == [0, 6, 7]
    assert reset([rnns[1], {"k": rnns[2]}])[0] is rnns[1]
    assert [r.state for r in rnns] == [0, 1, 2]
    assert reset(accum) is accum  # nothing to do


def test_a_recur_inside_the_cell_is_reset_too():
    inner = Recur(accum, 0)

    class Cell(flux.Module):
        def __init__(self):
            self.inner = inner

        def __call__(self, h, x):
            return h + self.inner(x), h

    rnn = Recur(Cell(), 0)
    rnn(4)
    assert (rnn.state, inner.state) == (4, 4)
    rnn.reset()
    assert (rnn.state, inner.state) == (0, 0)


def test_truncate_keeps_the_value_and_cuts_the_gradient():
    x = np.array([2.0, 3.0])
    rnn = Recur(product, np.ones(()))

    def loss(x, cut):
        reset(rnn)
        rnn(x[0])
        if cut:
            assert truncate(rnn) is rnn
        return rnn(x[1])

    assert flux.gradient(lambda x: loss(x, False), x).tolist() == [3, 2]
    assert flux.gradient(lambda x: loss(x, True), x).tolist() == [0, 2]
    assert rnn.state.item() == 6
    model = Chain(Recur(product, 1), Dense(1, 1))
    assert truncate(model) is model
    assert model[0].state == 1  # nothing was left yet


def test_the_initial_state_trains_when_it_is_a_parameter():
    h0 = Param(np.array([1.0, 2.0]))
    rnn = Recur(product, h0)
    x = np.array([3.0, 4.0])
    assert list(rnn.state_dict()) == ["initial"]
    grads = flux.gradient(lambda m: (m(x) + m(x)).sum(), rnn)
    np.testing.assert_array_equal(grads.initial, x + x * x)
    opt = flux.setup(flux.Descent(0.1), reset(rnn))
    flux.update(opt, rnn, grads)
    np.testing.assert_allclose(rnn(x).data, x * ([1, 2] - 0.1 * (x + x * x)), atol=1e-12)  # of the new initial state


# -- recording scopes --------------------------------------------------------------------------------------------------


def test_steps_in_one_scope_are_connected_and_those_of_an_earlier_one_are_constants():
    w = Param(np.array(2.0))
    rnn = Recur(lambda h, x: (h * w * x, h * w * x), np.array(1.0))
    for n in (1, 2):  # state 2 w... is a constant in the second round
        with flux.record():
            rnn(1.0)
            y = rnn(1.0)
        w.grad = None
        y.backward()
        assert w.grad == 2 * w.item() * 4 ** (n - 1)
    assert rnn.state.item() == 16
    assert flux.gradient(lambda w: rnn(1.0), w) == 16
    value, grad = flux.withgradient(lambda w: rnn(1.0) + rnn(1.0), w)  # 32 w + 32 w w
    assert (value, grad) == (64 + 128, 32 + 32 * 4)


def test_a_plain_call_after_a_scope_records_nothing():
    w = Param(np.array(2.0))
    rnn = Recur(lambda h, x: (h * w, h * w), np.array(1.0))
    with flux.record():
        rnn(0)
        assert rnn.state.node is not None
    assert rnn.state.node is None
    assert rnn(0).node is None
    with flux.record(), flux.no_grad():
        assert rnn(0).node is None


def test_no_grad_inside_a_scope_leaves_the_state_connected():
    w = Param(np.array(3.0))
    rnn = Recur(lambda h, x: (h * w * x, h), np.array(1.0))
    with flux.record():
        rnn(1.0)
        with flux.no_grad():
            assert rnn.state.node is not None
        y = rnn(1.0)
    y.backward()
    assert w.grad == 1


def test_tensors_of_the_user_are_connected_outside_scopes_too():
    x = flux.tensor([2.0], requires_grad=True)
    rnn = Recur(product, np.ones(1, np.float32))
    rnn(x)
    rnn(x).backward()
    assert x.grad.tolist() == [4]
    reset(rnn)
    rnn(x)
    with flux.record():  # what was before is a constant
        y = rnn(3.0)
    assert y.node is None


def test_an_outer_scope_sees_through_an_inner_one():
    rnn = Recur(product, np.ones(()))

    def outer(x):
        reset(rnn)
        inner = flux.gradient(lambda z: rnn(z * z), x)  # 2 x, and the state x^2
        return inner * rnn(1.0)  # 2 x^3

    assert flux.gradient(outer, np.array(3.0)) == 6 * 9

    def constant_in_the_second(x):
        reset(rnn)
        flux.gradient(lambda z: rnn(z), x)
        return flux.gradient(lambda z: rnn(z), x)  # the state x, as a constant

    assert flux.gradient(constant_in_the_second, np.array(3.0)) == 1


def test_scopes_of_two_threads_are_two_scopes():
    w = Param(np.array(2.0))
    rnn = Recur(lambda h, x: (h * w, h * w), np.array(1.0))
    found = []
    with flux.record():
        rnn(0)

        def other():
            with flux.record():
                y = rnn(0)
                y.backward()
                found.append((y.item(), float(w.grad)))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == [(4, 2)]


def test_truncated_backpropagation_is_the_loop_by_hand():
    rng = np.random.default_rng(0)
    cell = GRUCell(2, 3)
    xs = rng.standard_normal((6, 4, 2)).astype(np.float32)
    rnn = Recur(cell)
    h = np.zeros((4, 3), np.float32)
    for k in range(0, 6, 2):
        grads = flux.gradient(lambda m, k=k: sum((m(x) ** 2).sum() for x in xs[k : k + 2]), rnn)

        def by_hand(c, k=k, h=h):
            total = 0
            for x in xs[k : k + 2]:
                h, y = c(h, x)
                total = total + (y**2).sum()
            return total, h

        (_, h), wanted = flux.withgradient(by_hand, cell)
        for name in ("weight_ih", "weight_hh", "bias_ih"):
            np.testing.assert_allclose(getattr(grads.cell, name), getattr(wanted, name), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rnn.state.data, h, rtol=1e-5)


# -- what state is not -------------------------------------------------------------------------------------------------


def test_state_is_in_no_state_dict_no_gradient_and_no_optimiser():
    rnn = Recur(RNNCell(2, 3))
    before = {k: id(v) for k, v in vars(rnn).items()}
    opt = flux.setup(flux.Adam(), rnn)
    for _ in range(2):
        grads = flux.gradient(lambda m: (m(np.ones((1, 2))) ** 2).sum(), rnn)
        assert list(grads._parts()) == ["cell"]
        flux.update(opt, rnn, grads)
    assert list(rnn.state_dict()) == ["cell.weight_ih", "cell.weight_hh", "cell.bias_ih"]
    assert {k: id(v) for k, v in vars(rnn).items()} == before
    assert [p.shape for p in rnn.parameters()] == [(3, 2), (3, 3), (3,)]
    x = flux.tensor([1.0], requires_grad=True)
    kept = Recur(lambda h, x: (x, x), 0)  # a leaf that trains, as a state
    kept(x)
    assert kept.state_dict() == {}


def test_copies_take_a_state_of_their_own_along():
    rnn = Recur(GRUCell(2, 3))
    x = np.ones((1, 2), np.float32)
    with flux.record():
        rnn(x)
        inside = copy.deepcopy(rnn)
        assert rnn.state.node is not None
    for other in (inside, copy.deepcopy(rnn), copy.copy(rnn), pickle.loads(pickle.dumps(rnn)), flux.cpu(rnn)):
        before = rnn.state.data.copy()
        np.testing.assert_array_equal(other.state.data, before)
        assert other.state.node is None
        other(x)
        np.testing.assert_array_equal(rnn.state.data, before)
        assert np.abs(other.state.data - before).max() > 1e-3
    assert copy.deepcopy(Recur(accum, 0))(3) == 3
    fresh = pickle.loads(pickle.dumps(Recur(GRUCell(2, 3))))
    assert fresh(x).shape == (1, 3)
    assert rnn.to("cpu") is rnn


def test_state_moves_with_the_model(monkeypatch):
    from minitorch_flux.nn import module

    rnn = Recur(lambda h, x: ((h[0] + x, "text"), x), (np.zeros(2), "text"))
    model = Chain(rnn, Recur(accum, 0))
    model(np.ones(2))
    moved = []
    monkeypatch.setattr(module, "move_tensor", lambda x, device: moved.append(device) or x * 2)
    assert model.to("cpu") is model
    assert moved == ["cpu", "cpu"]
    assert rnn.state[0].tolist() == [2, 2]
    assert rnn.state[1] == "text"
    copied = flux.cpu(model)
    assert copied[0].state[0].tolist() == [4, 4]
    assert rnn.state[0].tolist() == [2, 2]


@pytest.mark.skipif(not GPU, reason="no GPU")
@pytest.mark.parametrize("make", [lambda: Recur(GRUCell(2, 3)), lambda: flux.LSTM(2, 3, num_layers=2)])
def test_state_moves_to_the_gpu_and_back(make):
    rnn, x = make(), np.ones((4, 2), np.float32)
    rnn(x)
    there = flux.gpu(rnn)
    y = there(flux.gpu(x))
    assert y.device == "cuda:0"
    back = flux.cpu(there)
    np.testing.assert_allclose(rnn(x).data, y.numpy(), rtol=1e-5)
    np.testing.assert_allclose(rnn(x).data, back(x).data, rtol=1e-5)
    flux.check(rnn, x, few=2, directions=1)  # compares the devices too


def test_check_hessian_and_outputsize_leave_the_state_as_they_found_it():
    rnn = Recur(GRUCell(2, 3))
    x = np.ones((1, 2))
    for _ in range(2):  # without a state, and with one
        before = rnn._memory.left and rnn.state.data.copy()
        flux.check(rnn, x, few=2, directions=1)
        assert flux.outputsize(rnn, (1, 2)) == (1, 3)
        flux.hessian(lambda x: (rnn(x) ** 2).sum(), x)
        assert (rnn._memory.left is None) == (before is None)
        assert before is None or (rnn.state.data == before).all()
        reset(rnn)
        rnn(x)
    with pytest.raises(ZeroDivisionError):
        flux.hessian(lambda x: (rnn(x) ** 2).sum() * (1 / 0), x)
    np.testing.assert_array_equal(rnn.state.data, reset(rnn)(x).data)


def test_hessian_sees_the_state_that_was_there():
    rnn = Recur(lambda h, x: (h * x, h * x * x), np.array(1.0))
    rnn(5.0)
    assert flux.hessian(lambda x: rnn(x), np.array(2.0)) == 10
    assert flux.hessian(lambda x: rnn(x) + rnn(x), np.array(2.0)) == 10 + 5 * 6 * 2  # 5 x^2 + 5 x^3
    assert rnn.state == 5


def test_check_knows_a_wrong_gradient_of_a_cell():
    broken = flux.custom_gradient(lambda x: (x.detach() * 2, lambda dy: dy * 3))
    with pytest.raises(flux.CheckError, match="finite differences give"):
        flux.check(Recur(lambda h, x: (h + broken(x), broken(x)), np.zeros(2)), np.ones(2), order=1)


# -- in models ---------------------------------------------------------------------------------------------------------


def test_a_chain_of_steps():
    model = Chain(Recur(accum, 0), lambda x: x + 1, Recur(product, 1))
    assert [model(x) for x in (1, 2, 3)] == [2, 6, 24]
    assert model[2].state == 24
    model = Chain(Recur(LSTMCell(3, 4)), Dense(4, 2))
    assert model(np.ones((5, 3))).shape == (5, 2)
    assert list(model.state_dict()) == ["0.cell.weight_ih", "0.cell.weight_hh", "0.cell.bias_ih", "1.weight", "1.bias"]
    with pytest.raises(ValueError, match=r"Chain\[0\] LSTMCell\(3, 4\): the state h is of batch size 5, the input is of batch "
                       r"size 2: call flux.reset\(model\)"):
        model(np.ones((2, 3)))
    assert model[0].state[0].shape == (5, 4)


def test_printing():
    assert repr(Recur(accum, 0)) == "Recur(accum, 0)"
    assert repr(Recur(RNNCell(4, 8))) == "Recur(RNNCell(4, 8))  # 104 parameters"
    rnn = Recur(RNNCell(4, 8))
    rnn(np.ones(4))
    text = repr(rnn).split("  #")[0]
    assert eval(text, vars(flux)).cell.out == 8
    assert repr(eval("Recur(accum, (1, 'a'))", {**vars(flux), "accum": accum})) == "Recur(accum, (1, 'a'))"
