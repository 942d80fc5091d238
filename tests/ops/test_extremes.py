"""The largest and smallest elements, and their places, against NumPy and PyTorch; kernels and references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor, gradient
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import extremes as ops
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import apart, axes_of, check_against_torch, check_operation, needs_compiler, normal, solid_shapes

nan = np.nan
BFLOAT16 = pytest.importorskip("ml_dtypes").bfloat16


def numpys(name):
    return lambda x, **keywords: np.asarray(getattr(np, name)(x, **keywords))


@pytest.mark.parametrize("name", ["max", "min"])
@given(shape=solid_shapes, keepdims=st.booleans(), data=st.data())
def test_max_and_min(name, shape, keepdims, data):
    axis = data.draw(axes_of(len(shape)))
    check_operation(getattr(ops, name), apart(*shape), axis=axis, keepdims=keepdims, oracle=numpys(name),
                    dtypes=(np.float16, np.float32))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@given(shape=solid_shapes, keepdims=st.booleans(), data=st.data())
def test_argmax_and_argmin(name, shape, keepdims, data):
    axis = data.draw(axes_of(len(shape), several=False))
    x = np.round(normal(*shape))  # with ties
    check_operation(getattr(ops, name), x, axis=axis, keepdims=keepdims, oracle=numpys(name), dtypes=())
    assert getattr(Tensor(x), name)(axis).dtype == np.int64


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_against_torch(name):
    torch = pytest.importorskip("torch")
    check_against_torch(getattr(ops, name), lambda x: getattr(torch, name)(x, dim=(0, 2)), apart(3, 4, 5), axis=(0, 2))


def test_methods_and_positional_axis():
    x = normal(2, 3, 4)
    for name in ("max", "min", "argmax", "argmin"):
        np.testing.assert_allclose(getattr(Tensor(x), name)(1).data, getattr(x, name)(1))
        np.testing.assert_allclose(getattr(Tensor(x), name)(axis=-1, keepdims=True).data,
                                   getattr(x, name)(axis=-1, keepdims=True))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64, np.float16, np.float32])
def test_dtypes_as_in_numpy(dtype):
    x = np.ones((3, 2), dtype)
    for axis in (0, ()):
        assert ops.max(x, axis).dtype == x.max(axis).dtype


def test_nothing_to_choose_from():
    assert ops.max(np.zeros((0, 3)), 1).shape == (0,)
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ValueError, match=rf"{name}: no elements to choose from over axis 0 .* shape \(0, 3\)"):
            getattr(ops, name)(np.zeros((0, 3)), 0)
        with pytest.raises(ValueError, match=f"{name}: no elements to choose from over axis None"):
            getattr(ops, name)(np.zeros((0, 3)))


@pytest.mark.parametrize("name", ["max", "argmax", "argmin"])
def test_wrong_axis(name):
    f = getattr(ops, name)
    for kind in (np.exceptions.AxisError, ValueError, IndexError):
        with pytest.raises(kind, match=rf"{name}: there is no axis 2 in an array of shape \(2, 3\)"):
            f(np.ones((2, 3)), 2)
    with pytest.raises(TypeError, match=f"{name}: an axis is an integer"):
        f(np.ones((2, 3)), 1.5)
    if name == "max":
        with pytest.raises(ValueError, match=f"{name}: axes .* name an axis twice"):
            f(np.ones((2, 3)), (0, -2))


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_go_to_the_first_and_nan_wins(name):
    f = getattr(ops, name)
    x = np.array([[2.0, 2.0, 2.0], [nan, 1.0, nan]])
    np.testing.assert_array_equal(f(x, 1).data, getattr(x, name)(1))
    np.testing.assert_array_equal(gradient(lambda x: f(x, 1).sum(), x), [[1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(gradient(lambda x: f(x[:1], (0, 1)), x), [[1, 0, 0], [0, 0, 0]])
    assert Tensor(x).argmax(1).tolist() == [0, 0]


# -- large arrays, where kernels run -----------------------------------------------------------------------------------

LARGE = [
    ((200, 100), (1,)), ((200, 100), (0,)), ((200, 100), (0, 1)), ((30, 20, 40), (1,)), ((3, 5, 40, 31), (2, 3)),
    ((40_000, 3), (0,)), ((3, 20_000), (1,)), ((17_000,), (0,)), ((6, 3000, 1, 2), (1, 2)), ((40, 1, 500), (0,)),
    ((2, 700, 20), (1,)), ((1, 5, 4000), (1, 2)),
]
FUNCTIONS = [ops.max_forward, ops.min_forward, ops.argmax_forward, ops.argmin_forward]


def values(shape, dtype, kind):
    """Numbers with many equal ones; with NaN; all NaN or infinite."""
    x = np.round(normal(*shape) * 3)
    if kind == "NaN":
        x.reshape(-1)[7::997] = nan
    elif kind == "infinite":
        x[...] = -np.inf
        x[..., 1:] = np.inf
    return x.astype(dtype)


@needs_compiler
@pytest.mark.parametrize(("shape", "axis"), LARGE, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64])
def test_kernels_equal_references(shape, axis, dtype):
    for kind in ("equal", "NaN", "infinite"):
        x = values(shape, dtype, kind)
        for f in FUNCTIONS:
            before = f.launches
            with np.errstate(invalid="ignore"):  # ml_dtypes' NaN
                y = f(x, axis)
            if f in FUNCTIONS[2:] or axis[-1] == len(shape) - 1:
                assert f.launches > before
            with use_kernels(False), np.errstate(invalid="ignore"):
                wanted = f(x, axis)
            assert (y.dtype, y.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_array_equal(y.astype(np.float64), wanted.astype(np.float64), f.name)
    assert ops.max_forward(x, axis, True).shape == x.max(axis, keepdims=True).shape


@needs_compiler
@pytest.mark.parametrize(("shape", "axis"), LARGE, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_place_kernels(shape, axis, dtype):
    index = ops.argmax_forward(normal(*shape), axis)
    y = normal(*index.shape).astype(dtype)
    before = ops.place_forward.launches
    x = ops.place_forward(y, index, axis, shape)
    assert ops.place_forward.launches == before + 1
    np.testing.assert_array_equal(x, ops.place_forward.reference(y, index, axis, shape))
    assert x.dtype == dtype


@needs_compiler
def test_the_gradient_of_a_large_maximum():
    x = normal(64, 300)
    dx = gradient(lambda x: (ops.max(x, 1) ** 2).sum(), x)
    wanted = np.where(x == x.max(1, keepdims=True), 2 * x, 0)
    np.testing.assert_allclose(dx, wanted)


def test_declined():
    x = normal(200, 100)
    before = [f.launches for f in FUNCTIONS]
    for y, axis in ((x[:, ::2], (0,)), (x.T, (0,)), (x[:20], (0,)), (np.round(x).astype(int), (0,)), (x, ()),
                    (x.reshape(20, 10, 100), (0, 2)), (x.reshape(10000, 2), (1,))):
        for f in FUNCTIONS:
            np.testing.assert_array_equal(f(y, axis), f.reference(y, axis))
    assert [f.launches for f in FUNCTIONS] == before


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how, monkeypatch):
    for name, value in {"FEW": 1, "SHORT": 1, "TILE": 33, "PART": 40, "ROWS": 4}.items():
        monkeypatch.setattr(ops, name, value)
    for shape, axis in (((5, 70), (1,)), ((3, 100), (1,)), ((70, 5), (0,)), ((2, 130, 40), (1,)), ((2, 9, 3), (1,))):
        x = values(shape, np.float32, "NaN")
        with use_kernels(False):
            wanted = [f(x, axis) for f in FUNCTIONS]
            placed = ops.place_forward(wanted[0], wanted[2], axis, shape)
        with emulated(**how) as emulation:
            got = [f(x, axis) for f in FUNCTIONS]
            back = ops.place_forward(wanted[0], wanted[2], axis, shape)
        assert emulation.launches >= 3
        for y, w in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(y, w)
        np.testing.assert_array_equal(back, placed)
