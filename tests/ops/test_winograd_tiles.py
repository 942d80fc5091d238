"""Winograd's convolutions a few tiles at a time, against the references: in float64 for exactness, in float32 for the bound."""

import functools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels, workspace_of
from minitorch_flux.ops import winograd, winograd_tiles
from minitorch_flux.ops.convolution import conv_forward
from minitorch_flux.ops.geometry import window
from minitorch_flux.readings import toolchain
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.ops.convolution_passes import arrays, check_outputs_with_threads, references, threads
from tests.ops.convolution_passes import three_passes as passes_of
from tests.oracles import normal

pytestmark = pytest.mark.skipif(isinstance(toolchain.toolchain(), str), reason="no C++ compiler")

three_passes = functools.partial(passes_of, winograd_tiles)


def check(n, c, o, sizes, pad):
    """In float64, where rounding hides nothing: a wrong number in a transform does not pass."""
    box = window("box", (3, 3), 1, pad, 1)
    x, w, y = arrays(n, c, o, sizes, box)
    for got, want in zip(three_passes(x, w, y, box), references(x, w, y, box), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * max(1, np.abs(want).max()))


@given(
    st.integers(1, 6), st.integers(1, 40), st.integers(1, 70), st.integers(1, 20), st.integers(1, 20),
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 4),
    st.integers(0, 64), st.integers(1, 64),
)
def test_it_is_the_convolution(n, c, o, h, w, above, beside, count, few, chunk):
    assume(h + sum(above) >= 3 and w + sum(beside) >= 3)
    with threads(count), pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_tiles, "FEW", few)
        patch.setattr(winograd_tiles, "CHUNK", chunk)
        check(n, c, o, (h, w), (above, beside))


def test_where_tiles_are_few_the_transformed_filters_are_never_whole():
    box = window("box", (3, 3), 1, 1, 1)
    x, w, y = arrays(8, 256, 256, (4, 4), box, np.float32)
    whole = 36 * 256 * 256 * 4
    for count in (1, 2, 7):
        with threads(count):
            for function, given in zip((winograd_tiles.forward, winograd_tiles.data, winograd_tiles.filter),
                                       ((x, w, box, (4, 4)), (y, w, box, (4, 4)), (x, y, box)), strict=True):
                taken = workspace_of(function, *given)
                assert taken < whole / 2 if count < 7 else taken > whole  # most of 7 would wait for one with two of 8 blocks


@pytest.mark.parametrize(("strip", "tiles", "sums"), [(1, 1, 1), (1, 5, 1 << 20), (1 << 15, 3, 1)])
def test_strips_and_shares_of_every_size_fit_together(strip, tiles, sums, monkeypatch):
    for name, value in (("STRIP", strip), ("TILES", tiles), ("SUMS", sums), ("FEW", 0)):
        monkeypatch.setattr(winograd_tiles, name, value)
    check(3, 17, 65, (9, 30), 1)
    check(5, 3, 33, (4, 4), ((1, 2), (0, 3)))


@pytest.mark.parametrize(("n", "c", "o", "size"), [(4, 48, 32, 13), (8, 256, 64, 8), (16, 16, 40, 28)])
def test_in_float32_within_the_bound(n, c, o, size):
    box = window("box", (3, 3), 1, 1, 1)
    x, w, y = arrays(n, c, o, (size, size), box, np.float32)
    exact = references(*(a.astype(np.float64) for a in (x, w, y)), box)
    most = references(*(np.abs(a.astype(np.float64)) for a in (x, w, y)), box)
    for got, want, absolute in zip(three_passes(x, w, y, box), exact, most, strict=True):
        assert (np.abs(got - want) <= winograd.BOUND * absolute).all()


def test_outputs_do_not_depend_on_the_number_of_threads():
    box = window("box", (3, 3), 1, 1, 1)
    x, w, y = arrays(5, 20, 70, (11, 14), box, np.float32)
    check_outputs_with_threads(three_passes, x, w, y, box)


def test_nan_and_infinity_stay_within_their_tile():
    box = window("box", (3, 3), 1, 1, 1)
    x, w, _ = arrays(1, 4, 40, (8, 12), box, np.float32)
    clean = winograd_tiles.forward(x, w, box, (8, 12))
    x[0, 2, 1, 1] = np.nan
    dirty = winograd_tiles.forward(x, w, box, (8, 12))
    assert np.isnan(dirty[:, :, :3, :3]).all()
    np.testing.assert_array_equal(dirty[:, :, 4:, 4:], clean[:, :, 4:, 4:])


def test_without_a_compiler_it_declines(monkeypatch):
    box = window("box", (3, 3), 1, 1, 1)
    x, w, y = arrays(2, 16, 16, (8, 8), box, np.float32)
    monkeypatch.setattr(winograd_tiles, "winograd_tiles", lambda *args: False)
    assert all(z is NotImplemented for z in three_passes(x, w, y, box))
    np.testing.assert_allclose(conv_forward(x, w, box), references(x, w, y, box)[0], atol=1e-4)


def test_a_layer_is_the_same_with_and_without():
    conv = flux.Conv((3, 3), 32, 32, flux.relu, pad=1)
    x = normal(8, 32, 8, 8, dtype=np.float32)
    y = conv(x)
    with use_kernels(False):
        np.testing.assert_allclose(y.data, conv(x).data, rtol=0, atol=2e-5 * np.abs(y.data).max())


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how, monkeypatch):
    box = window("box", (3, 3), 1, ((1, 0), (2, 1)), 1)
    x, w, y = arrays(2, 33, 3, (6, 5), box, np.float32)
    wanted = three_passes(x, w, y, box)
    for few, chunk, launches in ((64, 20, 3), (0, 64, 6)):
        monkeypatch.setattr(winograd_tiles, "FEW", few)
        monkeypatch.setattr(winograd_tiles, "CHUNK", chunk)
        with emulated(**how) as emulation:
            for got, want in zip(three_passes(x, w, y, box), wanted, strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
        assert emulation.launches == launches
