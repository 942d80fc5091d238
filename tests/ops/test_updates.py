"""Optimiser steps on arrays: kernels against references, batches of every make, the emulator's readings."""

from __future__ import annotations

import numpy as np
import pytest

from minitorch_flux.backend import FUNCTIONS, use_kernels
from minitorch_flux.ops.batches import BLOCK, CHUNK, Batch
from minitorch_flux.ops.updates import updates
from minitorch_flux.readings.emulator import EMULATIONS, emulated

# kernel: state arrays (with ?: may be missing), coefficients
STEPS = {
    "momentum_update": (("u?",), (-1.0, 0.1, 0.05, 0.9, 0.8, 1.0, 0.9)),
    "rmsprop_update": (("v", "a?", "u?"), (1.0, 0.1, 0.01, 0.99, 0.01, 0.01, 1e-8, 0.5)),
    "adam_update": (("m", "v", "top?"), (1.0, 0.1, 0.99, 0.9, 0.1, 0.99, 0.01, 1.0, 1e-9, 2.0, 1e-6, 0.01, 0.02)),
    "adamax_update": (("m", "u"), (1.0, 0.1, 0.01, 0.9, 0.1, 0.99, 1e-8)),
    "adadelta_update": (("v", "u"), (1.0, 0.1, 0.5, 0.9, 0.1, 1e-6)),
    "lion_update": (("m",), (-1.0, 0.1, 0.99, 0.02, 0.9, 0.1, 0.99, 0.01)),
}


def optional(slot):
    return slot.endswith("?")


VARIANTS = [(name, bits) for name, (slots, _) in STEPS.items() for bits in range(1 << sum(map(optional, slots)))]

SMALL = [(3, 4), (), (5,), (0, 3), (1,), (2, 3, 2)]
LARGE = [(150, 151), (17,), (BLOCK + CHUNK + 1,), (CHUNK,), (2 * BLOCK,)]


def has_compiler() -> bool:
    from minitorch_flux.readings.toolchain import toolchain

    return not isinstance(toolchain(), str)


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


class Case:
    """Parameters, gradients and state of one kernel, with the optional state arrays that the bits of `variant` say."""

    def __init__(self, name, variant, shapes, dtype, seed=0, gap=0):
        rng = np.random.default_rng(seed)
        self.name, (slots, self.coefficients) = name, STEPS[name]
        self.arrays = [rng.standard_normal(s).astype(dtype) for s in shapes]
        self.grads = [rng.standard_normal(s).astype(dtype) for s in shapes]
        self.places, at = [], 0
        for a in self.arrays:
            self.places.append(at)
            at += a.size + gap
        acc = np.float64 if dtype == np.float64 else np.float32
        self.slots, bit = [], 0
        for slot in slots:
            absent = optional(slot) and not variant >> bit & 1
            bit += optional(slot)
            state = (1.0 + rng.random(at)) / (20 if slot == "a?" else 1)  # RMSProp: a^2 is below v
            self.slots.append(None if absent else state.astype(acc))

    def run(self, steps=3, final=True, copy=False):
        """A few steps with changing gradients; the parameters and state arrays afterwards."""
        batch = Batch(self.arrays, self.places)
        for t in range(steps):
            grads = [(g * (t + 1)).astype(g.dtype) for g in self.grads]
            before = [g.copy() for g in grads]
            batch.load(grads, copy=copy)
            batch.final = final
            FUNCTIONS[self.name](batch, *self.slots, *self.coefficients)
            if not final:
                batch.final = True
                batch.subtract()
            batch.release()
            for g, b in zip(grads, before, strict=True):
                np.testing.assert_array_equal(g, b)  # gradients are never written to
        return self.arrays + [s for s in self.slots if s is not None]


def compare(got, want, dtype):
    eps = np.finfo(np.float32 if dtype == np.float16 else dtype).eps
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        tolerance = (3e-3 if dtype == np.float16 else 30 * eps) * np.maximum(1, abs(b))
        assert np.all(abs(a.astype(float) - b.astype(float)) <= tolerance), abs(a - b).max()


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_kernel_is_the_reference(name, variant, shapes, dtype):
    with use_kernels(False):
        want = Case(name, variant, shapes, dtype).run()
    before = FUNCTIONS[name].launches
    got = Case(name, variant, shapes, dtype).run()
    assert FUNCTIONS[name].launches == before + 3
    compare(got, want, dtype)


