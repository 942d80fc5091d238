"""Conversions between dtypes, bit for bit: the kernel against NumPy's and ml_dtypes' own conversions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.casts import FEW, astype_forward
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import needs_compiler, normal

BFLOAT16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
FLOATS = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32)]
PAIRS = [(a, b) for a, b in itertools.product(FLOATS, FLOATS) if a != b]


def bits(x):
    """The array's bits; of the NaNs, which may differ in their payload, one of each sign."""
    plain = x.astype(np.float64)
    return np.where(np.isnan(plain), np.copysign(np.nan, plain), plain).view(np.int64)


def every_number(dtype):
    """All 65536 numbers of a 16-bit dtype, or as many of float32: all exponents, ties, denormals, infinities, NaN."""
    if dtype.itemsize == 2:
        return np.arange(1 << 16, dtype=np.uint16).view(dtype)
    words = np.random.default_rng(0).integers(0, 1 << 32, 1 << 17, dtype=np.uint32)
    ties = np.arange(1 << 16, dtype=np.uint32) << 16
    return np.concatenate([words, ties, ties | 0x1000, ties | 0x7FFF, ties | 0x8000, ties | 0x8001]).view(np.float32)


@needs_compiler
@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
def test_every_number_is_rounded_as_by_numpy(source, target):
    x = every_number(source)
    before = astype_forward.launches
    with np.errstate(all="ignore"):
        y = astype_forward(x, target)
        assert astype_forward.launches == before + 1
        wanted = x.astype(target)
        assert y.dtype == target
        np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
        finite = ~np.isnan(wanted)
        np.testing.assert_array_equal(bits(y[finite]), bits(wanted[finite]))
        np.testing.assert_array_equal(np.signbit(y[finite].astype(np.float32)), np.signbit(wanted[finite].astype(np.float32)))


@needs_compiler
@given(st.integers(1, 3), st.integers(FEW, 9000), st.sampled_from(PAIRS))
def test_lengths(rows, n, pair):
    x = normal(rows, n).astype(pair[0])
    np.testing.assert_array_equal(astype_forward(x, pair[1]), x.astype(pair[1]))


@needs_compiler
def test_a_gradient_is_converted_by_the_kernel():
    x, dy = normal(50, 50).astype(np.float32), normal(50, 50, seed=1).astype(np.float32)
    before = astype_forward.launches
    dx = flux.vjp(lambda x: flux.astype(x, "float16"), x.T)[1](dy)
    assert astype_forward.launches == before + 3, "x, which is not contiguous, the gradient that comes in, and back"
    np.testing.assert_array_equal(dx, dy.astype(np.float16).astype(np.float32))


def test_declined():
    before = astype_forward.launches
    x = normal(50, 50)
    for y, dtype in ((x, np.float32), (x.astype(np.float16), np.float64), (x.astype(np.float32)[:3], np.float16),
                     (x > 0, np.float16), (x.astype(np.float16), np.int32), (x.astype(np.float16), np.float16)):
        np.testing.assert_array_equal(astype_forward(y, dtype), y.astype(dtype))
    assert astype_forward.launches == before


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
@pytest.mark.parametrize(("source", "target"), [PAIRS[1], PAIRS[-1]], ids=str)
def test_in_the_emulator(source, target, how):
    x = normal(5000).astype(source)
    with emulated(**how) as emulation:
        y = astype_forward(x, target)
    assert emulation.launches == 1
    np.testing.assert_array_equal(y, x.astype(target))


@pytest.mark.parametrize("kernels", [True, False])
def test_the_gradient_comes_back_in_the_dtype_of_the_input(kernels):
    x = flux.tensor(normal(40, 50).astype(np.float16), requires_grad=True)
    with use_kernels(kernels):
        y = x.astype(np.float32)
        (y * 2).sum().backward()
    assert y.dtype == np.float32
    assert x.grad.dtype == np.float16
    np.testing.assert_array_equal(x.grad, 2)
