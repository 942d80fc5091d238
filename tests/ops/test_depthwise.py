"""Depthwise convolution: kernels and references against the definition, PyTorch, grouped convolution and each other."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import conv
from minitorch_flux.backend import memory_stats, use_kernels
from minitorch_flux.ops import convolution_kernels
from minitorch_flux.ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from minitorch_flux.ops.depthwise import depthwise_data, depthwise_filter, depthwise_forward, suits
from minitorch_flux.ops.geometry import SamePad, window
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import check_against_torch, check_operation, needs_compiler, normal

THREE = depthwise_forward, depthwise_data, depthwise_filter


def slow_depthwise(x, w, stride=1, pad=0, dilation=1, groups=1):
    """The definition: output o looks at input channel o // mul alone."""
    n, c, *sizes = x.shape
    mul = w.shape[0] // c
    box = window("slow", w.shape[2:], stride, pad, dilation, groups).at(tuple(sizes))
    y = np.zeros((n, w.shape[0], *box.output_size(tuple(sizes))), np.result_type(x, w))
    for o, p in itertools.product(range(y.shape[1]), np.ndindex(*y.shape[2:])):
        for k in np.ndindex(*box.kernel):
            at = [p[i] * box.stride[i] - box.lo[i] + k[i] * box.dilation[i] for i in range(box.ndim)]
            if all(0 <= a < s for a, s in zip(at, sizes, strict=True)):
                y[(slice(None), o, *p)] += x[(slice(None), o // mul, *at)] * w[(o, 0, *k)]
    return y


CASES = {  # x, w, options without groups, which are x's channels
    "3x3": ((2, 3, 6, 7), (3, 1, 3, 3), dict(pad=1)),
    "3x3 of every other pixel": ((2, 3, 7, 6), (3, 1, 3, 3), dict(pad=1, stride=2)),
    "5x5": ((2, 2, 9, 18), (2, 1, 5, 5), dict(pad=2)),
    "two for one": ((2, 3, 6, 7), (6, 1, 3, 3), dict(pad=((1, 0), (0, 2)))),
    "asymmetric": ((2, 2, 11, 21), (4, 1, 2, 3), dict(stride=(3, 2), pad=((2, 0), (1, 3)), dilation=(2, 3))),
    "1-d": ((2, 3, 37), (6, 1, 7), dict(stride=4, pad=((3, 2),))),
    "3-d": ((2, 2, 5, 4, 6), (4, 1, 3, 2, 2), dict(stride=(2, 1, 1), pad=((1, 2), (1, 0), (0, 1)), dilation=(1, 2, 1))),
    "1x1": ((2, 3, 4, 5), (6, 1, 1, 1), {}),
    "SamePad": ((2, 2, 5, 6), (2, 1, 3, 3), dict(pad=SamePad(), stride=2)),
    "SamePad upper": ((2, 2, 6, 8), (2, 1, 3, 3), dict(pad=SamePad("upper"), stride=2)),
    "more padding than kernel": ((1, 2, 2, 3), (2, 1, 3, 3), dict(pad=4)),
    "a kernel that is not unrolled": ((1, 2, 14, 4), (4, 1, 12, 3), dict(pad=1)),
}


IN_FLOAT32 = ("3x3", "3x3 of every other pixel", "5x5", "asymmetric")  # each type is a build of its own


def box_of(case):
    xs, ws, options = CASES[case]
    return window("w", ws[2:], **options, groups=xs[1])


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_of_both_orders(case):
    xs, ws, options = CASES[case]
    dtypes = (np.float32,) if case in IN_FLOAT32 else ()
    check_operation(conv, normal(*xs), normal(*ws), oracle=slow_depthwise, groups=xs[1], dtypes=dtypes, **options)


@pytest.mark.parametrize("case", ["3x3", "3x3 of every other pixel", "two for one", "1-d", "1x1"])
def test_against_torch(case):
    F = pytest.importorskip("torch").nn.functional
    xs, ws, options = CASES[case]
    options = {"pad": 1, **options}
    pad = options["pad"] if isinstance(options["pad"], tuple) else ((options["pad"],) * 2,) * (len(xs) - 2)
    f = (F.conv1d, F.conv2d, F.conv3d)[len(xs) - 3]
    flat = [n for pair in reversed(pad) for n in pair]
    check_against_torch(
        lambda x, w: conv(x, w, groups=xs[1], **options),
        lambda x, w: f(F.pad(x, flat), w, stride=options.get("stride", 1), groups=xs[1]),
        normal(*xs), normal(*ws),
    )


def test_scipy_correlates_each_channel():
    signal = pytest.importorskip("scipy.signal")
    x, w = normal(1, 3, 8, 9), normal(3, 1, 3, 4)
    y = conv(x, w, groups=3).data
    for c in range(3):
        np.testing.assert_allclose(y[0, c], signal.correlate(x[0, c], w[c, 0], "valid"), rtol=1e-12)
        assert not np.allclose(y[0, c], signal.convolve(x[0, c], w[c, 0], "valid")), "the kernel is not flipped"


@needs_compiler
@pytest.mark.parametrize(
    ("case", "dtype"),
    [(c, np.float64) for c in CASES if c != "a kernel that is not unrolled"] + [(c, np.float32) for c in IN_FLOAT32],
)
def test_kernels_equal_references_and_are_what_conv_runs(case, dtype):
    xs, ws, _ = CASES[case]
    box = box_of(case)
    x, w = normal(*xs, dtype=dtype), normal(*ws, dtype=dtype)
    before = [f.launches for f in THREE]
    y = conv_forward(x, w, box)
    dy = normal(*y.shape, seed=1, dtype=dtype)
    got = y, conv_data_forward(dy, w, box, xs[2:]), conv_filter_forward(x, dy, box)
    assert [f.launches for f in THREE] == [b + 1 for b in before]
    definitions = conv_forward.reference(x, w, box), conv_data_forward.reference(dy, w, box, xs[2:]), \
        conv_filter_forward.reference(x, dy, box)
    with use_kernels(False):
        references = depthwise_forward(x, w, box), depthwise_data(dy, w, box, xs[2:]), depthwise_filter(x, dy, box)
    near = 1e-5 if dtype == np.float32 else 1e-13
    for a, b, c in zip(got, references, definitions, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=near, atol=near * max(1, abs(b).max()))
        np.testing.assert_allclose(b, c, rtol=near, atol=near * max(1, abs(b).max()))


small = st.integers(1, 3)


@given(st.sampled_from([1, 2, 3]), st.data(), small, small, st.sampled_from([np.float16, np.float32, np.float64, np.int32]))
def test_references_on_any_geometry(ndim, data, c, mul, dtype):
    pick = lambda *of: tuple(data.draw(st.sampled_from(of)) for _ in range(ndim))  # noqa: E731
    sizes, kernel, stride, dilation = pick(1, 2, 3, 4, 5), pick(1, 2, 3), pick(1, 2, 3), pick(1, 2)
    pad = tuple(zip(pick(0, 1, 2), pick(0, 1, 3), strict=True))
    box = window("w", kernel, stride, pad, dilation, c)
    assume(all(i + lo + hi >= s for i, s, (lo, hi) in zip(sizes, box.span, pad, strict=True)))
    x, w = ((normal(2, c, *sizes) * 3).astype(dtype), (normal(c * mul, 1, *kernel) * 3).astype(dtype))
    wanted = slow_depthwise(x.astype(float), w.astype(float), stride, pad, dilation)
    y = depthwise_forward.reference(x, w, box)
    dy = (normal(*y.shape) * 3).astype(dtype)
    near = 1e-2 if dtype == np.float16 else 1e-4
    assert y.dtype == dtype
    np.testing.assert_allclose(y, wanted, rtol=near, atol=10 * near)
    total = (wanted * dy).sum()  # the three are one sum, of x, w and y
    dx, dw = depthwise_data.reference(dy, w, box, sizes), depthwise_filter.reference(x, dy, box)
    assert dx.dtype == dw.dtype == dtype
    scale = max(1.0, float(abs(wanted * dy).sum()))
    assert abs((dx.astype(float) * x).sum() - total) <= near * scale
    assert abs((dw.astype(float) * w).sum() - total) <= near * scale


@needs_compiler
@given(
    st.integers(1, 3), st.integers(2, 4), st.integers(1, 2), st.integers(1, 12), st.integers(1, 40), st.integers(0, 3),
    st.integers(0, 3), st.sampled_from([(3, 3, 1, 1), (3, 3, 2, 2)]),
)
def test_any_size_and_padding(n, c, mul, h, w, lo, hi, form):
    kh, kw, *stride = form
    lo = lo // stride[0] * stride[0] + stride[0] - 1  # the remainder by the stride is a constant of the build
    box = window("w", (kh, kw), stride, ((lo, hi), (lo, hi)), groups=c)
    assume(h + lo + hi >= kh and w + lo + hi >= kw)
    x, k = normal(n, c, h, w, dtype=np.float32), normal(c * mul, 1, kh, kw, dtype=np.float32)
    y = depthwise_forward(x, k, box)
    got = y, depthwise_data(y, k, box, (h, w)), depthwise_filter(x, y, box)
    wanted = (depthwise_forward.reference(x, k, box), depthwise_data.reference(y, k, box, (h, w)),
              depthwise_filter.reference(x, y, box))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * max(1, abs(b).max()))


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    shapes = [
        ((2, 3, 6, 5), (6, 1, 3, 3), dict(pad=1)),
        ((2, 2, 4, 7, 38), (4, 1, 2, 2, 3), dict(pad=((1, 0), (2, 1), (1, 3)), stride=(2, 3, 2), dilation=(1, 2, 3))),
    ]
    for xs, ws, options in shapes[1:] if "sanitize" in how else shapes:
        box = window("w", ws[2:], **options, groups=xs[1])
        x, w = normal(*xs, dtype=np.float32), normal(*ws, dtype=np.float32)
        with use_kernels(False):
            y = depthwise_forward(x, w, box)
            wanted = y, depthwise_data(y, w, box, xs[2:]), depthwise_filter(x, y, box)
        with emulated(**how) as emulation:
            got = depthwise_forward(x, w, box), depthwise_data(y, w, box, xs[2:]), depthwise_filter(x, y, box)
        assert emulation.launches == 3
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * abs(b).max())


