"""What is paid before any arithmetic: by op, by layer, by step, at import, at the first call, and when kernels are built."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

from ..op_cases import layer
from ..peers import OURS, Side, sides
from ..tasks import Task
from ..workers import Worker
from ..workloads import WORKLOADS
from . import Options, Row, rows_of

SMALL = [  # so little work that all of the time is overhead
    layer("add of 4 numbers", "an op", "op", ("function", "add"), (1, 4)),
    layer("relu of 4 numbers", "an op", "op", ("function", "relu"), (1, 4)),
    layer("sum of 4 numbers", "an op", "op", ("function", "sum"), (1, 4)),
    layer("softmax of 4 numbers", "an op", "op", ("function", "softmax"), (1, 4)),
    layer("dense 2-2", "a layer", "layer", ("dense", 2, 2, "relu"), (1, 2)),
    layer("conv 3x3, 1-1, 4x4", "a layer", "layer", ("conv", 1, 1, 3, 1, "relu"), (1, 1, 4, 4)),
    layer("layer norm 4", "a layer", "layer", ("norm", 4), (2, 4)),
    layer("lstm 2-2, 2 steps", "a layer", "layer", ("lstm", 2, 2), (2, 1, 2)),
]


def run(options: Options) -> Iterator[Row]:
    """The rows of small tasks, then those of whole processes, whose times are in seconds."""
    small = SMALL[::3] if options.quick else SMALL
    with options.team(1, [case.network for case in small]) as team:
        for case in small:
            yield from rows_of(team, [Task(case.network, m) for m in ("infer", "gradient")], options, suite="overhead",
                               threads=1, kind=case.family)
        steps = [Task(WORKLOADS["tiny"], mode) for mode in ("train", "infer")]
        yield from rows_of(team, steps, options, suite="overhead", threads=1, kind="step")
    captured = replace(options, setting=replace(options.setting, capture=True), peers=())
    step = Task(replace(WORKLOADS["tiny"], name="tiny, captured"), "train")
    with captured.team(1, [step.network]) as team:
        yield from rows_of(team, [step], captured, suite="overhead", threads=1, kind="step")
    yield from _processes(options)


def _processes(options: Options) -> Iterator[Row]:
    tries = 1 if options.quick else 3
    names = [OURS.name, *(p.name for p in options.peers)]
    found: dict[str, list[float]] = {name: [] for name in [*names, "numpy"]}
    for _ in range(tries):
        for name, seconds in found.items():
            seconds.append(import_seconds(name))
    numpy = statistics.median(found.pop("numpy"))
    yield _row("import, beyond NumPy's", options, {n: statistics.median(s) - numpy for n, s in found.items()})
    first, threads = {}, max(options.threads)
    for side in sides(options.peers):
        if side.layout == "contiguous":
            first[side.peer.name] = _first_call(options, side, threads)
    yield _row("first training step of LeNet, kernels built before", options, first)
    workload = "tiny" if options.quick else "lenet"
    with tempfile.TemporaryDirectory() as cache:
        built = _first_call(options, sides(())[0], threads, {"MINITORCH_FLUX_CACHE": cache}, workload)
        again = _first_call(options, sides(())[0], threads, {"MINITORCH_FLUX_CACHE": cache}, workload)
    yield _row(f"building the kernels of {workload}", options, {OURS.name: built - again})


def _row(name: str, options: Options, seconds: dict[str, float]) -> Row:
    options.say(f"{name}: " + ", ".join(f"{n} {s:.2f} s" for n, s in seconds.items()))
    return {"suite": "overhead", "kind": "process", "name": name, "mode": "once", "batch": 0, "threads": max(options.threads),
            "seconds": seconds}


def import_seconds(name: str) -> float:
    """Of a process that imports a package and ends."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", f"import {name}"], check=True, env=environment)
    return time.perf_counter() - start


def _first_call(options: Options, side: Side, threads: int, environment: dict[str, str] | None = None,
                workload: str = "lenet") -> float:
    with Worker(side, replace(options.setting, threads=threads), environment) as worker:
        return float(worker.ask("prepare", Task(WORKLOADS[workload], "train"), 1)["first_s"])
