"""setup, update, adjust, saving and moving: what happens around the rules."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from minitorch_flux.autograd import Buffer, Gradients, Param, gradient, record, tensor, withgradient
from minitorch_flux.backend import FUNCTIONS, DeviceError
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.module import Module
from minitorch_flux.nn.moving import cpu
from minitorch_flux.ops.nonlinearities import tanh
from minitorch_flux.optimisers import (
    AccumGrad,
    Adam,
    AMSGrad,
    ClipGrad,
    ClipNorm,
    Descent,
    Momentum,
    NAdam,
    OptimiserChain,
    OptimiserState,
    RMSProp,
    WeightDecay,
    adjust,
    freeze,
    setup,
    thaw,
    update,
)

X = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)


def model():
    return Chain(Dense(2, 16, tanh), Dense(16, 2))


def loss(m):
    y = m(X)
    return (y * y).sum()


def constant(m, value=1.0):
    """Gradients of a Chain of Dense layers that are all `value`."""
    parts = {
        str(i): Gradients(
            {"weight": np.full_like(d.weight.data, value), "bias": np.full_like(d.bias.data, value)}, False
        )
        for i, d in enumerate(m)
    }
    return Gradients(parts, True)


def weights(m):
    return {k: v.copy() for k, v in m.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# -- training ----------------------------------------------------------------------------------------------------------


def test_both_ways_of_giving_gradients():
    a, b = model(), None
    b = copy.deepcopy(a)
    first, second = setup(Adam(0.01), a), setup(Adam(0.01), b)
    losses = []
    for _ in range(20):
        value, grads = withgradient(loss, a)
        assert update(first, a, grads) is None
        with record():
            y = loss(b)
        y.backward()
        update(second, b)
        assert all(p.grad is None for p in b.parameters())
        losses.append(float(value))
    assert losses[-1] < losses[0] / 2
    assert same(weights(a), weights(b))


def test_versions_rise_with_each_update():
    m = model()
    opt = setup(Adam(), m)
    for n in range(1, 4):
        update(opt, m, constant(m))
        assert [p.version for p in m.parameters()] == [n] * 4
    with record():
        y = loss(m)
    update(opt, m, constant(m))
    with pytest.raises(Exception, match="changed in place"):
        y.backward()


def test_one_launch_for_all_parameters():
    m = model()
    opt = setup(Adam(), m)
    update(opt, m, constant(m))
    before = FUNCTIONS["adam_update"].launches
    update(opt, m, constant(m))
    if before:
        assert FUNCTIONS["adam_update"].launches == before + 1


def test_containers_tensors_and_arrays():
    params = {
        "w": tensor(np.ones((2, 3)), requires_grad=True),
        "deep": [Param(np.ones(2)), (np.ones(4), {"b": np.ones(())})],
        "layer": Dense(3, 2),
        "constant": tensor(np.ones(2)),
        "index": np.arange(3),
        "name": "x",
    }
    opt = setup(Descent(1.0), params)
    assert list(opt.states()) == ["w", "deep.0", "deep.1.0", "deep.1.1.b", "layer.weight", "layer.bias"]
    grads = gradient(
        lambda p: sum((k * v).sum() for k, v in ((2, p["w"]), (3, p["deep"][0]), (4, p["deep"][1][0])))
        + 5 * p["deep"][1][1]["b"] + p["constant"].sum(),
        params,
    )  # fmt: skip
    assert grads["layer"] is None
    update(opt, params, grads)
    assert np.array_equal(params["w"].data, np.full((2, 3), -1.0))
    assert np.array_equal(params["deep"][0].data, [-2.0, -2.0])
    assert np.array_equal(params["deep"][1][0], [-3.0] * 4)  # a plain array changes in place
    assert params["deep"][1][1]["b"] == -4.0
    assert params["w"].version == 1
    assert params["layer"].weight.version == 0
    assert np.array_equal(params["constant"].data, [1, 1])


@pytest.mark.parametrize("make", [lambda a: a, Param, lambda a: tensor(a, requires_grad=True)])
def test_one_parameter_alone(make):
    p = make(np.ones(3))
    opt = setup(Momentum(0.1), p)
    update(opt, p, np.ones(3))
    assert np.allclose(getattr(p, "data", p) if not isinstance(p, np.ndarray) else p, 0.9)
    assert list(opt.state_dict()) == ["format", *(f"rules.0.Momentum.{f}" for f in Momentum.fields), "u", "t"]
    again = setup(Momentum(), p)
    again.load_state_dict(opt.state_dict())
    assert np.array_equal(again.states()[""]["u"], np.ones(3))


def test_a_parameter_reached_twice_is_one():
    d = Dense(3, 3)
    m = Chain(d, tanh, d, Dense(3, 3))
    m[3].weight = d.weight
    x = np.ones((2, 3), np.float32)
    opt = setup(Adam(), m)
    assert list(opt.states()) == ["0.weight", "0.bias", "3.bias"]
    for n in range(3):
        update(opt, m, gradient(lambda m: (m(x) * m(x)).sum(), m))
        assert d.weight.version == n + 1
    assert opt["0.weight"].states()["0.weight"]["t"] == 3


def test_missing_gradients_are_passed_by():
    m = model()
    opt = setup(Momentum(0.1), m)
    reference = copy.deepcopy(m)
    g = constant(m)
    g[0].bias = None
    for _ in range(2):
        update(opt, m, g)
    assert np.array_equal(m[0].bias.data, reference[0].bias.data)
    assert m[0].bias.version == 0
    assert [s["t"] for s in opt.states().values()] == [2, 0, 2, 2]
    update(opt, m, constant(m))  # now it comes, with a step count of its own
    assert [s["t"] for s in opt.states().values()] == [3, 1, 3, 3]
    assert np.allclose(m[0].bias.data, reference[0].bias.data - 0.1)
    update(opt, m, None)
    update(opt, m, Gradients({"0": None, "1": None}, True))
    assert [s["t"] for s in opt.states().values()] == [3, 1, 3, 3]


@pytest.mark.parametrize("rule", [Adam(0.1), NAdam(0.1), OptimiserChain(AccumGrad(2), Momentum(0.1))], ids=repr)
def test_parameters_with_other_histories_do_not_disturb_each_other(rule):
    """Any pattern of missing gradients: each parameter does what it would do alone."""
    rng = np.random.default_rng(1)
    xs = [np.ones(n) for n in (3, 1, 4, 2)]
    alone = [x.copy() for x in xs]
    opt, opts = setup(rule, xs), [setup(rule, x) for x in alone]
    for _ in range(60):
        gs = [rng.standard_normal(x.shape) if rng.random() < 0.7 else None for x in xs]
        update(opt, xs, gs)
        for o, x, g in zip(opts, alone, gs, strict=True):
            update(o, x, g)
    for x, y in zip(xs, alone, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_mixed_dtypes_and_layouts():
    base = np.ones((4, 6))
    params = [Param(np.ones(3, np.float32)), Param(base[:, ::2]), Param(np.asfortranarray(np.ones((5, 4)))),
              Param(np.ones(2, np.float16)), Param(np.ones((0, 2)))]  # fmt: skip
    opt = setup(Adam(0.1), params)
    for _ in range(3):
        update(opt, params, [np.full(p.shape, 2.0) for p in params])  # float64 gradients are converted
    for p in params:
        np.testing.assert_allclose(p.data, 0.7, rtol=2e-3)
        assert p.version == 3
    assert np.array_equal(base[:, 1::2], np.ones((4, 3)))  # nothing beside it is written to
    assert params[0].dtype == np.float32


def test_large_parameters_read_their_gradients_where_they_are():
    x, strided = Param(np.ones((300, 200), np.float32)), np.ones((200, 300), np.float32).T
    opt = setup(Descent(0.5), x)
    for g in (np.ones((300, 200), np.float32), strided, tensor(np.ones((300, 200), np.float32))):
        update(opt, x, g)
    np.testing.assert_allclose(x.data, -0.5)
    batch = opt._plan.groups[0].batch
    assert batch.dx is None
    assert batch.grads == ()  # no gradient is held on to


# -- what cannot work --------------------------------------------------------------------------------------------------


def test_a_wrong_gradient_changes_nothing():
    m = model()
    opt = setup(Adam(), m)
    update(opt, m, constant(m))
    before, state = weights(m), opt.state_dict()
    for bad, error, text in [
        (np.ones((2, 3)), ValueError, r"gradient of 1.bias has shape \(2, 3\), the parameter has \(2,\)"),
        (np.ones(2, int), TypeError, "gradient of 1.bias has dtype int64, expected float32"),
        ([1.0, 2.0], TypeError, "gradient of 1.bias is a list, not an array"),
    ]:
        g = constant(m)
        g[1].bias = bad
        with pytest.raises(error, match=text):
            update(opt, m, g)
        m[1].bias.grad, m[0].bias.grad = bad, np.ones(16, np.float32)
        with pytest.raises(error, match=text):
            update(opt, m)
        assert m[0].bias.grad is not None
        m[1].bias.grad = m[0].bias.grad = None
        assert same(before, weights(m))
        assert all(np.array_equal(v, state[k]) for k, v in opt.state_dict().items())
        assert [p.version for p in m.parameters()] == [1] * 4


def test_gradients_of_another_structure():
    m = model()
    opt = setup(Adam(), m)
    g = constant(m)
    with pytest.raises(TypeError, match="a tuple, the model has a layer there; the gradient of several arguments"):
        update(opt, m, (g, np.ones(3)))
    with pytest.raises(TypeError, match="gradients at 0 are a ndarray, the model has a layer"):
        update(opt, m, Gradients({"0": np.ones(2), "1": None}, True))
    with pytest.raises(ValueError, match="the gradients have 2 at the top, which the model does not have; it has 0, 1"):
        update(opt, m, Gradients({"0": g[0], "1": g[1], "2": np.ones(2)}, True))
    with pytest.raises(TypeError, match="the gradient of 0.weight is a Gradients"):
        update(opt, m, Gradients({"0": Gradients({"weight": g[0], "bias": None}, False), "1": None}, True))
    mixed = {"a": np.ones(2), "f": "text"}
    with pytest.raises(ValueError, match="there is a gradient at 'f', where the model has no parameters"):
        update(setup(Adam(), mixed), mixed, {"a": np.ones(2), "f": np.ones(1)})
    pair = [np.ones(2), np.ones(2)]
    with pytest.raises(ValueError, match="the gradients have 2 at the top"):
        update(setup(Adam(), pair), pair, [np.ones(2)] * 3)
    update(opt, m, {"0": {"weight": g[0].weight}})  # dicts do for layers, and parts may be left out
    assert [p.version for p in m.parameters()] == [1, 0, 0, 0]


def test_no_stored_gradient():
    m = model()
    opt = setup(Adam(), m)
    with pytest.raises(ValueError, match=r"no parameter has a .grad; call loss.backward\(\) inside `with flux.record"):
        update(opt, m)
    freeze(m)
    update(opt, m)  # nothing is to be trained: nothing is missing


def test_a_model_that_changed_since_setup():
    m = model()
    opt = setup(Adam(), m)
    update(opt, m, constant(m))
    m.layers = (*m.layers, Dense(2, 2))
    with pytest.raises(ValueError, match=r"set up for another structure: 2.weight \(2, 2\) is new, 2.bias .* is new"):
        update(opt, m, constant(m))
    m.layers = m.layers[:1]
    with pytest.raises(ValueError, match=r"1.weight \(2, 16\) is gone, 1.bias .* is gone; call flux.setup"):
        update(opt, m, constant(m))
    m.layers = (m.layers[0], Dense(16, 3))
    with pytest.raises(ValueError, match=r"1.weight has the shape \(3, 16\), was \(2, 16\)"):
        update(opt, m, constant(m))
    assert m.layers[0].weight.version == 1
    with pytest.raises(ValueError, match="another structure"):
        update(opt, Chain(Dense(3, 3)), constant(m))
    big, other = Chain(*(Dense(1, 1) for _ in range(20))), Chain(Dense(1, 1))
    with pytest.raises(ValueError, match="and 30 more; call"):
        update(setup(Adam(), big), other, constant(other))


def test_a_replaced_part_of_the_same_shape_is_trained():
    """State belongs to paths: the new layer takes over the old one's."""
    m = model()
    opt = setup(Adam(0.1), m)
    update(opt, m, constant(m))
    old, m[1].weight = m[1].weight, Param(np.zeros((2, 16), np.float32))
    update(opt, m, constant(m))
    assert old.version == 1
    assert np.allclose(m[1].weight.data, -0.1)
    m[0].bias.data = np.zeros(16, np.float32)
    update(opt, m, constant(m))
    assert np.allclose(m[0].bias.data, -0.1)


