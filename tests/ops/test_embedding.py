"""The sums and maxima of rows against nested loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux import use_kernels
from minitorch_flux.backend import is_whole
from minitorch_flux.ops.embedding import (
    bag_argmax,
    bag_max,
    bag_sum,
    bag_sum_backward,
    bag_sum_forward,
    embedding,
    embedding_backward,
)
from minitorch_flux.ops.indexing import take_backward
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_operation, laid_out, needs_compiler, normal


@st.composite
def bags(draw):
    """``(n, d, index, start)``: a table's size and bags of its rows, some empty."""
    n, d = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(0, 4), max_size=5))
    index = draw(st.lists(st.integers(0, n - 1), min_size=sum(lengths), max_size=sum(lengths)))
    return n, d, np.array(index, np.int64), np.cumsum([0, *lengths])


def summed(x, c, index, start):
    y = np.zeros((len(start) - 1, x.shape[1]), x.dtype)
    for b in range(len(y)):
        for k in range(start[b], start[b + 1]):
            y[b] += x[index[k]] * (1 if c is None else c[k])
    return y


def largest(x, index, start):
    y, rows = np.zeros((len(start) - 1, x.shape[1]), x.dtype), np.zeros((len(start) - 1, x.shape[1]), np.int64)
    for b in range(len(y)):
        for j in range(x.shape[1]):
            for k in range(start[b], start[b + 1]):
                if k == start[b] or x[index[k], j] > y[b, j] or (np.isnan(x[index[k], j]) and not np.isnan(y[b, j])):
                    y[b, j], rows[b, j] = x[index[k], j], index[k]
    return y, rows


@given(st.integers(1, 5), st.integers(1, 4), st.lists(st.integers(0, 3), max_size=2), st.data())
def test_embedding_reads_rows_and_adds_gradients_up(n, d, shape, data):
    size = int(np.prod(shape))
    indices = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=size, max_size=size)), np.int64).reshape(shape)
    padding = data.draw(st.none() | st.integers(0, n - 1))
    w, dy = normal(n, d), normal(*shape, d)
    if padding is None:  # else the table's own derivative is not what differences find
        check_operation(lambda w: embedding(w, indices), w, oracle=lambda w: w[indices])
    wanted = np.zeros_like(w)
    for at in np.ndindex(*shape):
        wanted[indices[at]] += dy[at] * (indices[at] != padding)
    np.testing.assert_allclose(embedding_backward(dy, indices, w.shape, padding)[0], wanted, rtol=1e-12)


@given(bags())
def test_bag_sum(case):
    n, d, index, start = case
    x, c = normal(n, d), normal(index.size, seed=1)
    check_operation(lambda x: bag_sum(x, None, index=index, start=start), x, oracle=lambda x: summed(x, None, index, start))
    check_operation(lambda x, c: bag_sum(x, c, index=index, start=start), x, c,
                    oracle=lambda x, c: summed(x, c, index, start))  # fmt: skip


@given(bags())
def test_bag_max(case):
    n, d, index, start = case
    x = normal(n, d)
    for kernels in (True, False):
        with use_kernels(kernels):
            np.testing.assert_array_equal(bag_argmax(x, index, start), largest(x, index, start)[1])
    check_operation(lambda x: bag_max(x, index=index, start=start), x, oracle=lambda x: largest(x, index, start)[0])


def test_the_first_of_equal_maxima_and_nan():
    x = np.array([[1, 2], [1, np.nan], [0, 2], [np.nan, np.nan]])
    index, start = np.array([2, 0, 1, 1, 0, 0, 3, 1]), np.array([0, 3, 5, 8])
    for kernels in (True, False):
        with use_kernels(kernels):
            assert bag_argmax(x, index, start).tolist() == [[0, 1], [1, 1], [3, 3]]


def test_sums_of_16_bit_floats_are_formed_in_float32():
    x = np.full((1, 3), 1, np.float16)
    index, start = np.zeros(3000, np.int64), np.array([0, 3000])
    for kernels in (True, False):
        with use_kernels(kernels):
            y = bag_sum_forward(x, None, index, start)
            assert y.dtype == np.float16
            assert y.tolist() == [[3000] * 3]  # halves alone would stop at 2048
            third = bag_sum_forward(x, np.full(3000, np.float32(1 / 3000)), index, start)
            np.testing.assert_allclose(third, 1, rtol=1e-3)


@needs_compiler
def test_kernels_run():
    x, index, start = normal(6, 20, dtype=np.float32), np.array([0, 5, 5, 1]), np.array([0, 1, 1, 4])
    before = bag_sum_forward.launches, bag_argmax.launches
    bag_sum_forward(x, None, index, start)
    bag_sum_backward(x[:3], x, np.ones(4, np.float32), index, start, (True, False))
    bag_argmax(x, index, start)
    assert (bag_sum_forward.launches, bag_argmax.launches) == (before[0] + 2, before[1] + 1)
    bag_sum_forward(laid_out(x, "Fortran-ordered"), None, index, start)
    bag_sum_forward(x, None, index[:0], start[:1])
    bag_argmax(laid_out(x, "Fortran-ordered"), index, start)
    bag_argmax(x, index[:0], start[:1])
    assert (bag_sum_forward.launches, bag_argmax.launches) == (before[0] + 2, before[1] + 1)


def everything(x, c, index, start):
    for weights in (None, c):
        y = bag_sum_forward(x, weights, index, start)
        np.testing.assert_allclose(y, summed(x, weights, index, start), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(bag_argmax(x, index, start), largest(x, index, start)[1])


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    rng = np.random.default_rng(0)
    x, c, index = normal(7, 70, dtype=np.float32), normal(20, dtype=np.float32), rng.integers(0, 7, 20)
    with emulated(**options) as count:
        everything(x, c, index, np.array([0, 3, 3, 12, 20]))
    assert count.launches == 3


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    with emulated(sanitize=sanitize):
        everything(normal(7, 70, dtype=np.float32), normal(6, dtype=np.float32), np.array([0, 6, 2, 2, 1, 6]),
                   np.array([0, 2, 2, 6]))  # fmt: skip


def test_the_gradient_of_a_table_is_no_view():
    for shape in ((3, 3), (70, 300)):
        for axis in (0, 1):
            dy = normal(*(4 if i == axis else n for i, n in enumerate(shape)))
            dw = take_backward(dy, np.array([2, 0, 2, 1]), axis, shape)
            assert axis == 1 or is_whole(dw)
            wanted = np.zeros(shape)
            np.add.at(wanted, (slice(None),) * axis + ([2, 0, 2, 1],), dy)
            np.testing.assert_allclose(dw, wanted)
