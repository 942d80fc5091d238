import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor
from minitorch_flux.ops import scans as ops
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import axes_of, check_against_torch, check_operation, needs_compiler, normal, shapes, uniform


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@given(shape=shapes, data=st.data())
def test_scans(name, shape, data):
    axis = data.draw(axes_of(len(shape), several=False))
    check_operation(getattr(ops, name), normal(*shape), axis=axis, oracle=getattr(np, name),
                    dtypes=(np.float16, np.float32))


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_against_torch(name):
    torch = pytest.importorskip("torch")
    check_against_torch(getattr(ops, name), lambda x: getattr(torch, name)(x, 1), normal(3, 4, 2), axis=1)


@pytest.mark.parametrize("zeros", [[], [0], [1, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("axis", [0, 1])
def test_cumprod_with_zeros(zeros, axis):
    x = normal(4, 4) + 1
    x[zeros, 1] = x[1, zeros] = 0
    check_operation(ops.cumprod, x, axis=axis, oracle=np.cumprod, order=3)


def naive_products_before(x, axis, reverse=False):
    x = np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]
    y = np.stack([x[:i].prod(0) for i in range(len(x))])[:: -1 if reverse else 1]
    return np.moveaxis(y, 0, axis)


def naive_recurrence(a, b, axis, reverse=False):
    order = slice(None, None, -1 if reverse else 1)
    a, b = np.moveaxis(a, axis, 0)[order], np.moveaxis(b, axis, 0)[order]
    s = [b[0]]
    for i in range(1, len(b)):
        s.append(b[i] + a[i] * s[-1])
    return np.moveaxis(np.stack(s)[order], 0, axis)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((4,), 0), ((1,), 0), ((2, 3), 1), ((3, 2, 2), 0), ((2, 3, 2), 1)])
def test_products_before_and_recurrence(shape, axis, reverse):
    a, b = normal(*shape), normal(*shape, seed=1)
    check_operation(ops.products_before, a, axis=axis, reverse=reverse, oracle=naive_products_before, order=3)
    check_operation(ops.recurrence, a, b, axis=axis, reverse=reverse, oracle=naive_recurrence, order=3)


def test_the_last_factor_of_a_recurrence_before_the_first_does_not_matter():
    """a_0 multiplies nothing, not even NaN."""
    a = np.array([np.nan, 2.0])
    np.testing.assert_array_equal(ops.recurrence(a, np.ones(2), axis=0).data, [1, 3])


@pytest.mark.parametrize("shape", [(100, 300), (3, 20_000), (20_000, 3), (40, 50, 60)])
def test_large(shape):
    for axis in range(len(shape)):
        x = 1 + 0.01 * normal(*shape)
        check_operation(ops.cumprod, x, axis=axis, oracle=np.cumprod, order=1, dtypes=(), tolerance=1e-5, step=1e-7)
        check_operation(ops.cumsum, x, axis=axis, oracle=np.cumsum, order=1, dtypes=())


def test_dtypes_as_in_numpy():
    for dtype in (bool, np.int8, np.uint8, np.int64, np.float16, np.float32):
        x = np.ones((2, 3), dtype)
        for name in ("cumsum", "cumprod"):
            assert getattr(Tensor(x), name)(1).dtype == getattr(x, name)(1).dtype


def test_half_accumulates_in_float32():
    x = np.full(4096, 0.1, np.float16)
    assert abs(ops.cumsum(x, 0).data[-1] - x.astype(float).sum()) < 0.5


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_wrong_axis(name):
    with pytest.raises(np.exceptions.AxisError, match=rf"{name}: there is no axis -3 in an array of shape \(2, 3\)"):
        getattr(ops, name)(np.ones((2, 3)), -3)
    with pytest.raises(TypeError, match=f"{name}: an axis is an integer"):
        getattr(ops, name)(np.ones((2, 3)), (0, 1))


# -- the kernels -------------------------------------------------------------------------------------------------------


SCANS = ops.cumsum_forward, ops.cumprod_forward


def all_scans(x, of=lambda f: f):
    return [of(f)(x, axis, reverse) for f in SCANS for axis in range(x.ndim) for reverse in (False, True)]


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scan_kernels(dtype, monkeypatch):
    monkeypatch.setattr(ops, "FEW", 1)
    near = {np.float16: 2e-2, np.float32: 1e-5, np.float64: 1e-13}[dtype]
    for shape in [(5, 6, 7), (2, 3, 37), (3, 33, 1), (2, 1, 1025)]:
        x = uniform(*shape, low=0.8).astype(dtype)
        before = [f.launches for f in SCANS]
        got = all_scans(x)
        assert [f.launches - b for f, b in zip(SCANS, before, strict=True)] == [6, 6]
        for y, z in zip(got, all_scans(x, lambda f: f.reference), strict=True):
            assert y.dtype == dtype
            np.testing.assert_allclose(y, z, rtol=near, atol=near)
    x = np.ones((2, 40), dtype)
    x[0, 20] = np.nan
    for reverse in (False, True):
        np.testing.assert_array_equal(ops.cumsum_forward(x, 1, reverse), ops.cumsum_forward.reference(x, 1, reverse))


def test_few_and_integers_are_numpy_s():
    before = ops.cumsum_forward.launches
    ops.cumsum_forward(normal(ops.FEW - 1), 0)
    ops.cumsum_forward(np.ones(ops.FEW, int), 0)
    assert ops.cumsum_forward.launches == before


@needs_compiler
@pytest.mark.parametrize("how", [{}, {"lanes": 64, "grid": 2}, {"lanes": 64, "sanitize": "thread"}], ids=str)
def test_scans_in_the_emulator(how, monkeypatch):
    monkeypatch.setattr(ops, "FEW", 1)
    x = uniform(3, 5, 70, low=0.8).astype(np.float32)
    with emulated(**how) as emulation:
        got = all_scans(x)
    assert emulation.launches == 12
    for y, z in zip(got, all_scans(x, lambda f: f.reference), strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_recurrence_kernel(dtype, reverse):
    f, near = ops.recurrence_forward, {np.float16: 1e-2, np.float32: 1e-5, np.float64: 1e-13}[dtype]
    for shape in [(5, 6, 7), (1, 40, 1), (3, 0, 2), (0, 3, 2), (2, 3, 0)]:
        a, b = uniform(*shape, low=-1).astype(dtype), normal(*shape).astype(dtype)
        for axis in range(3):
            before = f.launches
            s = f(a, b, axis, reverse)
            assert f.launches == before + 1
            assert s.dtype == dtype
            np.testing.assert_allclose(s, f.reference(a, b, axis, reverse), rtol=near, atol=near)
    before = f.launches
    f(np.ones(3, np.float32), np.ones(3), 0)
    assert f.launches == before
    f(np.ones((3, 4))[:, ::2], np.ones((3, 2)), 0)
    assert f.launches == before + 1, "copied"


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gpu_s_reading_in_the_emulator(dtype, how):
    a, b = uniform(5, 6, 7, low=-1).astype(dtype), normal(5, 6, 7).astype(dtype)
    with emulated(**how) as emulation:
        got = [ops.recurrence_forward(a, b, axis, reverse) for axis in range(3) for reverse in (False, True)]
    assert emulation.launches == 6
    wanted = [ops.recurrence_forward.reference(a, b, axis, reverse) for axis in range(3) for reverse in (False, True)]
    for s, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(s, w, rtol=1e-5, atol=1e-5)