def test_a_list_of_layers_is_watched():
    class Stack(Module):
        def __init__(self):
            self.blocks, self.steps = [Dense(2, 2), Dense(2, 2)], 0
            self.words, self.more = ["word"] * 1000, []

    m = Stack()
    opt = setup(Descent(1.0), m)

    def ones():
        return {"blocks": [{"weight": np.ones((2, 2), np.float32)} for _ in m.blocks]}

    update(opt, m, ones())
    plan = opt._plan
    m.steps = 5  # an attribute without parameters
    update(opt, m, ones())
    assert opt._plan is plan
    m.words[3], m.words[4] = "other", Dense(1, 1)  # a long list without parameters is not watched ...
    update(opt, m, ones())
    assert opt._plan is plan
    m.steps = 6  # ... until something else has changed
    with pytest.raises(ValueError, match=r"words.4.weight \(1, 1\) is new"):
        update(opt, m, ones())
    m.words[4] = "word"
    m.more.append(Dense(3, 3))
    with pytest.raises(ValueError, match=r"more.0.weight \(3, 3\) is new"):
        update(opt, m, ones())
    m.more.clear()
    update(opt, m, ones())
    m.blocks.append(Dense(2, 2))
    with pytest.raises(ValueError, match=r"blocks.2.weight \(2, 2\) is new"):
        update(opt, m, ones())


