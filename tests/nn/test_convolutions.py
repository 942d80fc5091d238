"""Conv against PyTorch and its own definition: both signatures, every keyword, printing, every error."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, CrossCor, Param, SamePad, Tensor, conv, gelu, glorot_uniform, identity, ones, relu, tanh
from tests.oracles import check_operation, normal

CASES = [
    ((3,), (2, 4), {}, (3, 2, 9)),
    ((3, 2), (2, 4), dict(stride=(2, 1), pad=(1, 0)), (3, 2, 7, 6)),
    ((3, 3), (4, 6), dict(groups=2, dilation=2, bias=False), (2, 4, 7, 8)),
    ((2, 3, 2), (2, 3), dict(pad=1, stride=2), (2, 2, 4, 5, 6)),
    ((3, 3), (4, 8), dict(groups=4, pad="same"), (2, 4, 5, 5)),
]


@pytest.mark.parametrize(("kernel", "channels", "options", "shape"), CASES)
def test_against_torch(kernel, channels, options, shape):
    torch = pytest.importorskip("torch")
    layer = Conv(kernel, channels, tanh, **options)
    torchs = {"pad": "padding"}
    ref = getattr(torch.nn, f"Conv{len(kernel)}d")(*channels, kernel, **{torchs.get(k, k): v for k, v in options.items()})
    layer.load_state_dict({k: v.detach().numpy() for k, v in ref.state_dict().items()})
    x = normal(*shape, dtype=np.float32)
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.tanh(ref(tx))
    (ty**2).sum().backward()
    _, (grads, dx) = flux.withgradient(lambda m, x: (m(x) ** 2).sum(), layer, x)
    np.testing.assert_allclose(layer(x).data, ty.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(grads.weight, ref.weight.grad.numpy(), rtol=1e-3, atol=1e-4)
    if layer.bias is not None:
        np.testing.assert_allclose(grads.bias, ref.bias.grad.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("act", [identity, relu, gelu, lambda z: z * z])
def test_the_layer_is_activation_of_conv_plus_bias(act):
    layer = Conv((2, 3), 2, 3, act, stride=2, pad=((1, 0), (0, 2)), flipkernel=True, init_bias=ones)
    x = normal(2, 2, 5, 6, dtype=np.float32)
    z = conv(x, layer.weight.data, stride=2, pad=((1, 0), (0, 2)), flipkernel=True).data + layer.bias.data[:, None, None]
    np.testing.assert_allclose(layer(x).data, act(Tensor(z)).data, rtol=1e-5, atol=1e-6)


def test_gradients_through_the_layer():
    layer = Conv((3, 2), 2, 3, tanh, pad=1, groups=1)
    w, b = normal(3, 2, 3, 2), normal(3)

    def f(x, w, b):
        layer.weight, layer.bias = (v if isinstance(v, Tensor) else Tensor(v) for v in (w, b))
        return layer(x)

    check_operation(f, normal(2, 2, 4, 5), w, b)


def test_same_pads_keep_the_size():
    x = normal(1, 2, 7, 10)
    for pad in (SamePad(), SamePad("upper"), "same"):
        assert Conv((4, 3), 2, 5, pad=pad)(x).shape == (1, 5, 7, 10)
    assert Conv((4, 3), 2, 5, pad=SamePad(), stride=2)(x).shape == (1, 5, 4, 5)
    assert Conv((4, 3), 2, 5, pad=SamePad("upper"), stride=2)(x).shape == (1, 5, 4, 5)


def test_signatures():
    assert Conv((3, 3), 1, 8, relu).weight.shape == Conv((3, 3), (1, 8), relu).weight.shape == (8, 1, 3, 3)
    assert Conv((3, 3), 4, 8, groups=2).weight.shape == (8, 2, 3, 3)
    assert Conv((3,), 1, 8).activation is identity
    assert Conv((3,), 1, 8, bias=False).bias is None
    assert Conv((3,), 1, 8, bias=np.arange(8)).bias.data.tolist() == list(range(8))
    assert isinstance(Conv((3,), 1, 8).weight, Param)
    assert Conv((3,), 1, 8).weight.dtype == np.float32
    w, b = normal(4, 2, 3, 3), normal(4)
    layer = Conv(w, b, relu, pad=1)
    np.testing.assert_array_equal(layer.weight.data, w)
    np.testing.assert_array_equal(layer.bias.data, b)
    assert (layer.activation, layer.kernel, layer.pad) == (relu, (3, 3), 1)
    assert Conv(w, False).bias is None
    assert Conv(w, relu).activation is relu
    assert Conv(w, relu).bias.shape == (4,)
    w[:] = 0
    assert layer.weight.data.any(), "the weights are copied"


def test_arguments_are_kept_as_attributes():
    layer = Conv((3, 2), 4, 6, stride=2, pad=(1, 0), dilation=(1, 2), groups=2, flipkernel=True, init=ones)
    kept = (layer.kernel, layer.stride, layer.pad, layer.dilation, layer.groups, layer.flipkernel, layer.init)
    assert kept == ((3, 2), 2, (1, 0), (1, 2), 2, True, ones)
    assert (layer.weight.data == 1).all()


def test_the_same_rng_gives_the_same_weights_and_glorot_counts_the_window():
    a, b = (Conv((3, 3), 4, 5, rng=flux.Generator(5)).weight.data for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert abs(a).max() <= np.sqrt(6 / (9 * (4 + 5)))
    np.testing.assert_array_equal(a, glorot_uniform(5, 4, 3, 3, rng=flux.Generator(5)))


def test_a_missing_batch_axis_and_other_dtypes():
    layer = Conv((3, 3), 2, 3, relu)
    x = np.arange(2 * 5 * 5).reshape(2, 5, 5)
    assert layer(x).shape == (3, 3, 3)
    assert layer(x).dtype == np.float32
    np.testing.assert_array_equal(layer(x).data, layer(x[None]).data[0])
    assert layer(np.zeros((0, 2, 5, 5))).shape == (0, 3, 3, 3)


def test_state_dict_round_trip():
    a, b = Conv((3, 3), 2, 3), Conv((3, 3), 2, 3)
    assert list(a.state_dict()) == ["weight", "bias"]
    b.load_state_dict(a.state_dict())
    x = normal(1, 2, 5, 5)
    np.testing.assert_array_equal(a(x).data, b(x).data)


@pytest.mark.parametrize(
    "text",
    [
        "Conv((3, 3), 1, 8, relu, pad=1)  # 80 parameters",
        "Conv((5,), 2, 3, bias=False)  # 30 parameters",
        "Conv((3, 3), 4, 8, stride=(2, 1), pad=((1, 0), (0, 1)), dilation=2, groups=2)  # 152 parameters",
        "Conv((2, 2), 1, 1, tanh, pad=SamePad('upper'), flipkernel=True)  # 5 parameters",
    ],
)
def test_it_prints_as_the_call_that_rebuilds_it(text):
    code = text.split("  #")[0]
    assert repr(eval(code)).startswith(text)


# -- CrossCor ----------------------------------------------------------------------------------------------------------


def test_crosscor_is_conv_that_never_flips():
    options = dict(stride=(2, 1), pad=((1, 0), (0, 2)), dilation=(1, 2), groups=2)
    w, b = normal(4, 2, 3, 2), normal(4)
    a, c = CrossCor(w, b, tanh, **options), Conv(w, b, tanh, **options)
    x = normal(2, 4, 6, 7)
    np.testing.assert_array_equal(a(x).data, c(x).data)
    assert not np.allclose(a(x).data, Conv(w, b, tanh, flipkernel=True, **options)(x).data)
    assert CrossCor((3, 3), 1, 8, relu).weight.shape == CrossCor((3, 3), (1, 8), relu).weight.shape == (8, 1, 3, 3)
    assert CrossCor((3, 3), 1, 8, bias=False)(normal(1, 5, 6)).shape == (8, 3, 4)
    assert list(a.state_dict()) == ["weight", "bias"]


def test_crosscor_against_scipy():
    signal = pytest.importorskip("scipy.signal")
    x, w = normal(7, 9), normal(3, 4)
    y = CrossCor(w[None, None], False)(x[None]).data[0]
    np.testing.assert_allclose(y, signal.correlate(x, w, "valid"), rtol=1e-10, atol=1e-12)
    flipped = Conv(w[None, None], False, flipkernel=True)(x[None]).data[0]
    np.testing.assert_allclose(flipped, signal.convolve(x, w, "valid"), rtol=1e-10, atol=1e-12)


def test_crosscor_refuses_flipkernel_and_prints_without_it():
    for flip in (True, False):
        with pytest.raises(TypeError, match=r"CrossCor never flips its kernel; Conv\(..., flipkernel=True\) is the layer that"):
            CrossCor((3, 3), 1, 8, flipkernel=flip)
    text = "CrossCor((3, 2), 4, 8, relu, stride=2, pad=SamePad(), groups=2)  # 104 parameters"
    assert repr(eval(text.split("  #")[0])) == text
    with pytest.raises(ValueError, match=r"CrossCor\(\(3, 3\), 4, 8\): the input has 3 channels on axis 1, expected 4"):
        CrossCor((3, 3), 4, 8)(normal(2, 3, 8, 8))


# -- errors ------------------------------------------------------------------------------------------------------------


def test_wrong_inputs():
    layer = Conv((3, 3), 4, 8, relu)
    name = r"Conv\(\(3, 3\), 4, 8, relu\)"
    with pytest.raises(ValueError, match=name + r": the input has 3 channels on axis 1, expected 4 \(input shape \(2, 3"):
        layer(normal(2, 3, 8, 8))
    with pytest.raises(ValueError, match="the input has 3 channels on axis 0, expected 4"):
        layer(normal(3, 8, 8))
    with pytest.raises(ValueError, match=name + r": a kernel of 2 axes takes an input of 4 axes \(N, C, ...\), or 3 for one"):
        layer(normal(8, 8))
    with pytest.raises(ValueError, match=name + r": the kernel is larger than the input on axis -1 \(width\): it spans 3 p"):
        layer(normal(2, 4, 8, 2))
    with pytest.raises(TypeError, match="complex numbers are not supported"):
        layer(np.zeros((2, 4, 8, 8), complex))
    with pytest.raises(ValueError, match=r"Chain\[1\]"):
        Chain(identity, layer)(normal(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Conv(3, 1, 8), r"the kernel is a tuple with one size per axis, such as \(3, 3\), got 3"),
        (lambda: Conv((3, 3), 1), "the channels are two whole numbers, in and out, got 1"),
        (lambda: Conv((3, 3), (1, 2, 3)), "the channels are two whole numbers"),
        (lambda: Conv((3, 3), 1, 8, "relu"), "the activation must be a function, got 'relu'"),
        (lambda: Conv((3, 3), 1, 8, relu, 1), r"unexpected arguments \[1\]; after the activation come keywords"),
        (lambda: Conv((3, 3), 1, 8, padding=1), "pad"),
        (lambda: Conv((3, 3), 1, 8, kernel_size=1), "first argument"),
    ],
)
def test_wrong_types_of_arguments(make, text):
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Conv((3, 3), 3, 8, groups=2), "3 input and 8 output channels cannot be split into 2 groups"),
        (lambda: Conv((3, 3), 1, 8, pad=(1, 1, 2, 2)), r"write \(lo, hi\) pairs: pad=\(\(1, 1\), \(2, 2\)\)"),
        (lambda: Conv((3, 3), 1, 8, bias=np.ones(3)), r"the bias has shape \(3,\), expected \(8,\)"),
        (lambda: Conv(np.ones((3, 3))), r"the weight has the axes \(out, in/groups, kernel...\), got shape \(3, 3\)"),
        (lambda: Conv((3, 3), 1, 8, stride=0), "stride must be at least 1"),
        (lambda: Conv(np.ones((3, 1, 3)), groups=2), r"the weight has 3 channels on axis 0, which cannot be split"),
    ],
)
def test_wrong_values_of_arguments(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_sizes_may_be_numpys_integers_and_init_must_give_what_was_asked_for():
    assert repr(Conv((3, 3), np.int64(1), np.prod([2, 2]))).startswith("Conv((3, 3), 1, 4)")
    with pytest.raises(ValueError, match=r"Conv: init gave an array of shape \(3, 3, 1, 2\), asked for \(2, 1, 3, 3\)"):
        Conv((3, 3), 1, 2, init=lambda *shape: np.zeros(shape[::-1]))
