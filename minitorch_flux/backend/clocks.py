"""When something begins and ends: on the CPU by its clock, on a GPU by events in the stream, which wait for nobody."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .arrays import _loaded_cupy

now = time.perf_counter_ns


class Timer:
    """The time of pieces of work. ``begin`` and ``end`` give tokens; ``span`` of two of them is asked when all is done."""

    def __init__(self) -> None:
        self.origin = now()
        self.first: dict[int, tuple[int, Any]] = {}  # by device: when an event was recorded that the others are told from

    def mark(self, like: Any) -> tuple[int, Any, int]:
        """Now: the host's time, and where ``like`` lives on a GPU an event in its stream."""
        if isinstance(like, np.ndarray) or (cupy := _loaded_cupy()) is None or not isinstance(like, cupy.ndarray):
            return now(), None, -1
        device = like.device.id
        with like.device:
            if device not in self.first:
                like.device.synchronize()
                start = cupy.cuda.Event()
                start.record()
                start.synchronize()
                self.first[device] = (now(), start)
            event = cupy.cuda.Event()
            event.record()
        return now(), event, device

    def span(self, begin: tuple[int, Any, int], end: tuple[int, Any, int]) -> tuple[int, int]:
        """``(start, length)`` in nanoseconds since the timer was made: the device's own where there are events."""
        if begin[1] is None or end[1] is None or begin[2] != end[2]:
            return begin[0] - self.origin, end[0] - begin[0]
        cupy = _loaded_cupy()
        host, start = self.first[begin[2]]
        end[1].synchronize()
        since = cupy.cuda.get_elapsed_time(start, begin[1])  # type: ignore[union-attr]
        took = cupy.cuda.get_elapsed_time(begin[1], end[1])  # type: ignore[union-attr]
        return host - self.origin + int(since * 1e6), int(took * 1e6)
