import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import apart, check_against_torch, check_operation, normal, shapes

from minitorch_flux.autograd import Tensor, gradient
from minitorch_flux.ops import sorting as ops


@given(st.data(), shapes.filter(len))
def test_sort_and_argsort_are_numpys(data, shape):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    check_operation(ops.sort, apart(*shape), axis=axis, oracle=np.sort)
    check_operation(ops.argsort, apart(*shape), axis=axis, oracle=np.argsort)


@given(hnp.arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 1.0, -1.0, np.inf, -np.inf, np.nan])))
def test_ties_keep_their_order_and_nan_is_last(x):
    np.testing.assert_array_equal(ops.sort(x).data, np.sort(x))
    np.testing.assert_array_equal(ops.argsort(x).data, np.argsort(x, kind="stable"))
    y, i = ops.topk(x, 4)
    np.testing.assert_array_equal(y.data, np.sort(x)[:, ::-1])
    np.testing.assert_array_equal(np.take_along_axis(x, i.data, 1), y.data)
    for row, order in zip(x, i.data, strict=True):
        keys = [(-np.inf if np.isnan(row[j]) else 0.0, -row[j], j) for j in range(4)]
        keys = [(k[0], 0.0 if np.isnan(k[1]) else k[1], k[2]) for k in keys]
        assert order.tolist() == [j for *_, j in sorted(keys)]


def test_the_gradient_of_a_tie_goes_to_one():
    np.testing.assert_array_equal(gradient(lambda x: ops.sort(x)[0], np.ones(3)), [1, 0, 0])
    np.testing.assert_array_equal(gradient(lambda x: ops.topk(x, 1)[0].sum(), np.ones(3)), [1, 0, 0])


def test_methods_and_dtypes():
    a = np.array([3, 1, 2], np.int8)
    assert Tensor(a).sort().data.tolist() == [1, 2, 3]
    assert Tensor(a).sort().dtype == np.int8
    assert Tensor(a).argsort().data.tolist() == [1, 2, 0]
    assert ops.argsort(a).dtype == np.int64
    assert ops.topk(a, 2)[0].data.tolist() == [3, 2]
    assert ops.topk(np.array([True, False]), 1)[1].data.tolist() == [0]
    assert ops.sort(Tensor(normal(2, 3)), axis=None).shape == (6,)


@given(st.data(), shapes.filter(len), st.booleans())
def test_topk_is_torchs(data, shape, largest):
    torch = pytest.importorskip("torch")
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(0, shape[axis]))
    check_against_torch(
        lambda x: ops.topk(x, k, axis, largest), lambda x: tuple(torch.topk(x, k, axis, largest)), apart(*shape)
    )
    check_operation(lambda x: ops.topk(x, k, axis, largest), apart(*shape))


@pytest.mark.parametrize("k", [-1, 4])
def test_topk_wants_elements(k):
    with pytest.raises(
        ValueError, match=rf"topk: k={k} is not between 0 and 3, the length of axis 1 of shape \(2, 3\)"
    ):
        ops.topk(normal(2, 3), k)


def test_sorting_needs_an_axis():
    with pytest.raises(np.exceptions.AxisError, match="sort: there is no axis 2 "):
        ops.sort(normal(2, 3), 2)
    with pytest.raises(np.exceptions.AxisError, match="argsort: there is no axis -1 .* which has no axes"):
        ops.argsort(normal())


def test_third_order():
    check_operation(lambda x: ops.sort(x * x * x), apart(2, 3), order=3)
