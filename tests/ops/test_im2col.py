"""unfold and fold against nested loops, PyTorch and each other; their kernels against the references."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.geometry import window
from minitorch_flux.ops.im2col import col2im_forward, fold, im2col_forward, unfold
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import check_against_torch, check_operation, normal


def columns(x, kernel, stride=1, pad=0, dilation=1):
    """The definition, element by element."""
    w = window("columns", kernel, stride, pad, dilation)
    n, c, *sizes = x.shape
    out = w.output_size(tuple(sizes))
    taps = list(itertools.product(*map(range, w.kernel)))
    col = np.zeros((n, c, len(taps), *out), x.dtype)
    for p in np.ndindex(*out):
        for t, k in enumerate(taps):
            at = tuple(p[i] * w.stride[i] - w.lo[i] + k[i] * w.dilation[i] for i in range(w.ndim))
            if all(0 <= a < s for a, s in zip(at, sizes, strict=True)):
                col[(slice(None), slice(None), t, *p)] = x[(slice(None), slice(None), *at)]
    return col.reshape(n, c * len(taps), int(np.prod(out)))


CASES = [
    ((2, 3, 7), (3,), {}),
    ((2, 3, 7), (2,), dict(stride=3, pad=((2, 1),), dilation=2)),
    ((2, 2, 5, 6), (3, 2), dict(pad=1)),
    ((1, 2, 6, 5), (2, 3), dict(stride=(2, 1), pad=((1, 0), (0, 2)), dilation=(1, 2))),
    ((2, 1, 3, 4, 5), (2, 1, 3), dict(stride=(1, 2, 2), pad=(1, 0, 1))),
    ((2, 2, 4, 4), (1, 1), {}),
    ((0, 2, 4, 4), (2, 2), {}),
]
IDS = [f"{x}-{k}-{','.join(o)}" for x, k, o in CASES]


@pytest.mark.parametrize(("shape", "kernel", "options"), CASES, ids=IDS)
def test_values_and_gradients_of_both_orders(shape, kernel, options):
    col = check_operation(unfold, normal(*shape), oracle=columns, kernel=kernel, **options)
    check_operation(fold, normal(*col.shape), sizes=shape[2:], kernel=kernel, **options)


@pytest.mark.parametrize(("shape", "kernel", "options"), CASES, ids=IDS)
def test_each_is_the_others_adjoint(shape, kernel, options):
    w = window("w", kernel, **options)
    x = normal(*shape)
    col = im2col_forward(x, w)
    y = normal(*col.shape, seed=1)
    np.testing.assert_allclose((col * y).sum(), (x * col2im_forward(y, w, shape[2:])).sum(), atol=1e-12)


def test_against_torch():
    F = pytest.importorskip("torch").nn.functional
    options = dict(stride=(2, 1), pad=(1, 2), dilation=(1, 2))
    torchs = dict(stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    check_against_torch(lambda x: unfold(x, (3, 2), **options), lambda x: F.unfold(x, (3, 2), **torchs), normal(2, 3, 6, 7))
    col = normal(2, 3 * 6, 3 * 9)
    check_against_torch(
        lambda x: fold(x, (6, 7), (3, 2), **options), lambda x: F.fold(x, (6, 7), (3, 2), **torchs), col
    )


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 2), st.sampled_from([np.float32, np.float64]),
)
def test_kernels_equal_references(n, c, h, w, kh, kw, stride, lo, hi, dilation, dtype):
    box = window("box", (kh, kw), stride, ((lo, hi), (hi, lo)), dilation)
    if any(i + lo + hi < span for i, span in zip((h, w), box.span, strict=True)):
        return
    x = normal(n, c, h, w, dtype=dtype)
    launches = im2col_forward.launches, col2im_forward.launches
    col = im2col_forward(x, box)
    np.testing.assert_array_equal(col, im2col_forward.reference(x, box))
    y = normal(*col.shape, seed=1, dtype=dtype)
    np.testing.assert_array_equal(col2im_forward(y, box, (h, w)), col2im_forward.reference(y, box, (h, w)))
    assert (im2col_forward.launches, col2im_forward.launches) == (launches[0] + 1, launches[1] + 1)


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    for shape, kernel, options in CASES[1:5]:
        box = window("box", kernel, **options)
        x = normal(*shape, dtype=np.float32)
        with use_kernels(False):
            col = im2col_forward(x, box)
            y = normal(*col.shape, dtype=np.float32)
            back = col2im_forward(y, box, shape[2:])
        with emulated(**how) as emulation:
            np.testing.assert_array_equal(im2col_forward(x, box), col)
            np.testing.assert_array_equal(col2im_forward(y, box, shape[2:]), back)
        assert emulation.launches == 2


def test_nan_stays_in_its_windows():
    x = np.zeros((1, 1, 5), np.float32)
    x[0, 0, 2] = np.nan
    col = unfold(x, (2,)).data
    assert np.isnan(col).sum() == 2
    assert np.isnan(fold(col, (5,), (2,)).data).tolist() == [[[False, False, True, False, False]]]


def test_integers_and_half_floats_are_kept():
    for dtype in (np.int32, np.float16):
        assert unfold(np.ones((1, 1, 4), dtype), (2,)).dtype == dtype


def test_errors():
    with pytest.raises(ValueError, match=r"a kernel of 2 axes takes an input of 4 axes \(N, C, ...\), got \(3, 4, 5\)"):
        unfold(normal(3, 4, 5), (2, 2))
    with pytest.raises(ValueError, match=r"fold: sizes \(5,\) and kernel \(2,\) take columns of shape \(N, C \* 2, 4\), got"):
        fold(normal(1, 2, 5), (5,), (2,))
    with pytest.raises(ValueError, match="unfold: the kernel is larger than the input"):
        unfold(normal(1, 2, 3), (4,))
