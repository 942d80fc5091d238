"""LayerNorm, LayerNormV2 and RMSNorm as layers."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, LayerNorm, LayerNormV2, RMSNorm, relu, softmax, tanh
from tests.oracles import normal

SIZES = [(4,), (3, 4), (1,), (2, 3, 4)]
LAYERS = [LayerNorm, LayerNormV2, RMSNorm]


def filled(layer, seed=0):
    """The layer in float64 with random parameters."""
    for i, (_, p) in enumerate(layer.named_parameters()):
        p.data = normal(*p.shape, seed=seed + i)
    return layer


def torch_layer(layer, kind, sizes, **keywords):
    """PyTorch's layer with the weights of ours, loaded by name."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(sizes, dtype=torch.float64, **keywords)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
    return theirs


def compare(layer, theirs, x):
    torch = pytest.importorskip("torch")
    dy = normal(*x.shape, seed=9)
    t = torch.tensor(x, requires_grad=True)
    y = theirs(t)
    (y * torch.tensor(dy)).sum().backward()
    value, (grads, dx) = flux.withgradient(lambda m, x: (m(x) * dy).sum(), layer, x)
    np.testing.assert_allclose(layer(x).data, y.detach().numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-9, atol=1e-10)
    assert np.isfinite(value)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(getattr(grads, name), p.grad.numpy(), rtol=1e-9, atol=1e-10)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("keywords", [{}, {"eps": 0.1}, {"bias": False}])
def test_layer_norm_v2_matches_pytorchs_layer_norm(sizes, keywords):
    layer = filled(LayerNormV2(sizes, **keywords))
    for leading in ((), (5,), (2, 3)):
        compare(layer, torch_layer(layer, "LayerNorm", sizes, **keywords), normal(*leading, *sizes))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("keywords", [{}, {"eps": 0.1}])
def test_rms_norm_matches_pytorchs(sizes, keywords):
    layer = filled(RMSNorm(sizes, **keywords))
    for leading in ((), (5,), (2, 3)):
        compare(layer, torch_layer(layer, "RMSNorm", sizes, **keywords), normal(*leading, *sizes))


def test_without_parameters_they_match_pytorch_too():
    torch = pytest.importorskip("torch")
    for layer, kind in ((LayerNormV2(4, affine=False), "LayerNorm"), (RMSNorm(4, affine=False), "RMSNorm")):
        assert layer.weight is None
        assert layer.state_dict() == {}
        x = normal(3, 4)
        wanted = getattr(torch.nn, kind)(4, elementwise_affine=False)(torch.tensor(x))
        np.testing.assert_allclose(layer(x).data, wanted.numpy(), rtol=1e-9)
        assert layer(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm_divides_by_std_plus_eps(sizes, eps):
    """One row after the other, by the formula."""
    layer = filled(LayerNorm(sizes, tanh, eps=eps))
    x = normal(3, *sizes)
    wanted = np.empty(x.shape)
    for i, row in enumerate(x):
        deviation = np.sqrt(sum((v - row.mean()) ** 2 for v in row.flat) / row.size)
        wanted[i] = np.tanh((row - row.mean()) / (deviation + eps) * layer.weight.data + layer.bias.data)
    np.testing.assert_allclose(layer(x).data, wanted, rtol=1e-12)


def test_where_eps_stands():
    """x = [1, 1.001], worked out by hand: s = 0.0005."""
    x = np.array([1, 1.001])
    np.testing.assert_allclose(LayerNorm(2, affine=False)(x).data, [-0.98039216, 0.98039216], atol=1e-8)
    np.testing.assert_allclose(LayerNormV2(2, affine=False)(x).data, [-0.15617376, 0.15617376], atol=1e-8)
    np.testing.assert_allclose(LayerNormV2(4, affine=False)(np.array([1.0, 2, 3, 4])).data,
                               [-1.34163542, -0.44721181, 0.44721181, 1.34163542], atol=1e-8)  # fmt: skip


def test_a_row_without_variance_gives_activation_of_bias():
    layer = LayerNorm(3, relu, bias=np.array([-1, 0.5, 2]))
    np.testing.assert_array_equal(layer(np.full((2, 3), 5.5)).data, [[0, 0.5, 2]] * 2)
    grads, dx = flux.gradient(lambda m, x: m(x).sum(), layer, np.full((2, 3), 5.5, np.float32))
    assert np.isfinite(dx).all()
    np.testing.assert_array_equal(grads.weight, 0)
    np.testing.assert_array_equal(grads.bias, [0, 2, 2])


@pytest.mark.parametrize("layer", [
    LayerNorm(3, tanh), LayerNormV2((2, 3), tanh, eps=0.1), RMSNorm(3, tanh), LayerNorm(3, softmax),
    LayerNormV2(3, affine=False), LayerNorm(3, bias=False),
], ids=repr)  # fmt: skip
def test_gradients_of_both_orders_in_both_modes(layer):
    flux.check(layer, normal(4, 2, 3))


def test_it_does_the_same_in_train_and_test_mode():
    layer, x = LayerNorm(4), normal(3, 4, dtype=np.float32)
    y = layer(x).data
    for mode in (True, False):
        np.testing.assert_array_equal(flux.testmode(layer, mode)(x).data, y)
    with flux.record():
        np.testing.assert_array_equal(flux.testmode(layer, "auto")(x).data, y)


# -- the layer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_arguments(kind):
    layer = kind((4, 3), relu, eps=0.5, init=flux.zeros)
    assert (layer.size, layer.activation, layer.eps, layer.init, layer.affine) == ((4, 3), relu, 0.5, flux.zeros, True)
    assert (layer.weight.data == 0).all()
    assert layer.weight.shape == (4, 3)
    assert layer.weight.dtype == np.float32
    assert kind(np.int64(4)).size == 4
    assert kind([4]).size == 4
    assert kind(4, activation=relu).activation is relu


def test_bias_arguments():
    assert LayerNorm(3, bias=False).bias is None
    assert LayerNorm(3, affine=False).bias is None
    assert LayerNorm(2, bias=[1, 2]).bias.data.tolist() == [1, 2]
    assert (LayerNorm((2, 3), init_bias=flux.ones).bias.data == 1).all()


@pytest.mark.parametrize("text", [
    "LayerNorm(4)", "LayerNorm((4, 3), relu, eps=0.1)", "LayerNorm(4, affine=False)", "LayerNormV2(3, bias=False)",
    "LayerNormV2((2, 2), init=zeros, init_bias=ones)", "RMSNorm(5)", "RMSNorm((2, 3), tanh, affine=False, eps=1e-06)",
])  # fmt: skip
def test_it_prints_as_the_call_that_rebuilds_it(text):
    layer = eval(text, vars(flux).copy())
    assert repr(layer).split("  #")[0] == text
    assert flux.nn.printing.text(eval(flux.nn.printing.text(layer), vars(flux).copy())) == text


def test_the_count_of_parameters_is_printed():
    assert repr(LayerNorm((2, 3))) == "LayerNorm((2, 3))  # 12 parameters"
    assert repr(RMSNorm(3)) == "RMSNorm(3)  # 3 parameters"


@pytest.mark.parametrize("kind", LAYERS)
def test_state_dict(kind):
    layer = filled(kind((2, 3)))
    state = layer.state_dict()
    assert list(state) == (["weight"] if kind is RMSNorm else ["weight", "bias"])
    other = kind((2, 3))
    other.load_state_dict(state)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[name].astype(np.float32))