def test_setup_refuses():
    with pytest.raises(ValueError, match="setup: the Chain has no parameters"):
        setup(Adam(), Chain(tanh))
    with pytest.raises(ValueError, match="the tuple has no parameters"):
        setup(Adam(), ())
    with pytest.raises(TypeError, match="the model is a Python float, which cannot be updated in place"):
        setup(Adam(), 1.0)
    with pytest.raises(TypeError, match="setup: w is a Python float"):
        setup(Adam(), {"w": 1.0})
    with pytest.raises(TypeError, match=r"needs a rule such as flux.Adam\(1e-3\), got type; make one: Adam\(\)"):
        setup(Adam, model())
    with pytest.raises(TypeError, match=r"the rule comes first: setup\(rule, model\)"):
        setup(model(), Adam())
    a = np.ones(3)
    a.flags.writeable = False
    with pytest.raises(ValueError, match="the array of w is read-only and cannot be updated in place"):
        setup(Adam(), {"w": a})
    with pytest.raises(TypeError, match=r"needs the state that setup gave, got Adam; call opt = flux.setup\(rule"):
        update(Adam(), model(), None)
    with pytest.raises(TypeError, match="got Chain"):
        update(model(), setup(Adam(), model()), None)


def test_buffers_and_constants_are_not_trained():
    class Norm(Module):
        def __init__(self):
            self.weight, self.mean = Param(np.ones(2)), Buffer(np.zeros(2))

    assert list(setup(Adam(), Norm()).states()) == ["weight"]


