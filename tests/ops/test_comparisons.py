import operator

import numpy as np
import pytest
from hypothesis import given

from minitorch_flux.autograd import Tensor, gradient, tensor
from minitorch_flux.ops import comparisons as ops
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import SHAPES, apart, broadcastable, check_against_torch, check_operation, needs_compiler, normal

nan = np.nan


@given(shapes=broadcastable(3))
def test_where(shapes):
    condition = normal(*shapes[0]) > 0
    check_operation(ops.where, condition, normal(*shapes[1]), normal(*shapes[2], seed=1), oracle=np.where,
                    dtypes=(np.float16, np.float32))


def test_where_numbers_and_dtypes():
    x = np.ones(3, np.float32)
    c = np.array([True, False, True])
    assert ops.where(c, x, 0.5).dtype == np.float32
    assert ops.where(c, np.float64(2), Tensor(x)).dtype == np.float32
    assert ops.where(Tensor(c), 1, 0).tolist() == [1, 0, 1]
    check_operation(lambda x: ops.where(c, x, 2.0), normal(3))
    check_operation(lambda x: ops.where(c, 2.0, x), normal(3))


def test_where_keeps_nan_out():
    """The gradient of what was not chosen is zero, and the incoming one is not multiplied by anything."""
    x = np.array([nan, 1.0, np.inf])
    dx = gradient(lambda x: ops.where(np.isfinite(x.data), x, 0.0).sum(), x)
    np.testing.assert_array_equal(dx, [0, 1, 0])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@given(shapes=broadcastable())
