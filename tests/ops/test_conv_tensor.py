"""Convolutions on tensor cores, in the emulator: against the references in float64, for every dtype and geometry."""

import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux.backend import address_of, allow_tf32, tf32_allowed, use_kernels
from minitorch_flux.ops import conv_tensor
from minitorch_flux.ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from minitorch_flux.ops.geometry import window
from minitorch_flux.readings import KernelError, KernelFile
from minitorch_flux.readings.emulator import EmulatorError, emulated
from minitorch_flux.readings.source import kernels_folder
from tests.oracles import needs_compiler, normal

BFLOAT16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
HALF = np.dtype(np.float16)
SINGLE = np.dtype(np.float32)

CASES = {  # x, w, and what the window has
    "same": ((2, 16, 5, 7), (16, 16, 3, 3), dict(pad=1)),
    "strides and gaps": ((1, 20, 9, 6), (70, 20, 2, 3), dict(stride=(2, 3), pad=((0, 1), (1, 2)), dilation=(2, 1))),
    "groups": ((3, 32, 6), (36, 16, 3), dict(groups=2, stride=2)),
    "3-d": ((1, 18, 3, 4, 5), (17, 18, 2, 2, 2), dict(stride=(2, 1, 1), pad=(1, 0, 1))),
    "1x1": ((2, 16, 9, 9), (24, 16, 1, 1), {}),
    "stride over the kernel": ((1, 16, 8), (16, 16, 2), dict(stride=4, pad=1)),
    "far taps": ((1, 16, 20), (16, 16, 3), dict(stride=4, dilation=6, pad=2)),
    "several steps and tiles": ((5, 40, 6, 6), (130, 40, 2, 2), {}),
    "one pixel": ((1, 16, 1, 1), (16, 16, 1, 1), {}),
    "one pixel of a window": ((1, 17, 3, 3), (19, 17, 3, 3), {}),
    "whole tiles": ((1, 32, 8, 16), (64, 32, 1, 1), {}),
    "outside only": ((1, 16, 2), (16, 16, 3), dict(pad=4, stride=3, dilation=2)),
    "62 taps": ((1, 16, 9, 40), (16, 16, 2, 31), {}),
}
SHORT = ["same", "strides and gaps", "groups"]


def as_tf32(x):
    """float32 rounded to 10 bits of fraction, to nearest, ties away from zero."""
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def of(case, dtype):
    """(x, w, y, window) of a case."""
    shape, filters, options = CASES[case]
    box = window("w", filters[2:], options.get("stride", 1), options.get("pad", 0), options.get("dilation", 1),
                 options.get("groups", 1))
    x, w = normal(*shape).astype(dtype), normal(*filters, seed=1).astype(dtype)
    return x, w, normal(shape[0], filters[0], *box.output_size(shape[2:]), seed=2).astype(dtype), box


def triad(x, w, y, box):
    return conv_forward(x, w, box), conv_data_forward(y, w, box, x.shape[2:]), conv_filter_forward(x, y, box)


@functools.cache
def exact(case, dtype):
    """The three results in float64, of factors rounded as tensor cores do."""
    x, w, y, box = of(case, dtype)
    round_off = as_tf32 if dtype == SINGLE else lambda a: a
    with use_kernels(False):
        return triad(*(round_off(a).astype(np.float64) for a in (x, w, y)), box)


EPS = {HALF: 2.0**-11, BFLOAT16: 2.0**-8, SINGLE: 2.0**-21}
"""What storing the result, or adding it up, costs."""


def check(case, dtype, **how):
    with allow_tf32(), emulated(**how) as emulation:
        got = triad(*of(case, dtype))
    assert emulation.launches >= 3
    for a, b in zip(got, exact(case, dtype), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=EPS[dtype], atol=2e-6 * np.abs(b).max())


