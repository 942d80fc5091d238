"""Every rule against an oracle, option by option, and what all rules have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import minitorch_flux.optimisers as optimisers
from minitorch_flux.autograd import Param, tensor
from minitorch_flux.backend import use_kernels
from minitorch_flux.optimisers import (
    AccumGrad,
    AdaBelief,
    AdaDelta,
    AdaGrad,
    Adam,
    AdaMax,
    AdamW,
    AMSGrad,
    ClipGrad,
    ClipNorm,
    Descent,
    Lion,
    LossScale,
    Momentum,
    NAdam,
    Nesterov,
    OptimiserChain,
    RAdam,
    RMSProp,
    Rule,
    WeightDecay,
    setup,
    update,
)

# -- the oracles that are not PyTorch's: one parameter, written from the papers ----------------------------------------


def lion(eta=1e-4, beta=(0.9, 0.99), weight_decay=0.0, maximize=False):
    m = 0.0

    def step(x, g):
        nonlocal m
        g = -g if maximize else g
        c = np.sign(beta[0] * m + (1 - beta[0]) * g)
        m = beta[1] * m + (1 - beta[1]) * g
        return x - eta * (c + weight_decay * x)

    return step


def adabelief(eta=1e-3, beta=(0.9, 0.999), eps=1e-16, weight_decay=0.0, maximize=False, decoupled=False):
    m = s = t = 0.0

    def step(x, g):
        nonlocal m, s, t
        t += 1
        g = -g if maximize else g
        g = g if decoupled else g + weight_decay * x
        m = beta[0] * m + (1 - beta[0]) * g
        s = beta[1] * s + (1 - beta[1]) * (g - m) ** 2 + eps
        new = x - eta * weight_decay * x if decoupled else x
        return new - eta * m / (1 - beta[0] ** t) / (np.sqrt(s / (1 - beta[1] ** t)) + eps)

    return step


def clipped(delta, eta):
    return lambda x, g: x - eta * np.minimum(np.maximum(g, -delta), delta)


def decayed(lambda_, eta):
    return lambda x, g: x - eta * (g + lambda_ * x)


def scaled(scale, eta):
    return lambda x, g: x - eta * g / scale


@dataclass
class Row:
    """A rule and its oracle: a class of torch.optim, or a maker of step functions."""

    rule: Rule
    oracle: str | Callable[..., Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return repr(self.rule)


B = (0.8, 0.95)
ROWS = [
    Row(Descent(), "SGD"),
    Row(Descent(0.1, 0.01, True), "SGD", {"lr": 0.1, "weight_decay": 0.01, "maximize": True}),
    Row(Momentum(), "SGD", {"momentum": 0.9}),
    Row(Momentum(0.05, 0.8, 0.3), "SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}),
    Row(Momentum(rho=0.0, dampening=1.0), "SGD"),
    Row(Momentum(0.05, 0.8, weight_decay=0.1, maximize=True), "SGD",
        {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1, "maximize": True}),
    Row(Nesterov(), "SGD", {"momentum": 0.9, "nesterov": True}),
    Row(Nesterov(0.05, 0.8, 0.1, True), "SGD",
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
    Row(RMSProp(), "RMSprop"),
    Row(RMSProp(0.02, 0.9, 1e-6, 0.1, 0.5, True, True), "RMSprop",
        {"lr": 0.02, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1, "momentum": 0.5, "centered": True,
         "maximize": True}),
    Row(RMSProp(centred=True), "RMSprop", {"centered": True}),
    Row(RMSProp(momentum=0.9), "RMSprop", {"momentum": 0.9}),
    Row(AdaGrad(), "Adagrad"),
    Row(AdaGrad(0.1, 0.01, 0.1, 0.5, 1e-6, True), "Adagrad",
        {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-6,
         "maximize": True}),
    Row(AdaDelta(), "Adadelta"),
    Row(AdaDelta(0.5, 0.95, 1e-5, 0.1, True), "Adadelta",
        {"lr": 0.5, "rho": 0.95, "eps": 1e-5, "weight_decay": 0.1, "maximize": True}),
    Row(AdaMax(), "Adamax"),
    Row(AdaMax(0.01, B, 1e-6, 0.1, True), "Adamax",
        {"lr": 0.01, "betas": B, "eps": 1e-6, "weight_decay": 0.1, "maximize": True}),
    Row(Adam(), "Adam"),
    Row(Adam(0.01, B, 1e-6, 0.1, True, True), "Adam",
        {"lr": 0.01, "betas": B, "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    Row(Adam(0.01, (0.0, 0.0)), "Adam", {"lr": 0.01, "betas": (0.0, 0.0)}),
    Row(Adam(0.01, weight_decay=0.1, decoupled=True), "Adam",
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Row(AMSGrad(0.01, B), "Adam", {"lr": 0.01, "betas": B, "amsgrad": True}),
    Row(AMSGrad(0.01, B, 1e-6, 0.1, True, True), "AdamW",
        {"lr": 0.01, "betas": B, "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    Row(AdamW(), "AdamW"),
    Row(AdamW(0.01, B, 1e-6, 0.1, True, True), "AdamW",
        {"lr": 0.01, "betas": B, "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    Row(NAdam(), "NAdam"),
    Row(NAdam(0.01, B, 1e-6, 0.1, 0.01, True), "NAdam",
        {"lr": 0.01, "betas": B, "eps": 1e-6, "weight_decay": 0.1, "momentum_decay": 0.01, "maximize": True}),
    Row(NAdam(0.01, weight_decay=0.1, decoupled=True), "NAdam",
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Row(RAdam(), "RAdam"),
    Row(RAdam(0.01, B, 1e-6, 0.1, True), "RAdam",
        {"lr": 0.01, "betas": B, "eps": 1e-6, "weight_decay": 0.1, "maximize": True}),
    Row(RAdam(0.01, weight_decay=0.1, decoupled=True), "RAdam",
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Row(Lion(), lion),
    Row(Lion(0.01, B, 0.1, True), lion, {"eta": 0.01, "beta": B, "weight_decay": 0.1, "maximize": True}),
    Row(AdaBelief(), adabelief),
    Row(AdaBelief(0.01, B, 1e-6, 0.1, True), adabelief,
        {"eta": 0.01, "beta": B, "eps": 1e-6, "weight_decay": 0.1, "maximize": True}),
    Row(AdaBelief(0.01, weight_decay=0.1, decoupled=True), adabelief,
        {"eta": 0.01, "weight_decay": 0.1, "decoupled": True}),
    Row(OptimiserChain(WeightDecay(0.1), Adam(0.01)), "Adam", {"lr": 0.01, "weight_decay": 0.1}),
    Row(OptimiserChain(Momentum(1.0, 0.9), Descent(0.01)), "SGD", {"lr": 0.01, "momentum": 0.9}),
    Row(OptimiserChain(Adam(0.01), OptimiserChain(Descent(1.0))), "Adam", {"lr": 0.01}),
    Row(OptimiserChain(ClipGrad(0.5), Descent(0.1)), clipped, {"delta": 0.5, "eta": 0.1}),
    Row(OptimiserChain(Descent(0.1), ClipGrad(0.05)), clipped, {"delta": 0.5, "eta": 0.1}),
    Row(OptimiserChain(WeightDecay(0.3), Descent(0.1)), decayed, {"lambda_": 0.3, "eta": 0.1}),
    Row(WeightDecay(0.3), decayed, {"lambda_": 0.3, "eta": 1.0}),
    Row(OptimiserChain(), decayed, {"lambda_": 0.0, "eta": 1.0}),
    Row(OptimiserChain(LossScale(8.0), Descent(0.1)), scaled, {"scale": 8.0, "eta": 0.1}),
    Row(LossScale(100.0), scaled, {"scale": 100.0, "eta": 1.0}),
]  # fmt: skip

SHAPES = [(3, 4), (), (5,), (0, 3), (1,), (40, 30)]


def parameters(dtype, shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s), dtype) for s in shapes]


def gradients(dtype, t, shapes=SHAPES):
    rng = np.random.default_rng(1000 + t)
    return [np.asarray(rng.standard_normal(s) * 10.0 ** rng.integers(-3, 2), dtype) for s in shapes]


def expected(row, dtype, steps):
    """The parameters after every step, by the oracle."""
    if not isinstance(row.oracle, str):
        xs = parameters(dtype)
        step = [row.oracle(**row.settings) for _ in xs]
        found = []
        for t in range(steps):
            xs = [f(x, g) for f, x, g in zip(step, xs, gradients(dtype, t), strict=True)]
            found.append(xs)
        return found
    torch = pytest.importorskip("torch")
    ps = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in parameters(dtype)]
    optimiser = getattr(torch.optim, row.oracle)(ps, **row.settings)
    found = []
    for t in range(steps):
        for p, g in zip(ps, gradients(dtype, t), strict=True):
            p.grad = torch.from_numpy(g)
        optimiser.step()
        found.append([p.detach().numpy().copy() for p in ps])
    return found


@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "reference"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_fifty_steps(row, dtype, kernels):
    params = [Param(x) for x in parameters(dtype)]
    opt = setup(row.rule, params)
    # Of the largest value that an element has had; in float32 half an ulp for each of 50 additions. (PyTorch keeps
    # NAdam's product in float32 always.)
    tolerance = 1e-7 if dtype == np.float64 else 3e-6
    peaks = [np.maximum(abs(p.data), 1) for p in params]
    with use_kernels(kernels):
        for t, want in enumerate(expected(row, dtype, 50)):
            update(opt, params, gradients(dtype, t))
            for i, (p, w) in enumerate(zip(params, want, strict=True)):
                assert p.dtype == dtype
                assert p.version == t + 1
                peaks[i] = np.maximum(peaks[i], abs(w))
                np.testing.assert_array_less(abs(p.data - w), tolerance * peaks[i])


ALL = [
    Descent(0.05), Momentum(0.01), Nesterov(0.01), RMSProp(0.01), RMSProp(0.01, centred=True, momentum=0.5),
    AdaGrad(0.5), AdaDelta(20.0), AdaMax(0.1), Adam(0.1), AMSGrad(0.1), AdamW(0.1, weight_decay=1e-4), NAdam(0.1),
    RAdam(0.1), Lion(0.02), AdaBelief(0.1), OptimiserChain(ClipNorm(1.0), Adam(0.1)),
    OptimiserChain(ClipGrad(1.0), WeightDecay(1e-4), Momentum(0.02)), OptimiserChain(LossScale(16.0), Adam(0.1)),
]  # fmt: skip


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_converges_on_a_quadratic(rule):
    scales, target = np.array([1.0, 3.0, 0.5, 2.0]), np.array([1.0, -2.0, 0.5, 0.0])
    x = np.zeros(4)
    opt = setup(rule, x)
    for _ in range(600):
        update(opt, x, scales * (x - target))
    np.testing.assert_allclose(x, target, atol=0.05)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_dtype_and_state(rule, dtype):
    """Parameters keep their dtype; state is made at setup, keeps its shapes, and is float32 for 16-bit parameters."""
    params = [Param(x) for x in parameters(dtype)]
    opt = setup(rule, params)
    before = {k: (v.shape, v.dtype) for k, v in opt.state_dict().items() if hasattr(v, "shape")}
    for t in range(3):
        update(opt, params, gradients(dtype, t))
    after = {k: (v.shape, v.dtype) for k, v in opt.state_dict().items() if hasattr(v, "shape")}
    assert before == after
    assert all(d == (np.float64 if dtype == np.float64 else np.float32) for _, d in after.values())
    assert all(p.dtype == dtype and np.isfinite(p.data).all() for p in params)


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_16_bit_parameters_follow_32_bit_ones(rule):
    half, single = ([Param(x) for x in parameters(d)] for d in (np.float16, np.float32))
    a, b = setup(rule, half), setup(rule, single)
    for t in range(5):
        gs = gradients(np.float16, t)
        update(a, half, gs)
        update(b, single, [g.astype(np.float32) for g in gs])
    for p, q in zip(half, single, strict=True):
        np.testing.assert_allclose(p.data.astype(np.float32), q.data, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kernels", [True, False])
def test_bfloat16(kernels):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    p = Param(np.ones(5, np.float32).astype(bfloat16))
    opt = setup(Adam(0.1), p)
    with use_kernels(kernels):
        update(opt, p, np.ones(5, np.float32).astype(bfloat16))
    assert p.dtype == bfloat16
    np.testing.assert_allclose(p.data.astype(np.float32), 0.9, rtol=4e-3)


# -- clipping and accumulating -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_clip_norm_of_each_gradient(p):
    x = [np.zeros((2, 3)), np.zeros(4), np.zeros((0,))]
    g = [np.full((2, 3), 2.0), np.full(4, 0.01), np.zeros((0,))]
    opt = setup(ClipNorm(1.5, p), x)
    update(opt, x, g)
    assert np.linalg.norm(x[0].ravel(), p) == pytest.approx(1.5)
    np.testing.assert_array_equal(x[1], -0.01)  # short enough as it is
    np.testing.assert_array_equal(g[0], 2.0)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
@pytest.mark.parametrize("scale", [0.01, 5.0])
def test_clip_norm_of_all_gradients(p, scale):
    torch = pytest.importorskip("torch")
    dtypes = [np.float32, np.float64, np.float32]  # two batches, one norm
    gs = [scale * g for g in gradients(np.float64, 1, [(3, 4), (5,), ()])]
    gs = [np.asarray(g, d) for g, d in zip(gs, dtypes, strict=True)]
    ts = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gs]
    for t, g in zip(ts, gs, strict=True):
        t.grad = torch.from_numpy(g.astype(np.float64))
    torch.nn.utils.clip_grad_norm_(ts, 1.5, norm_type=float(p))
    x = [np.zeros(g.shape, d) for g, d in zip(gs, dtypes, strict=True)]
    update(setup(ClipNorm(1.5, p, total=True), x), x, gs)
    for a, t in zip(x, ts, strict=True):
        np.testing.assert_allclose(-a, t.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("total", [True, False])
def test_clip_norm_refuses_what_is_not_finite(bad, total):
    model = {"a": Param(np.ones(2)), "b": Param(np.ones(3))}
    grads = {"a": np.ones(2), "b": np.array([1.0, bad, 1.0])}
    opt = setup(OptimiserChain(ClipNorm(1.0, total=total), Adam()), model)
    text = "gradients together" if total else "gradient of b has the 2-norm"
    with pytest.raises(FloatingPointError, match=text):
        update(opt, model, grads)
    assert model["a"].version == model["b"].version == 0
    assert opt["a"].states()["a"]["1.t"] == 0
    opt = setup(ClipNorm(1.0, throw=False, total=total), model)
    update(opt, model, grads)
    assert np.isnan(model["b"].data).any()
    assert np.isnan(model["a"].data).any() == (total and bad != bad)


def test_accumulating_gradients():
    """Flux's documentation: x=[1], y=[2], gradients 33 and 0, then 0 and 444."""
    model = {"x": Param(np.array([1.0])), "y": Param(np.array([2.0]))}
    opt = setup(OptimiserChain(AccumGrad(2), WeightDecay(0.01), Descent(0.1)), model)
    for _ in range(2):
        before = {k: p.data.copy() for k, p in model.items()}
        versions = [p.version for p in model.values()]
        update(opt, model, {"x": np.array([33.0]), "y": np.array([0.0])})
        assert all(np.array_equal(p.data, before[k]) for k, p in model.items())
        assert [p.version for p in model.values()] == versions  # nothing was written
        update(opt, model, {"x": np.array([0.0]), "y": np.array([444.0])})
        for k, mean in (("x", 16.5), ("y", 222.0)):
            np.testing.assert_allclose(model[k].data, before[k] - 0.1 * (mean + 0.01 * before[k]))


