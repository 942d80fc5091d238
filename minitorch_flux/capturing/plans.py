"""Plan: a recorded step with memory of its own, ready to be replayed.

The memory of a step is one block. Arrays whose lifetimes do not overlap share places in it (the largest are placed first,
each at the lowest offset that is free while it lives), so that a replay allocates nothing and needs about as much memory as
the eager step's peak.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

from ..backend import empty
from .programs import Changed, Failed, may_change, program
from .recorder import Call, Recorder, Slot, Storage, slots_of
from .states import State

ALIGNMENT = 64
MANY = 4096  # storages from which places are found in the order of time


def place(storages: Sequence[Storage]) -> tuple[list[int], int]:
    """An offset for each storage, and how many bytes they take together.

    Two whose lifetimes ``first..last`` overlap do not overlap in memory.
    """
    if len(storages) > MANY:
        return _place_many(storages)
    offsets = [0] * len(storages)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; in the order of the offsets
    for i in sorted(range(len(storages)), key=lambda i: -storages[i].nbytes):
        s = storages[i]
        size, at = -(-s.nbytes // ALIGNMENT) * ALIGNMENT, 0
        for offset, end, first, last in placed:
            if first <= s.last and s.first <= last:
                if offset >= at + size:
                    break
                at = max(at, end)
        offsets[i] = at
        insort(placed, (at, at + size, s.first, s.last))
    return offsets, max((end for _, end, _, _ in placed), default=0)


def _place_many(storages: Sequence[Storage]) -> tuple[list[int], int]:
    """The same in the order of time: a place is taken again by what has about its size. Not as dense, but not quadratic."""
    offsets, total = [0] * len(storages), 0
    free: dict[int, list[int]] = {}
    living: list[tuple[int, int, int]] = []  # last, size, offset
    for i in sorted(range(len(storages)), key=lambda i: storages[i].first):
        s = storages[i]
        while living and living[0][0] < s.first:
            _, size, at = heappop(living)
            free.setdefault(size, []).append(at)
        step = max(1 << (max(s.nbytes, 1) - 1).bit_length() - 3, ALIGNMENT) if s.nbytes > ALIGNMENT else ALIGNMENT
        size = -(-s.nbytes // step) * step
        if places := free.get(size):
            offsets[i] = places.pop()
        else:
            offsets[i], total = total, total + size
        heappush(living, (s.last, size, offsets[i]))
    return offsets, total


class Plan:
    """What ``Recorder`` wrote down, bound to memory.

    ``inputs``: the slots that a replay fills before it begins; ``kept``: those that must last to its end.
    """

    products = 0  # matrix products that may not be rounded as the step's own are

    def __init__(self, recorder: Recorder, inputs: Sequence[Slot], kept: Sequence[Slot]) -> None:
        calls = [c for c in recorder.calls if not _is_constant(c)]
        self._live_from_to(calls, inputs, kept)
        slots = [*inputs, *kept, *(s for c in calls for s in slots_of((c.args, c.keywords, c.outs)))]
        self.nbytes = self._bind(slots)
        self.inputs = [s.array for s in inputs]
        self.calls = len(calls)
        self.draws = [sum(blocks for g, blocks in recorder.draws if g is drawn) for drawn, _ in recorder.drawn.values()]
        """How many blocks a replay takes from each generator."""
        self.program = program(calls)
        self.state = State(*[[x for x, _ in found.values()] for found in (recorder.written, recorder.drawn, recorder.keepers)])
        """What the step changes beyond its own memory."""
        self.at_risk = _at_risk(recorder)

    def run(self, arrays: Sequence[Any]) -> None:
        """Replay the step with these inputs.

        Raises Changed where the step would go another way and Failed where a call raises; then nothing has changed.
        """
        for buffer, a in zip(self.inputs, arrays, strict=True):
            np.copyto(buffer, a)
        saved = self.at_risk.save() if self.at_risk else None
        try:
            for step in self.program:
                step()
        except Exception as error:
            if saved is not None:
                self.at_risk.restore(saved)
            if isinstance(error, Changed):
                raise
            raise Failed from error

    @staticmethod
    def _live_from_to(calls: Sequence[Call], inputs: Sequence[Slot], kept: Sequence[Slot]) -> None:
        for i, call in enumerate(calls):
            for slot in slots_of((call.args, call.keywords, call.outs)):
                if (s := slot.storage) is not None:
                    s.first = i if s.first < 0 else s.first
                    s.last = i
        for slots, end in ((inputs, 0), (kept, len(calls))):
            for slot in slots:
                if slot.storage is not None:
                    slot.storage.first = 0 if slots is inputs else max(slot.storage.first, 0)
                    slot.storage.last = max(slot.storage.last, end)

    @staticmethod
    def _bind(slots: Sequence[Slot]) -> int:
        """Give every slot its array; returns the bytes of the block."""
        own = {id(s.storage): s.storage for s in slots}
        storages = [s for s in own.values() if s is not None and (s.constant is None or s.written)]
        offsets, total = place(storages)
        block = empty(total + ALIGNMENT, np.uint8)
        start = -block.__array_interface__["data"][0] % ALIGNMENT
        for s, offset in zip(storages, offsets, strict=True):
            s.array = block[start + offset : start + offset + s.nbytes]
        for slot in slots:
            if (storage := slot.storage) is not None and slot.array is None:
                memory = storage.constant if storage.array is None else storage.array
                slot.array = np.ndarray(slot.shape, slot.dtype, memory, slot.offset, slot.strides)
        return total


def _is_constant(call: Call) -> bool:
    """Whether a call only makes a constant that nobody writes to: it is made once."""
    if call.function is not np.copyto or not isinstance(call.args[0], Slot):
        return False
    storage = call.args[0].storage
    return storage is not None and storage.constant is not None and not storage.written


def _at_risk(recorder: Recorder) -> State:
    """What is changed before the last call that may go another way or raise."""
    last = max((i for i, call in enumerate(recorder.calls) if may_change(call) or call.number == ()), default=-1)
    changed = recorder.written, recorder.drawn, recorder.keepers
    return State(*[[x for x, i in found.values() if i < last] for found in changed])
