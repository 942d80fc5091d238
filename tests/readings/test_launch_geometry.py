"""Launch shapes on a GPU: every row and element has a thread, and no limit of CUDA is passed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.readings.geometry import LARGEST_GRID, Geometry, geometry

sizes = st.integers(0, 2**40)


@pytest.mark.parametrize(
    ("rows", "width", "shape"),
    [
        (1, 1, (1, 32, 8)),
        (8, 256, (1, 32, 8)),
        (9, 256, (2, 32, 8)),
        (9, 257, (9, 96, 1)),
        (9, 2048, (9, 512, 1)),
        (9, 10**9, (9, 512, 1)),
        (10**7, 1, (LARGEST_GRID, 32, 8)),
        (0, 5, (1, 32, 8)),
        (5, 0, (1, 32, 8)),
    ],
)
def test_rows(rows, width, shape):
    assert geometry(rows, width, elementwise=False) == Geometry(*shape)


@pytest.mark.parametrize(
    ("rows", "width", "blocks"),
    [(1, 0, 1), (1, 1, 1), (1, 256, 1), (1, 257, 2), (3, 256, 3), (1, 2**31, LARGEST_GRID)],
)
def test_elements(rows, width, blocks):
    assert geometry(rows, width, elementwise=True) == Geometry(blocks, 256, 1)


@pytest.mark.parametrize(
    ("most", "width", "shape"),
    [(384, 10**6, (9, 384, 1)), (400, 10**6, (9, 384, 1)), (128, 5, (3, 32, 4)), (32, 300, (9, 32, 1))],
)
def test_a_kernel_with_many_registers(most, width, shape):
    assert geometry(9, width, False, most) == Geometry(*shape)
    assert geometry(1, 1000, True, most).lanes == min(256, most // 32 * 32)


@given(rows=sizes, width=sizes, elementwise=st.booleans(), most=st.integers(32, 1024))
def test_limits(rows, width, elementwise, most):
    g = geometry(rows, width, elementwise, most)
    assert 1 <= g.grid <= LARGEST_GRID < 2**31
    assert g.lanes % 32 == 0
    assert g.lanes * g.rows <= min(512, most)
    assert g.rows == 1 or g.lanes == 32  # what flux.h's row_sum stands on
    if not elementwise:
        assert g.grid * g.rows >= min(rows, LARGEST_GRID)


def test_a_block_that_the_text_fixes():
    assert geometry(9, 10, False, block=128) == Geometry(9, 128, 1)
    assert geometry(0, 10**6, False, most=256, block=64) == Geometry(1, 64, 1)
    assert geometry(10**7, 1, False, block=128).grid == LARGEST_GRID