@needs_compiler
@pytest.mark.parametrize("dtype", [HALF, BFLOAT16, SINGLE], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_against_the_references(case, dtype):
    check(case, dtype)


@needs_compiler
@pytest.mark.parametrize("how", [{"grid": 3, "backwards": True}, {"grid": 3, "sanitize": "address"}], ids=str)
@pytest.mark.parametrize("dtype", [HALF, SINGLE], ids=str)
def test_in_other_orders_and_under_sanitizers(dtype, how):
    for case in SHORT:
        check(case, dtype, **how)


@needs_compiler
@pytest.mark.parametrize("dtype", [HALF, pytest.param(SINGLE, marks=pytest.mark.slow)], ids=str)
def test_no_races(dtype):
    for case in SHORT:
        check(case, dtype, grid=2, sanitize="thread")


@needs_compiler
@pytest.mark.parametrize(("line", "found"), [("            ROW_SYNC();\n        }\n        UNROLL for (int i", "data race")])
def test_a_forgotten_barrier_is_found(line, found, monkeypatch, tmp_path):
    """The emulator knows that a warp's matrix loads read what other warps wrote."""
    text = (kernels_folder() / "conv_tensor.cu").read_text()
    assert text.count(line) == 1
    file = tmp_path / "conv_tensor.cu"
    file.write_text(text.replace(line, line.replace("ROW_SYNC();", "")))
    monkeypatch.setattr(conv_tensor, "tensors", KernelFile(file))
    with emulated(sanitize="thread"), pytest.raises(EmulatorError, match=found):
        conv_forward(*of("same", HALF)[:2], of("same", HALF)[3])


@needs_compiler
@settings(max_examples=6)
@given(st.data())
def test_any_geometry(data):
    """Channels that fill no tile, groups, strides, gaps, paddings: the CPU's kernels and the tensor cores' agree."""
    ints = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    axes, groups = ints(1, 3), ints(1, 2)
    kernel, stride, dilation = (tuple(ints(1, m) for _ in range(axes)) for m in (3, (4, 2, 1)[axes - 1], 2))
    pad = tuple((ints(0, 3), ints(0, 2)) for _ in range(axes))
    box = window("w", kernel, stride, pad, dilation, groups)
    sizes = tuple(max(1, span - lo - hi) + ints(0, 5) for span, (lo, hi) in zip(box.span, pad, strict=True))
    inputs, outputs = ints(16, 34), ints(16, 67)
    x, w = normal(ints(1, 3), groups * inputs, *sizes), normal(groups * outputs, inputs, *kernel, seed=1)
    y = normal(x.shape[0], groups * outputs, *box.output_size(sizes), seed=2)
    half = [a.astype(HALF) for a in (x, w, y)]
    with emulated(grid=data.draw(st.sampled_from([None, 1, 3])), backwards=data.draw(st.booleans())) as emulation:
        got = triad(*half, box)
    assert emulation.launches >= 3
    for a, b in zip(got, triad(*(a.astype(np.float64) for a in half), box), strict=True):
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=EPS[HALF], atol=2e-6 * np.abs(b).max())


@needs_compiler
@pytest.mark.parametrize("dtype", [HALF, BFLOAT16, SINGLE], ids=str)
def test_the_bound_that_the_page_states(dtype):
    """Against exact sums of the numbers as they came, where terms of size 1 cancel to almost nothing."""
    x, w, y, box = of("several steps and tiles", dtype)
    x[:, 1::2], w[:, 1::2] = x[:, ::2], -w[:, ::2]
    w[:, ::2] += np.ones_like(w[:, ::2]) * dtype.type(1e-3)
    with allow_tf32(), emulated():
        got = triad(x, w, y, box)
    with use_kernels(False):
        x, w, y = (a.astype(np.float64) for a in (x, w, y))
        wanted, sizes = triad(x, w, y, box), triad(abs(x), abs(w), abs(y), box)
    counts = w[0].size, y.shape[1] * math.prod(box.kernel), y[:, 0].size
    for a, b, size, n in zip(got, wanted, sizes, counts, strict=True):
        bound = EPS[dtype] * abs(b) + size * (n * 2.0**-22 + (2.0**-10 if dtype == SINGLE else 0))
        assert (abs(a - b) <= bound).all()
        assert (abs(b) < 0.01 * size).any()


