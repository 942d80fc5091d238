"""What layers take: inputs of any real dtype, given weights and biases, whole sizes."""

import sys
import types

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Dense, DeviceError, Tensor
from minitorch_flux.nn.inputs import as_input, as_real, bias_parameter, drawn, layer_name, weights_from, whole

layer = Dense(2, 3, flux.relu)


@pytest.mark.parametrize("x", [
    [1, 2], (1.5, 2), [[1, 2], [3, 4]], np.ones(2), np.ones(2, int), np.ones(2, np.uint8), np.ones(2, bool),
    np.ones(2, np.float16), np.ones(2, ">f8"), np.ones((3, 2), order="F")[::2], Tensor(np.ones(2)), np.float64(1), 3, True,
], ids=repr)
def test_real_numbers_of_any_kind_become_the_weights_dtype(x):
    t = as_input(x, layer.weight, layer)
    assert isinstance(t, Tensor)
    assert t.dtype == np.float32
    np.testing.assert_array_equal(t.data, np.asarray(x.data if isinstance(x, Tensor) else x, np.float32))


def test_an_input_that_fits_is_taken_as_it_is():
    t = Tensor(np.ones(2, np.float32))
    assert as_input(t, layer.weight, layer) is t
    assert as_input(t.data, layer.weight, layer).data is t.data


def test_gradients_flow_through_the_conversion_in_the_inputs_dtype():
    x = np.ones((4, 2))
    g = flux.gradient(lambda x: layer(x).sum(), x)
    assert g.dtype == np.float64


def test_what_is_no_array_of_numbers_is_refused_in_the_layers_name():
    for x in ("abc", None, {"a": 1}, [[1, 2], [3]], object()):
        with pytest.raises(TypeError, match=rf"^Dense\(2, 3, relu\): the input is a {type(x).__name__}, expected an array$"):
            layer(x)
    with pytest.raises(TypeError, match=r"^Dense\(2, 3, relu\): the input holds no numbers \(an array of dtype <U1"):
        layer(np.array(["a", "b"]))
    for z in (np.ones(2) * 1j, 1j):
        with pytest.raises(TypeError, match="complex numbers are not supported"):
            layer(z)


def test_inputs_and_weights_on_different_devices(monkeypatch):
    class GpuArray:
        device, shape, dtype = types.SimpleNamespace(id=0), (2,), np.dtype(np.float32)

    cupy = types.ModuleType("cupy")
    cupy.ndarray = GpuArray
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(DeviceError, match=r"^Dense\(2, 3, relu\): the input \(shape \(2,\)\) is on cuda:0, the weights are on "
                                          r"cpu; move the model with flux\.gpu\(model\) / flux\.cpu\(model\), or the input"):
        as_input(GpuArray(), layer.weight, layer)


def test_layers_are_named_as_they_print():
    assert layer_name(layer) == "Dense(2, 3, relu)"


def test_given_weights_are_copied_and_made_floats():
    w = np.ones((2, 3), order="F")
    taken = weights_from(w, 2, "L", "weight")
    assert taken.flags.c_contiguous
    assert taken.dtype == np.float64
    assert not np.shares_memory(taken, w)
    assert weights_from([[1, 2]], 2, "L", "weight").dtype == np.float32
    assert weights_from(np.ones((1, 1), np.float16), 2, "L", "weight").dtype == np.float16
    assert not np.shares_memory(weights_from(layer.weight, 2, "L", "weight"), layer.weight.data)
    with pytest.raises(ValueError, match=r"L: the weight \(out, in\) has 2 axes, got shape \(3,\)"):
        weights_from(np.ones(3), 2, "L", "weight (out, in)")
    with pytest.raises(TypeError, match="L: the weight is an array of numbers, got 'x'"):
        weights_from("x", 2, "L", "weight")
    with pytest.raises(TypeError, match="Dense: the bias is an array of numbers, got 'x'"):
        Dense(2, 3, bias="x")
    with pytest.raises(TypeError, match="L: complex"):
        weights_from(np.ones((1, 1)) * 1j, 2, "L", "weight")


def test_biases():
    assert bias_parameter(False, layer.weight, 3, flux.zeros, "L") is None
    assert bias_parameter(None, layer.weight, 3, flux.zeros, "L") is None
    b = bias_parameter(True, layer.weight, 3, lambda n: np.arange(n), "L")
    assert b.tolist() == [0, 1, 2]
    assert b.dtype == np.float32
    assert bias_parameter([1, 2, 3], layer.weight, 3, flux.zeros, "L").tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"L: the bias has shape \(2,\), expected \(3,\)"):
        bias_parameter([1, 2], layer.weight, 3, flux.zeros, "L")


def test_whole_sizes():
    assert [whole(n, "n") for n in (0, 3, np.int64(4), np.uint8(5))] == [0, 3, 4, 5]
    assert type(whole(np.int64(4), "n")) is int
    for wrong in (-1, 2.0, True, np.bool_(True), np.float64(2), "3", None, np.array(3)):
        with pytest.raises(TypeError, match="n must be a whole number, got"):
            whole(wrong, "n")


def test_drawn_weights_have_the_shape_that_was_asked_for():
    assert drawn(flux.ones, (2, 3), None, "L").shape == (2, 3)
    a, b = (drawn(flux.glorot_uniform, (2, 3), flux.Generator(1), "L") for _ in range(2))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"L: init gave an array of shape \(3,\), asked for \(2, 3\)"):
        drawn(lambda *shape: np.zeros(3), (2, 3), None, "L")


def test_an_initialiser_is_a_function():
    for init in (np.ones((3, 2)), 0):
        with pytest.raises(TypeError, match="Dense: an initialiser is a function of the shape, such as glorot_uniform, got "):
            Dense(2, 3, init=init)
    with pytest.raises(TypeError, match="BatchNorm: an initialiser is a function"):
        flux.BatchNorm(2, init_beta=0)
    with pytest.raises(TypeError, match="Dense: complex numbers are not supported"):
        Dense(2, 3, init=lambda *shape: np.ones(shape, complex))
    with pytest.raises(TypeError) as error:
        Dense(2, 3, init=np.ones)
    assert error.value.__notes__ == ["Dense: its initialiser was called as ones(3, 2)"]


def test_what_an_initialiser_gives_is_made_floats():
    assert Dense(2, 3, init=lambda *shape: np.ones(shape, int)).weight.dtype == np.float32
    norm = flux.BatchNorm(2, init_gamma=np.ones, init_beta=lambda n: [0] * n)  # NumPy's ones are float64: all of the layer is
    assert {a.dtype for a in norm.state_dict().values()} == {np.dtype(np.float64)}
    for mode in (True, False):
        assert flux.testmode(norm, mode)(np.ones((3, 2), np.float32)).dtype == np.float64


def test_layers_without_weights_refuse_in_their_own_name():
    for other in (flux.Dropout(0.5), flux.LayerNorm(2, affine=False), flux.MaxPool(2), flux.GlobalMeanPool()):
        for x in ("abc", None, [[1, 2], [3]]):
            with pytest.raises(TypeError, match=rf"^{type(other).__name__}\(.*\): the input is a {type(x).__name__}, expected"):
                other(x)
        with pytest.raises(TypeError, match=rf"^{type(other).__name__}\(.*\): complex numbers are not supported"):
            other(np.ones((1, 1, 2)) * 1j)
    t = Tensor(np.ones(2))
    assert as_real(t, layer) is t
    assert as_real(t.data, layer).data is t.data
