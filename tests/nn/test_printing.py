"""Layers print as the Python that rebuilds them."""

import functools

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import *  # noqa: F403
from minitorch_flux import Buffer, Chain, Conv, Dense, MaxPool, Module, Param, Tensor, flatten, relu, sigmoid, tanh


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


class Options(Module):
    """Arguments of every kind."""

    def __init__(
        self, size, act=relu, *, dims=(1, (2, 3)), eps=1e-5, limit=float("inf"), name="x", mode=None, on=True, bias=True
    ):
        self.size, self.act, self.dims, self.eps, self.limit = size, act, dims, eps, limit
        self.name, self.mode, self.on = name, mode, on
        self.bias = Param(np.ones(size, np.float32)) if bias else None


class Parts(Module):
    """Layers as *args, and **named."""

    def __init__(self, first, second=relu, *layers, scale=1, **more):
        self.first, self.second, self.layers, self.scale, self.more = first, second, layers, scale, more


class Hidden(Module):
    """Keeps no argument under its name."""

    def __init__(self, sizes, width=3, *layers, **options):
        self.parts = [Dense(2, 2) for _ in sizes]


class Lists(Module):
    def __init__(self, blocks, table=None):
        self.blocks, self.table = blocks, table

    def forward(self, x):
        return x


SCOPE = {**vars(flux), "Residual": Residual, "Options": Options, "Parts": Parts, "Lists": Lists, "inf": float("inf"),
         "partial": functools.partial}
shared = Dense(2, 2)


@pytest.mark.parametrize(("model", "text"), [
    (Options(3), "Options(3)"),
    (Options(np.int64(3)), "Options(3)"),
    (Options(3, tanh, dims=(1, (2, 4)), eps=0.5), "Options(3, tanh, dims=(1, (2, 4)), eps=0.5)"),
    (Options(3, dims=((1,), ()), eps=-1e-30), "Options(3, dims=((1,), ()), eps=-1e-30)"),
    (Options(3, limit=-float("inf"), name="a'b", mode="y"), "Options(3, limit=-inf, name=\"a'b\", mode='y')"),
    (Options(3, on=False, bias=False), "Options(3, on=False, bias=False)"),
    (Options(3, on=0, eps=np.float32(0.5)), "Options(3, eps=0.5, on=0)"),
    (Options(3, act=functools.partial(flux.leakyrelu, alpha=0.2)), None),
    (Parts(Dense(1, 1)), "Parts(Dense(1, 1))"),
    (Parts(relu, relu, Dense(1, 1), tanh), "Parts(relu, relu, Dense(1, 1), tanh)"),
    (Parts(relu, scale=2, a=Dense(1, 1), b=tanh), "Parts(relu, scale=2, a=Dense(1, 1), b=tanh)"),
    (Lists([Dense(1, 1), [relu, (tanh,)]], {"a": Dense(2, 2), "b": 1}),
     "Lists([Dense(1, 1), [relu, (tanh,)]], {'a': Dense(2, 2), 'b': 1})"),
    (Lists([]), "Lists([])"),
    (Chain(shared, relu, shared), None),
    (Chain(Residual(Chain(Dense(2, 2), Residual(Chain(relu)))), MaxPool(2)), None),
], ids=lambda value: type(value).__name__)
def test_odd_layers_print_as_what_rebuilds_them(model, text):
    code = "\n".join(line.partition("  #")[0] for line in repr(model).splitlines())
    assert text is None or code == text
    other = eval(repr(model), SCOPE)
    assert repr(other) == repr(model) or model[0] is shared
    assert type(other) is type(model)


def test_what_cannot_be_rebuilt_prints_all_the_same():
    assert repr(Hidden([1, 2])) == "Hidden(...)  # 12 parameters"
    assert repr(Chain(lambda x: x, np.ones(2).sum)).splitlines()[1:3] == ["  <lambda>,", "  sum,"]
    assert repr(Lists(np.ones(3))) == "Lists(<array (3,)>)"
    assert repr(Lists((np.ones(3), Tensor(np.ones(2))))) == "Lists((<array (3,)>, <array (2,)>))"
    assert repr(Lists(Param(np.ones(3)))) == "Lists(<array (3,)>)  # 3 parameters"
    assert repr(Dense(np.ones((2, 3)), np.ones(2))) == "Dense(3, 2)  # 8 parameters"
    m = Residual(relu)
    m.f = m
    assert repr(m) == "Residual(...)"


def test_long_lines_are_unfolded():
    m = Residual(Chain(*(Dense(10, 10, relu) for _ in range(3)), Lists([Dense(100, 100) for _ in range(6)])), scale=0.25)
    lines = repr(m).splitlines()
    assert lines[:2] == ["Residual(", "  Chain("]
    assert lines[2] == "    Dense(10, 10, relu),  # 110 parameters"
    assert lines[5:8] == ["    Lists(", "      [", "        Dense(100, 100),  # 10_100 parameters"]
    assert lines[-3:-1] == ["  ),", "  scale=0.25,"]
    assert lines[-1] == ")  # Total: 18 arrays, 60_930 parameters, 238.008 KiB."
    assert repr(eval(repr(m), SCOPE)) == repr(m)


def test_buffers_and_kept_values_in_the_totals():
    class Norm(Module):
        def __init__(self):
            self.weight, self.mean, self.n = Param(np.ones(3)), Buffer(np.zeros(3)), Buffer(np.array(0))
            self.last = Tensor(np.ones(100))

        def forward(self, x):
            return x

    assert repr(Norm()) == "Norm()  # 3 parameters, plus 4 non-trainable"
    assert repr(Chain(Norm())).splitlines()[-1] == ")  # Total: 1 array, 3 parameters, plus 4 non-trainable, 56 bytes."
    assert repr(Chain()) == "Chain(\n)"
    sizes = [(1, "2 parameters, 8 bytes"), (200, "400 parameters, 1.562 KiB"), (300_000, "600_000 parameters, 2.289 MiB")]
    for n, text in sizes:
        assert repr(Chain(Dense(1, n))).endswith(f"{text}.")
