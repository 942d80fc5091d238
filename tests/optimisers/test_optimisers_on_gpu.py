"""Steps on a GPU equal those on the CPU, and a state moves with its model."""

import numpy as np
import pytest

from minitorch_flux.autograd import Param
from minitorch_flux.backend import DeviceError, device_of, find_cupy, to_device, use_kernels
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.moving import cpu, gpu
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
