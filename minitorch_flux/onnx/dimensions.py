"""Lengths that may be others at every call.

A model is followed several times, with other lengths of the axes that are to be dynamic. The traces are laid over each
other: what is an equal number in all of them is that number; where they differ there is a ``Dim``, a length that has one
value in each trace, and by these values is recognised as the length of an axis, or as computed from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .tracing import Call, ExportError, Item, Trace


@dataclass(frozen=True)
class Dim:
    """A length: its value in each of the traces."""

    values: tuple[int, ...]

    def __repr__(self) -> str:
        return "?"


Length = int | Dim


@dataclass(frozen=True, eq=False)
class Varying:
    """Something other than a length that differs between the traces."""

    each: tuple[Any, ...]


class Merged:
    """An array of a model: ``shape`` with Dims in it, ``array`` where its numbers are known and always the same.

    ``arrays``: the numbers in each trace, where they are known.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        first = items[0]
        self.kind, self.name, self.place = first.kind, first.name, first.place
        self.dtype = first.dtype
        self.shape: tuple[Length, ...] = lay_over([i.shape for i in items], None)
        self.arrays: Any = None if any(i.array is None for i in items) else [i.array for i in items]
        same = self.arrays is not None and all(_equal(a, self.arrays[0]) for a in self.arrays[1:])
        self.array: Any = self.arrays[0] if same and self.arrays else None
        self.call: MergedCall | None = None


class MergedCall:
    """An operation, whose inputs and keywords have Merged, Dims and Varying in them."""

    def __init__(self, call: Call, inputs: list[Any], static: dict[str, Any]) -> None:
        self.name, self.path, self.inputs, self.static = call.name, call.path, inputs, static
        self.outputs: list[Merged] = []


class Program:
    """Traces laid over each other: inputs, calls in order, and what the model gives."""

    def __init__(self, traces: Sequence[Trace], axes: str) -> None:
        first = traces[0]
        for other in traces[1:]:
            _check_same(first, other, axes)
        self.items = [Merged(items) for items in zip(*(t.items for t in traces), strict=True)]
        self.inputs = [m for m in self.items if m.kind == "input"]
        self.calls: list[MergedCall] = []
        for calls in zip(*(t.calls for t in traces), strict=True):
            inputs = lay_over([c.inputs for c in calls], self.items)
            static = lay_over([c.static for c in calls], self.items)
            call = MergedCall(calls[0], inputs, static)
            call.outputs = [self.items[i.place] for i in calls[0].outputs]
            for m in call.outputs:
                m.call = call
            self.calls.append(call)
        self.results = lay_over([t.results for t in traces], self.items)


def _check_same(a: Trace, b: Trace, axes: str) -> None:
    """Raise ExportError where two traces are not of the same operations."""
    for x, y in zip(a.calls, b.calls):
        places = [[i.place for i in _items(c)] for c in (x, y)]
        if x.name != y.name or places[0] != places[1]:
            where = f"layer {x.path}" if x.path else "the model"
            raise ExportError(f"{where} does something else ({x.name}, {y.name}) where {axes} has another length: "
                              "name only axes of free length in axes=, or none, axes={}")
    if len(a.calls) != len(b.calls) or len(a.items) != len(b.items):
        raise ExportError(f"the model makes another number of operations where {axes} has another length, such as one for "
                          "each step of a sequence: name only axes of free length in axes=, or none, axes={}")


def _items(call: Call) -> list[Item]:
    found: list[Item] = []

    def look(x: Any) -> None:
        if isinstance(x, Item):
            found.append(x)
        elif isinstance(x, dict):
            look(tuple(x.values()))
        elif isinstance(x, tuple | list):
            for part in x:
                look(part)

    look((call.inputs, call.static))
    return found


def lay_over(values: Sequence[Any], items: Sequence[Merged] | None) -> Any:
    """One value for those of all traces."""
    first = values[0]
    kind = type(first)
    if any(type(v) is not kind for v in values):
        return Varying(tuple(values))
    if kind is Item:
        assert items is not None
        return items[first.place]
    if kind is int:
        return first if all(v == first for v in values) else Dim(tuple(values))
    if kind in (tuple, list) and all(len(v) == len(first) for v in values):
        return kind(lay_over(parts, items) for parts in zip(*values, strict=True))
    if kind is dict and all(v.keys() == first.keys() for v in values):
        return {k: lay_over([v[k] for v in values], items) for k in first}
    if kind is slice:
        return slice(*(lay_over([getattr(v, part) for v in values], items) for part in ("start", "stop", "step")))
    return first if all(v is first or v == first for v in values) else Varying(tuple(values))


def varying(x: Any) -> bool:
    """Whether there is a Varying in a keyword."""
    if isinstance(x, tuple | list):
        return any(map(varying, x))
    return isinstance(x, Varying)


def _equal(a: Any, b: Any) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def numbers(length: Length, traces: int) -> np.ndarray:
    """The values of a length in the traces."""
    return np.asarray(length.values if isinstance(length, Dim) else (length,) * traces)
