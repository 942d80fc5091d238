"""The array API namespace against array-api-strict, the reference of the standard, name by name."""

import inspect
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Tensor
from minitorch_flux import array_api as xp
from tests.oracles import check_operation

with warnings.catch_warnings():  # it announces a later edition of the standard
    warnings.simplefilter("ignore")
    import array_api_strict as strict

FLOATS = np.array([[-1.5, 0.25, 2.0], [0.75, -0.0, 0.5]])
UNIT = np.array([[-0.5, 0.25, 0.75], [0.0, -0.125, 1.0]])
ABOVE = np.array([[1.5, 2.25, 4.0], [1.0, 3.0, 8.0]])
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
WILD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3.0])
INTS = np.array([[3, -2, 7], [0, 5, -6]])
OTHERS = np.array([[2, 3, -4], [5, -1, 4]])
BITS = np.array([[1, 0, 3], [2, 4, 1]])
SMALL = np.array([200, 100, 7], np.uint8)
TRUTH = np.array([[True, False, True], [False, False, True]])
TWICE = np.array([[3.0, 1.0, 2.0, 1.0], [2.0, 2.0, 0.0, 3.0]])
CUBE = np.arange(24.0).reshape(2, 3, 4)

# name: calls of (namespace, asarray), each with the same meaning in both libraries
CALLS = {
    **{n: [lambda m, a, n=n: getattr(m, n)(a(FLOATS)), lambda m, a, n=n: getattr(m, n)(a(FLOATS.astype("float32")))]
       for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "asinh", "atan", "exp", "expm1", "square", "negative", "abs",
                 "positive", "sign", "floor", "ceil", "trunc", "real", "conj", "signbit", "isfinite")},
    **{n: [lambda m, a, n=n: getattr(m, n)(a(UNIT))] for n in ("acos", "asin")},
    **{n: [lambda m, a, n=n: getattr(m, n)(a(ABOVE))]
       for n in ("acosh", "log", "log1p", "log2", "log10", "sqrt", "reciprocal")},
    "atanh": [lambda m, a: m.atanh(a(UNIT[:, :2]))],
    "round": [lambda m, a: m.round(a(HALVES)), lambda m, a: m.round(a(INTS))],
    "isnan": [lambda m, a: m.isnan(a(WILD))],
    "isinf": [lambda m, a: m.isinf(a(WILD))],
    **{n: [lambda m, a, n=n: getattr(m, n)(a(FLOATS), a(ABOVE)), lambda m, a, n=n: getattr(m, n)(a(FLOATS), a(ABOVE[:1])),
           lambda m, a, n=n: getattr(m, n)(a(ABOVE), 2.5)]
       for n in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "atan2", "hypot", "logaddexp", "copysign",
                 "nextafter", "remainder", "floor_divide", "equal", "not_equal", "less", "less_equal", "greater",
                 "greater_equal")},
    "pow": [lambda m, a: m.pow(a(ABOVE), a(FLOATS)), lambda m, a: m.pow(a(INTS), 2), lambda m, a: m.pow(2.0, a(FLOATS))],
    **{n: [lambda m, a, n=n: getattr(m, n)(a(INTS), a(OTHERS)), lambda m, a, n=n: getattr(m, n)(a(INTS), 3)]
       for n in ("bitwise_and", "bitwise_or", "bitwise_xor")},
    **{n: [lambda m, a, n=n: getattr(m, n)(a(INTS), a(BITS)), lambda m, a, n=n: getattr(m, n)(a(INTS.astype("int8")), 1)]
       for n in ("bitwise_left_shift", "bitwise_right_shift")},
    "bitwise_invert": [lambda m, a: m.bitwise_invert(a(INTS)), lambda m, a: m.bitwise_invert(a(TRUTH))],
    **{n: [lambda m, a, n=n: getattr(m, n)(a(TRUTH), a(~TRUTH[:1]))] for n in ("logical_and", "logical_or", "logical_xor")},
    "logical_not": [lambda m, a: m.logical_not(a(TRUTH))],
    "clip": [lambda m, a: m.clip(a(FLOATS), -1, 1), lambda m, a: m.clip(a(FLOATS), min=0.5), lambda m, a: m.clip(a(FLOATS)),
             lambda m, a: m.clip(a(FLOATS), a(UNIT), a(ABOVE))],
    "matmul": [lambda m, a: m.matmul(a(FLOATS), a(FLOATS.T)), lambda m, a: m.matmul(a(CUBE), a(CUBE[0].T))],
    "matrix_transpose": [lambda m, a: m.matrix_transpose(a(CUBE))],
    "tensordot": [lambda m, a: m.tensordot(a(CUBE), a(CUBE), axes=((1, 2), (1, 2))),
                  lambda m, a: m.tensordot(a(FLOATS), a(FLOATS.T), axes=1)],
    "vecdot": [lambda m, a: m.vecdot(a(CUBE), a(CUBE[0])), lambda m, a: m.vecdot(a(INTS), a(OTHERS), axis=-2)],
    **{n: [lambda m, a, n=n: getattr(m, n)(a(CUBE)), lambda m, a, n=n: getattr(m, n)(a(CUBE), axis=(0, 2)),
           lambda m, a, n=n: getattr(m, n)(a(CUBE), axis=1, keepdims=True)]
       for n in ("sum", "prod", "mean", "max", "min", "std", "var", "count_nonzero")},
    **{n: [lambda m, a, n=n: getattr(m, n)(a(TRUTH)), lambda m, a, n=n: getattr(m, n)(a(TRUTH), axis=0, keepdims=True),
           lambda m, a, n=n: getattr(m, n)(a(FLOATS), axis=(0, 1))] for n in ("all", "any")},
    "cumulative_sum": [lambda m, a: m.cumulative_sum(a(HALVES)), lambda m, a: m.cumulative_sum(a(INTS), axis=0),
                       lambda m, a: m.cumulative_sum(a(CUBE), axis=-1, include_initial=True),
                       lambda m, a: m.cumulative_sum(a(SMALL)), lambda m, a: m.cumulative_sum(a(SMALL), dtype=m.float32)],
    "cumulative_prod": [lambda m, a: m.cumulative_prod(a(HALVES)),
                        lambda m, a: m.cumulative_prod(a(CUBE), axis=1, include_initial=True, dtype=m.float32)],
    "diff": [lambda m, a: m.diff(a(CUBE)), lambda m, a: m.diff(a(INTS), axis=0, n=2), lambda m, a: m.diff(a(HALVES), n=0),
             lambda m, a: m.diff(a(FLOATS), prepend=a(FLOATS[:, :1]), append=a(ABOVE)), lambda m, a: m.diff(a(SMALL))],
    "argmax": [lambda m, a: m.argmax(a(TWICE)), lambda m, a: m.argmax(a(TWICE), axis=1, keepdims=True)],
    "argmin": [lambda m, a: m.argmin(a(TWICE)), lambda m, a: m.argmin(a(TWICE), axis=0)],
    "sort": [lambda m, a: m.sort(a(TWICE)), lambda m, a: m.sort(a(TWICE), axis=0, descending=True)],
    "argsort": [lambda m, a: m.argsort(a(TWICE)), lambda m, a: m.argsort(a(TWICE), axis=1, descending=True, stable=True)],
    "searchsorted": [lambda m, a: m.searchsorted(a(HALVES), a(FLOATS)),
                     lambda m, a: m.searchsorted(a(HALVES), a(HALVES), side="right"),
                     lambda m, a: m.searchsorted(a(TWICE[0]), a(TWICE[1]), sorter=a(np.argsort(TWICE[0])))],
    "nonzero": [lambda m, a: m.nonzero(a(INTS)), lambda m, a: m.nonzero(a(TRUTH))],
    "isin": [lambda m, a: m.isin(a(INTS), a(OTHERS))],
    **{n: [lambda m, a, n=n: getattr(m, n)(a(TWICE)), lambda m, a, n=n: getattr(m, n)(a(WILD))]
       for n in ("unique_all", "unique_counts", "unique_inverse", "unique_values")},
    "take": [lambda m, a: m.take(a(CUBE), a(np.array([2, 0, 2])), axis=1), lambda m, a: m.take(a(HALVES), a(np.array([1, 0])))],
    "take_along_axis": [lambda m, a: m.take_along_axis(a(FLOATS), a(np.array([[2, 0], [1, 1]]))),
                        lambda m, a: m.take_along_axis(a(FLOATS), a(np.array([[1, 0, 1]])), axis=0)],
    "where": [lambda m, a: m.where(a(TRUTH), a(FLOATS), a(ABOVE)), lambda m, a: m.where(a(TRUTH), a(FLOATS), 1.0)],
    "broadcast_to": [lambda m, a: m.broadcast_to(a(FLOATS), (4, 2, 3))],
    "broadcast_arrays": [lambda m, a: m.broadcast_arrays(a(FLOATS), a(FLOATS[:1]), a(HALVES[:3]))],
    "broadcast_shapes": [lambda m, a: m.broadcast_shapes((2, 1), (1, 3), ())],
    "concat": [lambda m, a: m.concat([a(FLOATS), a(ABOVE)]), lambda m, a: m.concat((a(FLOATS), a(HALVES)), axis=None),
               lambda m, a: m.concat([a(INTS.astype("int8")), a(INTS.astype("int32"))], axis=1)],
    "expand_dims": [lambda m, a: m.expand_dims(a(FLOATS), axis=-1)],
    "flip": [lambda m, a: m.flip(a(CUBE)), lambda m, a: m.flip(a(CUBE), axis=(0, 2))],
    "moveaxis": [lambda m, a: m.moveaxis(a(CUBE), 0, -1), lambda m, a: m.moveaxis(a(CUBE), (0, 1), (2, 0))],
    "permute_dims": [lambda m, a: m.permute_dims(a(CUBE), (2, 0, 1))],
    "repeat": [lambda m, a: m.repeat(a(FLOATS), 2), lambda m, a: m.repeat(a(FLOATS), a(np.array([1, 3])), axis=0)],
    "reshape": [lambda m, a: m.reshape(a(CUBE), (4, -1)), lambda m, a: m.reshape(a(CUBE), (24,), copy=False),
                lambda m, a: m.reshape(m.permute_dims(a(CUBE), (2, 0, 1)), (24,), copy=True)],
    "roll": [lambda m, a: m.roll(a(CUBE), 5), lambda m, a: m.roll(a(CUBE), (1, -1), axis=(0, 2))],
    "squeeze": [lambda m, a: m.squeeze(a(CUBE[:1, :, :1]), (0, 2))],
    "stack": [lambda m, a: m.stack([a(FLOATS), a(ABOVE)], axis=-1)],
    "tile": [lambda m, a: m.tile(a(FLOATS), (2, 1, 2))],
    "unstack": [lambda m, a: m.unstack(a(CUBE), axis=1)],
    "meshgrid": [lambda m, a: m.meshgrid(a(HALVES), a(HALVES[:2]), a(HALVES[:3])),
                 lambda m, a: m.meshgrid(a(HALVES), a(HALVES[:2]), indexing="ij"), lambda m, a: m.meshgrid(a(HALVES)),
                 lambda m, a: m.meshgrid()],
    "tril": [lambda m, a: m.tril(a(CUBE), k=-1)],
    "triu": [lambda m, a: m.triu(a(CUBE), k=1)],
    "arange": [lambda m, a: m.arange(5), lambda m, a: m.arange(2, 9, 3),
               lambda m, a: m.arange(0.0, 1.0, 0.25, dtype=m.float64)],
    "linspace": [lambda m, a: m.linspace(0.0, 1.0, 5, dtype=m.float64),
                 lambda m, a: m.linspace(3, 1, 4, endpoint=False, dtype=m.float64)],
    "eye": [lambda m, a: m.eye(3, dtype=m.float64), lambda m, a: m.eye(2, 4, k=1, dtype=m.int32)],
    **{n: [lambda m, a, n=n: getattr(m, n)((2, 0, 3), dtype=m.int16), lambda m, a, n=n: getattr(m, n)(4, dtype=m.float64)]
       for n in ("zeros", "ones")},
    **{n: [lambda m, a, n=n: getattr(m, n)(a(SMALL)), lambda m, a, n=n: getattr(m, n)(a(INTS), dtype=m.float32)]
       for n in ("zeros_like", "ones_like")},
    "empty": [lambda m, a: m.empty((0, 3), dtype=m.int8)],
    "empty_like": [lambda m, a: m.empty_like(a(FLOATS[:0]))],
    "full": [lambda m, a: m.full((2, 2), 3), lambda m, a: m.full((), True), lambda m, a: m.full(2, 1.5, dtype=m.float64)],
    "full_like": [lambda m, a: m.full_like(a(SMALL), 9), lambda m, a: m.full_like(a(INTS), 0.5, dtype=m.float32)],
    "asarray": [lambda m, a: m.asarray(a(FLOATS)), lambda m, a: m.asarray([[1, 2], [3, 4]]), lambda m, a: m.asarray(True),
                lambda m, a: m.asarray([1.5], dtype=m.float64), lambda m, a: m.asarray(a(INTS), dtype=m.float32, copy=True)],
    "astype": [lambda m, a: m.astype(a(FLOATS), m.float32), lambda m, a: m.astype(a(INTS), m.int64, copy=False)],
    "from_dlpack": [lambda m, a: m.from_dlpack(a(FLOATS))],
    "can_cast": [lambda m, a: m.can_cast(m.int8, m.int32), lambda m, a: m.can_cast(a(FLOATS), m.float32)],
    "isdtype": [lambda m, a: [m.isdtype(getattr(m, d), k) for d in ("bool", "int8", "uint16", "float32")
                              for k in ("bool", "integral", "numeric", "real floating", "signed integer", ("bool", "numeric"))]
                ],
    "result_type": [lambda m, a: m.result_type(m.float32, m.float64) == m.float64,
                    lambda m, a: m.result_type(a(SMALL), m.int8) == m.int16],
    "finfo": [lambda m, a: [float(getattr(m.finfo(m.float32), k)) for k in ("bits", "eps", "max", "min", "smallest_normal")]],
    "iinfo": [lambda m, a: [getattr(m.iinfo(a(SMALL)), k) for k in ("bits", "max", "min")]],
}


