import numpy as np
import pytest
from hypothesis import given

from minitorch_flux.autograd import Tensor, gradient
from minitorch_flux.ops import elementary, special
from tests.oracles import SHAPES, broadcastable, check_against_torch, check_operation, normal, uniform

# name, low, high: where the function is smooth and its derivatives moderate
DOMAINS = [
    ("exp", -2, 2), ("exp2", -2, 2), ("expm1", -1, 2), ("log", 0.5, 4), ("log2", 0.5, 4), ("log10", 0.5, 4),
    ("log1p", -0.5, 3), ("sqrt", 0.5, 4), ("square", -2, 2), ("reciprocal", 0.5, 2), ("cbrt", 0.5, 3), ("sin", -4, 4),
    ("cos", -4, 4), ("tan", -1, 1), ("arcsin", -0.8, 0.8), ("arccos", -0.8, 0.8), ("arctan", -3, 3), ("sinh", -2, 2),
    ("cosh", -2, 2), ("arcsinh", -3, 3), ("arccosh", 1.5, 4), ("arctanh", -0.8, 0.8),
]


@pytest.mark.parametrize(("name", "low", "high"), DOMAINS)
def test_unary(name, low, high):
    for shape in SHAPES:
        x = uniform(*shape, low=low, high=high)
        check_operation(getattr(elementary, name), x, oracle=getattr(np, name), dtypes=(np.float16, np.float32))


@pytest.mark.parametrize(("name", "low", "high"), DOMAINS)
def test_unary_large(name, low, high):
    x = uniform(150, 200, low=low, high=high)
    check_operation(getattr(elementary, name), x, oracle=getattr(np, name), order=1)
    y = getattr(elementary, name)(x.astype(np.float32))
    assert y.dtype == np.float32


@pytest.mark.parametrize(("name", "low", "high"), DOMAINS)
def test_third_order(name, low, high):
    check_operation(getattr(elementary, name), uniform(3, low=low, high=high, seed=3), order=3, tolerance=1e-5)


@pytest.mark.parametrize("name", ["exp", "expm1", "log1p", "sqrt", "rsqrt", "reciprocal", "sinh", "arctan"])
def test_against_torch(name):
    torch = pytest.importorskip("torch")
    check_against_torch(getattr(elementary, name), getattr(torch, name), uniform(3, 4, low=0.5, high=2))


@pytest.mark.parametrize("shape", SHAPES)
def test_rsqrt(shape):
    check_operation(elementary.rsqrt, uniform(*shape, low=0.5, high=3), oracle=lambda x: np.asarray(1 / np.sqrt(x)))


@pytest.mark.parametrize("shape", SHAPES)
def test_erf(shape):
    scipy = pytest.importorskip("scipy.special")
    check_operation(special.erf, 2 * normal(*shape), oracle=lambda x: np.asarray(scipy.erf(x)),
                    dtypes=(np.float16, np.float32))


def test_numbers_and_integers_give_float64():
    assert elementary.exp(1).dtype == np.float64
    assert elementary.exp(np.arange(3)).dtype == np.float64
    assert elementary.power(np.arange(3), 2).dtype == np.int64
    assert elementary.power(np.arange(3), 0.5).dtype == np.float64
    with pytest.raises(ValueError, match="[Ii]ntegers to negative"):
        elementary.power(np.arange(3), -1)


def test_docstrings_have_the_formula():
    assert elementary.log1p.__doc__.startswith("log(1 + x)")
    assert elementary.log1p.__name__ == "log1p"


# -- power -------------------------------------------------------------------------------------------------------------


@given(shapes=broadcastable())
def test_power(shapes):
    x, y = uniform(*shapes[0], low=0.5, high=2), uniform(*shapes[1], low=-2, high=3, seed=1)
    check_operation(elementary.power, x, y, oracle=np.power)


@pytest.mark.parametrize("y", [0, 1, 2, 3, -1, -2, 0.5, -0.5, 2.0, 5])
def test_power_with_a_number(y):
    check_operation(lambda x: x**y, uniform(3, low=0.5, high=2), oracle=lambda x: x**y, order=3, tolerance=1e-5)
    check_operation(lambda x: y**x, uniform(3, low=0.5, high=2), oracle=lambda x: y**x) if y > 0 else None


