"""The dispatch: kernel or reference, in this thread or that."""

import threading

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.backend import FUNCTIONS, ArrayFunction, array_function, kernels_enabled, use_kernels


@pytest.fixture(scope="module")
def double():
    @array_function
    def test_dispatch_double(x, factor=2):
        """Twice ``x``."""
        return x * factor, "reference"

    @test_dispatch_double.kernel(accepts="at least two elements")
    def _(x, factor=2):
        return (x * factor, "kernel") if x.size >= 2 else NotImplemented

    yield test_dispatch_double
    del FUNCTIONS["test_dispatch_double"]


def test_a_kernel_serves_what_it_accepts_and_the_reference_the_rest(double):
    before = double.launches
    assert double(np.ones(2))[1] == "kernel"
    assert double.launches == before + 1
    assert double(np.ones(1))[1] == "reference"
    assert double(np.ones(2), factor=3)[0].tolist() == [3, 3]
    assert double.launches == before + 2
    assert double.reference(np.ones(2))[1] == "reference"


def test_what_a_kernel_cannot_count_is_left_to_the_reference():
    @array_function
    def test_dispatch_counted(x):
        return len(x)

    @test_dispatch_counted.kernel(accepts="few elements")
    def _(x):
        raise OverflowError("`int n` takes int32, got more")

    try:
        assert test_dispatch_counted(range(3)) == 3
        assert test_dispatch_counted.launches == 0
    finally:
        del FUNCTIONS["test_dispatch_counted"]


def test_kernels_can_be_switched_off_in_a_thread(double):
    seen = []
    with use_kernels(False):
        assert not kernels_enabled()
        assert double(np.ones(2))[1] == "reference"
        thread = threading.Thread(target=lambda: seen.append(double(np.ones(2))[1]))
        thread.start()
        thread.join()
        with use_kernels():
            assert double(np.ones(2))[1] == "kernel"
        assert not kernels_enabled()
    assert kernels_enabled()
    assert seen == ["kernel"]
    with pytest.raises(KeyError), use_kernels(False):
        raise KeyError
    assert kernels_enabled()


def test_functions_are_known_by_name_and_describe_themselves(double):
    assert FUNCTIONS["test_dispatch_double"] is double
    assert double.__name__ == "test_dispatch_double"
    assert double.__doc__ == "Twice ``x``."
    assert repr(double) == "<array function test_dispatch_double, kernel: at least two elements>"
    with pytest.raises(ValueError, match="two array functions called 'test_dispatch_double'"):
        ArrayFunction(double.reference)
    assert all(f.accepts for f in FUNCTIONS.values() if f.launcher), "what a kernel accepts is said beside it"


def test_references_and_kernels_agree_on_a_layer():
    layer, x = flux.Dense(200, 300, flux.gelu), np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    a = layer(x).numpy()
    with use_kernels(False):
        b = layer(x).numpy()
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
