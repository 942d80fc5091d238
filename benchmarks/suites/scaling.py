"""How time and memory grow with the batch, the depth, the width, the length of a sequence and the threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..peers import OURS
from ..tasks import Network, Task
from ..workloads import WORKLOADS, encoder_blocks
from . import Options, Row, rows_of


@dataclass(frozen=True)
class Sweep:
    """Networks that differ in one size. ``power``: the time of a step is expected to grow with it at most so."""

    name: str
    axis: str
    power: float
    sizes: tuple[int, ...]
    make: Callable[[int], Network]
    mode: str = "train"


def _deep(n: int) -> Network:
    return Network("deep", f"{n} dense layers of 64", (("dense", 64, 64, "relu"),) * n, (64,), 64, 64)


def _wide(n: int) -> Network:
    return Network("wide", f"dense {n}-{n}-{n}", (("dense", n, n, "relu"), ("dense", n, n, None)), (n,), n, 64)


def _long(n: int) -> Network:
    return replace(WORKLOADS["lstm"], input_shape=(n,), batch=8, what=f"{n} characters")


def _tokens(n: int) -> Network:
    layers = (*encoder_blocks(1, 64, 2), ("mean", (1,)), ("dense", 64, 10, None))
    return Network("encoder", f"an encoder block, 64 wide, {n} tokens", layers, (n, 64), 10, 4)


SWEEPS = [
    Sweep("batch of LeNet", "batch", 1, (1, 4, 16, 64, 256, 1024), lambda n: replace(WORKLOADS["lenet"], batch=n)),
    Sweep("batch of an LSTM", "batch", 1, (1, 4, 16, 64, 256),
          lambda n: replace(WORKLOADS["lstm"], input_shape=(16,), batch=n)),
    Sweep("depth", "layers", 1, (4, 16, 64, 256, 1024), _deep),
    Sweep("width", "width", 2, (64, 128, 256, 512, 1024, 2048), _wide),
    Sweep("sequence of an LSTM", "steps", 1, (8, 32, 128, 512), _long),
    Sweep("tokens of an encoder", "tokens", 2, (16, 64, 256, 1024), _tokens),
]


def exponent(sizes: list[float], values: list[float]) -> float:
    """The slope of log(value) over log(size) of the larger half, at least three points: what growth tends to."""
    n = max(3, math.ceil(len(sizes) / 2))
    x, y = np.log(sizes[-n:]), np.log(np.maximum(values[-n:], 1e-12))
    return float(np.polyfit(x, y, 1)[0])


def cliff(sizes: list[float], values: list[float], power: float) -> float:
    """The largest factor by which the cost, divided by size ** power, rises from one size to the next: about 1 has no cliff."""
    each = [v / s**power for s, v in zip(sizes, values, strict=True)]
    return max((b / a for a, b in zip(each, each[1:], strict=False)), default=1.0)


def run(options: Options) -> Iterator[Row]:
    """A row for each size, then for each sweep a row with its exponents; with the threads last."""
    threads = max(options.threads)
    with options.team(threads, (sweep.make(1) for sweep in SWEEPS)) as team:
        for sweep in SWEEPS:
            sizes = sweep.sizes[: 3 if options.quick else None]
            about = {"suite": "scaling", "threads": threads, "sweep": sweep.name, "axis": sweep.axis}
            rows: list[Row] = []
            for worker in team.workers.values():  # loads libraries and kernels, which are none of the smallest size's memory
                worker.ask("prepare", Task(sweep.make(sizes[0]), sweep.mode), 1)
            for n in sizes:
                rows += rows_of(team, [Task(sweep.make(n), sweep.mode)], options, **about, size=n)
                yield rows[-1]
            yield fit(sweep, rows, threads)
    yield from _threads(options)


def fit(sweep: Sweep, rows: list[Row], threads: int) -> Row:
    """The sweep in a row: exponents of time and memory of each side, and the steepest step."""
    good = [row for row in rows if "error" not in row]
    found: Row = {"suite": "scaling", "kind": "fit", "sweep": sweep.name, "axis": sweep.axis, "power": sweep.power,
                  "threads": threads, "sides": {}}
    for name in good[0]["sides"] if len(good) > 2 else ():
        at = [row for row in good if name in row["sides"]]
        sizes = [float(row["size"]) for row in at]
        times = [row["sides"][name]["ms"] for row in at]
        line = {"time": exponent(sizes, times), "cliff": cliff(sizes, times, sweep.power)}
        memory = [row["sides"][name].get("peak_bytes", 0) for row in at]
        if all(memory):
            line["memory"] = exponent(sizes, memory)
        found["sides"][name] = line
    if ours := found["sides"].get(OURS.name):
        found["as_expected"] = ours["time"] <= sweep.power + 0.15
    return found


def _threads(options: Options) -> Iterator[Row]:
    cores = len(os.sched_getaffinity(0))
    for n in sorted({1, cores, *(2**i for i in range(1, 10) if 2**i < cores)}):
        names = ("mlp", "vit") if options.quick else ("mlp", "lenet", "invres", "vit")
        with options.team(n, map(WORKLOADS.__getitem__, names)) as team:
            for name in names:
                yield from rows_of(team, [Task(WORKLOADS[name], "train")], options, suite="scaling", threads=n,
                                   sweep=f"threads, {name}", axis="threads", size=n)
