"""A side in a process of its own, as ``workers.py`` starts it: it waits for questions at a pipe and answers them.

``python -m benchmarks.worker PEER FILE_DESCRIPTOR``
"""

from __future__ import annotations

import resource
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from . import peak
from .peers import framework
from .peers.framework import Ready
from .tasks import Absent, Setting, Task


def cpu_seconds() -> float:
    """Seconds that all threads of this process have computed."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Answers:
    """The questions that a side answers, each a method; one task at a time is ready."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.task: Ready | None = None

    def start(self, setting: Setting) -> dict[str, Any]:
        """Import the framework."""
        began = time.perf_counter()
        self.framework = framework(self.name, setting)
        return {"version": self.framework.version, "device": self.framework.device, "import_s": time.perf_counter() - began}

    def prepare(self, task: Task, answers: int) -> dict[str, Any]:
        """Make a task ready and do it: its answers, seconds of the first call, and what it took of memory."""
        self.drop()
        before = peak.resident()
        try:
            began = time.perf_counter()
            self.task = self.framework.ready(task)
            peak.trim()  # of the weights that were drawn, all at once, the task has copies
            made, resets = peak.resident(), peak.reset_high_water()
            first = self.task.answers(1)
            first_s = time.perf_counter() - began
        except Absent as absent:
            self.task = None
            return {"absent": str(absent)}
        if task.mode == "train":
            rest = self.task.answers(answers - 1) if answers > 1 else []
            first = [_joined(first, rest)]
        elif task.mode == "update":
            first = self.task.answers(answers)
        top = peak.high_water()
        known = resets and top is not None and before is not None and made is not None
        memory = {"model_bytes": made - before, "peak_bytes": top - before} if known else {}  # type: ignore[operator]
        return {"answers": first, "first_s": first_s, **memory}

    def calibrate(self, seconds: float) -> int:
        """How many calls fill so many seconds; warms up."""
        task = self._ready()
        once, n = self.framework.timed(task.call, 1), 1
        while once < seconds / 4 and n < 1 << 20:  # a short run says little
            n *= 2
            once = self.framework.timed(task.call, n)
        return max(1, round(n * seconds / max(once, 1e-9)))

    def time(self, calls: int, blocks: int) -> dict[str, Any]:
        """Seconds of a call in each of several blocks of calls, and the bytes of new memory that a call took."""
        task = self._ready()
        if calls > 1:  # after its sleep the process warms up; a single long call does so itself
            self.framework.timed(task.call, max(1, calls // 10))
        fresh, faulted = self.framework.fresh(), peak.faulted()
        seconds = [self.framework.timed(task.call, calls) / calls for _ in range(blocks)]
        found: dict[str, Any] = {"seconds": seconds, "touched_bytes": (peak.faulted() - faulted) / (calls * blocks)}
        if fresh is not None:
            found["fresh_bytes"] = ((self.framework.fresh() or 0) - fresh) / (calls * blocks)
        return found

    def drop(self) -> None:
        """Forget the task that is ready, and give its memory back."""
        self.task = None
        self.framework.release()
        peak.trim()

    def ceilings(self, quick: bool) -> dict[str, float]:
        """What this machine can do (ceilings.py)."""
        from .ceilings import QUICK, ceilings

        return ceilings(self.framework.setting.threads, *(QUICK if quick else ()))

    def _ready(self) -> Ready:
        if self.task is None:
            raise RuntimeError("no task is ready")
        return self.task


def _joined(first: list[Any], rest: list[Any]) -> Any:
    import numpy as np

    return np.concatenate([*first, *rest])


def main(name: str, descriptor: int) -> None:
    """Answer until the pipe is closed."""
    pipe, answers = Connection(descriptor), Answers(name)
    slept = 0.0  # seconds that the process computed while others had their turn
    while True:
        before = cpu_seconds()
        try:
            question, arguments = pipe.recv()
        except EOFError:
            return
        slept += cpu_seconds() - before
        try:
            reply = (True, slept if question == "idle_cpu" else getattr(answers, question)(*arguments))
        except Exception:
            reply = (False, traceback.format_exc())
        pipe.send(reply)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
