"""The triad conv, conv_data, conv_filter against nested loops, PyTorch, NumPy and each other; kernels and references."""

import itertools
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Tensor, conv, gelu, identity, relu, swish, tanh
from minitorch_flux.backend import memory_stats, use_kernels
from minitorch_flux.ops import convolution_kernels
from minitorch_flux.ops.convolution import (
    conv_bias_act,
    conv_bias_act_backward,
    conv_bias_act_forward,
    conv_data_forward,
    conv_filter_forward,
    conv_forward,
)
from minitorch_flux.ops.geometry import SamePad, window
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from tests.oracles import check_against_torch, check_operation, normal

TRIAD = conv_forward, conv_data_forward, conv_filter_forward


def slow_conv(x, w, stride=1, pad=0, dilation=1, groups=1, flipkernel=False):
    """The definition, one product at a time."""
    box = window("slow", w.shape[2:], stride, pad, dilation, groups)
    n, c, *sizes = x.shape
    box = box.at(tuple(sizes))
    y = np.zeros((n, w.shape[0], *box.output_size(tuple(sizes))), np.result_type(x, w))
    if flipkernel:
        w = w[(slice(None), slice(None), *(slice(None, None, -1),) * box.ndim)]
    for o, p in itertools.product(range(y.shape[1]), np.ndindex(*y.shape[2:])):
        first = o // (w.shape[0] // groups) * w.shape[1]
        for k in np.ndindex(*box.kernel):
            at = [p[i] * box.stride[i] - box.lo[i] + k[i] * box.dilation[i] for i in range(box.ndim)]
            if all(0 <= a < s for a, s in zip(at, sizes, strict=True)):
                part = x[(slice(None), slice(first, first + w.shape[1]), *at)]
                y[(slice(None), o, *p)] += part @ w[(o, slice(None), *k)]
    return y


CASES = {  # x, w, options
    "plain": ((2, 3, 6, 7), (4, 3, 3, 3), {}),
    "1-d": ((2, 3, 9), (5, 3, 3), dict(stride=2, pad=((2, 1),), dilation=2)),
    "3-d": ((2, 2, 4, 3, 6), (3, 2, 2, 3, 2), dict(pad=(1, 0, ((2, 0))), stride=(1, 2, 1), dilation=(2, 1, 1))),
    "asymmetric": ((2, 2, 7, 6), (3, 2, 2, 3), dict(stride=(3, 2), pad=((2, 0), (1, 3)), dilation=(2, 1))),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 2), dict(groups=2, pad=1)),
    "depthwise": ((2, 5, 6, 6), (5, 1, 3, 3), dict(groups=5, pad=1)),
    "depthwise, two for one": ((2, 3, 6, 7), (6, 1, 3, 2), dict(groups=3, stride=2, pad=(1, 0))),
    "1x1": ((2, 3, 3, 4), (5, 3, 1, 1), {}),
    "1x1 with groups": ((2, 4, 3, 4), (6, 2, 1, 1), dict(groups=2)),
    "1x1 with a stride": ((2, 3, 5, 4), (2, 3, 1, 1), dict(stride=2)),
    "SamePad": ((2, 2, 5, 6), (2, 2, 2, 4), dict(pad=SamePad(), stride=2)),
    "SamePad upper": ((2, 2, 5, 6), (2, 2, 2, 4), dict(pad=SamePad("upper"), stride=2)),
    "same": ((2, 2, 5, 6), (2, 2, 2, 4), dict(pad="same")),
    "more padding than kernel": ((1, 2, 3, 3), (2, 2, 2, 2), dict(pad=3)),
    "kernel as large as the input": ((2, 2, 3, 4), (3, 2, 3, 4), {}),
    "flipped": ((2, 2, 5, 6), (3, 2, 2, 3), dict(flipkernel=True, pad=1)),
    "many channels": ((1, 40, 3, 5), (3, 40, 3, 3), dict(pad=1)),
    "long lines": ((1, 1, 3, 530), (2, 1, 2, 3), dict(pad=1)),
    "long kernel": ((2, 1, 40), (2, 1, 13), dict(pad=4)),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_of_both_orders(case):
    x, w, options = CASES[case]
    check_operation(conv, normal(*x), normal(*w), oracle=slow_conv, **options)


