"""What counts as observations, and how single ones become a batch."""

from typing import NamedTuple

import numpy as np
import pytest

from minitorch_flux.autograd import Tensor
from minitorch_flux.data.observations import columns_of, map_columns, on_host, stack, take, take_one


class Pair(NamedTuple):
    x: object
    y: object


X, Y = np.arange(12.0).reshape(4, 3), np.arange(4)


def names(data):
    return [name for name, _ in columns_of(data, "here")]


def test_columns():
    assert names(X) == names(Tensor(X)) == names([1, 2, 3]) == names([(X[0], 1)]) == names(["a"]) == ["data"]
    assert names((X, Y)) == names([X, Y]) == names([Tensor(X), Y]) == ["data[0]", "data[1]"]
    assert names({"x": X, "y": (Y, [1, 2, 3, 4])}) == ["data['x']", "data['y'][0]", "data['y'][1]"]
    assert names(Pair(X, Y)) == ["data[0]", "data[1]"]
    assert names([]) == ["data"]


def test_structure_is_kept():
    doubled = map_columns(lambda c: np.asarray(c) * 2, {"a": Pair(X, [1, 2, 3, 4]), "b": [Y]})
    assert isinstance(doubled["a"], Pair)
    assert isinstance(doubled["b"], list)
    np.testing.assert_array_equal(doubled["a"].y, [2, 4, 6, 8])
    batch = take(Pair(X, Y), np.array([2, 0]))
    assert isinstance(batch, Pair)
    np.testing.assert_array_equal(batch.x, X[[2, 0]])
    one = take_one({"a": Pair(X, Y)}, 3)
    assert one["a"].y == 3


@pytest.mark.parametrize("column", [X, X[:, ::2], X.T[:, ::-1].T, Tensor(X)])
@pytest.mark.parametrize("index", [slice(1, 3), np.array([3, 0]), slice(0, 0), np.array([], int)])
def test_take_gives_new_arrays(column, index):
    a = column.data if isinstance(column, Tensor) else column
    b = take(column, index)
    np.testing.assert_array_equal(b, a[index])
    assert type(b) is np.ndarray
    assert not np.shares_memory(a, b)


def test_unequal_lengths():
    with pytest.raises(ValueError, match=r"here: data\[0\] has 4 observations \(shape \(4, 3\)\) but data\[1\] has 3 "
                       r"\(shape \(3,\)\); the first axis"):
        columns_of((X, Y[:3]), "here")
    with pytest.raises(ValueError, match=r"data\['y'\] has 2; the first axis"):
        columns_of({"x": X, "y": ["a", "b"]}, "here")


def test_no_observations():
    with pytest.raises(TypeError, match="here: data is an array without axes"):
        columns_of(np.array(1.0), "here")
    with pytest.raises(TypeError, match=r"data\[1\] is a generator, expected an array, .* pass list\(iterator\)"):
        columns_of((X, (i for i in range(4))), "here")
    for nothing in ((), {}):
        with pytest.raises(ValueError, match="expected at least one column"):
            columns_of(nothing, "here")


def test_stack():
    np.testing.assert_array_equal(stack([X[0], X[2]]), X[[0, 2]])
    np.testing.assert_array_equal(stack([Tensor(X[0]), X[2]]), X[[0, 2]])
    assert stack([True, False]).dtype == bool
    assert stack([1, 2]).dtype == np.int64
    assert stack([np.float32(1), np.float32(2)]).dtype == np.float32
    assert stack(["a", "b"]) == ["a", "b"]
    assert stack([]) == []
    batch = stack([Pair(X[i], {"label": i, "name": str(i), "both": [i, -i]}) for i in range(3)])
    assert isinstance(batch, Pair)
    np.testing.assert_array_equal(batch.x, X[:3])
    assert batch.y["name"] == ["0", "1", "2"]
    np.testing.assert_array_equal(batch.y["both"][1], [0, -1, -2])


def test_what_cannot_be_stacked():
    with pytest.raises(ValueError, match=r"observation 1 of the batch has shape \(2,\), the first one \(3,\); pad "):
        stack([X[0], X[0, :2]])
    with pytest.raises(ValueError, match="observation 1 of the batch has 1 entries, the first one 2; pass collate="):
        stack([(1, 2), (1,)])
    with pytest.raises(ValueError, match=r"observation 1 of the batch has the keys \['b'\], the first one \['a'\]"):
        stack([{"a": 1}, {"b": 1}])


def test_on_host():
    assert on_host((X, Tensor(X), ["a", "b", "c", "d"]), "here")
