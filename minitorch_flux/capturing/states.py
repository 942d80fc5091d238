"""What a step changes beyond its own memory: taken, compared and put back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backend import is_array, to_device

Saved = tuple[list[Any], list[int], list[dict[str, int]], list[dict[str, Any]]]


class State:
    """Arrays, generators, and the keepers of live calls (optimiser states), which all outlive a step."""

    def __init__(self, arrays: Iterable[Any], generators: Iterable[Any], keepers: Iterable[Any], tensors: Any = ()) -> None:
        self.arrays, self.generators, self.keepers = list(arrays), list(generators), list(keepers)
        self.tensors = list(tensors)

    def __bool__(self) -> bool:
        return bool(self.arrays or self.generators or self.keepers)

    def _all(self) -> tuple[list[Any], list[Any], list[dict[str, Any]]]:
        """Arrays, tensors with a version, and dicts of numbers."""
        arrays, numbers = {id(a): a for a in self.arrays}, []
        tensors = {id(t): t for t in self.tensors}
        for keeper in self.keepers:
            parameters, more, counts = keeper._held()
            tensors |= {id(t): t for t in parameters}
            arrays |= {id(a): a for a in more}
            numbers += counts
        arrays |= {id(t.data): t.data for t in tensors.values()}
        return list(arrays.values()), list(tensors.values()), numbers

    def save(self, arrays: bool = True) -> Saved:
        """Copies of everything, or of all but the arrays."""
        found, tensors, numbers = self._all()
        counters = [g.state_dict() for g in self.generators]
        return [a.copy() for a in found] if arrays else [], [t.version for t in tensors], counters, [dict(n) for n in numbers]

    def restore(self, saved: Saved) -> None:
        """Everything as it was saved."""
        arrays, tensors, numbers = self._all()
        for a, was in zip(arrays if saved[0] else [], saved[0], strict=True):
            a[...] = was
        for t, version in zip(tensors, saved[1], strict=True):
            t.version = version
        for g, counters in zip(self.generators, saved[2], strict=True):
            g.load_state_dict(counters)
        for n, values in zip(numbers, saved[3], strict=True):
            n.clear()
            n.update(values)


def same(a: Saved, b: Saved, alike: Any = None) -> bool:
    """Whether two savings are equal: in every bit, or as ``alike`` says of two arrays."""
    return len(a[0]) == len(b[0]) and all(map(alike or same_bits, a[0], b[0])) and a[1:] == b[1:]


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays or NumPy scalars have the same dtype, shape and bytes."""
    a, b = np.ascontiguousarray(_here(a)), np.ascontiguousarray(_here(b))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


CLOSE = 1e-3
"""Of the largest number: how far apart two runs of a step may be whose matrix products were not rounded alike."""


def close(a: Any, b: Any) -> bool:
    """Whether two arrays have the same dtype and shape, and floats as near as CLOSE says; others must be equal."""
    a, b = _here(a), _here(b)
    if a.dtype != b.dtype or a.shape != b.shape or a.dtype.kind != "f":
        return same_bits(a, b)
    high = np.float64
    bound = CLOSE * float(np.abs(b[np.isfinite(b)].astype(high)).max(initial=0.0))
    return bool(np.allclose(a.astype(high), b.astype(high), rtol=0, atol=bound, equal_nan=True))


def _here(a: Any) -> Any:
    return to_device(a, "cpu") if is_array(a) else a
