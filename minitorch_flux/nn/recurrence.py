"""Recur: a cell made stateful, and what is done to the state of a whole model.

A cell is a pure function ``h, y = cell(h, *x)`` from a state and an input to the next state and an output. ``Recur`` keeps
the state between the calls. What is recorded is kept connected within one recording scope, so that the gradient flows
through several steps; in a later scope it is a constant, so that no step ever reaches into a tape that is used up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from ..autograd import Tensor
from ..autograd.recording import Scope, current_scope, is_checkpointing, note
from ..autograd.tree import same_kind
from ..backend import is_array, is_number
from ..ops.joining import stack
from . import printing
from .inputs import layer_name
from .module import Module, walk


class _Mark(Enum):  # a member is itself in copies and pickles, too
    FROM_CELL = "the state that the cell begins with"


FROM_CELL = _Mark.FROM_CELL


class _Memory:
    """What a layer remembers between its calls. An object of its own: the attributes of the layer do not change."""

    __slots__ = ("left", "scope")

    def __init__(self, left: tuple[Any] | None = None, scope: Scope | None = None) -> None:
        self.left = left  # the state, alone in a tuple; None before the first call
        self.scope = scope  # the recording scope that it was left in


class Recur(Module):
    """Recur(cell, state)

    Takes a recurrent cell and makes it stateful, managing the hidden state in the background. ``cell`` is any function
    of the form ``h, y = cell(h, *x)``; each call ``rnn(*x)`` is one step and returns y.

        accum = lambda h, x: (h + x, x)
        rnn = Recur(accum, 0)
        rnn(2), rnn(3), rnn.state     # 2, 3, 5
        rnn.map(range(1, 11))         # a sequence, step by step
        rnn.state                     # 60

    ``state`` is what the first step begins with, and the first one after ``reset(rnn)``: numbers, arrays, and lists,
    tuples and dicts of them; anything else is handed through untouched. A ``Param`` in it trains. It may be left out for
    a cell with a method ``initial_state(batch)``, such as ``LSTMCell``: it is asked with the batch size of the input
    (the length of its first axis, None for one axis). Arrays reach the cell as tensors.

    ``.state`` is the current state; it may be set. ``truncate(rnn)`` keeps its value and cuts the gradient; state that
    was left by an earlier recording scope is a constant anyway. It is in no state dict, goes along with copies, and moves
    with ``gpu``, ``cpu`` and ``.to``. A call that fails leaves it as it was. It belongs to the layer, not to a thread:
    threads that make steps at the same time need a copy each.

    Raises TypeError where the cell does not return a pair. Source: Flux's ``Recur``.
    """

    cell: Callable[..., Any]
    _memory: _Memory

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        self = super().__new__(cls, *args, **keywords)
        self._memory = _Memory()
        return self

    def __init__(self, cell: Callable[..., Any], state: Any = FROM_CELL) -> None:
        if not callable(cell) or isinstance(cell, type):
            wrong = f"the class {cell.__name__}" if isinstance(cell, type) else f"{type(cell).__name__}, which cannot be called"
            raise TypeError(f"Recur(cell, state): the cell is a function `h, y = cell(h, *x)`, got {wrong}")
        if isinstance(cell, Recur):
            raise TypeError(f"Recur(cell, state): {layer_name(cell)} keeps its state already; use it as it is")
        if state is FROM_CELL and not hasattr(cell, "initial_state"):
            raise TypeError(f"Recur(cell, state): give the state to begin with, {printing.text(cell)} has no initial_state")
        self.cell = cell
        self.initial = _each(state, _as_tensor)

    def __call__(self, *x: Any) -> Any:
        inputs = tuple([_as_tensor(v) if is_array(v) and is_number(v.dtype) else v for v in x])
        result = self.cell(self._before(inputs), *inputs)
        if not isinstance(result, tuple | list) or len(result) != 2:
            got = f"{len(result)} values" if isinstance(result, tuple | list) else type(result).__name__
            raise TypeError(f"{layer_name(self)}: the cell must return two values, the next state and the output, got {got}")
        self._leave(_each(result[0], _as_tensor))
        return result[1]

    def map(self, *xs: Any) -> Any:
        """The outputs of one step after the other, for each ``x`` of an iterable (or several, walked side by side).

        Arrays are stacked along a new first axis, other values come as a list. Where a step fails, the state is what it
        was before the first one.
        """
        if not xs:
            raise TypeError("map takes what to iterate over, got nothing")
        with _all_or_nothing(self):
            xs = tuple([_as_tensor(v) if is_array(v) and is_number(v.dtype) else v for v in xs])
            ys = [self(*x) for x in zip(*xs, strict=True)]
            return stack(ys) if ys and all(isinstance(y, Tensor) or is_array(y) for y in ys) else ys

    @property
    def state(self) -> Any:
        """The state that the next step begins with."""
        return self._before()

    @state.setter
    def state(self, value: Any) -> None:
        self._leave(_each(value, _as_tensor))

    def reset(self) -> Any:
        """Back to the initial state, here and in all layers inside; returns the layer."""
        return reset(self)

    def _before(self, inputs: tuple[Any, ...] = ()) -> Any:
        """What a step begins with: the state that was left, or the initial one for a batch like that of the first input."""
        if (left := self._remembered()) is not None:
            return left[0]
        if self.initial is not FROM_CELL:
            return self.initial
        shape: Any = getattr(inputs[0], "shape", ()) if inputs else ()
        return self.cell.initial_state(shape[0] if len(shape) > 1 else None)  # type: ignore[attr-defined]

    def _remembered(self) -> tuple[Any] | None:
        """The state that was left, alone in a tuple: a constant if that was in another recording scope."""
        memory = self._memory
        if memory.scope is not (scope := current_scope()):
            memory.left, memory.scope = _each(memory.left, _constant), scope
        return memory.left

    def _leave(self, state: Any) -> None:
        self._remember((state,), current_scope())

    def _remember(self, left: tuple[Any] | None, scope: Scope | None) -> None:
        if is_checkpointing():
            raise ValueError(f"{layer_name(self)}: a checkpoint runs what is inside a second time on the way back, and this "
                             "layer remembers its state from call to call: make checkpoints of the layers around it, or call "
                             "its cell, which is given the state")
        memory = self._memory
        note(functools.partial(_restore, memory, memory.left, memory.scope))
        memory.left, memory.scope = left, scope

    def _carry(self, convert: Callable[[Tensor], Tensor]) -> None:
        self._remember(_each(self._memory.left, lambda x: convert(_as_tensor(x))), self._memory.scope)

    def __getstate__(self) -> dict[str, Any]:  # of copies and pickles
        return {**vars(self), "_memory": _Memory(_each(self._memory.left, _constant))}

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.cell] + ([] if self.initial is FROM_CELL else [self.initial]), {}


def reset(model: Any) -> Any:
    """Every recurrent layer of ``model`` begins anew from its initial state; returns the model. Source: Flux's ``reset!``."""
    for _, layer in walk(model):
        if isinstance(layer, Recur) and not layer._open:
            layer._remember(None, None)
    return model


