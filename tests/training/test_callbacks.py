"""Every callback and every option of it."""

import math

import numpy as np
import pytest

from minitorch_flux.backend import seed
from minitorch_flux.files import load_checkpoint
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.dense import Dense
from minitorch_flux.optimisers import Adam, Descent
from minitorch_flux.schedules import Plateau
from minitorch_flux.training import (
    Callback,
    Checkpoint,
    EarlyStopping,
    Evaluate,
    Schedule,
    StopOnNonFinite,
    callbacks,
    train,
)

from .small import X, Y, loss, make_loader, make_model, weights


def run(*callbacks, epochs=3, loss=loss, model=None, data=None):
    return train(loss, model or make_model(), data or make_loader(), Adam(1e-2), epochs=epochs, callbacks=callbacks)


def given(values, name="loss"):
    """A callback that writes these values into the rows, one per epoch."""
    values = iter(values)
    return Evaluate(lambda m: {name: next(values)})


def test_the_base_does_nothing():
    results = []
    for extra in ([], [Callback()]):
        seed(0)
        results.append(weights(run(*extra).model))
    assert results[0] == results[1]
    assert Callback().state_dict() == {}
    Callback().load_state_dict({})


# -- Evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluate_adds_to_the_row():
    state = run(Evaluate(lambda m: {"count": len(m), "scalar": np.float32(0.5), "array": np.ones(())}, prefix="test_"))
    assert [row["test_count"] for row in state.history] == [3, 3, 3]
    assert type(state.history[0]["test_scalar"]) is float
    assert type(state.history[0]["test_array"]) is float


def test_evaluate_refuses_data():
    with pytest.raises(TypeError, match=r"^Evaluate: expected a function of the model, got tuple; for data write "
                                        r"Evaluate\(lambda m: flux.evaluate\(m, data\)\)$"):
        Evaluate((np.ones((3, 2)), np.zeros(3, int)))


# -- EarlyStopping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "options", "epoch", "best"),
    [
        ([3, 2, 2.5, 2.2, 1], {"patience": 2}, 4, 2),
        ([3, 2, 2.5, 1, 5], {"patience": 2}, 5, 1),
        ([3, 2.9, 2.8, 2.7, 0], {"patience": 2, "min_delta": 0.5}, 3, 3),
        ([1, 2, 3, 2, 1], {"patience": 2, "mode": "max"}, 5, 3),
        ([1, 1, 1, 1, 1], {"patience": 1}, 2, 1),
        ([math.nan, math.nan, 1, 2, 3], {"patience": 3}, 5, 1),
        ([2, math.nan, math.nan, 1, 1], {"patience": 2}, 3, 2),
        ([math.nan] * 5, {"patience": 2}, 2, None),
        ([-math.inf, 1, 1, 1, 1], {"patience": 2, "mode": "max"}, 4, 1),
    ],
)
def test_early_stopping(values, options, epoch, best):
    early = EarlyStopping("value", **options)
    state = run(given(values, "value"), early, epochs=5)
    assert state.epoch == epoch
    assert early.best == best
    stopped = epoch < 5 or early.waited >= early.patience
    assert bool(state.stop) == stopped
    if stopped:
        best_text = "none" if best is None else f"{best:g}"
        assert state.stop == f"no better value than {best_text} for {options['patience']} epochs"


@pytest.mark.parametrize("restore", [False, True])
def test_the_best_weights_come_back(restore):
    seen = []
    early = EarlyStopping("value", patience=2, restore_best=restore)
    state = run(given([2, 1, 3, 4], "value"), Evaluate(lambda m: seen.append(weights(m)) or {}), early, epochs=4)
    assert weights(state.model) == seen[1 if restore else 3]


def test_early_stopping_says_what_it_does_not_find():
    with pytest.raises(KeyError, match=r"EarlyStopping: this epoch's row has no 'test_loss'; it has epoch, step, loss"):
        run(EarlyStopping("test_loss"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "least"}, "mode is 'min' or 'max', got 'least'"),
        ({"patience": 0}, "patience must be at least 1 epoch, got 0"),
    ],
)
def test_early_stopping_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**options)


# -- Checkpoint --------------------------------------------------------------------------------------------------------


class Saves(Checkpoint):
    """Notes after which step it saved."""

    def save(self, state):
        super().save(state)
        self.steps_saved = [*getattr(self, "steps_saved", []), state.step]


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({}, [5, 10, 15, 20]),
        ({"epochs": 2}, [10, 20]),
        ({"epochs": 3}, [15, 20]),  # the last epoch in any case
        ({"epochs": None}, [20]),
        ({"epochs": None, "steps": 7}, [7, 14, 20]),
        ({"epochs": None, "steps": 5}, [5, 10, 15, 20, 20]),
    ],
)
def test_when_it_saves(options, saved, tmp_path):
    checkpoint = Saves(tmp_path / "c.npz", **options)
    run(checkpoint, epochs=4)
    assert checkpoint.steps_saved == saved
    assert load_checkpoint(tmp_path / "c.npz")["progress"]["step"] == 20


