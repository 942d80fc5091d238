"""Building ahead: all kernels that a piece of work needs, and nothing changes by it."""

import time
from pathlib import Path

import numpy as np
import pytest

from minitorch_flux.readings import KernelBuildError, KernelFile, cache, host, kernel, rehearsal, toolchain
from minitorch_flux.readings.emulator import emulated
from minitorch_flux.readings.rehearsal import build_ahead

HERE = Path(__file__).parent


@pytest.fixture
def sample(monkeypatch, tmp_path):
    if isinstance(toolchain.toolchain(), str):
        pytest.skip("no compiler")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(host, "_libraries", {})
    return KernelFile(HERE / "sample.cu")


def axpy(sample, dtype="float32"):
    x, y = np.ones(3, dtype), np.zeros(3, dtype)
    return y if sample("axpy", x, 1, 3, 2.0, x, y, 3) else None


def pool(sample, constants):
    x, y = np.arange(4, dtype="float32").reshape(1, 2, 2), np.zeros((1, 1, 1), "float32")
    return y if sample("max_pool", x, 1, 4, x, y, 1, 2, 2, constants=constants) else None


def test_what_comes_after_a_kernel_that_declined_is_found_too(sample, monkeypatch):
    seen, notices = [], []

    def work():
        """As a launcher does: the second kernel runs only where the first one did."""
        first = axpy(sample)
        second = None if first is None else pool(sample, {"KH": 2, "KW": 2})
        third = axpy(sample, "float64")
        seen.append((first is not None, second is not None, third is not None))

    monkeypatch.setattr(rehearsal, "PATIENCE", 0)
    assert build_ahead(work, notices.append) == 3
    assert seen == [(False, False, False), (True, False, True), (True, True, True)]
    assert notices == [2, 1]
    assert kernel.instead is None
    monkeypatch.setattr(host, "_compile", lambda *args: pytest.fail("built again"))
    np.testing.assert_array_equal(axpy(sample), [2, 2, 2])
    np.testing.assert_array_equal(pool(sample, {"KH": 2, "KW": 2}), [[[3]]])
    assert build_ahead(work) == 3


def test_work_that_needs_no_kernel():
    assert build_ahead(lambda: None, lambda n: pytest.fail("nothing is built")) == 0


def test_work_that_never_asks_for_the_same(sample, monkeypatch):
    monkeypatch.setattr(host, "library_of", lambda *what: None)
    n = iter(range(100))
    assert build_ahead(lambda: pool(sample, {"KH": next(n), "KW": 1})) == 0
    assert next(n) == rehearsal.MOST


def test_what_the_compiler_refuses_is_left_to_its_first_use(sample, monkeypatch):
    build = host.library_of

    def refuse(source, types, constants):
        if constants:
            raise KernelBuildError("refused")
        return build(source, types, constants)

    monkeypatch.setattr(host, "library_of", refuse)
    assert build_ahead(lambda: (axpy(sample), pool(sample, {"KH": 2, "KW": 2}))) == 1
    with pytest.raises(KernelBuildError, match="refused"):
        pool(sample, {"KH": 2, "KW": 2})


def test_errors_of_the_work_come_out(sample):
    with pytest.raises(ZeroDivisionError):
        build_ahead(lambda: 1 // 0)
    assert kernel.instead is None
    with emulated() as emulation:
        with pytest.raises(ZeroDivisionError):
            build_ahead(lambda: 1 // 0)
        assert kernel.instead is emulation


def test_no_compiler(monkeypatch):
    monkeypatch.setenv(toolchain.COMPILER, "/nowhere/g++")
    assert build_ahead(lambda: pytest.fail("rehearsed for nothing")) == 0


def test_an_interruption_leaves_the_rest_unbuilt(sample, monkeypatch):
    begun = []

    def slow(source, types, constants):
        begun.append(constants)
        time.sleep(0.2)

    def interrupt(n):
        raise KeyboardInterrupt

    monkeypatch.setattr(host, "library_of", slow)
    monkeypatch.setattr(rehearsal, "PATIENCE", 0)
    monkeypatch.setattr(rehearsal.os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        build_ahead(lambda: [pool(sample, {"KH": i, "KW": 1}) for i in range(1, 20)], interrupt)
    assert len(begun) == 1
