"""conv_transpose against its definition, PyTorch, SciPy, and as the adjoint of conv."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minitorch_flux import Tensor, conv, conv_transpose, gelu, identity, relu, swish, tanh
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from minitorch_flux.ops.geometry import SamePad, window
from minitorch_flux.ops.transposed_convolution import conv_transpose_bias_act, conv_transpose_bias_act_forward
from tests.oracles import check_against_torch, check_operation, needs_compiler, normal


def slow_conv_transpose(x, w, stride=1, pad=0, outpad=0, dilation=1, groups=1, flipkernel=False):
    """The definition: every input pixel adds a kernel, which is then cut to size."""
    n, c, *sizes = x.shape
    box = window("slow", w.shape[2:], stride, pad, dilation, groups, transposed=True).outpadded(outpad)
    ndim, each = box.ndim, w.shape[1]
    y = np.zeros((n, each * groups, *box.transposed_size(tuple(sizes))), np.result_type(x, w))
    if flipkernel:
        w = w[(slice(None), slice(None), *(slice(None, None, -1),) * ndim)]
    for i, o, p, k in itertools.product(range(c), range(each), np.ndindex(*sizes), np.ndindex(*box.kernel)):
        at = tuple(p[a] * box.stride[a] + k[a] * box.dilation[a] - box.lo[a] for a in range(ndim))
        if all(0 <= a < s for a, s in zip(at, y.shape[2:], strict=True)):
            y[(slice(None), i // (c // groups) * each + o, *at)] += x[(slice(None), i, *p)] * w[(i, o, *k)]
    return y


CASES = {  # x, w, options; two channels see two and lines have three taps, so that they share builds of the kernels
    "plain": ((2, 2, 4, 5), (2, 2, 3, 3), {}),
    "stride and outpad": ((2, 2, 4, 3), (2, 2, 2, 3), dict(stride=2, pad=1, outpad=1)),
    "1-d": ((2, 2, 6), (2, 2, 3), dict(stride=2, dilation=2, pad=((1, 2),), outpad=(1,))),
    "3-d": ((2, 2, 2, 3, 2), (2, 2, 2, 2, 3), dict(stride=(1, 2, 2), pad=(0, 1, (1, 0)), dilation=(2, 1, 1))),
    "asymmetric": ((2, 2, 4, 3), (2, 2, 2, 3), dict(stride=(3, 2), pad=((2, 0), (1, 3)), dilation=(2, 1), outpad=(1, 1))),
    "outpad below the dilation": ((2, 2, 4, 3), (2, 2, 3, 3), dict(dilation=(3, 2), outpad=(2, 1), pad=1)),
    "outpad beyond the padding": ((1, 2, 3, 4), (2, 2, 2, 3), dict(dilation=(3, 2), stride=(2, 1), outpad=(2, 1))),
    "groups": ((2, 4, 3, 5), (4, 2, 2, 3), dict(groups=2, pad=1, stride=2, outpad=(1, 0))),
    "depthwise": ((2, 3, 4, 6), (3, 1, 3, 3), dict(groups=3, pad=1, stride=2, outpad=1)),
    "depthwise, sums of two": ((2, 6, 4, 5), (6, 1, 3, 3), dict(groups=3, pad=1, stride=2)),
    "1x1": ((2, 3, 3, 4), (3, 5, 1, 1), {}),
    "1x1 with a stride": ((2, 3, 3, 2), (3, 2, 1, 1), dict(stride=2, outpad=(0, 1))),
    "SamePad": ((2, 2, 3, 4), (2, 2, 4, 3), dict(pad=SamePad(), stride=2)),
    "SamePad upper": ((2, 2, 3, 4), (2, 2, 4, 3), dict(pad=SamePad("upper"), stride=2)),
    "flipped": ((2, 2, 3, 4), (2, 2, 2, 3), dict(flipkernel=True, stride=2)),
    "everything cut away": ((2, 2, 1, 3), (2, 2, 3, 3), dict(pad=((2, 1), 0))),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_of_both_orders(case):
    x, w, options = CASES[case]
    check_operation(conv_transpose, normal(*x), normal(*w), oracle=slow_conv_transpose, dtypes=(), **options)


@pytest.mark.parametrize("case", ["stride and outpad", "groups"])
def test_float32_and_float16_are_kept(case):
    x, w, options = CASES[case]
    check_operation(conv_transpose, normal(*x), normal(*w), order=0, layouts=False, dtypes=(np.float32, np.float16), **options)


@pytest.mark.parametrize("case", [k for k, (_, _, o) in CASES.items() if isinstance(o.get("pad", 0), int)])
def test_against_torch(case):
    F = pytest.importorskip("torch").nn.functional
    x, w, options = CASES[case]
    names = {"pad": "padding", "outpad": "output_padding"}
    torchs = {names.get(k, k): v for k, v in options.items() if k != "flipkernel"}
    f = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(x) - 3]
    spatial = tuple(range(2, len(x)))
    check_against_torch(
        lambda x, w: conv_transpose(x, w, **options),
        lambda x, w: f(x, w.flip(spatial) if options.get("flipkernel") else w, **torchs),
        normal(*x), normal(*w),
    )


def test_the_page_s_example_and_flux_s():
    x, w = np.array([[[4.0, 7, 10, 13]]]), np.array([[[1.0, 2]]])
    assert conv_transpose(x, w).data.tolist() == [[[4, 15, 24, 33, 26]]]
    assert conv_transpose(x, w, flipkernel=True).data.tolist() == [[[8, 18, 27, 36, 13]]]


def test_scipy_s_full_convolution():
    signal = pytest.importorskip("scipy.signal")
    x, w = normal(5, 6), normal(3, 4)
    y = conv_transpose(x[None, None], w[None, None]).data[0, 0]
    np.testing.assert_allclose(y, signal.convolve(x, w, "full"), rtol=1e-10, atol=1e-12)
    flipped = conv_transpose(x[None, None], w[None, None], flipkernel=True).data[0, 0]
    np.testing.assert_allclose(flipped, signal.correlate(x, w, "full"), rtol=1e-10, atol=1e-12)
    assert not np.allclose(y, flipped)


axis = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 2]), st.integers(0, 2), st.integers(0, 2), st.integers(1, 2),
    st.integers(0, 1),
)


@given(st.lists(axis, min_size=1, max_size=3), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.booleans())
def test_it_is_the_adjoint_of_conv(axes, groups, c, o, flipkernel):
    sizes, kernel, stride, lo, hi, dilation, outpad = zip(*axes, strict=True)
    assume(all(e < max(s, d) for e, s, d in zip(outpad, stride, dilation, strict=True)))
    pad = tuple(zip(lo, hi, strict=True))
    ends = [(i - 1) * s + (k - 1) * d + 1 - a - b + e
            for i, k, s, a, b, d, e in zip(sizes, kernel, stride, lo, hi, dilation, outpad, strict=True)]
    assume(all(e > 0 for e in ends))
    y, w = normal(2, o * groups, *sizes), normal(o * groups, c, *kernel)
    options = dict(stride=stride, pad=pad, dilation=dilation, groups=groups, flipkernel=flipkernel)
    with use_kernels(False):
        back = conv_transpose(y, w, outpad=outpad, **options).data
        x = normal(*back.shape, seed=1)
        forth = conv(x, w, **options).data
    assert back.shape == (2, c * groups, *ends)
    forth = forth[(slice(None), slice(None), *map(slice, sizes))]  # beyond the stride, outpad lets conv see further
    np.testing.assert_allclose((forth * y).sum(), (x * back).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", [identity, relu, tanh, swish, gelu])
def test_with_bias_and_activation(act, bias):
    box = window("w", (2, 3), 2, 1, groups=2, transposed=True).outpadded(1)
    x, w, b = normal(2, 4, 3, 4), normal(4, 2, 2, 3), normal(4) if bias else None

    def unfused(x, w, b):
        y = slow_conv_transpose(x, w, stride=2, pad=1, outpad=1, groups=2)
        return act(Tensor(y if b is None else y + b[:, None, None])).data

    check_operation(lambda x, w, b: conv_transpose_bias_act(x, w, b, box, act), x, w, b, oracle=unfused, dtypes=())


def test_only_what_the_gradient_needs_is_kept():
    box = window("w", (1,), transposed=True)
    x, w, b = normal(1, 1, 3), normal(1, 1, 1), normal(1)
    assert conv_transpose_bias_act_forward(x, w, b, box, (3,), relu)[1] is None
    y, z = conv_transpose_bias_act_forward(x, w, b, box, (3,), swish)
    np.testing.assert_allclose(swish(z).data, y)


@needs_compiler
def test_its_forward_and_gradients_are_the_triad_s_kernels():
    import minitorch_flux as flux

    x, w = normal(2, 2, 5, 6), normal(2, 2, 3, 3)
    before = [f.launches for f in (conv_data_forward, conv_forward, conv_filter_forward)]
    flux.gradient(lambda x, w: conv_transpose(x, w, stride=2).sum(), x, w)
    assert [f.launches for f in (conv_data_forward, conv_forward, conv_filter_forward)] == [n + 1 for n in before]


@pytest.mark.parametrize(
    ("xs", "ws"), [((0, 2, 3, 4), (2, 3, 2, 2)), ((2, 0, 3, 4), (0, 3, 2, 2)), ((2, 2, 3, 4), (2, 0, 2, 2))]
)
def test_empty_arrays(xs, ws):
    check_operation(conv_transpose, normal(*xs), normal(*ws), oracle=slow_conv_transpose, stride=2, dtypes=())


def test_a_missing_batch_axis_and_mixed_dtypes():
    x, w = normal(2, 5, 6), normal(2, 2, 3, 3)
    np.testing.assert_array_equal(conv_transpose(x, w, pad=1).data, conv_transpose(x[None], w, pad=1).data[0])
    check_operation(conv_transpose, x, w, pad=1, dtypes=())
    assert conv_transpose(x.astype(np.float32), w).dtype == np.float64
    assert conv_transpose(np.ones((1, 1, 2), np.int32), np.ones((1, 1, 2), np.int32)).data.tolist() == [[[1, 2, 1]]]


@pytest.mark.parametrize(
    ("xs", "ws", "options", "text"),
    [
        ((2, 3, 5, 5), (4, 2, 3, 3), {}, r"conv_transpose: the input has 3 channels on axis -3, expected 4 \(input shape "
                                         r"\(2, 3, 5, 5\), weight shape \(4, 2, 3, 3\)\)"),
        ((2, 3, 5, 5), (3, 2, 3, 3), dict(groups=2), r"conv_transpose: 3 input channels \(axis 0 of the weight\) cannot be"),
        ((5, 5), (4, 3, 3, 3), {}, r"a kernel of 2 axes takes an input of 4 axes .* got 2 axes \(input shape \(5, 5\)\)"),
        ((2, 3, 5, 5), (3, 4), {}, r"the weight has the axes \(in, out/groups, kernel...\), got shape \(3, 4\)"),
        ((2, 3, 5, 5), (3, 2, 3, 3), dict(outpad=1), r"outpad 1 on axis -2 \(height\) must be smaller than the stride 1 or"),
        ((2, 3, 1, 5), (3, 2, 1, 1), dict(pad=1), r"1 pixels on axis -2 \(height\) .* leave an output of -1; use less padding"),
        ((2, 3, 0, 5), (3, 2, 3, 3), {}, r"0 pixels on axis -2 \(height\) with kernel span 3, stride 1 and padding 0 \+ 0"),
        ((2, 3, 5, 5), (3, 2, 3, 3), dict(pad="same"), "pad='same' is for convolutions; use SamePad"),
        ((2, 3, 5, 5), (3, 2, 1, 1), dict(pad=SamePad(), stride=2), "needs a kernel that spans at least the stride"),
    ],
)
def test_what_does_not_fit_raises(xs, ws, options, text):
    with pytest.raises(ValueError, match=text):
        conv_transpose(normal(*xs), normal(*ws), **options)