# -- adjusting ---------------------------------------------------------------------------------------------------------


def test_adjust():
    m = model()
    opt = setup(Adam(0.1), m)
    update(opt, m, constant(m))
    adjust(opt, 0.5)
    assert opt.rule == Adam(0.5)
    before = weights(m)
    update(opt, m, constant(m))
    assert np.allclose(before["0.bias"] - m[0].bias.data, 0.5, rtol=1e-4)
    adjust(opt, lr=0.2, beta=(0.5, 0.6))
    assert opt.rule == Adam(0.2, (0.5, 0.6))
    adjust(opt, momentum=0.1, eps=1e-3)
    assert opt.rule == Adam(0.2, (0.1, 0.6), 1e-3)
    assert opt["0.weight"].states()["0.weight"]["t"] == 2  # the state stays


def test_adjust_a_part():
    m = model()
    opt = setup(Descent(1.0), m)
    before = weights(m)
    adjust(opt[0], eta=0.0)
    adjust(opt["1.bias"], 0.5)
    assert opt.rule == (Descent(0.0), Descent(1.0), Descent(0.5))
    update(opt, m, constant(m))
    assert np.array_equal(m[0].weight.data, before["0.weight"])
    np.testing.assert_allclose(m[1].weight.data, before["1.weight"] - 1, rtol=1e-6)
    np.testing.assert_allclose(m[1].bias.data, before["1.bias"] - 0.5, rtol=1e-6)
    assert "1.bias    (2,)  Descent(eta=0.5)" in repr(opt)
    adjust(opt, weight_decay=0.1)  # the parts keep what makes them differ
    assert opt.rule == (Descent(0.0, 0.1), Descent(1.0, 0.1), Descent(0.5, 0.1))
    update(opt, m, constant(m))


