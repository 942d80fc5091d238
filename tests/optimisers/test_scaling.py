"""LossScale: against torch.amp.GradScaler, and what a skipped step leaves alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Param, gradient
from minitorch_flux.capturing import capture
from minitorch_flux.nn.conversions import f16
from minitorch_flux.nn.dense import Dense
from minitorch_flux.optimisers import (
    AccumGrad,
    Adam,
    ClipNorm,
    Descent,
    LossScale,
    Momentum,
    OptimiserChain,
    adjust,
    freeze,
    setup,
    thaw,
    update,
)

ONES = np.ones(3, np.float32)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def without_scale(opt):
    return {k: v for k, v in opt.state_dict().items() if not k.startswith("loss_scale")}


@given(
    steps=st.lists(st.sampled_from(["good", "good", "inf", "nan"]), min_size=1, max_size=12),
    initial=st.sampled_from([2.0**16, 1000.0, 2.0**20]),
    growth=st.sampled_from([2.0, 1.5]), backoff=st.sampled_from([0.5, 0.75]), interval=st.integers(1, 4),
    clip=st.booleans(),
)  # fmt: skip
def test_it_is_pytorchs_grad_scaler(steps, initial, growth, backoff, interval, clip):
    """The scale, the weights, and which steps are skipped; with clipping, PyTorch's gradients are unscaled before."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(len(steps))
    params = [Param(rng.standard_normal(s).astype(np.float32)) for s in ((3, 2), (4,))]
    rules = [ClipNorm(0.5, total=True)] if clip else []
    opt = setup(OptimiserChain(LossScale(initial, growth, backoff, interval), *rules, Momentum(0.1)), params)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in params]
    optimiser = torch.optim.SGD(theirs, 0.1, 0.9)
    scaler = torch.amp.GradScaler("cpu", initial, growth, backoff, interval)
    scaler.scale(torch.zeros(()))
    skipped = 0
    for kind in steps:
        assert opt.loss_scale == scaler.get_scale()
        gs = [(opt.loss_scale * rng.standard_normal(p.shape)).astype(np.float32) for p in params]
        if kind != "good":
            gs[1][2] = float(kind)
            skipped += 1
        for t, g in zip(theirs, gs, strict=True):
            t.grad = torch.from_numpy(g.copy())
        if clip:
            scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        scaler.step(optimiser)
        scaler.update()
        update(opt, params, gs)
    assert opt.loss_scale == scaler.get_scale()
    assert opt.skipped == skipped
    for p, t in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=2e-5, atol=1e-6)
        assert p.version == len(steps) - skipped


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", range(4))
def test_a_skipped_step_changes_nothing_anywhere(where, bad):
    """One number of one of several dtypes, clocks and rules, a part of which is frozen."""
    params = [Param(np.ones(s, d)) for s, d in (((2, 3), np.float16), ((3,), np.float32), ((), np.float64), ((4,), np.float16))]
    params.append(freeze(Param(np.ones(2, np.float32))))
    params.append(Param(np.ones(0, np.float32)))
    opt = setup(OptimiserChain(LossScale(64.0), ClipNorm(1.0), Adam(0.1)), params)

    def grads(value=1.0):
        gs = [np.full(p.shape, 64.0, p.dtype) for p in params]
        gs[where][...] = value
        return gs

    update(opt, params, [None, *grads()[1:]])
    adjust(opt["2"], 0.01)
    update(opt, params, grads())
    before, values, versions = without_scale(opt), [p.data.copy() for p in params], [p.version for p in params]
    gs = grads(bad)
    update(opt, params, gs)
    assert same(before, without_scale(opt))
    assert all(np.array_equal(a, p.data) for a, p in zip(values, params, strict=True))
    assert versions == [p.version for p in params]
    assert (opt.loss_scale, opt.skipped) == (32.0, 1)
    gs[4] = np.full(2, np.nan, np.float32)  # of a frozen part: nobody's concern
    gs[where][...] = 1
    update(opt, params, gs)
    assert opt.skipped == 1
    assert params[where].version == versions[where] + 1


