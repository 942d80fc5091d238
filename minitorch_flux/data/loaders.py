"""DataLoader: batches of observations, shuffled anew every epoch, resumable at any batch.

The order of an epoch is drawn once, when its ``for`` begins. A state holds the generator's state from just before
that draw, so the same order can be drawn again; batches, indices or permutations are never saved.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend.generator import Generator, resolve_rng
from ..spelling import check_keywords
from .observations import columns_of, on_host, take, take_one
from .prefetching import Prefetcher


class DataLoader:
    """Batches of ``data``: ``for x, y in DataLoader((x, y), batchsize=32, shuffle=True)``.

    ``data``: an array, Tensor, tuple, dict or list of arrays whose first axis counts the observations (a batch has
    the same structure), or anything with ``len`` and indexing (its entries are stacked: see ``collate``).
    ``batchsize=1``: observations in a batch.
    ``shuffle=False``: True goes through them in a new random order in every epoch.
    ``partial=True``: the last batch may be smaller; False leaves it out.
    ``rng=None``: a ``flux.Generator`` or ``numpy.random.Generator``; None is the default one, see ``flux.seed``.
    ``collate=None``: a function from the *list of single observations* to a batch. By default numbers and arrays are
    stacked along a new first axis, tuples and dicts entry by entry, and everything else stays a list.
    ``prefetch=0``: the number of batches that a thread prepares in advance. It pays where a batch takes long to make
    (files, decoding); for arrays in memory it costs more than it saves, and for those on a GPU it is refused.

    Every batch is a new array, which may be changed freely. Each ``for`` is one epoch, ``len`` its number of batches.
    ``epoch`` and ``position`` say where the newest ``for`` is: the number of epochs before this one, and the batches
    that it has given out. ``state_dict()`` is that place, at any moment; after ``load_state_dict`` the next ``for``
    goes on from there with the very batches that would have followed, and so do all later ones.
    """

    def __init__(
        self,
        data: Any,
        batchsize: int = 1,
        shuffle: bool = False,
        partial: bool = True,
        rng: Generator | np.random.Generator | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        prefetch: int = 0,
        **foreign: Any,
    ) -> None:
        check_keywords("DataLoader", foreign, ())
        for name in foreign:
            raise TypeError(f"DataLoader has no argument {name!r}")
        self.data = data
        self.nobs = len(columns_of(data, "DataLoader")[0][1])
        self.batchsize = _count(batchsize, "batchsize", 1)
        self.prefetch = _count(prefetch, "prefetch", 0)
        self.shuffle, self.partial = bool(shuffle), bool(partial)
        if rng is not None and not isinstance(rng, (Generator, np.random.Generator)):
            resolve_rng(rng)  # raises
        if collate is not None and not callable(collate):
            raise TypeError("DataLoader: collate must be a function from a list of observations to a batch, got "
                            f"{collate!r}")
        if not partial and 0 < self.nobs < self.batchsize:
            raise ValueError(f"DataLoader: there are {self.nobs} observations, so partial=False leaves no batch of "
                             f"{self.batchsize}; take a smaller batchsize or partial=True")
        if self.prefetch and not on_host(data, "DataLoader"):
            raise ValueError("DataLoader: prefetch= is for data in the host's memory, and a GPU prepares its batches "
                             "while the host goes on anyway; leave it 0")
        self.rng, self.collate = rng, collate
        self.share = (0, 1)  # which part of every batch, of how many
        self._place = _Place()

    def __len__(self) -> int:
        full, rest = divmod(self.nobs, self.batchsize)
        return full + (self.partial and rest > 0)

    def length(self, i: int) -> int:
        """The number of observations in batch ``i`` of an epoch."""
        return min(self.batchsize, self.nobs - i * self.batchsize)

    @property
    def epoch(self) -> int:
        """The number of epochs before the one that is under way, or that the next ``for`` begins."""
        return self._place.epoch

    @property
    def position(self) -> int:
        """The number of batches of this epoch that were given out; 0 between epochs."""
        return self._place.position

    def __iter__(self) -> Iterator[Any]:
        place = self._place
        if place.loaded:
            order = self._order(place.before)
            place = _Place(place.epoch, place.position, place.before, begun=True)
        else:
            before = self._rng_state()
            order = self._order()
            place = _Place(place.epoch + place.begun, 0, before, begun=True)
        self._place = place
        return _Pass(self, place, order)

    def _generator(self) -> Generator | np.random.Generator:
        return self.rng if self.rng is not None else resolve_rng()

    def _rng_state(self) -> Any:
        """The generator's state as plain numbers and lists; None for a loader that draws nothing."""
        if not self.shuffle:
            return None
        rng = self._generator()
        return _plain(rng.bit_generator.state) if isinstance(rng, np.random.Generator) else rng.state_dict()

    def _order(self, again: Any = None) -> np.ndarray | None:
        """The epoch's permutation: a new one, or that which was drawn from the state ``again``."""
        if not self.shuffle:
            return None
        if again is None:
            return self._generator().permutation(self.nobs)
        rng = copy.deepcopy(self._generator())  # others may be drawing from the generator itself
        _set_state(rng, again)
        return rng.permutation(self.nobs)

    def _settings(self) -> dict[str, Any]:
        return {"observations": self.nobs, "batchsize": self.batchsize, "shuffle": self.shuffle,
                "partial": self.partial}

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream and the generator's state, as plain numbers, strings, lists and dicts.

        A generator that is shared with other users (the default one, for instance) is saved as it is now.
        """
        place = self._place
        return {"epoch": place.epoch, "position": place.position, "begun": place.begun, "rng": self._rng_state(),
                "epoch_rng": place.before, **self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict()`` was called, with the next ``for``; the generator's state is set as well.

        KeyError for missing or unknown entries; ValueError if the data's length, the batchsize, ``shuffle``,
        ``partial`` or the kind of generator is another: the stream could not be the same.
        """
        expected = set(self.state_dict())
        if set(state) != expected:
            missing, unknown = sorted(expected - set(state)), sorted(set(state) - expected)
            raise KeyError(f"DataLoader: the state has missing entries {missing} and unknown entries {unknown}")
        for name, ours in self._settings().items():
            if state[name] != ours:
                raise ValueError(f"DataLoader: the state was saved with {name}={state[name]!r}, this loader has "
                                 f"{ours!r}; the batches after it would be others")
        if not 0 <= state["position"] <= len(self) or state["epoch"] < 0:
            raise ValueError(f"DataLoader: no such place: epoch {state['epoch']}, position {state['position']} of "
                             f"{len(self)}")
        if self.shuffle:
            try:
                _set_state(self._generator(), state["rng"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError("DataLoader: the state's generator is of another kind than "
                                 f"rng={self._generator()!r}: {error}") from error
        self._place = _Place(int(state["epoch"]), int(state["position"]), state["epoch_rng"], bool(state["begun"]),
                             loaded=bool(state["begun"]))

    def __repr__(self) -> str:
        options = [f"batchsize={self.batchsize}"]
        options += ["shuffle=True"] if self.shuffle else []
        options += [] if self.partial else ["partial=False"]
        options += [f"prefetch={self.prefetch}"] if self.prefetch else []
        return f"{type(self).__name__}({self.nobs} observations, {', '.join(options)})  # {len(self)} batches"


@dataclass
class _Place:
    """Where one ``for`` is: epoch, batches given out, and the generator's state from before its order was drawn."""

    epoch: int = 0
    position: int = 0
    before: Any = None
    begun: bool = False
    loaded: bool = False  # begun, but in another loader


class _Pass:
    """The iterator of one epoch."""

    def __init__(self, loader: DataLoader, place: _Place, order: np.ndarray | None) -> None:
        fetch = _fetcher(loader.data, order, loader.batchsize, loader.nobs, loader.collate, loader.share)
        self._place, self._count = place, len(loader)
        self._next = lambda: fetch(place.position)
        if loader.prefetch and place.position < self._count:
            self._next = Prefetcher(fetch, place.position, self._count, loader.prefetch).get
        self._over = False

    def __iter__(self) -> _Pass:
        return self

    def __next__(self) -> Any:
        place = self._place
        if self._over:
            raise StopIteration
        if place.position == self._count:
            self._over = True
            place.epoch, place.position, place.before, place.begun = place.epoch + 1, 0, None, False
            raise StopIteration
        try:
            batch = self._next()
        except BaseException:  # as with a generator, nothing comes after an exception
            self._over = True
            raise
        place.position += 1
        return batch


def _fetcher(data: Any, order: np.ndarray | None, batchsize: int, nobs: int, collate: Any,
             share: tuple[int, int]) -> Callable[[int], Any]:
    """The function that makes batch ``i``; it must not hold the iterator, whose death ends the prefetching thread."""

    def fetch(i: int) -> Any:
        begin, length = i * batchsize, min(batchsize, nobs - i * batchsize)
        part, parts = share  # the first parts are one longer where it does not come out even
        first, last = (begin + p * (length // parts) + min(p, length % parts) for p in (part, part + 1))
        try:
            if collate is None:
                return take(data, slice(first, last) if order is None else order[first:last])
            positions = range(first, last) if order is None else order[first:last].tolist()
            return collate([take_one(data, j) for j in positions])
        except StopIteration as error:  # it would end the loop as if the data were at their end
            raise RuntimeError(f"DataLoader: batch {i}: the data or collate raised StopIteration") from error

    return fetch


def _set_state(rng: Generator | np.random.Generator, state: Any) -> None:
    if isinstance(rng, np.random.Generator):
        rng.bit_generator.state = state
    else:
        rng.load_state_dict(state)


def _count(value: Any, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"DataLoader: {name} must be an integer of at least {least}, got {value!r}")
    return number


def _plain(state: Any) -> Any:
    """NumPy's generator state without arrays, so that it can be written as JSON."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state
