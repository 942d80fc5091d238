import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops import softmaxes
from minitorch_flux.ops.softmaxes import TILE, logsoftmax, logsumexp, softmax
from minitorch_flux.readings import KernelFile
from minitorch_flux.readings.emulator import emulated
from tests.oracles import check_against_torch, check_operation, laid_out, normal, solid_shapes

CASES = [((5,), 0), ((4, 2), 1), ((3, 70), -1), ((2, 3, 5), 1), ((6, 4), 0), ((2, 6, 3, 4), 1), ((1, 1), 1),
         ((2, 1, 3), 1), ((2, 3, TILE + 7), 1), ((3, 0), 0), ((0, 4), 1)]  # fmt: skip
FUNCTIONS = {"softmax": softmax, "logsoftmax": logsoftmax, "logsumexp": logsumexp}
INF = np.inf


def scipy_function(name):
    special = pytest.importorskip("scipy.special")
    return {"softmax": special.softmax, "logsoftmax": special.log_softmax, "logsumexp": special.logsumexp}[name]


@pytest.mark.parametrize(("shape", "axis"), CASES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_derivatives(name, shape, axis):
    x, oracle = normal(*shape), scipy_function(name) if normal(*shape).size else None
    check_operation(FUNCTIONS[name], x, axis=axis, oracle=oracle, dtypes=(np.float16, np.float32))


@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_against_torch(shape, axis):
    torch = pytest.importorskip("torch")
    x = normal(*shape)
    check_against_torch(softmax, lambda x: torch.softmax(x, axis), x, axis=axis)
    check_against_torch(logsoftmax, lambda x: torch.log_softmax(x, axis), x, axis=axis)
    check_against_torch(logsumexp, lambda x: torch.logsumexp(x, axis), x, axis=axis)


@given(shape=solid_shapes, data=st.data())
def test_any_shape_and_axis(shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    for name, f in FUNCTIONS.items():
        check_operation(f, 3 * normal(*shape), axis=axis, oracle=scipy_function(name), order=1)


def test_third_order():
    for f in FUNCTIONS.values():
        check_operation(f, normal(2, 3), order=3, tolerance=1e-5)


@pytest.mark.parametrize("axis", [None, (0, 2), (2, 1), (-1,), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_over_several_axes(axis, keepdims):
    x = normal(3, 4, 2)
    check_operation(logsumexp, x, axis=axis, keepdims=keepdims, oracle=scipy_function("logsumexp"))


# -- infinities, huge numbers, NaN -------------------------------------------------------------------------------------

LIMITS = [  # x, softmax, logsoftmax, logsumexp
    ([0, INF, 0], [0, 1, 0], [-INF, 0, -INF], INF),
    ([INF, INF, -INF], [0.5, 0.5, 0], [-np.log(2), -np.log(2), -INF], INF),
    ([-INF, 1, 1], [0, 0.5, 0.5], [-INF, -np.log(2), -np.log(2)], 1 + np.log(2)),
    ([-INF, -INF, 3], [0, 0, 1], [-INF, -INF, 0], 3),
    ([-INF, -INF, -INF], [1 / 3] * 3, [-np.log(3)] * 3, -INF),
    ([3e38, -3e38, 0], [1, 0, 0], [0, -INF, -3e38], 3e38),
    ([np.nan, 0, INF], [np.nan] * 3, [np.nan] * 3, np.nan),
]


@pytest.mark.parametrize("axis", [1, 0])
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("case", LIMITS)
def test_limits(case, kernels, axis):
    x, *wanted = (np.array(v, np.float32) for v in case)
    x = np.stack([x] * 5, axis=1 - axis)
    with use_kernels(kernels):
        got = [f(x, axis).data for f in FUNCTIONS.values()]
        slopes = [
            flux.vjp(lambda t, f=f: f(t, axis), x)[1](np.ones_like(y))
            for f, y in ((softmax, got[0]), (logsumexp, got[2]))
        ]
    for y, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(y, np.stack([w] * 5, axis=1 - axis) if w.ndim else np.full(5, w), rtol=1e-6)
    if not np.isnan(case[0][0]):
        np.testing.assert_allclose(slopes[0], 0, atol=1e-6)
        np.testing.assert_allclose(slopes[1], got[0], rtol=1e-6)


def test_huge_equal_numbers():
    for dtype in (np.float16, np.float32, np.float64):
        x = np.full((2, 4), np.finfo(dtype).max)
        np.testing.assert_allclose(softmax(x).data, 0.25)


EXPONENTIAL = """// exponential.cu -- e^x, in registers and one by one
#include "exponentials.h"
KERNEL(exponential)(const ACC* __restrict__ x, ACC* __restrict__ y, ACC* __restrict__ z, int n) {
    ROWS(r, 1, n) {
        parts(n, [&](int j, int m) { vec_store(y + j, exp_low(vec_load(x + j, m)), m); });
        LANES(j, n) z[j] = exp_low(x[j]);
    }
}
"""


@pytest.mark.parametrize(("dtype", "least"), [(np.float32, -87.33), (np.float64, -708.3)])
def test_the_exponential_is_within_a_unit_in_the_last_place(dtype, least, tmp_path):
    file = tmp_path / "exponential.cu"
    file.write_text(EXPONENTIAL)
    limits = np.array([0.0, -0.0, -1e-30, 1.5 * least, -1e30, -INF, np.nan], dtype)
    x = np.concatenate([np.linspace(least, 0, 100_003, dtype=dtype), np.array([1e-3, 1, 80], dtype), limits])
    y, z = np.empty_like(x), np.empty_like(x)
    assert KernelFile(file)("exponential", x, 1, x.size, x, y, z, x.size)
    wanted = np.exp(x[:-7].astype(np.longdouble))
    for e in (y, z):
        assert abs((e[:-7] - wanted) / np.spacing(wanted.astype(dtype))).max() < (1 if np.longdouble != np.float64 else 2)
        np.testing.assert_array_equal(e[-7:], [1, 1, 1, 0, 0, 0, np.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_rows(dtype):
    names = ["softmax_forward", "softmax_backward", "logsoftmax_forward", "logsoftmax_backward", "logsumexp_forward"]
    for width in [*range(1, 20), 31, 32, 33, 50]:
        x, dy = 3 * normal(6, width, dtype=dtype), normal(6, width, seed=1, dtype=dtype)
        x[0, -1], x[1, -1], x[2, 0], x[3, -1] = 1e4, -INF, INF, np.nan  # the largest one last, and so on
        x[4] = -300  # far below the zeros beyond the end
        for name in names:
            f = getattr(softmaxes, name)
            if name.endswith("backward"):
                y = getattr(softmaxes, name.replace("backward", "forward")).reference(x, -1)
                with np.errstate(invalid="ignore"):
                    wanted = f.reference(dy, y, -1)
                got = f(dy, y, -1)
            else:
                got, wanted = f(x, -1), f.reference(x, -1)
            tolerance = 2e-6 if dtype == np.float32 else 1e-13
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=f"{name}, width {width}")


# -- dtypes, errors, kernels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_integers_numbers_and_wrong_axes(name):
    f = FUNCTIONS[name]
    assert f(np.arange(6).reshape(2, 3)).dtype == np.float64
    np.testing.assert_allclose(f([[1, 2, 3]]).data, scipy_function(name)([[1, 2, 3]], axis=-1))
    with pytest.raises(IndexError, match=rf"{name}: there is no axis -1 in an array of shape \(\), which has no axes"):
        f(1.0)
    with pytest.raises(ValueError, match=rf"{name}: there is no axis 2 in an array of shape \(2, 3\)"):
        f(np.zeros((2, 3)), 2)


def test_logsumexp_of_nothing_is_minus_infinity():
    assert logsumexp(np.zeros((2, 0))).data.tolist() == [-INF, -INF]
    assert logsumexp(np.zeros((2, 0), np.float32)).dtype == np.float32


def test_kernels_run_along_any_axis():
    x = normal(4, 6, 5, dtype=np.float32)
    names = ["softmax_forward", "softmax_backward", "logsoftmax_forward", "logsoftmax_backward", "logsumexp_forward"]
    for name in names:
        f = getattr(softmaxes, name)
        inputs = (x, x) if name.endswith("backward") else (x,)
        for axis in (0, 1, 2, -1):
            before = f.launches
            f(*inputs, axis)
            assert f.launches == before + 1
        before = f.launches
        f(*(laid_out(a, "Fortran-ordered") for a in inputs), 1)
        assert f.launches == before + 1, "copied"
        f(*(a[:0] for a in inputs), 1)
        assert f.launches == before + 1


@pytest.mark.parametrize("options", [{}, {"lanes": 64, "grid": 2}, {"backwards": True}])
def test_in_the_emulator(options):
    for shape, axis in (((5, 70), 1), ((2, 3, 41), 1)):
        x, dy = normal(*shape, dtype=np.float32), normal(*shape, seed=1, dtype=np.float32)
        with emulated(**options) as count:
            for name in ("softmax", "logsoftmax"):
                forward, backward = (getattr(softmaxes, f"{name}_{way}") for way in ("forward", "backward"))
                y = forward(x, axis)
                np.testing.assert_allclose(y, forward.reference(x, axis), atol=1e-6)
                np.testing.assert_allclose(backward(dy, y, axis), backward.reference(dy, y, axis), atol=1e-5)
            lse = softmaxes.logsumexp_forward
            np.testing.assert_allclose(lse(x, axis), lse.reference(x, axis), atol=1e-5)
        assert count.launches == 5


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address", "thread"])
def test_under_the_sanitizers(sanitize):
    for shape, axis in (((3, 70), 1), ((2, 3, 41), 1)):
        x = normal(*shape, dtype=np.float32)
        with emulated(sanitize=sanitize):
            y = softmaxes.softmax_forward(x, axis)
            softmaxes.softmax_backward(x, y, axis)
            y = softmaxes.logsoftmax_forward(x, axis)
            softmaxes.logsoftmax_backward(x, y, axis)
            softmaxes.logsumexp_forward(x, axis)
