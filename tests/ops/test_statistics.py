import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor, gradient
from minitorch_flux.ops import statistics as ops
from tests.oracles import apart, axes_of, check_against_torch, check_operation, normal, solid_shapes


def numpys(f):
    return lambda x, **keywords: np.asarray(f(x, **keywords))


@pytest.mark.parametrize("name", ["var", "std"])
@given(shape=st.lists(st.integers(2, 4), min_size=1, max_size=3), keepdims=st.booleans(), ddof=st.integers(0, 1),
       data=st.data())
def test_var_and_std(name, shape, keepdims, ddof, data):
    axis = data.draw(axes_of(len(shape)).filter(lambda a: a != ()))
    check_operation(getattr(ops, name), normal(*shape), axis=axis, keepdims=keepdims, ddof=ddof,
                    oracle=numpys(getattr(np, name)), dtypes=(np.float16, np.float32), tolerance32=5e-5)


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_against_torch(name, ddof):
    torch = pytest.importorskip("torch")
    f, g = getattr(ops, name), getattr(torch, name)
    check_against_torch(f, lambda x: g(x, dim=(0, 2), correction=ddof), normal(3, 2, 4), axis=(0, 2), ddof=ddof)


def test_var_is_stable_and_std_is_safe():
    x = np.full((3, 4), 1e8, np.float32)
    np.testing.assert_array_equal(ops.var(x, 1).data, [0, 0, 0])
    dx = gradient(lambda x: ops.std(x, 1).sum() + ops.norm(x - x, axis=1).sum(), x)
    np.testing.assert_array_equal(dx, np.zeros((3, 4)))
    assert ops.var(np.arange(4)).item() == 1.25  # integers
    assert Tensor(np.arange(4.0)).std(ddof=1).item() == np.arange(4).std(ddof=1)


def test_too_few_for_ddof():
    with pytest.warns(RuntimeWarning):
        assert np.isnan(ops.var(np.ones((1, 2)), 0, ddof=1).data).all()


@pytest.mark.parametrize("ord", [None, 2, 1, 3, 2.5, 0.5, np.inf, -np.inf])
@pytest.mark.parametrize("keepdims", [False, True])
def test_vector_norms(ord, keepdims):
    for axis in (0, 1, -1):
        check_operation(ops.norm, apart(2, 3, 2, gap=0.1), ord=ord, axis=axis, keepdims=keepdims,
                        oracle=numpys(np.linalg.norm))


@given(shape=solid_shapes, keepdims=st.booleans(), data=st.data())
def test_norm_over_several_axes(shape, keepdims, data):
    axis = data.draw(axes_of(len(shape)))
    check_operation(ops.norm, normal(*shape) + 3, axis=axis, keepdims=keepdims, dtypes=(np.float16, np.float32),
                    oracle=lambda x, **k: np.sqrt(np.asarray((x * x).sum(**k))))


def test_norm_at_zero_and_of_nothing():
    for ord in (None, 1, 3, np.inf):
        dx = gradient(lambda x, ord=ord: ops.norm(x, ord, 1).sum(), np.array([[0.0, 0.0], [3.0, 4.0]]))
        np.testing.assert_array_equal(dx[0], [0, 0] if ord != np.inf else dx[0])
        assert np.isfinite(dx).all()
    assert ops.norm(np.zeros(0)).item() == 0
    assert ops.norm(np.zeros(0), 3).item() == 0
    assert ops.norm(np.array([3, 4])).item() == 5
    assert ops.norm(np.array([1e200, 1e200]), 3).item() == pytest.approx(2 ** (1 / 3) * 1e200)
    assert Tensor(np.array([3.0, 4.0])).norm().item() == 5


def test_norm_errors():
    with pytest.raises(ValueError, match=r"norm: ord=2 is a norm of vectors, along one axis; got axis=None"):
        ops.norm(np.ones((2, 3)), 2)
    with pytest.raises(ValueError, match="norm: ord must be positive"):
        ops.norm(np.ones(3), -1)
    with pytest.raises(np.exceptions.AxisError, match="norm: there is no axis 1"):
        ops.norm(np.ones(3), axis=1)


@given(shape=solid_shapes, keepdims=st.booleans(), data=st.data())
def test_median(shape, keepdims, data):
    axis = data.draw(axes_of(len(shape)).filter(lambda a: a != ()))  # NumPy has no median over no axes
    check_operation(ops.median, apart(*shape), axis=axis, keepdims=keepdims, oracle=numpys(np.median))


def test_median_of_nan_nothing_and_integers():
    x = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(ops.median(x, 1).data, [np.nan, 2])
    np.testing.assert_array_equal(gradient(lambda x: ops.median(x, 1).sum(), x), [[0, 1, 0], [0, 1, 0]])
    assert ops.median(np.arange(4)).item() == 1.5
    with pytest.raises(ValueError, match="median: no elements to choose from"):
        ops.median(np.zeros((2, 0)), 1)
