"""f16, bf16, f32, f64: what is converted, what stays, and that the converted model computes in its dtype."""

import importlib.util

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Buffer, Chain, Conv, Dense, Module, Param

HALF = pytest.param(flux.bf16, "bfloat16", marks=pytest.mark.skipif(importlib.util.find_spec("ml_dtypes") is None,
                                                                   reason="ml_dtypes is not installed"))
ALL = [(flux.f16, "float16"), HALF, (flux.f32, "float32"), (flux.f64, "float64")]


@pytest.mark.parametrize(("convert", "dtype"), ALL)
def test_a_model_is_copied_into_the_dtype_and_computes_in_it(convert, dtype):
    model = Chain(Conv((3, 3), 1, 4, flux.relu), BatchNorm(4), flux.flatten, Dense(64, 3))
    before = model.state_dict()
    converted = convert(model)
    assert {a.dtype.name for a in converted.state_dict().values()} == {dtype}
    assert {a.dtype.name for a in model.state_dict().values()} == {"float32"}
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6))
    assert converted(x).dtype.name == dtype
    np.testing.assert_allclose(converted(x).numpy().astype(np.float64), model(x).numpy(), rtol=0.05, atol=0.05)
    grads = flux.gradient(lambda m: (m(x) ** 2).mean(), converted)
    assert grads[0].weight.dtype.name == dtype
    assert np.isfinite(grads[0].weight.astype(np.float64)).all()


@pytest.mark.parametrize(("convert", "dtype"), ALL)
def test_arrays_tensors_and_nested_values(convert, dtype):
    a, i = np.ones(3), np.arange(3)
    out = convert({"a": [a, (i, "text")], "t": flux.tensor(a), "n": None})
    assert out["a"][0].dtype.name == dtype
    assert out["a"][1][0] is i
    assert out["a"][1][1] == "text"
    assert out["t"].dtype.name == dtype


def test_an_array_that_has_the_dtype_is_returned_as_it_is():
    a = np.ones(3, np.float32)
    assert flux.f32(a) is a
    assert flux.f64(np.array([True, False])).dtype == bool


def test_gradients_flow_through_the_conversion_of_a_tensor():
    x = flux.tensor(np.arange(3.0), requires_grad=True)
    (flux.f32(x) ** 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 2, 4])
    assert x.grad.dtype == np.float64


def test_whole_numbers_stay_and_what_is_shared_stays_shared():
    class Odd(Module):
        def __init__(self, weight):
            self.weight = self.again = weight
            self.count = Buffer(np.arange(3))

    shared = Param(np.ones(3, np.float32))
    one, two = flux.f64([Odd(shared), Odd(shared)])
    assert one.weight is one.again is two.weight
    assert one.weight.dtype == np.float64
    assert one.count.dtype == np.arange(3).dtype
    assert shared.dtype == np.float32


def test_the_state_of_a_recurrent_layer_goes_along():
    rnn = flux.LSTM(3, 4)
    rnn(np.ones((2, 3)))
    double = flux.f64(rnn)
    assert [s.dtype for s in double.state] == [np.float64] * 2
    assert double(np.ones((2, 3))).dtype == np.float64


def test_without_ml_dtypes_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install ml_dtypes"):
        flux.bf16(np.ones(3))