@needs_compiler
@pytest.mark.parametrize("copy", [True, False], ids=["float32 gradients", "16-bit gradients"])
@pytest.mark.parametrize("shapes", [SMALL, LARGE[:3]], ids=["small", "large"])
@pytest.mark.parametrize("name", STEPS)
def test_masters(name, shapes, copy):
    """Kernel and reference step the float32 masters alike; where a parameter is not its master rounded they begin at it."""
    found = []
    for kernels in (True, False):
        case = Case(name, 7, shapes, np.float16)
        master = np.concatenate(case.arrays, axis=None).astype(np.float32)
        batch = Batch(case.arrays, case.places, master=master)
        with use_kernels(kernels):
            for t in range(3):
                for a in case.arrays:
                    a.reshape(-1)[1::4] = t  # somebody else has written here
                batch.load(case.grads, copy=copy)
                FUNCTIONS[name](batch, *case.slots, *case.coefficients)
                batch.release()
                np.testing.assert_array_equal(master.astype(np.float16), np.concatenate(case.arrays, axis=None))
        found.append([master, *(s for s in case.slots if s is not None)])
    compare(*found, np.float32)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("shapes", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_layouts_change_nothing(name, variant, shapes, kernels):
    """Gaps in the state, copied gradients, parameters and gradients that are not contiguous, steps handed on."""
    with use_kernels(kernels):
        want = Case(name, variant, shapes, np.float64).run()[: len(shapes)]

        gaps = Case(name, variant, shapes, np.float64, gap=3)
        compact = Case(name, variant, shapes, np.float64)
        for wide, slot in zip(gaps.slots, compact.slots, strict=True):
            for a, p, q in zip(gaps.arrays, gaps.places, compact.places, strict=True):
                if wide is not None:
                    wide[p : p + a.size] = slot[q : q + a.size]
        compare(gaps.run()[: len(shapes)], want, np.float64)

        compare(Case(name, variant, shapes, np.float64).run(copy=True)[: len(shapes)], want, np.float64)
        compare(Case(name, variant, shapes, np.float64).run(final=False, copy=True)[: len(shapes)], want, np.float64)

        strided = Case(name, variant, shapes, np.float64)
        strided.arrays = [np.repeat(a[..., None], 2, -1)[..., 0] for a in strided.arrays]
        strided.grads = [np.asfortranarray(g) for g in strided.grads]
        compare(strided.run()[: len(shapes)], want, np.float64)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", STEPS)
def test_one_batch_is_many_batches(name, kernels):
    with use_kernels(kernels):
        whole = Case(name, 7, SMALL, np.float32)
        parts = Case(name, 7, SMALL, np.float32)
        want = whole.run(steps=1)
        for k in range(len(SMALL)):
            batch = Batch(parts.arrays[k : k + 1], parts.places[k : k + 1])
            batch.load(parts.grads[k : k + 1])
            FUNCTIONS[name](batch, *parts.slots, *parts.coefficients)
        for a, b in zip(parts.arrays + parts.slots, want, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", STEPS)
def test_what_is_not_finite_stays_in_its_place(name, kernels):
    """No warning, and no other element changes."""
    with use_kernels(kernels):
        want = Case(name, 7, [(40,)], np.float32).run(steps=1)[0]
        for bad in (np.nan, np.inf, -np.inf, 1e30):
            case = Case(name, 7, [(40,)], np.float32)
            case.grads[0][3] = bad
            got = case.run(steps=1)[0]
            keep = np.arange(40) != 3
            np.testing.assert_array_equal(got[keep], want[keep])
            if bad != bad:
                assert np.isnan(got[3])


@pytest.mark.parametrize("name", STEPS)
def test_nothing_to_do(name):
    before = FUNCTIONS[name].launches
    case = Case(name, 7, [(0, 3), (4, 0)], np.float32)
    assert [a.shape for a in case.run()[:2]] == [(0, 3), (4, 0)]
    assert FUNCTIONS[name].launches == before  # declined


def test_the_same_bits_again():
    first = Case("adam_update", 1, LARGE, np.float32).run()
    again = Case("adam_update", 1, LARGE, np.float32).run()
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_16_bit_parameters_compute_in_float32():
    """Small steps add up in the state and are lost only where x is rounded."""
    x = np.ones(4, np.float16)
    u = np.zeros(4, np.float32)
    batch = Batch([x], [0])
    for _ in range(200):
        batch.load([np.full(4, 1e-4, np.float16)])
        FUNCTIONS["momentum_update"](batch, u, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0)
        batch.release()
    np.testing.assert_allclose(u, 200 * np.float32(np.float16(1e-4)), rtol=1e-5)
    assert x.dtype == np.float16


@needs_compiler
@pytest.mark.parametrize("how", EMULATIONS, ids=str)
@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, bits) for name, bits in VARIANTS if bits in (0, 3)] + [("momentum_update", 1), ("adam_update", 1)],
)
def test_gpu_reading(name, variant, how):
    """The emulator runs in a process of its own, so parameters and gradients are one array each, found by offsets."""
    case = Case(name, variant, [(300,), (7, 5), (1,), (130,)], np.float32)
    want = Case(name, variant, [(300,), (7, 5), (1,), (130,)], np.float32)
    with use_kernels(False):
        want.run(steps=1)
    sizes = [a.size for a in case.arrays]
    x = np.concatenate(case.arrays, axis=None)
    dx = np.concatenate(case.grads, axis=None)
    begins = np.array(case.places, np.int64)
    left = np.array(sizes, np.int64)
    with emulated(**how) as emulation:
        assert updates(
            name, x, len(sizes), max(sizes), x, 4 * begins, dx, 4 * begins, begins, left, None, len(sizes), max(sizes),
            *case.slots, *case.coefficients,
        )  # fmt: skip
    assert emulation.launches == 1
    compare([x], [np.concatenate(want.arrays, axis=None)], np.float32)
    compare([s for s in case.slots if s is not None], [s for s in want.slots if s is not None], np.float32)