def plain(value):
    """A result of either library as nested tuples of NumPy arrays."""
    if isinstance(value, (tuple, list)):
        return tuple(plain(v) for v in value)
    if isinstance(value, Tensor):
        return value.numpy()
    return np.from_dlpack(value) if isinstance(value, strict._array_object.Array) else np.asarray(value)


def assert_same(ours, theirs):
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
        return
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-6 if ours.dtype == np.float32 else 1e-14, atol=0)
    if ours.dtype.kind == "f":
        assert (np.signbit(ours) == np.signbit(theirs)).all()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_agrees_with_the_strict_reference(name):
    for call in CALLS[name]:
        with np.errstate(all="ignore"):
            ours, theirs = call(xp, Tensor), call(strict, strict.asarray)
        assert_same(plain(ours), plain(theirs))


CONSTANTS = {"e", "pi", "inf", "nan", "newaxis"}
DTYPES = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"}


def test_every_name_of_the_standard_is_here_or_named_as_absent():
    theirs = {n for n in dir(strict) if not n.startswith("_") and "strict" not in n}
    theirs -= {"Device", "ModuleType", "ArrayAPIStrictFlags"}
    assert theirs | {"float16", "linalg", "fft"} == set(xp.NAMES) | set(xp.ABSENT)
    assert set(xp.NAMES) == CONSTANTS | DTYPES | set(CALLS), "a name without a test"
    assert len(set(xp.NAMES)) == len(xp.NAMES)
    for name in xp.NAMES:
        assert hasattr(xp, name)
    assert xp.newaxis is None
    assert np.isnan(xp.nan)
    assert xp.pi == np.pi
    assert xp.e == np.e
    assert xp.inf == np.inf


