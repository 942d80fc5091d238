"""Whole models: training steps and inference, at their own batch and at others."""

from __future__ import annotations

from collections.abc import Iterator

from ..tasks import Task
from ..workloads import WORKLOADS
from . import Options, Row, rows_of


def tasks(options: Options) -> list[Task]:
    """Every workload in every mode at every batch, each once."""
    found = {}
    for name in options.names or WORKLOADS:
        for mode in options.modes:
            for text in options.batches:
                network = WORKLOADS[name]
                batch = network.batch if text == "own" else int(text)
                found[name, mode, batch] = Task(network, mode).of_batch(batch)
    return list(found.values())


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    for threads in options.threads:
        wanted = tasks(options)
        with options.team(threads, (task.network for task in wanted)) as team:
            yield from rows_of(team, wanted, options, suite="workloads", threads=threads)
            options.say(f"out of turn: {idle(team.idle_cpu())}")


def idle(seconds: dict[str, float]) -> str:
    """How much the sides computed while others had their turn."""
    return ", ".join(f"{name} {s:.2f} s" for name, s in seconds.items()) + " of processor time"
