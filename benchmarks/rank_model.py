"""What a training step on n ranks takes, by arithmetic alone; ``ranks.py`` measures the parameters and checks the predictions.

On one machine of c cores, with one thread for each rank::

    T(n) = C(n, b) + P(n) + sum over the waits of t_n(bytes, d)

``C(n, b)``: a step on b observations with all that a rank does for the others (copies into buckets, the walk that counts
gradients) but transfers that take no time, n such processes at once. It holds what they take from each other: memory bandwidth,
caches, the wait for the slowest, and, where n is larger than c, slices of time. ``P(n)``: ranks that wait look again and again,
which takes time from those that still compute: (n / c - 1) times what it costs a step of c ranks; 0 with a core for each rank.
``t_n``: a sum over n ranks, from the arrival of the last one, which comes ``d`` seconds late, until all have it, measured at
some sizes. Exchanges that a step waits for at once are one. ``d``: by how much ranks are apart after C, shared out among the
waits. Nothing is hidden behind the backward pass, because the cores that compute also carry.

Where network cards carry, as between GPUs, a transfer goes on beside the backward pass, and ``exposed`` is what is left of it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

BUCKET = 4 << 20


@dataclass(frozen=True)
class Links:
    """Between n ranks: ``seconds`` of sums of ``sizes`` bytes, which rise."""

    sizes: Sequence[float]
    seconds: Sequence[float]

    def sum(self, nbytes: float) -> float:
        """Seconds of a sum: on straight lines between the sizes, the last one goes on."""
        if len(self.sizes) == 1 or nbytes <= self.sizes[0]:
            return self.seconds[0]
        i = min(max(bisect_left(self.sizes, nbytes), 1), len(self.sizes) - 1)
        (a, b), (s, t) = self.sizes[i - 1 : i + 1], self.seconds[i - 1 : i + 1]
        return max(0.0, s + (t - s) * (nbytes - a) / (b - a))


@dataclass(frozen=True)
class Work:
    """A rank's part of a step: seconds of one process ``alone``, of ``n`` at once (``plain``), and of n at once with the
    bookkeeping (``ready``), all without transfers; the bytes behind each wait; what others that wait cost (``polling``)."""

    alone: float
    plain: float
    ready: float
    exchanges: Sequence[float] = ()
    polling: float = 0.0


def parts(work: Work, links: Links) -> dict[str, float]:
    """The prediction in pieces, whose sum it is."""
    return {
        "share": work.alone, "crowding": work.plain - work.alone, "bookkeeping": work.ready - work.plain,
        "polling": work.polling, "sums": sum(map(links.sum, work.exchanges)),
    }  # fmt: skip


def predicted(work: Work, links: Links) -> float:
    """Seconds of a step."""
    return sum(parts(work, links).values())


def together(steps: Sequence[Sequence[float]], cores: int) -> float:
    """Seconds of a step that ends when all processes have done theirs, from the steps of processes that ran at once without
    waiting for each other: with a core for each the mean of the slowest, otherwise that of all, which share the cores."""
    if len(steps) <= cores:
        slowest = [max(each) for each in zip(*steps, strict=False)]
        return sum(slowest) / len(slowest)
    return sum(sum(s) / len(s) for s in steps) / len(steps)


def lateness(steps: Sequence[Sequence[float]], cores: int) -> float:
    """Seconds that a rank waits for the last one: between the first and the slowest, or while others have the cores."""
    n = len(steps)
    if n <= cores:
        apart = [max(each) - min(each) for each in zip(*steps, strict=False)]
        return sum(apart) / len(apart)
    return together(steps, cores) * (1 - cores / n)


def ring(n: int, nbytes: float, pieces: int, alpha: float, beta: float) -> float:
    """Seconds of a sum of ``nbytes`` in ``pieces`` over n ranks in a ring: 2 (n - 1) (pieces alpha + nbytes / (n beta))."""
    return 2 * (n - 1) * (pieces * alpha + nbytes / (n * beta))


def tree(n: int, nbytes: float, pieces: int, alpha: float, beta: float) -> float:
    """The same up and down a tree, in pipelines: 2 pieces ceil(log2 n) alpha + 2 nbytes / beta."""
    return 0.0 if n == 1 else 2 * pieces * math.ceil(math.log2(n)) * alpha + 2 * nbytes / beta


def exposed(moved: float, pieces: int, backward: float) -> float:
    """Of a transfer of ``moved`` seconds what the backward pass does not hide: the last piece has nothing to hide behind."""
    return max(moved / max(pieces, 1), moved - backward)


@dataclass(frozen=True)
class Cluster:
    """Hosts of GPUs, all numbers assumed. Seconds, bytes, bytes a second.

    ``step``: on one GPU, of it ``backward`` the share of the backward pass. ``inside``, ``between``: (latency, bandwidth) of
    a GPU within its host, and of a host.
    """

    step: float
    nbytes: float
    inside: tuple[float, float]
    between: tuple[float, float]
    gpus: int = 8
    backward: float = 2 / 3

    def moved(self, hosts: int) -> float:
        """Seconds of the sum: a ring within each host, then the faster of ring and tree between the hosts."""
        pieces = max(1, math.ceil(self.nbytes / BUCKET))
        far = min(f(hosts, self.nbytes, pieces, *self.between) for f in (ring, tree))
        return ring(self.gpus, self.nbytes, pieces, *self.inside) + far

    def row(self, hosts: int) -> dict[str, float]:
        """The step where the batch grows with the GPUs."""
        moved = self.moved(hosts)
        left = exposed(moved, max(1, math.ceil(self.nbytes / BUCKET)), self.step * self.backward)
        return {"hosts": hosts, "gpus": hosts * self.gpus, "moved_s": moved, "exposed_s": left, "step_s": self.step + left,
                "efficiency": self.step / (self.step + left)}
