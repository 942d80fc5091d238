"""Launch shapes on a GPU: every row and element has just one thread, and no limit of CUDA is passed.

How a thread goes through rows, lanes and elements is read from flux.h, and computed with whole numbers: so sizes beyond
2**31 are as quick to check as small ones.
"""

import functools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.readings.arguments import LARGEST_INT
from minitorch_flux.readings.emulator import Emulation
from minitorch_flux.readings.geometry import LARGEST_GRID, Geometry, geometry
from minitorch_flux.readings.source import kernels_folder

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


# -- every row, lane and element just once -----------------------------------------------------------------------------

TEXT = (kernels_folder() / "flux.h").read_text().replace("\\\n", " ")
GPU_TEXT = TEXT[TEXT.index("GPU and emulator") :]
PLACES = {
    "(long long)": "", "(int)": "", "gridDim.x": "grid", "blockDim.x": "lanes", "blockDim.y": "rows", "blockIdx.x": "b",
    "threadIdx.x": "tx", "threadIdx.y": "ty",
}  # fmt: skip


def loop(word):
    """(first, end, step) of a loop of flux.h, as functions of the launch and of a thread's place in it."""
    text = re.search(rf"#define {word}\((\w), (?:n|n, width)\) +for \([^=]+ = (.+?); +\1 < (.+?); *\1 \+= (.+?)\)\n", GPU_TEXT)
    parts = []
    for part in text.groups()[1:]:
        for name, short in PLACES.items():
            part = part.replace(name, short)
        assert set(re.findall(r"[a-z]+", part)) <= {"b", "tx", "ty", "grid", "lanes", "rows", "n"}, part
        parts.append(part)
    return [functools.partial(evaluated, part) for part in parts]


def evaluated(part, g, **places):
    return eval(part, {"n": 0, "b": 0, "tx": 0, "ty": 0, **vars(g), **places})


FIRST = {word: loop(word)[0] for word in ("ROWS", "LANES", "EACH")}
STEP = {word: loop(word)[2] for word in ("ROWS", "LANES", "EACH")}


def test_loops_end_where_they_should():
    for word in FIRST:
        assert loop(word)[1](Geometry(3, 32, 2), n=17) == 17


def owners(word, g, i):
    """(block, thread) of everybody who comes by number i: those who begin at its remainder by the step."""
    start, per_row = i % STEP[word](g), g.lanes if word == "EACH" else 1
    row, tx = divmod(start, per_row)
    if word == "LANES":
        return [(0, start, 0)]
    b, ty = divmod(row, g.rows)
    return [(b, tx, ty)]


launches = st.builds(
    geometry, sizes, sizes, st.booleans(), st.integers(32, 1024), st.sampled_from([0, 32, 64, 128, 1024])
) | st.builds(lambda lanes, rows, grid: Emulation(grid, 32 * lanes, rows if lanes == 1 else None).shape(9, 9, False),
              st.integers(1, 32), st.integers(1, 32), st.integers(1, LARGEST_GRID))


@given(g=launches, i=sizes, data=st.data())
def test_everything_has_one_owner(g, i, data):
    for word in ("ROWS", "LANES", "EACH"):
        ((b, tx, ty),) = owners(word, g, i)
        assert 0 <= b < g.grid
        assert 0 <= tx < g.lanes
        assert 0 <= ty < g.rows
        place = {"b": b, "tx": tx, "ty": ty}
        assert FIRST[word](g, **place) == i % STEP[word](g), "its owner comes by"
        # Nobody else does: as many threads as remainders, each with one of its own.
        threads = {"ROWS": g.grid * g.rows, "LANES": g.lanes, "EACH": g.grid * g.rows * g.lanes}[word]
        assert STEP[word](g) == threads
        other = {"b": data.draw(st.integers(0, g.grid - 1)), "tx": data.draw(st.integers(0, g.lanes - 1)),
                 "ty": data.draw(st.integers(0, g.rows - 1))}
        matters = {"ROWS": ("b", "ty"), "LANES": ("tx",), "EACH": ("b", "tx", "ty")}[word]
        same = all(other[k] == place[k] for k in matters)
        assert (FIRST[word](g, **other) == FIRST[word](g, **place)) == same
        assert 0 <= FIRST[word](g, **other) < threads


@given(rows=sizes, width=sizes)
def test_there_are_threads_for_all_or_the_grid_is_full(rows, width):
    g = geometry(rows, width, False)
    assert g.grid == LARGEST_GRID or g.grid * g.rows >= rows
    assert g.grid == 1 or (g.grid - 1) * g.rows < rows, "no block without a row"
    g = geometry(1, width, True)
    assert g.grid == LARGEST_GRID or g.grid * g.lanes >= width
    assert g.grid == 1 or (g.grid - 1) * g.lanes < width


@given(g=launches, rows=sizes)
def test_no_loop_counts_past_its_type(g, rows):
    """ROWS and EACH count in 64 bits; LANES in an int, where its end is one."""
    assert rows + STEP["ROWS"](g) < 2**63
    assert rows + STEP["EACH"](g) < 2**63
    assert LARGEST_INT + STEP["LANES"](g) < 2**31, "the step after the last one"
    for word in ("ROWS", "EACH"):
        text = re.search(rf"#define {word}\(.*\n", GPU_TEXT)[0]
        assert re.search(r"= \(*\(long long\)blockIdx.x \* blockDim", text), "the first product is 64 bits wide"
        assert "+= (long long)gridDim.x * " in text


@given(n=sizes, of=st.integers(1, 256), i=sizes)
def test_threads_of_a_cpu_share_rows_without_a_gap(n, of, i):
    share = TEXT[: TEXT.index("GPU and emulator")]
    assert "return n * flux_share.id / flux_share.of;" in share
    assert "n * (flux_share.id + 1) / flux_share.of" in share
    first = [n * id // of for id in range(of + 1)]
    assert first[0] == 0
    assert first[-1] == n
    assert first == sorted(first)
    assert max(b - a for a, b in zip(first, first[1:])) - min(b - a for a, b in zip(first, first[1:])) <= 1
    assert n * of < 2**63