def test_gradients_that_16_bits_cannot_hold():
    """1e-8 is 0 in float16; multiplied by 65536 it is not, and it is divided in float32, with masters and without."""
    for master_weights in (True, False):
        p = Param(np.ones(3, np.float16))
        opt = setup(OptimiserChain(LossScale(), Momentum(0.0, 0.0)), p, master_weights=master_weights)
        update(opt, p, (1e-8 * opt.loss_scale * ONES).astype(np.float16))
        np.testing.assert_allclose(opt.states()[""]["1.u"], 1e-8, rtol=1e-3)
    p = Param(np.ones(3, np.float16))
    opt = setup(OptimiserChain(LossScale(), Descent(1000.0)), p)
    for _ in range(1000):
        update(opt, p, (1e-8 * opt.loss_scale * ONES).astype(np.float16))
    np.testing.assert_allclose(p.data, 0.99, rtol=1e-3)


def test_by_hand():
    """The loop of the docstring, with gradients that are too small for float16 without a scale."""
    x = np.full((4, 3), 1e-4, np.float32)
    m = f16(Dense(3, 2, bias=False))
    m.weight.data[...] = 0
    assert not gradient(lambda m: (m(x) * 1e-4).mean(), m).weight.any()
    opt = setup(OptimiserChain(LossScale(2.0**10), Descent(1.0)), m)
    for _ in range(3):
        update(opt, m, gradient(lambda m: (m(x) * 1e-4).mean() * opt.loss_scale, m))
    np.testing.assert_allclose(opt.states()["weight"]["master"], -3 * 1e-4 / 8 * 4e-4, rtol=0.02)


def test_its_bounds():
    p = Param(ONES.copy())
    opt = setup(OptimiserChain(LossScale(2.0**31, growth_interval=1), Descent(0.1)), p)
    for _ in range(3):
        update(opt, p, ONES)
    assert opt.loss_scale == 2.0**32
    opt = setup(OptimiserChain(LossScale(3.0), Descent(0.1)), p)
    for n in (1, 2):
        update(opt, p, np.nan * ONES)
        assert opt.skipped == n
    assert opt.loss_scale == 1.0
    update(opt, p, ONES)
    before = opt.state_dict(), p.data.copy()
    with pytest.raises(FloatingPointError, match="infinite or NaN even at the lowest scale, 1 .2 steps were skipped.*bfloat16"):
        update(opt, p, np.nan * ONES)
    assert same(before[0], opt.state_dict())
    assert np.array_equal(before[1], p.data)


# -- with AccumGrad ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_accumulating(first):
    """LossScale first: what overflows is left out of the sum. Last: it spoils the whole mean, which is skipped."""
    p = Param(np.zeros(3, np.float32))
    rules = (LossScale(8.0), AccumGrad(2)) if first else (AccumGrad(2), LossScale(8.0))
    opt = setup(OptimiserChain(*rules, Descent(1.0)), p)
    for g in (8.0, np.inf, 16.0, 24.0):
        update(opt, p, g * ONES)
    # First: 8/8; skipped, and the scale is 4; 16/4, the mean of 1 and 4 is taken; 24/4 waits.
    # Last: 8 and inf are skipped, and the scale is 4; the mean of 16/4 and 24/4 is taken.
    np.testing.assert_allclose(p.data, -2.5 if first else -5.0)
    assert (opt.loss_scale, opt.skipped) == (4.0, 1)


def test_sums_that_are_not_complete_go_on_in_the_new_scale():
    """Parts that were thawed at another time are elsewhere in their sums when the scale changes."""
    params = [Param(np.zeros(3, np.float32)), freeze(Param(np.zeros(3, np.float32)))]
    opt = setup(OptimiserChain(AccumGrad(2), LossScale(8.0), Descent(1.0)), params)
    update(opt, params, [8 * ONES, None])
    thaw(params[1])
    update(opt, params, [np.inf * ONES, 8 * ONES])  # the first one's mean is skipped, the second one's sum begins
    assert opt.loss_scale == 4.0
    update(opt, params, [4 * ONES, 4 * ONES])  # gradients of 1, as the one before was
    np.testing.assert_array_equal(params[1].data, -1.0)


# -- settings and state ------------------------------------------------------------------------------------------------


def test_where_it_belongs():
    p = Param(ONES.copy())
    for rule in (OptimiserChain(Adam(), LossScale()), OptimiserChain(AccumGrad(2), ClipNorm(1.0), LossScale())):
        with pytest.raises(ValueError, match="setup: LossScale comes first in a chain, or directly after AccumGrad"):
            setup(rule, p)
    with pytest.raises(ValueError, match=r"setup: a chain takes one LossScale, .* has 2"):
        setup(OptimiserChain(LossScale(), OptimiserChain(LossScale(), Adam())), p)
    for rule in (LossScale(2.0), OptimiserChain(OptimiserChain(LossScale(2.0), Adam()))):
        assert setup(rule, p).loss_scale == 2.0
    opt = setup(Adam(), p)
    assert (opt.loss_scale, opt.scales, opt.skipped) == (1.0, False, 0)
    assert setup(LossScale(), p).scales