@pytest.mark.parametrize("y", [0, 1, 2, 3, -1, -2, 4.0])
def test_power_of_negative_numbers(y):
    x = -uniform(4, low=0.5, high=2)
    check_operation(lambda x: x**y, x, order=3, tolerance=1e-5)
    check_operation(elementary.power, x, np.full(4, y, float), constants=(1,), oracle=np.power, order=3, tolerance=1e-5)
    check_operation(elementary.power, x, np.full(4, int(y)), oracle=lambda x, y: x ** y.astype(float),
                    dtypes=())  # float32 and int64 give float64


def test_power_at_zero():
    x = np.zeros(5)
    for y in (np.array([0, 1, 2, 3, 1.5]), np.array([0, 1, 2, 3, 1])):
        dx = gradient(lambda x, y=y: (x**y).sum(), x)
        np.testing.assert_array_equal(dx, [0, 1, 0, 0, 0 if y.dtype == float else 1])
    for y, wanted in [(0, 0), (1, 1), (2, 0), (3, 0), (1.5, 0)]:
        assert gradient(lambda x, y=y: x**y, 0.0) == wanted
    np.testing.assert_array_equal(gradient(lambda y: (x**y).sum(), np.array([0.0, 1, 2, 0.5, 7])), np.zeros(5))
    # second derivatives at 0: of x^2 2, of x^3 0, of x^1 and x^0 0
    second = gradient(lambda x: gradient(lambda x: (x ** np.array([0.0, 1, 2, 3, 4])).sum(), x).sum(), x)
    np.testing.assert_array_equal(second, [0, 0, 2, 0, 0])
    unsigned = gradient(lambda x: (x ** np.array([0, 1, 2, 3, 4], np.uint8)).sum(), x)
    np.testing.assert_array_equal(unsigned, [0, 1, 0, 0, 0])


def test_power_mixed_derivative_where_the_exponent_is_zero():
    """d2/dxdy x^y = x^(y-1) (1 + y log x): 1/x at y = 0, which a guard on y = 0 alone would lose."""
    x, y = np.array([2.0, 0.5]), np.zeros(2)
    mixed = gradient(lambda y: gradient(lambda x: (x**y).sum(), x).sum(), y)
    np.testing.assert_allclose(mixed, 1 / x)
    check_operation(elementary.power, x, y, order=3, tolerance=1e-5)


# -- two arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arctan2", "hypot", "logaddexp"])
@given(shapes=broadcastable())
def test_binary(name, shapes):
    x, y = 2 * normal(*shapes[0]) + 3, 2 * normal(*shapes[1], seed=1) - 3
    check_operation(getattr(elementary, name), x, y, oracle=getattr(np, name))


def test_arctan2_in_every_quadrant_against_torch():
    torch = pytest.importorskip("torch")
    y, x = np.array([1.0, 1, -1, -1, 0]), np.array([1.0, -1, 1, -1, -2])
    check_against_torch(elementary.arctan2, torch.arctan2, y, x)


@pytest.mark.parametrize("name", ["arctan2", "hypot"])
def test_origin(name):
    dx, dy = gradient(lambda x, y: getattr(elementary, name)(x, y).sum(), np.zeros(2), np.zeros(2))
    assert not dx.any()
    assert not dy.any()


def test_hypot_does_not_overflow():
    dx, dy = gradient(lambda x, y: elementary.hypot(x, y).sum(), np.array([3e200]), np.array([4e200]))
    np.testing.assert_allclose([dx[0], dy[0]], [0.6, 0.8])


def test_logaddexp_at_the_limits():
    inf = np.inf
    x, y = np.array([-inf, -inf, inf, 1000.0, 0.0]), np.array([0.0, -inf, 0.0, 0.0, -1000.0])
    dx, dy = gradient(lambda x, y: elementary.logaddexp(x, y)[:1].sum() + elementary.logaddexp(x, y)[2:].sum(), x, y)
    np.testing.assert_allclose(dx, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(dy, [1, 0, 0, 0, 0])


def test_methods():
    x = Tensor(uniform(3, low=1, high=2))
    for name in ("exp", "log", "sqrt", "square"):
        np.testing.assert_array_equal(getattr(x, name)().data, getattr(np, name)(x.data))