@pytest.mark.parametrize("name", sorted(CALLS))
def test_keywords_have_the_names_of_the_standard(name):
    theirs = [p.name for p in inspect.signature(getattr(strict, name)).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if not theirs:
        return
    signature = inspect.signature(getattr(xp, name))
    assert set(theirs) <= set(signature.parameters), name


@given(st.data())
def test_promotion_is_that_of_the_standard(data):
    names = sorted(DTYPES - {"float16"})
    a, b = (data.draw(st.sampled_from(names)) for _ in range(2))
    try:
        expected = strict.result_type(getattr(strict, a), getattr(strict, b))
    except TypeError:
        return  # mixed kinds, which the standard leaves open
    assert xp.result_type(getattr(xp, a), getattr(xp, b)) == np.dtype(str(expected).rpartition(".")[2])
    if a != "bool" != b:
        assert xp.add(xp.ones(2, dtype=a), xp.ones(1, dtype=b)).dtype == xp.result_type(a, b)
    assert xp.can_cast(a, b) == strict.can_cast(getattr(strict, a), getattr(strict, b))


# -- gradients of what only this package has ---------------------------------------------------------------------------


def test_gradients():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 1))
    check_operation(xp.copysign, x, y, oracle=np.copysign)
    check_operation(xp.nextafter, x, y, oracle=np.nextafter, order=1)
    check_operation(lambda a: xp.cumulative_sum(a, axis=1, include_initial=True), x)
    check_operation(lambda a: xp.cumulative_prod(a, axis=0, include_initial=True), x)
    check_operation(lambda a: xp.diff(a, axis=1, n=2), x, oracle=lambda a: np.diff(a, 2, 1))
    check_operation(lambda a, b: xp.vecdot(a, b, axis=-2), x, y, oracle=lambda a, b: (a * b).sum(-2))
    check_operation(lambda a, b: xp.vecdot(a, b), x, x[0], oracle=lambda a, b: (a * b).sum(-1))
    check_operation(lambda a: xp.sort(a, axis=1, descending=True), x, oracle=lambda a: -np.sort(-a, 1))
    check_operation(lambda a: xp.var(a, axis=(0, 2), correction=1), x, oracle=lambda a: a.var((0, 2), ddof=1))
    check_operation(lambda a: xp.clip(a, -0.5, 0.5), x, oracle=lambda a: a.clip(-0.5, 0.5))
    check_operation(lambda a: xp.reshape(xp.permute_dims(a, (2, 0, 1)), (8, 3), copy=True), x)
    check_operation(lambda a, b: xp.meshgrid(a, b)[0] * xp.meshgrid(a, b)[1], x[0, 0], y[:, 0])
    check_operation(lambda a: xp.sum(a, axis=0, dtype=xp.float64), x, oracle=lambda a: a.sum(0), dtypes=())
    check_operation(lambda a: xp.astype(xp.asarray(a, copy=True), xp.float64), x, dtypes=())


