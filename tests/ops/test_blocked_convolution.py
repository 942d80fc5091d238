"""Direct convolution with channels in the lanes, against the references."""

import functools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import blocked_convolution
from minitorch_flux.ops.convolution import conv_forward
from minitorch_flux.ops.geometry import window
from minitorch_flux.readings import toolchain
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.ops.convolution_passes import arrays, check_outputs_with_threads, references, threads
from tests.ops.convolution_passes import three_passes as passes_of

pytestmark = pytest.mark.skipif(isinstance(toolchain.toolchain(), str), reason="no C++ compiler")

three_passes = functools.partial(passes_of, blocked_convolution)


def check(n, c, o, sizes, kernel, stride=1, pad=0, dilation=1, groups=1, dtype=np.float64):
    box = window("box", kernel, stride, pad, dilation, groups)
    x, w, y = arrays(n, c, o, sizes, box, dtype)
    for got, want in zip(three_passes(x, w, y, box), references(x, w, y, box), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(dtype).eps * max(1, np.abs(want).max()))


AXIS = st.tuples(*(st.integers(low, high) for low, high in ((1, 24), (1, 4), (1, 3), (0, 4), (0, 4), (1, 3))))


@given(
    st.lists(AXIS, min_size=1, max_size=2), st.integers(1, 5), st.integers(1, 40), st.integers(1, 70), st.integers(1, 3),
    st.integers(1, 4), st.sampled_from([np.float32, np.float64]),
)
def test_three_passes_equal_the_references(axes, n, c, o, groups, count, dtype):
    sizes, kernel, stride, lo, hi, dilation = zip(*axes, strict=True)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(i + a + b >= s for i, a, b, s in zip(sizes, lo, hi, spans, strict=True)))
    with threads(count):
        check(n, c, o, sizes, kernel, stride, tuple(zip(lo, hi, strict=True)), dilation, groups, dtype)


@pytest.mark.parametrize(("strip", "pixels", "sums"), [(1, 1, 1), (1, 5, 1 << 20), (1 << 13, 3, 1)])
def test_strips_and_shares_of_every_size_fit_together(strip, pixels, sums, monkeypatch):
    for name, value in (("STRIP", strip), ("PIXELS", pixels), ("SUMS", sums)):
        monkeypatch.setattr(blocked_convolution, name, value)
    check(3, 17, 65, (9, 30), (3, 3), pad=1)
    check(7, 3, 33, (4, 5), (3, 2), stride=(2, 3), pad=((1, 2), (0, 3)), dilation=(1, 2))
    check(5, 4, 6, (9,), (1,), stride=2, groups=2)


def test_pixels_that_no_window_meets_have_no_gradient():
    box = window("box", (1, 1), 3)
    x, w, y = arrays(2, 5, 20, (7, 7), box)
    dx = blocked_convolution.data(y, w, box, (7, 7))
    assert (dx[:, :, 1] == 0).all()
    assert dx[:, :, 0, 3].all()


def test_nan_reaches_what_the_references_reach():
    box = window("box", (3, 3), 2, 1, 1)
    x, w, _ = arrays(2, 4, 20, (9, 9), box, np.float32)
    x[0, 1, 4, 4] = np.nan
    with use_kernels(False):
        wanted = np.isnan(conv_forward(x, w, box))
    np.testing.assert_array_equal(np.isnan(blocked_convolution.forward(x, w, box, (5, 5))), wanted)


def test_without_a_compiler_it_declines(monkeypatch):
    box = window("box", (3, 3), 2, 1, 1)
    x, w, y = arrays(2, 5, 20, (7, 7), box)
    monkeypatch.setattr(blocked_convolution, "blocked", lambda *args: False)
    assert all(z is NotImplemented for z in three_passes(x, w, y, box))


def test_outputs_do_not_depend_on_the_number_of_threads():
    box = window("box", (3, 3), 2, 1, 1)
    x, w, y = arrays(5, 20, 70, (11, 14), box, np.float32)
    check_outputs_with_threads(three_passes, x, w, y, box)


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    for kernel, options in [((3, 2), {"pad": ((1, 0), (0, 1))}), ((2, 2), {"stride": (2, 3), "groups": 2})]:
        box = window("box", kernel, options.get("stride", 1), options.get("pad", 0), 1, options.get("groups", 1))
        x, w, y = arrays(2, 5, 33, (6, 7), box, np.float32)
        wanted = three_passes(x, w, y, box)
        with emulated(**how) as emulation:
            for got, want in zip(three_passes(x, w, y, box), wanted, strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
        assert emulation.launches == 6