def test_adjust_a_chain():
    x = np.ones(3)
    opt = setup(OptimiserChain(ClipGrad(1.0), OptimiserChain(WeightDecay(0.1)), Momentum(0.1)), x)
    adjust(opt, 0.01)
    adjust(opt, delta=2.0, lambda_=0.2, momentum=0.5)
    assert opt.rule == OptimiserChain(ClipGrad(2.0), OptimiserChain(WeightDecay(0.2)), Momentum(0.01, 0.5))
    with pytest.raises(TypeError, match="no member of OptimiserChain.* has a setting 'omega'"):
        adjust(opt, omega=1.0)


def test_adjust_refuses():
    opt = setup(Adam(), model())
    with pytest.raises(TypeError, match="Adam: no setting 'rho'. It takes eta"):
        adjust(opt, rho=0.9)
    with pytest.raises(ValueError, match="Adam: eta must be a finite number, at least 0, got -1"):
        adjust(opt, -1)
    with pytest.raises(ValueError, match=r"amsgrad cannot change for Adam\(eta=0.001\), whose state has not"):
        adjust(opt, amsgrad=True)
    with pytest.raises(TypeError, match="nothing to change was given"):
        adjust(opt)
    with pytest.raises(TypeError, match="adjust needs an optimiser state .* got Adam"):
        adjust(Adam(), 0.1)
    with pytest.raises(ValueError, match="momentum cannot change"):
        adjust(setup(RMSProp(), model()), momentum=0.9)
    assert opt.rule == Adam()


# -- parts and printing ------------------------------------------------------------------------------------------------