@pytest.mark.parametrize("n", [1, 3])
def test_accumulating_is_a_larger_batch(n):
    a, b = (Param(parameters(np.float64, [(4, 5)])[0]) for _ in range(2))
    many, one = setup(OptimiserChain(AccumGrad(n), Adam(0.1)), a), setup(Adam(0.1), b)
    for t in range(4):
        gs = [gradients(np.float64, n * t + i, [(4, 5)])[0] for i in range(n)]
        for g in gs:
            update(many, a, g)
        update(one, b, sum(gs) / n)
    np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_clipping_comes_after_the_rules_before_it():
    x = np.array([1.0, -4.0])
    update(setup(OptimiserChain(ClipGrad(1.0), Descent(0.1)), x), x, np.array([7.0, -0.3]))
    np.testing.assert_allclose(x, [0.9, -3.97])
    x = np.zeros(2)
    update(setup(OptimiserChain(Descent(0.1), ClipGrad(0.2)), x), x, np.array([7.0, -0.3]))
    np.testing.assert_allclose(x, [-0.2, 0.03])


# -- settings ----------------------------------------------------------------------------------------------------------

RULES = [getattr(optimisers, name) for name in optimisers.__all__ if isinstance(getattr(optimisers, name), type)
         and issubclass(getattr(optimisers, name), Rule) and name not in ("Rule", "OptimiserChain", "AccumGrad")]


