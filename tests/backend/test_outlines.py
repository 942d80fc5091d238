"""Outlines lie in memory as NumPy's arrays do, and a ledger knows what they would take."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.backend import Outline, OutlineError, array_module, empty, is_whole, outline_of, outline_scopes
from minitorch_flux.backend.outlines import Account, Ledger, own

INDICES = [0, -1, slice(None), slice(1, None), slice(None, None, 2), slice(None, None, -1), None, ...]


@st.composite
def chains(draw):
    """An array's shape and a few things that make views of it."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    steps = draw(st.lists(st.tuples(st.sampled_from(["index", "transpose", "T", "expand", "broadcast", "swap", "flip"]),
                                    st.integers(0, 1000)), max_size=4))  # fmt: skip
    return shape, steps


def applied(a, xp, kind, n):
    if kind == "index":
        return a[INDICES[n % len(INDICES)]] if a.ndim else a
    if kind == "transpose":
        return xp.transpose(a, np.random.default_rng(n).permutation(a.ndim).tolist())
    if kind == "T":
        return a.T
    if kind == "expand":
        return xp.expand_dims(a, n % (a.ndim + 1))
    if kind == "broadcast":
        return xp.broadcast_to(a, (2, *a.shape))
    if kind == "swap":
        return a.swapaxes(0, -1) if a.ndim else a
    return xp.flip(a)


@given(chains())
def test_views_have_the_strides_of_numpys(chain):
    shape, steps = chain
    real = np.zeros(shape, np.float32)
    with outline_scopes:
        there = Outline(shape, np.float32)
        for kind, n in steps:
            real, there = applied(real, np, kind, n), applied(there, array_module(there), kind, n)
            if not isinstance(real, np.ndarray):  # NumPy gives an element here
                return
        assert there.shape == real.shape
        assert there.flags.c_contiguous == real.flags.c_contiguous
        if not real.flags.c_contiguous:
            assert [s for s, n in zip(there.strides, there.shape, strict=True) if n != 1] == [
                s for s, n in zip(real.strides, real.shape, strict=True) if n != 1
            ]
        again = array_module(there).ascontiguousarray(there)
        assert (again is there) == real.flags.c_contiguous
        assert again.flags.c_contiguous


def test_what_is_a_view_and_what_is_not():
    with outline_scopes:
        a = Outline((4, 6), np.float32)
        for view in (a[1:], a.T, a.reshape(24), a.reshape(4, 1, 6), a.T.reshape(6, 1, 4), a.ravel(), a[None], a[0], a.view()):
            assert view.base is a
            assert not is_whole(view)
        for new in (a[[0, 1]], a.T.reshape(24), a.T.ravel(), a.copy(), a.flatten(), a + 1, a.astype(np.float64), a.sum(axis=0)):
            assert new.base is None
            assert is_whole(new)
        assert a.astype(np.float32, copy=False) is a
        assert a.T.reshape(6, 1, 4).strides == (4, 0, 24)
        out = empty((4, 6), np.float32, like=a)
        assert np.add(a, a, out=out) is out
        assert array_module(a).cumsum(a, axis=0, out=out) is out
        with pytest.raises(ValueError, match="does not fit into an array of shape"):
            np.add(a, a, out=a[1:])
        with pytest.raises(OutlineError, match="depends on the mask"):
            a[a > 0]


def test_a_ledger_books_what_lives():
    ledger = Ledger()
    first, second = Account("first", ledger), Account("second", ledger)
    weights = np.zeros(1000, np.float32)
    with outline_scopes:
        try:
            own.account = first
            kept = Outline((10, 10), np.float32)
            view = kept.T[2:]
            assert (first.live, ledger.live) == (400, 400)
            outline_of(weights)  # is there anyway
            assert ledger.live == 400
            own.account = second
            (kept + 1) * 2
            assert (first.live, second.live, ledger.peak, ledger.where) == (400, 0, 1200, "second")
            total = kept.sum(axis=0, out=Outline(10, np.float32))
            assert second.live == 40
            del kept
            gc.collect()
            assert ledger.live == 440  # the view holds it
            del view, total
            gc.collect()
            assert ledger.live == 0
        finally:
            own.account = None
        assert Outline(3, float).account is None