def test_parts():
    m = Chain(enc=Dense(2, 3), act=tanh, dec=Chain(Dense(3, 2), Dense(2, 1, bias=False)))
    opt = setup(Adam(), m)
    paths = ["enc.weight", "enc.bias", "dec.0.weight", "dec.0.bias", "dec.1.weight"]
    assert list(opt.states()) == paths
    for part, want in [
        (opt.enc, paths[:2]), (opt["enc"], paths[:2]), (opt[0], paths[:2]), (opt[1], []), (opt[-1], paths[2:]),
        (opt[1:], paths[2:]), (opt.dec[0].weight, paths[2:3]), (opt["dec.0.weight"], paths[2:3]),
        (opt["dec.1"], paths[4:]), (opt.dec[:1], paths[2:4]), (opt[:], paths),
    ]:  # fmt: skip
        assert list(part.states()) == want
    with pytest.raises(KeyError, match="this optimiser state has no part 'head'; it has enc, act, dec"):
        opt["head"]
    with pytest.raises(AttributeError, match="no part 'head'"):
        _ = opt.head
    with pytest.raises(KeyError, match="no part 7"):
        opt[7]
    with pytest.raises(KeyError, match="no part 'x'; it has no parts"):
        opt.enc.weight["x"]
    assert opt.enc.weight.states()["enc.weight"]["m"].shape == (3, 2)
    opt.enc.weight.states()["enc.weight"]["m"][...] = 5  # the state itself
    assert (opt.state_dict()["enc.weight.m"] == 5).all()


def test_state_prints():
    m = model()
    opt = setup(OptimiserChain(ClipNorm(1.0), AMSGrad(0.1)), m)
    update(opt, m, constant(m))
    freeze(opt[1])
    assert repr(opt).splitlines() == [
        "# OptimiserChain(ClipNorm(omega=1.0), AMSGrad(eta=0.1))",
        "0.weight  (16, 2)  1.m, 1.v, 1.top, 1.t=1",
        "0.bias    (16,)  1.m, 1.v, 1.top, 1.t=1",
        "1.weight  (2, 16)  1.m, 1.v, 1.top, 1.t=1  (frozen)",
        "1.bias    (2,)  1.m, 1.v, 1.top, 1.t=1  (frozen)",
        "# Total: 4 parameters, 82 numbers; state 984 bytes",
    ]
    assert repr(opt[0].bias).splitlines()[1:] == ["0.bias  (16,)  1.m, 1.v, 1.top, 1.t=1"]


# -- saving ------------------------------------------------------------------------------------------------------------

SAVED = [Adam(0.1), NAdam(0.05), RMSProp(0.01, centred=True, momentum=0.5), Momentum(0.1, dampening=0.5),
         OptimiserChain(AccumGrad(3), ClipNorm(1.0), WeightDecay(0.1), Adam(0.1))]  # fmt: skip


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("rule", SAVED, ids=repr)
def test_going_on_from_a_saved_state(rule, n):
    """Saved before any step or midway: the rest of the run is the same, bit for bit."""
    m = model()
    opt = setup(rule, m)
    for _ in range(n):
        update(opt, m, gradient(loss, m))
    adjust(opt[0], 0.03)
    g = constant(m)
    g[1].bias = None
    update(opt, m, g)
    other = copy.deepcopy(m)
    saved = {k: np.array(v) for k, v in opt.state_dict().items()}  # as files give numbers back
    for _ in range(5):
        update(opt, m, gradient(loss, m))
    again = setup(rule.replace(eta=0.5), other)
    again.load_state_dict(saved)
    for _ in range(5):
        update(again, other, gradient(loss, other))
    assert same(weights(m), weights(other))
    assert again.rule == opt.rule


def test_state_dict_is_plain_and_copied():
    m = model()
    opt = setup(OptimiserChain(ClipGrad(1.0), Adam(0.1)), m)
    state = opt.state_dict()
    assert state["format"] == 1
    assert state["0.weight.1.m"].shape == (16, 2)
    assert state["1.bias.1.t"] == 0
    assert state["rules.0.1.Adam.beta"] == (0.9, 0.999)
    update(opt, m, constant(m))
    assert not state["0.weight.1.m"].any()
    assert "0.weight.rule" not in state
    adjust(opt[1], 0.2)
    assert opt.state_dict()["1.bias.rule"] == 1