def test_every_rule_is_compared():
    compared = {type(r) for row in ROWS for r in row.rule.rules} | {ClipNorm}
    assert compared == set(RULES)
    assert {type(r) for rule in ALL for r in rule.rules} == set(RULES)


@pytest.mark.parametrize("rule", [r.rule for r in ROWS] + ALL + [ClipNorm(2, math.inf, False, True), AccumGrad(4)],
                         ids=repr)
def test_prints_as_the_python_that_rebuilds_it(rule):
    assert eval(repr(rule), vars(optimisers)) == rule


def test_prints():
    assert repr(Adam()) == "Adam(eta=0.001)"
    assert repr(RMSProp(0.1, centered=True)) == "RMSProp(eta=0.1, centred=True)"
    assert repr(OptimiserChain(ClipNorm(1, math.inf), AdamW(3e-4))) == (
        "OptimiserChain(ClipNorm(omega=1.0, p=float('inf')), AdamW(eta=0.0003))"
    )


def test_other_spellings():
    assert Adam(lr=0.1, betas=[0.5, 0.6], epsilon=1e-3) == Adam(0.1, (0.5, 0.6), 1e-3)
    assert Momentum(lr=0.1, momentum=0.5) == Momentum(0.1, 0.5)
    assert Nesterov(momentum=0.5) == Nesterov(rho=0.5)
    assert RMSProp(alpha=0.5, momentum=0.1, centered=True) == RMSProp(rho=0.5, momentum=0.1, centred=True)
    assert WeightDecay(weight_decay=0.1) == WeightDecay(0.1)
    assert ClipNorm(max_norm=2, norm_type=3) == ClipNorm(2, 3)
    assert ClipGrad(clip_value=2) == ClipGrad(2)
    assert NAdam(decoupled_weight_decay=True) == NAdam(decoupled=True)
    assert Adam() != AMSGrad()
    assert Adam(np.float32(0.5)) == Adam(0.5)
    assert hash(Adam(np.float32(0.5))) == hash(Adam(0.5))


