"""The bound on work space, and what a function takes, told from shapes. What obeys it: tests/ops/test_bounds.py."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.backend import Outline, empty, too_small, within_limit, workspace_of


@pytest.fixture(autouse=True)
def no_bound_afterwards():
    yield
    flux.set_workspace_limit(None)


def test_it_is_set_and_taken_away():
    assert flux.workspace_limit() is None
    assert within_limit(1 << 60)
    flux.set_workspace_limit(np.int64(1000))
    assert flux.workspace_limit() == 1000
    assert type(flux.workspace_limit()) is int
    assert (within_limit(1000), within_limit(1001)) == (True, False)
    flux.set_workspace_limit(None)
    assert flux.workspace_limit() is None


def test_what_is_no_number_of_bytes_raises():
    with pytest.raises(TypeError, match="set_workspace_limit takes a number of bytes or None, got 1.5"):
        flux.set_workspace_limit(1.5)
    with pytest.raises(ValueError, match="a number of bytes is at least 0, got -1"):
        flux.set_workspace_limit(-1)
    assert flux.workspace_limit() is None


def test_the_error_says_how_much_is_needed():
    flux.set_workspace_limit(10)
    assert str(too_small("conv", 2000)) == (
        "conv: one sample takes 2,000 bytes of work space, more than the bound of 10; raise it with "
        "flux.set_workspace_limit(bytes), or take it away with flux.set_workspace_limit(None)"
    )


def test_work_space_is_told_from_shapes():
    def f(x):
        first = empty((100, *x.shape), x.dtype, like=x)
        second = empty((50, *x.shape), x.dtype, like=x)
        del first
        return second

    assert workspace_of(f, np.zeros(10, np.float32)) == 100 * 40
    assert workspace_of(f, Outline((10,), np.float64)) == 100 * 80
    assert workspace_of(lambda x: x, np.zeros(3)) <= 0
