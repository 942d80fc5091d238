"""train: what one call does, and what it refuses."""

import numpy as np
import pytest

from minitorch_flux.autograd import Param, withgradient
from minitorch_flux.backend import seed
from minitorch_flux.data import DataLoader
from minitorch_flux.losses import logitcrossentropy, mse
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.dropouts import Dropout
from minitorch_flux.nn.norms import BatchNorm
from minitorch_flux.ops.nonlinearities import tanh
from minitorch_flux.optimisers import Adam, Descent, setup, update
from minitorch_flux.training import Callback, train

from .small import N, X, Y, loss, make_loader, make_model, weights


def test_it_is_gradient_and_update_for_every_batch():
    a, b = make_model(), make_model()
    seed(1)
    state = train(lambda m, x, y: logitcrossentropy(m(x), y), a, make_loader(), Adam(1e-2), epochs=3)
    seed(1)
    opt, loader, means = setup(Adam(1e-2), b), make_loader(), []
    for _ in range(3):
        total = 0.0
        for x, y in loader:
            value, grads = withgradient(lambda m, x=x, y=y: logitcrossentropy(m(x), y), b)
            update(opt, b, grads)
            total += float(value) * len(x)
        means.append(total / N)
    assert weights(a) == weights(b)
    assert [row["loss"] for row in state.history] == means
    assert (state.epoch, state.step, state.batch, state.batches) == (3, 15, 0, 5)
    assert state.observations == 3 * N
    assert not state.stop


def test_the_history():
    state = train(loss, make_model(), make_loader(), Descent(0.1), epochs=2)
    assert [list(row) for row in state.history] == [["epoch", "step", "loss", "accuracy", "seconds"]] * 2
    assert [(row["epoch"], row["step"]) for row in state.history] == [(1, 5), (2, 10)]
    assert all(0 <= row["accuracy"] <= 1 and row["seconds"] > 0 for row in state.history)
    assert state.seconds >= state.history[0]["seconds"] + state.history[1]["seconds"]
    assert state.metrics is state.history[-1]


def test_it_lowers_the_loss():
    state = train(loss, make_model(), make_loader(), Adam(0.05), epochs=15)
    assert state.history[-1]["loss"] < state.history[0]["loss"] / 2


def test_means_are_weighted_by_the_length_of_the_batch():
    batches = [(np.zeros((3, 1), np.float32), 1.0), (np.zeros((1, 1), np.float32), 5.0)]
    model = Dense(1, 1)
    state = train(lambda m, x, v: (m(x).sum() * 0 + v, {"twice": 2 * v}), model, batches, Descent(0.0))
    assert state.history[0]["loss"] == 2.0
    assert state.history[0]["twice"] == 4.0


@pytest.mark.parametrize(
    "batches",
    [
        [X[:4], X[4:8]],  # the batch is the argument
        [(X[:4],), (X[4:8],)],
        [[X[:4]], [X[4:8]]],
        DataLoader(X[:8], 4),
    ],
)
def test_how_a_batch_becomes_arguments(batches):
    seen = []

    def f(m, x):
        seen.append(x.shape)
        return (m(x) ** 2).mean()

    state = train(f, Dense(3, 1), batches, Descent(0.1))
    assert seen == [(4, 3), (4, 3)]
    assert state.observations == 8


def test_batches_that_are_dicts_or_numbers():
    data = DataLoader({"x": X, "y": X[:, 0]}, 10)
    state = train(lambda m, b: mse(m(b["x"])[:, 0], b["y"]), Dense(3, 1), data, Descent(0.1))
    assert state.observations == N
    state = train(lambda w, k: (w["a"] * k).sum(), {"a": Param(np.ones(2, np.float32))}, [1.0, 2.0], Descent(0.1))
    assert state.observations == 2


def test_an_optimiser_or_its_state_may_be_given():
    a, b = make_model(), make_model()
    opt = setup(Adam(1e-2), b)
    data = [(X, Y)]
    f = lambda m, x, y: logitcrossentropy(m[2](m[0](x)), y)  # noqa: E731
    train(f, a, data, Adam(1e-2), epochs=2)
    train(f, b, data, opt)
    assert train(f, b, data, opt).opt is opt
    assert weights(a) == weights(b)


def test_no_epochs():
    model = make_model()
    before = weights(model)
    state = train(loss, model, make_loader(), Descent(0.1), epochs=0)
    assert weights(model) == before
    assert state.history == []


def test_the_loader_is_not_disturbed():
    loader = make_loader()
    train(loss, make_model(), loader, Descent(0.1), epochs=2)
    assert (loader.epoch, loader.position) == (2, 0)


