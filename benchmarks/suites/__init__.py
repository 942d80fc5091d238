"""The suites: each asks its questions of the sides and returns rows of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..peers import OURS, Peer, sides
from ..tasks import Network, Setting, Task
from ..turns import Difference, Plan, measure
from ..workers import Team, WorkerFailed

Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What a run is asked for."""

    peers: tuple[Peer, ...]
    setting: Setting = field(default_factory=Setting)
    threads: tuple[int, ...] = (1,)
    plan: Plan = field(default_factory=Plan)
    names: tuple[str, ...] = ()  # of the workloads; none means all
    modes: tuple[str, ...] = ("train", "infer")
    batches: tuple[str, ...] = ("own", "1")
    random: int = 0
    quick: bool = False
    say: Callable[[str], None] = print

    def team(self, threads: int, networks: Iterable[Network]) -> Team:
        """The sides that one of the networks makes use of, with so many threads."""
        wanted = list(networks)
        chosen = [s for s in sides(self.peers, self.setting.device) if any(s.takes(network) for network in wanted)]
        return Team(chosen, replace(self.setting, threads=threads))


def rows_of(team: Team, tasks: list[Task], options: Options, **about: Any) -> Iterator[Row]:
    """A row for each task. A task whose sides do not agree, or one of which fails, is a row with an ``error``."""
    device = team.workers[OURS.name].about["device"]
    for task in tasks:
        try:
            row = measure(team, task, options.plan)
        except (Difference, WorkerFailed) as error:
            n = task.network
            row = {"name": n.name, "what": n.what, "mode": task.mode, "batch": n.batch, "error": str(error)}
        row = about | row | {"device": device}
        options.say(brief(row))
        yield row
        if "error" in row and not all(worker.alive for worker in team.workers.values()):
            return


def brief(row: Row) -> str:
    """A row in a line, while it goes on."""
    size = f", {row['axis']} {row['size']}" if "size" in row else ""
    head = f"{row['name']}, {row['mode']}, batch {row['batch']}{size}"
    if "error" in row:
        return f"{head}: {row['error'].splitlines()[-1][:200]}"
    times = ", ".join(f"{name} {side['ms']:.3g} ms" for name, side in row["sides"].items())
    return f"{head}: {times}" + (f"; ratio {row['ratio']:.2f}" if "ratio" in row else "")
