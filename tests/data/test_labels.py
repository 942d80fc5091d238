"""onehot, onehotbatch and onecold, against loops and PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minitorch_flux.autograd import Tensor
from minitorch_flux.data import onecold, onehot, onehotbatch

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(st.data(), st.integers(1, 7), st.sampled_from(["int8", "uint8", "int64", "bool"]))
def test_onehot_against_pytorch_and_back(data, n, dtype):
    torch = pytest.importorskip("torch")
    most = min(n - 1, 1) if dtype == "bool" else n - 1
    i = data.draw(hnp.arrays(dtype, SHAPES, elements=st.integers(0, most).map(np.dtype(dtype).type)))
    rows = onehot(i, n)
    expected = torch.nn.functional.one_hot(torch.as_tensor(i.astype("i8")), n).numpy()
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(onecold(rows), i)
    np.testing.assert_array_equal(onehot(Tensor(i), n), rows)
    if i.ndim:
        np.testing.assert_array_equal(onehotbatch(i, n), rows)
        np.testing.assert_array_equal(onehotbatch(Tensor(i), n), rows)


@given(st.data(), st.lists(st.sampled_from([-2.5, -1, 0, 3, 10, 11, 1e9]), min_size=1, unique=True))
def test_onehot_of_numbers_among_labels(data, labels):
    at = data.draw(hnp.arrays("i8", SHAPES, elements=st.integers(0, len(labels) - 1)))
    values = np.asarray(labels)[at]
    expected = np.zeros((*at.shape, len(labels)))
    for where in np.ndindex(at.shape):
        expected[(*where, at[where])] = 1
    for given_labels in (labels, tuple(labels), np.asarray(labels)):
        rows = onehot(values, given_labels, dtype="float64")
        assert rows.dtype == np.float64
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(onecold(rows, given_labels), values)


def test_one_label():
    np.testing.assert_array_equal(onehot(2, 4), [0, 0, 1, 0])
    np.testing.assert_array_equal(onehot(np.int32(0), np.int64(2)), [1, 0])
    np.testing.assert_array_equal(onehot("b", "abc", dtype=bool), [False, True, False])
    np.testing.assert_array_equal(onehot("cat", ["dog", "cat"]), [0, 1])
    np.testing.assert_array_equal(onehot(None, [None, 3, "x"]), [1, 0, 0])
    np.testing.assert_array_equal(onehot(2, range(1, 4)), [0, 1, 0])
    assert onecold([0.3, 0.5, 0.2]) == 1
    assert onecold([0.3, 0.5, 0.2], "abc") == "b"
    assert onecold([0.3, 0.5], [(1, 2), (3, 4)]) == (3, 4)


def test_sequences():
    np.testing.assert_array_equal(onehot([1, 0], 2), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(onehot(["b", "a"], ["a", "b"]), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(onehot(np.array([["b"], ["a"]]), "ab"), [[[0, 1]], [[1, 0]]])
    np.testing.assert_array_equal(onehot([], 3), np.zeros((0, 3)))
    np.testing.assert_array_equal(onehotbatch([1, 0], 2), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(onehotbatch("abba", "ab"), [[1, 0], [0, 1], [0, 1], [1, 0]])
    np.testing.assert_array_equal(onehotbatch(("x", 1), [1, "x"]), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(onehotbatch(iter([2, 2]), range(1, 3)), [[0, 1], [0, 1]])
    assert onehotbatch([], "ab").shape == (0, 2)
    assert onehotbatch([], 2).shape == (0, 2)


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_onecold_along_any_axis(axis):
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    names = list("abcde"[: x.shape[axis]])
    np.testing.assert_array_equal(onecold(x, axis=axis), x.argmax(axis))
    np.testing.assert_array_equal(onecold(Tensor(x), names, axis=axis), np.asarray(names)[x.argmax(axis)])
    assert onecold(x, axis=axis).dtype == np.int64


def test_onecold_takes_the_first_of_equals():
    np.testing.assert_array_equal(onecold(np.array([[1, 1], [0, 0]])), [0, 0])


def test_labels_out_of_range():
    with pytest.raises(ValueError, match="onehot: label 3 is out of range: 3 classes are 0 to 2"):
        onehot(np.array([0, 3]), 3)
    with pytest.raises(ValueError, match="onehot: label -1 is out of range: 3 classes are 0 to 2"):
        onehot(-1, 3)
    with pytest.raises(ValueError, match="onehotbatch: label 5 is out of range"):
        onehotbatch([5, 1], 3)


def test_unknown_labels():
    with pytest.raises(ValueError, match=r"onehot: 4 is not among the labels \[1, 2\]"):
        onehot(np.array([[1], [4]]), [1, 2])
    with pytest.raises(ValueError, match=r"onehot: 'z' is not among the labels \['a', 'b', .*, 'j', ...\]"):
        onehot("z", "abcdefghijkl")
    with pytest.raises(ValueError, match=r"onehotbatch: 'z' is not among the labels \['a', 'b'\]"):
        onehotbatch("az", "ab")
    with pytest.raises(ValueError, match="onehot: the label 'a' occurs twice"):
        onehot("a", "aba")
    with pytest.raises(ValueError, match="onehot: the label 2 occurs twice"):
        onehot(np.array([1]), np.array([1, 2, 2]))
    with pytest.raises(ValueError, match="onehot: there are no labels"):
        onehot(np.array([1]), [])


def test_wrong_kinds():
    with pytest.raises(TypeError, match="labels 0 to 2 must be integers, got float64; for other labels give"):
        onehot(1.5, 3)
    for wrong in (0, -1, None, 2.5, True):
        with pytest.raises(ValueError, match="labels must be a number of classes of at least 1 or a sequence"):
            onehot(0, wrong)
    with pytest.raises(ValueError, match="xs has no axes; for one label use onehot"):
        onehotbatch(np.array(1), 3)


def test_wrong_sizes_in_onecold():
    with pytest.raises(ValueError, match=r"axis -1 has 3 classes \(shape \(2, 3\)\) but there are 2 labels"):
        onecold(np.zeros((2, 3)), ["a", "b"])
    with pytest.raises(ValueError, match=r"axis 2 does not exist in an array of shape \(2, 3\)"):
        onecold(np.zeros((2, 3)), axis=2)
    with pytest.raises(ValueError, match="axis -1 does not exist"):
        onecold(np.array(1.0))
    with pytest.raises(ValueError, match=r"axis 1 has no classes \(shape \(2, 0\)\)"):
        onecold(np.zeros((2, 0)), axis=1)


def test_inputs_are_left_alone():
    i = np.array([0, 2, 1])
    before = i.copy()
    onehot(i, 3)[...] = 7
    np.testing.assert_array_equal(i, before)
