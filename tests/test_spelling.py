"""Names of other frameworks: errors that give ours."""

import inspect
import pickle
import re

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.foreign_names import NAMES
from minitorch_flux.spelling import KEYWORDS, check_keywords, known_keywords, missing_name, teach


@pytest.mark.parametrize("name", NAMES)
def test_every_foreign_name_is_answered_with_a_public_one(name):
    assert not hasattr(flux, name) or name in dir(flux.losses), "a name of our own is not foreign"
    with pytest.raises(AttributeError, match=rf"minitorch_flux has no '{name}': it is spelled {re.escape(NAMES[name])} here"):
        getattr(flux, name)
    first = re.match(r"[\w.]+", NAMES[name]).group()
    if NAMES[name].startswith("a "):  # said in words
        return
    value = flux
    for part in first.split("."):
        value = getattr(value, part)
    assert callable(value)


def test_a_name_that_nobody_has_gets_no_hint():
    assert str(missing_name("nonsense")) == "minitorch_flux has no 'nonsense'"
    assert missing_name("nonsense").name == "nonsense"
    assert not hasattr(flux, "__wrapped__")


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_foreign_keyword_is_answered(keyword):
    with pytest.raises(TypeError, match=rf"^f: `{keyword}=` is spelled .+ here$"):
        check_keywords("f", [keyword], ["x"])
    check_keywords("f", [keyword], ["x", keyword])  # a function may have it all the same


def test_public_functions_are_one_object_under_all_their_names_and_in_pickles():
    assert flux.cat is flux.concatenate
    functions = {name: f for name in flux.__all__ if inspect.isfunction(f := getattr(flux, name))}
    assert len(functions) > 50
    for f in functions.values():
        assert pickle.loads(pickle.dumps(f)) is f


def test_our_own_spellings_are_not_foreign():
    ours = {word for value in KEYWORDS.values() if value.isidentifier() for word in [value]}
    assert not ours & set(KEYWORDS)
    assert not {n for n in NAMES if n in NAMES.values()}


def test_taught_functions():
    def f(x, *, axis=0):
        """Doc."""
        return x, axis

    taught = teach(f)
    assert taught(1, axis=2) == (1, 2)
    assert taught.__doc__ == "Doc."
    assert inspect.signature(taught) == inspect.signature(f)
    with pytest.raises(TypeError, match="f: `dim=` is spelled `axis=` here"):
        taught(1, dim=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        taught(1, other=2)

    def any_keyword(**options):
        return options

    assert teach(any_keyword) is any_keyword
    assert known_keywords(any_keyword) is None
    assert known_keywords(f) == {"x", "axis"}


def test_public_functions_are_taught():
    with pytest.raises(TypeError, match="softmax: `dim=` is spelled `axis=` here"):
        flux.softmax(np.ones(2), dim=0)
    with pytest.raises(TypeError, match="mean: `keepdim=` is spelled `keepdims=` here"):
        flux.mean(np.ones(2), keepdim=True)
    with pytest.raises(TypeError, match="Conv: `padding=` is spelled `pad=` here"):
        flux.Conv((3, 3), 1, 2, padding=1)
    with pytest.raises(TypeError, match="Conv: `kernel_size=` is spelled the first argument, a tuple here"):
        flux.Conv(kernel_size=3)
    with pytest.raises(TypeError, match="DataLoader: `batch_size=` is spelled `batchsize=` here"):
        flux.DataLoader(np.ones(2), batch_size=1)


def test_a_tensors_methods_give_our_spelling_too():
    with pytest.raises(TypeError, match=r"Tensor\.sum: `dim=` is spelled `axis=` here"):
        flux.tensor([1.0, 2.0]).sum(dim=0)
    assert flux.tensor([1.0, 2.0]).sum(axis=0).item() == 3
