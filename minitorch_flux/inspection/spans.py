"""Spans of time: what ran from when to when, inside what. A profile is a list of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .followers import Place

FORWARD, BACKWARD, OTHER = "forward", "backward", "other"


@dataclass(eq=False)
class Span:
    """A call of a layer, an operation or a kernel: ``start`` and ``length`` in nanoseconds.

    ``kind`` is "layer", "operation" or "kernel", ``place`` the layer that it belongs to, ``phase`` forward, backward or
    other. ``begin`` and ``end`` are the timer's tokens; ``bytes`` were read and written, ``flops`` done. ``gpu``: the device's
    own time is told, not the host's.
    """

    kind: str
    name: str
    place: Place
    phase: str
    parent: Span | None
    begin: Any
    end: Any = None
    start: int = 0
    length: int = 0
    host: int = 0  # the host's time: on a GPU that of the launches alone
    gpu: bool = False
    bytes: int = 0
    flops: int = 0
    children: list[Span] = field(default_factory=list)

    @property
    def own(self) -> int:
        """The time that is spent in it and in nothing inside it."""
        return max(self.length - sum(child.length for child in self.children), 0)

    @property
    def kernels(self) -> int:
        """The time in compiled kernels."""
        return self.length if self.kind == "kernel" else sum(child.kernels for child in self.children)

    def walk(self) -> Iterator[Span]:
        """This span and all inside it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass
class Total:
    """Spans added up, those of one name."""

    name: str
    phase: str
    calls: int = 0
    time: int = 0  # in nanoseconds, with all inside
    own: int = 0  # without operations and layers inside
    kernels: int = 0  # in compiled kernels
    bytes: int = 0
    flops: int = 0

    def add(self, span: Span) -> None:
        """One more span."""
        self.calls += 1
        self.time += span.length
        self.own += span.length - sum(child.length for child in span.children if child.kind != "kernel")
        self.kernels += span.kernels
        self.bytes += span.bytes
        self.flops += span.flops


def by_operation(spans: Sequence[Span]) -> list[Total]:
    """The operations, and the kernels that ran outside of any, by the time that they took."""
    totals: dict[tuple[str, str], Total] = {}
    for span in spans:
        if span.kind == "operation" or (span.kind == "kernel" and (span.parent is None or span.parent.kind == "layer")):
            totals.setdefault((span.name, span.phase), Total(span.name, span.phase)).add(span)
    return sorted(totals.values(), key=lambda total: -total.own)


@dataclass
class LayerTotal:
    """What one layer took, with all inside it."""

    place: Place
    calls: int = 0
    forward: int = 0  # in nanoseconds; on a GPU the time of the operations
    backward: int = 0
    kernels: int = 0
    flops: int = 0
    bytes: int = 0
    python: int = 0  # of the forward pass: what is spent in no operation


def by_layer(spans: Sequence[Span], root: Place) -> list[LayerTotal]:
    """Every layer, in the order of its first call."""
    totals = {id(place): LayerTotal(place) for place in root.walk()}
    devices = any(span.gpu for span in spans)
    for span in spans:
        place: Place | None = span.place
        if span.kind == "layer":
            total = totals[id(place)]
            total.calls += 1
            if not devices:  # there the host only launches
                total.forward += span.length
                total.python += span.length - sum(s.length for s in _outermost(span))
        elif span.kind == "operation" and (span.parent is None or span.parent.kind == "layer"):
            while place is not None and id(place) in totals:
                total = totals[id(place)]
                if devices and span.phase == FORWARD:
                    total.forward += span.length
                total.kernels += span.kernels
                total.flops += span.flops
                total.bytes += span.bytes
                if span.phase == BACKWARD:
                    total.backward += span.length
                place = place.parent
    return [total for total in totals.values() if total.calls]


def _outermost(span: Span) -> Iterator[Span]:
    """The operations and kernels inside a layer that are inside no other."""
    for child in span.children:
        if child.kind == "layer":
            yield from _outermost(child)
        else:
            yield child
