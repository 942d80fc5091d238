"""A run that was interrupted anywhere and goes on in new objects ends with the same bits as one that was not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Param
from minitorch_flux.backend import Generator, seed
from minitorch_flux.data import DataLoader
from minitorch_flux.files import load_checkpoint, save_checkpoint
from minitorch_flux.optimisers import (
    AccumGrad,
    Adam,
    ClipNorm,
    Lion,
    Momentum,
    OptimiserChain,
    RMSProp,
    adjust,
    freeze,
    setup,
)
from minitorch_flux.training import Callback, Checkpoint, EarlyStopping, Evaluate, Schedule, evaluate, train

from .small import X, Y, loss, make_loader, make_model, weights

STEPS, EPOCHS = 5, 3


class StopAt(Callback):
    """Stop after a given step (0: at the end of no step), or at the end of a given epoch."""

    def __init__(self, step=None, epoch=None):
        self.step, self.epoch = step, epoch

    def on_step_end(self, state):
        if state.step == self.step:
            state.stop = "interrupted"

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            state.stop = "interrupted"


def rows(state):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in state.history]


def decay(k):
    return 0.05 * 0.9**k


RULES = {
    "adam": lambda: Adam(1e-2),
    "momentum": lambda: Momentum(0.05, 0.9),
    "rmsprop": lambda: RMSProp(1e-2, momentum=0.5, centred=True),
    "lion": lambda: Lion(1e-3),
    "chain": lambda: OptimiserChain(AccumGrad(3), ClipNorm(1.0), Adam(1e-2)),
}
RNGS = {"default": lambda: None, "flux": lambda: Generator(7), "numpy": lambda: np.random.default_rng(7),
        "mersenne": lambda: np.random.Generator(np.random.MT19937(7))}  # fmt: skip


def run(path, *, rule="adam", layer_rng="default", loader_rng="default", prefetch=0, every="step", stop=None,
        resume=None, fresh=0):
    """One run with everything on; ``fresh`` makes the objects differ from those that the checkpoint was saved with."""
    seed(3 + fresh)
    model = make_model(seed=fresh, rng=RNGS[layer_rng]())
    loader = make_loader(rng=RNGS[loader_rng](), prefetch=prefetch)
    callbacks = [
        Schedule(decay, every=every),
        Evaluate(lambda m: evaluate(m, (X, Y)), "test_"),
        EarlyStopping("loss", 50, restore_best=True),
        stop or StopAt(),
        Checkpoint(path, epochs=None),
    ]
    return train(loss, model, loader, RULES[rule](), epochs=EPOCHS, callbacks=callbacks, resume=resume)


@pytest.mark.parametrize("k", range(1, STEPS * EPOCHS + 1))
@pytest.mark.parametrize("kind", [".safetensors", ".npz"])
def test_at_every_step(k, kind, tmp_path):
    path = tmp_path / f"c{kind}"
    whole = run(tmp_path / "whole.npz")
    first = run(path, stop=StopAt(step=k))
    assert first.stop
    assert first.step == k
    second = run(path, resume=path, fresh=9)
    assert weights(second.model) == weights(whole.model)
    assert rows(second) == rows(whole)
    assert second.step == whole.step
    assert second.observations == whole.observations


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
@pytest.mark.parametrize("every", ["step", "epoch"])
def test_at_the_end_of_every_epoch(epoch, every, tmp_path):
    path = tmp_path / "c.npz"
    whole = run(path, every=every)
    run(path, every=every, stop=StopAt(epoch=epoch))
    second = run(path, every=every, resume=path, fresh=9)
    assert weights(second.model) == weights(whole.model)
    assert rows(second) == rows(whole)


@given(
    interruptions=st.lists(st.integers(1, STEPS * EPOCHS), min_size=1, max_size=4).map(sorted),
    rule=st.sampled_from(list(RULES)),
    layer_rng=st.sampled_from(list(RNGS)),
    loader_rng=st.sampled_from(list(RNGS)),
    prefetch=st.integers(0, 2),
    every=st.sampled_from(["step", "epoch"]),
)
def test_any_number_of_interruptions_of_any_run(tmp_path_factory, interruptions, **options):
    path = tmp_path_factory.mktemp("resume") / "c.safetensors"
    whole = run(path, **options)
    resume = None
    for i, k in enumerate(interruptions):
        run(path, stop=StopAt(step=k), resume=resume, fresh=i, **options)
        resume = path
    last = run(path, resume=resume, fresh=20, **options)
    assert weights(last.model) == weights(whole.model)
    assert rows(last) == rows(whole)


def test_a_schedule_by_the_epoch_is_not_lost_in_its_middle(tmp_path):
    path = tmp_path / "c.npz"
    run(path, every="epoch", stop=StopAt(step=STEPS + 2))
    state = load_checkpoint(path)
    eta = state["optimiser"]["rules.0.Adam.eta"]
    assert eta == decay(1)


def test_the_checkpoint_is_the_same_whether_interrupted_or_not(tmp_path):
    """Not only the weights: optimiser, generators, stream, sums."""

    def plain(path):
        state = load_checkpoint(path)
        for row in [state["progress"], *state["progress"]["history"]]:
            for name in ("seconds", "epoch_seconds"):
                row.pop(name, None)
        return {k: v for k, v in state.items() if k != "callbacks"}

    run(tmp_path / "a.npz")
    run(tmp_path / "b.npz", stop=StopAt(step=7))
    run(tmp_path / "b.npz", resume=tmp_path / "b.npz", fresh=3)
    np.testing.assert_equal(plain(tmp_path / "a.npz"), plain(tmp_path / "b.npz"))


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    whole = run(tmp_path / "c.npz")
    again = run(tmp_path / "c.npz", resume=tmp_path / "c.npz", fresh=5)
    assert again.step == whole.step
    assert weights(again.model) == weights(whole.model)


def test_more_epochs_than_before(tmp_path):
    path = tmp_path / "c.npz"
    results = []
    for parts in ((5,), (2, 5)):
        seed(0)
        model, resume = make_model(), None
        for epochs in parts:
            model = make_model(seed=epochs) if resume else model
            callbacks = [Checkpoint(path)]
            state = train(loss, model, make_loader(), Adam(1e-2), epochs=epochs, callbacks=callbacks, resume=resume)
            resume = path
        results.append(weights(state.model))
    assert results[0] == results[1]


def test_data_that_is_no_loader(tmp_path):
    path = tmp_path / "c.npz"
    batches = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 20, 4)]
    results = []
    for stop in (None, 3, 5, 8):
        seed(0)
        callbacks = [StopAt(stop), Checkpoint(path, epochs=None)]
        state = train(loss, make_model(), batches, Adam(1e-2), epochs=2, callbacks=callbacks)
        if stop:
            callbacks[0].step = None
            state = train(loss, make_model(5), batches, Adam(1e-2), epochs=2, callbacks=callbacks, resume=path)
        results.append((weights(state.model), rows(state)))
    assert results == results[:1] * 4


def test_frozen_parts_and_parts_with_their_own_rate(tmp_path):
    path = tmp_path / "c.npz"

    def parts(fresh):
        model = make_model(fresh)
        opt = setup(Adam(1e-2), model)
        if not fresh:
            adjust(opt[0], eta=0.5)
        freeze(model[2].bias)
        return model, opt

    results = []
    for stop in (None, 4):
        seed(0)
        model, opt = parts(0)
        train(loss, model, make_loader(), opt, epochs=2, callbacks=[StopAt(stop), Checkpoint(path, epochs=None)])
        if stop:
            model, opt = parts(3)
            train(loss, model, make_loader(), opt, epochs=2, callbacks=[StopAt(), Checkpoint(path)], resume=path)
        results.append(weights(model))
    assert results[0] == results[1]


def test_early_stopping_goes_on_counting(tmp_path):
    path = tmp_path / "c.npz"

    def once(stop, resume, fresh=0):
        seed(fresh)
        early = EarlyStopping("loss", patience=3, min_delta=10.0)
        callbacks = [early, StopAt(epoch=stop), Checkpoint(path, epochs=None)]
        return train(loss, make_model(fresh), make_loader(), Adam(), epochs=9, callbacks=callbacks, resume=resume)

    whole = once(None, None)
    once(2, None)
    second = once(None, path, fresh=4)
    assert whole.stop == second.stop == f"no better loss than {whole.history[0]['loss']:.6g} for 3 epochs"
    assert (whole.epoch, second.epoch) == (4, 4)


# -- what does not fit -------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    seed(0)
    path = tmp_path / "c.npz"
    train(loss, make_model(), make_loader(), Adam(1e-2), epochs=2, callbacks=[StopAt(7), Checkpoint(path)])
    return path


def resume(path, model=None, data=None, rule=None, epochs=2, callbacks=None):
    model = make_model(5) if model is None else model
    data = make_loader() if data is None else data
    opt = setup(rule or Adam(1e-2), model)
    callbacks = [StopAt(), Checkpoint(path)] if callbacks is None else callbacks
    before = weights(model), opt.state_dict()
    try:
        return train(loss, model, data, opt, epochs=epochs, callbacks=callbacks, resume=path)
    except Exception:
        assert weights(model) == before[0]
        np.testing.assert_equal(opt.state_dict(), before[1])
        raise


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": make_model(rng=Generator(1))}, r"random generators at \['default'\], this model at \['1.rng', 'def"),
        ({"model": {"w": Param(np.ones(2, np.float32))}}, "the state dict does not fit the model, nothing was loaded"),
        ({"rule": Momentum()}, "does not fit this optimiser, nothing was loaded"),
        ({"data": make_loader(shuffle=False)}, "the state was saved with shuffle=True, this loader has False"),
        ({"data": DataLoader((X, Y), 4, shuffle=True)}, "the state was saved with batchsize=5, this loader has 4"),
        ({"data": [(X, Y)]}, "saved with a DataLoader as its data, this run has another iterable"),
        ({"epochs": 1}, r"the checkpoint is in epoch 2, this run ends after 1 \(epochs= counts those before"),
        ({"callbacks": []}, r"saved with the callbacks \[StopAt, Checkpoint\], this run has \[\]"),
    ],
)
def test_a_run_that_does_not_fit(saved, options, message):
    with pytest.raises(ValueError, match=message):
        resume(saved, **options)


def test_a_list_cannot_become_a_loader(tmp_path):
    callbacks = [StopAt(), Checkpoint(tmp_path / "c.npz")]
    train(loss, make_model(), [(X, Y)], Adam(), callbacks=callbacks)
    with pytest.raises(ValueError, match="saved with another iterable as its data, this run has a DataLoader"):
        resume(tmp_path / "c.npz")


def test_another_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "c.npz", {"model": {}, "data": None})
    with pytest.raises(ValueError, match="not the state of a training run: it has no optimiser, generators, progress"):
        resume(tmp_path / "c.npz")
    with pytest.raises(FileNotFoundError, match="no such file"):
        resume(tmp_path / "gone.npz")


def test_a_loss_that_was_not_finite_is_saved_too(tmp_path):
    model = make_model()
    model[0].weight.data[...] = math.nan
    path = tmp_path / "c.safetensors"
    train(loss, model, make_loader(), Adam(), callbacks=[Checkpoint(path)])
    assert math.isnan(load_checkpoint(path)["progress"]["history"][0]["loss"])
