"""The table that chooses the algorithm of a convolution: what it takes can compute the case, and some choices by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.ops.convolution_kernels import ALGORITHMS
from minitorch_flux.ops.convolution_table import COSTS, POSSIBLE, Case, algorithm_for
from minitorch_flux.ops.geometry import window

PASSES = "forward", "data", "filter"


def case(passing, k, images, inputs, outputs, size, cpu=True, dtype="float32", **options):
    box = window("w", k, **options)
    return passing, box, dtype, images, inputs, outputs, size, box.output_size(size), cpu


def test_every_algorithm_of_the_table_can_run():
    assert set(POSSIBLE) == set(ALGORITHMS)
    assert set(COSTS) == set(ALGORITHMS) - {"depthwise", "winograd"}, "one comes first, one is a GPU's"
    assert [name for name, passes in ALGORITHMS.items() if len(passes) < 3] == ["pointwise"]


AXIS = st.tuples(*(st.integers(low, high) for low, high in ((12, 200), (1, 13), (1, 6), (0, 4), (1, 2))))


@given(
    st.lists(AXIS, min_size=1, max_size=3), st.sampled_from(PASSES), st.integers(1, 256), st.integers(1, 512),
    st.integers(1, 512), st.integers(1, 3), st.booleans(), st.sampled_from(["float32", "float64"]),
)
def test_what_it_takes_can_compute_the_case(axes, passing, images, inputs, outputs, groups, cpu, dtype):
    size, k, stride, pad, dilation = zip(*axes, strict=True)
    k = tuple(1 + (a - 1) // d if (a - 1) * d >= i else a for a, d, i in zip(k, dilation, size, strict=True))
    options = dict(stride=stride, pad=pad, dilation=dilation, groups=groups)
    given = case(passing, k, images, inputs, outputs, size, cpu, dtype, **options)
    name = algorithm_for(*given)
    assert POSSIBLE[name](Case(*given))
    assert len(ALGORITHMS[name]) > PASSES.index(passing)
    assert dtype == "float32" or "winograd" not in name, "the transforms round"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("winograd_tiles", case("forward", (3, 3), 32, 64, 64, (32, 32), pad=1)),
        ("winograd_tiles", case("filter", (3, 3), 32, 512, 512, (4, 4), pad=1)),
        ("blocked", case("forward", (3, 3), 32, 64, 64, (32, 32), pad=1, dtype="float64")),
        ("blocked", case("data", (3, 3), 32, 64, 128, (32, 32), pad=1, stride=2)),
        ("blocked", case("forward", (7, 7), 8, 3, 64, (224, 224), pad=3, stride=2)),
        ("direct", case("forward", (5, 5), 128, 1, 6, (28, 28), pad=2)),
        ("depthwise", case("data", (3, 3), 8, 1, 1, (28, 28), pad=1, groups=64)),
        ("pointwise", case("forward", (1, 1), 4, 20, 7, (60, 60))),
        ("panels", case("forward", (1, 1), 8, 64, 256, (56, 56))),
        ("panels", case("forward", (16, 16), 8, 3, 192, (224, 224), stride=16)),
        ("panels", case("filter", (1, 1), 8, 256, 64, (56, 56))),
        ("image_columns", case("forward", (3, 13, 13), 8, 16, 32, (3, 30, 30))),
        # on a GPU
        ("winograd", case("forward", (3, 3), 32, 64, 64, (32, 32), False, pad=1)),
        ("direct", case("forward", (5, 5), 128, 1, 6, (28, 28), False, pad=2)),
        ("image_columns", case("data", (3, 3), 32, 64, 128, (8, 8), False, pad=1, stride=2)),
        ("pointwise", case("forward", (1, 1), 8, 512, 512, (14, 14), False)),
        ("direct", case("forward", (1, 1), 8, 16, 16, (14, 14), False, groups=2)),
        ("columns", case("filter", (1, 1), 8, 512, 512, (28, 28), False)),
    ],
)
def test_some_choices(name, given):
    assert algorithm_for(*given) == name
