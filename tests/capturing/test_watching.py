"""What a step reads in Python is found, and every change of it noticed."""

import functools
import re
import types

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, Dropout
from minitorch_flux.capturing.watching import LONG, Watch

NUMBER, TEXT = 1, "mean"
SETTINGS = types.ModuleType("tests_settings")
SETTINGS.rate = 0.5


class Base:
    rate = 1.0

    def helper(self):
        return self.rate


class Owner(Base):
    limit = 3

    def __init__(self):
        self.model = Chain(Dense(2, 3), Dropout(0.5))
        self.scale, self.options, self.unread = 2, {"a": 1, "b": [1, 2]}, 0
        self.names = ["x"] * (LONG + 1)

    @property
    def doubled(self):
        return self.scale * 2

    @staticmethod
    def fixed():
        return NUMBER

    @classmethod
    def of_class(cls):
        return cls.limit

    def step(self, x):
        return self.model(x) * self.doubled * self.helper() * self.fixed() * self.of_class() * self.options["a"], self.names


def free(x, *, default=(1, 2)):
    return x * SETTINGS.rate if TEXT else default


def make():
    owner, scale, cell = Owner(), 1.5, [1]
    inner = functools.partial(lambda x, s: x * s * cell[0], s=2.0)

    def step(x):
        return owner.step(inner(x) * scale), free(x)

    def change(new):
        nonlocal scale
        scale = new

    return step, owner, cell, change


CHANGES = {
    "scale": lambda owner, cell, change: change(2.5),
    r"cell\.0|\[0\]": lambda owner, cell, change: cell.__setitem__(0, 2),
    "owner.scale": lambda owner, cell, change: setattr(owner, "scale", 3),
    r"options\.a": lambda owner, cell, change: owner.options.update(a=2),
    r"options\.b": lambda owner, cell, change: owner.options["b"].append(3),
    "options": lambda owner, cell, change: owner.options.update(c=2),
    "the length of owner.names": lambda owner, cell, change: owner.names.append("y"),
    r"model\.layers\[1\]\.p": lambda owner, cell, change: setattr(owner.model[1], "p", 0.1),
    r"Owner\.limit": lambda owner, cell, change: setattr(Owner, "limit", 4),
    r"Base\.rate": lambda owner, cell, change: setattr(Base, "rate", 2.0),
    "NUMBER": lambda owner, cell, change: globals().__setitem__("NUMBER", 2),
    "TEXT": lambda owner, cell, change: globals().__setitem__("TEXT", "sum"),
    r"SETTINGS\.rate": lambda owner, cell, change: setattr(SETTINGS, "rate", 0.25),
}


@pytest.fixture
def restored():
    yield
    globals().update(NUMBER=1, TEXT="mean")
    SETTINGS.rate, Base.rate, Owner.limit = 0.5, 1.0, 3


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_noticed_and_named(name, restored):
    step, *held = make()
    watch = Watch(step)
    assert watch.unchanged()
    assert watch.changes() == []
    CHANGES[name](*held)
    assert not watch.unchanged()
    (found,) = watch.changes()
    assert re.search(name, found.replace(".layers.", ".layers[").replace("[1.", "[1].")), found


def test_what_is_no_change():
    step, owner, cell, change = make()
    watch = Watch(step)
    owner.unread = 5
    change(float("1.5"))
    owner.options["a"] = int("1")
    owner.model[0].weight.data[...] = 0
    owner.model[0].weight.grad = np.ones((3, 2))
    assert watch.unchanged()
    assert watch.changes() == []


def test_what_is_found():
    step, owner, *_ = make()
    opt, rng = flux.setup(flux.Adam(), owner.model), flux.Generator(1)
    rnn = flux.LSTM(2, 3)
    watch = Watch(lambda x: (step(x), opt, rng, rnn), owner.model)
    assert {id(t) for t in watch.tensors} == {id(t) for t in [*owner.model.parameters(), *rnn.parameters()]}
    assert watch.keepers == [opt]
    assert watch.generators == [rng]
    assert watch.recurrent == [rnn]


def test_tensors_that_change():
    model = Dense(2, 3)
    watch = Watch(model)
    model.weight.data = model.weight.data.copy()
    assert not watch.unchanged()
    watch = Watch(model)
    flux.freeze(model.bias)
    assert not watch.unchanged()


def test_functions_without_values_and_circles():
    def outer():
        def step(x):
            return later(x), step

        yield step
        later = np.sin
        yield step

    steps = outer()
    watch = Watch(next(steps))
    next(steps)
    assert watch.changes() == ["later"]
    loop = []
    loop.append(loop)
    assert Watch(lambda: loop).unchanged()
