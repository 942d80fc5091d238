"""find_nonfinite: faults that are planted, and what is said of each."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, Dense, Dropout, MultiHeadAttention, relu


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def of(model, x):
    return flux.find_nonfinite(lambda m: m(x).sum(), model)


def test_nothing():
    model = Chain(Dense(4, 8, relu), BatchNorm(8), Dropout(0.5), Dense(8, 2))
    assert of(model, normal(5, 4)) is None
    assert flux.find_nonfinite(lambda a: a * 2, normal(3)) is None
    assert flux.find_nonfinite(lambda n: n + 1, 3) is None


def test_in_the_forward_pass():
    model = Chain(first=Dense(2, 2, bias=False, init=flux.ones), inner=Chain(flux.log, Dense(2, 2)))
    x = np.array([[1, 2], [3, -3], [1, -2]], "float32")
    found = of(model, x)
    assert (found.value, found.phase, found.operation, found.path) == ("-inf", "forward", "log", "inner.0")
    assert (found.index, found.shape, found.count, found.size) == ((1, 0), (3, 2), 4, 6) or found.value == "NaN"
    text = str(found)
    assert text.startswith(f"{found.value} in the forward pass of log of inner.0, log: its output, 3 × 2 at [1, 0]")
    assert "x: 3 × 2, from -1 to 3" in text


def test_the_first_nan_wins_over_the_infinities_before_it():
    found = flux.find_nonfinite(lambda a: ((a / 0) - (a / 0)).sum(), np.ones(3))
    assert (found.value, found.operation) == ("inf", "divide")
    found = flux.find_nonfinite(lambda a: (a - flux.tensor([np.inf])).sum() * 0, np.ones(3))
    assert (found.value, found.operation) == ("NaN", "multiply")


def test_in_the_backward_pass():
    model = Chain(Dense(4, 8, relu), flux.sqrt, Dense(8, 2))
    found = of(model, normal(5, 4))
    assert (found.phase, found.operation, found.path) == ("backward", "sqrt", "1")
    assert found.which == "the gradient of its input x"
    assert "the gradient that came in: 5 × 8" in str(found)
    assert all(p.grad is None for p in model.parameters())
    found = flux.find_nonfinite(lambda w: flux.sqrt(w).sum(), np.zeros(3))
    assert (found.value, found.index) == ("inf", (0,))


def test_the_gradient_of_a_parameter_has_its_name():
    class Root(flux.Module):
        def __init__(self):
            self.w = flux.Param(np.zeros(2))

        def __call__(self, x):
            return flux.sqrt(self.w) * x

    assert of(Root(), np.ones(2)).which == "the gradient of w"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_that_was_there_before(value):
    model = Chain(Dense(4, 8), Dense(8, 2))
    model[1].weight.data[1, 3] = value
    text = str(of(model, normal(2, 4)))
    name = "NaN" if value != value else "inf"
    assert text == (f"{name} was there from the beginning: the parameter or buffer 1.weight, 2 × 8 at [1, 3], "
                    "the first of 1 in 16")
    x = normal(2, 4)
    x[0, 1] = value
    assert flux.find_nonfinite(lambda a: a.sum(), x).which == "argument 0"


def test_masks_of_minus_infinity_are_no_fault():
    attention = MultiHeadAttention(8, nheads=2)
    assert flux.find_nonfinite(lambda m: m(normal(2, 5, 8), causal=True).sum(), attention) is None
    mask = np.tri(4, dtype=bool)
    scores = np.where(mask, np.zeros((4, 4)), -np.inf)
    assert flux.find_nonfinite(lambda a: flux.softmax(flux.where(mask, a, -np.inf)).sum(), np.ones((4, 4))) is None
    assert flux.find_nonfinite(lambda a: (flux.softmax(scores) * a).sum(), np.ones((4, 4))) is None


def test_everything_is_left_as_it_was():
    model = Chain(Dense(4, 4), BatchNorm(4), Dropout(0.5), flux.GRU(4, 3))
    state = {k: v.copy() for k, v in model.state_dict().items()}
    generator = flux.backend.default_generator().state_dict()
    assert flux.find_nonfinite(lambda m: m[:3](normal(6, 4)).sum(), model) is None
    assert generator == flux.backend.default_generator().state_dict()
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, state[k])
    with pytest.raises(ValueError, match="features"):
        of(model, normal(2, 3))
    assert type(model[0]) is Dense
    with pytest.raises(TypeError, match="the function comes first"):
        flux.find_nonfinite(3)