@pytest.mark.parametrize("case", ["plain", "groups", "1-d"])
def test_third_derivatives(case):
    x, w, options = CASES[case]
    x, w = (x[0], 2, *(5,) * (len(x) - 2)), (2, 2 // options.get("groups", 1), *w[2:])
    check_operation(conv, normal(*x), normal(*w), order=3, layouts=False, dtypes=(), **options)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", [k for k, (_, _, o) in CASES.items() if isinstance(o.get("pad", 0), int | str)])
def test_against_torch(case):
    F = pytest.importorskip("torch").nn.functional
    x, w, options = CASES[case]
    names = {"pad": "padding"}
    torchs = {names.get(k, k): v for k, v in options.items() if k != "flipkernel"}
    f = (F.conv1d, F.conv2d, F.conv3d)[len(x) - 3]
    spatial = tuple(range(2, len(x)))
    check_against_torch(
        lambda x, w: conv(x, w, **options),
        lambda x, w: f(x, w.flip(spatial) if options.get("flipkernel") else w, **torchs),
        normal(*x), normal(*w),
    )


def test_flipkernel_is_the_convolution_of_mathematics():
    x, w = normal(9), normal(4)
    y = conv(x[None, None], w[None, None], pad=3, flipkernel=True)
    np.testing.assert_allclose(y.data[0, 0], np.convolve(x, w), rtol=1e-12)
    y = conv(x[None, None], w[None, None])
    np.testing.assert_allclose(y.data[0, 0], np.correlate(x, w), rtol=1e-12)


# -- the triad ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [k for k in CASES if k != "flipped"])
def test_each_of_the_triad_is_the_same_sum(case):
    xs, ws, options = CASES[case]
    box = window("w", ws[2:], **options)
    x, w = normal(*xs), normal(*ws)
    y = normal(*slow_conv(x, w, **options).shape, seed=2)
    for on in (True, False):
        with use_kernels(on):
            total = (conv_forward(x, w, box) * y).sum()
            np.testing.assert_allclose((conv_data_forward(y, w, box, xs[2:]) * x).sum(), total, rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose((conv_filter_forward(x, y, box) * w).sum(), total, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", ["plain", "asymmetric", "groups", "1x1", "1-d"])
def test_gradients_of_conv_data_and_conv_filter(case):
    from minitorch_flux.ops.convolution import _conv_filter, conv_data

    xs, ws, options = CASES[case]
    box = window("w", ws[2:], **options)
    x, w = normal(*xs), normal(*ws)
    y = normal(*slow_conv(x, w, **options).shape)
    check_operation(lambda y, w: conv_data(y, w, window=box, sizes=xs[2:]), y, w)
    check_operation(lambda x, y: _conv_filter(x, y, window=box), x, y)


small = st.integers(1, 3)


@given(
    st.sampled_from([1, 2, 3]), st.data(), small, small, small, small, st.sampled_from([np.float32, np.float64]),
)
def test_references_on_any_geometry(ndim, data, n, groups, c, o, dtype):
    pick = lambda *of: tuple(data.draw(st.sampled_from(of)) for _ in range(ndim))  # noqa: E731
    sizes, kernel, stride, dilation = pick(1, 2, 3, 4, 5), pick(1, 2, 3), pick(1, 2, 3), pick(1, 2)
    pad = tuple(zip(pick(0, 1, 2), pick(0, 1, 3), strict=True))
    box = window("w", kernel, stride, pad, dilation, groups)
    assume(all(i + lo + hi >= s for i, s, (lo, hi) in zip(sizes, box.span, pad, strict=True)))
    x, w = normal(n, c * groups, *sizes, dtype=dtype), normal(o * groups, c, *kernel, dtype=dtype)
    y = slow_conv(x.astype(float), w.astype(float), stride, pad, dilation, groups)
    with use_kernels(False):
        np.testing.assert_allclose(conv_forward(x, w, box), y, rtol=1e-4, atol=1e-5)


@given(
    st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(1, 3), st.sampled_from([1, 3, 8, 9]), st.integers(1, 6),
    st.integers(3, 40), st.integers(1, 3), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.integers(0, 2),
    st.integers(0, 2), st.sampled_from([np.float32, np.float64]),
)
def test_kernels_equal_references(n, groups, c, o, h, w, kh, kw, stride, lo, hi, dtype):
    box = window("w", (kh, kw), stride, ((lo, hi), (hi, lo)), groups=groups)
    assume(h + lo + hi >= kh and (c > 1 or groups == 1))  # depthwise ones have kernels and tests of their own
    x, k = normal(n, c * groups, h, w, dtype=dtype), normal(o * groups, c, kh, kw, dtype=dtype)
    before = [f.launches for f in TRIAD]
    y = conv_forward(x, k, box)
    dy = normal(*y.shape, seed=1, dtype=dtype)
    got = y, conv_data_forward(dy, k, box, (h, w)), conv_filter_forward(x, dy, box)
    assert [f.launches for f in TRIAD] == [b + 1 for b in before]
    with use_kernels(False):
        wanted = conv_forward(x, k, box), conv_data_forward(dy, k, box, (h, w)), conv_filter_forward(x, dy, box)
    tolerance = 2e-5 if dtype == np.float32 else 1e-13
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, abs(b).max()))


@pytest.mark.parametrize("route", ["direct", "columns", "image_columns"])
@pytest.mark.parametrize("case", ["plain", "3-d", "asymmetric", "groups", "depthwise, two for one", "1x1", "long kernel"])
def test_every_route_computes_every_geometry(case, route, monkeypatch):
    xs, ws, options = CASES[case]
    box = window("w", ws[2:], **options)
    x, w = normal(*xs), normal(*ws)
    monkeypatch.setattr(convolution_kernels, "algorithm_for", lambda *args: route)
    monkeypatch.setattr(convolution_kernels, "CHUNK", 50)  # an image or two at a time
    y = slow_conv(x, w, **options)
    np.testing.assert_allclose(conv_forward(x, w, box), y, rtol=1e-12, atol=1e-12)
    total = (y * y).sum()
    np.testing.assert_allclose((conv_data_forward(y, w, box, xs[2:]) * x).sum(), total)
    np.testing.assert_allclose((conv_filter_forward(x, y, box) * w).sum(), total)


@pytest.mark.parametrize("how", EMULATIONS, ids=str)
def test_in_the_emulator(how, monkeypatch):
    shapes = [
        ((2, 2, 5, 7), (5, 2, 3, 3), dict(pad=1)),
        ((2, 4, 4, 40), (6, 2, 2, 3), dict(pad=((1, 0), (2, 1)), stride=(2, 3), dilation=(1, 2), groups=2)),
        ((1, 3, 3, 4, 5), (9, 3, 2, 1, 2), dict(pad=1)),
    ]
    for xs, ws, options in shapes:
        box = window("w", ws[2:], **options)
        x, w = normal(*xs, dtype=np.float32), normal(*ws, dtype=np.float32)
        with use_kernels(False):
            y = conv_forward(x, w, box)
            wanted = y, conv_data_forward(y, w, box, xs[2:]), conv_filter_forward(x, y, box)
        monkeypatch.setattr(convolution_kernels, "algorithm_for", lambda *args: "direct")
        with emulated(**how) as emulation:
            got = conv_forward(x, w, box), conv_data_forward(y, w, box, xs[2:]), conv_filter_forward(x, y, box)
        assert emulation.launches >= 3
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * abs(b).max())