def test_words():
    assert repr(OptimiserChain(LossScale(), Adam())) == "OptimiserChain(LossScale(initial=65536.0), Adam(eta=0.001))"
    assert LossScale(init_scale=4) == LossScale(4.0)
    with pytest.raises(TypeError, match="LossScale: no setting 'enabled'; leave LossScale out of the chain. It takes initial"):
        LossScale(enabled=False)


def test_adjusting():
    params = [Param(ONES.copy()), Param(ONES.copy())]
    opt = setup(OptimiserChain(LossScale(64.0, growth_interval=3), Descent(0.1)), params)
    update(opt, params, [np.inf * ONES] * 2)
    adjust(opt, 0.5)
    adjust(opt["0"], 0.25)
    adjust(opt, growth_interval=1)
    assert opt.loss_scale == 32.0
    update(opt, params, [ONES] * 2)
    assert opt.loss_scale == 64.0
    adjust(opt, initial=16)
    assert (opt.loss_scale, opt.skipped) == (16.0, 1)
    for state, part in ((opt, "0"), (setup(opt.rule[0], params), "1")):
        with pytest.raises(ValueError, match="adjust: there is one loss scale for all parameters; adjust the whole state"):
            adjust(state[part], backoff_factor=0.25)
    assert opt.rule[0].rules[0] == opt.rule[1].rules[0] == LossScale(16.0, growth_interval=1)


def test_saving():
    params = [Param(ONES.copy()), Param(np.ones(2, np.float16))]
    rule = OptimiserChain(LossScale(64.0, growth_interval=3), Momentum(0.1))
    opt = setup(rule, params)
    for g in (1.0, np.inf, 1.0, 1.0):
        update(opt, params, [np.full(p.shape, g, p.dtype) for p in params])
    state = opt.state_dict()
    assert [state[k] for k in ("loss_scale", "loss_scale.good", "loss_scale.skipped")] == [32.0, 2, 1]
    others = [copy.deepcopy(opt), pickle.loads(pickle.dumps(opt)), setup(rule, params)]
    others[2].load_state_dict({k: np.array(v) for k, v in state.items()})
    for other in others:
        assert same(other.state_dict(), state)
        update(other, [Param(p.data.copy()) for p in params], [np.ones(p.shape, p.dtype) for p in params])
        assert other.loss_scale == 64.0
    assert opt.loss_scale == 32.0
    for change, text in [
        ({"loss_scale": 0.25}, "loss_scale: 0.25 is not within 1 and 2"), ({"loss_scale": None}, "loss_scale: missing"),
        ({"loss_scale.good": -1}, "loss_scale.good: -1 is no number"), ({"loss_scale.x": 1}, "loss_scale.x: unexpected"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=text):
            opt.load_state_dict({k: v for k, v in {**state, **change}.items() if v is not None})
    adjust(opt["0"], 0.5)
    two = opt.state_dict()
    two["rules.1.0.LossScale.growth_interval"] = 7
    with pytest.raises(ValueError, match="rules: they have different LossScales"):
        opt.load_state_dict(two)
    assert opt.loss_scale == 32.0
    with pytest.raises(ValueError, match="loss_scale: unexpected"):
        setup(Momentum(), params).load_state_dict(setup(LossScale(), params).state_dict())


def test_a_captured_step_follows_the_scale():
    """``opt.loss_scale`` inside a captured step is read anew at every replay; what is skipped is skipped there, too."""
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    results = []
    for wrap in (capture, lambda f: f):
        m = f16(Dense(3, 2))
        m.weight.data[...] = np.arange(6).reshape(2, 3) / 8
        opt = setup(OptimiserChain(LossScale(growth_interval=3), Adam(1e-3)), m)

        def step(x, m=m, opt=opt):
            update(opt, m, gradient(lambda m: (m(x) ** 2).mean() * opt.loss_scale, m))

        run = wrap(step)
        with np.errstate(all="ignore"):
            for _ in range(12):
                run(x)
        assert opt.skipped > 0
        results.append(opt.state_dict())
    assert same(*results)