@pytest.mark.parametrize("cls", RULES)
def test_nonsense_is_refused(cls):
    name = cls.__name__
    with pytest.raises(TypeError, match=f"{name}: no setting 'nonsense'. It takes"):
        cls(nonsense=1)
    with pytest.raises(TypeError, match=f"{name} takes .* values .*, got 20"):
        cls(*[0.5] * 20)
    bad = {
        "eta": (-1e-3, math.nan, math.inf, "0.1", None, [0.1]), "eps": (-1e-9,), "weight_decay": (-0.1,),
        "lambda_": (-1,), "rho": (1.0, -0.1), "momentum": (1.5, -0.5), "dampening": (-0.1, 1.1), "lr_decay": (-1,),
        "beta": ((0.9, 1.0), (-0.1, 0.9), 0.9, (0.9,), (0.1, 0.2, 0.3), "ab"), "momentum_decay": (-1,),
        "initial_accumulator_value": (-1,), "delta": (0, -1, math.nan), "omega": (0, math.nan), "p": (0, -1),
        "amsgrad": ("yes", 2, 0.5), "maximize": (None,), "centred": (3,), "decoupled": ("no",), "throw": (2,),
        "total": (-1,), "initial": (0.5, 2.0**33, math.nan, "2"), "growth_factor": (1.0, 0.5, math.inf),
        "backoff_factor": (0.0, 1.0, 2.0), "growth_interval": (0, 1.5, True),
    }  # fmt: skip
    for field_ in cls.fields:
        for value in bad[field_]:
            with pytest.raises(ValueError, match=rf"{name}: {field_} must be .*, got"):
                cls(**{field_: value})


