"""Sides set the threads of their process, which here is that of all tests."""

import sys

import pytest

import minitorch_flux as flux
from minitorch_flux.backend.threads import num_threads


@pytest.fixture(autouse=True)
def threads():
    """The number of threads is afterwards what it was before."""
    before = num_threads()
    yield
    flux.set_num_threads(before)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(before)
