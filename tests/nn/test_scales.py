"""Scale and Bilinear as layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Bilinear, Chain, Dense, Parallel, Scale, relu, softmax, tanh
from tests.oracles import normal


def filled(layer):
    """The layer in float64 with random parameters."""
    for i, (_, p) in enumerate(layer.named_parameters()):
        p.data = normal(*p.shape, seed=i)
    return layer


# -- Scale -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4,), (3, 4), (1,), (2, 1, 3)])
@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (0,)])
def test_scale(sizes, leading):
    layer, x = filled(Scale(sizes, tanh)), normal(*leading, *sizes)
    wanted = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        j = i[len(leading) :]
        wanted[i] = np.tanh(x[i] * layer.weight.data[j] + layer.bias.data[j])
    np.testing.assert_allclose(layer(x).data, wanted, rtol=1e-12)


@pytest.mark.parametrize("layer", [Scale(3, tanh), Scale((2, 3), bias=False), Scale(3, softmax)], ids=repr)
def test_gradients_of_scale(layer):
    flux.check(layer, normal(4, 2, 3))


def test_a_new_scale_changes_nothing():
    x = normal(3, 4, dtype=np.float32)
    np.testing.assert_array_equal(Scale(4)(x).data, x)


def test_arguments_of_scale():
    layer = Scale(3, relu, bias=np.array([1, 2, 3]), init=flux.glorot_uniform, rng=flux.Generator(3))
    assert (layer.size, layer.activation, layer.init) == (3, relu, flux.glorot_uniform)
    assert layer.bias.data.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(layer.weight.data, flux.glorot_uniform(3, rng=flux.Generator(3)))
    assert (Scale((2, 3), init_bias=flux.ones).bias.data == 1).all()
    assert Scale(3, bias=False).bias is None
    assert Scale(3, activation=relu).activation is relu
    w = np.ones((2, 3))
    for layer in (Scale(w, False, tanh), Scale(w, tanh, bias=False)):
        assert (layer.size, layer.bias, layer.activation) == ((2, 3), None, tanh)
        assert layer.weight.dtype == np.float64
    w[:] = 0
    assert layer.weight.data.all()
    assert Scale(np.ones(3), np.arange(3)).bias.data.tolist() == [0, 1, 2]
    assert list(Scale(3).state_dict()) == ["weight", "bias"]


def test_errors_of_scale():
    with pytest.raises(ValueError, match=r"Scale\(4\): axis -1 of the input has size 3, expected 4 \(input shape \(2, 3\)\)"):
        Scale(4)(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"Scale\(\(2, 3\)\): axes \(-2, -1\) of the input have sizes \(1, 3\), expected"):
        Scale((2, 3))(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="the weight has one axis at least, got shape"):
        Scale(np.array(2.0))
    with pytest.raises(TypeError, match=r"Scale: the activation must be a function, got 4; several sizes are a tuple"):
        Scale(3, 4, relu)
    with pytest.raises(TypeError, match="Scale: unexpected arguments 3; after the activation come keywords"):
        Scale(np.ones(3), False, relu, 3)
    with pytest.raises(TypeError, match="Scale: unexpected arguments True"):
        Scale(3, relu, True)
    with pytest.raises(TypeError, match="the size must be a whole number"):
        Scale("3")


# -- Bilinear ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 4, 2), (1, 1, 1), (5, 2, 3), (2, 5, 7)])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_bilinear_matches_pytorchs(sizes, leading, bias):
    torch = pytest.importorskip("torch")
    layer = filled(Bilinear(sizes[:2], sizes[2], bias=bias))
    theirs = torch.nn.Bilinear(*sizes, bias=bias, dtype=torch.float64)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
    x, y = normal(*leading, sizes[0]), normal(*leading, sizes[1], seed=5)
    dz = normal(*leading, sizes[2], seed=6)
    tx, ty = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    if leading:  # PyTorch wants one leading axis at least
        z = theirs(tx, ty)
    else:
        z = theirs(tx[None], ty[None])[0]
    (z * torch.tensor(dz)).sum().backward()
    grads, dx, dy = flux.gradient(lambda m, x, y: (m(x, y) * dz).sum(), layer, x, y)
    np.testing.assert_allclose(layer(x, y).data, z.detach().numpy(), rtol=1e-9, atol=1e-12)
    for got, wanted in [(dx, tx.grad), (dy, ty.grad), *((getattr(grads, n), p.grad) for n, p in theirs.named_parameters())]:
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-9, atol=1e-12)


@given(n=st.integers(0, 3), i=st.integers(1, 4), j=st.integers(1, 4), o=st.integers(1, 3))
def test_bilinear_by_loops(n, i, j, o):
    layer, x, y = filled(Bilinear((i, j), o, tanh)), normal(n, i), normal(n, j, seed=1)
    wanted = np.zeros((n, o))
    for a, b, c, d in np.ndindex(n, o, i, j):
        wanted[a, b] += x[a, c] * layer.weight.data[b, c, d] * y[a, d]
    np.testing.assert_allclose(layer(x, y).data, np.tanh(wanted + layer.bias.data), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", [
    Bilinear((3, 4), 2, tanh), Bilinear((3, 4), 2, bias=False), Bilinear((3, 4), 2, softmax),
], ids=repr)  # fmt: skip
def test_gradients_of_bilinear(layer):
    flux.check(layer, normal(2, 2, 3), normal(2, 2, 4, seed=1))


def test_one_input_is_taken_twice_and_a_pair_is_taken_apart():
    layer = Bilinear(3, 2, relu)
    x, y = normal(5, 3, dtype=np.float32), normal(5, 3, seed=1, dtype=np.float32)
    np.testing.assert_array_equal(layer(x).data, layer(x, x).data)
    np.testing.assert_array_equal(layer((x, y)).data, layer(x, y).data)
    flux.check(layer, normal(2, 3))
    model = Chain(Parallel(lambda *xs: xs, Dense(3, 4), Dense(3, 5)), Bilinear((4, 5), 2))
    assert model(x).shape == (5, 2)
    assert flux.outputsize(model, (5, 3)) == (5, 2)


def test_arguments_of_bilinear():
    layer = Bilinear((3, 4), 2, tanh)
    assert (layer.inputs, layer.out, layer.activation, layer.weight.shape) == ((3, 4), 2, tanh, (2, 3, 4))
    assert Bilinear(((3, 4), 2)).weight.shape == (2, 3, 4)
    assert Bilinear(((3, 4), 2), tanh).activation is tanh
    assert Bilinear((3, 4), 2, activation=tanh).activation is tanh
    assert Bilinear([3, 4], np.int64(2), bias=False).bias is None
    w = normal(2, 3, 4)
    assert Bilinear(w, False, tanh).activation is tanh
    assert Bilinear(w, False).bias is None
    assert Bilinear(w, np.ones(2)).bias.data.tolist() == [1, 1]
    assert Bilinear(w).weight.dtype == np.float64
    assert (Bilinear((3, 4), 2, init=flux.ones).weight.data == 1).all()
    assert (Bilinear((3, 4), 2, init_bias=flux.ones).bias.data == 1).all()
    a, b = (Bilinear((3, 4), 2, rng=flux.Generator(5)).weight.data for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_errors_of_bilinear():
    b = Bilinear((3, 4), 2)
    with pytest.raises(ValueError, match=r"Bilinear\(\(3, 4\), 2\): the first input has 4 features, expected 3 on axis -1 "
                                         r"\(input shape \(5, 4\)\)"):  # fmt: skip
        b(np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"the second input has 3 features, expected 4 on axis -1 \(input shape \(5, 3\)\)"):
        b(np.zeros((5, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"the first input has no axes, expected 3"):
        b(1.0)
    with pytest.raises(ValueError, match=r"the leading axes of the inputs differ, \(5,\) and \(1,\) \(input shapes \(5, 3\)"):
        b(np.zeros((5, 3)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"takes one input or two, got a tuple of 3"):
        b((1, 2, 3))
    for wrong in ((3, 4, 5), (3,)):
        with pytest.raises(TypeError, match=r"Bilinear: give the sizes as \(in1, in2\), out; got"):
            Bilinear(wrong, 2)
    with pytest.raises(TypeError, match="`out` must be a whole number, got None"):
        Bilinear((3, 4))
    with pytest.raises(TypeError, match="the size of an input must be a whole number, got 2.5"):
        Bilinear((3, 2.5), 2)
    with pytest.raises(TypeError, match=r"Bilinear\(weight, bias=True, activation=identity\): the activation comes after"):
        Bilinear(normal(2, 3, 4), relu)
    with pytest.raises(ValueError, match=r"the weight \(out, in1, in2\) has 3 axes, got shape \(2, 3\)"):
        Bilinear(normal(2, 3))
    with pytest.raises(TypeError, match="Bilinear: the activation must be a function, got 'relu'"):
        Bilinear((2, 3), 2, "relu")


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "Scale(3)", "Scale((2, 3), relu, bias=False)", "Scale(3, init=zeros, init_bias=ones)", "Bilinear((3, 4), 2)",
    "Bilinear((3, 3), 2, tanh, bias=False)", "Bilinear((1, 2), 3, init=ones)",
])  # fmt: skip
def test_they_print_as_the_calls_that_rebuild_them(text):
    assert repr(eval(text, vars(flux).copy())).split("  #")[0] == text


@pytest.mark.parametrize("make", [lambda: Scale((2, 3)), lambda: Bilinear((3, 4), 2)])
def test_state_dicts(make):
    a, b = filled(make()), make()
    b.load_state_dict(a.state_dict())
    np.testing.assert_array_equal(b.weight.data, a.weight.data.astype(np.float32))
    assert list(a.state_dict()) == ["weight", "bias"]


def test_real_inputs_are_converted_to_the_weights_dtype():
    assert Scale(3)([1, 2, 3]).dtype == np.float32
    assert Bilinear((2, 2), 1)(np.ones(2), np.ones(2, int)).dtype == np.float32
    with pytest.raises(TypeError, match="complex"):
        Scale(3)(np.ones(3) * 1j)
