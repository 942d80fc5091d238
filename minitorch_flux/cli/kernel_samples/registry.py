"""The table of samples, and what they draw their inputs with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backend import kernels_enabled
from ...ops.geometry import Window, window

BOUNDARIES = (1, 31, 32, 33, 255, 256, 257, 1023, 1025)
"""One element; a warp, a block's width and a kernel's tile, each less one, exactly and one more; odd tails."""


class Draw:
    """Inputs of a sample: the same ones each time, whatever the order of the calls that use them."""

    def __init__(self, n: int, dtype: Any) -> None:
        self.n, self.dtype = n, np.dtype(dtype)
        self._rng = np.random.default_rng(n)

    @property
    def kernels(self) -> bool:
        """Whether kernels may run: False while the expected results are computed."""
        return kernels_enabled()

    def normal(self, *shape: int, dtype: Any = None) -> np.ndarray:
        """Standard normal numbers."""
        return self._rng.standard_normal(shape).astype(dtype or self.dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0, dtype: Any = None) -> np.ndarray:
        """Numbers between ``low`` and ``high``."""
        return self._rng.uniform(low, high, shape).astype(dtype or self.dtype)

    def whole(self, high: int, *shape: int) -> np.ndarray:
        """Whole numbers below ``high``, int64."""
        return self._rng.integers(high, size=shape)

    def flags(self, *shape: int, share: float = 0.7) -> np.ndarray:
        """True with the probability ``share``."""
        return self._rng.random(shape) < share

    def place(self, a: np.ndarray) -> np.ndarray:
        """An array that a sample makes itself, brought to where the drawn ones are: here, itself."""
        return a

    def window(self, kernel: tuple[int, ...], stride: Any = 1, pad: Any = 0, dilation: Any = 1, **options: Any) -> Window:
        """The geometry of a convolution or a pool."""
        return window("sample", kernel, stride, pad, dilation, **options)


Calls = Callable[[Draw], Iterator[Any]]


@dataclass(frozen=True)
class Sample:
    """The calls that show one or more kernels.

    ``sizes``: the values of ``draw.n`` that it is made for. ``tolerance``: how far, in units of the dtype's resolution
    and of the largest expected number, a kernel may be from its reference. ``op``: the array function that launches the
    kernel, where the sample does so itself and the two names differ. ``dtypes``: those in which it must be launched.
    ``gpu``: the text is for GPUs only, so that the emulator runs it and the CPU does not.
    """

    kernels: tuple[str, ...]
    calls: Calls
    sizes: tuple[int, ...]
    tolerance: float
    op: str
    dtypes: tuple[str, ...]
    gpu: bool = False


SAMPLES: dict[str, Sample] = {}
"""The sample of each kernel by the kernel's name."""


def sample(
    *kernels: str, sizes: tuple[int, ...] = BOUNDARIES, tolerance: float = 32.0, op: str = "",
    dtypes: tuple[str, ...] = ("float32", "float64"), gpu: bool = False,
) -> Callable[[Calls], Calls]:
    """Decorator: these calls show the kernels of these names."""

    def register(calls: Calls) -> Calls:
        found = Sample(kernels, calls, sizes, tolerance, op, dtypes, gpu)
        for name in kernels:
            if name in SAMPLES:
                raise ValueError(f"there are two samples for the kernel {name!r}")
            SAMPLES[name] = found
        return calls

    return register
