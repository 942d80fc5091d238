"""Batch: many parameters that take one optimiser step together, as references and kernels see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..backend import Array, accumulator, address_of, array_module, device_of, empty, to_device

BLOCK = 1 << 14
"""Elements that a reference works on at a time: they stay in the L2 cache, and small parameters are taken together."""
CHUNK = 1 << 12
"""Elements of one row of a kernel."""
KNOWN = 16
"""Tables of addresses that are kept on a GPU."""
GATHER = 1 << 13
"""Gradients of fewer elements on average are copied together: below this the copy is cheaper than finding addresses."""


class Piece:
    """A part of a batch that a reference takes at once: several small parameters, or a block of a large one."""

    def __init__(self, batch: Batch, parameters: slice, lo: int, hi: int, place: int, block: slice | None) -> None:
        self.batch, self.parameters, self.block = batch, parameters, block
        self.lo, self.hi = lo, hi  # where it lies in the flat gradient
        self.place = place  # where it lies in the state arrays

    def _flat(self, arrays: Sequence[Array]) -> Array:
        xp, dtype = self.batch.xp, self.batch.accumulator
        if self.block is not None:
            return arrays[self.parameters.start].reshape(-1)[self.block].astype(dtype, copy=False)
        return xp.concatenate(arrays[self.parameters], axis=None).astype(dtype, copy=False)

    def read(self, *state: Array | None) -> tuple[Any, ...]:
        """``x``, ``dx`` and this piece of each state array, flat; x and dx are not for writing."""
        batch = self.batch
        if batch.dx is None:
            dx = self._flat(batch.grads)
        else:
            dx = batch.dx[self.lo : self.hi].astype(batch.accumulator, copy=False)
        return self._weights(), dx, *(None if s is None else self._state(s) for s in state)

    def _state(self, a: Array) -> Array:
        return a[self.place : self.place + self.hi - self.lo]

    def _weights(self) -> Array:
        """The parameters or their masters; those that they are no roundings of are set anew, as the kernels do it."""
        batch, x = self.batch, self._flat(self.batch.arrays)
        if batch.master is None:
            return x
        w = self._state(batch.master)
        batch.xp.copyto(w, x, where=w.astype(batch.dtype).astype(w.dtype) != x)
        return w

    def step(self, step: Array, keep: float = 1.0) -> None:
        """``x = keep x - step`` for the parameters, or hand ``x - (keep x - step)`` on to the batch's next rule."""
        batch = self.batch
        if not batch.final:
            batch.dx[self.lo : self.hi] = step if keep == 1.0 else step + (1.0 - keep) * self._weights()
        elif batch.master is not None:
            w = self._state(batch.master)
            self._move(w, step, keep)
            self._write(w)
        elif self.block is not None:
            self._move(batch.arrays[self.parameters.start].reshape(-1)[self.block], step, keep)
        else:
            for x, part in self._parts(step):
                self._move(x, part, keep)

    def _parts(self, a: Array) -> Iterator[tuple[Array, Array]]:
        """Each parameter with its part of a flat array, in its shape."""
        start = 0
        for x in self.batch.arrays[self.parameters]:
            yield x, a[start : start + x.size].reshape(x.shape)
            start += x.size

    def _write(self, w: Array) -> None:
        """The parameters are the masters, rounded."""
        if self.block is not None:
            self.batch.arrays[self.parameters.start].reshape(-1)[self.block] = w
        else:
            for x, part in self._parts(w):
                x[...] = part

    def _move(self, x: Array, step: Array, keep: float) -> None:
        kept = x if keep == 1.0 else keep * x.astype(step.dtype, copy=False)
        self.batch.xp.subtract(kept, step, out=x, casting="unsafe")  # 16-bit: the one rounding