# -- which convolutions are these --------------------------------------------------------------------------------------


def test_what_suits_the_kernels_depends_on_the_window_only():
    def takes(kernel, inputs=1, groups=8, **options):
        return suits(window("w", kernel, groups=groups, **options), inputs)

    assert takes((3, 3)) and takes((7, 7)) and takes((1, 1)) and takes((9,)) and takes((3, 3, 3))  # noqa: PT018
    assert takes((3, 3), stride=2, dilation=(2, 3))
    assert not takes((3, 3), inputs=2), "two channels see each other"
    assert not takes((3, 3), groups=1), "one input channel for all: the direct kernel shares its pixels"
    assert not takes((9, 9)) and not takes((3, 12)), "too much to unroll"  # noqa: PT018
    assert not takes((2, 2), stride=5)
    assert not takes((3, 3), dilation=20), "the lines are too far apart"


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [((9, 9), 1, 1), ((2, 2), 1, 30), ((3, 12), 1, 1)])
def test_what_does_not_suit_takes_the_other_routes(kernel, stride, dilation):
    xs, ws, options = (2, 3, 33, 31), (3, 1, *kernel), dict(pad=3, stride=stride, dilation=dilation)
    before = depthwise_forward.launches, conv_forward.launches
    y = conv(normal(*xs), normal(*ws), groups=3, **options).data
    assert (depthwise_forward.launches, conv_forward.launches) == (before[0], before[1] + convolution_kernels.fits(y, y))
    np.testing.assert_allclose(y, slow_depthwise(normal(*xs), normal(*ws), **options), rtol=1e-11, atol=1e-12)