def test_it_saves_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])

    class Clock(Callback):
        def on_step_end(self, state):
            now[0] += 10

    checkpoint = Saves(tmp_path / "c.npz", epochs=None, seconds=35)
    run(Clock(), checkpoint, epochs=3)
    assert checkpoint.steps_saved == [4, 8, 12, 15]


@pytest.mark.parametrize("event", ["on_step_end", "on_epoch_end"])
def test_it_saves_where_a_run_stops(event, tmp_path):
    class Stop(Callback):
        pass

    setattr(Stop, event, lambda self, state: setattr(state, "stop", "now"))
    checkpoint = Saves(tmp_path / "c.npz", epochs=None)
    run(Stop(), checkpoint)
    assert checkpoint.steps_saved == [1 if event == "on_step_end" else 5]


def test_it_does_not_save_a_run_that_failed(tmp_path):
    def bad(m, x, y):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        run(Checkpoint(tmp_path / "c.npz"), loss=bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("steps", -1), ("seconds", 0), ("seconds", math.nan)])
def test_checkpoint_refuses(name, value, tmp_path):
    with pytest.raises(ValueError, match=f"Checkpoint: {name} must be above 0, or None for never, got {value}"):
        Checkpoint(tmp_path / "c.npz", **{name: value})


# -- Schedule ----------------------------------------------------------------------------------------------------------


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_step_end(self, state):
        self.seen.append(state.opt.rule.eta)


@pytest.mark.parametrize(("every", "count"), [("step", lambda k: k), ("epoch", lambda k: k // 5)])
def test_a_schedule(every, count):
    rates = Rates()
    run(Schedule(lambda k: np.float32(2.0**-k), every=every), rates)
    assert rates.seen == [2.0 ** -count(k) for k in range(15)]


def test_a_schedule_of_another_setting():
    state = run(Schedule(lambda k: 0.25, name="momentum"))
    assert state.opt.rule.beta[0] == 0.25


def test_a_schedule_that_goes_by_a_metric():
    rates = Rates()
    schedule = Schedule(Plateau(0.25, factor=0.5, patience=0), metric="value")
    run(given([1, 2, 0.5, 3], "value"), schedule, rates, epochs=4)
    assert rates.seen[::5] == [0.25, 0.25, 0.125, 0.125]


def test_a_schedule_with_a_state_goes_on(tmp_path):
    path = tmp_path / "c.npz"
    results = []
    for parts in ([6], [2, 6]):
        resume = None
        for epochs in parts:
            seed(0)
            schedule = Schedule(Plateau(0.25, factor=0.5, patience=0), metric="value")
            values = Evaluate(lambda m: {"value": 1.0})
            state = train(loss, make_model(), make_loader(), Descent(9.0), epochs=epochs, resume=resume,
                          callbacks=[values, schedule, Checkpoint(path)])  # fmt: skip
            resume = path
        results.append((weights(state.model), state.opt.rule.eta, schedule.state_dict()))
    assert results[0] == results[1]
    assert results[0][1] == 0.25 / 2**5


def test_schedule_refuses():
    for wrong in (lambda: Schedule(Plateau(0.1)), lambda: Schedule(lambda k: 0.1, metric="loss")):
        with pytest.raises(ValueError, match="Plateau, and no other schedule, needs metric="):
            wrong()
    with pytest.raises(KeyError, match="Schedule: this epoch's row has no 'test_loss'"):
        run(Schedule(Plateau(0.1), metric="test_loss"))
    with pytest.raises(ValueError, match="every is 'step' or 'epoch', got 'batch'"):
        Schedule(lambda k: 0.1, every="batch")
    with pytest.raises(TypeError, match="no setting 'speed'"):
        run(Schedule(lambda k: 0.1, name="speed"))
    with pytest.raises(ValueError, match="eta must be a finite number"):
        run(Schedule(lambda k: math.nan))


# -- StopOnNonFinite ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite(value):
    model = Dense(3, 1)
    losses = iter([1.0, 2.0, value])
    before = []
    note = Evaluate(lambda m: {})
    note.on_step_end = lambda state: before.append(weights(state.model))
    f = lambda m, x, y: (m(x) ** 2).mean() + next(losses)  # noqa: E731
    state = run(StopOnNonFinite(), note, model=model, loss=f)
    assert state.stop == f"the loss is {value} at epoch 1, step 3"
    assert state.step == 2
    assert weights(model) == before[1]


def test_a_row_that_is_not_finite():
    state = run(given([0.5, math.inf], "test_loss"), StopOnNonFinite(), epochs=5)
    assert state.stop == "test_loss is inf after epoch 2"
    assert state.epoch == 2


def test_a_finite_run_goes_on():
    state = run(given([1, 2, 3], "count"), StopOnNonFinite())
    assert not state.stop


def test_a_rate_that_is_far_too_large_ends_in_a_message():
    x = 1e4 * X
    model = Chain(Dense(3, 8), Dense(8, 4))
    f = lambda m, x, y: (m(x) ** 2).mean()  # noqa: E731
    with np.errstate(all="ignore"):
        state = train(f, model, [(x, Y)], Descent(1.0), epochs=50, callbacks=[StopOnNonFinite()])
    assert state.stop.startswith("the loss is ")
