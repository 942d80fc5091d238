"""train with LossScale: the loss that is reported, the steps that are skipped, captured and resumed runs."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_flux.autograd import withgradient
from minitorch_flux.backend import Generator
from minitorch_flux.data import DataLoader
from minitorch_flux.files import load_checkpoint
from minitorch_flux.losses import logitcrossentropy
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.conversions import bf16, f16
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.state_dicts import state_dict
from minitorch_flux.ops.nonlinearities import tanh
from minitorch_flux.optimisers import AccumGrad, Adam, ClipNorm, LossScale, OptimiserChain, setup, update
from minitorch_flux.training import Callback, Checkpoint, StopOnNonFinite, train

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((22, 3)).astype(np.float32), RNG.integers(0, 4, 22)
STEPS, EPOCHS = 5, 3


def made(dtype=f16, seed=0):
    draws = Generator(seed)
    return dtype(Chain(Dense(3, 6, tanh, rng=draws), Dense(6, 4, rng=draws)))


def loader():
    return DataLoader((X, Y), 5, shuffle=True, rng=Generator(7))


def loss(m, x, y):
    return logitcrossentropy(m(x), y)


def scored(m, x, y):
    y_hat = m(x)
    return logitcrossentropy(y_hat, y), {"accuracy": (y_hat.argmax(axis=1) == y).mean()}


def rule(scale=2.0**21, interval=3):
    """A scale that is too large at first, and again and again."""
    return OptimiserChain(LossScale(scale, growth_interval=interval), ClipNorm(1.0, total=True), Adam(1e-2))


def rows(state):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in state.history]


def weights(m):
    return {k: a.tobytes() for k, a in state_dict(m).items()}


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, state):
        if state.step == self.step:
            state.stop = "interrupted"


class Losses(Callback):
    def __init__(self):
        self.found = []

    def on_loss(self, state):
        self.found.append(state.loss)


@pytest.mark.parametrize("function", [loss, scored])
def test_a_run_is_the_loop_by_hand(function):
    m, seen = made(), Losses()
    state = train(function, m, loader(), rule(), epochs=EPOCHS, callbacks=[seen, StopOnNonFinite()])
    assert not state.stop
    other, data = made(), loader()
    opt = setup(rule(), other)
    losses = []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(EPOCHS):
            for x, y in data:
                losses.append(float(np.float32(loss(other, x, y).item())))
                _, g = withgradient(lambda m, x=x, y=y: loss(m, x, y) * np.array(opt.loss_scale, np.float32), other)
                update(opt, other, g)
    assert weights(m) == weights(other)
    assert 0 < opt.skipped == state.skipped == state.history[-1]["skipped"]
    assert state.opt.loss_scale == opt.loss_scale
    assert state.step == STEPS * EPOCHS, "skipped steps count"
    np.testing.assert_allclose(seen.found, losses, rtol=2e-3)
    assert ("accuracy" in state.history[-1]) == (function is scored)
    assert "skipped" not in train(loss, m, loader(), Adam(1e-2)).history[-1]


@pytest.mark.parametrize("dtype", [f16, bf16], ids=["float16", "bfloat16"])
def test_captured_gradients_train_alike(dtype):
    """The scale is an input of the captured gradient, not a number frozen into it."""
    if dtype is bf16:
        pytest.importorskip("ml_dtypes")
    found = []
    for capture in (True, False):
        m = made(dtype)
        state = train(scored, m, loader(), rule(), epochs=EPOCHS, capture=capture)
        found.append((rows(state), weights(m), state.opt.loss_scale))
    assert found[0] == found[1]
    assert found[0][2] != 2.0**21


@pytest.mark.parametrize(
    ("stops", "kind", "accumulate"), [([1], "npz", False), ([4, 9], "safetensors", True), ([5, 6, 13], "npz", True)]
)
def test_a_run_goes_on_bit_for_bit(tmp_path, stops, kind, accumulate):
    path = tmp_path / f"c.{kind}"

    def run(resume, fresh, *more):
        first = rule() if not accumulate else OptimiserChain(AccumGrad(2), rule())
        m, callbacks = made(seed=fresh), [*more, Checkpoint(path, epochs=None)]
        state = train(scored, m, loader(), first, epochs=EPOCHS, resume=resume, callbacks=callbacks)
        return rows(state), weights(m), {k: np.asarray(v).tobytes() for k, v in state.opt.state_dict().items()}, state.skipped

    whole = run(None, 0, StopAt(0))
    resume = None
    for i, k in enumerate(stops):
        run(resume, i, StopAt(k))
        resume = path
    assert run(resume, 9, StopAt(0)) == whole
    assert whole[3] > 0
    assert load_checkpoint(path)["optimiser"]["loss_scale.skipped"] == whole[3]


def test_a_loss_that_is_itself_not_finite_still_stops():
    def broken(m, x, y):
        return loss(m, x, y) * (np.nan if len(seen.found) == 3 else 1.0)

    m, seen = made(), Losses()
    state = train(broken, m, loader(), rule(2.0**8), epochs=EPOCHS, callbacks=[seen, StopOnNonFinite()])
    assert state.step == 3
    assert "the loss is nan" in state.stop


def test_a_run_that_overflows_for_good_says_so():
    m = made()
    m[0].weight.data[...] = np.nan
    with pytest.raises(FloatingPointError, match="infinite or NaN even at the lowest scale"):
        train(loss, m, loader(), rule(4.0), epochs=EPOCHS)


def test_parameters_without_layers():
    params = {"w": np.ones((3, 4), np.float16), "b": np.zeros(4, np.float16)}
    state = train(lambda p, x, y: logitcrossentropy(x.astype(np.float16) @ p["w"] + p["b"], y), params, loader(), rule(64.0))
    assert state.opt.scales
    assert abs(params["b"]).max() > 0
