"""Every kernel on a GPU, or on a pretended one (--pretend-gpu), against its reference on the CPU.

The bound is that of the kernel's sample: so many units of the dtype's resolution, times the largest expected number.
"""

import functools
import json

import numpy as np
import pytest

from minitorch_flux.backend import is_array, memory, to_device
from minitorch_flux.cli import kernel_samples
from minitorch_flux.cli.kernel_samples import SAMPLES, Draw, running
from tests import oracles

DTYPES = ("float32", "float64", "float16")
SIZES = (33, 257)
CASES = [
    pytest.param(name, n, dtype, id=f"{name}-{n}-{dtype}")
    for name, sample in SAMPLES.items()
    for n in sorted({size for size in SIZES if size in sample.sizes} or {max(sample.sizes)})
    for dtype in DTYPES
    if dtype in sample.dtypes
]


class On(Draw):
    """Draws the same numbers as on the CPU, on another device."""

    def __init__(self, n, dtype, device):
        super().__init__(n, dtype)
        self.device = device

    def normal(self, *shape, **options):
        return to_device(super().normal(*shape, **options), self.device)

    def uniform(self, *shape, **options):
        return to_device(super().uniform(*shape, **options), self.device)

    def whole(self, high, *shape):
        return to_device(super().whole(high, *shape), self.device)

    def flags(self, *shape, **options):
        return to_device(super().flags(*shape, **options), self.device)

    def place(self, a):
        return to_device(a, self.device)


def flat(y):
    if isinstance(y, tuple | list):
        for part in y:
            yield from flat(part)
    elif is_array(y):
        yield to_device(y, "cpu")


@pytest.fixture(scope="session")
def differences(request):
    """What is written to the file of --differences: the largest difference of each kernel."""
    found = {}
    yield found
    if file := request.config.getoption("--differences"):
        with open(file, "w") as f:
            json.dump(found, f, indent=2)


@pytest.mark.gpu
@pytest.mark.skipif(len(oracles.DEVICES) < 2, reason="no CUDA device (--pretend-gpu pretends one)")
@pytest.mark.parametrize(("kernel", "n", "dtype"), CASES)
def test_kernel(kernel, n, dtype, monkeypatch, differences):
    sample = SAMPLES[kernel]
    with np.errstate(all="ignore"):
        wanted = running.expected(sample, n, dtype)
        for device in oracles.DEVICES[1:]:
            draw = On(n, dtype, device)
            empty = functools.partial(memory.empty, like=to_device(np.zeros(1), device))
            for module in vars(kernel_samples).values():
                if hasattr(module, "empty"):  # the samples that launch kernels themselves
                    monkeypatch.setattr(module, "empty", empty)
            got = [a for y in sample.calls(draw) for a in flat(y)]
            assert got, f"{kernel} returned nothing on {device}"
            for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
                far = running._far(i, g, w, sample.tolerance)
                key = f"{kernel} {dtype}"
                differences[key] = max(differences.get(key, 0.0), far)


@pytest.mark.skipif(len(oracles.DEVICES) > 1, reason="devices are tested already")
def test_a_pretended_gpu_is_as_strict_as_a_real_one():
    """The tests of devices can fail: host and device arrays do not mix, and CuPy's gaps are gaps."""
    pytest.importorskip("cupy")
    from tests.pretended import ndarray, pretended_gpu

    with pretended_gpu() as cupy:
        x = to_device(np.arange(6.0).reshape(2, 3), "cuda:0")
        assert isinstance(x, ndarray)
        one = np.ones(3)
        for wrong in (lambda: x + one, lambda: one + x, lambda: cupy.matmul(x, one), lambda: np.asarray(x)):
            with pytest.raises(TypeError, match="Unsupported type|not allowed"):
                wrong()
        with pytest.raises(AttributeError):
            cupy.errstate  # noqa: B018
        with pytest.raises(AttributeError):
            x.ctypes  # noqa: B018
        assert isinstance(x.sum(), ndarray)
        assert x[0].base is x
        x[0] += 1
        np.testing.assert_array_equal(x.get(), [[1, 2, 3], [3, 4, 5]])