class Batch:
    """Parameters that take a step together: of one dtype, on one device.

    ``arrays[k]`` is a parameter, ``names[k]`` what errors call it, ``places[k]`` the element of the flat state arrays
    where its state begins. ``load`` brings the gradients of one step: ``grads``, arrays like the parameters, or copies
    of all of them one after the other in ``dx``. ``final``: whether a step is subtracted from the parameters or becomes
    the ``dx`` of another rule. ``master``: the flat float32 array, laid out like the state, of which 16-bit parameters are
    roundings: steps are taken there.
    """

    def __init__(
        self, arrays: Sequence[Array], places: Sequence[int], names: Sequence[str] = (), master: Array | None = None
    ) -> None:
        self.arrays, self.places, self.names, self.master = list(arrays), list(places), list(names), master
        self.xp, self.dtype = array_module(arrays[0]), arrays[0].dtype
        self.accumulator = accumulator(self.dtype)
        self.narrow = self.accumulator != self.dtype
        """Whether the numbers have 16 bits."""
        ends = np.cumsum([a.size for a in arrays]).tolist()
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))
        """Where each parameter's gradient lies in ``dx``."""
        self.total: int = ends[-1]
        self.contiguous = all(map(is_plain, arrays))
        # On a GPU addresses cost nothing: they are there from the last step, whose memory is given out again.
        self.gathers = device_of(arrays[0]) == "cpu" and self.total < GATHER * len(self.arrays)
        self.final = True
        self.dx: Any = None
        self.grads: Sequence[Array] = ()
        self.norm: Any = None
        """Of all gradients of the step together, where a rule has asked for it."""
        self.scaling: Any = None
        """What LossScale keeps for the whole optimiser."""
        self._workspace: Array | None = None
        self._pieces: list[Piece] | None = None
        self._tables: Tables | None = None

    def load(self, grads: Sequence[Array], copy: bool = False) -> None:
        """Take the gradients of a step; ``copy`` them into ``dx`` where a rule is to write to them."""
        if copy or self.gathers or not all(map(is_plain, grads)):
            if self._workspace is None:  # what rules hand on to each other is not rounded to 16 bits
                self._workspace = empty(self.total, self.accumulator if copy else self.dtype, like=self.arrays[0])
            self.dx = self.xp.concatenate(grads, axis=None, out=self._workspace)
        else:
            self.grads = grads

    def release(self) -> None:
        """Let go of the gradients."""
        self.dx, self.grads = None, ()

    @property
    def pieces(self) -> list[Piece]:
        """The whole batch in pieces of at most BLOCK elements (or one parameter that is not contiguous)."""
        if self._pieces is None:
            self._pieces = self._cut()
        return self._pieces

    def _cut(self) -> list[Piece]:
        pieces, k = [], 0
        while k < len(self.arrays):
            (lo, hi), place, first = self.spans[k], self.places[k], k
            k += 1
            if hi - lo > BLOCK and is_plain(self.arrays[first]):
                for start in range(0, hi - lo, BLOCK):
                    end = min(start + BLOCK, hi - lo)
                    pieces.append(Piece(self, slice(first, k), lo + start, lo + end, place + start, slice(start, end)))
                continue
            while k < len(self.arrays) and self.spans[k][1] - lo <= BLOCK and self.places[k] - place == hi - lo:
                hi, k = self.spans[k][1], k + 1
            pieces.append(Piece(self, slice(first, k), lo, hi, place, None))
        return pieces

    @property
    def tables(self) -> Tables:
        """Where its chunks lie, for a kernel."""
        if self._tables is None:
            self._tables = Tables(self)
        return self._tables

    @np.errstate(all="ignore")
    def subtract(self) -> None:
        """x -= dx."""
        for piece in self.pieces:
            _, dx = piece.read()
            piece.step(dx)


def is_plain(a: Array) -> bool:
    """Whether a kernel can work on an array's memory."""
    return a.flags.c_contiguous and getattr(a.flags, "aligned", True) and a.dtype.isnative


class Tables:
    """Where the chunks of a batch begin: what a kernel needs to work on many arrays in one launch."""

    def __init__(self, batch: Batch) -> None:
        self.device, size = device_of(batch.arrays[0]), batch.dtype.itemsize
        self._known: dict[bytes, Array] = {}
        self._flat_at: tuple[Array, Array] | None = None
        chunks = [
            (k, start, hi - lo - start)
            for k, (lo, hi) in enumerate(batch.spans)
            for start in range(0, hi - lo, CHUNK)
        ]
        self.parameter, start, left = np.array(chunks, np.int64).T
        self.offset = start * size
        self.rows, self.width = len(chunks), min(CHUNK, int(left.max()))
        self.x = self.addresses(batch.arrays)
        self._first = np.array([lo for lo, _ in batch.spans])[self.parameter] + start
        self.flat = self._there(self._first * size)
        self.at = self._there(np.array(batch.places)[self.parameter] + start)
        self.left = self._there(left.copy())

    def _there(self, table: np.ndarray) -> Array:
        return to_device(table, self.device)

    def within(self, flat: Array) -> Array:
        """The address of each chunk in a flat array of all parameters, of another dtype than theirs."""
        if self._flat_at is None or self._flat_at[0] is not flat:
            self._flat_at = flat, self._there(address_of(flat) + self._first * flat.itemsize)
        return self._flat_at[1]

    def addresses(self, arrays: Sequence[Array]) -> Array:
        """The address of each chunk of these arrays, on their device: kept, as memory is used again and again."""
        first = np.array([address_of(a) for a in arrays], np.int64)
        if self.device == "cpu":
            return self._there(first[self.parameter] + self.offset)
        key = first.tobytes()
        table = self._known.pop(key, None)
        if table is None:
            if len(self._known) >= KNOWN:
                self._known.pop(next(iter(self._known)))  # the one not used for longest
            table = self._there(first[self.parameter] + self.offset)
        self._known[key] = table
        return table