def test_maximum_and_minimum(name, shapes):
    x, y = apart(*shapes[0]), apart(*shapes[1]) + 0.01
    check_operation(getattr(ops, name), x, y, oracle=getattr(np, name), dtypes=(np.float16, np.float32))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_and_nan(name):
    f = getattr(ops, name)
    x, y = np.array([1.0, nan, 0.0, nan, 2.0]), np.array([1.0, 0.0, nan, nan, 2.0])
    np.testing.assert_array_equal(f(x, y).data, getattr(np, name)(x, y))
    dx, dy = gradient(lambda x, y: f(x, y).sum(), x, y)
    np.testing.assert_array_equal(dx, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(dy, [0, 0, 1, 0, 0])
    dx = gradient(lambda x: f(x, 0.0).sum() + f(0.0, x).sum(), np.zeros(2))
    np.testing.assert_array_equal(dx, [1, 1])  # once as the first argument, once as the second


@pytest.mark.parametrize("shape", SHAPES)
def test_clip(shape):
    x = apart(*shape, gap=0.3)
    check_operation(lambda x: ops.clip(x, -0.5, 0.5), x, oracle=lambda x: np.clip(x, -0.5, 0.5),
                    dtypes=(np.float16, np.float32))
    check_operation(lambda x: ops.clip(x, 0.1), x, oracle=lambda x: np.clip(x, 0.1, None))
    check_operation(lambda x: ops.clip(x, max=0.1), x, oracle=lambda x: np.clip(x, None, 0.1))
    check_operation(lambda x: x.clip(0.5, -0.5), x, oracle=lambda x: np.clip(x, 0.5, -0.5))  # the upper bound wins


@given(shapes=broadcastable(3))
def test_clip_between_arrays(shapes):
    x, low, high = apart(*shapes[0]), apart(*shapes[1], seed=1) - 0.51, apart(*shapes[2], seed=2) + 0.33
    check_operation(ops.clip, x, low, high, oracle=np.clip)


def test_clip_against_torch():
    torch = pytest.importorskip("torch")
    check_against_torch(ops.clip, torch.clip, apart(4, 3), apart(3, seed=1) - 0.01, apart(4, 1, seed=2) + 0.013)


def test_clip_at_the_bounds_and_nan():
    x, low, high = np.array([1.0, 2.0, nan, 0.0, 3.0]), np.full(5, 1.0), np.full(5, 2.0)
    np.testing.assert_array_equal(gradient(lambda x: ops.clip(x, 1, 2).sum(), x), [1, 1, 1, 0, 0])
    dx, dl, dh = gradient(lambda *b: ops.clip(*b).sum(), x, low, high)
    np.testing.assert_array_equal(dx, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(dl, [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(dh, [0, 0, 0, 0, 1])


def test_clip_large_and_dtypes():
    x = normal(200, 200).astype(np.float32)
    for dtype in (np.float32, np.float64):
        y = ops.clip(x.astype(dtype), -0.5, 0.5)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.data, np.clip(x.astype(dtype), -0.5, 0.5))
    np.testing.assert_array_equal(ops.clip(x, 0 * x, x).data, np.clip(x, 0 * x, x))
    assert ops.clip(np.arange(5), 1, 3).tolist() == [1, 1, 2, 3, 3]


def test_clip_errors():
    with pytest.raises(TypeError, match="clip: give at least one bound"):
        ops.clip(np.ones(3))
    with pytest.raises(ValueError, match=r"clip: the shapes \(3,\) and \(2,\) do not broadcast: axis -1"):
        ops.clip(np.ones(3), np.ones(2))


def test_where_errors():
    message = r"where: the shapes \(3,\) and \(3,\) and \(2,\) do not broadcast: axis -1 has the sizes 3 and 2"
    with pytest.raises(ValueError, match=message):
        ops.where(np.ones(3, bool), np.ones(3), np.ones(2))


@pytest.mark.parametrize("name", ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"])
@given(shapes=broadcastable())
def test_comparisons(name, shapes):
    x, y = np.round(normal(*shapes[0])), np.round(normal(*shapes[1], seed=1))
    check_operation(getattr(ops, name), x, y, oracle=getattr(np, name), order=0, dtypes=())


@pytest.mark.parametrize("symbol", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
def test_comparison_operators(symbol):
    a, b = np.array([1.0, 2.0, nan]), np.array([2.0, 2.0, nan])
    for x, y in [(Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b))]:
        result = symbol(x, y)
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.data, symbol(a, b))
    np.testing.assert_array_equal(symbol(Tensor(a), 2).data, symbol(a, 2))
    np.testing.assert_array_equal(symbol(2, Tensor(a)).data, symbol(2, a))


def test_comparisons_of_large_arrays_are_booleans():
    x = normal(200, 200)
    for name in ("less", "equal", "logical_and"):
        assert getattr(ops, name)(x, 0.5 * x).dtype == bool


def test_comparisons_are_not_recorded_and_tensors_stay_hashable():
    x = tensor([1.0, 2.0], requires_grad=True)
    assert not (x > 1).requires_grad
    assert {x: 1}[x] == 1
    assert (x == None).tolist() == [False, False]  # noqa: E711


@pytest.mark.parametrize("kind", ["logical", "bitwise"])
@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_logic(kind, name):
    name = f"{kind}_{name}"
    x, y = np.array([True, True, False, False]), np.array([True, False, True, False])
    np.testing.assert_array_equal(getattr(ops, name)(x, y).data, getattr(np, name)(x, y))
    symbol = {"bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor}.get(name)
    if symbol:
        np.testing.assert_array_equal(symbol(Tensor(x), y).data, symbol(x, y))
        np.testing.assert_array_equal(symbol(y, Tensor(x)).data, symbol(x, y))
        np.testing.assert_array_equal(symbol(Tensor(np.arange(4)), 1).data, symbol(np.arange(4), 1))
    else:
        np.testing.assert_array_equal(getattr(ops, name)(normal(4), 0.0).data, getattr(np, name)(normal(4), 0.0))


def test_not():
    assert (~Tensor(np.array([True, False]))).tolist() == [False, True]
    assert ops.logical_not(np.array([0.0, 2.0])).tolist() == [True, False]
    assert ops.invert(np.array([0, 5])).tolist() == [-1, -6]


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
def test_predicates(name):
    x = np.array([[1.0, nan], [np.inf, -np.inf]])
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(getattr(ops, name)(x.astype(dtype)).data, getattr(np, name)(x))
    large = np.zeros((200, 200))
    np.testing.assert_array_equal(getattr(ops, name)(large).data, getattr(np, name)(large))
    assert getattr(ops, name)(large).dtype == bool


def test_close_and_equal():
    x = np.array([1.0, nan, 2.0])
    assert ops.isclose(x, x + 1e-9).tolist() == [True, False, True]
    assert ops.isclose(Tensor(x), x, equal_nan=True).tolist() == [True, True, True]
    assert ops.allclose(x[::2], x[::2] * (1 + 1e-6))
    assert not ops.allclose(x[::2], x[::2] + 0.1, rtol=0, atol=0.01)
    assert ops.array_equal(np.ones(3), Tensor(np.ones(3)))
    assert not ops.array_equal(np.ones(3), np.ones((1, 3)))
    assert ops.allclose(1.0, 1.0) is True
    assert ops.array_equal([1], [1]) is True


def test_nan_to_num():
    x = np.array([1.0, nan, np.inf, -np.inf])
    np.testing.assert_array_equal(ops.nan_to_num(x).data, np.nan_to_num(x))
    np.testing.assert_array_equal(ops.nan_to_num(x, 7.0, 8.0, 9.0).data, [1, 7, 8, 9])
    np.testing.assert_array_equal(ops.nan_to_num(x.astype(np.float32)).data, np.nan_to_num(x.astype(np.float32)))
    assert ops.nan_to_num(np.arange(3)).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(gradient(lambda x: ops.nan_to_num(x).sum(), x), [1, 0, 0, 0])


# -- the kernel of where -----------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64])
def test_where_kernel(dtype):
    f = ops.where_forward
    x, y = (np.round(20 * normal(70, 71, seed=i)).astype(dtype) for i in (0, 1))
    c = normal(70, 71, seed=2) > 0
    number = dtype(1)
    for a, b in [(x, y), (x, number), (number, y), (x, False)]:
        before = f.launches
        z = ops.where(c, a, b)
        wanted = np.where(c, a, b.item() if isinstance(b, np.generic) else b)
        assert f.launches == before + 1
        assert z.dtype == wanted.dtype
        np.testing.assert_array_equal(z.data, wanted)
    before = f.launches
    for arguments in [(c[:, ::2], x[:, ::2], y[:, ::2]), (c[:1], x, y), (c.astype(int), x, y), (c[:9], x[:9], y[:9]),
                      (c, x, y[0]), (c, x.T.copy().T, y)]:
        np.testing.assert_array_equal(ops.where(*arguments).data, np.where(*arguments))
    assert f.launches == before


@needs_compiler
def test_where_kernel_moves_bits():
    """NaN's payload, the sign of zero and denormals come through; numbers that need another dtype are declined."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 5000, np.uint32)
    c = bits % 2 == 0
    z = ops.where(c, bits.view(np.float32), -0.0)
    np.testing.assert_array_equal(z.data.view(np.uint32), np.where(c, bits, np.float32(-0.0).view(np.uint32)))
    assert ops.where(c, np.zeros(5000, np.int32), 0.5).dtype == np.float64
    check_operation(ops.where, c, normal(5000), normal(5000, seed=1), oracle=np.where)


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_the_gpu_s_reading_in_the_emulator(how):
    c, x = normal(4100) > 0, normal(4100)
    with emulated(**how) as emulation:
        y = ops.where(c, x, 0.0)
    assert emulation.launches == 1
    np.testing.assert_array_equal(y.data, np.where(c, x, 0))


@pytest.mark.parametrize("size", [3, 5000])
def test_where_of_bfloat16_and_a_number_stays_bfloat16(size):
    x = normal(size).astype(pytest.importorskip("ml_dtypes").bfloat16)
    for y in (ops.where(x > 0, x, 0.5), ops.where(x > 0, 0.5, x)):
        assert y.dtype == x.dtype
    np.testing.assert_array_equal(ops.where(x > 0, x, 0.5).data, np.where(x > 0, x, x.dtype.type(0.5)))
