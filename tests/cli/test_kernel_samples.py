"""The table of samples: every kernel has one, it launches the kernel, and all readings equal the references.

With --slow: every sample at every size of its own in float32 and float64, on the CPU and in the emulator.
"""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.backend import FUNCTIONS, empty, memory, use_kernels
from minitorch_flux.cli.kernel_samples import BOUNDARIES, SAMPLES, Difference, Draw, Sample, compare, launches, poisoned, run
from minitorch_flux.cli.kernel_samples.registry import sample
from minitorch_flux.ops import softmaxes
from minitorch_flux.readings import kernel
from minitorch_flux.readings.emulator import EMULATIONS, emulated
from minitorch_flux.readings.inventory import kernel_texts
from tests.oracles import needs_compiler

TEXTS = kernel_texts()
KERNELS = [name for text in TEXTS for name in text.kernels]
DECLARED = {name for text in TEXTS for name in text.kernels if text.declared or text.gpu}
PLAIN = [name for name in KERNELS if name in SAMPLES and not DECLARED & set(SAMPLES[name].kernels)]
"""Kernels of files without constants: their builds serve other tests as well."""


def some(names, n):
    """n of the names: the same ones each time, and others when a kernel comes or goes."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{name} {len(names)}".encode()).digest())[:n]


def test_every_kernel_has_a_sample():
    """A kernel without one cannot be emulated by its name, and is held against no reference here."""
    missing = [name for name in KERNELS if name not in SAMPLES]
    assert not missing, f"add samples to minitorch_flux/cli/kernel_samples for {', '.join(missing)}"
    assert not [name for name in SAMPLES if name not in KERNELS], "samples of kernels that are gone"


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_launches_its_kernel(name):
    for dtype in SAMPLES[name].dtypes:
        made = launches(SAMPLES[name], 33, dtype)
        mine = [launch for launch in made if launch.signature.name == name]
        assert mine, f"{name} is not launched in {dtype}"
        for launch in mine:
            op = launch.op or SAMPLES[name].op or name
            assert op in FUNCTIONS, f"{name}: no array function {op}; say in the sample which op launches it"
            assert FUNCTIONS[op].accepts, f"{op} does not say what its kernel must serve"
            assert launch.rows > 0
            assert launch.width > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_launches_its_kernel_at_every_size(name):
    for dtype in SAMPLES[name].dtypes:
        for n in SAMPLES[name].sizes:
            assert name in [launch.signature.name for launch in launches(SAMPLES[name], n, dtype)], (dtype, n)


def test_the_sizes_cross_the_boundaries():
    assert {1, 31, 32, 33, 255, 256, 257, 1023, 1025} == set(BOUNDARIES)
    for name, found in SAMPLES.items():
        assert {1, 31, 33} <= set(found.sizes), f"{name} has no sample of one element and around a warp"


@needs_compiler
@given(
    name=st.sampled_from(PLAIN), n=st.sampled_from(BOUNDARIES) | st.integers(1, 1100), dtype=st.sampled_from(["f4", "f8"])
)  # fmt: skip
def test_the_cpu_reading_equals_the_references(name, n, dtype):
    """At sizes of any kind: odd tails, warps and blocks and one more or less."""
    found = SAMPLES[name]
    compare(found, min(n, max(found.sizes)), dtype)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", [name for name, found in SAMPLES.items() if not found.gpu])
def test_the_cpu_reading_equals_the_references_at_every_boundary(name, dtype):
    for n in SAMPLES[name].sizes:
        compare(SAMPLES[name], n, dtype)


def in_the_emulator(name, n, dtype, how):
    with emulated(**how) as emulation, np.errstate(all="ignore"):
        emulation.gpu = SAMPLES[name].gpu
        compare(SAMPLES[name], n, dtype)
    assert emulation.launches


@needs_compiler
@pytest.mark.parametrize("name", some(PLAIN, 4))
def test_the_emulator_equals_the_references(name):
    for n in (1, 33, max(SAMPLES[name].sizes)):
        in_the_emulator(name, n, "float32", {})


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_the_emulator_equals_the_references_at_every_boundary(name):
    for n in SAMPLES[name].sizes:
        for how in EMULATIONS[:3]:
            for dtype in SAMPLES[name].dtypes:
                in_the_emulator(name, n, dtype, how)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_the_sanitizers_are_silent(name):
    for how in EMULATIONS[3:]:
        for n in (1, 33) if how["sanitize"] == "thread" else (1, 33, max(SAMPLES[name].sizes)):
            in_the_emulator(name, n, SAMPLES[name].dtypes[0], how)


# -- the machinery -----------------------------------------------------------------------------------------------------


def doubled(broken):
    """A sample whose kernel is NumPy: right, or broken in some way."""

    def calls(d):
        x = d.normal(d.n)
        yield broken(2 * x) if d.kernels else 2 * x

    return Sample(("doubled",), calls, (3,), 32.0, "", ("float32",))


def test_a_right_result_is_measured():
    assert compare(doubled(lambda y: y), 5, "float32") == 0
    near = doubled(lambda y: np.nextafter(y, np.float32(9)))
    assert 0 < compare(near, 5, "float32") <= 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda y: y + np.float32(1e-3), r"array 0, element \(\d,\) of shape \(5,\): .*, the reference has "),
        (lambda y: np.where(np.arange(5) == 3, np.nan, y).astype("f"), r"array 0, element \(3,\) .*nan"),
        (lambda y: np.where(np.arange(5) == 2, np.inf, y).astype("f"), r"element \(2,\) .*inf"),
        (lambda y: y[:4], r"array 0 is float32 \(4,\), the reference's float32 \(5,\)"),
        (lambda y: y.astype("f8"), "array 0 is float64"),
        (lambda y: (y, y), "2 arrays, the references return 1"),
    ],
)
def test_a_wrong_result_is_said_where(broken, message):
    with pytest.raises(Difference, match=message):
        compare(doubled(broken), 5, "float32")


def test_integers_are_compared_exactly():
    def calls(d):
        yield np.arange(5) + (7 if d.kernels else 0) * (np.arange(5) == 4)

    with pytest.raises(Difference, match=r"element \(4,\)"):
        compare(Sample(("x",), calls, (3,), 32.0, "", ("float32",)), 5, "float32")


def test_an_element_that_a_kernel_forgets_shows():
    """Memory that was just freed would hold the right answer."""

    def calls(d):
        y = softmaxes.empty((5,), d.dtype)
        y[: 4 if d.kernels else 5] = 1
        yield y

    with pytest.raises(Difference, match=r"element \(4,\) .*nan"):
        compare(Sample(("x",), calls, (3,), 32.0, "", ("float32",)), 5, "float32")


def test_poison_is_gone_afterwards():
    plain = memory.empty
    with pytest.raises(ZeroDivisionError):
        poisoned_memory()
    assert memory.empty is plain
    assert softmaxes.empty is plain
    assert empty is plain


def poisoned_memory():
    with poisoned():
        assert np.isnan(memory.empty((3, 2), "float32")).all()
        assert np.isnan(memory.empty_like(np.ones(3))).all()
        assert (softmaxes.empty(3, np.int32) == -1).all()
        assert softmaxes.empty((), np.float64).shape == ()
        softmaxes.empty(3, np.bool_)
        raise ZeroDivisionError


def test_draws_repeat():
    a, b = Draw(7, "float32"), Draw(7, "float32")
    np.testing.assert_array_equal(a.normal(3, 2), b.normal(3, 2))
    np.testing.assert_array_equal(a.whole(9, 20), b.whole(9, 20))
    assert a.uniform(4, low=2, high=3).min() >= 2
    assert a.normal(2).dtype == np.float32
    assert a.flags(50).dtype == bool
    assert a.kernels
    with use_kernels(False):
        assert not a.kernels


def test_notes_run_nothing(monkeypatch):
    monkeypatch.setattr(kernel.KernelFile, "_find", lambda *args: pytest.fail("built"))
    (launch,) = launches(SAMPLES["take_forward"], 8, "float32")
    assert (launch.op, launch.rows, launch.width, str(launch.signature).split("(")[0]) == (None, 11, 8, "take_forward")
    launch, *_ = launches(SAMPLES["softmax_forward"], 8, "float64")
    assert launch.op == "softmax_forward"
    assert launch.build == ("softmaxes.cu", ("ACC", "float64"), ("T", "float64"))
    assert kernel.instead is None


def test_two_samples_for_one_kernel_are_refused():
    with pytest.raises(ValueError, match="two samples for the kernel 'softmax_forward'"):
        sample("softmax_forward")(lambda d: iter(()))


def test_run_flattens_what_calls_return():
    def calls(d):
        yield (d.normal(2), (None, [d.normal(3)])), None
        yield d.normal(4)

    assert [a.size for a in run(Sample(("x",), calls, (3,), 32.0, "", ("float32",)), 1, "float32")] == [2, 3, 4]