def test_loading_what_does_not_fit_changes_nothing():
    m = model()
    opt = setup(Adam(0.1), m)
    update(opt, m, constant(m))
    good = opt.state_dict()

    def refused(changes, *texts):
        state = {k: v for k, v in {**good, **changes}.items() if v is not None}
        with pytest.raises(ValueError) as error:
            opt.load_state_dict(state)
        for text in texts:
            assert text in str(error.value)
        now = opt.state_dict()
        assert now.keys() == good.keys()
        assert all(np.array_equal(now[k], good[k]) for k in good)

    refused({"0.weight.m": None, "1.bias.t": None}, "nothing was loaded", "0.weight.m: missing", "1.bias.t: missing")
    refused({"0.weight.m": np.ones((2, 2))}, "0.weight.m: shape (2, 2), the parameter has (16, 2)")
    refused({"0.weight.m": np.ones((16, 2), int)}, "0.weight.m: dtype int64 is not floating-point")
    refused({"2.weight.m": np.ones(3)}, "2.weight.m: unexpected")
    refused({"1.bias.t": -1}, "1.bias.t: -1 is no number that it can be")
    refused({"1.bias.t": 1.5}, "1.bias.t: 1.5 is no number")
    refused({"1.bias.t": np.ones(2)}, "1.bias.t: [1.0, 1.0] is no number")
    refused({"1.bias.rule": 3}, "1.bias.rule: there is no rule 3")
    refused({"rules.0.Adam.eta": -1.0}, "rules.0: Adam: eta must be a finite number, at least 0, got -1.0")
    refused({"rules.0.Adam.eta": None}, "rules.0.Adam.eta: missing")
    refused({"rules.0.Adam.amsgrad": True}, "rules.0: Adam(eta=0.1, amsgrad=True) keeps other state arrays than Adam(")
    refused({"format": 7}, "an optimiser state of format 7 cannot be loaded, only 1")
    refused({"format": None}, "format None")
    refused({k: None for k in good if k.startswith("rules")}, "rules.0: missing")
    refused({f"x{i}": 0 for i in range(30)}, "... and 10 more")
    with pytest.raises(ValueError, match=r"rules.0.Adam.eta: missing(.|\n)*rules.0.Momentum.eta: unexpected"):
        opt.load_state_dict(setup(Momentum(), m).state_dict())


def test_a_state_fits_a_copy_of_the_model():
    m = model()
    opt = setup(Adam(0.1), m)
    update(opt, m, constant(m))
    m2, opt2 = copy.deepcopy(m), pickle.loads(pickle.dumps(opt))
    m3, opt3 = copy.deepcopy(m), copy.deepcopy(opt)
    for o, n in ((opt, m), (opt2, m2), (opt3, m3)):
        assert isinstance(o, OptimiserState)
        for _ in range(3):
            update(o, n, constant(n))
    assert same(weights(m), weights(m2))
    assert same(weights(m), weights(m3))
    assert [p.version for p in m2.parameters()] == [3] * 4
    update(opt, m2, constant(m2))  # and a state fits another model of the same structure
    update(opt2, m, constant(m))
    assert same(weights(m), weights(m2))


# -- moving ------------------------------------------------------------------------------------------------------------


def test_moving_to_the_cpu_and_nowhere():
    m = model()
    opt = setup(Adam(), m)
    update(opt, m, constant(m))
    assert opt.to("cpu") is opt
    moved = cpu(opt)
    assert moved is not opt
    update(moved, m, constant(m))
    assert moved["0.bias"].states()["0.bias"]["t"] == 2
    assert opt["0.bias"].states()["0.bias"]["t"] == 1
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        opt.to("tpu")


