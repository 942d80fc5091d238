"""Arguments against signatures: every message says which kernel, which parameter, what was wanted and what came."""

import numpy as np
import pytest

from minitorch_flux.readings import KernelError
from minitorch_flux.readings.arguments import (
    C_NAMES,
    CUDA_NAMES,
    accumulation_dtype,
    fit_arguments,
    parameter_dtype,
    type_defines,
)
from minitorch_flux.readings.source import parse_kernels

TEXT = """KERNEL(k)(const T* x, T* y, OPTIONAL const int* places, unsigned char flag, int n, uint64_t seed,
          ACC a, bool on) {
    EACH(i, n) y[i] = x[i];
}
KERNEL(odd)(half* x, T a, int n) { EACH(i, n) x[i] = a; }
"""
KERNELS = parse_kernels(TEXT, "k.cu")
TYPES = {"T": np.dtype("float32"), "ACC": np.dtype("float32")}


def good():
    return [np.ones(3, "f4"), np.ones(3, "f4"), np.ones(2, "i4"), 1, 3, 2**63, 0.5, True]


def fit(args, array_type=np.ndarray, device="cpu"):
    return fit_arguments(KERNELS["k"], TYPES, args, array_type, device)


def test_what_fits():
    args = good()
    fitted = fit(args)
    assert all(a is b for a, b in zip(fitted[:3], args[:3], strict=True))
    assert [type(a) for a in fitted[3:]] == [np.uint8, np.int32, np.uint64, np.float32, np.bool_]
    assert fitted[3:] == [1, 3, 2**63, 0.5, True]
    args[2], args[4], args[6] = None, np.int64(5), np.float64(0.25)
    fitted = fit(args)
    assert fitted[2] is None
    assert (fitted[4], fitted[6]) == (5, 0.25)
    assert type(fitted[4]) is np.int32


def frozen(a):
    a.flags.writeable = False
    return a


def misaligned():
    return np.frombuffer(b"\0" * 13, np.uint8)[1:].view(np.float32)


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, np.ones(3), TypeError, r"k: `const T\* x` takes float32, got float64 of shape \(3,\)"),
        (0, np.ones(3, ">f4"), TypeError, r"`const T\* x` takes float32, got >f4"),
        (0, np.ones((3, 4), "f4").T, ValueError, r"`const T\* x` takes a C-contiguous array, got strides \(4, 16\)"),
        (0, misaligned(), ValueError, r"`const T\* x` takes an array aligned to its elements"),
        (0, None, TypeError, r"`const T\* x` got None; if it may be missing, write OPTIONAL before it"),
        (0, [1.0], TypeError, r"`const T\* x` takes a numpy.ndarray, got list \[1.0\]"),
        (0, 3.0, TypeError, r"`const T\* x` takes a numpy.ndarray, got float 3.0"),
        (1, frozen(np.ones(3, "f4")), ValueError, r"`T\* y` is written to, but the array is read-only"),
        (2, np.ones(3, "i8"), TypeError, r"`const int\* places` takes int32, got int64"),
        (3, 256, OverflowError, r"`unsigned char flag` takes uint8 \(0 to 255\), got 256"),
        (4, 2**31, OverflowError, r"`int n` takes int32 \(-2147483648 to 2147482623\), got 2147483648"),
        (4, 2**31 - 1024, OverflowError, "got 2147482624"),  # the threads of a block look one step beyond
        (4, 2.0, TypeError, r"`int n` takes an integer, got float 2.0"),
        (4, "3", TypeError, r"`int n` takes an integer, got str '3'"),
        (4, np.ones(3), TypeError, r"`int n` takes an integer, got numpy.ndarray of shape \(3,\)"),
        (5, -1, OverflowError, r"`uint64_t seed` takes uint64 \(0 to 18446744073709551615\), got -1"),
        (6, "a", TypeError, r"`ACC a` takes a number, got str 'a'"),
        (6, None, TypeError, r"`ACC a` takes a number, got NoneType None"),
        (7, 2, OverflowError, r"`bool on` takes bool \(0 to 1\), got 2"),
    ],
)
def test_what_does_not_fit(place, value, error, message):
    args = good()
    args[place] = value
    with pytest.raises(error, match=message):
        fit(args)


def test_a_read_only_array_may_be_read():
    args = good()
    args[0] = frozen(args[0])
    assert fit(args)[0] is args[0]


def test_the_wrong_number():
    with pytest.raises(TypeError, match=r"k takes 8 arguments \(const T\* x, .*, bool on\), got 7"):
        fit(good()[:-1])


def test_the_wrong_device():
    class Elsewhere(np.ndarray):
        device = "cuda:1"

    args = good()
    args[0] = args[0].view(Elsewhere)
    with pytest.raises(ValueError, match=r"`const T\* x` is on cuda:1, the call is for cpu; move it first"):
        fit(args)


def test_types_nobody_knows():
    with pytest.raises(KernelError, match=r"odd: `half\* x` has the type half, .* pass half=dtype in the call"):
        parameter_dtype(KERNELS["odd"], KERNELS["odd"].parameters[0], TYPES)
    with pytest.raises(KernelError, match="odd: `T a` is a 16-bit number; declare it as ACC"):
        fit_arguments(
            KERNELS["odd"],
            {"T": np.dtype("float16"), "half": np.dtype("float16")},
            [np.ones(1, "f2"), 1.0, 1],
            np.ndarray,
            "cpu",
        )


def test_accumulation():
    wanted = {"float16": "float32", "float32": "float32", "float64": "float64", "int8": "int64", "bool": "int64"}
    for dtype, accumulated in (wanted | {"uint8": "uint64", "int64": "int64"}).items():
        assert accumulation_dtype(np.dtype(dtype)) == accumulated


def test_defines():
    types = {"T": np.dtype("float16"), "I": np.dtype("int64")}
    assert type_defines(types, C_NAMES) == {"T": "_Float16", "I": "i64"}
    assert type_defines(types, CUDA_NAMES) == {"T": "__half", "I": "i64"}
    assert type_defines({"T": np.dtype("complex64")}, C_NAMES) is None
    assert type_defines({"T": np.dtype(object)}, C_NAMES) is None