# -- determinism, memory, special values -------------------------------------------------------------------------------


@pytest.mark.parametrize(("xs", "ws"), [((40, 6, 14, 14), (16, 6, 5, 5)), ((6, 48, 7, 7), (32, 48, 3, 3))])
def test_the_same_call_gives_the_same_bits(xs, ws):
    box = window("w", ws[2:], pad=1)
    x, w = normal(*xs, dtype=np.float32), normal(*ws, dtype=np.float32)
    dy = conv_forward(x, w, box)

    def all_three():
        return conv_forward(x, w, box), conv_data_forward(dy, w, box, xs[2:]), conv_filter_forward(x, dy, box)

    first = all_three()
    for _ in range(3):
        for a, b in zip(first, all_three(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_direct_kernels_give_the_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(convolution_kernels, "algorithm_for", lambda *args: "direct")
    box = window("w", (5, 5), pad=2)
    x, w = normal(40, 3, 20, 28, dtype=np.float32), normal(8, 3, 5, 5, dtype=np.float32)
    found = []
    before = flux.num_threads()
    try:
        for n in (1, 2, 3):
            flux.set_num_threads(n)
            y = conv_forward(x, w, box)
            found.append((y, conv_data_forward(y, w, box, (20, 28)), conv_filter_forward(x, y, box)))
    finally:
        flux.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("xs", [(16, 6, 28, 28), (3, 96, 7, 7)])
def test_a_steady_state_takes_no_new_memory(xs):
    x, w, b = normal(*xs, dtype=np.float32), normal(60, xs[1], 3, 3, dtype=np.float32), normal(60, dtype=np.float32)
    box = window("w", (3, 3), pad=1)

    def step():
        y, z = conv_bias_act_forward(x, w, b, box, relu)
        conv_bias_act_backward(y, x, w, y, z, box, relu, (True, True, True))

    for _ in range(2):
        step()
    before = memory_stats()["fresh_bytes"]
    for _ in range(3):
        step()
    assert memory_stats()["fresh_bytes"] == before


PROGRAM = """
import numpy as np
from minitorch_flux.ops import convolution_kernels
from minitorch_flux.ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from minitorch_flux.ops.depthwise import depthwise_data, depthwise_filter, depthwise_forward
from minitorch_flux.ops.geometry import window
from minitorch_flux.ops.pooling import max_pool_backward, max_pool_forward, mean_pool_backward, mean_pool_forward
from minitorch_flux.ops.convolution_table import algorithm_for
from tests.oracles import normal

for dtype in (np.float32, np.float64):
    for stride, dilation in ((1, 2), (2, 1)):
        box = window("w", (2, 3), stride, 1, dilation)
        x, w = normal(2, 3, 6, 29, dtype=dtype), normal(9, 3, 2, 3, dtype=dtype)
        y, (z, arg) = conv_forward(x, w, box), max_pool_forward(x, box)
        apart, v = window("w", (4, 5), stride, 2, dilation, 3), normal(6, 1, 4, 5, dtype=dtype)
        u = depthwise_forward(x, v, apart)
        calls = (
            (conv_forward, x, w, box), (conv_data_forward, y, w, box, (6, 29)), (conv_filter_forward, x, y, box),
            (depthwise_forward, x, v, apart), (depthwise_data, u, v, apart, (6, 29)), (depthwise_filter, x, u, apart),
            (mean_pool_forward, x, box, False), (mean_pool_backward, z, box, True, (6, 29)),
            (max_pool_backward, z, arg, box, (6, 29)),
        )
        np.testing.assert_array_equal(arg, max_pool_forward.reference(x, box)[1])
        for f, *arguments in calls:
            wanted, launches = f.reference(*arguments), f.launches
            np.testing.assert_allclose(f(*arguments), wanted, rtol=1e-4, atol=1e-5 * abs(wanted).max())
            assert f.launches == launches + 1
    box = window("w", (3, 3), 1, 1)
    x, w, y = normal(2, 3, 6, 29, dtype=dtype), normal(19, 3, 3, 3, dtype=dtype), normal(2, 19, 6, 29, dtype=dtype)
    for name in ("direct", "blocked", "winograd_tiles"):
        convolution_kernels.algorithm_for = lambda *arguments: name
        triad = (conv_forward, x, w, box), (conv_data_forward, y, w, box, (6, 29)), (conv_filter_forward, x, y, box)
        for f, *arguments in triad:
            wanted, launches = f.reference(*arguments), f.launches
            np.testing.assert_allclose(f(*arguments), wanted, rtol=1e-4, atol=1e-5 * abs(wanted).max())
            assert f.launches == launches + 1
    convolution_kernels.algorithm_for = algorithm_for
"""


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["x86-64", "x86-64-v3"])
def test_registers_of_other_machines(machine, tmp_path):
    if platform.machine() != "x86_64":
        pytest.skip("these are x86's")
    flags = {"MINITORCH_FLUX_CXXFLAGS": f"-march={machine}", "MINITORCH_FLUX_CACHE": str(tmp_path), "PYTHONPATH": os.getcwd()}
    result = subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | flags, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("xs", "ws"), [((2, 2, 6, 20), (3, 2, 3, 3)), ((2, 3, 4, 5), (9, 3, 2, 2)), ((2, 40, 4, 5), (3, 40, 3, 3))]
)
def test_what_is_not_finite_stays_where_it_belongs(xs, ws, bad):
    box = window("w", ws[2:], pad=((1, 0), (0, 1)))
    x, w = normal(*xs), normal(*ws)
    x[1, 1, 2, -1] = bad
    dy = normal(*conv_forward.reference(x, w, box).shape)
    bad_dy = dy.copy()
    bad_dy[0, 0, 1, 2] = bad
    with use_kernels(False):
        wanted = (conv_forward(x, w, box), conv_filter_forward(x, dy, box), conv_filter_forward(normal(*xs), bad_dy, box),
                  conv_data_forward(bad_dy, w, box, xs[2:]))
    got = (conv_forward(x, w, box), conv_filter_forward(x, dy, box), conv_filter_forward(normal(*xs), bad_dy, box),
           conv_data_forward(bad_dy, w, box, xs[2:]))
    for a, b in zip(got, wanted, strict=True):
        assert not np.isfinite(b).all()
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))