def test_state_follows_its_parameter():
    """A parameter that changes dtype takes its state along."""
    m = model()
    opt = setup(Adam(0.1), m)
    update(opt, m, constant(m))
    before = opt.state_dict()
    m[0].weight.data = m[0].weight.data.astype(np.float64)
    g = constant(m)
    update(opt, m, g)
    state = opt.states()["0.weight"]
    assert state["m"].dtype == np.float64
    assert opt.states()["0.bias"]["m"].dtype == np.float32
    assert state["t"] == 2
    np.testing.assert_allclose(state["m"], 0.9 * before["0.weight.m"] + 0.1)
    m[0].weight.data = m[0].weight.data.astype(np.float16)
    update(opt, m, constant(m))
    assert opt.states()["0.weight"]["m"].dtype == np.float32


# -- freezing ----------------------------------------------------------------------------------------------------------


def test_freeze_and_thaw():
    m = model()
    opt = setup(Adam(0.1), m)
    update(opt, m, gradient(loss, m))
    assert freeze(m[0]) is m[0]
    before = weights(m)
    for _ in range(2):
        g = gradient(loss, m)
        assert g[0] is None
        assert g[1].weight is not None
        update(opt, m, g)
    after = weights(m)
    assert np.array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["1.weight"], after["1.weight"])
    assert [s["t"] for s in opt.states().values()] == [1, 1, 3, 3]
    assert not m[0].weight.requires_grad
    assert thaw(m) is m
    assert m[0].weight.requires_grad
    update(opt, m, gradient(loss, m))
    assert [s["t"] for s in opt.states().values()] == [2, 2, 4, 4]
    assert m[0].weight.version == 2


def test_frozen_before_setup():
    m = freeze(model())
    opt = setup(Adam(0.1), m)
    assert len(opt.states()) == 4
    thaw(m[1])
    before = weights(m)
    update(opt, m, constant(m))  # gradients of frozen parts are passed by
    after = weights(m)
    assert np.array_equal(before["0.bias"], after["0.bias"])
    assert not np.array_equal(before["1.bias"], after["1.bias"])


def test_what_freeze_takes():
    m = model()
    freeze(m.layers[:1])
    freeze([m[1].bias])
    freeze({"f": tanh})
    freeze(tanh)
    assert [p.requires_grad for p in m.parameters()] == [False, False, True, False]
    thaw(m[1].bias)
    assert m[1].bias.requires_grad
    with pytest.raises(TypeError, match="freeze takes a model, a part of one, parameters or an optimiser .*, got int"):
        freeze(3)
    with pytest.raises(TypeError, match="thaw takes"):
        thaw("model")


def test_freeze_tensors():
    params = {k: tensor(np.ones(2), requires_grad=k != "c") for k in "wcv"}
    opt = setup(Descent(1.0), params)
    freeze(params["w"])
    update(opt, params, {"w": np.ones(2), "v": np.ones(2)})
    params["new"] = 3  # look again at the whole structure
    update(opt, params, {"w": np.ones(2), "v": np.ones(2)})
    assert [params[k].data[0] for k in "wcv"] == [1, 1, -1]
    thaw(params)
    assert params["w"].requires_grad
    assert not params["c"].requires_grad  # it never was
    update(opt, params, {"w": np.ones(2)})
    assert params["w"].data[0] == 0


def test_freeze_a_part_of_the_state():
    """As in Optimisers.jl: the gradients are computed, the updates stop."""
    m = model()
    opt = setup(Adam(0.1), m)
    assert freeze(opt[0]) is not None
    before = weights(m)
    g = gradient(loss, m)
    assert g[0].weight is not None
    update(opt, m, g)
    assert np.array_equal(before["0.weight"], m[0].weight.data)
    assert not np.array_equal(before["1.weight"], m[1].weight.data)
    thaw(opt)
    update(opt, m, g)
    assert not np.array_equal(before["0.weight"], m[0].weight.data)
    assert [s["t"] for s in opt.states().values()] == [1, 1, 2, 2]
