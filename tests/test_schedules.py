"""Schedules against torch.optim.lr_scheduler, and in use."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux import schedules
from minitorch_flux.autograd import Param
from minitorch_flux.optimisers import Adam, Momentum, adjust, setup
from minitorch_flux.schedules import (
    Constant,
    CosAnneal,
    Exp,
    Linear,
    OneCycle,
    Plateau,
    Poly,
    Sequence,
    Step,
    Warmup,
)


def by_torch(make, start, n, momentum=False):
    """The learning rates (or momenta) of the first n steps under one of torch's schedulers."""
    torch = pytest.importorskip("torch")
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about epochs given to SequentialLR's parts, by itself
        scheduler = make(torch.optim.lr_scheduler, optimiser)
        found = []
        for _ in range(n):
            group = optimiser.param_groups[0]
            found.append(group["momentum" if momentum else "lr"])
            optimiser.step()
            scheduler.step()
    return found


ROWS = [
    (Step(0.5), lambda s, o: s.StepLR(o, 30), 0.5, 100),
    (Step(0.5, 0.3, 7), lambda s, o: s.StepLR(o, 7, 0.3), 0.5, 40),
    (Step(0.5, 0.3, [4, 5, 20]), lambda s, o: s.MultiStepLR(o, [4, 5, 20], 0.3), 0.5, 40),
    (Exp(0.5, 0.9), lambda s, o: s.ExponentialLR(o, 0.9), 0.5, 50),
    (Linear(0.05, 0.5, 5), lambda s, o: s.LinearLR(o, 0.1, 1.0, 5), 0.5, 12),
    (Poly(0.5, 7), lambda s, o: s.PolynomialLR(o, 7), 0.5, 12),
    (Poly(0.5, 7, 2.5), lambda s, o: s.PolynomialLR(o, 7, 2.5), 0.5, 12),
    (CosAnneal(0.5, period=10), lambda s, o: s.CosineAnnealingLR(o, 10), 0.5, 11),
    (CosAnneal(0.5, 0.01, period=10), lambda s, o: s.CosineAnnealingLR(o, 10, 0.01), 0.5, 35),
    (CosAnneal(0.5, 0.01, period=4, restart=True), lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, 1, 0.01), 0.5, 20),
    (CosAnneal(0.5, period=3, restart=True, growth=2), lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2), 0.5, 40),
    (
        Sequence([Constant(0.25), Exp(0.5, 0.9), Step(0.5, 0.1, 3)], [3, 10]),
        lambda s, o: s.SequentialLR(
            o, [s.ConstantLR(o, 0.5, 99), s.ExponentialLR(o, 0.9), s.StepLR(o, 3, 0.1)], [3, 10]
        ),
        0.5,
        20,
    ),
    (
        Warmup(CosAnneal(0.5, period=10), 5, 0.05),
        lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.1, 1.0, 5), s.CosineAnnealingLR(o, 10)], [5]),
        0.5,
        15,
    ),
    (OneCycle(0.5, 20), lambda s, o: s.OneCycleLR(o, 0.5, 20), 0.1, 20),
    (
        OneCycle(0.5, 23, 0.4, "linear", 10, 100),
        lambda s, o: s.OneCycleLR(
            o, 0.5, 23, pct_start=0.4, anneal_strategy="linear", div_factor=10, final_div_factor=100
        ),
        0.1,
        23,
    ),
    (OneCycle(0.5, 20, three_phase=True), lambda s, o: s.OneCycleLR(o, 0.5, 20, three_phase=True), 0.1, 20),
]


