"""Steps on a GPU equal those on the CPU, and a state moves with its model."""

import numpy as np
import pytest

from minitorch_flux.autograd import Param
from minitorch_flux.backend import DeviceError, Generator, device_of, find_cupy, to_device, use_kernels
from minitorch_flux.losses import logitcrossentropy
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.conversions import f16
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.moving import cpu, gpu
from minitorch_flux.ops.nonlinearities import tanh
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
    WeightDecay,
    setup,
    update,
)
from minitorch_flux.training import train

pytestmark = pytest.mark.gpu

RULES = [
    Descent(0.1), Momentum(0.1), Nesterov(0.1), RMSProp(0.1, centred=True, momentum=0.5), AdaGrad(0.1), AdaDelta(),
    AdaMax(0.1), Adam(0.1), AdamW(0.1), AMSGrad(0.1), NAdam(0.1), RAdam(0.1), Lion(0.1), AdaBelief(0.1),
    OptimiserChain(AccumGrad(2), ClipNorm(1.0), WeightDecay(0.1), ClipGrad(0.5), Adam(0.1)),
    OptimiserChain(ClipNorm(1.0, float("inf"), total=True), Momentum(0.1)),
]  # fmt: skip
SMALL, LARGE = [(3, 4), (), (0, 3), (7,)], [(300, 200), (5,), (20_000,)]


@pytest.fixture(scope="module", autouse=True)
def device():
    try:
        find_cupy()
    except DeviceError as error:
        pytest.skip(str(error))


def gradients(shapes, dtype, t):
    rng = np.random.default_rng(t)
    return [np.asarray(rng.standard_normal(s), dtype) for s in shapes]


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_steps(rule, shapes, dtype, kernels):
    here = [Param(x) for x in gradients(shapes, dtype, 99)]
    there = [Param(to_device(p.data.copy(), "cuda:0")) for p in here]
    a, b = setup(rule, here), setup(rule, there)
    with use_kernels(kernels):
        for t in range(6):
            gs = gradients(shapes, dtype, t)
            update(a, here, gs)
            update(b, there, [to_device(g, "cuda:0") for g in gs])
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for p, q in zip(here, there, strict=True):
        assert device_of(q.data) == "cuda:0"
        np.testing.assert_allclose(to_device(q.data, "cpu"), p.data, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("rule", [Adam(0.01), OptimiserChain(LossScale(64.0), ClipNorm(), Momentum(0.1))], ids=repr)
def test_masters(rule, name, kernels):
    dtype = np.float16 if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    here = [Param(x) for x in gradients([*SMALL, (300, 200)], dtype, 99)]
    there = [Param(to_device(p.data.copy(), "cuda:0")) for p in here]
    a, b = setup(rule, here), setup(rule, there)
    with use_kernels(kernels):
        for t in range(6):
            gs = gradients([*SMALL, (300, 200)], dtype, t)
            if t == 3:
                gs[0][...] = np.inf
                here[1].data[...] = there[1].data[...] = 3  # somebody else writes there
            if t != 3 or b.scales:
                update(a, here, gs)
                update(b, there, [to_device(g, "cuda:0") for g in gs])
    assert (a.loss_scale, a.skipped) == (b.loss_scale, b.skipped) == ((32.0, 1) if a.scales else (1.0, 0))
    for p, q, s, t in zip(here, there, a.states().values(), b.states().values(), strict=True):
        assert device_of(t["master"]) == "cuda:0"
        np.testing.assert_allclose(to_device(t["master"], "cpu"), s["master"], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(to_device(t["master"], "cpu").astype(dtype), to_device(q.data, "cpu"))
        assert q.version == p.version


@pytest.mark.parametrize("capture", [True, False])
def test_a_run_in_16_bits(capture):
    """The scale is an input of the captured gradient; what overflows is skipped as on the CPU."""
    rng, found = np.random.default_rng(0), []
    x, y = rng.standard_normal((20, 3)).astype(np.float32), rng.integers(0, 4, 20)
    rule = OptimiserChain(LossScale(2.0**21, growth_interval=3), ClipNorm(1.0, total=True), Adam(0.01))
    for device in ("cpu", "cuda:0"):
        draws = Generator(0)
        m = f16(Chain(Dense(3, 6, tanh, rng=draws), Dense(6, 4, rng=draws))).to(device)
        data = [(to_device(x[i : i + 5], device), to_device(y[i : i + 5], device)) for i in range(0, 20, 5)]
        state = train(lambda m, x, y: logitcrossentropy(m(x), y), m, data, rule, epochs=3, capture=capture)
        found.append((state.skipped, state.opt.loss_scale, {k: s["master"] for k, s in state.opt.states().items()}))
    assert found[0][:2] == found[1][:2]
    assert found[0][0] > 0
    for name, a in found[0][2].items():
        np.testing.assert_allclose(to_device(found[1][2][name], "cpu"), a, rtol=0.02, atol=2e-3)


def test_masters_move():
    m = f16(Chain(Dense(3, 4), Dense(4, 2)))
    opt = setup(Adam(0.1), m)
    opt.states()["0.weight"]["master"][...] += 1e-6
    opt2 = gpu(opt)
    assert device_of(opt2.states()["0.weight"]["master"]) == "cuda:0"
    there = gpu(m)
    update(opt2, there, {"0": {"weight": 0 * there[0].weight.data}})
    again = setup(Adam(0.1), there)
    again.load_state_dict(opt2.state_dict())
    update(again, there.to("cpu"), {"0": {"weight": np.zeros((4, 3), np.float16)}})  # the masters follow
    for o in (opt2, again):
        np.testing.assert_array_equal(to_device(o.states()["0.weight"]["master"], "cpu"), opt.states()["0.weight"]["master"])


def test_moving():
    m = Chain(Dense(3, 4), Dense(4, 2))
    opt = setup(Adam(0.1), m)

    def ones(m):
        return {str(i): {"weight": 0 * d.weight.data + 1, "bias": 0 * d.bias.data + 1} for i, d in enumerate(m)}

    update(opt, m, ones(m))
    m2, opt2 = gpu(m), gpu(opt)
    update(opt2, m2, ones(m2))
    update(opt, m, ones(m))
    for k, a in m2.state_dict().items():
        np.testing.assert_allclose(a, m.state_dict()[k], rtol=1e-6)
    for k, a in opt2.state_dict().items():
        np.testing.assert_allclose(a, opt.state_dict()[k], rtol=1e-6)
    with pytest.raises(DeviceError, match="the gradient of 0.weight is on cpu, the parameter on cuda:0"):
        update(opt2, m2, ones(m))
    opt2.load_state_dict(opt.state_dict())
    assert device_of(opt2.states()["0.weight"]["m"]) == "cuda:0"
    update(opt2, m2.to("cpu"), ones(m2))  # the state follows
    assert device_of(opt2.states()["0.weight"]["m"]) == "cpu"
    assert device_of(cpu(opt2).states()["0.weight"]["m"]) == "cpu"
