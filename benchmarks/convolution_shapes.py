"""``python -m benchmarks.convolution_shapes``: convolutions of shapes drawn at random, every algorithm, and PyTorch.

Kernels of 1, 3, 5 or 7, strides of 1 and 2, 1 to 512 channels (hardly ever a multiple of 16), images of 3 to 112 pixels a side,
batches of 1 to 256, some groups and some depthwise ones; drawn again where a case has fewer than 2 or more than 1000 million
products. For each of them the three sums of the triad. First what the table takes is held against PyTorch's results; then the
sides take turns in processes of their own with the same number of threads, PyTorch with its memory contiguous and channels
last, minitorch_flux with the algorithm that ops/convolution_table.py takes and with every other that can compute the case.

``ratio``: the taken algorithm's time by that of PyTorch's better layout. ``regret``: by that of our own best.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

PASSES = ("forward", "data", "filter")
LEAST, MOST = 2e6, 1e9  # products of a case
TURN = 0.02  # seconds that an algorithm runs in a turn, and twice at least


@dataclass(frozen=True)
class Shape:
    """A convolution: x (n, c, *image), w (o, c / groups, k, k)."""

    n: int
    c: int
    o: int
    image: tuple[int, int]
    k: int
    stride: int
    pad: int
    groups: int

    @property
    def result(self) -> tuple[int, int]:
        """Sizes of y."""
        h, w = ((i + 2 * self.pad - self.k) // self.stride + 1 for i in self.image)
        return h, w

    @property
    def products(self) -> int:
        """How many numbers one of the sums multiplies."""
        return self.n * self.o * self.c // self.groups * self.k**2 * math.prod(self.result)

    def __str__(self) -> str:
        groups = f" /{self.groups}" if self.groups > 1 else ""
        where = f"{self.n}x{self.c}x{self.image[0]}x{self.image[1]}"
        return f"{where} to {self.o}{groups}, {self.k}x{self.k} s{self.stride} p{self.pad}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, w and y, standard normal."""
        rng = np.random.default_rng(0)
        shapes = (self.n, self.c, *self.image), (self.o, self.c // self.groups, self.k, self.k), (self.n, self.o, *self.result)
        x, w, y = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        return x, w, y


def draw(count: int, seed: int) -> list[Shape]:
    """So many shapes; the same for the same seed."""
    rng = np.random.default_rng(seed)

    def between(low: int, high: int) -> int:
        """Evenly in the logarithm."""
        return int(math.exp(rng.uniform(math.log(low), math.log(high + 1))))

    shapes: list[Shape] = []
    while len(shapes) < count:
        k, stride = int(rng.choice([1, 3, 5, 7], p=[0.25, 0.5, 0.15, 0.1])), int(rng.choice([1, 2], p=[0.7, 0.3]))
        n, c, o, image = between(1, 256), between(1, 512), between(1, 512), (between(3, 112), between(3, 112))
        pad, kind, groups = int(rng.choice([0, k // 2], p=[0.2, 0.8])), rng.random(), 1
        if kind < 0.1:
            groups = c
            o = c * int(rng.choice([1, 1, 2]))
        elif kind < 0.2:
            groups = int(rng.choice([2, 4, 8]))
            c, o = -(-c // groups) * groups, -(-o // groups) * groups
        shape = Shape(n, c, o, image, k, stride, pad, groups)
        if min(image) + 2 * pad >= k and LEAST <= shape.products <= MOST:
            shapes.append(shape)
    return shapes


# -- one side, in a process of its own ---------------------------------------------------------------------------------

Calls = dict[tuple[str, str], Callable[[], Any]]


def ours(shape: Shape) -> tuple[Calls, dict[str, str]]:
    """What can be called for each (passing, algorithm), and what the table takes."""
    from minitorch_flux.ops.convolution_kernels import ALGORITHMS
    from minitorch_flux.ops.convolution_table import POSSIBLE, Case, algorithm_for
    from minitorch_flux.ops.geometry import window

    x, w, y = shape.arrays()
    box = window("shape", (shape.k, shape.k), shape.stride, shape.pad, 1, shape.groups)
    sides = {"forward": (x, w, box, shape.result), "data": (y, w, box, shape.image), "filter": (x, y, box)}
    calls: Calls = {}
    taken = {}
    for i, passing in enumerate(PASSES):
        each = shape.c // shape.groups, shape.o // shape.groups
        case = passing, box, "float32", shape.n, *each, shape.image, shape.result, True
        taken[passing] = algorithm_for(*case)
        for name, possible in POSSIBLE.items():
            if possible(Case(*case)):
                calls[passing, name] = functools.partial(ALGORITHMS[name][i], *sides[passing])
    return calls, taken


def theirs(shape: Shape) -> tuple[Calls, dict[str, str]]:
    """The same in PyTorch: its memory formats are its algorithms."""
    import torch

    calls: Calls = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
        x, w, y = (torch.from_numpy(a).to(memory_format=layout) for a in shape.arrays())
        pair = [shape.stride] * 2, [shape.pad] * 2

        back = functools.partial(
            torch.ops.aten.convolution_backward, y, x, w, None, *pair, [1, 1], False, [0, 0], shape.groups
        )
        calls["forward", name] = functools.partial(torch.conv2d, x, w, None, shape.stride, shape.pad, 1, shape.groups)
        calls["data", name] = functools.partial(back, [True, False, False])
        calls["filter", name] = functools.partial(back, [False, True, False])
    return calls, {}


def fastest(f: Callable[[], Any]) -> float:
    """Seconds of the fastest of some calls."""
    f()
    times: list[float] = []
    while len(times) < 2 or sum(times) < TURN:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def side(name: str, threads: int, shapes: list[Shape]) -> None:
    """Print one line of JSON for every shape: seconds by passing and algorithm, and what was taken."""
    if name == "torch":
        import torch

        torch.set_num_threads(threads)
    else:
        import minitorch_flux

        minitorch_flux.set_num_threads(threads)
    for shape in shapes:
        calls, taken = (theirs if name == "torch" else ours)(shape)
        print(json.dumps({"times": [[*key, fastest(f)] for key, f in calls.items()], "taken": taken}), flush=True)


def run(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A side's lines."""
    threads = str(options.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-m", "benchmarks.convolution_shapes", "--side", name, "--threads", threads]
    command += ["--count", str(options.count), "--seed", str(options.seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parent.parent)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


# -- both sides --------------------------------------------------------------------------------------------------------


def validate(shape: Shape) -> float:
    """The largest difference from PyTorch, by the largest number; SystemExit where it is no rounding.

    Every algorithm is held against it, not the taken one alone.
    """
    (calls, _), (peers, _), worst = ours(shape), theirs(shape), 0.0
    for passing in PASSES:
        result = peers[passing, "contiguous"]()
        want = (result if passing == "forward" else result[PASSES.index(passing) - 1]).numpy()
        for (which, name), call in calls.items():
            if which == passing:
                difference = float(np.abs(call() - want).max() / np.abs(want).max())
                if not difference < 1e-3:
                    raise SystemExit(f"{shape}: {name} for {passing} differs from PyTorch by {difference:.1e}")
                worst = max(worst, difference)
    return worst


def rows_of(shapes: list[Shape], turns: dict[str, list[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """One row for every sum of every shape: the fastest time of each algorithm over all turns, ratio and regret."""
    rows = []
    for i, shape in enumerate(shapes):
        times: dict[str, dict[str, dict[str, float]]] = {p: {"flux": {}, "torch": {}} for p in PASSES}
        for name, lines in turns.items():
            for line in lines:
                for passing, algorithm, seconds in line[i]["times"]:
                    found = times[passing][name]
                    found[algorithm] = min(seconds, found.get(algorithm, math.inf))
        for passing in PASSES:
            mine, peer, taken = times[passing]["flux"], times[passing]["torch"], turns["flux"][0][i]["taken"][passing]
            best = min(mine, key=mine.__getitem__)
            rows.append({
                "shape": asdict(shape), "name": str(shape), "pass": passing, "taken": taken, "best": best,
                "ms": mine[taken] * 1e3, "torch_ms": min(peer.values()) * 1e3, "torch_layout": min(peer, key=peer.__getitem__),
                "gflops": 2e-9 * shape.products / mine[taken], "ratio": mine[taken] / min(peer.values()),
                "regret": mine[taken] / mine[best], "ours_ms": {name: t * 1e3 for name, t in mine.items()},
            })  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, worst and geometric mean of ratio and regret, by pass and over all."""
    found = {}
    for passing in (*PASSES, "all"):
        some = [r for r in rows if passing in (r["pass"], "all")]
        found[passing] = {
            f"{what}_{kind}": f([r[what] for r in some])
            for what in ("ratio", "regret")
            for kind, f in (("median", statistics.median), ("worst", max), ("mean", statistics.geometric_mean))
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.convolution_shapes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="shapes (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--rounds", type=int, default=2, help="how often the sides take turns (default 2)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of both sides")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--side", choices=("flux", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    shapes = draw(options.count, options.seed)
    if options.side:
        side(options.side, options.threads, shapes)
        return 0
    worst = max(validate(shape) for shape in shapes)
    print(f"all algorithms agree with PyTorch on {len(shapes)} shapes: within {worst:.0e} of the largest number\n")
    turns: dict[str, list[list[dict[str, Any]]]] = {"flux": [], "torch": []}
    for _ in range(options.rounds):
        for name, lines in turns.items():
            lines.append(run(name, options))
    rows = rows_of(shapes, turns)
    print("| shape | pass | taken | ms | GFLOP/s | PyTorch, ms | ratio | our best | regret |\n" + "|---" * 9 + "|")
    for r in sorted(rows, key=lambda r: -r["ratio"]):
        print(f"| {r['name']} | {r['pass']} | {r['taken']} | {r['ms']:.2f} | {r['gflops']:.0f} | {r['torch_ms']:.2f} | "
              f"**{r['ratio']:.2f}** | {r['best']} | {r['regret']:.2f} |")
    found = summary(rows)
    print("\n| pass | ratio: median | mean | worst | regret: median | mean | worst |\n" + "|---" * 7 + "|")
    for passing, s in found.items():
        print(f"| {passing} | **{s['ratio_median']:.2f}** | {s['ratio_mean']:.2f} | {s['ratio_worst']:.2f} | "
              f"{s['regret_median']:.2f} | {s['regret_mean']:.2f} | {s['regret_worst']:.2f} |")
    if options.json:
        setting = {"threads": options.threads, "seed": options.seed, "rounds": options.rounds}
        options.json.write_text(json.dumps({"setting": setting, "summary": found, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
