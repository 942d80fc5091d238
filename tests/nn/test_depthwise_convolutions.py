"""DepthwiseConv against PyTorch, against Conv with groups and against its own definition; every signature, every error."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, DepthwiseConv, Param, SamePad, Tensor, gelu, glorot_uniform, identity, ones, relu, tanh
from minitorch_flux.ops.depthwise import depthwise_data, depthwise_filter, depthwise_forward
from tests.oracles import check_operation, needs_compiler, normal

CASES = [
    ((3,), 2, 3, dict(pad=1), (3, 2, 9)),
    ((3, 3), 3, 1, dict(stride=2, pad=1), (3, 3, 7, 6)),
    ((3, 3), 4, 2, dict(dilation=(1, 2), bias=False), (2, 4, 7, 8)),
    ((2, 3, 3), 2, 2, dict(pad=1, stride=(2, 1, 1)), (2, 2, 4, 5, 6)),
    ((3, 3), 4, 2, dict(pad="same"), (2, 4, 5, 5)),
]


@pytest.mark.parametrize(("kernel", "channels", "mul", "options", "shape"), CASES)
def test_against_torch(kernel, channels, mul, options, shape):
    torch = pytest.importorskip("torch")
    torchs = {{"pad": "padding"}.get(k, k): v for k, v in options.items()}
    ref = getattr(torch.nn, f"Conv{len(kernel)}d")(channels, channels * mul, kernel, groups=channels, **torchs)
    layer = DepthwiseConv(kernel, channels, mul, tanh, **options)
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
    ref.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})


def test_outputs_are_input_channel_major():
    """The definition, channel by channel: outputs c * mul ... are those of input c; the kernel is not flipped."""
    signal = pytest.importorskip("scipy.signal")
    layer = flux.f64(DepthwiseConv((3, 3), (3, 2)))
    x = normal(1, 3, 6, 7)
    y = layer(x).data[0]
    for c in range(3):
        for m in range(2):
            wanted = signal.correlate(x[0, c], layer.weight.data[2 * c + m, 0], "valid")
            np.testing.assert_allclose(y[2 * c + m], wanted, rtol=1e-10, atol=1e-12)
    flipped = DepthwiseConv(layer.weight.data, mul=2, flipkernel=True)(x).data[0]
    np.testing.assert_allclose(flipped[3], signal.convolve(x[0, 1], layer.weight.data[3, 0], "valid"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("act", [identity, relu, gelu, lambda z: z * z])
def test_it_is_conv_with_as_many_groups_as_channels(act):
    options = dict(stride=2, pad=((1, 0), (1, 2)))
    layer = DepthwiseConv((3, 3), 3, 2, act, init_bias=ones, **options)
    same = Conv(layer.weight.data, layer.bias.data, act, groups=3, **options)
    x = normal(2, 3, 6, 7, dtype=np.float32)
    np.testing.assert_array_equal(layer(x).data, same(x).data)


@needs_compiler
def test_its_forward_and_gradients_run_the_depthwise_kernels():
    three = depthwise_forward, depthwise_data, depthwise_filter
    before = [f.launches for f in three]
    flux.gradient(lambda m, x: m(x).sum(), DepthwiseConv((3, 3), 3, relu), normal(2, 3, 6, 7, dtype=np.float32))
    assert [f.launches for f in three] == [n + 1 for n in before]


def test_gradients_of_both_orders_through_the_layer():
    layer = DepthwiseConv((3, 3), 2, 2, tanh, pad=1)

    def f(x, w, b):
        layer.weight, layer.bias = (v if isinstance(v, Tensor) else Tensor(v) for v in (w, b))
        return layer(x)

    check_operation(f, normal(2, 2, 4, 5), normal(4, 1, 3, 3), normal(4), dtypes=())


def test_the_second_number_is_the_multiplier():
    for sizes in ((3,), (3, relu), (3, 1), ((3,),), ((3, 1), relu)):
        layer = DepthwiseConv((3, 3), *sizes)
        assert layer.weight.shape == (3, 1, 3, 3)
        assert (layer.in_, layer.mul, layer.out, layer.groups) == (3, 1, 3, 3)
    pair, two, keyword = (3, 5), (3, 5, relu), dict(mul=5)
    for layer in (DepthwiseConv((3, 3), pair, relu), DepthwiseConv((3, 3), *two), DepthwiseConv((3, 3), 3, relu, **keyword)):
        assert layer.weight.shape == (15, 1, 3, 3)
        assert layer.bias.shape == (15,)
        assert (layer.in_, layer.mul, layer.out, layer.groups, layer.activation) == (3, 5, 15, 3, relu)
        assert layer(np.zeros((1, 3, 6, 6))).shape == (1, 15, 4, 4)
    assert DepthwiseConv((3, 3), (3, 5))(np.zeros((3, 6, 6))).shape == (15, 4, 4)


def test_from_arrays():
    w, b = normal(6, 1, 3, 2), normal(6)
    layer = DepthwiseConv(w, b, relu, mul=2, pad=1)
    assert isinstance(layer.weight, Param)
    np.testing.assert_array_equal(layer.weight.data, w)
    np.testing.assert_array_equal(layer.bias.data, b)
    assert (layer.in_, layer.mul, layer.activation, layer.kernel, layer.pad) == (3, 2, relu, (3, 2), 1)
    assert DepthwiseConv(w, False).bias is None
    assert DepthwiseConv(w, relu).in_ == 6


def test_arguments_are_kept_and_initialisers_draw():
    layer = DepthwiseConv((3, 2), 4, 2, stride=2, pad=(1, 0), dilation=(1, 2), flipkernel=True, init=ones, bias=np.arange(8))
    kept = (layer.kernel, layer.stride, layer.pad, layer.dilation, layer.flipkernel, layer.init, layer.mul)
    assert kept == ((3, 2), 2, (1, 0), (1, 2), True, ones, 2)
    assert (layer.weight.data == 1).all()
    assert layer.bias.data.tolist() == list(range(8))
    a = DepthwiseConv((3, 3), 4, 2, rng=flux.Generator(5)).weight.data
    np.testing.assert_array_equal(a, glorot_uniform(8, 1, 3, 3, rng=flux.Generator(5)))


def test_same_pads_empty_batches_and_other_dtypes():
    x = np.arange(2 * 7 * 10).reshape(1, 2, 7, 10)
    for pad in (SamePad(), SamePad("upper"), "same"):
        assert DepthwiseConv((3, 3), 2, 2, pad=pad)(x).shape == (1, 4, 7, 10)
    assert DepthwiseConv((3, 3), 2, pad=SamePad(), stride=2)(x).shape == (1, 2, 4, 5)
    layer = DepthwiseConv((3, 3), 2)
    assert layer(x).dtype == np.float32
    assert layer(x[:0]).shape == (0, 2, 5, 8)
    assert flux.f16(layer)(x).dtype == np.float16
    assert flux.f64(layer)(x).dtype == np.float64


@pytest.mark.parametrize(
    "text",
    [
        "DepthwiseConv((3, 3), 8)  # 80 parameters",
        "DepthwiseConv((3, 3), 8, relu, pad=1)  # 80 parameters",
        "DepthwiseConv((5,), 2, 3, bias=False)  # 30 parameters",
        "DepthwiseConv((3, 3), 4, 2, tanh, stride=(2, 1), pad=((1, 0), (0, 1)), dilation=2, flipkernel=True)  # 80 parameters",
        "DepthwiseConv((2, 2), 1, pad=SamePad(), init=ones)  # 5 parameters",
    ],
)
def test_it_prints_as_the_call_that_rebuilds_it(text):
    layer = eval(text.split("  #")[0])
    assert repr(layer).startswith(text)


def test_wrong_inputs():
    layer = DepthwiseConv((3, 3), 4, 2, relu)
    name = r"DepthwiseConv\(\(3, 3\), 4, 2, relu\)"
    with pytest.raises(ValueError, match=name + r": the input has 8 channels on axis 1, expected 4 \(input shape \(2, 8"):
        layer(normal(2, 8, 8, 8))
    with pytest.raises(ValueError, match="the input has 3 channels on axis 0, expected 4"):
        layer(normal(3, 8, 8))
    with pytest.raises(ValueError, match=r"DepthwiseConv\(.*\): the kernel is larger than the input on axis -1 \(width\): it"):
        layer(normal(2, 4, 8, 2))
    with pytest.raises(ValueError, match=r"Chain\[1\]"):
        Chain(identity, layer)(normal(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: DepthwiseConv(3, 1), TypeError, r"the kernel is a tuple with one size per axis, such as \(3, 3\), got 3"),
        (lambda: DepthwiseConv((3, 3), "3"), TypeError, "the number of input channels must be a whole number, got '3'"),
        (lambda: DepthwiseConv((3, 3)), TypeError, r"DepthwiseConv: the channels are in, or in and the multiplier, got \(\)"),
        (lambda: DepthwiseConv((3, 3), (1, 2, 3)), TypeError, "the channels are in, or in and the multiplier"),
        (lambda: DepthwiseConv((3, 3), 3, 2, mul=2), TypeError, "the multiplier is given twice, as 2 and as mul=2"),
        (lambda: DepthwiseConv((3, 3), 3, 0), ValueError, "the multiplier must be at least 1, got 0"),
        (lambda: DepthwiseConv((3, 3), 3, "relu"), TypeError, "the multiplier must be a whole number, got 'relu'"),
        (lambda: DepthwiseConv((3, 3), 3, 2, "relu"), TypeError, "the activation must be a function, got 'relu'"),
        (lambda: DepthwiseConv((3, 3), 3, 2, relu, 1), TypeError, r"unexpected arguments \[1\]; after the activation come"),
        (lambda: DepthwiseConv((3, 3), 3, groups=3), TypeError, "groups"),
        (lambda: DepthwiseConv((3, 3), 3, padding=1), TypeError, "pad"),
        (lambda: DepthwiseConv((3, 3), 3, 2, bias=np.ones(3)), ValueError, r"the bias has shape \(3,\), expected \(6,\)"),
        (lambda: DepthwiseConv(np.ones((3, 3))), ValueError, r"the weight has the axes \(in \* mul, 1, kernel...\), got shape"),
        (lambda: DepthwiseConv(np.ones((3, 2, 3))), ValueError, r"the axes \(in \* mul, 1, kernel...\) with mul 1"),
        (lambda: DepthwiseConv(np.ones((3, 1, 3)), mul=2), ValueError, r"with mul 2, got shape \(3, 1, 3\)"),
    ],
)
def test_wrong_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()