@pytest.mark.parametrize(("schedule", "make", "start", "n"), ROWS, ids=[repr(row[0]) for row in ROWS])
def test_against_torch(schedule, make, start, n):
    np.testing.assert_allclose([schedule(t) for t in range(n)], by_torch(make, start, n), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_momentum_of_one_cycle(anneal, three_phase):
    s = OneCycle(0.5, 20, anneal=anneal, three_phase=three_phase, base_momentum=0.8, max_momentum=0.9)

    def make(lr_scheduler, o):
        return lr_scheduler.OneCycleLR(
            o, 0.5, 20, anneal_strategy=anneal, three_phase=three_phase, base_momentum=0.8, max_momentum=0.9
        )

    np.testing.assert_allclose([s.momentum(t) for t in range(20)], by_torch(make, 0.1, 20, momentum=True), rtol=1e-9)


@given(
    start=st.floats(0.001, 10), factor=st.floats(0, 0.9), patience=st.integers(0, 3),
    mode=st.sampled_from(["min", "max"]), threshold=st.floats(0, 0.5), cooldown=st.integers(0, 3),
    threshold_mode=st.sampled_from(["rel", "abs"]), lowest=st.sampled_from([0.0, 0.01]),
    metrics=st.lists(st.floats(-2, 2) | st.just(math.nan), max_size=40),
)  # fmt: skip
def test_plateau_against_torch(start, metrics, lowest, **settings):
    torch = pytest.importorskip("torch")
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, min_lr=lowest, **settings)
    ours = Plateau(start, lowest=lowest, **settings)
    for i, value in enumerate(metrics):
        theirs.step(value)
        if i == len(metrics) // 2:  # saved and loaded midway
            state, ours = ours.state_dict(), Plateau(1.0, lowest=lowest, **settings)
            ours.load_state_dict(state)
        assert ours(value) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)
        assert ours.rate == ours.state_dict()["rate"]


def test_where_schedules_end():
    assert Linear(0.1, 0.2, 5)(100) == 0.2
    assert Poly(0.1, 5)(100) == 0.0
    assert Poly(0.1, 5, 0)(4) == 0.1
    assert OneCycle(1.0, 10)(500) == OneCycle(1.0, 10)(9) == pytest.approx(1 / 25 / 1e4)
    assert OneCycle(1.0, 1)(0) == pytest.approx(1 / 25 / 1e4)
    assert OneCycle(1.0, 10, pct_start=0)(0) < 1  # past the peak already
    assert OneCycle(1.0, 10, pct_start=1)(9) == 1
    assert Warmup(0.3, 4)(0) == 0
    assert Warmup(0.3, 4)(1) == pytest.approx(0.075)
    assert Warmup(0.3, 4)(4) == Warmup(0.3, 4)(400) == 0.3
    assert Sequence([Exp(1.0, 0.5)], [])(3) == 0.125


def test_functions_are_schedules():
    s = Sequence([lambda t: 1.0 + t, Warmup(lambda t: 8.0, 4)], [2])
    assert [s(t) for t in range(8)] == [1, 2, 0, 2, 4, 6, 8, 8]


@pytest.mark.parametrize(
    "schedule", [r[0] for r in ROWS] + [Constant(0.1), Warmup(0.1, 3), Plateau(0.1, patience=2, mode="max")], ids=repr
)
def test_prints_as_the_python_that_rebuilds_it(schedule):
    again = eval(repr(schedule), vars(schedules))
    assert repr(again) == repr(schedule)
    assert isinstance(schedule, Plateau) or again == schedule


