"""Layers print as the Python that rebuilds them."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import *  # noqa: F403
from minitorch_flux import Chain, Conv, Dense, MaxPool, Module, Param, flatten, relu, sigmoid, tanh


class Residual(Module):
    def __init__(self, f, *, scale=1.0):
        self.f, self.scale = f, scale

    def __call__(self, x):
        return x + self.f(x) * self.scale


def rebuilt(m):
    return eval(repr(m), {**vars(flux), "Residual": Residual})


def test_one_layer():
    assert repr(Dense(2, 3)) == "Dense(2, 3)  # 9 parameters"
    assert repr(Dense(64, 10, relu)) == "Dense(64, 10, relu)  # 650 parameters"
    assert repr(Dense(2, 1, bias=False)) == "Dense(2, 1, bias=False)  # 2 parameters"
    assert repr(Dense(1000, 100)) == "Dense(1000, 100)  # 100_100 parameters"


def test_a_chain_with_totals():
    m = Chain(Conv((3, 3), 1, 8, relu, pad=1), MaxPool((2, 2)), flatten, Dense(1568, 10))
    assert repr(m).splitlines() == [
        "Chain(",
        "  Conv((3, 3), 1, 8, relu, pad=1),  # 80 parameters",
        "  MaxPool((2, 2)),",
        "  flatten,",
        "  Dense(1568, 10),                  # 15_690 parameters",
        ")  # Total: 4 arrays, 15_770 parameters, 61.602 KiB.",
    ]


@pytest.mark.parametrize("model", [
    Dense(2, 3), Dense(2, 3, tanh, bias=False), Chain(), Chain(Dense(2, 2, sigmoid)), Chain(a=Dense(2, 3), b=relu),
    Chain(Chain(Dense(1, 1)), relu), Residual(Dense(2, 2)), Residual(Chain(Dense(2, 2), relu), scale=0.5),
    Conv((3, 3), 2, 4, stride=2), MaxPool((2, 2)),
], ids=str)
def test_a_print_rebuilds_the_layer(model):
    other = rebuilt(model)
    assert type(other) is type(model)
    assert repr(other).split("#")[0] == repr(model).split("#")[0]
    assert [a.shape for a in other.state_dict().values()] == [a.shape for a in model.state_dict().values()]


def test_nested_and_named():
    m = Chain(enc=Chain(Dense(2, 2), relu), dec=Residual(Dense(2, 2)))
    assert repr(m).splitlines() == [
        "Chain(",
        "  enc=Chain(",
        "    Dense(2, 2),              # 6 parameters",
        "    relu,",
        "  ),",
        "  dec=Residual(Dense(2, 2)),  # 6 parameters",
        ")  # Total: 4 arrays, 12 parameters, 48 bytes.",
    ]


def test_marks_of_numbers_that_cannot_be_right():
    d = Dense(2, 2)
    d.weight.data[:] = 0
    assert repr(d) == "Dense(2, 2)  # 6 parameters  (all zero)"
    d.weight.data[0] = np.nan
    assert repr(d).endswith("(some NaN)")
    d.weight.data[0] = np.inf
    assert repr(d).endswith("(some Inf)")
    assert "(all zero)" not in repr(Dense(2, 2))


def test_frozen_parameters_are_counted_apart():
    d = flux.freeze(Dense(2, 2))
    assert repr(Chain(d, Dense(2, 1))).splitlines()[-1] == ")  # Total: 2 arrays, 3 parameters, plus 6 non-trainable, 36 bytes."


def test_the_users_own_parameters_count():
    class Own(Module):
        def __init__(self):
            self.p = Param(np.ones(1))

    assert repr(Own()) == "Own()  # 1 parameter"
