"""The sides' processes: each is started once, stays, and computes only while it is asked something.

One process for each side, because thread pools and allocators get in each other's way inside one. They are kept alive, because
starting PyTorch takes seconds, which would be most of a table's time; between its turns a side sleeps at its pipe. Its OpenMP
threads do not: they spin for some milliseconds before they sleep, which would slow down the next side. OMP_WAIT_POLICY=passive
would end that, but also every wait inside a step, which is not how people run either library. So the default stays, and each
turn begins after a pause in which the last side's threads fall asleep; how much a side computed out of its turn is measured and
stands in the results (``idle_cpu_s``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from .peers import Side
from .tasks import Setting

PAUSE = 0.03
"""Seconds in which the threads of the side whose turn has ended fall asleep."""


class WorkerFailed(Exception):
    """A side raised an error or died; the text has its last words."""


class Worker:
    """A side's process. Use as a context: it ends with it."""

    def __init__(self, side: Side, setting: Setting, environment: dict[str, str] | None = None) -> None:
        self.side = side
        threads = str(setting.threads)
        here = str(Path(__file__).parent.parent)
        path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        given = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": path}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        self.pipe, its = Pipe()
        command = [sys.executable, "-m", "benchmarks.worker", side.peer.name, str(its.fileno())]
        self.process = subprocess.Popen(command, env=os.environ | given | (environment or {}), pass_fds=(its.fileno(),),
                                        stdout=self.errors, stderr=self.errors)
        its.close()
        try:
            self.about = self.ask("start", setting)
        except WorkerFailed:
            self.close()
            raise

    def ask(self, question: str, *arguments: Any) -> Any:
        """The answer to a question (worker.py). Raises WorkerFailed."""
        try:
            self.pipe.send((question, arguments))
            good, answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").strip()[-2000:]
            raise WorkerFailed(f"{self.side.title} died (exit code {self.process.returncode}): {last}") from None
        if not good:
            raise WorkerFailed(f"{self.side.title} failed:\n{answer}")
        return answer

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return self.process.poll() is None

    def turn(self, calls: int, blocks: int) -> Any:
        """Its turn: after a pause, the times of some blocks."""
        time.sleep(PAUSE)
        return self.ask("time", calls, blocks)

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Team:
    """The workers of several sides."""

    def __init__(self, sides: list[Side], setting: Setting) -> None:
        self.workers: dict[str, Worker] = {}
        try:
            for side in sides:
                self.workers[side.name] = Worker(side, replace(setting, layout=side.layout))
        except BaseException:
            self.close()
            raise

    def idle_cpu(self) -> dict[str, float]:
        """Seconds that each side computed while others had their turn."""
        return {name: worker.ask("idle_cpu") for name, worker in self.workers.items()}

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
