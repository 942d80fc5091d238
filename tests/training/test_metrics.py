"""accuracy and confusion_matrix against counting by hand and scikit-learn's definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor
from minitorch_flux.training import accuracy, confusion_matrix

labels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30).map(np.transpose)


@given(pair=labels)
def test_accuracy_is_the_fraction_that_is_right(pair):
    found, y = pair
    scores = np.eye(5)[found] + 0.1
    expected = sum(a == b for a, b in zip(found, y, strict=True)) / len(y)
    assert accuracy(scores, y) == pytest.approx(expected)
    assert accuracy(Tensor(scores), Tensor(np.eye(5)[y])) == pytest.approx(expected)
    assert accuracy(scores.tolist(), y.tolist()) == pytest.approx(expected)
    assert accuracy(scores.T, y, axis=0) == pytest.approx(expected)


def test_accuracy_of_images():
    scores = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    y = scores.argmax(1)
    assert accuracy(scores, y, axis=1) == 1
    assert accuracy(scores, (y + 1) % 3, axis=1) == 0


def test_accuracy_of_one_observation_and_of_none():
    assert accuracy(np.array([0.1, 0.9]), 1) == 1
    assert math.isnan(accuracy(np.zeros((0, 3)), np.zeros(0, int)))


def test_nan_is_never_right():
    scores = np.array([[np.nan, 0, 0], [0, 0, np.nan], [1, 0, 0]])
    assert accuracy(scores, [0, 2, 0]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("y_hat", "y", "axis", "message"),
    [
        (np.zeros((4, 3)), np.zeros(5, int), -1, r"class indices \(4,\) or one-hot \(4, 3\), got \(5,\)"),
        (np.zeros((4, 3)), np.zeros((4, 1), int), -1, r"got \(4, 1\)"),
        (np.zeros((4, 3)), np.zeros(4, int), 2, r"y_hat of shape \(4, 3\) has no axis 2"),
        (np.zeros(()), np.zeros((), int), -1, r"y_hat of shape \(\) has no axis -1"),
    ],
)
def test_accuracy_refuses(y_hat, y, axis, message):
    with pytest.raises(ValueError, match=message):
        accuracy(y_hat, y, axis=axis)


@given(pair=labels)
def test_confusion_matrix_counts(pair):
    found, y = pair
    expected = np.zeros((5, 5), int)
    for i, j in zip(y, found, strict=True):
        expected[i, j] += 1
    for y_hat in (found, found.astype(np.uint8), Tensor(found)):
        np.testing.assert_array_equal(confusion_matrix(y_hat, y, 5), expected)
    np.testing.assert_array_equal(confusion_matrix(np.eye(5)[found], Tensor(y)), expected)
    size = max(*found, *y) + 1
    np.testing.assert_array_equal(confusion_matrix(found, y), expected[:size, :size])


def test_confusion_matrix_of_nothing():
    assert confusion_matrix(np.zeros((0, 3)), np.zeros(0, int)).tolist() == [[0] * 3] * 3
    assert confusion_matrix(np.zeros(0, int), np.zeros(0, int)).shape == (0, 0)


@pytest.mark.parametrize(
    ("y_hat", "y", "n", "error", "message"),
    [
        (np.zeros((4, 3)), np.zeros(5, int), None, ValueError, r"got shapes \(4, 3\) and \(5,\)"),
        (np.zeros((4, 3)), np.zeros((4, 3), int), None, ValueError, "expected scores"),
        (np.zeros((4, 3, 1)), np.zeros(4, int), None, ValueError, "expected scores"),
        (np.zeros(4), np.zeros(4, int), None, TypeError, "y_hat must be class indices, got dtype float64"),
        (np.zeros(4, int), np.zeros(4), None, TypeError, "y must be class indices, got dtype float64"),
        (np.zeros((4, 3)), np.array([0, 1, 2, 3]), None, IndexError, "y has the class 3, expected 0 to 2"),
        (np.array([0, -1]), np.array([0, 1]), None, IndexError, "y_hat has the class -1, expected 0 to 1"),
        (np.array([0, 5]), np.array([0, 1]), 2, IndexError, "y_hat has the class 5, expected 0 to 1"),
    ],
)
def test_confusion_matrix_refuses(y_hat, y, n, error, message):
    with pytest.raises(error, match=message):
        confusion_matrix(y_hat, y, n)
