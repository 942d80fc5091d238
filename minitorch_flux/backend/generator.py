"""Random numbers: one counter-based generator, Philox4x32-10.

A counter-based generator has no hidden stream: block number ``counter`` under the key ``key`` is a
function of these two numbers alone (ten rounds of multiply and exclusive-or, ``ops/philox.py``).
The whole state is therefore two integers, every thread of a GPU computes its own block, and the
same seed gives the same bits on every device.

Two kinds of draws share the state:

- bulk draws for random layers: ``reserve(blocks)`` hands out a range of counters, and
  ``ops/philox.py`` turns it into numbers on the device that needs them (it attaches ``uniform``,
  ``bernoulli`` and ``normal`` here);
- host draws for shuffles and initialisers: ``host()`` makes a ``numpy.random.Generator`` keyed by
  ``key`` and one reserved counter. It uses NumPy's Philox4x64-10, another function of another key,
  so the two kinds never overlap.

Threads: handing out counters is atomic, so generators may be shared and no two draws ever share a
block; which thread gets which range is the scheduler's choice. A thread that must be reproducible
takes its own from ``spawn``.

Philox: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .arrays import Array, DeviceError, device_of
from .outlines import scopes as stand_ins
from .tracers import refuse_capture
from .tracers import state as tracing

# One lock for all generators, held for an addition: a generator is two integers and copies as such.
_lock = threading.Lock()


class _Draws(threading.local):
    again: Iterator[tuple[int, int]] | None = None  # what is drawn here was drawn before

    def __init__(self) -> None:  # runs once in every thread
        self.notes: list[list[tuple[int, int]]] = []


_draws = _Draws()


@contextmanager
def noting_draws() -> Iterator[list[tuple[int, int]]]:
    """``with noting_draws() as draws:`` what this thread's bulk draws in the body reserve, of whichever generator."""
    notes: list[tuple[int, int]] = []
    _draws.notes.append(notes)
    try:
        yield notes
    finally:
        _draws.notes = [kept for kept in _draws.notes if kept is not notes]


@contextmanager
def drawing_again(draws: Sequence[tuple[int, int]]) -> Iterator[None]:
    """``with drawing_again(draws):`` the body draws, in this thread, what was noted, and no generator moves."""
    before, _draws.again = _draws.again, iter(draws)
    notes, _draws.notes = _draws.notes, []
    try:
        yield
    finally:
        _draws.again, _draws.notes = before, notes


def _uint64(value: Any, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"Generator: {name} must be an integer, got {value!r}") from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"Generator: {name} must be at least 0 and below 2**64, got {number}")
    return number