@pytest.mark.parametrize(
    ("xs", "ws"),
    [((0, 2, 5, 5), (3, 2, 3, 3)), ((2, 0, 5, 5), (3, 0, 3, 3)), ((2, 2, 5, 5), (0, 2, 3, 3)),
     ((2, 2, 0, 5), (3, 2, 1, 3)), ((2, 2, 5, 0), (3, 2, 3, 2))],
)
def test_empty_arrays(xs, ws):
    pad = (1, 1)
    check_operation(conv, normal(*xs), normal(*ws), pad=pad, oracle=slow_conv)


def test_half_floats_are_added_up_in_float32():
    x, w = np.full((1, 1, 3000), 1.0, np.float16), np.full((1, 1, 3000), 1.0, np.float16)
    y = conv(x, w)
    assert y.dtype == np.float16
    assert y.data.item() == 3000


def test_mixed_dtypes_promote_as_numpy_does():
    x, w = normal(1, 1, 4), normal(1, 1, 2)
    assert conv(x.astype(np.float32), w).dtype == np.float64
    assert conv(np.ones((1, 1, 4), np.int64), w.astype(np.float32)).dtype == np.float64
    assert conv(np.ones((1, 1, 4), np.int32), np.ones((1, 1, 2), np.int32)).data.tolist() == [[[2, 2, 2]]]


