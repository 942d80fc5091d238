"""splitobs: each observation in exactly one part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor
from minitorch_flux.backend.generator import Generator, seed
from minitorch_flux.data import splitobs


@given(
    labels=st.lists(st.integers(0, 3), max_size=40),
    at=st.one_of(st.floats(0, 1), st.lists(st.floats(0, 0.3), min_size=1, max_size=3)),
    shuffle=st.booleans(),
    stratified=st.booleans(),
)
def test_every_observation_in_one_part(labels, at, shuffle, stratified):
    y = np.array(labels, int)
    n = len(y)
    parts = splitobs((np.arange(n), y), at, shuffle, Generator(0), y if stratified else None)
    fractions = np.cumsum([at] if isinstance(at, float) else at)
    assert len(parts) == len(fractions) + 1
    everything = np.concatenate([i for i, _ in parts])
    assert sorted(everything.tolist()) == list(range(n))
    for i, labels_of_part in parts:
        np.testing.assert_array_equal(y[i], labels_of_part)
        if not shuffle:
            assert i.tolist() == sorted(i.tolist())
    for group in ([y == label for label in range(4)] if stratified else [y >= 0]):
        count = group.sum()
        have = np.cumsum([group[i].sum() for i, _ in parts])
        np.testing.assert_array_equal(have[:-1], [int(np.floor(f * count + 0.5)) for f in fractions])
    if not stratified and not shuffle:
        np.testing.assert_array_equal(everything, range(n))


def test_structures_and_new_memory():
    x = np.arange(10.0)
    first, second = splitobs({"x": x, "t": Tensor(x), "names": list("abcdefghij")}, at=0.7)
    assert (first["x"].tolist(), second["names"]) == (list(range(7)), ["h", "i", "j"])
    assert type(first["t"]) is np.ndarray
    assert not np.shares_memory(first["x"], x)
    assert [part.tolist() for part in splitobs(x, (0.5, 0.2))] == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
    assert splitobs(["a", "b"], 0.5) == (["a"], ["b"])
    assert [len(p) for p in splitobs(x)] == [9, 1]


@pytest.mark.parametrize("make", [lambda: Generator(7), lambda: np.random.default_rng(7)])
@pytest.mark.parametrize("stratified", [None, np.arange(100) % 3])
def test_shuffled_and_seeded(make, stratified):
    x = np.arange(100)
    a, b = splitobs(x, 0.5, shuffle=True, rng=make(), stratified=stratified)
    c, _ = splitobs(x, 0.5, shuffle=True, rng=make(), stratified=stratified)
    np.testing.assert_array_equal(a, c)
    assert a.tolist() != sorted(a.tolist())
    assert b.tolist() != sorted(b.tolist())
    if stratified is not None:
        assert stratified[a].tolist() != sorted(stratified[a].tolist())  # the labels are mixed, too


def test_the_default_generator():
    seed(1)
    a = splitobs(np.arange(30), shuffle=True)[0]
    seed(1)
    np.testing.assert_array_equal(splitobs(np.arange(30), shuffle=True)[0], a)
    seed()


def test_labels_may_be_text_or_a_tensor():
    labels = ["a", "b"] * 5
    first, _ = splitobs(labels, 0.6, stratified=labels)
    assert sorted(first) == ["a"] * 3 + ["b"] * 3
    first, _ = splitobs(np.arange(4), 0.5, stratified=Tensor(np.array([0, 0, 1, 1])))
    assert first.tolist() == [0, 2]


def test_errors():
    x = np.arange(10)
    for at in (1.5, -0.1, (0.6, 0.6), float("nan")):
        with pytest.raises(ValueError, match="expected fractions from 0 to 1 whose sum is at most 1"):
            splitobs(x, at)
    with pytest.raises(ValueError, match=r"stratified= has shape \(9,\), expected one label for each of the 10"):
        splitobs(x, stratified=x[:9])
    with pytest.raises(ValueError, match=r"splitobs: data\[0\] has 10 observations"):
        splitobs((x, x[:9]))
    with pytest.raises(TypeError, match="rng= must be"):
        splitobs(x, shuffle=True, rng=3)
