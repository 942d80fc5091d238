import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor, gradient, tensor
from minitorch_flux.backend import memory_stats
from minitorch_flux.ops import arithmetic, elementary
from tests.oracles import SHAPES, apart, broadcastable, check_against_torch, check_operation, normal, uniform

BINARY = ["add", "subtract", "multiply", "divide"]
UNARY = ["negative", "absolute", "sign", "floor", "ceil", "trunc"]


def away_from_zero(*shape, seed=0):
    return np.copysign(uniform(*shape, low=0.5, high=2, seed=seed), normal(*shape, seed=seed + 1))


@pytest.mark.parametrize("name", BINARY)
@given(shapes=broadcastable())
def test_binary(name, shapes):
    x, y = normal(*shapes[0]), away_from_zero(*shapes[1], seed=1)
    check_operation(getattr(arithmetic, name), x, y, oracle=getattr(np, name), dtypes=(np.float16, np.float32))


@pytest.mark.parametrize("name", BINARY)
def test_binary_against_torch(name):
    torch = pytest.importorskip("torch")
    op = getattr(arithmetic, name)
    check_against_torch(op, getattr(torch, name), normal(4, 1, 3), away_from_zero(2, 3))


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
@given(shapes=broadcastable())
def test_remainders(name, shapes):
    x, y = 10 * normal(*shapes[0]), away_from_zero(*shapes[1], seed=1)
    check_operation(getattr(arithmetic, name), x, y, oracle=getattr(np, name), dtypes=())


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", SHAPES)
def test_unary(name, shape):
    check_operation(getattr(arithmetic, name), apart(*shape, gap=0.13), oracle=getattr(np, name),
                    dtypes=(np.float16, np.float32))


@pytest.mark.parametrize("decimals", [0, 1, -1])
def test_round(decimals):
    x = 10 * normal(3, 4)
    check_operation(arithmetic.round, x, decimals=decimals, oracle=np.round)
    assert round(tensor([2.5])).tolist() == [2.0]
    assert round(tensor([2.25], dtype="float64"), 1).tolist() == [2.2]


def test_absolute_at_zero():
    assert gradient(lambda x: abs(x).sum(), np.array([-1.0, 0.0, 2.0])).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("symbol", [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv,
                                    operator.mod, operator.pow, divmod])
def test_operators(symbol):
    a, b = uniform(2, 3, low=1, high=3), uniform(3, low=1, high=2)
    wanted = symbol(a, b)
    for x, y in [(Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b))]:
        for got, w in zip(*([r] if not isinstance(r, tuple) else r for r in (symbol(x, y), wanted)), strict=True):
            assert isinstance(got, Tensor)
            np.testing.assert_array_equal(got.data, w)
    np.testing.assert_array_equal(np.asarray(symbol(Tensor(a), 2)), np.asarray(symbol(a, 2)))
    np.testing.assert_array_equal(np.asarray(symbol(2, Tensor(a))), np.asarray(symbol(2, a)))


def test_scalars_never_widen():
    """NumPy scalars count as Python scalars; arrays promote as in NumPy 2."""
    h = Tensor(np.ones(3, np.float32))
    for d in (np.sqrt(64), np.float64(2), np.int64(2), 2, 2.0, True):
        for y in (h * d, d * h, h + d, d - h, h / d, d / h, h**d, d**h):
            assert y.dtype == np.float32
    half = Tensor(np.ones(3, np.float16))
    assert (half * np.float64(2)).dtype == np.float16
    assert (half * h).dtype == np.float32
    assert (h * np.ones(3)).dtype == np.float64
    assert (h * np.arange(3)).dtype == np.float64
    assert (h * np.ones(())).dtype == np.float64  # an array without axes is an array
    whole, truth = Tensor(np.arange(3)), Tensor(np.ones(3, bool))
    assert (whole + truth).dtype == np.int64
    assert (whole / 2).dtype == np.float64
    assert (truth + truth).dtype == np.bool_
    assert arithmetic.add(2, 3).item() == 5
    with pytest.raises(TypeError):
        truth - truth


