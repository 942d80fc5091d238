"""docs/names.md: every name in its third column exists here, and every layer, activation, loss and optimiser is in it."""

import builtins
import inspect
import re
from pathlib import Path

import pytest

import minitorch_flux as flux

PAGE = (Path(__file__).parent.parent / "docs" / "names.md").read_text()
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ") and "Flux.jl |" not in line]
WORDS = """
a alpha axis b cell class data delta dims f f_or_layer g h in k l lambda loss m None op opt p path q rnn s sd state theta u
v w with x xs y y_hat
"""
ARGUMENTS = set(WORDS.split())
OURS = [span for row in ROWS for span in re.findall(r"`([^`]+)`", row[2])]


def test_the_page_has_rows():
    assert len(ROWS) > 100
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize("span", sorted(set(OURS)))
def test_every_name_that_the_page_gives_as_ours_is_ours(span):
    known = {name for place in (flux, flux.losses, flux.Chain, flux.Recur, builtins) for name in dir(place)} | ARGUMENTS
    called = re.findall(r"(?<![\w\"'.])([A-Za-zσ_]\w*)(?!\w*=)\s*(?=\(|\b)", re.sub(r"\"[^\"]*\"|\w+=", "", span))
    unknown = [name for name in called if name not in known]
    assert not unknown, f"`{span}`: {unknown}"


def names_of(package):
    for name in flux.__all__:
        value = getattr(flux, name)
        if package in (getattr(inspect.unwrap(value), "__module__", "") or "") and (inspect.isclass(value) or callable(value)):
            yield name


def test_every_layer_is_on_the_page():
    words = set(re.findall(r"\w+", PAGE))
    layers = [n for n in names_of("minitorch_flux.nn.") if inspect.isclass(getattr(flux, n)) and n not in ("Module",)]
    assert len(layers) > 40
    assert not [n for n in layers if n not in words]


def test_every_activation_loss_initialiser_and_optimiser_is_on_the_page():
    words = set(re.findall(r"\w+", PAGE))
    activations = [n for n in flux.__all__ if type(getattr(flux, n)).__name__ == "Activation"]
    initialisers = list(names_of("minitorch_flux.nn.initialisers"))
    rules = [n for n in names_of("minitorch_flux.optimisers") if inspect.isclass(getattr(flux, n))]
    losses = list(flux.losses.__all__)
    assert min(len(activations), len(initialisers), len(rules), len(losses)) > 10
    assert not [n for n in activations + initialisers + rules + losses if n not in words]
