"""The layout: least squares against an independent solver, and what every layout must hold, for graphs at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.inspection.layers_layout import Item, Link, arrange, spread

numbers = st.floats(-50, 50)


@given(st.lists(st.tuples(numbers, st.floats(0.1, 5), st.floats(0, 20)), min_size=1, max_size=6))
def test_spread_is_the_least_squares_solution(rows):
    optimize = pytest.importorskip("scipy.optimize")
    wanted, weights, gaps = (list(column) for column in zip(*rows, strict=True))
    gaps = gaps[1:]
    x = spread(wanted, weights, gaps)
    # x = first + sums of (gap + slack), slack >= 0: a problem with bounds alone
    n, w = len(wanted), np.sqrt(weights)
    a = np.tril(np.ones((n, n))) * w[:, None]
    b = (np.array(wanted) - np.concatenate([[0], np.cumsum(gaps)])) * w
    best = optimize.lsq_linear(a, b, ([-np.inf] + [0] * (n - 1), np.inf))
    assert np.sum((w * x - w * np.array(wanted)) ** 2) == pytest.approx(2 * best.cost, rel=1e-4, abs=1e-4)
    assert all(hi - lo >= gap - 1e-9 for lo, hi, gap in zip(x, x[1:], gaps, strict=False))


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14))
def test_boxes_do_not_touch_and_edges_go_down(n, pairs):
    items = [Item(20 + 7 * i, 10 + 3 * i) for i in range(n)]
    links = [Link(items[a], items[b]) for a, b in sorted(set(pairs)) if a < b < n]
    width, height = arrange(items, links, 12, 9)
    for i, a in enumerate(items):
        assert a.x - a.width / 2 + 1e-6 >= 0
        assert a.x + a.width / 2 <= width + 1e-6
        assert 0 <= a.y <= a.y + a.height <= height + 1e-6
        for b in items[:i]:
            beside = abs(a.x - b.x) >= (a.width + b.width) / 2 + 12 - 1e-6
            assert beside or a.y >= b.y + b.height + 9 - 1e-6 or b.y >= a.y + a.height + 9 - 1e-6
    for link in links:
        assert link.points[0] == pytest.approx((link.source.x, link.source.y + link.source.height))
        assert link.points[-1] == pytest.approx((link.target.x, link.target.y))
        assert all(lower[1] >= upper[1] - 1e-6 for upper, lower in zip(link.points, link.points[1:], strict=False))
        for (x, top), (other, bottom) in zip(link.points, link.points[1:], strict=False):
            if abs(x - other) < 1e-6:  # straight down: beside the boxes of the ranks
                for item in items:
                    if item not in (link.source, link.target) and item.y < bottom - 1e-6 and top + 1e-6 < item.y + item.height:
                        assert abs(item.x - x) >= item.width / 2 - 1e-6


def test_a_chain_with_a_skip_stands_straight():
    a, b, c, d = (Item(40, 20) for _ in range(4))
    links = [Link(a, b), Link(b, c), Link(c, d), Link(a, d)]
    arrange([a, b, c, d], links, 10, 10)
    assert a.x == pytest.approx(b.x, abs=0.5)
    assert b.x == pytest.approx(d.x, abs=0.5)
    assert {item.x for item in links[3].through} != {b.x}
    assert len(links[3].through) == 2


def test_nothing():
    assert arrange([], [], 10, 10) == (0, 0)