def test_kernels_decline_what_is_not_contiguous_empty_or_of_two_dtypes():
    box = window("w", (3, 3), pad=1, groups=2)
    x, w = normal(2, 2, 5, 6), normal(2, 1, 3, 3)
    before = depthwise_forward.launches
    for a, b in ((x[..., ::-1], w), (x, w.astype(np.float32)), (x.astype(np.float16), w.astype(np.float16)), (x[:0], w)):
        assert depthwise_forward(a, b, box).shape == a.shape
    assert depthwise_forward.launches == before


@pytest.mark.parametrize("xs", [(0, 2, 5, 5), (2, 2, 0, 5), (2, 2, 5, 0)])
def test_empty_arrays(xs):
    check_operation(conv, normal(*xs), normal(4, 1, 3, 2), pad=(2, 1), groups=2, oracle=slow_depthwise)


# -- determinism, memory, special values -------------------------------------------------------------------------------


def test_the_same_bits_on_any_number_of_threads():
    box = window("w", (3, 3), pad=1, groups=24)
    x, w = normal(9, 24, 28, 28, dtype=np.float32), normal(24, 1, 3, 3, dtype=np.float32)
    found, before = [], flux.num_threads()
    try:
        for n in (1, 2, 3):
            flux.set_num_threads(n)
            y = depthwise_forward(x, w, box)
            found.append((y, depthwise_data(y, w, box, (28, 28)), depthwise_filter(x, y, box)))
    finally:
        flux.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_steady_state_takes_no_new_memory():
    box = window("w", (3, 3), pad=1, groups=32)
    x, w = normal(8, 32, 28, 28, dtype=np.float32), normal(32, 1, 3, 3, dtype=np.float32)

    def step():
        y = depthwise_forward(x, w, box)
        depthwise_data(y, w, box, (28, 28)), depthwise_filter(x, y, box)

    for _ in range(2):
        step()
    before = memory_stats()["fresh_bytes"]
    for _ in range(3):
        step()
    assert memory_stats()["fresh_bytes"] == before


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_not_finite_stays_where_it_belongs(stride, bad):
    box = window("w", (3, 3), stride, 1, groups=3)
    x, w = normal(2, 3, 6, 21), normal(3, 1, 3, 3)
    x[1, 1, 2, -1] = x[0, 2, -1, 0] = bad
    dy = normal(*depthwise_forward.reference(x, w, box).shape)
    bad_dy = dy.copy()
    bad_dy[0, 0, 1, 2] = bad
    for f, *arguments in (
        (depthwise_forward, x, w, box), (depthwise_filter, x, dy, box), (depthwise_filter, normal(2, 3, 6, 21), bad_dy, box),
        (depthwise_data, bad_dy, w, box, (6, 21)),
    ):
        with np.errstate(invalid="ignore"):
            wanted = f.reference(*arguments)
        assert not np.isfinite(wanted).all()
        np.testing.assert_array_equal(np.isfinite(f(*arguments)), np.isfinite(wanted))


def test_nothing_is_read_or_written_beyond_the_arrays():
    """Guard zones of NaN around every array, which lie in one buffer."""
    box = window("w", (3, 3), 2, 1, groups=2)
    shapes = [(2, 2, 7, 19), (4, 1, 3, 3)]
    buffer = np.full(sum(math.prod(s) for s in shapes) + 64, np.nan, np.float32)
    arrays, at = [], 16
    for s in shapes:
        arrays.append(buffer[at : at + math.prod(s)].reshape(s))
        arrays[-1][...] = normal(*s)
        at += math.prod(s) + 16
    y = depthwise_forward(*arrays, box)
    assert np.isfinite(y).all()
    assert np.isfinite(depthwise_data(y, arrays[1], box, (7, 19))).all()
    assert np.isfinite(depthwise_filter(arrays[0], y, box)).all()