@needs_compiler
def test_weights_of_any_address():
    """A kernel reads 16 bytes of the weights at a time, which must begin at a multiple of 16: others are copied."""
    x, w, y, box = of("whole tiles", HALF)
    memory = np.zeros(w.size + 8, HALF)
    beside = memory[1 : 1 + w.size].reshape(w.shape)
    beside[...] = w
    assert address_of(beside) % 16
    packed = conv_tensor._packed(beside.reshape(1, 64, 32), 32)
    assert address_of(packed) % 16 == 0
    np.testing.assert_array_equal(packed, w.reshape(1, 64, 32))
    assert conv_tensor._packed(packed, 32) is packed
    with emulated():
        for a, b in zip(triad(x, beside, y, box), triad(x, w, y, box), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_captured_step():
    """On the CPU a step in float16 is captured, too; tensor cores are no part of it."""
    conv = flux.f16(flux.Conv((3, 3), 16, 16, pad=1, rng=np.random.default_rng(0)))
    x = normal(1, 16, 3, 3).astype(np.float16)
    step = flux.capture(lambda x: conv(x).sum())
    for _ in range(3):
        np.testing.assert_allclose(step(x).item(), conv(x).sum().item(), rtol=1e-3)


@needs_compiler
def test_parts_of_a_filter_gradient(monkeypatch):
    monkeypatch.setattr(conv_tensor, "PART", 40)
    for dtype in (HALF, SINGLE):
        check("several steps and tiles", dtype)


@needs_compiler
def test_a_training_step_in_16_bits():
    """Through the layer: what runs are the tensor cores' kernels, forward and backward."""
    conv = flux.f16(flux.Conv((3, 3), 16, 16, flux.relu, pad=1, rng=np.random.default_rng(0)))
    x = normal(2, 16, 4, 5).astype(np.float16)
    before = [f.launches for f in (conv_forward, conv_data_forward, conv_filter_forward)]
    with emulated():
        loss, (dm, dx) = flux.withgradient(lambda m, x: (m(x).astype(np.float32) ** 2).sum(), conv, x)
    assert [f.launches for f in (conv_forward, conv_data_forward, conv_filter_forward)] == [b + 1 for b in before]
    want, (wm, wx) = flux.withgradient(lambda m, x: (m(x) ** 2).sum(), flux.f64(conv), x.astype(np.float64))
    np.testing.assert_allclose(loss.item(), want.item(), rtol=1e-2)
    np.testing.assert_allclose(dx.astype(np.float64), wx, rtol=1e-2, atol=1e-2 * np.abs(wx).max())
    np.testing.assert_allclose(dm.weight.astype(np.float64), wm.weight, rtol=1e-2, atol=1e-2 * np.abs(wm.weight).max())


# -- what they decline -------------------------------------------------------------------------------------------------


def test_declined_on_the_cpu():
    x, w, _, box = of("same", HALF)
    assert not conv_tensor.tensors.runs_on(x)
    assert not conv_tensor.fits(x, w, box, 16, 16)
    before = conv_forward.launches
    conv_forward(x, w, box)
    assert conv_forward.launches == before
    assert conv_tensor.tensors("conv_tensor_forward", x, 1, 512) is False


@needs_compiler
def test_declined_in_the_emulator():
    x, w, y, box = of("same", SINGLE)
    with emulated():
        assert not conv_tensor.fits(x, w, box, 16, 16), "float32 is float32 unless tf32 is allowed"
        with allow_tf32():
            assert conv_tensor.fits(x, w, box, 16, 16)
            assert not conv_tensor.fits(x.astype(np.float64), w.astype(np.float64), box, 16, 16)
            assert not conv_tensor.fits(x, w.astype(np.float16), box, 16, 16)
            assert not conv_tensor.fits(x, w, box, 16, 15)
            assert not conv_tensor.fits(x, w, box, 1, 16)
            assert not conv_tensor.fits(x[:0], w, box, 16, 16)
            assert not conv_tensor.fits(x, w, window("w", (8, 8)), 16, 16)
            assert not conv_tensor.fits(x, w, window("w", (33,)), 16, 16)
            large = SimpleNamespace(shape=(1, 1, 2**15, 2**12), dtype=SINGLE, size=1)
            assert not conv_tensor.fits(large, w, box, 16, 16)
            flat = SimpleNamespace(shape=(1, 1, 2, 2**26 - 2**10), dtype=SINGLE, size=1)  # 2**31 - 2**15 numbers in a group
            assert not conv_tensor.fits(flat, w, window("w", (3, 3), dilation=(30, 1)), 16, 16), "taps far beyond the image"


def test_devices():
    """Of a GPU's array the architecture decides, and the dtype."""

    def on(capability, dtype=HALF):
        return SimpleNamespace(dtype=np.dtype(dtype), device=SimpleNamespace(compute_capability=capability, id=0))

    tensors = conv_tensor.tensors
    assert [tensors.runs_on(on(c)) for c in ("75", "80", "90", "120")] == [False, True, True, True]
    assert [tensors.runs_on(on("90", d)) for d in (BFLOAT16, SINGLE, np.float64)] == [True, True, False]
    assert KernelFile("im2col.cu").runs_on(on("75"))


# -- the switch --------------------------------------------------------------------------------------------------------


def test_allow_tf32():
    assert not tf32_allowed()
    with flux.allow_tf32():
        assert tf32_allowed()
        with flux.allow_tf32(False):
            assert not tf32_allowed()
        assert tf32_allowed()
    assert not tf32_allowed()
    flux.allow_tf32()
    assert tf32_allowed()
    flux.allow_tf32(False)
    assert not tf32_allowed()


def test_cupy_follows(monkeypatch):
    from minitorch_flux.backend import precision

    told = []
    linear = SimpleNamespace(COMPUTE_TYPE_TF32=7, COMPUTE_TYPE_DEFAULT=1, set_compute_type=lambda t, c: told.append((t, c)))
    cupy = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True), _core=SimpleNamespace(_routines_linalg=linear))
    monkeypatch.setattr(precision, "_loaded_cupy", lambda: cupy)
    with allow_tf32():
        assert told == [(SINGLE, 7)]
    assert told[1:] == [(SINGLE, 1)]