def test_gradients_of_unique_values_go_to_the_first():
    x = flux.tensor(np.array([2.0, 1.0, 2.0]), requires_grad=True)
    (xp.unique_values(x) * np.array([10.0, 1.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 10.0, 0.0]


def test_gradients_of_sums_in_another_dtype_come_back():
    x = flux.tensor(np.ones(3, np.float32), requires_grad=True)
    y = xp.sum(x, dtype=xp.float64)
    assert y.dtype == np.float64
    y.backward()
    assert x.grad.dtype == np.float32
    assert xp.sum(flux.Tensor(np.ones(2, np.uint8)), dtype="uint8").dtype == np.uint8


# -- the array itself --------------------------------------------------------------------------------------------------


def test_the_array_namespace():
    x = Tensor(np.ones((2, 3)))
    assert x.__array_namespace__() is xp
    assert flux.Param(np.ones(2)).__array_namespace__(api_version="2022.12") is xp
    with pytest.raises(ValueError, match=r"api_version is one of 2021\.12, .*, 2024\.12, got '2019\.1'"):
        x.__array_namespace__(api_version="2019.1")
    assert xp.__array_api_version__ == "2024.12"
    for attribute in ("dtype", "device", "mT", "ndim", "shape", "size", "T"):
        assert hasattr(x, attribute)
    operators = [n for n in dir(strict._array_object.Array) if n.startswith("__") and not n.startswith("__i")]
    missing = [n for n in operators if not hasattr(Tensor, n)]
    assert set(missing) <= {"__buffer__", "__complex__"}
    assert complex(Tensor(np.array(1.5))) == 1.5


def test_missing_names_say_why():
    with pytest.raises(AttributeError, match="namespace of minitorch_flux has no 'complex64': tensors hold real numbers only"):
        xp.complex64  # noqa: B018
    with pytest.raises(AttributeError, match="no 'linalg': the optional extension linalg is not provided; matmul, .* are here"):
        xp.linalg  # noqa: B018
    with pytest.raises(AttributeError, match="no 'concatenate': near it are concat"):
        xp.concatenate  # noqa: B018
    with pytest.raises(AttributeError, match=r"no 'zzz': the list of all names is minitorch_flux\.array_api\.NAMES"):
        xp.zzz  # noqa: B018


def test_operators():
    a = Tensor(np.array([1, 6]))
    assert (a << 2).tolist() == [4, 24]
    assert (a >> 1).tolist() == [0, 3]
    assert (64 >> a).tolist() == [32, 1]
    assert (1 << a).tolist() == [2, 64]
    a <<= 1  # a new tensor
    assert a.tolist() == [2, 12]
    with pytest.raises(TypeError):
        Tensor(np.ones(2)) << 1


def test_to_device():
    x = flux.tensor(np.ones(2), requires_grad=True)
    assert x.to_device("cpu") is x
    with pytest.raises(flux.DeviceError, match="unknown device 'tpu'"):
        x.to_device("tpu")
    with pytest.raises(ValueError, match="streams are CuPy's"):
        x.to_device("cpu", stream=1)


def test_isin_inverted():  # array-api-strict 2.6 forgets the keyword
    assert xp.isin(Tensor(INTS), OTHERS, invert=True).tolist() == np.isin(INTS, OTHERS, invert=True).tolist()


def test_information():
    information = xp.__array_namespace_info__()
    assert information.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert information.default_device() == "cpu"
    assert information.devices()[0] == "cpu"
    assert information.default_dtypes() == {"real floating": np.float32, "integral": np.int64, "indexing": np.int64}
    theirs = strict.__array_namespace_info__()
    assert set(information.dtypes()) == set(theirs.dtypes()) - {"complex64", "complex128"}
    for kind in ("bool", "integral", "numeric", ("bool", "real floating"), "unsigned integer"):
        assert set(information.dtypes(kind=kind)) == set(theirs.dtypes(kind=kind)) - {"complex64", "complex128"}
    with pytest.raises(ValueError, match="the kinds are bool, .*, got 'float'"):
        information.dtypes(kind="float")


def test_defaults_are_the_library_s():
    assert xp.zeros(2).dtype == xp.ones(2).dtype == xp.empty(2).dtype == np.float32
    assert xp.asarray([1.5]).dtype == xp.full(1, 1.5).dtype == xp.linspace(0, 1, 3).dtype == np.float32
    assert xp.arange(0.0, 2.0).dtype == xp.eye(2).dtype == np.float32
    assert xp.asarray(np.ones(2)).dtype == np.float64
    assert xp.asarray(Tensor(np.ones(2)), device="cpu").dtype == np.float64
    assert xp.full(2, Tensor(np.array(3))).dtype == np.int64
    assert xp.zeros_like([1, 2], device="cpu").dtype == np.int64
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert xp.isdtype(np.dtype(bfloat16), "real floating")
    assert not xp.isdtype(np.dtype(bfloat16), ("bool", "integral"))
    assert xp.result_type(np.ones(2, np.float32), 1.5) == np.float32


def test_copies():
    x = Tensor(CUBE)
    assert xp.asarray(x) is x
    assert np.shares_memory(xp.asarray(CUBE).numpy(), CUBE)
    assert not np.shares_memory(xp.asarray(CUBE, copy=True).numpy(), CUBE)
    assert xp.asarray(CUBE, copy=False).data is CUBE
    assert xp.astype(x, xp.float64, copy=False) is x
    assert not np.shares_memory(xp.astype(x, xp.float64).numpy(), CUBE)
    with pytest.raises(ValueError, match=r"asarray: float64 on cpu as float32 on cpu is a copy, and copy=False forbids one"):
        xp.asarray(x, dtype=xp.float32, copy=False)
    with pytest.raises(ValueError, match="asarray: a list cannot become a tensor without a copy"):
        xp.asarray([1.0], copy=False)
    assert np.shares_memory(xp.reshape(x, (6, 4)).numpy(), CUBE)
    with pytest.raises(ValueError, match=r"reshape: shape \(4, 3, 2\) with the strides .* as \(24,\) is a copy"):
        xp.reshape(x.T, (24,), copy=False)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: xp.matrix_transpose(Tensor(np.ones(2))), r"matrix_transpose: needs at least two axes, got shape \(2,\)"),
    (lambda: xp.vecdot(np.ones((2, 3)), np.ones((2, 4))), r"vecdot: axis -1 has 3 elements in the shape \(2, 3\) and 4 in"),
    (lambda: xp.vecdot(np.ones(2), np.ones(2), axis=0), "vecdot: the axis is counted from the end, -1 for the last one, got 0"),
    (lambda: xp.vecdot(np.ones(2), np.ones(2), axis=-2), "vecdot: there is no axis -2"),
    (lambda: xp.meshgrid(np.ones(2), indexing="no"), "meshgrid: indexing is 'xy' or 'ij', got 'no'"),
    (lambda: xp.meshgrid(np.ones((2, 2))), r"meshgrid: takes vectors, got shape \(2, 2\) for array 0"),
    (lambda: xp.cumulative_sum(np.ones((2, 2))), r"axis may be left out for one axis only, the input has shape \(2, 2\)"),
    (lambda: xp.diff(np.ones(2), n=-1), "diff: n is at least 0, got -1"),
    (lambda: xp.searchsorted(np.ones(2), np.ones(2), side="up"), "searchsorted: side is 'left' or 'right', got 'up'"),
    (lambda: xp.searchsorted(np.ones((2, 2)), 1), r"searchsorted: looks for places in a vector, got shape \(2, 2\)"),
    (lambda: xp.nonzero(Tensor(np.array(1.0))), "nonzero: a single number has no positions"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["zeros", "full", "asarray", "astype", "empty"])
def test_complex_numbers_are_refused(name):
    arguments = {"zeros": (2,), "full": (2, 1.0), "asarray": ([1.0],), "astype": (np.ones(2), complex), "empty": (2,)}[name]
    with pytest.raises(TypeError, match="complex"):
        getattr(xp, name)(*arguments, **({} if name == "astype" else {"dtype": complex}))


def test_other_libraries_take_tensors_for_arrays_of_the_standard():
    compat = pytest.importorskip("array_api_compat")
    x = Tensor(np.ones((2, 3)))
    assert compat.array_namespace(x, x) is xp
    assert compat.is_array_api_obj(x)
    assert compat.device(x) == "cpu"
    assert compat.size(x) == 6
    assert compat.to_device(x, "cpu") is x


SCIPY = """
import warnings
warnings.simplefilter("ignore")
import numpy as np, scipy.special as special, scipy.stats as stats, minitorch_flux as flux
x = np.array([[0.5, 1.5], [2.0, 1.0]])
for f in (special.softmax, stats.gmean, stats.sem, stats.entropy):
    y = f(flux.Tensor(x))
    print(f.__name__, type(y).__name__, np.allclose(np.asarray(y), f(x)))
t = flux.tensor(x, requires_grad=True)
stats.gmean(t).sum().backward()
print("gradient", "Tensor", np.allclose(t.grad, stats.gmean(x) / (2 * x)))
"""


def test_scipy_takes_tensors():
    pytest.importorskip("scipy")
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    out = subprocess.run([sys.executable, "-c", SCIPY], capture_output=True, text=True, check=False, env=environment)
    assert [line.split()[1:] for line in out.stdout.splitlines()] == [["Tensor", "True"]] * 5, out.stdout + out.stderr
