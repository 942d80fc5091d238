"""Timing several sides on one task: they agree first, then they take turns, A B C A B C."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from .peers import OURS
from .tasks import Task
from .workers import Team, WorkerFailed

TOLERANCE = {"train": 1e-2, "infer": 1e-3, "gradient": 2e-3, "update": 1e-3}
"""How far answers may be apart, relative to the largest: ten steps of training multiply what rounding begins."""


@dataclass(frozen=True)
class Plan:
    """How long: ``rounds`` turns of every side, ``blocks`` timed blocks in a turn of about ``seconds`` each, and ``answers``
    steps whose losses are compared before."""

    rounds: int = 5
    blocks: int = 2
    seconds: float = 0.1
    answers: int = 10


class Difference(Exception):
    """Two sides do not do the same work: nothing is timed."""


def difference(task: Task, ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest relative difference of two sides' answers; raises ``Difference`` where they do not do the same work."""
    what = f"{task.network.name}, {task.mode}: the sides do not do the same work"
    if [a.shape for a in ours] != [a.shape for a in theirs]:
        raise Difference(f"{what}: shapes {[a.shape for a in ours]} and {[a.shape for a in theirs]}")
    worst = 0.0
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        a, b = a.astype(np.float64), b.astype(np.float64)
        if task.mode == "train":  # every loss by itself
            apart = float(np.max(abs(a - b) / np.maximum(abs(b), 0.1), initial=0.0))
        else:
            apart = float(np.max(abs(a - b), initial=0.0) / max(np.max(abs(b), initial=0.0), 1e-6))
        if not apart <= TOLERANCE[task.mode]:  # NaN, too
            shown = f"losses {a.tolist()} and {b.tolist()}" if task.mode == "train" else f"array {i} differs by {apart:.3g}"
            raise Difference(f"{what}: {shown}")
        worst = max(worst, apart)
    return worst


def measure(team: Team, task: Task, plan: Plan) -> dict[str, Any]:
    """A row of results: validation, then median, spread and ratio of every side. Raises ``Difference``, ``WorkerFailed``."""
    prepared, absent = {}, {}
    for name, worker in team.workers.items():
        if not worker.side.takes(task.network):
            continue
        try:
            found = worker.ask("prepare", task, plan.answers)
        except WorkerFailed as error:  # what a peer cannot do does not end the others
            if name == OURS.name or not worker.alive:
                raise
            found = {"absent": str(error).splitlines()[-1]}
        if "absent" in found:
            absent[name] = found["absent"]
        else:
            prepared[name] = found
    ours = prepared[OURS.name]["answers"]
    apart = [difference(task, ours, found["answers"]) for name, found in prepared.items() if name != OURS.name]
    idle = {name: team.workers[name].ask("idle_cpu") for name in prepared}
    calls = {name: team.workers[name].ask("calibrate", plan.seconds) for name in prepared}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in prepared}
    for _ in range(plan.rounds):
        for name in prepared:
            turns[name].append(team.workers[name].turn(calls[name], plan.blocks))
    sides = {name: summary(turns[name], prepared[name]) for name in prepared}
    for name in prepared:
        sides[name]["idle_cpu_s"] = team.workers[name].ask("idle_cpu") - idle[name]
        team.workers[name].ask("drop")
    row: dict[str, Any] = {
        "name": task.network.name, "what": task.network.what, "mode": task.mode, "batch": task.network.batch, "sides": sides,
        "output_shape": list(ours[0].shape), "difference": max(apart, default=None),
    }  # fmt: skip
    return row | ratios(sides, [w.side.peer.name for w in team.workers.values()]) | ({"absent": absent} if absent else {})


def summary(turns: list[dict[str, Any]], prepared: dict[str, Any]) -> dict[str, Any]:
    """A side's numbers: the median of its turns' medians, the least and the largest of them, the first call apart."""
    medians = [statistics.median(turn["seconds"]) * 1e3 for turn in turns]
    found = {
        "ms": statistics.median(medians), "min_ms": min(medians), "max_ms": max(medians), "turns_ms": medians,
        "first_s": prepared["first_s"], "touched_bytes": statistics.median(turn["touched_bytes"] for turn in turns),
    }  # fmt: skip
    if "fresh_bytes" in turns[0]:
        found["fresh_bytes"] = statistics.median(turn["fresh_bytes"] for turn in turns)
    return found | {key: prepared[key] for key in ("model_bytes", "peak_bytes") if key in prepared}


def ratios(sides: dict[str, dict[str, Any]], peers: list[str]) -> dict[str, Any]:
    """Ours to each other side, turn by turn: median, least and largest; ``best`` is the fastest layout of the first peer
    that takes part, and ``ratio`` the one to it. Below 1 we are faster."""
    ours = sides[OURS.name]["turns_ms"]
    found = {}
    for name, side in sides.items():
        if name != OURS.name:
            each = sorted(a / b for a, b in zip(ours, side["turns_ms"], strict=True))
            middle = math.sqrt(each[(len(each) - 1) // 2] * each[len(each) // 2])  # of two the geometric mean: they are ratios
            found[name] = {"median": middle, "min": each[0], "max": each[-1]}
    for peer in dict.fromkeys(peers):
        layouts = [name for name in found if name.split()[0] == peer]
        if layouts:
            best = min(layouts, key=lambda name: sides[name]["ms"])
            return {"ratios": found, "best": best, "ratio": found[best]["median"]}
    return {"ratios": found}