def test_gradients_have_their_inputs_dtype():
    dx, dy = gradient(lambda x, y: (x * y).sum(), np.ones(3, np.float32), np.ones(3))
    assert dx.dtype == np.float32
    assert dy.dtype == np.float64


@pytest.mark.parametrize("name", [*BINARY, "floor_divide", "remainder", "fmod"])
@pytest.mark.parametrize("n", [3, 100_000])
def test_shapes_that_do_not_broadcast(name, n):
    message = rf"{name}: the shapes \(2, {n}\) and \({n + 1},\) do not broadcast: axis -1 has the sizes {n} and {n + 1}"
    with pytest.raises(ValueError, match=message):
        getattr(arithmetic, name)(np.ones((2, n)), np.ones(n + 1))


def test_complex_is_refused():
    with pytest.raises(TypeError, match="add: complex numbers are not supported"):
        arithmetic.add(np.ones(2), np.ones(2, complex))


def test_large_results_come_from_the_pool():
    x = normal(300, 300)
    for f in (lambda t: t + t, lambda t: t * 2.0, lambda t: 2.0 / t, lambda t: -t, elementary.exp):
        f(Tensor(x))  # the pool may grow
        before = memory_stats()["fresh_bytes"], memory_stats()["reused_blocks"]
        y = f(Tensor(x))
        assert memory_stats()["fresh_bytes"] == before[0]
        assert memory_stats()["reused_blocks"] > before[1]
        assert y.data.flags.c_contiguous


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", [((200, 100),) * 2, ((200, 100), (100,)), ((200, 1), (1, 100)), ((200, 100), ())])
def test_large(name, shapes):
    x, y = normal(*shapes[0]), away_from_zero(*shapes[1], seed=1)
    check_operation(getattr(arithmetic, name), x, y, oracle=getattr(np, name))
    check_operation(getattr(arithmetic, name), y, away_from_zero(*shapes[0]), oracle=getattr(np, name))


def test_used_twice():
    x = normal(3)
    np.testing.assert_allclose(gradient(lambda x: (x * x + x / x - x).sum(), x), 2 * x - 1)


@given(shape=broadcastable(1), more=st.integers(0, 2))
def test_sum_to_and_broadcast_to(shape, more):
    (shape,) = shape
    full = (2,) * more + tuple(3 if n == 1 else n for n in shape)
    check_operation(arithmetic.broadcast_to, normal(*shape), shape=full, oracle=np.broadcast_to)
    check_operation(arithmetic.sum_to, normal(*full), shape=shape, oracle=lambda x, shape: naive_sum_to(x, shape))


def naive_sum_to(x, shape):
    y = np.zeros(shape)
    for index in np.ndindex(x.shape):
        to = index[len(x.shape) - len(shape) :]
        y[tuple(0 if n == 1 else i for i, n in zip(to, shape, strict=True))] += x[index]
    return y


def test_broadcast_to_errors():
    with pytest.raises(ValueError, match=r"broadcast_to: an input of shape \(2, 3\) does not stretch to \(2, 4\)"):
        arithmetic.broadcast_to(np.ones((2, 3)), (2, 4))
    assert arithmetic.broadcast_to(np.ones(()), 3).shape == (3,)


def test_sum_to_refuses_shapes_that_do_not_stretch():
    for shape in ((3, 4), (4,), (1, 1, 12), (2, 1)):
        with pytest.raises(ValueError, match=r"sum_to: .* does not stretch to the input's shape \(1, 12\)"):
            arithmetic.sum_to(normal(1, 12), shape)
    assert arithmetic.sum_to(normal(1, 12), ()).shape == ()
    assert arithmetic.sum_to(normal(1, 12), 12).shape == (12,)
    x = arithmetic.sum_to(normal(3), (3,))
    assert arithmetic.sum_to(x, (3,)) is x
