"""Convolutions of many small images by columns of the whole batch, against the references."""

import functools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import convolution_kernels, image_columns
from minitorch_flux.ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from minitorch_flux.ops.geometry import window
from minitorch_flux.readings import toolchain
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.ops.convolution_passes import references
from tests.ops.convolution_passes import three_passes as passes_of
from tests.oracles import normal

pytestmark = pytest.mark.skipif(isinstance(toolchain.toolchain(), str), reason="no C++ compiler")

three_passes = functools.partial(passes_of, image_columns)


def check(n, c, o, sizes, kernel, dtype=np.float64, **options):
    box = window("box", kernel, options.pop("stride", 1), options.pop("pad", 0), options.pop("dilation", 1), **options)
    x, w = normal(n, c * box.groups, *sizes, dtype=dtype), normal(o * box.groups, c, *kernel, seed=1, dtype=dtype)
    y = normal(n, o * box.groups, *box.output_size(sizes), seed=2, dtype=dtype)
    for got, want in zip(three_passes(x, w, y, box), references(x, w, y, box), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(dtype).eps * max(1, np.abs(want).max()))
    return x, w, y, box


@given(
    st.integers(1, 20), st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3),
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 2), st.integers(1, 2),
    st.sampled_from([np.float32, np.float64]),
)
def test_three_passes_equal_the_references(n, c, o, h, w, kh, kw, stride, lo, hi, dilation, groups, dtype):
    spans = (kh - 1) * dilation + 1, (kw - 1) * dilation + 1
    assume(h + lo + hi >= spans[0] and w + lo + hi >= spans[1])
    check(n, c, o, (h, w), (kh, kw), dtype, stride=stride, pad=((lo, hi), (hi, lo)), dilation=dilation, groups=groups)


@pytest.mark.parametrize("part", [1, 200, 1 << 20])
def test_parts_of_every_size_fit_together(part, monkeypatch):
    monkeypatch.setattr(image_columns, "PART", part)
    monkeypatch.setattr(image_columns, "LEAST", min(part, 64))
    check(9, 5, 3, (5, 4), (3, 3), pad=1)
    check(9, 3, 3, (5, 4), (3, 2), pad=(1, 0), stride=2, groups=2)
    check(8, 2, 2, (3, 2, 4), (2, 1, 2), pad=(1, 0, 1), stride=(2, 1, 1))
    check(10, 4, 2, (7,), (3,), dilation=2)
    check(8, 4, 6, (3, 3), (1, 1), groups=2)


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    for sizes, kernel, options in [((3, 4), (3, 3), {"pad": 1}), ((4, 3), (2, 2), {"stride": 2, "pad": ((1, 0), (0, 1))})]:
        box = window("box", kernel, options.get("stride", 1), options["pad"], 1)
        x, w = normal(33, 2, *sizes, dtype=np.float32), normal(3, 2, *kernel, dtype=np.float32)
        y = normal(33, 3, *box.output_size(sizes), dtype=np.float32)
        wanted = three_passes(x, w, y, box)
        with emulated(**how) as emulation:
            for got, want in zip(three_passes(x, w, y, box), wanted, strict=True):
                np.testing.assert_array_equal(got, want)
        assert emulation.launches > 6


def test_nan_reaches_what_the_references_reach():
    x = np.full((8, 1, 2, 2), np.nan, np.float32)
    x[:, :, 0, 0] = 1
    w = np.zeros((1, 1, 3, 3), np.float32)
    w[0, 0, 0, 0] = 1  # looks up and left
    box = window("box", (3, 3), 1, 1, 1)
    with use_kernels(False):
        wanted = conv_forward(x, w, box)
    assert np.isnan(wanted).any()
    np.testing.assert_array_equal(image_columns.forward(x, w, box, (2, 2)), wanted)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4),
                       st.integers(1, 3)), min_size=1, max_size=2),
    st.integers(1, 9),
)
def test_taps_that_meet_padding_alone_are_left_out(axes, n):
    """Convolutions whose kernels reach over their images at both ends, with the choice of the kernels and without."""
    sizes, kernel, stride, lo, hi, dilation = zip(*axes, strict=True)
    box = window("box", kernel, stride, tuple(zip(lo, hi, strict=True)), dilation)
    assume(all(i + a + b >= s for i, a, b, s in zip(sizes, lo, hi, box.span, strict=True)))
    x, w = normal(n, 2, *sizes), normal(3, 2, *kernel, seed=1)
    y = normal(n, 3, *box.output_size(sizes), seed=2)
    with use_kernels(False):
        wanted = conv_forward(x, w, box), conv_data_forward(y, w, box, sizes), conv_filter_forward(x, y, box)
    got = conv_forward(x, w, box), conv_data_forward(y, w, box, sizes), conv_filter_forward(x, y, box)
    for g, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, want, rtol=0, atol=1e-12)


def test_around_a_single_pixel_one_tap_is_left():
    box = window("box", (3, 3), 1, 1, 1)
    cuts, inner = convolution_kernels._seen(box, (1, 1), 2)
    assert cuts == (slice(1, 2), slice(1, 2))
    assert inner.pointwise()
    assert convolution_kernels._seen(box, (2, 2), 2) is None
    assert convolution_kernels._seen(window("box", (3, 3), 1, 1, 1, 4), (1, 1), 1) is None, "the depthwise kernels see to it"
