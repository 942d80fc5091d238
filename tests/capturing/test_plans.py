"""Replays build no graph and allocate nothing; lifetimes share memory without overlapping."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Adam, BatchNorm, Chain, Conv, Dense, Dropout, MaxPool, flatten, relu
from minitorch_flux.autograd import Operation, Tensor, custom, operations, transforms, walk
from minitorch_flux.capturing.plans import _place_many, place
from minitorch_flux.capturing.recorder import Storage

from .test_capture import images, mlp, normed, trainer


def forbidden(*_, **__):
    raise AssertionError("a replay builds a graph")


@pytest.mark.parametrize("make", [mlp, normed])
def test_a_replay_builds_no_graph(make, monkeypatch):
    step, _, opt = make(Adam(0.1))
    fast = flux.capture(step)
    batches = images(8, 5, 1, 6, 6) if make is normed else images(8, 4, 2)
    for x, y in batches[:4]:
        fast(x, y)
    for owner, name in ((operations, "Node"), (custom, "Node"), (Operation, "__call__"), (Operation, "_record"),
                        (Operation, "pull"), (walk, "_pull_back"), (transforms, "pull_back"), (Tensor, "__init__"),
                        (transforms, "mirror")):
        monkeypatch.setattr(owner, name, forbidden)
    with pytest.raises(AssertionError):
        step(*batches[0])
    for x, y in batches[4:]:
        fast(x, y)
    assert fast.replays == 5
    assert opt.states()[next(iter(opt.states()))]["t"] == 8


def large():
    return trainer(Chain(Conv((3, 3), 4, 16, relu, pad=1), BatchNorm(16), MaxPool((2, 2)), flatten, Dropout(0.1),
                         Dense(16 * 8 * 8, 256, relu), Dense(256, 10)), Adam(0.01))


def test_a_replay_allocates_nothing_large():
    step, *_ = large()
    fast = flux.capture(step)
    x, y = images(1, 32, 4, 16, 16)[0]
    for _ in range(4):
        fast(x, y)
    before = flux.memory_stats()
    tracemalloc.start()
    try:
        fast(x, y)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step(x, y)
        _, eager = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fast.replays == 2
    assert peak < 64 << 10 < eager
    step(x, y)
    after = flux.memory_stats()
    assert after["fresh_bytes"] - before["fresh_bytes"] >= 0
    for _ in range(3):
        fast(x, y)
    assert {k: v for k, v in flux.memory_stats().items()} == after  # not even from the pool


def test_places_are_shared():
    step, *_ = large()
    fast = flux.capture(step)
    x, y = images(1, 32, 4, 16, 16)[0]
    fast(x, y)
    fast(x, y)
    plan = fast._courses[0].plan
    activations = 32 * 16 * 16 * 16 * 4
    assert 2 * activations < plan.nbytes < 8 * activations  # the step makes some twenty of this size


lifetimes = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30)), max_size=40)


def storages_of(lives):
    """Arrays of so many bytes, each alive from one call to another."""
    storages = []
    for nbytes, a, b in lives:
        s = Storage(0, nbytes)
        s.first, s.last = min(a, b), max(a, b)
        storages.append(s)
    return storages


def check_places(storages, offsets, total):
    """What lives at one time does not overlap, and everything lies aligned within the whole."""
    for (s, at), (t, there) in itertools.combinations(zip(storages, offsets, strict=True), 2):
        if s.first <= t.last and t.first <= s.last:
            assert at + s.nbytes <= there or there + t.nbytes <= at
    assert all(at % 64 == 0 and at + s.nbytes <= total for s, at in zip(storages, offsets, strict=True))


@given(lifetimes)
def test_places_do_not_overlap(lives):
    storages = storages_of(lives)
    offsets, total = place(storages)
    assert len(offsets) == len(storages)
    check_places(storages, offsets, total)
    rounded = [-(-s.nbytes // 64) * 64 for s in storages]
    assert total <= sum(rounded)
    if storages and max(s.first for s in storages) <= min(s.last for s in storages):  # all live at one time
        assert total == sum(rounded)
    if all(s.last < t.first for s, t in itertools.pairwise(sorted(storages, key=lambda s: s.first))):
        assert total == max(rounded, default=0)


@given(lifetimes)
def test_places_of_a_long_step_do_not_overlap(lives):
    """Found in the order of time: as sound, an eighth or so larger, and what has gone makes room."""
    storages = storages_of(lives)
    offsets, total = _place_many(storages)
    check_places(storages, offsets, total)
    assert total <= sum(-(-s.nbytes // 64) * 64 * 1.25 + 64 for s in storages)
    chain = [Storage(0, 1000) for _ in range(5000)]
    for i, s in enumerate(chain):
        s.first, s.last = i, i + 1
    assert place(chain)[1] == 2 * 1024


def test_no_memory_at_all():
    fast = flux.capture(lambda: None)
    for _ in range(4):
        assert fast() is None
    assert fast.replays == 1
    fast = flux.capture(lambda x: x)
    for n in (0, 3):
        for _ in range(5):
            assert np.array_equal(fast(np.ones((n, 2))), np.ones((n, 2)))
    assert fast.replays == 5
