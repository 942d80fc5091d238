"""dtypes: numbers, floats, and what sums are formed in."""

import numpy as np
import pytest

from minitorch_flux.backend import DEFAULT, accumulator, is_float, is_number, refuse_complex


def test_floats_and_numbers():
    assert DEFAULT is np.dtype(np.float32)
    for name in ("float16", "float32", "float64", "longdouble"):
        assert is_float(name)
        assert is_number(name)
    for name in ("bool", "int8", "uint64", "complex64"):
        assert not is_float(name)
        assert is_number(name)
    for name in ("U3", "S3", "O", "M8[s]", "m8[s]", "f4,i4", "V2"):
        assert not is_float(name)
        assert not is_number(name)


def test_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert is_float(bfloat16)
    assert is_number(bfloat16)
    assert accumulator(bfloat16) == np.float32


def test_sums_of_halves_are_formed_in_float32():
    assert accumulator(np.float16) == np.float32
    for name in ("float32", "float64", "int16", "uint16", "bool"):
        assert accumulator(name) == np.dtype(name)


def test_complex_numbers_are_refused_by_name():
    refuse_complex(np.float32, "f")
    with pytest.raises(TypeError, match=r"f: complex numbers are not supported \(dtype complex64\); split them into real"):
        refuse_complex(np.complex64, "f")
