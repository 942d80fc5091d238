"""Pooling by the p-norm against nested loops and PyTorch; kernels and references."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.geometry import window
from minitorch_flux.ops.lp_pooling import lp_pool_backward, lp_pool_forward, lpnormpool
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.ops.pooling_cases import CASES, DILATED, collected, windows
from tests.oracles import apart, check_against_torch, check_operation, needs_compiler, normal


def slow_lpnormpool(x, k, p, **options):
    def norm(inside):
        return sum((np.abs(x[(slice(None), slice(None), *at)]) ** p for at in inside), np.zeros(x.shape[:2])) ** (1 / p)

    return collected(x, ((place, norm(inside)) for place, inside, _ in windows(x, k, **options)))


@pytest.mark.parametrize("p", [1, 2, 3.5, 0.7])
def test_values_and_gradients(p):
    check_operation(lpnormpool, apart(2, 2, 5, 6), oracle=slow_lpnormpool, k=(2, 3), p=p, stride=1, tolerance=3e-6)


@pytest.mark.parametrize("case", ["ceil and pad", "3-d", "no images", *DILATED])
def test_other_windows(case):
    shape, k, options = (CASES | DILATED)[case]
    check_operation(lpnormpool, apart(*shape), oracle=slow_lpnormpool if shape[0] else None, k=k, p=3, **options)


@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_against_torch(p):
    F = pytest.importorskip("torch").nn.functional
    check_against_torch(lambda x: lpnormpool(x, 2, p), lambda x: F.lp_pool2d(x.abs(), p, 2), apart(2, 2, 4, 6))
    check_against_torch(lambda x: lpnormpool(x, (3,), p, stride=2), lambda x: F.lp_pool1d(x.abs(), p, 3, 2), apart(2, 3, 9))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("p", [1, 2, 3.5, 0.5])
def test_the_slope_at_zero_is_zero(p, kernels):
    for values in (np.zeros(2), np.array([0.0, 2.0])):
        x = flux.tensor(values.reshape(1, 1, 2), requires_grad=True)
        with use_kernels(kernels):
            lpnormpool(x, (2,), p).sum().backward()
        np.testing.assert_allclose(x.grad[0, 0], np.sign(values), atol=1e-12)


def test_nan_stays():
    x = flux.tensor(np.array([[[1.0, np.nan, 3.0, 4.0]]]), requires_grad=True)
    y = lpnormpool(x, (2,), 3)
    y.sum().backward()
    assert np.isnan(y.data).tolist() == [[[True, False]]]
    assert np.isnan(x.grad).tolist() == [[[True, True, False, False]]]


def test_other_dtypes():
    x = np.array([[[3, 4, 6, 8]]])
    assert lpnormpool(x, (2,), 2).data.tolist() == [[[5, 10]]]
    assert lpnormpool(x, (2,), 2).dtype == np.float64
    assert lpnormpool(np.full((1, 1, 10000), 1, np.float16), (10000,), 2).data.item() == 100


BFLOAT16 = pytest.importorskip("ml_dtypes").bfloat16


def both(x, dy, box, p):
    y = lp_pool_forward(x, box, p)
    return y, lp_pool_backward(dy, x, y, box, p)


@needs_compiler
@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 3), st.sampled_from([1, 2, 3]),
    st.integers(1, 3), st.sampled_from([1, 2, 3]), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2),
    st.sampled_from([1, 2, 3.5]), st.sampled_from([np.float32, np.float64, np.float16, BFLOAT16]),
)
def test_kernels_equal_references(n, h, w, kh, kw, sh, sw, dilation, lo, hi, p, dtype):
    box = window("w", (kh, kw), (sh, sw), ((lo, hi), (hi, lo)), dilation)
    assume(all(i + lo + hi >= s for i, s in zip((h, w), box.span, strict=True)))
    x = np.round(normal(n, 2, h, w)).astype(dtype)  # with zeros
    dy = normal(n, 2, *box.output_size((h, w)), seed=1).astype(dtype)
    before = lp_pool_forward.launches, lp_pool_backward.launches
    got = both(x, dy, box, p)
    assert (lp_pool_forward.launches, lp_pool_backward.launches) == (before[0] + 1, before[1] + 1)
    with use_kernels(False):
        wanted = both(x, dy, box, p)
    near = {np.float32: 3e-6, np.float64: 1e-14, np.float16: 4e-3, BFLOAT16: 3e-2}[dtype]
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=near, atol=near)


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how):
    for (shape, k, options), p in (CASES["overlapping"], 2), (CASES["3-d"], 3.0), (DILATED["dilation"], 1.5):
        box = window("w", k, **({"stride": k} | options))
        x = normal(*shape, dtype=np.float32)
        dy = normal(*shape[:2], *box.output_size(shape[2:]), seed=1, dtype=np.float32)
        with use_kernels(False):
            wanted = both(x, dy, box, p)
        with emulated(**how) as emulation:
            got = both(x, dy, box, p)
        assert emulation.launches == 2
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_errors():
    x = normal(2, 3, 4, 5)
    with pytest.raises(ValueError, match="LpPool: p must be positive, got 0"):
        lpnormpool(x, 2, 0, name="LpPool")
    with pytest.raises(ValueError, match="lpnormpool: p must be positive, got nan"):
        lpnormpool(x, 2, np.nan)
