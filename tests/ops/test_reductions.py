import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor, gradient, tensor
from minitorch_flux.ops import reductions as ops
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import (
    HAS_COMPILER,
    apart,
    axes_of,
    check_against_torch,
    check_operation,
    needs_compiler,
    normal,
    shapes,
    solid_shapes,
)

nan = np.nan
NAMES = ["sum", "mean", "prod"]


def numpys(name):
    return lambda x, **keywords: np.asarray(getattr(np, name)(x, **keywords))


@st.composite
def cases(draw, sizes=shapes):
    shape = draw(sizes)
    return shape, draw(axes_of(len(shape))), draw(st.booleans())


@pytest.mark.parametrize("name", ["sum", "prod"])
@given(case=cases())
def test_sum_and_prod(name, case):
    shape, axis, keepdims = case
    check_operation(getattr(ops, name), normal(*shape), axis=axis, keepdims=keepdims, oracle=numpys(name),
                    dtypes=(np.float16, np.float32))


@given(case=cases(solid_shapes))
def test_mean(case):
    shape, axis, keepdims = case
    check_operation(ops.mean, normal(*shape), axis=axis, keepdims=keepdims, oracle=numpys("mean"),
                    dtypes=(np.float16, np.float32))


@pytest.mark.parametrize("name", ["any", "all", "count_nonzero"])
@given(case=cases())
def test_truth(name, case):
    shape, axis, keepdims = case
    for x in (np.round(normal(*shape) / 2), normal(*shape) > 0, np.round(normal(*shape)).astype(int)):
        check_operation(getattr(ops, name), x, axis=axis, keepdims=keepdims, oracle=numpys(name), order=0, dtypes=())


@pytest.mark.parametrize("name", ["sum", "mean"])
def test_against_torch(name):
    torch = pytest.importorskip("torch")
    check_against_torch(getattr(ops, name), lambda x: getattr(torch, name)(x, dim=(0, 2)), normal(3, 4, 5), axis=(0, 2))


def test_methods_and_positional_axis():
    x = normal(2, 3, 4)
    for name in [*NAMES, "any", "all"]:
        np.testing.assert_allclose(getattr(Tensor(x), name)(1).data, getattr(x, name)(1))
        np.testing.assert_allclose(getattr(Tensor(x), name)(axis=-1, keepdims=True).data,
                                   getattr(x, name)(axis=-1, keepdims=True))
    assert Tensor(x).sum([0, 2]).shape == (3,)  # lists are as good as tuples


@pytest.mark.parametrize("name", ["sum", "prod", "mean"])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64, np.float16, np.float32])
def test_dtypes_as_in_numpy(name, dtype):
    x = np.ones((3, 2), dtype)
    assert getattr(ops, name)(x, 0).dtype == getattr(x, name)(0).dtype
    assert getattr(ops, name)(x, ()).dtype == getattr(x, name)(()).dtype


def test_half_accumulates_in_float32():
    x = np.full(4096, 0.1, np.float16)
    wanted = x.astype(np.float64)
    for axis, a in ((None, x), (0, x[:, None] * np.ones(3, np.float16))):
        np.testing.assert_allclose(ops.sum(a, axis).data, wanted.sum(), rtol=1e-3)
        np.testing.assert_allclose(ops.mean(a, axis).data, wanted.mean(), rtol=1e-3)
    assert ops.mean(np.full(100_000, 100, np.float16)).item() == 100  # whose sum float16 cannot hold


def test_empty():
    assert ops.sum(np.zeros((0, 3)), 0).tolist() == [0, 0, 0]
    assert ops.prod(np.zeros((3, 0)), 1).tolist() == [1, 1, 1]
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(ops.mean(np.zeros((0, 2)), 0).data).all()


@pytest.mark.parametrize("name", [*NAMES, "any", "count_nonzero"])
def test_wrong_axis(name):
    f = getattr(ops, name)
    for kind in (np.exceptions.AxisError, ValueError, IndexError):
        with pytest.raises(kind, match=rf"{name}: there is no axis 2 in an array of shape \(2, 3\)"):
            f(np.ones((2, 3)), 2)
    with pytest.raises(TypeError, match=f"{name}: an axis is an integer"):
        f(np.ones((2, 3)), 1.5)
    with pytest.raises(ValueError, match=f"{name}: axes .* name an axis twice"):
        f(np.ones((2, 3)), (0, -2))


@pytest.mark.parametrize("zeros", [[(0, 1)], [(0, 1), (0, 2)], [(0, 0), (1, 0), (2, 0), (0, 2)], []])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_prod_with_zeros(zeros, axis):
    x = normal(3, 4) + 2
    for at in zeros:
        x[at] = 0
    check_operation(ops.prod, x, axis=axis, oracle=numpys("prod"), order=3)


