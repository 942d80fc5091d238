"""``python -m benchmarks.ranks``: what a training step takes on several ranks, measured and as a model says.

``rank_model.py`` has the formula, ``rank_worker.py`` measures its parameters, each by itself and in turns with the steps that
they predict; nothing is fitted to a step. Strong scaling shares one batch out, weak scaling gives every rank half of it. One
thread for each rank; where there are more ranks than cores they share them.

Then the same arithmetic for many GPUs, where network cards carry the sums beside the backward pass. Nothing of that was
measured: its numbers are assumptions, all of them arguments.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .machine import machine
from .rank_model import Cluster, Links, Work, parts, predicted
from .workloads import WORKLOADS

BATCHES = {"resnet18": 8, "vit": 8, "invres": 8}
"""Observations of all ranks, where they are not those of the workload."""
HOSTS = (1, 2, 4, 8, 16, 32, 64)
FASTER = (1, 4, 10)
"""The extrapolation is drawn also for steps that are so many times as fast: the less to compute, the less is hidden."""


def shares(name: str, scaling: str, n: int) -> int:
    """Observations of one rank."""
    batch = BATCHES.get(name, WORKLOADS[name].batch)
    return -(-batch // n) if scaling == "strong" else max(1, batch // 2)


def on_ranks(n: int, name: str, share: int, rounds: int, seconds: float = 0.25) -> dict[str, Any]:
    """What ``rank_worker`` measures on n ranks, in so many seconds for each measurement in a round."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    worker = ["-m", "benchmarks.rank_worker", name, str(share), str(rounds), str(seconds)]
    command = [str(mpiexec), "-n", str(n), sys.executable, *worker]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, env=environment)
    except FileNotFoundError:
        raise SystemExit(f"there is no {mpiexec}: pip install 'minitorch-flux[mpi]'") from None
    if done.returncode:
        raise SystemExit(f"{name} on {n} ranks failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def row_of(found: dict[str, Any], **about: Any) -> dict[str, Any]:
    """A row of results from what a worker measured."""
    if about["ranks"] == 1:
        found = found | {"plain": found["alone"], "ready": found["alone"], "sums": [0.0] * len(found["sizes"])}
    polling = max(0.0, about["ranks"] / found["cores"] - 1) * found.get("watched", 0.0)
    work = Work(found["alone"], found["plain"], found["ready"], found["exchanges"], polling)
    links = Links(found["sizes"], found["sums"])
    time = predicted(work, links)
    return {**about, "step_s": found["step"], "fastest_s": min(found["steps"]), "slowest_s": max(found["steps"]),
            "predicted_s": time, "error": time / found["step"] - 1, "parts_s": parts(work, links),
            "at_end_s": found.get("at_end"), "late_s": found.get("late", 0.0), "bytes": sum(found["exchanges"]),
            "waits": len(found["exchanges"]), "sum_sizes": list(found["sizes"]), "sums_s": found["sums"],
            "cores": found["cores"]}  # fmt: skip


def measure(names: Sequence[str], scalings: Sequence[str], ranks: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """A row for each workload, scaling and number of ranks; printed as they come."""
    rows = []
    for name in names:
        for scaling in scalings:
            for n in ranks:
                share = shares(name, scaling, n)
                rows.append(row_of(on_ranks(n, name, share, rounds), workload=name, scaling=scaling, ranks=n, share=share))
                print(line(rows[-1]), flush=True)
    return rows


COLUMNS = ("workload", "ranks x observations", "step, ms", "predicted, ms", "error", "alone", "crowding", "bookkeeping",
           "polling", "sums", "overlap saves")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def line(row: dict[str, Any]) -> str:
    """A row of the Markdown table; ``overlap saves``: against steps whose sums all begin after the backward pass."""
    pieces = " | ".join(f"{seconds * 1e3:.2f}" for seconds in row["parts_s"].values())
    saved = f"{(row['at_end_s'] - row['step_s']) * 1e3:+.2f}" if row["at_end_s"] else ""
    low, high = row["fastest_s"] * 1e3, row["slowest_s"] * 1e3
    return (f"| {row['workload']} | {row['ranks']} x {row['share']} | {row['step_s'] * 1e3:.2f} ({low:.2f} to {high:.2f}) | "
            f"{row['predicted_s'] * 1e3:.2f} | {row['error']:+.0%} | {pieces} | {saved} |")


def summary(rows: list[dict[str, Any]]) -> str:
    """The errors of all predictions for more than one rank."""
    errors = sorted(abs(row["error"]) for row in rows if row["ranks"] > 1)
    if not errors:
        return ""
    cores = rows[0]["cores"]
    inside = [abs(row["error"]) for row in rows if 1 < row["ranks"] <= cores]
    text = f"Relative error of the predictions: median {errors[len(errors) // 2]:.0%}, largest {errors[-1]:.0%}"
    return text + (f"; with a core for every rank at most {max(inside):.0%}." if inside else ".")


def cluster(o: argparse.Namespace, faster: float = 1.0) -> Cluster:
    """The hosts that the arguments describe."""
    return Cluster(o.gpu_step_ms / 1e3 / faster, o.gradient_mb * 1e6, (o.inside_us / 1e6, o.inside_gbs * 1e9),
                   (o.between_us / 1e6, o.between_gbs * 1e9))


def extrapolated(o: argparse.Namespace) -> str:
    """Steps on hosts of 8 GPUs, with what was assumed."""
    lines = ["Nothing of this was measured: no GPU took part. "
             f"Assumed: a step of {o.gpu_step_ms:g} ms on one GPU, two thirds of it the backward pass; {o.gradient_mb:g} MB of "
             f"gradients in buckets of 4 MiB; {o.inside_gbs:g} GB/s and {o.inside_us:g} us of a GPU inside its host (a ring), "
             f"{o.between_gbs:g} GB/s and {o.between_us:g} us of a host (the faster of ring and tree); the batch grows with "
             "the GPUs; nobody waits for a slow GPU.", "",
             "| hosts | GPUs | transfer, ms | of it not hidden, ms | step, ms | efficiency |", "|---" * 6 + "|"]
    for row in map(cluster(o).row, HOSTS):
        lines.append(f"| {row['hosts']} | {row['gpus']} | {row['moved_s'] * 1e3:.2f} | {row['exposed_s'] * 1e3:.2f} | "
                     f"{row['step_s'] * 1e3:.2f} | {row['efficiency']:.0%} |")
    return "\n".join(lines)


ASSUMED = (
    ("gpu-step-ms", 60.0, "a step on one GPU"),
    ("gradient-mb", 102.0, "gradients: ResNet-50 has 25.6 million parameters in float32"),
    ("inside-gbs", 300.0, "GB/s of a GPU inside a host: two thirds of NVLink 4's 450 in each direction, H100 data sheet"),
    ("inside-us", 5.0, "latency inside a host"),
    ("between-gbs", 50.0, "GB/s of a host: one port of 400 Gbit/s, ConnectX-7 data sheet; a DGX H100 has eight"),
    ("between-us", 15.0, "latency between hosts"),
)
"""The defaults of the extrapolation: name, value, what and whence. Those without a source are guesses of the usual size."""


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.ranks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=["lenet", "mlp", "resnet18"], metavar="WORKLOAD")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--scaling", nargs="+", choices=("strong", "weak"), default=["strong", "weak"])
    parser.add_argument("--rounds", type=int, default=5, help="turns of all measurements (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw ranks.png into this folder")
    for name, value, what in ASSUMED:
        parser.add_argument(f"--{name}", type=float, default=value, help=f"assumed: {what} (default: {value:g})")
    o = parser.parse_args(arguments)
    if unknown := [name for name in o.workloads if name not in WORKLOADS]:
        parser.error(f"there is no workload {unknown[0]!r}: choose from {', '.join(WORKLOADS)}")
    if min([*o.ranks, o.rounds]) < 1:
        parser.error("--ranks and --rounds must be at least 1")
    if o.plots:
        importlib.import_module("matplotlib")
    print(HEAD)
    rows = measure(o.workloads, o.scaling, o.ranks, o.rounds)
    print(f"\n{summary(rows)}\n\n{extrapolated(o)}")
    assumed = {name: getattr(o, name.replace("-", "_")) for name, *_ in ASSUMED}
    clusters = [cluster(o, faster) for faster in FASTER]
    found = {"machine": machine(), "rows": rows, "assumed": assumed,
             "extrapolated": [{"alone_s": c.step, **c.row(hosts)} for c in clusters for hosts in HOSTS]}
    if o.json:
        o.json.write_text(json.dumps(found, indent=1) + "\n")
    if o.plots:
        print(importlib.import_module(".plots.ranks", __package__).draw(found, o.plots))
    return 0


if __name__ == "__main__":
    sys.exit(main())