class Recorder(Callback):
    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def note(self, name, state):
        self.events.append((name, state.epoch, state.step, state.batch))
        if len(self.events) == self.stop_at:
            state.stop = "enough"

    on_train_begin = lambda self, s: self.note("train begin", s)  # noqa: E731
    on_epoch_begin = lambda self, s: self.note("epoch begin", s)  # noqa: E731
    on_loss = lambda self, s: self.note("loss", s)  # noqa: E731
    on_step_end = lambda self, s: self.note("step end", s)  # noqa: E731
    on_epoch_end = lambda self, s: self.note("epoch end", s)  # noqa: E731
    on_train_end = lambda self, s: self.note("train end", s)  # noqa: E731


def test_the_order_of_events():
    recorder = Recorder()
    train(loss, make_model(), DataLoader((X, Y), 11), Descent(0.1), epochs=2,
          callbacks=[recorder])
    assert recorder.events == [
        ("train begin", 0, 0, 0),
        ("epoch begin", 1, 0, 0), ("loss", 1, 0, 0), ("step end", 1, 1, 1), ("loss", 1, 1, 1), ("step end", 1, 2, 2),
        ("epoch end", 1, 2, 0),
        ("epoch begin", 2, 2, 0), ("loss", 2, 2, 0), ("step end", 2, 3, 1), ("loss", 2, 3, 1), ("step end", 2, 4, 2),
        ("epoch end", 2, 4, 0),
        ("train end", 2, 4, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("at", range(1, 15))
def test_a_stop_at_any_event(at):
    recorder = Recorder(stop_at=at)
    state = train(loss, make_model(), DataLoader((X, Y), 11), Descent(0.1), epochs=2, callbacks=[recorder])
    assert state.stop == "enough"
    assert recorder.events[-1][0] == "train end"
    assert sum(e[0] == "step end" for e in recorder.events) == state.step
    assert sum(e[0] == "epoch end" for e in recorder.events) == len(state.history)


def test_a_stop_at_the_loss_leaves_the_weights():
    model = make_model()
    before = weights(model)
    train(loss, model, make_loader(), Descent(0.1), callbacks=[Recorder(stop_at=3)])
    assert weights(model) == before


def test_an_error_in_a_step_still_ends_the_run():
    recorder = Recorder()

    def bad(m, x, y):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        train(bad, make_model(), make_loader(), Descent(0.1), callbacks=[recorder])
    assert recorder.events[-1][0] == "train end"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": 5}, TypeError, r"train\(loss, model, data, opt\): the loss comes first, got int"),
        ({"data": iter([])}, TypeError, "the data is an iterator, which can be walked only once"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "integer"),
        ({"data": []}, ValueError, "train: epoch 1 had no batches"),
        ({"loss": lambda m, x, y: (m(x).sum(), 5)}, TypeError, "must return one number, or .* not a tuple of .*, int"),
        ({"loss": lambda m, x, y: (m(x).sum(), {}, {})}, TypeError, "must return one number"),
        ({"loss": lambda m, x, y: m(x)}, ValueError, "one number"),
        ({"opt": None}, TypeError, "setup needs a rule"),
    ],
)
def test_what_it_refuses(change, error, message):
    given = {"loss": loss, "model": make_model(), "data": make_loader(), "opt": Descent(0.1), "epochs": 1} | change
    with pytest.raises(error, match=message):
        train(given["loss"], given["model"], given["data"], given["opt"], epochs=given["epochs"])


def test_data_that_ends_for_good():
    class Once:
        def __init__(self):
            self.batches = iter([(X, Y)])

        def __iter__(self):
            return self.batches

    with pytest.raises(ValueError, match=r"train: epoch 2 had no batches: the data is empty, or ended for good"):
        train(loss, make_model(), Once(), Descent(0.1), epochs=2)


@pytest.mark.parametrize("partial", [True, False])
def test_captured_gradients_train_alike(partial):
    def run(capture):
        seed(5)
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((22, 3)).astype("f4"), rng.integers(0, 3, 22)
        model = Chain(Dense(3, 8, tanh), BatchNorm(8), Dropout(0.2), Dense(8, 3))

        def loss(m, x, y):
            y_hat = m(x)
            return logitcrossentropy(y_hat, y), {"accuracy": (y_hat.argmax(axis=1) == y).mean()}

        data = DataLoader((x, y), batchsize=4, shuffle=True, partial=partial)
        state = train(loss, model, data, Adam(0.01), epochs=4, capture=capture)
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in state.history]
        return rows, {k: v.tobytes() for k, v in model.state_dict().items()}

    assert run(True) == run(False)
