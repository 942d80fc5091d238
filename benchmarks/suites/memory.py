"""What a step takes of memory: its peak, and what it newly allocates when all is steady; a process for every number."""

from __future__ import annotations

from collections.abc import Iterator

from ..peers import OURS, sides
from ..tasks import Setting, Task
from ..workers import Worker, WorkerFailed
from ..workloads import WORKLOADS
from . import Options, Row


def run(options: Options) -> Iterator[Row]:
    """The rows. ``peak_bytes``: the resident set's high-water mark in three steps (training) or one pass, above what the
    process held before the model was made and after one observation had gone through it, so that libraries are loaded;
    ``model_bytes``: of it, weights and data. ``touched_bytes``: pages that a later step touched for the first time."""
    threads = max(options.threads)
    names = options.names or (("vit",) if options.quick else tuple(WORKLOADS))
    for name in names:
        for mode in options.modes[: 1 if options.quick else None]:
            network = WORKLOADS[name]
            row: Row = {"suite": "memory", "name": name, "what": network.what, "mode": mode, "batch": network.batch,
                        "threads": threads, "sides": {}}
            try:
                for side in sides(options.peers, "cpu"):
                    if side.takes(network):
                        setting = Setting(threads=threads, layout=side.layout)
                        with Worker(side, setting) as worker:
                            row["sides"][side.name] = one(worker, Task(network, mode))
            except WorkerFailed as error:
                row["error"] = str(error)
            else:
                row |= ratio(row["sides"])
            options.say(f"{name}, {mode}: " + (row.get("error") or ", ".join(
                f"{n} {s['peak_bytes'] / 1e6:.0f} MB" for n, s in row["sides"].items() if s.get("peak_bytes") is not None)))
            yield row


def one(worker: Worker, task: Task) -> Row:
    """A side's numbers."""
    worker.ask("prepare", task.of_batch(1), 1)
    found = worker.ask("prepare", task, 3)
    worker.ask("time", 1, 2)
    steady = worker.ask("time", 1, 3)
    return {key: found.get(key) for key in ("peak_bytes", "model_bytes")} | {
        key: steady[key] for key in ("touched_bytes", "fresh_bytes") if key in steady}


def ratio(found: dict[str, Row]) -> Row:
    """Our peak to the leanest layout of the first peer."""
    others = {name: side["peak_bytes"] for name, side in found.items() if name != OURS.name and side["peak_bytes"]}
    ours = found[OURS.name]["peak_bytes"]
    if not others or ours is None:
        return {}
    first = next(iter(others)).split()[0]
    best = min((n for n in others if n.split()[0] == first), key=lambda n: others[n])
    return {"best": best, "ratio": ours / others[best]}
