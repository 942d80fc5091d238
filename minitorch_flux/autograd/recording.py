"""What is recorded, and when.

Every tensor has a ``track``: 0 constant, 1 a parameter (recorded inside a recording scope only), 2 the user's own
``tensor(..., requires_grad=True)`` and everything computed from recorded tensors. Every thread has a level: 0 inside
``no_grad``, 1 ordinarily, 2 inside a recording scope (and -1 where only shapes are followed: backend/outlines.py).
A tensor is recorded where ``track + level > 2``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..backend import outline_of, outline_scopes, use_kernels
from ..backend.outlines import own

OUTLINE, OFF, PLAIN, RECORDING = -1, 0, 1, 2


class Scope:
    """The outermost recording scope that is open in a thread: an object that is nothing but itself."""

    __slots__ = ()


class _State(threading.local):
    level = PLAIN
    debug = False
    scope: Scope | None = None
    journal: list[Callable[[], None]] | None = None
    outlines = False
    """Whether a training step is followed by shapes alone."""
    through: Callable[[Any, Any, Any, Any], tuple[Any, Any]] | None = None
    """What every operation goes through: ``arrays, result = through(operation, inputs, arrays, static)``. It may put stand-ins
    in the places of the arrays (outlines, or the tracers of a captured step), and look at them, or at the clock."""
    pulling: Callable[[Any, Any, bool], Any] | None = None
    """What every step of a backward pass goes through: ``grads = pulling(node, dy, create_graph)``."""
    arriving: Any = None
    """What hears of gradients as they arrive at leaves: ``begin(y)`` says whether it follows the backward pass from ``y``, and
    ``arrived(leaf, g)`` gets the sum at a leaf so far."""
    checkpoints = 0
    """How many checkpoints are open (checkpoints.py)."""
    again = 0
    """How many of them run for the second time, on a way back."""

    def __init__(self) -> None:  # runs once in every thread
        self.before: list[int] = []  # the levels around the scopes that are open, the outermost first


state = _State()


class at_level:  # a class: a generator would cost a microsecond more
    """Run the body at a recording level; the level before comes back whatever happens.

    The level before is kept by the thread, not here: one scope object may be entered again inside itself, or by others.
    """

    __slots__ = ("level",)

    def __init__(self, level: int) -> None:
        self.level = level

    def __enter__(self) -> None:
        state.before.append(state.level)
        state.level = self.level
        if self.level == RECORDING and state.scope is None:
            state.scope = Scope()

    def __exit__(self, *error: object) -> None:
        state.level = state.before.pop()
        if state.scope is not None and state.level != RECORDING and RECORDING not in state.before:
            state.scope = None


def record() -> at_level:
    """``with record():`` parameters are recorded (and layers are in train mode) in the body, in this thread.

    Afterwards ``loss.backward()`` leaves each parameter's gradient in its ``.grad``.
    """
    return at_level(RECORDING)


def no_grad() -> at_level:
    """``with no_grad():`` nothing is recorded in the body, and automatic layers are in test mode."""
    return at_level(OFF)


@contextmanager
def outlining(train: bool = False, kernels: bool = False) -> Iterator[None]:
    """``with outlining():`` operations work on outlines: they follow shapes and dtypes and compute nothing.

    Inside a ``no_grad`` in the body arrays keep their numbers: for what a shape is computed from. ``train``: record as in
    training, so that a backward pass can follow. ``kernels``: go the ways of the kernels, with the work space that they
    take, not those of the references.
    """
    before, state.through = state.through, _outlined
    outlines, state.outlines = state.outlines, train
    try:
        with outline_scopes, use_kernels(kernels), at_level(RECORDING if train else OUTLINE):
            yield
    finally:
        state.through, state.outlines = before, outlines


def _outlined(operation: Any, inputs: Any, arrays: Any, static: Any) -> tuple[Any, Any]:
    if is_outlining():
        arrays = [outline_of(a) for a in arrays]
    return arrays, operation.forward(*arrays, **static)


@contextmanager
def shapes_only() -> Iterator[None]:
    """``with shapes_only():`` models that are built in the body have parameters with a shape and a dtype, but no array.

    Nothing is drawn and nothing allocated, in this thread: a model of any size is there at once. Such a model prints, and
    ``num_parameters``, ``outputsize``, ``named_parameters`` and the keys and shapes of ``state_dict`` are as ever; whatever
    needs numbers raises OutlineError, a TypeError that names the layer. Loading weights (``load_state_dict``,
    ``flux.load``) makes it an ordinary model. Generators stay where they are. The dtype is that of the initialiser's
    ``dtype=``, else float32. A size that is left open (``Dense(None, 10)``) is filled as ever, with numbers where that
    happens outside of the body.
    """
    before, own.only_shapes = own.only_shapes, True
    try:
        with outline_scopes, use_kernels(False):
            yield
    finally:
        own.only_shapes = before


def is_outlining() -> bool:
    """True where this thread follows shapes only."""
    return state.level == OUTLINE or (state.outlines and state.level == RECORDING)


def is_recording() -> bool:
    """True inside a recording scope of this thread: what *automatic* train mode asks."""
    return state.level == RECORDING


def is_checkpointing() -> bool:
    """True inside a checkpoint of this thread: what runs here may run a second time."""
    return state.checkpoints > 0


def current_scope() -> Scope | None:
    """The outermost recording scope of this thread, also from inside ``no_grad``; None outside of any."""
    return state.scope


@contextmanager
def undoing() -> Iterator[None]:
    """``with undoing():`` what layers note with ``note`` is undone afterwards: recurrent state is as it was."""
    before, state.journal = state.journal, []
    try:
        yield
    finally:
        journal, state.journal = state.journal, before
        for undo in reversed(journal):
            undo()


def note(undo: Callable[[], None]) -> None:
    """How to undo a change of a layer's state that is about to be made; see ``undoing``."""
    if state.journal is not None:
        state.journal.append(undo)


@contextmanager
def debug(on: bool = True) -> Iterator[None]:
    """``with debug():`` the tape keeps a checksum of every array that it saves.

    A saved array that anybody writes to before the backward pass, the caller's own in-place write included, is then
    reported by the name of the op that saved it; so is a tensor whose ``data`` was exchanged for another array. Slow:
    every saved array is read twice.
    """
    before, state.debug = state.debug, bool(on)
    try:
        yield
    finally:
        state.debug = before
