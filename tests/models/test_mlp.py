"""MLP against its definition."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.models import MLP


@pytest.mark.parametrize(
    ("shape", "hidden", "classes", "parameters"),
    [((1, 8, 8), (128, 64), 10, 17_226), (5, (), 3, 18), ((2, 3), (4,), 1, 33), ((7,), [3, 2], 2, 38)],
)
def test_parameters_and_shapes(shape, hidden, classes, parameters):
    model = MLP(shape, hidden, classes)
    assert sum(p.size for p in model.parameters()) == parameters
    full = (4, shape) if isinstance(shape, int) else (4, *shape)
    assert model(np.zeros(full, np.float32)).shape == (4, classes)


@pytest.mark.parametrize("activation", [flux.relu, flux.tanh])
def test_it_is_what_it_says(activation):
    model = MLP((2, 3), (4, 5), 3, activation, rng=flux.Generator(0))
    x = np.random.default_rng(0).standard_normal((7, 2, 3)).astype(np.float32)
    state = list(model.state_dict().values())
    y = x.reshape(7, 6)
    for w, b in zip(state[0::2], state[1::2], strict=True):
        y = y @ w.T + b
        if w is not state[-2]:
            y = np.maximum(y, 0) if activation is flux.relu else np.tanh(y)
    np.testing.assert_allclose(model(x).numpy(), y, rtol=1e-5, atol=1e-6)


def test_a_step_lowers_the_loss():
    images = flux.data.digits().train
    x, y = images.images[:64], images.labels[:64]
    model = MLP((1, 8, 8), rng=flux.Generator(0))
    f = lambda m: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    opt = flux.setup(flux.Descent(0.1), model)
    before, grads = flux.withgradient(f, model)
    flux.update(opt, model, grads)
    assert float(f(model)) < float(before)