def test_wrong_words_are_explained():
    with pytest.raises(TypeError, match=r"Descent: no setting 'momentum'; use Momentum\(eta, rho\)"):
        Descent(lr=0.1, momentum=0.9)
    with pytest.raises(TypeError, match=r"Momentum: no setting 'nesterov'; use Nesterov\(eta, rho\)"):
        Momentum(nesterov=True)
    with pytest.raises(TypeError, match="Adam: no setting 'fused'; every step is fused here"):
        Adam(fused=True)
    with pytest.raises(TypeError, match="'learning_rate'; it is spelled eta"):
        Adam(learning_rate=0.1)
    with pytest.raises(TypeError, match="Adam: eta is given twice, also as lr"):
        Adam(0.1, lr=0.1)
    with pytest.raises(TypeError, match="AccumGrad: give n, a whole number"):
        AccumGrad()
    with pytest.raises(ValueError, match="AccumGrad: n must be a whole number, at least 1, got 0"):
        AccumGrad(0)
    with pytest.raises(ValueError, match="got 1.5"):
        AccumGrad(1.5)
    with pytest.raises(TypeError, match="OptimiserChain takes rules such as"):
        OptimiserChain(Adam, Descent())
    with pytest.raises(AttributeError, match=r"a rule does not change: use flux.adjust\(opt, eta=...\)"):
        Adam().eta = 0.1


