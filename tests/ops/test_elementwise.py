import operator

import numpy as np
import pytest

from minitorch_flux.autograd import Tensor
from minitorch_flux.backend import FUNCTIONS, use_kernels
from minitorch_flux.ops import arithmetic, elementary, elementwise
from minitorch_flux.ops.elementwise import either, raw
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import needs_compiler, normal, uniform

SYMBOLS = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv}
UNARY = sorted(elementwise.KERNELS - SYMBOLS.keys())
NEAR = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}


def close(got, wanted):
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    near = NEAR[wanted.dtype.name]
    np.testing.assert_allclose(got, wanted, rtol=near, atol=near)


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY)
def test_unary_kernels(name, dtype):
    f, x = FUNCTIONS[f"{name}_forward"], uniform(200, 201, low=0.1, high=3).astype(dtype)
    before = f.launches
    y = getattr(elementary, name)(x)
    assert f.launches == before + 1
    close(y.data, f.reference(x))
    getattr(elementary, name)(x[:, ::2])  # declined
    getattr(elementary, name)(x[:3])
    assert f.launches == before + 1


@needs_compiler
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30, 88.8, -104.0, 1.0, -1.0])
    for dtype in (np.float32, np.float64):
        x = np.resize(special, 20_000).astype(dtype)
        with np.errstate(all="ignore"):
            wanted = FUNCTIONS[f"{name}_forward"].reference(x)
        if name in ("sin", "cos"):
            keep = ~(np.abs(x) > 1e6)  # the argument reduction is the machine's own
            x, wanted = np.where(keep, x, 0), np.where(keep, wanted, getattr(np, name)(dtype(0)))
        np.testing.assert_allclose(getattr(elementary, name)(x).data, wanted, rtol=NEAR[x.dtype.name], atol=1e-37)


@needs_compiler
@pytest.mark.parametrize(("dtype", "n"), [(np.float16, 40_000), (np.float32, 500_000), (np.float64, 500_001)])
@pytest.mark.parametrize("name", SYMBOLS)
def test_binary_kernels(name, dtype, n):
    f, op = FUNCTIONS[f"{name}_forward"], getattr(arithmetic, name)
    x, y = (uniform(n, low=0.5, high=2, seed=i).astype(dtype) for i in (0, 1))
    for a, b in [(x, y), (x, 1.5), (2, y), (x, True)]:
        before = f.launches
        z = op(a, b)
        assert f.launches == before + 1
        close(z.data, SYMBOLS[name](a, b))
    before = f.launches
    for a, b in [(x[::2], y[::2]), (x, y.astype(np.float64 if dtype != np.float64 else np.float32)), (x, y[:1]),
                 (x[:100], y[:100]), (x.astype(np.int32), 2)]:
        np.testing.assert_allclose(op(a, b).data, SYMBOLS[name](a, b), rtol=1e-2)
    assert f.launches == before  # all declined


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gpu_s_reading_in_the_emulator(dtype, how, monkeypatch):
    monkeypatch.setattr(elementwise, "LARGE", 8)
    monkeypatch.setattr(elementwise, "PARALLEL", 2)
    x, y = uniform(7, 101, low=0.5, high=2).astype(dtype), normal(7, 101).astype(dtype)
    with emulated(**how) as emulation:
        got = [either.divide(x, y), either.subtract(1.5, y), either.multiply(x, 2), either.exp(y), either.sqrt(x)]
    assert emulation.launches == 5
    for a, b in zip(got, [x / y, 1.5 - y, x * 2, np.exp(y), np.sqrt(x)], strict=True):
        close(a, b.astype(dtype))


def test_without_kernels():
    f, x = FUNCTIONS["exp_forward"], normal(200, 200)
    before = f.launches
    with use_kernels(False):
        np.testing.assert_array_equal(elementary.exp(x).data, np.exp(x))
    assert f.launches == before


def test_either():
    x = normal(3)
    assert isinstance(either.exp(x), np.ndarray)
    assert isinstance(either.exp(Tensor(x)), Tensor)
    assert isinstance(either(elementary.exp)(Tensor(x)), Tensor)
    assert isinstance(either.multiply(x, Tensor(x)), Tensor)
    assert raw(Tensor(x)) is x
    assert raw(2.0) == 2.0
    with pytest.raises(AttributeError, match="there is no operation 'nothing'"):
        either.nothing  # noqa: B018


@needs_compiler
@pytest.mark.parametrize("size", [3, 40_000])
@pytest.mark.parametrize("name", SYMBOLS)
def test_bfloat16_with_a_number_stays_bfloat16(name, size):
    """However large the array is. NumPy, which does not know the dtype, would go on in float32 or float64."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, symbol = uniform(size, low=0.1, high=3).astype(bfloat16), SYMBOLS[name]
    for number in (1.5, 2, True):
        for kernels in (True, False):
            with use_kernels(kernels):
                for got, wanted in ((symbol(Tensor(x), number), symbol(x, x.dtype.type(number))),
                                    (symbol(number, Tensor(x)), symbol(x.dtype.type(number), x))):
                    assert got.dtype == bfloat16
                    near = 2.0**-7 * np.abs(wanted.astype(np.float32)).max()
                    np.testing.assert_allclose(got.data.astype(np.float32), wanted.astype(np.float32), rtol=0, atol=near)
