"""Pooling to a given size against PyTorch, whose windows they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.adaptive_pooling import (
    adaptive_max_backward,
    adaptive_max_forward,
    adaptive_maxpool,
    adaptive_mean_backward,
    adaptive_mean_forward,
    adaptive_meanpool,
    cells,
)
from minitorch_flux.ops.pooling import max_pool_values
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import apart, check_against_torch, check_operation, needs_compiler, normal

SIZES = [((5,), (3,)), ((7,), (2,)), ((3,), (5,)), ((6, 8), (3, 4)), ((7, 4), (3, 5)), ((4, 5), (1, 1)), ((5, 6), (4, 1)),
         ((4, 3, 5), (3, 1, 2))]


@pytest.mark.parametrize(("sizes", "out"), SIZES)
def test_values_and_gradients_of_both_orders(sizes, out):
    check_operation(adaptive_maxpool, apart(2, 3, *sizes), out=out)
    check_operation(adaptive_meanpool, normal(2, 3, *sizes), out=out)


@pytest.mark.parametrize(("sizes", "out"), SIZES)
def test_against_torch(sizes, out):
    F = pytest.importorskip("torch").nn.functional
    n = len(sizes)
    x = np.round(normal(2, 3, *sizes), 1)  # with ties
    largest = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[n - 1]
    mean = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[n - 1]
    check_against_torch(lambda x: adaptive_maxpool(x, out), lambda x: largest(x, out), x)
    check_against_torch(lambda x: adaptive_meanpool(x, out), lambda x: mean(x, out), x)


@given(st.integers(1, 12), st.integers(1, 12))
def test_windows_cover_every_pixel_and_differ_by_one_in_length(size, out):
    windows = [w[0] for w, _ in cells((size,), (out,))]
    assert len(windows) == out
    assert {i for w in windows for i in range(w.start, w.stop)} == set(range(size))
    lengths = {w.stop - w.start for w in windows}
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1 + (size % out > 0)


def test_where_the_size_divides_the_sliding_kernel_runs():
    before = max_pool_values.launches
    adaptive_maxpool(normal(2, 3, 6, 8), (3, 2))
    assert max_pool_values.launches == before + 1


BFLOAT16 = pytest.importorskip("ml_dtypes").bfloat16
FUNCTIONS = adaptive_max_forward, adaptive_max_backward, adaptive_mean_forward, adaptive_mean_backward


def all_of_them(x, out, dy):
    y, arg = adaptive_max_forward(x, out)
    sizes = x.shape[2:]
    return (y, arg, adaptive_max_backward(dy, arg, sizes), adaptive_mean_forward(x, out), adaptive_mean_backward(dy, sizes))


@needs_compiler
@given(
    st.integers(1, 3), st.integers(1, 2), st.tuples(st.integers(1, 6), st.integers(1, 50)),
    st.tuples(st.integers(1, 7), st.integers(1, 40)), st.sampled_from([np.float32, np.float64, np.float16, BFLOAT16]),
)
def test_kernels_equal_references(n, c, sizes, out, dtype):
    x = np.round(normal(n, c, *sizes)).astype(dtype)  # with many ties
    dy = normal(n, c, *out, seed=1).astype(dtype)
    before = [f.launches for f in FUNCTIONS]
    got = all_of_them(x, out, dy)
    assert [f.launches - b for f, b in zip(FUNCTIONS, before, strict=True)] == [1, 1, 1, out != (1, 1)]
    with use_kernels(False):
        wanted = all_of_them(x, out, dy)
    near = {np.float32: 3e-6, np.float64: 1e-14, np.float16: 2e-3, BFLOAT16: 2e-2}[dtype]
    for a, b in zip(got[:2], wanted[:2], strict=True):
        np.testing.assert_array_equal(a.astype(np.float64), b.astype(np.float64))
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=near, atol=near)


@needs_compiler
def test_one_window_over_all_is_a_reduction():
    x = np.round(normal(3, 20, 30, 31))
    x[1, 2, 3, 4] = np.nan
    for f in (adaptive_max_forward, adaptive_mean_forward):
        got, wanted = f(x, (1, 1)), f.reference(x, (1, 1))
        for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (got, wanted)), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    arg, dy = adaptive_max_forward(x, (1, 1))[1], normal(3, 20, 1, 1)
    np.testing.assert_array_equal(adaptive_max_backward(dy, arg, (30, 31)), adaptive_max_backward.reference(dy, arg, (30, 31)))


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    for sizes, out in (((7, 40), (3, 11)), ((4, 3, 5), (3, 1, 2)), ((5,), (70,))):
        x = np.round(normal(2, 2, *sizes, dtype=np.float32))
        dy = normal(2, 2, *out, dtype=np.float32, seed=1)
        with use_kernels(False):
            wanted = all_of_them(x, out, dy)
        with emulated(**how) as emulation:
            got = all_of_them(x, out, dy)
        assert emulation.launches == 4
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_first_maximum_and_nan():
    x = flux.tensor(np.ones((1, 1, 3, 5)), requires_grad=True)
    adaptive_maxpool(x, (1, 2)).sum().backward()
    assert np.argwhere(x.grad[0, 0]).tolist() == [[0, 0], [0, 2]]
    y = np.ones((1, 1, 5))
    y[0, 0, 3] = np.nan
    assert np.isnan(adaptive_maxpool(y, (2,)).data).tolist() == [[[False, True]]]
    assert np.isnan(adaptive_meanpool(y, (2,)).data).tolist() == [[[False, True]]]


def test_an_int_means_every_axis_and_a_tuple_permits_one_sample():
    x = normal(2, 3, 5, 4)
    np.testing.assert_array_equal(adaptive_meanpool(x, 2).data, adaptive_meanpool(x, (2, 2)).data)
    np.testing.assert_array_equal(adaptive_meanpool(x[0], (2, 3)).data, adaptive_meanpool(x, (2, 3)).data[0])
    np.testing.assert_array_equal(adaptive_maxpool(x[0], (2, 3)).data, adaptive_maxpool(x, (2, 3)).data[0])


def test_other_dtypes_and_no_images():
    assert adaptive_meanpool(np.arange(5).reshape(1, 1, 5), (2,)).data.tolist() == [[[1, 3]]]
    assert adaptive_maxpool(np.arange(5).reshape(1, 1, 5), (2,)).data.tolist() == [[[2, 4]]]
    assert adaptive_meanpool(np.ones((1, 1, 5), np.float16), (2,)).dtype == np.float16
    assert adaptive_maxpool(np.ones((0, 2, 5)), (2,)).shape == (0, 2, 2)
    assert adaptive_meanpool(np.ones((0, 2, 5)), (2,)).shape == (0, 2, 2)


def test_errors():
    x = normal(2, 3, 5, 4)
    for out in (0, (2, 0), (2, 1.5), True):
        with pytest.raises(ValueError, match="adaptive_maxpool: the output size is a positive int or one per axis, got"):
            adaptive_maxpool(x, out)
    with pytest.raises(ValueError, match=r"adaptive_meanpool: takes an input of 5 axes .* got 3 axes"):
        adaptive_meanpool(x[0], (1, 1, 1))
    with pytest.raises(ValueError, match=r"an empty axis, there is nothing to pool \(input shape \(2, 3, 0, 4\)\)"):
        adaptive_meanpool(normal(2, 3, 0, 4), 1)
