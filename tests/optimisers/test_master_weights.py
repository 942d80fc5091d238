"""Float32 masters of 16-bit parameters: against PyTorch by hand, against a float32 twin, and who else writes to a parameter."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Param, gradient
from minitorch_flux.backend import FUNCTIONS, use_kernels
from minitorch_flux.capturing import capture
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.conversions import f16, f32
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.moving import cpu
from minitorch_flux.ops.nonlinearities import tanh
from minitorch_flux.optimisers import (
    AccumGrad,
    AdaBelief,
    AdaDelta,
    AdaGrad,
    Adam,
    AdaMax,
    AdamW,
    ClipGrad,
    ClipNorm,
    Descent,
    Lion,
    Momentum,
    NAdam,
    OptimiserChain,
    RMSProp,
    WeightDecay,
    adjust,
    freeze,
    setup,
    thaw,
    update,
)

SHAPES = [(3, 4), (), (0, 3), (1,), (70, 300)]


def dtype_of(name):
    return np.dtype(np.float16) if name == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


def numbers(shapes, dtype, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [np.asarray(scale * rng.standard_normal(s), np.float32).astype(dtype) for s in shapes]


def masters(opt):
    return [state["master"] for state in opt.states().values()]


def follows(opt, params):
    """Every parameter is its master, rounded."""
    for w, p in zip(masters(opt), params, strict=True):
        assert w.dtype == np.float32
        assert w.shape == p.shape
        np.testing.assert_array_equal(w.astype(p.dtype), p.data)


# -- by hand in PyTorch ------------------------------------------------------------------------------------------------

ORACLES = [
    (Momentum(0.05, 0.8), "SGD", {"lr": 0.05, "momentum": 0.8}),
    (RMSProp(0.01, centred=True), "RMSprop", {"lr": 0.01, "centered": True}),
    (AdamW(0.01, weight_decay=0.1), "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    (OptimiserChain(WeightDecay(0.1), Adam(0.01)), "Adam", {"lr": 0.01, "weight_decay": 0.1}),
    (OptimiserChain(ClipNorm(1.0, total=True), Descent(0.1)), "SGD", {"lr": 0.1}),
]


@given(rule=st.sampled_from(ORACLES), name=st.sampled_from(["float16", "bfloat16"]), kernels=st.booleans(),
       shapes=st.lists(st.sampled_from(SHAPES[:4]), min_size=1, max_size=3), seed=st.integers(0, 99))  # fmt: skip
def test_masters_are_those_of_pytorch_by_hand(rule, name, kernels, shapes, seed):
    """``master = param.float()``, stepped by torch.optim with the 16-bit gradients in float32, ``param.copy_(master)``."""
    torch = pytest.importorskip("torch")
    rule, oracle, settings = rule
    params = [Param(a) for a in numbers(shapes, dtype_of(name), seed)]
    opt = setup(rule, params)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.astype(np.float32))) for p in params]
    optimiser = getattr(torch.optim, oracle)(theirs, **settings)
    with use_kernels(kernels):
        for t in range(12):
            gs = numbers(shapes, dtype_of(name), seed + 100 + t)
            update(opt, params, gs)
            for w, g in zip(theirs, gs, strict=True):
                w.grad = torch.from_numpy(g.astype(np.float32))
            if isinstance(rule, OptimiserChain) and isinstance(rule.rules[0], ClipNorm):
                torch.nn.utils.clip_grad_norm_(theirs, 1.0)
            optimiser.step()
    follows(opt, params)
    for w, v in zip(masters(opt), theirs, strict=True):
        np.testing.assert_allclose(w, v.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_updates_of_a_ten_thousandth_vanish_without_masters():
    with_, without = Param(np.ones(8, np.float16)), Param(np.ones(8, np.float16))
    a, b = setup(Descent(1.0), with_), setup(Descent(1.0), without, master_weights=False)
    for _ in range(1000):
        update(a, with_, np.full(8, 1e-4, np.float16))
        update(b, without, np.full(8, 1e-4, np.float16))
    np.testing.assert_array_equal(without.data, 1.0)
    np.testing.assert_allclose(with_.data, 0.9, rtol=1e-3)
    assert "master" not in b.states()[""]
    assert "master" not in repr(b)
    assert not any("master" in key for key in b.state_dict())


# -- a float32 twin: whatever happens to a state, the masters are what its weights are ---------------------------------


def story_of_parts(opt, model, step):
    step()
    adjust(opt["0.bias"], 0.5)
    freeze(model[1])
    step()
    freeze(opt[0].weight)
    thaw(model[1])
    step(without="1.bias")
    thaw(opt)
    adjust(opt, 0.02)
    step()


def story_of_long_training(opt, model, step):
    for t in range(7):
        step(without="0.weight" if t == 2 else None)


def story_of_ties(opt, model, step):
    for _ in range(3):
        step()
    assert model[1].weight is model[0].weight


RULES = [
    Descent(0.1), Momentum(0.05), RMSProp(0.01, momentum=0.5, centred=True), AdaGrad(0.1), AdaDelta(), AdaMax(0.01), Adam(0.01),
    NAdam(0.01), Lion(0.01, weight_decay=0.1), AdaBelief(0.01), WeightDecay(0.1), OptimiserChain(),
    OptimiserChain(AccumGrad(2), ClipGrad(0.5), WeightDecay(0.1), AdamW(0.01)), OptimiserChain(AdamW(0.01), Descent(0.5)),
]  # fmt: skip


@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "reference"])
@pytest.mark.parametrize("story", [story_of_parts, story_of_long_training, story_of_ties])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_masters_are_a_float32_twin(rule, story, kernels):
    if story is story_of_parts and not rule.knows("eta"):
        return
    half = f16(Chain(Dense(5, 5, tanh), Dense(5, 5), Chain()))
    if story is story_of_ties:
        half[1].weight = half[0].weight
    twin = f32(half)
    found = []
    with use_kernels(kernels):
        for m in (half, twin):
            rng = np.random.default_rng(7)
            opt = setup(rule, m)

            def step(without=None, m=m, opt=opt, rng=rng):
                g = gradient(lambda m: sum((p * 1.0).sum() for p in m.parameters()), m)
                for i in (0, 1):
                    for name in ("weight", "bias"):
                        p, noise = getattr(m[i], name), rng.standard_normal(getattr(m[i], name).shape).astype(np.float16)
                        gone = f"{i}.{name}" == without or getattr(g[i], name, None) is None if g[i] is not None else True
                        if not gone:
                            setattr(g[i], name, noise.astype(p.dtype))
                        elif g[i] is not None:
                            setattr(g[i], name, None)
                update(opt, m, g)

            story(opt, m, step)
            found.append(opt)
    params = [leaf for leaf in dict.fromkeys(half.parameters())]
    follows(found[0], params)
    for w, p in zip(masters(found[0]), dict.fromkeys(twin.parameters()), strict=True):
        np.testing.assert_allclose(w, p.data, rtol=2e-6, atol=2e-7)
    assert [p.version for p in half.parameters()] == [p.version for p in twin.parameters()]


def test_one_fused_launch():
    """Of a lone rule and of a chain, whose gradients are float32 by then."""
    if not FUNCTIONS["adam_update"].launches:
        update(setup(Adam(), x := Param(np.ones(4, np.float32))), x, np.ones(4, np.float32))
    if not FUNCTIONS["adam_update"].launches:
        pytest.skip("no kernels here")
    for rule in (Adam(0.1), OptimiserChain(ClipGrad(1.0), Adam(0.1))):
        params = [Param(a) for a in numbers(SHAPES, np.float16)]
        opt = setup(rule, params)
        before = FUNCTIONS["adam_update"].launches
        update(opt, params, numbers(SHAPES, np.float16, 1))
        assert FUNCTIONS["adam_update"].launches == before + 1
        follows(opt, params)


def test_layouts_and_mixtures():
    """16 and 32 bits side by side, parameters in any order of memory, several pieces, nothing at all."""
    bfloat16 = dtype_of("bfloat16")
    base = np.ones((4, 6), np.float16)
    arrays = [base[:, ::2], np.asfortranarray(np.ones((300, 100), np.float16)), np.ones(3, np.float32),
              np.ones((2, 20_000), np.float16), np.ones(5, bfloat16), np.ones((0, 2), np.float16)]  # fmt: skip
    params = [Param(a) for a in arrays]
    for rule in (Adam(0.1), OptimiserChain(ClipGrad(9.0), Adam(0.1))):
        opt = setup(rule, params)
        for p in params:
            p.data[...] = 1
        for _ in range(3):
            update(opt, params, [np.full(p.shape, 2.0) for p in params])
        for path, state in opt.states().items():
            p = params[int(path)]
            np.testing.assert_allclose(p.data.astype(np.float32), 0.7, rtol=4e-3)
            assert ("master" in state) == (p.dtype.itemsize == 2)
            if "master" in state:
                np.testing.assert_allclose(state["master"], 0.7, rtol=1e-5)
                np.testing.assert_array_equal(state["master"].astype(p.dtype), p.data)
    assert np.array_equal(base[:, 1::2], np.ones((4, 3)))


# -- who else writes to a parameter ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "reference"])
@given(data=st.data())
def test_a_number_that_somebody_else_has_written_is_taken_over(kernels, data):
    """Its master begins anew at it; the masters of the others go on. The numbers are exact in every order of rounding."""
    n = data.draw(st.sampled_from([1, 7, 40]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rule = data.draw(st.sampled_from([Descent(2.0**-3), OptimiserChain(ClipGrad(100.0), Descent(2.0**-3))]))
    p = Param(rng.standard_normal(n).astype(np.float16))
    opt, want = setup(rule, p), p.data.astype(np.float32)
    with use_kernels(kernels):
        for _ in range(6):
            if data.draw(st.booleans()):
                places = rng.random(n) < 0.4
                p.data[places] = data.draw(st.sampled_from([0.0, 1.0, np.nan, 300.0, 0.3]))
                want = np.where((want.astype(np.float16) == p.data), want, p.data.astype(np.float32))
            if data.draw(st.booleans()):
                p.data = p.data.copy()  # another array with the same numbers is no change
            g = (rng.standard_normal(n) / 64).astype(np.float16)
            update(opt, p, g)
            want = (want - np.float32(0.125) * g.astype(np.float32)).astype(np.float32)
            np.testing.assert_array_equal(masters(opt)[0], want)
            np.testing.assert_array_equal(p.data, want.astype(np.float16))


def test_weights_loaded_in_the_middle_of_a_run():
    m = f16(Chain(Dense(3, 4, tanh), Dense(4, 2)))
    opt = setup(Momentum(0.1), m)
    first = m.state_dict()
    step = constant_step(opt, m)
    for _ in range(3):
        step()
    m.load_state_dict(first)
    step()
    for path, w in zip(opt.states(), masters(opt), strict=True):
        np.testing.assert_array_equal(w.astype(np.float16), m.state_dict()[path])
        moved = first[path].astype(np.float32) - 0.1 * opt.states()[path]["u"]
        np.testing.assert_allclose(w, moved, rtol=1e-6, atol=1e-6)


def constant_step(opt, m, value=1e-3):
    def step():
        parts = ({k: np.full(getattr(d, k).shape, value, np.float16) for k in ("weight", "bias")} for d in m)
        update(opt, m, {str(i): part for i, part in enumerate(parts)})

    return step


@pytest.mark.parametrize("model_first", [True, False])
@pytest.mark.parametrize("rule", [Adam(1e-3), OptimiserChain(AccumGrad(2), ClipNorm(1.0), Adam(1e-3))], ids=repr)
def test_a_checkpoint_goes_on_bit_for_bit(rule, model_first):
    m = f16(Chain(Dense(3, 4, tanh), Dense(4, 2)))
    opt = setup(rule, m)
    step = constant_step(opt, m)
    for _ in range(5):
        step()
    weights, state = m.state_dict(), {k: np.array(v) for k, v in opt.state_dict().items()}
    other = f16(Chain(Dense(3, 4, tanh), Dense(4, 2)))
    again = setup(rule, other)
    constant_step(again, other)()
    for load in (lambda: other.load_state_dict(weights), lambda: again.load_state_dict(state))[:: 1 if model_first else -1]:
        load()
    more = constant_step(again, other)
    for _ in range(5):
        step()
        more()
    a, b = opt.state_dict(), again.state_dict()
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert all(np.array_equal(v, other.state_dict()[k]) for k, v in m.state_dict().items())


# -- the state ---------------------------------------------------------------------------------------------------------


def test_they_are_part_of_the_state():
    m = f16(Chain(Dense(2, 3), Dense(3, 1)))
    opt = setup(Adam(), m)
    assert repr(opt).splitlines()[1] == "0.weight  (3, 2)  master, m, v, t=0"
    assert repr(opt).splitlines()[-1] == "# Total: 4 parameters, 13 numbers; state 156 bytes"
    state = opt.state_dict()
    np.testing.assert_array_equal(state["0.weight.master"], m[0].weight.data.astype(np.float32))
    opt.states()["0.weight"]["master"][...] += 1e-6  # the state itself, which the dict is a copy of
    assert not np.array_equal(opt.state_dict()["0.weight.master"], state["0.weight.master"])
    without = setup(Adam(), m, master_weights=False)
    with pytest.raises(ValueError, match="nothing was loaded:\n  0.weight.master: missing"):
        opt.load_state_dict(without.state_dict())
    with pytest.raises(ValueError, match="0.weight.master: unexpected"):
        without.load_state_dict(state)
    with pytest.raises(ValueError, match=r"1.bias.master: shape \(2,\), the parameter has \(1,\)"):
        opt.load_state_dict(state | {"1.bias.master": np.ones(2)})
    with pytest.raises(ValueError, match="1.bias.master: dtype int64 is not floating-point"):
        opt.load_state_dict(state | {"1.bias.master": np.ones(1, int)})


def test_wide_parameters_have_none():
    params = [Param(np.ones(3, np.float32)), Param(np.ones(3))]
    opt = setup(Adam(), params)
    assert all("master" not in state for state in opt.states().values())
    assert opt.state_dict().keys() == setup(Adam(), params, master_weights=False).state_dict().keys()


def test_a_parameter_that_changes_dtype():
    m = Chain(Dense(2, 3), Dense(3, 1))
    opt = setup(Momentum(0.1), m)
    step = constant_step(opt, m, 1.0)
    step()
    for p in m.parameters():
        p.data = p.data.astype(np.float16)
    step()  # they get masters, which begin at the parameters, and keep their velocity
    follows(opt, m.parameters())
    assert opt["0.bias"].states()["0.bias"]["u"][0] == pytest.approx(1.9)
    for p in m.parameters():
        p.data = p.data.astype(np.float32)
    step()
    assert "master" not in opt["0.bias"].states()["0.bias"]
    assert opt["0.bias"].states()["0.bias"]["t"] == 3
    plain = setup(Momentum(0.1), m, master_weights=False)
    for p in m.parameters():
        p.data = p.data.astype(np.float16)
    constant_step(plain, m)()
    assert "master" not in plain["0.bias"].states()["0.bias"]


def test_a_state_fits_a_copy_and_moves():
    m = f16(Chain(Dense(3, 4), Dense(4, 2)))
    opt = setup(Adam(1e-4), m)
    constant_step(opt, m)()
    copies = [(copy.deepcopy(m), made(opt)) for made in (copy.deepcopy, cpu, lambda o: pickle.loads(pickle.dumps(o)))]
    assert opt.to("cpu") is opt
    for n, o in [(m, opt), *copies]:
        for _ in range(3):
            constant_step(o, n)()
        follows(o, n.parameters())
        for w, v in zip(masters(o), masters(opt), strict=True):
            np.testing.assert_array_equal(w, v)


def test_a_captured_step_steps_the_masters():
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    results = []
    for wrap in (capture, lambda f: f):
        rng = np.random.default_rng(1)
        m = f16(Chain(Dense(3, 4, tanh), Dense(4, 2)))
        for p in m.parameters():
            p.data[...] = rng.standard_normal(p.shape)
        opt = setup(Adam(1e-3), m)

        def step(x, m=m, opt=opt):
            update(opt, m, gradient(lambda m: (m(x) ** 2).mean(), m))

        run = wrap(step)
        for _ in range(6):
            run(x)
        follows(opt, m.parameters())
        results.append(masters(opt))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
