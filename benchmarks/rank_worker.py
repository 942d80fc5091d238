"""What every rank does for ``ranks.py``: ``python -m benchmarks.rank_worker NAME SHARE ROUNDS SECONDS``
under mpiexec.

Each parameter of the model has a measurement of its own, and all take turns with the steps that they are to predict, round by
round, so that what else the machine does falls on all of them. Rank 0 prints the results.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minitorch_flux as flux
from minitorch_flux import distributed
from minitorch_flux.distributed import groups

from .peers.flux import chain
from .rank_model import lateness, together
from .workloads import WORKLOADS

SIZES = (8, 64 << 10, 512 << 10, 4 << 20)
LONGEST = 0.05
"""Seconds that a rank is late at most in a measurement of sums."""
COLD = 32 << 20
"""Bytes of the arrays that are summed in turn: gradients come from memory, not from a cache."""


class Instant(groups.Group):
    """A group whose transfers take no time: what a rank does for the others remains. Writes down what would travel."""

    def __init__(self, group: groups.Group) -> None:
        super().__init__()
        self.rank, self.size, self.unit = group.rank, group.size, 1.0
        self.open = 0
        self.exchanges: list[int] = []  # the bytes behind each wait

    @property
    def within(self) -> Instant:
        """Itself."""
        return self

    def start_sum(self, a: Any) -> Any:
        """Nothing is added."""
        self.open += a.nbytes

    def finish(self, requests: list[Any], what: str) -> None:
        """Nobody is waited for."""
        self.exchanges.append(self.open)
        self.open = 0


class Late(groups.Group):
    """The same ranks, whose sums all begin when they are waited for: nothing overlaps."""

    def __init__(self, group: groups.Group) -> None:
        super().__init__(group.comm, group.timeout, group._alarm)
        self.unit, self.crowded = group.unit, group.crowded

    def start_sum(self, a: Any) -> Any:
        """Remember it."""
        return a

    def poke(self, requests: list[Any]) -> None:
        """Nothing is under way."""

    def finish(self, requests: list[Any], what: str) -> None:
        """Begin, and wait."""
        super().finish([super(Late, self).start_sum(a) for a in requests], what)


def _until(end: float, f: Callable[[], Any]) -> list[float]:
    """Seconds of calls of ``f``, one at least, until a time of the clock that all processes share."""
    found: list[float] = []
    while time.monotonic() < end or not found:
        start = time.perf_counter()
        f()
        found.append(round(time.perf_counter() - start, 7))
    return found


class Ranks:
    """One workload on this rank, and its measurements."""

    def __init__(self, name: str, share: int) -> None:
        self.group = distributed.init()
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        network = WORKLOADS[name]
        flux.seed(1)
        self.model = distributed.synchronize(distributed.sync_batch_norms(chain(network.layers)))
        self.opt = flux.setup(flux.Adam(1e-3), self.model)
        x, y = network.data()
        axis = 1 if network.sequences else 0
        self.x, self.y = (np.take(a, np.arange(share) % network.batch, axis) for a in (x, y))
        self.share = share
        self.instant, self.late = Instant(self.group), Late(self.group)
        self.buffers = {n: [np.zeros(n // 8) for _ in range(max(1, min(64, COLD // n)))] for n in SIZES}

    def loss(self, m: Any) -> Any:
        """The mean over this rank's observations."""
        return flux.losses.logitcrossentropy(m(self.x), self.y)

    def step(self, group: groups.Group | None) -> None:
        """A training step with the other ranks of a group; without one a step alone."""
        before, groups._group = groups._group, group or groups.Group()
        try:
            _, grads = distributed.withgradient(self.loss, self.model, self.share)
            flux.update(self.opt, self.model, grads)
        finally:
            groups._group = before

    # -- without transfers -------------------------------------------------------------------------------------------------

    def window(self, f: Callable[[], Any], seconds: float) -> list[list[float]]:
        """All ranks' times of calls of ``f`` until a common end; nobody waits for anybody."""
        return self.group.gather(_until(self.group.gather(time.monotonic() + seconds)[0], f))

    def watched(self, seconds: float, nbytes: int) -> float:
        """By how much a step on as many ranks as there are cores takes longer where the other ranks wait for these, in the
        middle of a sum, than where they sleep."""
        found, a = [], np.zeros(nbytes // 8 + 1)
        for wait in (True, False):
            end = self.group.gather(time.monotonic() + seconds)[0]
            steps: list[float] = []
            if self.group.rank < self.cores:
                steps = _until(end, lambda: self.step(self.instant))
            elif not wait:
                time.sleep(seconds)
            if wait:
                self.group.sum(a)
            found.append(together(self.group.gather(steps)[: self.cores], self.cores))
        return max(0.0, found[0] - found[1])

    def alone(self, seconds: float) -> float:
        """A step of rank 0 while the others sleep."""
        if self.group.rank == 0:
            found = self.window(lambda: self.step(None), seconds)
        else:
            found = self.window(lambda: time.sleep(seconds), seconds)
        return statistics.mean(found[0])

    # -- with transfers ----------------------------------------------------------------------------------------------------

    def series(self, f: Callable[[], Any], calls: int) -> float:
        """Seconds of a call of a number of calls that all ranks make together."""
        self.group.barrier()
        start = time.perf_counter()
        for _ in range(calls):
            f()
        return statistics.mean(self.group.gather((time.perf_counter() - start) / calls))

    def sums(self, late: float, trials: int = 8) -> list[float]:
        """Seconds of a sum of each of the sizes, from the arrival of the last rank, which comes so many seconds late, until
        all have it."""
        found = []
        for n in SIZES:
            seconds = []
            for i in range(trials):
                self.group.barrier()
                start = time.monotonic()
                while i % self.group.size == self.group.rank and time.monotonic() - start < late:
                    pass
                came = time.monotonic()
                self.group.sum(self.buffers[n][i % len(self.buffers[n])])
                told = self.group.gather([came, time.monotonic()])
                seconds.append(max(went for _, went in told) - max(came for came, _ in told))
            found.append(statistics.median(seconds))
        return found

    # -- all of it ---------------------------------------------------------------------------------------------------------

    def measured(self, rounds: int, seconds: float) -> dict[str, Any]:
        """The medians over the rounds, and the range of the steps. A measurement takes so many seconds in a round, and four
        steps at least."""
        for group in (None, self.instant, self.group, self.late, self.instant):
            self.instant.exchanges = []
            self.step(group)
        exchanges = list(self.instant.exchanges)
        once = self.series(lambda: self.step(self.group), 3)
        seconds, calls = max(seconds, 4 * once), max(4, int(seconds / once))
        found: dict[str, list[Any]] = {}
        for _ in range(rounds):
            row: dict[str, Any] = {"alone": self.alone(seconds), "step": self.series(lambda: self.step(self.group), calls)}
            if self.group.size > 1:
                row["plain"] = together(self.window(lambda: self.step(None), seconds), self.cores)
                ready = self.window(lambda: self.step(self.instant), seconds)
                row["ready"], late = together(ready, self.cores), lateness(ready, self.cores)
                if self.group.size > self.cores:
                    row["watched"] = self.watched(seconds, sum(exchanges) // len(exchanges))
                row["at_end"] = self.series(lambda: self.step(self.late), calls)
                row["late"] = min(LONGEST, late / len(exchanges))
                row["sums"] = self.sums(row["late"])
                row["step_again"] = self.series(lambda: self.step(self.group), calls)
            for key, value in row.items():
                found.setdefault(key, []).append(value)
        steps = found.pop("step") + found.pop("step_again", [])
        middle = {key: np.median(np.array(values), axis=0).tolist() for key, values in found.items()}
        return middle | {"step": statistics.median(steps), "steps": steps, "exchanges": exchanges, "sizes": SIZES,
                         "cores": self.cores}


def main() -> None:
    """Measure, and let rank 0 print."""
    name, share, rounds, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    ranks = Ranks(name, share)
    found = ranks.measured(rounds, seconds)
    if ranks.group.rank == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
