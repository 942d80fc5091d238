import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.backend.generator import Generator
from minitorch_flux.ops.irregular_activations import glu, rrelu
from tests.oracles import apart, check_against_torch, check_operation, normal

X = apart(6, 50)


def slopes(y, x=X):
    return (y.data / x)[x < 0]


def test_rrelu_is_a_fixed_leakyrelu_outside_a_recording_scope():
    np.testing.assert_allclose(slopes(rrelu(X)), (1 / 8 + 1 / 3) / 2)
    np.testing.assert_allclose(slopes(rrelu(X, 0.2, 0.6)), 0.4)
    np.testing.assert_array_equal(rrelu(X).data[X > 0], X[X > 0])
    check_operation(rrelu, X, active=False)
    check_against_torch(rrelu, pytest.importorskip("torch").nn.functional.rrelu, X, active=False)


def test_rrelu_draws_inside_one():
    with flux.record():
        a = slopes(rrelu(X, 0.2, 0.6, rng=Generator(0)))
        assert len(np.unique(slopes(rrelu(X, active=False)).round(12))) == 1
        with flux.no_grad():
            assert len(np.unique(slopes(rrelu(X)).round(12))) == 1
    assert 0.2 <= a.min() < 0.22
    assert 0.58 < a.max() <= 0.6
    assert len(np.unique(a)) == len(a)


def test_rrelu_draws_evenly_and_repeatably():
    x = -np.ones(20000, np.float32)
    y = rrelu(x, active=True, rng=Generator(3))
    assert y.dtype == np.float32
    assert abs(float(y.data.mean()) + 11 / 48) < 5 * (5 / 24) / np.sqrt(12 * 20000)
    np.testing.assert_array_equal(y.data, rrelu(x, active=True, rng=Generator(3)).data)
    flux_seeded = rrelu(x, active=True, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(flux_seeded.data, rrelu(x, active=True, rng=np.random.default_rng(0)).data)


def test_rrelu_derivatives():
    check_operation(lambda x: rrelu(x, active=True, rng=Generator(5)), apart(3, 4), dtypes=())
    dy = flux.gradient(lambda x: rrelu(x, active=True).sum(), np.array([0.0, 2.0]))
    assert 1 / 8 <= dy[0] < 1 / 3, "at 0 the slope of the left side"
    assert dy[1] == 1


def test_rrelu_dtypes_and_errors():
    for dtype in (np.float16, np.float32, np.float64):
        assert rrelu(X.astype(dtype), active=True).dtype == dtype
    assert rrelu(np.arange(-3, 3)).dtype == np.float64
    assert np.isnan(rrelu(np.array([np.nan]), active=True).data).all()
    assert rrelu(np.zeros((2, 0)), active=True).shape == (2, 0)
    with pytest.raises(ValueError, match="rrelu: lower must not be greater than upper, got 0.5 and 0.1"):
        rrelu(X, 0.5, 0.1)


HALVES = [((4,), -1), ((3, 6), 1), ((2, 6, 3), 1), ((4, 3), 0), ((0, 2), 1), ((2, 0), 1)]


@pytest.mark.parametrize(("shape", "axis"), HALVES)
def test_glu(shape, axis):
    torch = pytest.importorskip("torch")
    check_operation(glu, normal(*shape), axis=axis)
    check_against_torch(lambda x: glu(x, axis), lambda x: torch.nn.functional.glu(x, axis), normal(*shape))


def test_glu_errors():
    with pytest.raises(ValueError, match=r"glu: axis 1 has size 3 \(shape \(2, 3\)\), which cannot be halved"):
        glu(np.zeros((2, 3)))
    with pytest.raises(IndexError, match="glu: there is no axis 2"):
        glu(np.zeros((2, 4)), 2)
