"""Windows: sizes against their definition and PyTorch, every way of writing a pad, every error."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux import SamePad
from minitorch_flux.ops.geometry import Window, window


def starts(size, kernel, stride, lo, hi, dilation):
    """How many windows fit into the padded axis, by trying."""
    n = 0
    while -lo + n * stride + (kernel - 1) * dilation < size + hi:
        n += 1
    return n


axis = st.tuples(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)
)


@given(st.lists(axis, min_size=1, max_size=3))
def test_output_size_is_the_number_of_windows_that_fit(axes):
    sizes, kernel, stride, lo, hi, dilation = zip(*axes, strict=True)
    w = window("w", kernel, stride, tuple(zip(lo, hi, strict=True)), dilation)
    wanted = tuple(starts(*a) for a in axes)
    if 0 in wanted:
        with pytest.raises(ValueError, match="the kernel is larger than the input"):
            w.output_size(sizes)
    else:
        assert w.output_size(sizes) == wanted


@given(axis, st.integers(0, 2))
def test_transposed_size_is_the_inverse(a, extra):
    size, kernel, stride, lo, hi, dilation = a
    extra = min(extra, max(stride, dilation) - 1)
    plain = window("w", (kernel,), stride, ((lo, hi),), dilation)
    w = plain.outpadded(extra)
    try:
        (out,) = w.transposed_size((size,))
    except ValueError as error:
        assert "use less padding" in str(error)  # noqa: PT017
        return
    assert out == (size - 1) * stride + w.span[0] - lo - hi + extra
    assert w.output_size((out,)) == (size,)
    if extra < stride and out + lo + hi >= w.span[0]:
        assert plain.output_size((out,)) == (size,), "one of the sizes that the plain window takes there, too"


def test_outpad_is_an_int_or_one_per_axis():
    w = window("w", (3, 3), (2, 1), 1, (1, 2))
    assert w.outpadded((1, 1)).pad == ((1, 0), (1, 0))
    assert w.outpadded(1) == w.outpadded([1, 1])
    assert w.outpadded(0) == w
    assert window("w", (2,), 3).outpadded(2).pad == ((0, -2),)


def test_ceil_mode_keeps_the_last_window_unless_it_starts_in_the_padding():
    torch = pytest.importorskip("torch")
    for size in range(2, 12):
        for k, s, p in ((2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 3, 1), (3, 3, 1), (2, 1, 1)):
            wanted = torch.nn.functional.max_pool1d(torch.zeros(1, 1, size), k, s, p, ceil_mode=True).shape[2]
            assert window("w", (k,), s, p, ceil_mode=True).output_size((size,)) == (wanted,)


def test_ceil_mode_keeps_even_a_first_window_that_does_not_fit():
    for size, k, s in ((2, 3, 2), (1, 2, 2), (3, 5, 3)):
        assert window("w", (k,), s, ceil_mode=True).output_size((size,)) == (1,)
        for box, i in ((window("w", (k,), s), size), (window("w", (k,), s, ceil_mode=True), k - s)):
            with pytest.raises(ValueError, match="the kernel is larger than the input"):
                box.output_size((i,))


def test_an_int_means_every_axis():
    assert window("w", (2, 3), 2, 1, 3) == window("w", (2, 3), (2, 2), ((1, 1), (1, 1)), (3, 3))
    assert window("w", 2, ndim=3).kernel == (2, 2, 2)


def test_pads_are_ints_one_per_axis_or_pairs_and_lists_do_too():
    assert window("w", (3, 3), pad=(1, 2)).pad == ((1, 1), (2, 2))
    assert window("w", (3, 3), pad=((1, 2), (0, 3))).pad == ((1, 2), (0, 3))
    assert window("w", (3, 3), pad=(1, (0, 3))).pad == ((1, 1), (0, 3))
    assert window("w", [3, 3], [1, 2], [[1, 2], [0, 3]], [1, 1]) == window("w", (3, 3), (1, 2), ((1, 2), (0, 3)))
    assert window("w", (3,), pad=((1, 2),)).pad == ((1, 2),)
    assert window("w", (3,), pad=np.int64(2)).pad == ((2, 2),)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 6, 7, 12])
def test_same_pads(kernel, dilation, stride, size):
    span = (kernel - 1) * dilation + 1
    lower, upper = (window("w", (kernel,), stride, pad, dilation) for pad in (SamePad(), SamePad("upper")))
    assert lower.output_size((size,)) == upper.output_size((size,)) == (math.ceil(size / stride),)
    lo, hi = lower.pad[0]
    assert (lo + hi, lo - hi) == (span - 1, (span - 1) % 2), "the odd pixel comes first"
    lo, hi = upper.at((size,)).pad[0]
    assert 0 <= hi - lo <= 1, "the odd pixel comes last"
    assert lo + hi == max((math.ceil(size / stride) - 1) * stride + span - size, 0)
    if stride == 1:
        same = window("w", (kernel,), 1, "same", dilation)
        assert same.pad == upper.at((size,)).pad
        assert same.output_size((size,)) == (size,)


def test_same_pad_depends_on_nothing_but_the_kernel_upper_on_the_size():
    assert window("w", (2, 3), pad=SamePad()).pad == ((1, 0), (1, 1))
    assert window("w", (3,), 2, SamePad("upper")).at((8,)).pad == ((0, 1),)
    assert window("w", (3,), 2, SamePad("upper")).at((7,)).pad == ((1, 1),)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_pad_transposed_multiplies_the_size_by_the_stride(kernel, stride):
    for pad in (SamePad(), SamePad("upper")):
        w = window("w", (kernel,), stride, pad, transposed=True)
        assert w.transposed_size((7,)) == (7 * stride,)


def test_a_window_is_a_value():
    a, b = window("w", (3, 3), pad=1), window("w", (3, 3), (1, 1), ((1, 1), (1, 1)))
    assert a == b
    assert hash(a) == hash(b)
    assert isinstance(a, Window)
    with pytest.raises(AttributeError):
        a.stride = 2
    assert (repr(SamePad()), repr(SamePad("upper"))) == ("SamePad()", "SamePad('upper')")
    assert SamePad() == SamePad("lower") != SamePad("upper")


def test_pointwise_is_one_pixel_that_visits_every_pixel():
    assert window("w", (1, 1), groups=3).pointwise()
    assert window("w", (1,), dilation=4).pointwise()
    assert not window("w", (1, 1), stride=2).pointwise()
    assert not window("w", (1, 1), pad=1).pointwise()
    assert not window("w", (1, 2)).pointwise()


ERRORS = [
    (dict(kernel=(3, 3), pad=(1, 1, 2, 2)),
     r"c: pad=\(1, 1, 2, 2\) has 4 numbers for 2 axes; write \(lo, hi\) pairs: pad=\(\(1, 1\), \(2, 2\)\)"),
    (dict(kernel=(3,), pad=(1, 2)), r"pad=\(1, 2\) has 2 numbers for 1 axes; write \(lo, hi\) pairs: pad=\(\(1, 2\),\)"),
    (dict(kernel=(3, 3), pad=(1, 2, 3)), r"pad=\(1, 2, 3\) has 3 entries for 2 axes"),
    (dict(kernel=(3, 3), pad=-1), "pad must be at least 0, got -1"),
    (dict(kernel=(3, 3), pad="valid"), "pad='valid' is not known; use 'same', SamePad"),
    (dict(kernel=(3, 3), pad="same", stride=2), r"pad='same' is for a stride of 1, got stride \(2, 2\); use SamePad"),
    (dict(kernel=(3, 0)), r"kernel must be at least 1, got \(3, 0\)"),
    (dict(kernel=(3, 3), stride=0), "stride must be at least 1, got 0"),
    (dict(kernel=(3, 3), stride=(1, 2, 3)), r"stride=\(1, 2, 3\) has 3 numbers for 2 axes; write one per axis"),
    (dict(kernel=(3, 3), dilation=(0, 1)), "dilation must be at least 1"),
    (dict(kernel=(3, 3), groups=0), "groups must be at least 1, got 0"),
    (dict(kernel=(1, 1, 1, 1)), "windows slide over 1, 2 or 3 axes"),
    (dict(kernel=(3,), pad="same", transposed=True), r"c: pad='same' is for convolutions; use SamePad\(\), which multiplies"),
    (dict(kernel=(1,), stride=2, pad=SamePad(), transposed=True), "needs a kernel that spans at least the stride"),
]


@pytest.mark.parametrize(("keywords", "text"), ERRORS)
def test_wrong_numbers_raise(keywords, text):
    with pytest.raises(ValueError, match=text):
        window("c", **keywords)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        (dict(kernel=3), r"the kernel size is a tuple with one number per axis, such as \(3, 3\) for images; got 3"),
        (dict(kernel=(3, 2.5)), r"kernel is an int or 2 ints, one per axis; got \(3, 2.5\)"),
        (dict(kernel=(3, 3), stride="2"), "stride is an int or 2 ints"),
        (dict(kernel=(3, 3), pad=((1, 2), (1.5, 1))), "pad is an int or 2 ints"),
    ],
)
def test_wrong_types_raise(keywords, text):
    with pytest.raises(TypeError, match=text):
        window("c", **keywords)


def test_errors_about_sizes_name_the_axis_and_both_sizes():
    w = window("Conv((5, 3), 1, 2)", (5, 3), pad=(0, 1), dilation=(2, 1))
    with pytest.raises(ValueError, match=r"Conv\(\(5, 3\), 1, 2\): the kernel is larger than the input on axis -2 \(height\): "
                                         r"it spans 9 pixels \(size 5, dilation 2\), the input has 8 \+ padding 0 \+ 0"):
        w.output_size((8, 8))
    with pytest.raises(ValueError, match="slides over 2 axes, the input has 1 of them"):
        w.output_size((8,))
    w = window("t", (3,), 2, 1)
    with pytest.raises(ValueError, match=r"t: outpad 2 on axis -1 \(width\) must be smaller than the stride 2 or the dil"):
        w.outpadded(2)
    with pytest.raises(ValueError, match=r"t: outpad=\(1, 1\) has 2 numbers for 1 axes; write one per axis"):
        w.outpadded((1, 1))
    with pytest.raises(ValueError, match="outpad must be at least 0, got -1"):
        w.outpadded(-1)
    with pytest.raises(TypeError, match="t: outpad is an int or 1 ints, one per axis; got 0.5"):
        w.outpadded(0.5)
    with pytest.raises(ValueError, match="leave an output of -1; use less padding"):
        window("t", (1,), 2, 1).transposed_size((1,))
    with pytest.raises(ValueError, match="depends on the sizes of the other side"):
        window("t", (3,), 2, SamePad("upper")).transposed_size((4,))
    with pytest.raises(ValueError, match=r"SamePad\(\) puts an odd pixel first"):
        SamePad("middle")
