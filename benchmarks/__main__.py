"""``python -m benchmarks``: training steps side by side with PyTorch, as ratios.

The sides take turns, A B A B, each time in a fresh process with the same number of threads; their losses over ten steps must
agree before a time counts. A ratio below 1 means that minitorch_flux is faster.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from .workloads import WORKLOADS


def run_side(side: str, name: str, blocks: int, threads: int) -> dict[str, Any]:
    """Measure one side in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-m", "benchmarks.side", side, name, str(blocks), str(threads)],
                          capture_output=True, text=True, env=environment, cwd=Path(__file__).parent.parent)
    if done.returncode:
        raise SystemExit(f"{side} failed on {name}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, rounds: int, blocks: int, threads: int) -> dict[str, Any]:
    """Both sides of one workload in turn: medians over all blocks, and the ratio of each round."""
    sides: dict[str, list[dict[str, Any]]] = {"flux": [], "torch": []}
    for _ in range(rounds):
        for side in sides:
            sides[side].append(run_side(side, name, blocks, threads))
    ours, theirs = sides["flux"][0]["losses"], sides["torch"][0]["losses"]
    worst = max(abs(a - b) / max(abs(b), 1e-3) for a, b in zip(ours, theirs, strict=True))
    if worst > 1e-2:
        raise SystemExit(f"{name}: the sides do not do the same work: losses {ours} and {theirs}")
    medians = {side: [statistics.median(r["step_s"]) for r in runs] for side, runs in sides.items()}
    ratios = sorted(a / b for a, b in zip(medians["flux"], medians["torch"], strict=True))
    return {
        "workload": name,
        "what": WORKLOADS[name].what,
        "flux_ms": statistics.median(medians["flux"]) * 1e3,
        "torch_ms": statistics.median(medians["torch"]) * 1e3,
        "ratio": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "loss_difference": worst,
        "flux_first_call_s": sides["flux"][0]["first_call_s"],
        "new_bytes_per_step": sides["flux"][0]["new_bytes_per_step"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    head = "| workload | what | minitorch_flux, ms | PyTorch, ms | ratio (min to max) | new bytes a step |"
    lines = [head, "|" + "---|" * 6]
    lines += [f"| {r['workload']} | {r['what']} | {r['flux_ms']:.3f} | {r['torch_ms']:.3f} | **{r['ratio']:.2f}** "
              f"({r['ratio_min']:.2f} to {r['ratio_max']:.2f}) | {r['new_bytes_per_step']:.0f} |" for r in rows]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=f"any of: {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often the sides take turns (default 5)")
    parser.add_argument("--blocks", type=int, default=7, help="timed blocks per turn (default 7)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of both sides")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    unknown = [w for w in options.workloads if w not in WORKLOADS]
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}: choose from {', '.join(WORKLOADS)}")
    if importlib.util.find_spec("torch") is None:
        parser.error("PyTorch, the peer of these measurements, is not installed: pip install torch")
    rows = []
    for name in options.workloads:
        rows.append(compare(name, options.rounds, options.blocks, options.threads))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + table(rows))
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "threads": options.threads,
                   "python": platform.python_version()}
        options.json.write_text(json.dumps({"machine": machine, "results": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
