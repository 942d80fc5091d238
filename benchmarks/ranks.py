"""``python -m benchmarks.ranks``: what a training step takes on several ranks, measured and as a model says.

The model, for a batch of B observations on n ranks of a machine with c cores, one thread each::

    T(n) = max(1, n / c) step(ceil(B / n)) + 2 (n - 1) (k alpha + M / (n beta)) + s alpha(n)

``step(b)``: the time of one process alone for b observations, measured. The second term is the sum of the gradients as a ring
makes it: M bytes in k buckets, ``alpha`` seconds to start a message and ``beta`` bytes a second, both fitted to sums of one
number and of 4 MiB on n ranks. ``s`` is the number of small agreements in a step, each as long as a sum of one number.
Nothing of it is hidden behind the backward pass: between processes of one machine the cores that compute also carry.

The same formula, with the transfer hidden where the network card carries it, is what the extrapolation to many GPUs prints; its
numbers are assumptions, all of them arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SMALL, LARGE = 8, 4 << 20
AGREEMENTS = 3
"""Small exchanges in a step: the number of observations, the losses, who has a gradient."""


def timed(f: Callable[[], Any], repeats: int) -> float:
    """The median of the seconds that ``f()`` takes, after three calls that do not count."""
    seconds = []
    for i in range(repeats + 3):
        start = time.perf_counter()
        f()
        if i >= 3:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def worker(name: str, repeats: int) -> None:
    """On every rank: the step on this rank's share, and sums of two sizes; rank 0 prints them."""
    import minitorch_flux as flux
    from minitorch_flux import distributed

    from .peers.flux import chain
    from .workloads import WORKLOADS

    group = distributed.init()
    w = WORKLOADS[name]
    flux.seed(1)
    model = distributed.synchronize(distributed.sync_batch_norms(chain(w.layers)))
    opt = flux.setup(flux.Adam(1e-3), model)
    x, y = (np.array_split(a, group.size)[group.rank] for a in w.data())

    def loss(m: Any) -> Any:
        return flux.losses.logitcrossentropy(m(x), y)

    def step() -> None:
        _, grads = distributed.withgradient(loss, model, len(x))
        flux.update(opt, model, grads)

    def summing(nbytes: int) -> Callable[[], Any]:
        a = np.zeros(nbytes // 4, np.float32)
        return lambda: group.sum(a)

    result = {"step": timed(step, repeats), "small": timed(summing(SMALL), 50), "large": timed(summing(LARGE), 10),
              "bytes": sum(4 * p.size for p in model.parameters())}
    if group.rank == 0:
        print(json.dumps(result), flush=True)


def on_ranks(n: int, name: str, repeats: int) -> dict[str, float]:
    """What ``worker`` measures on n ranks."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [str(mpiexec), "-n", str(n), sys.executable, "-m", "benchmarks.ranks", "--worker", name, "--steps", str(repeats)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} on {n} ranks failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def alone(name: str, batch: int, repeats: int) -> float:
    """The step of one process for a batch of this many observations."""
    import minitorch_flux as flux

    from .peers.flux import chain
    from .workloads import WORKLOADS

    flux.set_num_threads(1)
    flux.seed(1)
    w = WORKLOADS[name]
    model = chain(w.layers)
    opt = flux.setup(flux.Adam(1e-3), model)
    x, y = (a[:batch] for a in w.data())

    def step() -> None:
        _, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), model)
        flux.update(opt, model, grads)

    return timed(step, repeats)


def transfer(n: int, nbytes: float, buckets: int, alpha: float, beta: float) -> float:
    """Seconds of the sum of ``nbytes`` over n ranks in a ring."""
    return 2 * (n - 1) * (buckets * alpha + nbytes / (n * beta))


def predicted(n: int, step: float, cores: int, nbytes: float, small: float, large: float) -> float:
    """The model's step: ``small`` and ``large`` are the seconds of sums of 8 bytes and of 4 MiB on n ranks."""
    if n == 1:
        return step
    alpha = small / (2 * (n - 1))
    beta = LARGE / n / max((large - small) / (2 * (n - 1)), 1e-9)
    buckets = max(1, -(-int(nbytes) // (4 << 20)))
    return max(1.0, n / cores) * step + transfer(n, nbytes, buckets, alpha, beta) + AGREEMENTS * small


def measure(names: list[str], ranks: list[int], repeats: int) -> list[dict[str, Any]]:
    """Measured and predicted steps, one row for each workload and number of ranks."""
    from .workloads import WORKLOADS

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows = []
    for name in names:
        for n in ranks:
            found = on_ranks(n, name, repeats)
            share = -(-WORKLOADS[name].batch // n)
            model = predicted(n, alone(name, share, repeats), cores, found["bytes"], found["small"], found["large"])
            rows.append({"workload": name, "ranks": n, "step_s": found["step"], "predicted_s": model,
                         "sum_of_one_number_s": found["small"], "sum_of_4_mib_s": found["large"]})
            print(row_text(rows[-1]), flush=True)
    return rows


def row_text(row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    ms = [f"{row[k] * 1e3:.2f}" for k in ("step_s", "predicted_s")]
    small, large = row["sum_of_one_number_s"] * 1e6, row["sum_of_4_mib_s"] * 1e3
    ratio = row["predicted_s"] / row["step_s"]
    return f"| {row['workload']} | {row['ranks']} | {ms[0]} | {ms[1]} | {ratio:.2f} | {small:.0f} | {large:.2f} |"


HEAD = "| workload | ranks | step, ms | predicted, ms | ratio | sum of one number, us | sum of 4 MiB, ms |\n" + "|---" * 7 + "|"


def extrapolated(o: argparse.Namespace) -> str:
    """Steps on hosts of 8 GPUs: the sum within each host, then between the hosts, behind the backward pass."""
    lines = [f"Assumed: a step of {o.gpu_step_ms:g} ms on one GPU, two thirds of it the backward pass; {o.gradient_mb:g} MB of "
             f"gradients in buckets of 4 MiB; {o.inside_gbs:g} GB/s and {o.inside_us:g} us inside a host, "
             f"{o.between_gbs:g} GB/s of a host and {o.between_us:g} us between hosts; the batch grows with the GPUs.", "",
             "| hosts | GPUs | transfer, ms | of it not hidden, ms | step, ms | efficiency |", "|---" * 6 + "|"]
    nbytes, step = o.gradient_mb * 1e6, o.gpu_step_ms / 1e3
    buckets = max(1, -(-int(nbytes) // (4 << 20)))
    for hosts in (1, 2, 4, 8, 16, 32, 64):
        moved = transfer(8, nbytes, buckets, o.inside_us / 1e6, o.inside_gbs * 1e9)
        moved += transfer(hosts, nbytes, buckets, o.between_us / 1e6, o.between_gbs * 1e9)
        left = max(moved / buckets, moved - step * 2 / 3)  # the last bucket has nothing to hide behind
        lines.append(f"| {hosts} | {hosts * 8} | {moved * 1e3:.2f} | {left * 1e3:.2f} | {(step + left) * 1e3:.2f} | "
                     f"{step / (step + left):.0%} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.ranks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=["mlp", "lenet", "resnet18"])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=15, help="steps whose median counts (default 15)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    for name, value, what in (("gpu-step-ms", 60.0, "a step on one GPU"), ("gradient-mb", 102.0, "gradients (ResNet-50: 102)"),
                              ("inside-gbs", 300.0, "GB/s inside a host"), ("inside-us", 5.0, "latency inside a host"),
                              ("between-gbs", 50.0, "GB/s of a host"), ("between-us", 15.0, "latency between hosts")):
        parser.add_argument(f"--{name}", type=float, default=value, help=f"assumed for the extrapolation: {what} ({value:g})")
    options = parser.parse_args(arguments)
    if options.worker:
        worker(options.worker, options.steps)
        return 0
    print(HEAD)
    rows = measure(options.workloads, options.ranks, options.steps)
    print("\n" + extrapolated(options))
    if options.json:
        options.json.write_text(json.dumps({"results": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
