import math

import numpy as np
import pytest

from minitorch_flux.ops.special import erf, erf_forward, xlogy
from tests.oracles import SHAPES, check_against_torch, check_operation, normal, uniform

X = np.concatenate([np.linspace(-7, 7, 2001), [0.46875, -0.46875, 4.0, -4.0, 1e-300, -1e-12, np.inf, -np.inf]])


def test_erf_is_accurate():
    wanted = np.array([math.erf(x) for x in X])
    np.testing.assert_allclose(erf_forward.reference(X), wanted, rtol=1e-15, atol=4e-16)
    np.testing.assert_allclose(erf(X).data, wanted, rtol=1e-15, atol=4e-16)
    np.testing.assert_allclose(erf(X.astype(np.float32)).data, wanted, rtol=4e-7, atol=1e-7)
    np.testing.assert_allclose(erf_forward.reference(X.astype(np.float32)), wanted, rtol=4e-7, atol=3e-7)


def test_erf_keeps_nan_the_sign_of_zero_and_the_dtype():
    y = erf(np.array([np.nan, 0.0, -0.0], np.float32)).data
    assert np.isnan(y[0])
    assert list(np.signbit(y[1:])) == [False, True]
    for dtype in (np.float16, np.float32, np.float64):
        assert erf(np.ones(3, dtype)).dtype == dtype
    assert erf(np.arange(3)).dtype == np.float64
    assert float(erf(1)) == pytest.approx(math.erf(1), abs=1e-15)


def test_erf_runs_its_kernel():
    before = erf_forward.launches
    erf(np.ones(3, np.float32))
    assert erf_forward.launches == before + 1
    erf_forward(np.ones((3, 4), np.float32).T)
    assert erf_forward.launches == before + 2, "copied"


@pytest.mark.parametrize("shape", SHAPES)
def test_erf_derivatives(shape):
    check_operation(erf, 2 * normal(*shape), dtypes=(np.float16, np.float32))


def test_erf_slope_far_out_is_zero():
    import minitorch_flux as flux

    for x in (1e30, np.inf):
        assert flux.gradient(lambda t: erf(t).sum(), np.array([x, -x])).tolist() == [0, 0]


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2,)), ((0,), (1,))])
def test_xlogy(shapes):
    special = pytest.importorskip("scipy.special")
    x, y = uniform(*shapes[0], low=0.2, high=2), uniform(*shapes[1], low=0.2, high=2, seed=1)
    check_operation(xlogy, x, y, oracle=special.xlogy)


def test_xlogy_against_torch():
    torch = pytest.importorskip("torch")
    x = np.array([0.0, 0.0, 0.5, 2.0])
    check_against_torch(xlogy, torch.xlogy, x, np.array([0.5, 3.0, 1.0, 4.0]))


def test_xlogy_is_zero_where_x_is_whatever_y_is():
    import minitorch_flux as flux

    x, y = np.zeros(4), np.array([0.0, np.inf, np.nan, -1.0])
    assert xlogy(x, y).data.tolist() == [0, 0, 0, 0]
    dy = flux.gradient(lambda t: xlogy(x, t).sum(), y)
    assert dy.tolist() == [0, 0, 0, 0]
    assert flux.gradient(lambda t: xlogy(t, np.zeros(1)).sum(), np.zeros(1)).tolist() == [0]
