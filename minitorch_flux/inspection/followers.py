"""Who is at work: while a model is followed, its layers say when their calls begin and end.

``following(model, follower)`` exchanges the class of every layer for a subclass of it whose call tells the follower of
the thread; afterwards the classes are what they were. Nothing of this is there, or costs anything, at other times.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..autograd.recording import state
from ..nn import printing
from ..nn.containers import Container
from ..nn.module import Module, walk


class Place:
    """A layer, or a function, where it stands in the model: its dotted path, and the place that calls it."""

    def __init__(self, path: str, layer: Any, parent: Place | None) -> None:
        self.path, self.layer, self.parent = path, layer, parent
        self.children: list[Place] = []
        self.calls = 0
        self.output: Any = None  # the shape of the last one; a tuple of shapes for several
        if parent is not None:
            parent.children.append(self)

    def __repr__(self) -> str:
        return f"<{self.path or 'the model'}: {self.name}>"

    @property
    def name(self) -> str:
        """The layer as it prints; of one that is made of layers only what it is."""
        if isinstance(self.layer, Module):
            positional, keywords = printing.arguments(self.layer)
            if self.layer._indexed or any(map(printing._holds, (*positional, *keywords.values()))):
                return type(self.layer).__name__
        return printing.text(self.layer)

    @property
    def depth(self) -> int:
        """How many places are around it."""
        return 0 if self.parent is None else self.parent.depth + 1

    def walk(self) -> Iterator[Place]:
        """This place and all inside it, in the order of their first calls."""
        yield self
        for child in self.children:
            yield from child.walk()


class Follower:
    """Keeps the places of a model, and the one at work (``here``); subclasses do something when it changes."""

    def __init__(self, model: Any) -> None:
        self.here = self.root = Place("", model, None)
        self.places = {"": self.root}
        self.paths: dict[int, str] = {}

    def enter(self, path: str, layer: Any) -> None:
        """A call of a layer begins."""
        place = self.places.get(path)
        if place is None:
            place = self.places[path] = Place(path, layer, self.here)
        self.here = place
        place.calls += 1

    def leave(self, before: Place, output: Any) -> None:
        """It has ended, and ``before`` goes on."""
        self.here.output = shape_of(output)
        self.here = before

    def called(self, path: str, layer: Any, call: Any, *args: Any, **keywords: Any) -> Any:
        """The result of ``call``, with notices before and after it."""
        if state.again:  # a checkpoint's second run is part of a backward pass
            return call(*args, **keywords)
        before, output = self.here, None
        self.enter(path, layer)
        try:
            output = call(*args, **keywords)
        finally:
            self.leave(before, output)
        return output


class _State(threading.local):
    follower: Follower | None = None


_state = _State()
_classes: dict[type, type] = {}


@contextmanager
def following(model: Any, follower: Follower) -> Iterator[None]:
    """In the body the layers of ``model`` tell ``follower`` when they are called, in this thread."""
    changed: list[tuple[Any, Any]] = []
    before, _state.follower = _state.follower, follower
    try:
        layer: Any
        for path, layer in walk(model):
            follower.paths[id(layer)] = path
            kind: Any = type(layer)
            if kind not in _classes.values() and callable(layer):
                layer.__class__ = _followed(kind)
                changed.append((layer, kind))
        yield
    finally:
        _state.follower = before
        for layer, kind in changed:
            if type(layer) is _classes[kind]:  # not where a layer has found its size, and is of another class now
                layer.__class__ = kind


def _followed(kind: Any) -> type:
    """The subclass of a layer's class that tells of its calls."""
    if kind in _classes:
        return _classes[kind]

    def __call__(self: Any, *args: Any, **keywords: Any) -> Any:
        follower = _state.follower
        path = None if follower is None else follower.paths.get(id(self))
        if follower is None or path is None:
            return kind.__call__(self, *args, **keywords)
        return follower.called(path, self, kind.__call__, self, *args, **keywords)

    def _call(self: Any, i: int, *inputs: Any) -> Any:  # of a container: functions between the layers have places, too
        follower, layer = _state.follower, self.layers[i]
        path = None if follower is None else follower.paths.get(id(self))
        if follower is None or path is None or isinstance(layer, Module):
            return kind._call(self, i, *inputs)
        key = str(i) if self.names is None else self.names[i]
        return follower.called(f"{path}.{key}" if path else key, layer, kind._call, self, i, *inputs)

    names: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__,
                             "__call__": __call__}
    if issubclass(kind, Container):
        names["_call"] = _call
    followed = _classes[kind] = type(kind.__name__, (kind,), names)
    return followed


def shape_of(y: Any) -> Any:
    """The shape of an array or tensor, a tuple of shapes for several; None for anything else."""
    if isinstance(y, tuple | list):
        return tuple(map(shape_of, y))
    return tuple(y.shape) if hasattr(y, "shape") else None