def test_cupy_has_what_follows():
    linear = pytest.importorskip("cupy")._core._routines_linalg
    assert {"COMPUTE_TYPE_TF32", "COMPUTE_TYPE_DEFAULT", "set_compute_type"} <= set(dir(linear))


# -- pixels by their remainder -----------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(-2, 5))
def test_remainders_name_every_meeting_once(size, k, s, d, lo):
    met = {(p * s - lo + j * d, p, j) for p in range(-30, 60) for j in range(k)}  # pixel, output, tap
    met = {(i, p, j) for i, p, j in met if 0 <= i < size}
    found = []
    for start, count, taps, first, apart in conv_tensor._remainders(size, k, s, d, lo):
        for a in range(count):
            for n, j in enumerate(range(k)[taps]):
                found.append((start + a * s, a + first - n * apart, j))
    assert len(found) == len(set(found))
    assert set(found) == met
    assert sorted(i + a * s for i, n, *_ in conv_tensor._remainders(size, k, s, d, lo) for a in range(n)) == list(range(size))


def test_a_text_for_gpus_says_so():
    needs = conv_tensor.tensors.source.gpu
    assert (needs.sm, needs.block) == (80, 128)
    assert set(needs.dtypes) == {"float16", "bfloat16", "float32"}
    with pytest.raises(KernelError, match="has no kernel 'nothing'"), emulated():
        conv_tensor.tensors("nothing", np.zeros(1, np.float16), 1, 1)
