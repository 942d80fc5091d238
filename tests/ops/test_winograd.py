"""Winograd's convolutions against the references, in float64 for exactness and in float32 for the bound."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.ops import winograd
from minitorch_flux.ops.geometry import window
from minitorch_flux.readings import toolchain
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.ops.convolution_passes import arrays, references
from tests.ops.convolution_passes import three_passes as passes_of

pytestmark = pytest.mark.skipif(isinstance(toolchain.toolchain(), str), reason="no C++ compiler")

three_passes = functools.partial(passes_of, winograd)


@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 10), st.integers(1, 10),
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_it_is_the_convolution(n, c, o, h, w, above, beside):
    """In float64, where rounding hides nothing: a wrong number in a transform does not pass."""
    above, beside = (2, above[1]) if h + sum(above) < 3 else above, (2, beside[1]) if w + sum(beside) < 3 else beside
    box = window("box", (3, 3), 1, (above, beside), 1)
    x, weights, y = arrays(n, c, o, (h, w), box)
    for got, want in zip(three_passes(x, weights, y, box), references(x, weights, y, box), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * max(1, np.abs(want).max()))


@pytest.mark.parametrize(("n", "c", "o", "size"), [(4, 48, 32, 13), (8, 256, 64, 8), (16, 32, 32, 28)])
def test_in_float32_within_the_bound(n, c, o, size):
    box = window("box", (3, 3), 1, 1, 1)
    x, w, y = arrays(n, c, o, (size, size), box, np.float32)
    exact = references(*(a.astype(np.float64) for a in (x, w, y)), box)
    most = references(*(np.abs(a.astype(np.float64)) for a in (x, w, y)), box)
    for got, want, absolute in zip(three_passes(x, w, y, box), exact, most, strict=True):
        assert (np.abs(got - want) <= winograd.BOUND * absolute).all()


def test_parts_of_the_tiles_fit_together(monkeypatch):
    box = window("box", (3, 3), 1, 1, 1)
    x, w, y = arrays(3, 2, 3, (9, 14), box)
    whole = three_passes(x, w, y, box)
    monkeypatch.setattr(winograd, "PART", 1)
    monkeypatch.setattr(winograd, "FEWEST", 5)
    for got, want in zip(three_passes(x, w, y, box), whole, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    box = window("box", (3, 3), 1, ((1, 0), (2, 1)), 1)
    x, w, y = arrays(2, 33, 3, (6, 5), box, np.float32)
    wanted = three_passes(x, w, y, box)
    with emulated(**how) as emulation:
        for got, want in zip(three_passes(x, w, y, box), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    assert emulation.launches >= 12
