"""The checker must notice every kind of mistake that it promises to notice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import OPERATIONS, Tensor, operation
from tests.oracles import apart, axes_of, broadcastable, check_against_torch, check_operation, laid_out, normal


@pytest.fixture(autouse=True)
def _only_here():
    before = dict(OPERATIONS)
    yield
    OPERATIONS.clear()
    OPERATIONS.update(before)


def square(name="right", forward=lambda x: x * x, **rules):
    return operation(f"square_{name}", forward, **rules or {"gradient": lambda dy, x: dy * (x * 2)})


def test_right():
    value = check_operation(square(), normal(2, 3), oracle=np.square)
    np.testing.assert_array_equal(value, normal(2, 3) ** 2)


@pytest.mark.parametrize("shape", [(2, 3), (5, 6)])
def test_wrong_gradient(shape):
    with pytest.raises(AssertionError, match="derivative 1, input 0"):
        check_operation(square("wrong", gradient=lambda dy, x: dy * x), normal(*shape))


def test_wrong_rule():
    f = square("rule", backward=lambda dy, x: 2 * dy * x, rule=lambda dy, x: dy * x.detach() * 2)
    check_operation(f, normal(3), order=1)
    with pytest.raises(AssertionError, match="derivative 2, input 0"):
        check_operation(f, normal(3))


def test_wrong_value():
    with pytest.raises(AssertionError, match="against the oracle"):
        check_operation(square(), normal(3), oracle=np.exp)
    with pytest.raises(AssertionError, match="the oracle has"):
        check_operation(square("single"), normal(3), oracle=lambda x: (x, x))


def test_input_written_to():
    def forward(x):
        x *= 1.5
        return x

    with pytest.raises(AssertionError):
        check_operation(square("inplace", forward, gradient=lambda dy: dy * 1.5), normal(3))


def test_wrong_dtype():
    with pytest.raises(AssertionError, match="in float32: dtype float64"):
        check_operation(square("wide", lambda x: x.astype(float) ** 2, gradient=lambda dy, x: dy * (x * 2)), normal(3))


def test_wrong_for_other_layouts():
    def forward(x):
        return np.frombuffer(x.tobytes("A"), x.dtype).reshape(x.shape) ** 2  # reads the memory, not the array

    with pytest.raises(AssertionError, match="Fortran-ordered inputs"):
        check_operation(square("layout", forward, gradient=lambda dy, x: dy * (x * 2)), normal(2, 3))


def test_against_torch():
    torch = pytest.importorskip("torch")
    check_against_torch(square(), torch.square, normal(2, 3))
    with pytest.raises(AssertionError, match="torch"):
        check_against_torch(square("worse", gradient=lambda dy, x: dy * x), torch.square, normal(2, 3))


@pytest.mark.parametrize("layout", ["Fortran-ordered", "strided", "reversed"])
def test_layouts_keep_the_numbers(layout):
    for a in (normal(2, 3), normal(4), normal(), np.arange(6).reshape(3, 2), np.zeros((0, 2))):
        np.testing.assert_array_equal(laid_out(a, layout), a)
        assert laid_out(a, layout).dtype == a.dtype


def test_apart():
    a = np.sort(np.abs(np.append(apart(4, 5, gap=0.1).ravel(), 0)))
    assert np.diff(a).min() >= 0.0999


def test_not_recorded():
    with pytest.raises(AssertionError, match="recorded"):
        check_operation(lambda x: Tensor(x, track=2) * 1, normal(3), order=0)


@given(broadcastable(3), st.integers(0, 3).flatmap(lambda n: st.tuples(st.just(n), axes_of(n))))
def test_strategies(shapes, ndim_and_axis):
    np.broadcast_shapes(*shapes)
    ndim, axis = ndim_and_axis
    np.zeros((2,) * ndim).sum(axis=axis)
