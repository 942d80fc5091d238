"""Waiting for other ranks, but not for ever: who is missing is named, and the job ends."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

GRACE = 3.0
"""Seconds that ranks differ at most in noticing that something does not come: from then on a silent one is missing."""
TAG = 7711


SPIN = 0.02
"""Seconds for which a rank with a core of its own polls without a rest."""
NAP, REST = 5e-5, 1e-3
"""Seconds of sleep between polls, at first and after a second. Large arrays travel in many small steps, each of which needs
both sides to look: with naps of 1 ms from the start, 250 KB between two ranks took up to 3 ms longer."""


def wait(group: Any, requests: list[Any], what: str) -> None:
    """Poll until all requests are done: at first as often as possible, then leaving the core to others.

    Where ranks share cores (``group.crowded``) the rank that is waited for may need this one: the first nap comes soon.
    """
    from mpi4py import MPI

    start = time.monotonic()
    polls = 0
    while not MPI.Request.Testall(requests):
        polls += 1
        if polls < 200:
            os.sched_yield()
            continue
        waited = time.monotonic() - start
        if waited < SPIN and not group.crowded:
            os.sched_yield()
            continue
        time.sleep(NAP if waited < 1 else REST)
        if waited > group.timeout:
            group.ring(what)


class Alarm:
    """A line between all ranks that is used only when one of them does not come."""

    def __init__(self, comm: Any) -> None:
        self.comm = comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def ring(self, what: str, timeout: float) -> None:
        """Tell all others that this rank waits at ``what``, hear who else waits, and let the first of them say who does not."""
        from mpi4py import MPI

        text = np.frombuffer(json.dumps(what).encode(), np.uint8)
        others = [r for r in range(self.size) if r != self.rank]
        sent = [self.comm.Isend(text, r, TAG) for r in others]
        heard = {self.rank: what}
        start = time.monotonic()
        status = MPI.Status()
        while time.monotonic() - start < GRACE and len(heard) < self.size:
            MPI.Request.Testall(sent)
            while self.comm.Iprobe(MPI.ANY_SOURCE, TAG, status):
                found = np.empty(status.Get_count(MPI.BYTE), np.uint8)
                self.comm.Recv(found, status.Get_source(), TAG)
                heard[status.Get_source()] = json.loads(found.tobytes())
            time.sleep(0.01)
        if self.rank == min(heard):
            missing = [r for r in range(self.size) if r not in heard]
            at = "; ".join(f"rank {r} at {w}" for r, w in sorted(heard.items()))
            if missing:
                names = ", ".join(map(str, missing))
                text_ = f"rank{'s' if len(missing) > 1 else ''} {names} of {self.size} did not come within {timeout:g} s"
            else:
                text_ = f"the ranks wait for each other at different places since {timeout:g} s"
            print(f"minitorch_flux.distributed: {text_}, the job ends; waiting: {at}", file=sys.stderr, flush=True)
        else:
            time.sleep(1.0)  # the first one speaks before anybody ends the job