def test_prod_gradient_does_not_divide():
    """The product is 0 by underflow; a quotient with it would be 0 as well."""
    np.testing.assert_allclose(gradient(lambda x: ops.prod(x), np.array([1e-170, 1e-170, 1e170])), [1, 1, 0])


def test_nothing_is_cut_off():
    """A reduction of a reduction, differentiated three times."""
    check_operation(lambda x: (ops.mean(x * x, 0) * ops.sum(x, 1, keepdims=True)).max(1), apart(2, 3), order=3)


def test_sum_of_an_outer_scope():
    x = tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x.sum() * x.mean()).backward()
    np.testing.assert_allclose(x.grad, [4.0, 4.0, 4.0])


# -- large arrays, where kernels run -----------------------------------------------------------------------------------

LARGE = [
    ((300, 400), None), ((300, 400), 0), ((300, 400), 1), ((40, 30, 100), 1), ((40, 30, 100), (0, 2)),
    ((8, 16, 30, 31), (0, 2, 3)), ((8, 16, 30, 31), (2, 3)), ((8, 16, 30, 31), (1,)), ((5, 7, 30, 4, 31), (0, 2, 4)),
    ((100_000, 3), 0), ((3, 100_000), 1), ((100_000, 1), 0), ((1, 100_000), 0),
]


@pytest.mark.parametrize(("shape", "axis"), LARGE)
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_large(name, shape, axis):
    check_operation(getattr(ops, name), normal(*shape), axis=axis, oracle=numpys(name), order=1, dtypes=())
    for dtype, near in ((np.float32, 2e-6 if HAS_COMPILER else 1e-5), (np.float16, 1e-3)):
        x = normal(*shape).astype(dtype)
        y = getattr(ops, name)(x, axis)
        wanted = getattr(np, name)(x.astype(np.float64), axis)
        assert y.dtype == dtype
        scale = np.sqrt(x.size / max(wanted.size, 1)) if name == "sum" else 1
        np.testing.assert_allclose(y.data, wanted, rtol=near, atol=near * scale)


def test_the_same_bits_every_time():
    x = normal(8, 64, 1000).astype(np.float32)
    for axis in (None, 0, (0, 2), 1):
        first = ops.sum(x, axis).data.tobytes()
        assert all(ops.sum(x, axis).data.tobytes() == first for _ in range(5))


@needs_compiler
@pytest.mark.parametrize(("shape", "axis"), LARGE[:-1])  # of the last one nothing is added up
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sum_kernels(shape, axis, dtype):
    f, x = ops.sum_forward, normal(*shape).astype(dtype)
    axes = ops.axes_of("sum", axis, Tensor(x))
    near = {np.float16: 2e-3, np.float32: 1e-5, np.float64: 1e-12}[dtype]
    for keepdims in (False, True):
        before = f.launches
        y = f(x, axes, keepdims)
        assert f.launches > before
        wanted = f.reference(x.astype(np.float64), axes, keepdims)
        assert y.shape == wanted.shape
        assert y.dtype == dtype
        np.testing.assert_allclose(y, wanted, rtol=near, atol=near * np.sqrt(x.size / y.size))


def test_declined_sums():
    f, x = ops.sum_forward, normal(300, 400)
    before = f.launches
    for y, wanted in [(f(x[:, ::2], (0,)), x[:, ::2].sum(0)), (f(x, ()), x), (f(x[:, :, None], (2,)), x),
                      (f(x.T, (0,)), x.T.sum(0)), (f(x[:2], (0,)), x[:2].sum(0)),
                      (f(np.ones((300, 400), int), (0,)), np.full(400, 300))]:
        np.testing.assert_allclose(y, wanted)
    assert f.launches == before


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gpu_s_reading_in_the_emulator(dtype, how, monkeypatch):
    monkeypatch.setattr(ops, "FEW", 64)
    cases = [((5, 70), (1,)), ((70, 5), (0,)), ((3, 70, 5), (1,)), ((2, 3, 4, 5), (0, 2, 3)), ((9000,), (0,)),
             ((600, 3), (0,)), ((5, 2, 1100), (1,))]
    with emulated(**how) as emulation:
        got = [ops.sum_forward(normal(*shape).astype(dtype), axis) for shape, axis in cases]
    assert emulation.launches >= len(cases)
    for y, (shape, axis) in zip(got, cases, strict=True):
        np.testing.assert_allclose(y, normal(*shape).sum(axis), rtol=1e-4, atol=1e-4)
