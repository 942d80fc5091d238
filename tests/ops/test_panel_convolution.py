"""Convolution by panels of columns, against the references."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import panel_convolution
from minitorch_flux.ops.convolution import conv_bias_act, conv_bias_act_forward
from minitorch_flux.ops.geometry import window
from minitorch_flux.ops.nonlinearities import gelu, identity
from minitorch_flux.readings import toolchain
from minitorch_flux.readings.emulator import emulated
from tests.ops.convolution_passes import arrays, check_outputs_with_threads, references, threads
from tests.oracles import check_operation, normal

pytestmark = pytest.mark.skipif(isinstance(toolchain.toolchain(), str), reason="no C++ compiler")


def passes(x, w, y, box):
    """Forward, data where windows do not overlap, and filter."""
    found = [panel_convolution.forward(x, w, box, y.shape[2:]), None, panel_convolution.filter(x, y, box)]
    if panel_convolution.fits(box, "data"):
        found[1] = panel_convolution.data(y, w, box, x.shape[2:])
    return found


def check(n, c, o, sizes, kernel, stride=1, pad=0, dilation=1, groups=1, dtype=np.float64):
    box = window("box", kernel, stride, pad, dilation, groups)
    x, w, y = arrays(n, c, o, sizes, box, dtype)
    for got, want in zip(passes(x, w, y, box), references(x, w, y, box), strict=True):
        if got is not None:
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(dtype).eps * max(1, np.abs(want).max()))


AXIS = st.tuples(*(st.integers(low, high) for low, high in ((1, 60), (1, 4), (1, 4), (0, 4), (0, 4), (1, 3))))


@given(
    st.lists(AXIS, min_size=1, max_size=2), st.integers(1, 5), st.integers(1, 40), st.integers(1, 70), st.integers(1, 3),
    st.integers(1, 4), st.sampled_from([np.float32, np.float64]), st.sampled_from(["any", "pixels", "patches"]),
)
def test_three_passes_equal_the_references(axes, n, c, o, groups, count, dtype, kind):
    sizes, kernel, stride, lo, hi, dilation = zip(*axes, strict=True)
    if kind == "pixels":
        kernel = stride = dilation = (1,) * len(sizes)
        lo = hi = (0,) * len(sizes)
    if kind == "patches":
        stride, dilation = kernel, (1,) * len(sizes)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(i + a + b >= s for i, a, b, s in zip(sizes, lo, hi, spans, strict=True)))
    with threads(count):
        check(n, c, o, sizes, kernel, stride, tuple(zip(lo, hi, strict=True)), dilation, groups, dtype)


@pytest.mark.parametrize(("strip", "sums"), [(1, 1), (1, 1 << 20), (1 << 12, 1)])
def test_strips_and_shares_of_every_size_fit_together(strip, sums, monkeypatch):
    monkeypatch.setattr(panel_convolution, "STRIP", strip)
    monkeypatch.setattr(panel_convolution, "SUMS", sums)
    with threads(2):
        check(3, 17, 65, (9, 30), (1, 1))
        check(2, 3, 20, (24, 30), (4, 20), stride=(4, 20))  # lines of taps that are longer than a register
        check(5, 4, 6, (9,), (1,), stride=2, groups=2)


def test_taps_that_meet_padding_alone_give_zero():
    box = window("box", (2, 3), 3, ((4, 0), (0, 5)))
    x, w, y = arrays(2, 5, 20, (7, 7), box)
    for got, want in zip(passes(x, w, y, box), references(x, w, y, box), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", [identity, gelu])
@pytest.mark.parametrize("past", [False, True])
def test_bias_and_activation(activation, past):
    box = window("box", (1, 1))
    for size in ((12, 12), (5, 11)):
        x, w, _ = arrays(3, 20, 9, size, box)
        b = normal(9)
        wanted = conv_bias_act_forward.reference(x, w, b, box, activation)
        for got, want in zip(panel_convolution.finished(x, w, b, box, activation, size, past), wanted, strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-14 * np.abs(want).max())


def test_a_layer_takes_them_and_differentiates_twice():
    x, w, b = normal(2, 16, 12, 12), normal(64, 16, 1, 1), normal(64)
    launches = conv_bias_act_forward.launches
    y = conv_bias_act(x, w, b, window("box", (1, 1)), gelu)
    assert conv_bias_act_forward.launches == launches + 1
    with use_kernels(False):
        np.testing.assert_allclose(y.numpy(), conv_bias_act(x, w, b, window("box", (1, 1)), gelu).numpy(), atol=1e-12)
    box = window("box", (1, 1))
    check_operation(lambda x, w, b: conv_bias_act(x, w, b, box, gelu), normal(1, 2, 3, 4), normal(5, 2, 1, 1), normal(5))


def test_within_a_bound_on_work_space():
    x, w, b = normal(2, 16, 12, 12), normal(64, 16, 1, 1), normal(64)
    wanted = conv_bias_act(x, w, b, window("box", (1, 1)), gelu).numpy()
    flux.set_workspace_limit(1 << 16)
    try:
        np.testing.assert_allclose(conv_bias_act(x, w, b, window("box", (1, 1)), gelu).numpy(), wanted, atol=1e-12)
    finally:
        flux.set_workspace_limit(None)


def test_nan_reaches_what_it_should():
    box = window("box", (3, 2), 2, 1)
    x, w, y = arrays(2, 4, 20, (9, 9), box, np.float32)
    x[0, 1, 4, 4] = np.nan
    wanted = references(x, w, y, box)
    for got, want in zip(passes(x, w, y, box), wanted, strict=True):
        if got is not None:
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


def test_without_a_compiler_it_declines(monkeypatch):
    box = window("box", (1, 1))
    x, w, y = arrays(2, 5, 20, (7, 7), box)
    monkeypatch.setattr(panel_convolution, "panels", lambda *args, **options: False)
    assert all(z is NotImplemented for z in passes(x, w, y, box))
    assert panel_convolution.finished(x, w, None, box, gelu, (7, 7)) is NotImplemented


def test_outputs_do_not_depend_on_the_number_of_threads():
    box = window("box", (2, 2), 2)
    x, w, y = arrays(5, 20, 70, (12, 14), box, np.float32)
    check_outputs_with_threads(passes, x, w, y, box)


def test_in_the_emulator():
    for kernel, stride in (((1, 1), 1), ((2, 3), (2, 3))):
        box = window("box", kernel, stride)
        x, w, y = arrays(2, 5, 50, (4, 9), box, np.float32)
        wanted = passes(x, w, y, box)
        with emulated(grid=3, lanes=64, backwards=True) as emulation:
            for got, want in zip(passes(x, w, y, box), wanted, strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
        assert emulation.launches == 5