def test_in_a_chain_it_trains():
    flux.seed(0)
    model = Chain(Dense(3, 8), LayerNorm(8, relu), RMSNorm(8), Dense(8, 1))
    x, opt = normal(16, 3, dtype=np.float32), flux.setup(flux.Adam(1e-2), model)
    loss = lambda m: ((m(x) - x[:, :1] * x[:, 1:2]) ** 2).mean()  # noqa: E731
    before = loss(model).item()
    for _ in range(30):
        flux.update(opt, model, flux.gradient(loss, model))
    assert loss(model).item() < before / 2


def test_real_inputs_are_converted_to_the_weights_dtype():
    assert LayerNorm(3)([1, 2, 3]).dtype == np.float32
    assert LayerNorm(3)(normal(2, 3)).dtype == np.float32
    assert LayerNorm(3, affine=False)([1, 2, 3]).dtype == np.float32  # whole numbers, as in all norms
    with pytest.raises(TypeError, match="complex"):
        RMSNorm(3)(np.ones(3) * 1j)


def test_only_the_shape_is_needed_for_the_outputs_size():
    assert flux.outputsize(Chain(LayerNorm((2, 3)), RMSNorm(3), LayerNormV2(3, affine=False)), (5, 2, 3)) == (5, 2, 3)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
def test_errors_name_the_axes_and_the_sizes(kind):
    name = kind.__name__
    with pytest.raises(ValueError, match=rf"{name}\(4\): axis -1 of the input has size 5, expected 4 \(input shape \(2, 5\)\)"):
        kind(4)(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=rf"{name}\(\(4, 3\)\): axes \(-2, -1\) of the input have sizes \(3, 4\), "
                                         r"expected \(4, 3\) \(input shape \(2, 3, 4\)\)"):  # fmt: skip
        kind((4, 3))(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=rf"{name}\(\(4, 3\)\): the input has 1 axes, expected 2 or more, the last of sizes "
                                         r"\(4, 3\) \(input shape \(3,\)\)"):  # fmt: skip
        kind((4, 3))(np.zeros(3))
    with pytest.raises(ValueError, match=rf"{name}\(4\): the input has 0 axes, expected 1 or more, the last of size 4"):
        kind(4)(1.0)
    with pytest.raises(ValueError, match=rf"{name}\(4, affine=False\): axis -1 of the input has size 3"):
        kind(4, affine=False)(np.zeros(3))


@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_arguments(kind):
    name = kind.__name__
    with pytest.raises(TypeError, match=rf"{name}\(size\): the size must be a whole number, got 2.5"):
        kind(2.5)
    with pytest.raises(TypeError, match=rf"{name}\(size\): each size must be a whole number, got None"):
        kind((2, None))
    with pytest.raises(ValueError, match=rf"{name}: give the size of one axis at least, got \(\)"):
        kind(())
    with pytest.raises(TypeError, match=rf"{name}: the activation must be a function, got 3; several sizes are a tuple"):
        kind(4, 3)
    for eps in (-1, np.inf, np.nan, "1", *([None] if kind is not RMSNorm else [])):
        with pytest.raises(ValueError, match=rf"{name}: eps must be 0 or a small positive number, got"):
            kind(4, eps=eps)
    with pytest.raises(TypeError, match=rf"{name}: `elementwise_affine=` is spelled `affine=` here"):
        kind(4, elementwise_affine=False)
    with pytest.raises(ValueError, match=rf"{name}: init gave an array of shape \(2,\), asked for \(4,\)"):
        kind(4, init=lambda n: np.zeros(2))


def test_wrong_biases():
    with pytest.raises(ValueError, match=r"LayerNorm: the bias has shape \(3,\), expected \(2, 3\)"):
        LayerNorm((2, 3), bias=np.ones(3))
    with pytest.raises(ValueError, match=r"LayerNorm: affine=False leaves the bias out, too; got one of shape \(3,\)"):
        LayerNorm(3, affine=False, bias=np.ones(3))
