"""A layered layout: boxes in ranks from top to bottom, edges that span several ranks go round the boxes between.

The steps are those of Sugiyama, Tagawa and Toda ("Methods for visual understanding of hierarchical system structures", 1981):
ranks by the longest path, dummies where an edge passes a rank, an order in each rank with few crossings (by the mean place of
the neighbours), then coordinates. The last is a least-squares problem for each rank: every box wants to be at the mean of its
neighbours, and keeps its distance from the next; pooling adjacent violators solves it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SHORT = 10.0  # the gap before and after ports whose edges go straight on
ROUNDS = 24
STRAIGHT, ASIDE = 6.0, 0.001  # how much an edge that passes ranks wants to be vertical: between dummies, and at its ends


@dataclass(eq=False)
class Item:
    """A box, or the place where an edge passes a rank (of no size). ``x``, ``y``: the middle of its upper edge."""

    width: float = 0.0
    height: float = 0.0
    rank: int = 0
    place: float = 0.0  # in its rank
    x: float = 0.0
    y: float = 0.0
    dummy: bool = False
    pinned: bool = False  # to the first rank: where edges come in from outside
    last: bool = False  # to the last rank: where they leave


@dataclass(eq=False)
class Link:
    """An edge between items; ``out``, ``into``: where it leaves and arrives, right of the middle of the box.

    ``points``: where it goes, from the lower edge of one to the upper edge of the other.
    """

    source: Item
    target: Item
    out: float = 0.0
    into: float = 0.0
    through: list[Item] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)


def arrange(items: Sequence[Item], links: Sequence[Link], across: float, down: float) -> tuple[float, float]:
    """Give every item its place and every link its points; returns the width and height of all.

    ``across``, ``down``: the gaps between boxes. Items come in an order in which each follows those that it has links from.
    """
    _rank(items, links)
    ranks = _ranks(items, links)
    steps = [step for link in links for step in _steps(link)]
    _order(ranks, steps)
    _place(ranks, steps, across)
    y = 0.0
    for i, rank in enumerate(ranks):
        height = max((item.height for item in rank), default=0.0)
        for item in rank:
            item.y = y if item.dummy else y + (height - item.height) / 2
        bent = any(abs(a.x + out - b.x - into) > 1 for a, b, out, into, _ in steps if a.rank == i)
        port = height == 0 or (i + 1 < len(ranks) and all(item.height == 0 for item in ranks[i + 1]))
        y += height + (0 if i + 1 == len(ranks) else down if bent or not port else SHORT)
    everything = [item for rank in ranks for item in rank]
    left = min((item.x - item.width / 2 for item in everything), default=0.0)
    width = max((item.x + item.width / 2 for item in everything), default=0.0) - left
    for item in everything:
        item.x -= left
    bands = [(min(item.y for item in rank), max(item.y + item.height for item in rank)) for rank in ranks]
    for link in links:  # straight down beside the boxes of a rank, and bent between the ranks alone
        a, b, out, into = link.source, link.target, link.source.x + link.out, link.target.x + link.into
        link.points = [(out, a.y + a.height), (out, bands[a.rank][1])]
        for item in link.through:
            link.points += [(item.x, bands[item.rank][0]), (item.x, bands[item.rank][1])]
        link.points += [(into, bands[b.rank][0]), (into, b.y)]
    return width, y


def _rank(items: Sequence[Item], links: Sequence[Link]) -> None:
    """The longest path to each item; what nothing comes to stands right above the first that reads it."""
    for item in items:
        before = [link.source.rank + 1 for link in links if link.target is item]
        item.rank = max(before, default=0)
        if not before and not item.pinned and any(other.pinned for other in items):
            item.rank = 1
    for item in reversed(items):
        after = [link.target.rank - 1 for link in links if link.source is item]
        if after and not item.pinned and not any(link.target is item for link in links):
            item.rank = max(item.rank, min(after))
    deepest = max((item.rank for item in items if not item.last), default=-1) + 1
    for item in items:
        if item.last:
            item.rank = deepest


def _ranks(items: Sequence[Item], links: Sequence[Link]) -> list[list[Item]]:
    """The items of every rank, with dummies for the links that pass it."""
    ranks: list[list[Item]] = [[] for _ in range(max((item.rank for item in items), default=-1) + 1)]
    for item in items:
        ranks[item.rank].append(item)
    for link in links:
        link.through = [Item(rank=r, dummy=True) for r in range(link.source.rank + 1, link.target.rank)]
        for item in link.through:
            ranks[item.rank].append(item)
    return ranks


Step = tuple[Item, Item, float, float, float]


def _steps(link: Link) -> list[Step]:
    """A link from rank to rank: ``(upper, lower, out, into, weight)``."""
    path = [link.source, *link.through, link.target]
    steps = []
    for i, (a, b) in enumerate(zip(path, path[1:], strict=False)):
        weight = 1.0 if len(path) == 2 else STRAIGHT if a.dummy and b.dummy else ASIDE
        steps.append((a, b, link.out if i == 0 else 0.0, link.into if i == len(path) - 2 else 0.0, weight))
    return steps


def _order(ranks: list[list[Item]], steps: list[Step]) -> None:
    """Order every rank by the mean place of the neighbours above, then below, and so on; keep the one that crosses least."""
    for rank in ranks:
        for i, item in enumerate(rank):
            item.place = i
    best, fewest = [list(rank) for rank in ranks], _crossings(steps)
    for sweep in range(8):
        downwards = sweep % 2 == 0
        for rank in ranks if downwards else reversed(ranks):
            mean = {}
            for item in rank:
                near = [(a.place + _tilt(a, out)) if downwards else (b.place + _tilt(b, into))
                        for a, b, out, into, _ in steps if (b if downwards else a) is item]
                mean[id(item)] = sum(near) / len(near) if near else item.place
            rank.sort(key=lambda item: mean[id(item)])
            for i, item in enumerate(rank):
                item.place = i
        if (n := _crossings(steps)) < fewest:
            best, fewest = [list(rank) for rank in ranks], n
        if not fewest:
            break
    for rank, order in zip(ranks, best, strict=True):
        rank[:] = order
        for i, item in enumerate(rank):
            item.place = i


def _tilt(item: Item, offset: float) -> float:
    """A link that leaves right of the middle counts as a little further right."""
    return 0.5 * offset / item.width if item.width else 0.0


def _crossings(steps: list[Step]) -> int:
    by_rank: dict[int, list[tuple[float, float]]] = {}
    for a, b, out, into, _ in steps:
        by_rank.setdefault(a.rank, []).append((a.place + _tilt(a, out), b.place + _tilt(b, into)))
    return sum((a - c) * (b - d) < 0 for ends in by_rank.values() for i, (a, b) in enumerate(ends) for c, d in ends[:i])


def _place(ranks: list[list[Item]], steps: list[Step], across: float) -> None:
    """x of every item: each rank in turn is drawn to its neighbours."""
    for rank in ranks:
        x = 0.0
        for item in rank:
            x += item.width / 2
            item.x, x = x, x + item.width / 2 + across
        for item in rank:
            item.x -= (x - across) / 2
    near: dict[int, list[tuple[Item, float, float]]] = {id(item): [] for rank in ranks for item in rank}
    for a, b, out, into, weight in steps:
        near[id(a)].append((b, into - out, weight))
        near[id(b)].append((a, out - into, weight))
    for sweep in range(ROUNDS):
        moved = 0.0
        for rank in ranks if sweep % 2 == 0 else reversed(ranks):
            wanted, weights = [], []
            for item in rank:
                pulls = near[id(item)]
                total = sum(w for _, _, w in pulls)
                wanted.append(sum(w * (other.x + shift) for other, shift, w in pulls) / total if total else item.x)
                weights.append(total or 0.1)
            gaps = [(a.width + b.width) / 2 + across for a, b in zip(rank, rank[1:], strict=False)]
            for item, x in zip(rank, spread(wanted, weights, gaps), strict=True):
                moved = max(moved, abs(x - item.x))
                item.x = x
        if moved < 0.01:
            break


def spread(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, sum w (x - wanted)^2 least, with x[i + 1] - x[i] >= gaps[i]."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[list[float]] = []  # mean, weight, length: neighbours that touch move as one
    for x, w, o in zip(wanted, weights, offsets[: len(wanted)], strict=True):
        blocks.append([x - o, w, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            m, u, n = blocks.pop()
            last = blocks[-1]
            blocks[-1] = [(last[0] * last[1] + m * u) / (last[1] + u), last[1] + u, last[2] + n]
    places = [mean for mean, _, n in blocks for _ in range(int(n))]
    return [x + o for x, o in zip(places, offsets, strict=False)]