def test_a_rule_of_ones_own():
    """The example in Rule's docstring."""

    class SignDescent(Rule):
        eta: float = 1e-3
        rho: float = 0.9
        flavour: str = "plain"

        def slots(self):
            return {"m": 0.0}

        def apply(self, batch, slots, numbers):
            for piece in batch.pieces:
                x, dx, m = piece.read(*slots)
                m[...] = self.rho * m + dx
                piece.step(self.eta * batch.xp.sign(m))

    rule = SignDescent(lr=0.1, flavour="other")
    assert repr(rule) == "SignDescent(eta=0.1, flavour='other')"
    with pytest.raises(ValueError, match="SignDescent: rho must be"):
        SignDescent(rho=2)
    for r in (rule, OptimiserChain(ClipNorm(1.0), rule), OptimiserChain(rule, ClipNorm(1.0))):
        params = [Param(np.ones(3)), Param(np.ones((2, 2), np.float32))]
        opt = setup(r, params)
        for g in (1.0, -5.0):
            update(opt, params, [np.full(p.shape, g) for p in params])
        np.testing.assert_allclose(params[0].data, 1.0)
        again = setup(r, params)
        again.load_state_dict(opt.state_dict())
        assert again.rule == r


def test_inputs_are_not_written_to():
    g = np.full(20_000, 3.0)
    g.flags.writeable = False
    for rule in ALL:
        x = tensor(np.ones(20_000), requires_grad=True)
        update(setup(rule, x), x, g)
        assert x.version == 1