def truncate(model: Any) -> Any:
    """Cut the gradient of the state of every recurrent layer of ``model``, keep its value; returns the model.

    For truncated backpropagation inside one recording scope. Source: Flux's ``truncate!``.
    """
    for _, layer in walk(model):
        if isinstance(layer, Recur) and not layer._open:
            layer._remember(_each(layer._memory.left, _constant), current_scope())
    return model


# -- values that hold arrays -------------------------------------------------------------------------------------------


def _each(x: Any, f: Callable[[Any], Tensor]) -> Any:
    """``x`` with ``f`` of every tensor and array of numbers in it."""
    if isinstance(x, Tensor) or (is_array(x) and is_number(x.dtype)):
        return f(x)
    if type(x) is dict:
        return {k: _each(v, f) for k, v in x.items()}
    if type(x) is list or isinstance(x, tuple):
        return same_kind(x, [_each(v, f) for v in x])
    return x


def _as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def _constant(x: Any) -> Tensor:
    return x.detach() if isinstance(x, Tensor) else Tensor(x)


def _restore(memory: _Memory, left: tuple[Any] | None, scope: Scope | None) -> None:
    memory.left, memory.scope = left, scope


@contextmanager
def _all_or_nothing(layer: Recur) -> Iterator[None]:
    """Where the body raises, the state of the layer is what it was."""
    before = layer._memory.left, layer._memory.scope
    try:
        yield
    except BaseException:
        layer._remember(*before)
        raise
