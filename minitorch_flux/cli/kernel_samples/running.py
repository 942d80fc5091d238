"""Running samples: what they launch, what they return, and how far that is from the references."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backend import ArrayFunction, memory, use_kernels
from ...readings.kernel import launching
from ...readings.source import Constants, KernelText, Signature
from .registry import Draw, Sample


@dataclass(frozen=True)
class Launch:
    """What an op asked for when it launched a kernel; ``op`` is the array function, None where the sample launched it."""

    op: str | None
    source: KernelText
    signature: Signature
    types: Mapping[str, np.dtype[Any]]
    constants: Constants
    rows: int
    width: int

    @property
    def build(self) -> tuple[Any, ...]:
        """What two launches have in common when they need the same build."""
        return (self.source.name, *sorted((k, str(v)) for k, v in (*self.types.items(), *self.constants.items())))


class _Notes:
    """Takes launches, runs nothing."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu
        self.launches: list[Launch] = []

    def launch(
        self, source: KernelText, signature: Signature, types: Mapping[str, np.dtype[Any]], constants: Constants,
        rows: int, width: int, args: tuple[Any, ...],
    ) -> bool:  # fmt: skip
        self.launches.append(Launch(_op(), source, signature, dict(types), dict(constants), rows, width))
        return True


def _op() -> str | None:
    """The name of the array function that is being called."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is ArrayFunction.__call__.__code__:
            return str(frame.f_locals["self"].name)
    return None


def launches(sample: Sample, n: int, dtype: Any) -> list[Launch]:
    """What the sample launches, without running it: what it returns is thrown away."""
    with launching(_Notes(sample.gpu)) as notes, np.errstate(all="ignore"), poisoned(0):
        run(sample, n, dtype)
    return notes.launches


def run(sample: Sample, n: int, dtype: Any) -> list[np.ndarray]:
    """The arrays that the sample's calls return, in order."""
    return [a for y in sample.calls(Draw(n, dtype)) for a in _arrays(y)]


def _arrays(y: Any) -> Iterator[np.ndarray]:
    if isinstance(y, tuple | list):
        for part in y:
            yield from _arrays(part)
    elif y is not None:
        yield np.asarray(y)


@contextmanager
def poisoned(byte: int = 0xFF) -> Iterator[None]:
    """Memory for outputs begins with NaN (integers: -1) instead of what happens to be there.

    An element that a kernel forgets shows then. For tests and the emulator; not for several threads at a time.
    """
    plain = memory.empty

    def filled(*args: Any, **keywords: Any) -> Any:
        y = plain(*args, **keywords)
        if y.dtype.kind not in "bO":
            y.reshape(-1).view(np.uint8).fill(byte)
        return y

    places = [m for name, m in list(sys.modules.items()) if name.startswith(f"{__package__.split('.')[0]}.")]
    places = [m for m in places if getattr(m, "empty", None) is plain]
    for module in places:
        module.empty = filled  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in places:
            module.empty = plain  # type: ignore[attr-defined]


class Difference(AssertionError):
    """A kernel's result is not the reference's; the text says where and by how much."""


def expected(sample: Sample, n: int, dtype: Any) -> list[np.ndarray]:
    """What the references return."""
    with use_kernels(False):
        return run(sample, n, dtype)


def compare(sample: Sample, n: int, dtype: Any, wanted: list[np.ndarray] | None = None) -> float:
    """Run the sample and hold it against the references (``wanted``, or computed now).

    Returns the largest difference in units of the tolerance's scale: the dtype's resolution times the largest expected
    number of the same array. Raises Difference where that is more than ``sample.tolerance``.
    """
    wanted = expected(sample, n, dtype) if wanted is None else wanted
    with poisoned():
        got = run(sample, n, dtype)
    if len(got) != len(wanted):
        raise Difference(f"{len(got)} arrays, the references return {len(wanted)}")
    return max((_far(i, g, w, sample.tolerance) for i, (g, w) in enumerate(zip(got, wanted, strict=True))), default=0.0)


def _far(i: int, got: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        raise Difference(f"array {i} is {got.dtype} {got.shape}, the reference's {wanted.dtype} {wanted.shape}")
    if not got.size:
        return 0.0
    if got.dtype.kind != "f":
        far = (got != wanted).astype(np.float64)
        limit = 0.0
    else:
        a, b = got.astype(np.float64), wanted.astype(np.float64)
        finite = np.isfinite(b)
        scale = (float(np.abs(b[finite]).max(initial=0.0)) or 1.0) * float(np.finfo(wanted.dtype).eps)
        with np.errstate(all="ignore"):
            far = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b) / scale)
        far = np.where(np.isnan(far), np.inf, far)
        limit = tolerance
    largest = float(far.max())
    if largest > limit:
        at = tuple(map(int, np.unravel_index(int(far.argmax()), far.shape)))
        raise Difference(f"array {i}, element {at} of shape {got.shape}: {got[at]!r}, the reference has {wanted[at]!r}")
    return largest
