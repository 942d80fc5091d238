"""Steps as CUDA graphs on the device that is there: a GPU, or a pretended one with --pretend-gpu."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Dropout
from minitorch_flux.backend import to_device
from minitorch_flux.backend.tracers import CaptureError
from minitorch_flux.capturing.states import close
from tests import oracles
from tests.capturing.sides import tensors

pytest.importorskip("cupy")
cases = pytest.importorskip("tests.capturing.test_graphs")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(len(oracles.DEVICES) < 2, reason="no CUDA device (--pretend-gpu pretends one)"),
]


@pytest.mark.parametrize("name", cases.MODELS)
def test_training(name):
    """The losses and parameters of the eager step, as near as cuBLAS's rounding allows, in the same order of random numbers."""
    model, shape = cases.MODELS[name]
    eager, captured = (cases.Timeline(model) for _ in range(2))
    fast = flux.capture(captured.world.step)
    for i, (x, y) in enumerate(cases.numbers(shape, 8)):
        for line in (eager, captured):
            flux.adjust(line.world.opt, 0.01 / (i + 1))
        captured.call(fast, x, y)
        eager.call(eager.world.step, x, y)
        assert captured.counter == eager.counter
    assert fast.replays == 5
    for a, b in zip(tensors(captured.world.model), tensors(eager.world.model), strict=True):
        assert close(a.data, b.data)
        assert a.version == b.version


@pytest.mark.parametrize("rule", cases.RULES, ids=lambda r: type(r).__name__)
def test_optimisers(rule):
    """Without a matrix product every bit is the same."""
    x = to_device(np.linspace(-1, 1, 12, dtype="f4").reshape(3, 4), oracles.DEVICES[-1])

    def make():
        layer = flux.Scale(4).to(oracles.DEVICES[-1])
        opt = flux.setup(rule, layer)

        def step(x):
            loss, grads = flux.withgradient(lambda m: (m(x) ** 2).sum(), layer)
            flux.update(opt, layer, grads)
            return loss

        return layer, step

    (one, eager), (two, step) = make(), make()
    fast = flux.capture(step)
    for _ in range(7):
        assert cases.bits(fast(x)) == cases.bits(eager(x))
    assert fast._courses[0].plan.products == 0
    assert [cases.bits(t) for t in tensors(two)] == [cases.bits(t) for t in tensors(one)]


def test_masks():
    drop = flux.trainmode(Dropout(0.5, rng=flux.Generator(3)))
    other = flux.trainmode(Dropout(0.5, rng=flux.Generator(3)))
    x = to_device(np.ones((16, 16), "f4"), oracles.DEVICES[-1])
    fast = flux.capture(lambda x: drop(x))
    assert [cases.bits(fast(x)) for _ in range(8)] == [cases.bits(other(x)) for _ in range(8)]


def test_a_look_at_a_number_is_refused_and_does_no_harm():
    x = to_device(np.ones(3, "f4"), oracles.DEVICES[-1])
    fast = flux.capture(lambda x: x * x.sum().item())
    fast(x)
    with pytest.raises(CaptureError, match="would wait for the device"):
        fast(x)
    np.testing.assert_array_equal(to_device(x + 1, "cpu"), [2, 2, 2])
