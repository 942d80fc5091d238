"""Following a call of a model: which operations it makes, of what.

The inputs are outlines, arrays of which only the shape is known, so nothing is computed and models of any size can be
followed. What is computed from parameters and constants alone is computed as ever, and noted too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..autograd import Buffer, Param, Tensor, no_grad, outlining
from ..autograd.recording import state, undoing
from ..backend import Outline, OutlineError, default_generator, is_array, is_outline, outline_of
from ..backend.outlines import own
from ..inspection.followers import Follower, following
from ..nn.module import _named
from ..nn.recurrence import reset
from ..ops.positions import Index
from .registry import OnnxError


class ExportError(OnnxError):
    """A model, or an operation in it, that cannot be written as ONNX."""


class Item:
    """An array in a trace. ``array``: its numbers, where they do not depend on the inputs."""

    __slots__ = ("array", "call", "dtype", "held", "kind", "name", "place", "shape")

    def __init__(self, kind: str, a: Any, place: int, name: str = "", call: Call | None = None) -> None:
        self.kind = kind  # input, parameter, buffer, constant or result
        self.held = a  # alive, so that nothing else gets its id
        self.array = None if is_outline(a) else a
        self.shape, self.dtype = tuple(a.shape), a.dtype
        self.place, self.name, self.call = place, name, call


class Call:
    """An operation of ``inputs`` (items, numbers or None) with keywords gave ``outputs``, in the layer at ``path``."""

    __slots__ = ("inputs", "name", "outputs", "path", "static")

    def __init__(self, name: str, inputs: list[Any], static: dict[str, Any], path: str) -> None:
        self.name, self.inputs, self.static, self.path = name, inputs, static, path
        self.outputs: list[Item] = []


class Trace(Follower):
    """One call of a model: its items and calls in order. ``results``: what it gave, with items for tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.items: list[Item] = []
        self.calls: list[Call] = []
        self.found: dict[int, Item] = {}
        self.names: dict[int, str] = {}
        for kind in (Param, Buffer):
            for path, t in _named(model, kind):
                self.names[id(t)] = path
        self.results: Any = None
        self.inside = False  # an operation

    def note(self, kind: str, a: Any, name: str = "", call: Call | None = None) -> Item:
        """A new item for an array."""
        item = self.found[id(a)] = Item(kind, a, len(self.items), name, call)
        self.items.append(item)
        return item

    def item(self, x: Any, a: Any) -> Any:
        """The item of an input ``x``, whose array is ``a``; numbers and None as they are."""
        if not is_array(a) and not is_outline(a):
            return a
        if (found := self.found.get(id(a))) is not None:
            return found
        if is_outline(a):
            raise ExportError(f"{self._where()}an array was computed from the input with other functions than those of this "
                              "library, which ONNX is not told of; use minitorch_flux's functions of tensors")
        kind = "parameter" if isinstance(x, Param) else "buffer" if id(x) in self.names else "constant"
        return self.note(kind, a, self.names.get(id(x), ""))

    def noted(self, value: Any) -> Any:
        """A keyword of an operation with items in the places of arrays."""
        if isinstance(value, Tensor):
            return self.item(value, value.data)
        if isinstance(value, Index):
            return tuple(map(self.noted, value.key))
        if isinstance(value, dict):
            return {k: self.noted(v) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return tuple(map(self.noted, value))
        return int(value) if isinstance(value, np.integer) else self.item(None, value)

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """Run an operation, on outlines where it depends on the inputs, and note it."""
        call = Call(operation.name, [self.item(x, a) for x, a in zip(inputs, arrays, strict=True)],
                    {k: self.noted(v) for k, v in static.items()}, self.here.path)
        if any(v.array is None for v in items_in((call.inputs, call.static))):
            arrays = [a if is_outline(a) else outline_of(a) for a in arrays]
            before, self.inside = self.inside, True
            try:
                result = operation.forward(*arrays, **static)
            finally:
                self.inside = before
        else:
            with no_grad():
                result = operation.forward(*arrays, **static)
        several = operation.residuals or operation.outputs != 1
        call.outputs = [self.note("result", a, call=call) for a in (result[: operation.outputs] if several else [result])]
        self.calls.append(call)
        return arrays, result

    def told(self, x: Any, y: Any) -> None:
        """Note that ``y``, an outline that no operation made, has the numbers of ``x``, in another shape or dtype."""
        source = self.found.get(id(x))
        if source is not None and not self.inside:
            name = "astype" if x.dtype != y.dtype else "reshape"
            call = Call(name, [source], {"dtype": y.dtype} if name == "astype" else {"shape": y.shape}, self.here.path)
            call.outputs = [self.note("result", y, call=call)]
            self.calls.append(call)

    def _where(self) -> str:
        return f"{self.here.path} {self.here.name}: " if self.here.path else ""


def items_in(x: Any) -> list[Item]:
    """The items among nested values."""
    if isinstance(x, Item):
        return [x]
    if isinstance(x, dict):
        x = tuple(x.values())
    return [item for part in x for item in items_in(part)] if isinstance(x, tuple | list) else []


def twin(model: Any) -> Any:
    """A copy of a model with the same parameters, whose recurrent layers begin from their initial states."""
    memo: dict[int, Any] = {id(t): t for _, t in _named(model, Tensor, open_too=True)}
    return reset(copy.deepcopy(model, memo))


def follow(model: Any, inputs: Sequence[Any], names: Sequence[str]) -> Trace:
    """The trace of ``model(*inputs)`` in test mode. ``inputs``: ``(shape, dtype)`` pairs, also in tuples and lists."""
    trace = Trace(model)
    generator = default_generator()
    before, through, told = generator.state_dict(), state.through, own.told
    pending = iter(names)

    def stand_in(x: Any) -> Any:
        if isinstance(x, Shape):
            a = Outline(x.sizes, x.dtype)
            trace.note("input", a, next(pending))
            return Tensor(a)
        return type(x)(map(stand_in, x))

    try:
        with outlining(), undoing(), following(model, trace):
            state.through, own.told = trace.through, trace.told
            y = model(*map(stand_in, inputs))
            trace.results = trace.noted(y)
    except OutlineError as error:
        raise ExportError(f"{trace._where()}what it does depends on the numbers in its input, not on their shape alone, and "
                          f"cannot be written as a graph ({error})") from None
    except Exception as error:
        with suppress(AttributeError):
            error.add_note(f"onnx.save: while the model was followed with inputs of the shapes {sizes_of(inputs)}; axes= names "
                           "the axes of free length, axes={} fixes all")
        raise
    finally:
        state.through, own.told = through, told
        generator.load_state_dict(before)
    return trace


class Shape:
    """What an input is: its sizes and its dtype."""

    def __init__(self, sizes: Sequence[int], dtype: Any) -> None:
        self.sizes, self.dtype = tuple(sizes), np.dtype(dtype)

    def __repr__(self) -> str:
        return f"{self.sizes} {self.dtype}"


def sizes_of(inputs: Any) -> str:
    """The shapes of inputs, for messages."""
    return ", ".join(map(repr, inputs))