def test_prints():
    assert repr(Warmup(CosAnneal(1e-3, period=90), 10)) == "Warmup(CosAnneal(0.001, period=90), 10)"
    assert repr(OneCycle(0.5, 20, div_factor=10)) == "OneCycle(0.5, 20, div_factor=10.0)"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant(-1), "Constant: value must be a finite number, at least 0, got -1"),
        (lambda: Exp(math.nan, 0.5), "Exp: start must be a finite number, at least 0, got nan"),
        (lambda: Exp(0.5, math.inf), "Exp: decay must be a finite number"),
        (lambda: Exp("0.5", 0.5), "Exp: start must be a finite number, at least 0, got '0.5'"),
        (lambda: Step(0.5, size=0), "Step: size must be a whole number, at least 1, got 0"),
        (lambda: Step(0.5, size=1.5), "Step: size must be a whole number, at least 1, got 1.5"),
        (lambda: Step(0.5, size=[3, 3]), r"Step: size must increase, got \[3, 3\]"),
        (lambda: CosAnneal(0.5, period=0), "CosAnneal: period must be a whole number"),
        (lambda: CosAnneal(0.5, period=3, growth=2), "CosAnneal: growth is the factor .* needs restart=True"),
        (lambda: Sequence([Exp(1, 1)], [3]), "Sequence: 1 milestones separate 2 schedules, got .*Exp"),
        (lambda: Sequence([Exp(1, 1), 0.5], [3]), r"Sequence: 1 milestones separate 2 schedules, got .*0.5\]"),
        (lambda: Sequence([Exp(1, 1)] * 3, [3, 2]), r"Sequence: milestones must increase, got \[3, 2\]"),
        (lambda: OneCycle(0.5, 10, 1.5), "OneCycle: pct_start must be a finite number, between 0 and 1, got 1.5"),
        (lambda: OneCycle(0.5, 10, anneal="sine"), "OneCycle: anneal is 'cos' or 'linear', got 'sine'"),
        (lambda: OneCycle(0.5, 10, div_factor=0), "OneCycle: div_factor must be"),
        (lambda: Plateau(0.5, 1.0), "Plateau: factor must be a finite number, between 0 and 1, got 1.0"),
        (lambda: Plateau(0.5, mode="low"), "Plateau: mode is 'min' or 'max', got 'low'"),
        (lambda: Plateau(0.5, patience=-1), "Plateau: patience must be a whole number, at least 0, got -1"),
    ],
)
def test_nonsense_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_plateau_state_must_be_whole():
    with pytest.raises(KeyError, match="Plateau: the state needs .*'bad', 'best', 'rate', 'resting'.*, got .*'rate'"):
        Plateau(0.1).load_state_dict({"rate": 0.1})


def test_adjusting_by_a_schedule():
    for rule in (Momentum(), Adam()):
        opt = setup(rule, Param(np.ones(2)))
        s = OneCycle(0.5, 10)
        for t in range(10):
            adjust(opt, s(t), momentum=s.momentum(t))
        assert opt.rule.eta == s(9)
        assert (opt.rule.beta[0] if isinstance(rule, Adam) else opt.rule.rho) == s.momentum(9)


# -- in training -------------------------------------------------------------------------------------------------------


def run(schedule_callback, epochs=4, **keywords):
    from minitorch_flux.nn.dense import Dense
    from minitorch_flux.training import Callback, train

    class Noting(Callback):
        def __init__(self):
            self.rates = []

        def on_step_end(self, state):
            self.rates.append(state.opt.rule.eta)

    model = Dense(np.ones((1, 2)))
    data = [(np.ones((3, 2)),), (np.zeros((3, 2)),)]
    noting = Noting()
    state = train(lambda m, x: (m(x) * 0.0).sum() + 1.0, model, data, Momentum(9.0), epochs=epochs,
                  callbacks=[*schedule_callback, noting], **keywords)  # fmt: skip
    return noting.rates, state


def test_callback():
    from minitorch_flux.training import Schedule

    s = Exp(1.0, 0.5)
    assert run([Schedule(s)])[0] == [s(t) for t in range(8)]
    assert run([Schedule(s, every="epoch")])[0] == [s(t // 2) for t in range(8)]
    cycle = OneCycle(1.0, 8)
    rates, state = run([Schedule(cycle), Schedule(cycle.momentum, name="momentum")])
    assert rates == [cycle(t) for t in range(8)]
    assert state.opt.rule.rho == cycle.momentum(7)


def test_plateau_as_callback(tmp_path):
    """The loss never improves after the first epoch: cut at the end of the third."""
    from minitorch_flux.training import Checkpoint, Schedule

    assert run([Schedule(Plateau(1.0, 0.5, 1), metric="loss")], 5)[0] == [1.0] * 6 + [0.5] * 4
    file = tmp_path / "run.safetensors"
    first = run([Schedule(Plateau(1.0, 0.5, 1), metric="loss"), Checkpoint(file)], 2)[0]
    rest = run([Schedule(Plateau(1.0, 0.5, 1), metric="loss"), Checkpoint(file)], 5, resume=file)[0]
    assert first + rest == [1.0] * 6 + [0.5] * 4
