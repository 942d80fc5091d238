"""ConvTranspose against PyTorch, its own definition, and as the adjoint of Conv."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    Chain,
    Conv,
    ConvTranspose,
    Param,
    SamePad,
    Tensor,
    conv_transpose,
    gelu,
    glorot_uniform,
    identity,
    ones,
    relu,
    tanh,
)
from tests.oracles import check_operation, normal

CASES = [
    ((3,), (2, 2), dict(stride=3, outpad=2), (3, 2, 5)),
    ((2, 3), (3, 2), dict(stride=(2, 1), pad=(1, 0), outpad=(1, 0)), (3, 3, 4, 5)),
    ((3, 3), (4, 4), dict(groups=2, dilation=2, outpad=1, bias=False), (2, 4, 3, 4)),
    ((2, 2, 3), (2, 2), dict(pad=(0, 1, 1), stride=2), (2, 2, 2, 3, 2)),
    ((3, 3), (4, 4), dict(groups=4, pad=1, stride=2, outpad=1), (2, 4, 4, 5)),
]


@pytest.mark.parametrize(("kernel", "channels", "options", "shape"), CASES)
def test_against_torch(kernel, channels, options, shape):
    torch = pytest.importorskip("torch")
    names = {"pad": "padding", "outpad": "output_padding"}
    torchs = {names.get(k, k): v for k, v in options.items()}
    ref = getattr(torch.nn, f"ConvTranspose{len(kernel)}d")(*channels, kernel, **torchs)
    layer = ConvTranspose(kernel, channels, tanh, **options)
    layer.load_state_dict({k: v.detach().numpy() for k, v in ref.state_dict().items()})
    x = normal(*shape, dtype=np.float32)
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.tanh(ref(tx))
    (ty**2).sum().backward()
    _, (grads, dx) = flux.withgradient(lambda m, x: (m(x) ** 2).sum(), layer, x)
    np.testing.assert_allclose(layer(x).data, ty.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(x[0]).data, ty[0].detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(grads.weight, ref.weight.grad.numpy(), rtol=1e-3, atol=1e-4)
    if layer.bias is not None:
        np.testing.assert_allclose(grads.bias, ref.bias.grad.numpy(), rtol=1e-3, atol=1e-4)
    back = {k: torch.tensor(v) for k, v in layer.state_dict().items()}
    ref.load_state_dict(back)  # the names and shapes of the other side


@pytest.mark.parametrize("act", [identity, relu, gelu, lambda z: z * z])
def test_the_layer_is_activation_of_conv_transpose_plus_bias(act):
    options = dict(stride=2, pad=((1, 0), (0, 2)), outpad=(0, 1), flipkernel=True)
    layer = ConvTranspose((2, 3), 2, 2, act, init_bias=ones, **options)
    x = normal(2, 2, 4, 3, dtype=np.float32)
    z = conv_transpose(x, layer.weight.data, **options).data + layer.bias.data[:, None, None]
    np.testing.assert_allclose(layer(x).data, act(Tensor(z)).data, rtol=1e-5, atol=1e-6)


def test_gradients_of_both_orders_through_the_layer():
    layer = ConvTranspose((2, 3), 4, 4, tanh, pad=1, groups=2, stride=2, outpad=1)

    def f(x, w, b):
        layer.weight, layer.bias = (v if isinstance(v, Tensor) else Tensor(v) for v in (w, b))
        return layer(x)

    check_operation(f, normal(2, 4, 3, 2), normal(4, 2, 2, 3), normal(4), dtypes=())


@pytest.mark.parametrize("options", [{}, dict(stride=2, outpad=1), dict(pad=((1, 0), (0, 2))), dict(groups=2, dilation=(1, 2))])
def test_it_is_the_adjoint_of_conv_with_the_same_weight(options):
    conv_options = {k: v for k, v in options.items() if k != "outpad"}
    channels = 2 * options.get("groups", 1)
    up = flux.f64(ConvTranspose((2, 3), channels, channels, bias=False, **options))
    down = Conv(up.weight.data, False, **conv_options)
    y = normal(2, channels, 5, 6)
    x = normal(*up(y).shape)
    np.testing.assert_allclose((down(x).data * y).sum(), (x * up(y).data).sum(), rtol=1e-10)


def test_same_pad_multiplies_the_size_by_the_stride():
    x = normal(1, 2, 4, 5)
    for stride in (1, 2, 3):
        for pad in (SamePad(), SamePad("upper")):
            assert ConvTranspose((4, 3), 2, 2, pad=pad, stride=stride)(x).shape == (1, 2, 4 * stride, 5 * stride)
    pad_first = ConvTranspose((3, 3), 1, 1, pad=SamePad(), stride=2)
    assert pad_first.window.pad == ((1, 0), (1, 0)), "the odd pixel is taken away at the start (Flux)"


def test_the_page_s_example():
    layer = ConvTranspose(np.array([[[1.0, 2]]]))
    assert layer(np.array([[4.0, 7, 10, 13]])).data.tolist() == [[4, 15, 24, 33, 26]]
    assert flux.outputsize(ConvTranspose((2, 2), (3, 16), relu), (1, 3, 100, 100)) == (1, 16, 101, 101)


def test_signatures():
    assert ConvTranspose((3, 3), 4, 8, relu).weight.shape == ConvTranspose((3, 3), (4, 8), relu).weight.shape == (4, 8, 3, 3)
    assert ConvTranspose((3, 3), 4, 8, groups=2).weight.shape == (4, 4, 3, 3)
    assert ConvTranspose((3, 3), 4, 8, groups=2).bias.shape == (8,)
    assert ConvTranspose((3,), 1, 8).activation is identity
    assert ConvTranspose((3,), 1, 8, bias=False).bias is None
    assert ConvTranspose((3,), 1, 8, bias=np.arange(8)).bias.data.tolist() == list(range(8))
    w, b = normal(4, 3, 3, 3), normal(6)
    layer = ConvTranspose(w, b, relu, groups=2, stride=2, outpad=1)
    assert isinstance(layer.weight, Param)
    np.testing.assert_array_equal(layer.weight.data, w)
    np.testing.assert_array_equal(layer.bias.data, b)
    assert (layer.in_, layer.out, layer.activation, layer.kernel) == (4, 6, relu, (3, 3))
    assert (layer.stride, layer.pad, layer.outpad, layer.dilation, layer.groups) == (2, 0, 1, 1, 2)
    assert ConvTranspose(w, False).bias is None
    assert ConvTranspose(w, relu).bias.shape == (3,)


def test_the_initialiser_gets_the_weight_s_own_shape():
    seen = []
    ConvTranspose((3, 2), 4, 6, groups=2, init=lambda *shape, **k: seen.append(shape) or np.zeros(shape))
    assert seen == [(4, 3, 3, 2)]
    assert flux.nfan(4, 3, 3, 2) == (6 * 3, 6 * 4), "the pair of a Conv, the other way round"
    a, b = (ConvTranspose((3, 3), 4, 5, rng=flux.Generator(5)).weight.data for _ in range(2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, glorot_uniform(4, 5, 3, 3, rng=flux.Generator(5)))


def test_an_empty_batch_and_other_dtypes():
    layer = ConvTranspose((3, 3), 2, 2, relu, stride=2)
    x = np.arange(2 * 5 * 5).reshape(2, 5, 5)
    assert layer(x).dtype == np.float32
    np.testing.assert_array_equal(layer(x).data, layer(x[None]).data[0])
    assert layer(np.zeros((0, 2, 5, 5))).shape == (0, 2, 11, 11)
    _, grads = flux.withgradient(lambda m: m(np.zeros((0, 2, 5, 5))).sum(), layer)
    assert not grads.weight.any()
    assert flux.f16(layer)(x).dtype == np.float16


@pytest.mark.parametrize(
    "text",
    [
        "ConvTranspose((3, 3), 1, 8, relu, pad=1)  # 80 parameters",
        "ConvTranspose((5,), 2, 3, bias=False)  # 30 parameters",
        "ConvTranspose((3, 3), 4, 8, stride=(2, 1), pad=((1, 0), (0, 1)), outpad=(1, 0), groups=2)  # 152 parameters",
        "ConvTranspose((2, 2), 1, 1, tanh, pad=SamePad('upper'), dilation=2, flipkernel=True)  # 5 parameters",
    ],
)
def test_it_prints_as_the_call_that_rebuilds_it(text):
    assert repr(eval(text.split("  #")[0])).startswith(text)


def test_wrong_inputs():
    layer = ConvTranspose((3, 3), 4, 8, relu, stride=2, pad=2)
    name = r"ConvTranspose\(\(3, 3\), 4, 8, relu, stride=2, pad=2\)"
    with pytest.raises(ValueError, match=name + r": the input has 3 channels on axis 1, expected 4 \(input shape \(2, 3"):
        layer(normal(2, 3, 8, 8))
    with pytest.raises(ValueError, match="the input has 3 channels on axis 0, expected 4"):
        layer(normal(3, 8, 8))
    with pytest.raises(ValueError, match=r"ConvTranspose\(.*\): a kernel of 2 axes takes an input of 4 axes \(N, C, ...\)"):
        layer(normal(8, 8))
    with pytest.raises(ValueError, match=r"ConvTranspose\(.*\): 1 pixels on axis -1 \(width\) with kernel span 3, stride 2 and "
                                         r"padding 2 \+ 2 leave an output of -1; use less padding"):
        layer(normal(2, 4, 8, 1))
    with pytest.raises(ValueError, match=r"Chain\[1\]"):
        Chain(identity, layer)(normal(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: ConvTranspose(3, 1, 8), TypeError, r"the kernel is a tuple with one size per axis, such as \(3, 3\), got 3"),
        (lambda: ConvTranspose((3, 3), 1), TypeError, "ConvTranspose: the channels are two whole numbers, in and out, got 1"),
        (lambda: ConvTranspose((3, 3), 1, 8, output_padding=1), TypeError, "outpad"),
        (lambda: ConvTranspose((3, 3), 1, 8, relu, 1), TypeError, r"unexpected arguments \[1\]"),
        (lambda: ConvTranspose((3, 3), 3, 8, groups=2), ValueError, "3 input and 8 output channels cannot be split into 2"),
        (lambda: ConvTranspose((3, 3), 1, 8, stride=2, outpad=2), ValueError,
         r"ConvTranspose: outpad 2 on axis -2 \(height\) must be smaller than the stride 2 or the dilation 1"),
        (lambda: ConvTranspose((3, 3), 1, 8, pad="same"), ValueError, "pad='same' is for convolutions"),
        (lambda: ConvTranspose((1, 1), 1, 8, pad=SamePad(), stride=2), ValueError, "spans at least the stride"),
        (lambda: ConvTranspose((3, 3), 4, 8, groups=2, bias=np.ones(4)), ValueError, r"bias has shape \(4,\), expected \(8,\)"),
        (lambda: ConvTranspose(np.ones((3, 3))), ValueError, r"the weight has the axes \(in, out/groups, kernel...\), got"),
        (lambda: ConvTranspose(np.ones((3, 2, 3)), groups=2), ValueError,
         r"the weight has 3 channels on axis 0, which cannot be split into 2 groups \(weight shape \(3, 2, 3\)\)"),
    ],
)
def test_wrong_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()
