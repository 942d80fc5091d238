"""Attributes that tensors and layers have elsewhere: errors that say how it is done here."""

import re

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense
from minitorch_flux.foreign_attributes import LAYER, TENSOR, Foreign, attach


@pytest.mark.parametrize("name", TENSOR)
def test_tensors_answer(name):
    x = flux.tensor(np.ones((2, 3)))
    assert not hasattr(x, name)
    words = f"Tensor has no attribute '{name}'; here it is {TENSOR[name]}"
    with pytest.raises(AttributeError, match=f"^{re.escape(words)}$"):
        getattr(x, name)


@pytest.mark.parametrize("name", LAYER)
def test_layers_and_containers_answer(name):
    for layer, has in (Dense(2, 3), "attribute"), (Chain(Dense(2, 3)), "layer or attribute"):
        assert not hasattr(layer, name)
        words = f"{type(layer).__name__} has no {has} '{name}'; here it is {LAYER[name]}"
        with pytest.raises(AttributeError, match=f"^{re.escape(words)}$"):
            getattr(layer, name)


@pytest.mark.parametrize("text", [*TENSOR.values(), *LAYER.values()])
def test_every_answer_exists(text):
    for name in re.findall(r"flux\.(\w+)", text):
        assert callable(getattr(flux, name))
    for kind, example in (("x", flux.tensor(1.0)), ("model", Dense(1, 1))):
        for name in re.findall(rf"\b{kind}\.(\w+)", text):
            assert name == "name" or hasattr(example, name)  # model.name stands for any


def test_a_layer_may_have_such_an_attribute_of_its_own():
    class Layer(flux.Module):
        def __init__(self):
            self.device = "here"

        def apply(self, x):
            return x + 1

    layer = Layer()
    assert layer.device == "here"
    assert layer.apply(1) == 2
    assert Chain(half=Dense(2, 2)).half is not None
    with pytest.raises(AttributeError, match="^Layer has no attribute 'cuda'"):
        layer.cuda()


def test_a_name_that_a_class_has_stays():
    class Own:
        def apply(self):
            return 1

    attach(Own, {"apply": "nothing", "other": "something"})
    assert Own().apply() == 1
    assert isinstance(vars(Own)["other"], Foreign)
    with pytest.raises(AttributeError, match="^Own has no attribute 'other'; here it is something$"):
        Own().other  # noqa: B018