class Generator:
    """Philox4x32-10 with key ``seed``, starting at block ``counter``.

    ``seed`` is an integer below 2**64 (default: from the system's entropy). Neighbouring seeds give
    unrelated numbers. ``Generator(seed)`` prints as the call that rebuilds it, and copies and
    pickles with its position.
    """

    __slots__ = ("counter", "key")

    key: int
    counter: int
    uniform: Callable[..., Array]  # the bulk draws: see ops/philox.py
    bernoulli: Callable[..., Array]
    normal: Callable[..., Array]

    def __init__(self, seed: int | None = None, counter: int = 0) -> None:
        entropy = seed is None
        self.key = int.from_bytes(os.urandom(8), "little") if entropy else _uint64(seed, "seed")
        self.counter = _uint64(counter, "counter")

    def reserve(self, blocks: int) -> tuple[int, int]:
        """``(key, counter)`` of the next ``blocks`` blocks of four words, which are this call's."""
        if _draws.again is not None:
            place = next(_draws.again, None)
            if place is None:
                raise RuntimeError("checkpoint: the second run, on the way back, draws more random numbers than the first one; "
                                   "what is inside must do the same both times")
        elif stand_ins.count and tracing.recorder is not None:
            place = tracing.recorder.reserve(self, blocks)
        else:
            place = self._take(blocks)
        for notes in _draws.notes:
            notes.append(place)
        return place

    def _take(self, blocks: int) -> tuple[int, int]:
        with _lock:
            first = self.counter
            self.counter = (first + blocks) % (1 << 64)
            return self.key, first

    def host(self) -> np.random.Generator:
        """A ``numpy.random.Generator`` for draws on the host.

        It uses up one block, whatever is drawn from it. Its numbers are those of the installed
        NumPy, which announces the rare changes (NEP 19).
        """
        refuse_capture("a draw on the host (a shuffle, an initialiser)", "draw outside and pass the numbers as an array")
        return np.random.Generator(np.random.Philox(key=np.array(self.reserve(1), np.uint64)))

    def permutation(self, n: int) -> np.ndarray:
        """0 to n - 1 in random order: an int64 array."""
        return self.host().permutation(operator.index(n))

    def integers(self, low: int, high: int | None = None, shape: Any = ()) -> np.ndarray:
        """int64 from ``low`` to ``high - 1`` (without ``high``: 0 to ``low - 1``), evenly drawn."""
        return np.asarray(self.host().integers(low, high, shape))

    def spawn(self, n: int) -> list[Generator]:
        """``n`` new generators, independent of this one, which moves on by one block."""
        return [Generator(int(key)) for key in self.host().integers(0, 1 << 64, n, dtype=np.uint64)]

    def state_dict(self) -> dict[str, int]:
        """The whole state as plain integers: ``{"key": ..., "counter": ...}``, both below 2**64."""
        with _lock:
            return {"key": self.key, "counter": self.counter}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict()`` was taken (integers, or integer arrays of no axes)."""
        refuse_capture("setting or seeding a generator", "seed before the call")
        if set(state) != {"key", "counter"}:
            raise KeyError(f"Generator: the state needs exactly 'key' and 'counter', got {sorted(state)}")
        key, counter = _uint64(state["key"], "key"), _uint64(state["counter"], "counter")
        with _lock:
            self.key, self.counter = key, counter

    def __repr__(self) -> str:
        counter = f", counter={self.counter}" if self.counter else ""
        return f"Generator({self.key}{counter})"


_default = Generator()


def default_generator() -> Generator:
    """The generator of everything that gets no ``rng=``; entropy-seeded until ``flux.seed``."""
    return _default


def seed(n: int | None = None) -> None:
    """Seed every draw that gets no ``rng=``: random layers, initialisers, loaders.

    None seeds from the system's entropy. The default generator is shared by all threads and
    reseeded in place. NumPy's global generator is not touched.
    """
    _default.load_state_dict(Generator(n).state_dict())


def resolve_rng(rng: Any = None, like: Array | None = None) -> Generator:
    """The Generator meant by an ``rng=`` keyword: None is the default one, a Generator is itself.

    From a ``numpy.random.Generator`` 64 bits are drawn as the key of a new Generator, so that it
    serves the same layers through the same kernels; it is for CPU arrays only, and DeviceError is
    raised when ``like`` is not one.
    """
    if rng is None:
        return _default
    if isinstance(rng, Generator):
        return rng
    if isinstance(rng, np.random.Generator):
        if _draws.again is not None:
            return Generator(0)
        refuse_capture("a draw from a numpy.random.Generator", "give rng= a flux.Generator(seed), which draws anew each time")
        if like is not None and device_of(like) != "cpu":
            raise DeviceError(
                "rng= is a numpy.random.Generator, which serves CPU arrays only, but the array "
                f"(shape {like.shape}) is on {device_of(like)}; pass a flux.Generator(seed), "
                "which draws on every device"
            )
        return Generator(int(rng.integers(0, 1 << 64, dtype=np.uint64)))
    hint = f"flux.Generator({rng})" if isinstance(rng, int) else "flux.Generator(seed)"
    raise TypeError(f"rng= must be a flux.Generator or a numpy.random.Generator, got {type(rng).__name__}; pass {hint}")