def test_a_missing_batch_axis():
    x, w = normal(3, 5, 6), normal(2, 3, 3, 3)
    np.testing.assert_array_equal(conv(x, w, pad=1).data, conv(x[None], w, pad=1).data[0])
    check_operation(conv, x, w, pad=1)


# -- with bias and activation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", [identity, relu, tanh, swish, gelu])
def test_conv_bias_act(act, bias):
    box = window("w", (3, 2), 1, 1, groups=2)
    x, w, b = normal(2, 4, 4, 5), normal(6, 2, 3, 2), normal(6) if bias else None

    def unfused(x, w, b):
        y = slow_conv(x, w, pad=1, groups=2)
        return act(Tensor(y if b is None else y + b[:, None, None])).data

    check_operation(lambda x, w, b: conv_bias_act(x, w, b, box, act), x, w, b, oracle=unfused)


def test_only_what_the_gradient_needs_is_kept():
    box = window("w", (1,))
    x, w, b = normal(1, 1, 3), normal(1, 1, 1), normal(1)
    assert conv_bias_act_forward(x, w, b, box, relu)[1] is None
    y, z = conv_bias_act_forward(x, w, b, box, swish)
    np.testing.assert_allclose(swish(z).data, y)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xs", "ws", "options", "text"),
    [
        ((2, 3, 5, 5), (4, 2, 3, 3), {},
         r"conv: the input has 3 channels on axis -3, expected 2 \(input shape \(2, 3, 5, 5\), weight shape \(4, 2, 3, 3\)\)"),
        ((2, 3, 5, 5), (4, 2, 3, 3), dict(groups=2), "expected 4 .*, groups 2"),
        ((2, 6, 5, 5), (3, 3, 3, 3), dict(groups=2), r"conv: 3 output channels \(axis 0 of the weight\) cannot be split"),
        ((2, 3, 2, 5), (4, 3, 3, 3), {}, r"the kernel is larger than the input on axis -2 \(height\)"),
        ((5, 5), (4, 3, 3, 3), {}, r"a kernel of 2 axes takes an input of 4 axes .* got 2 axes \(input shape \(5, 5\)\)"),
        ((2, 3, 5, 5), (4, 3), {}, r"the weight has the axes \(out, in/groups, kernel...\), got shape \(4, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_raise(xs, ws, options, text):
    with pytest.raises(ValueError, match=text):
        conv(normal(*xs), normal(*ws), **options)
