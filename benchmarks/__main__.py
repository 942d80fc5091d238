"""``python -m benchmarks``: training steps side by side with PyTorch, as ratios.

The sides take turns, A B A B, each time in a fresh process with the same number of threads; their losses over ten steps must
agree before a time counts. A ratio below 1 means that minitorch_flux is faster. With ``--device gpu`` both sides compute on
the same GPU, PyTorch with cuDNN, both in full float32 unless ``--tf32`` lets both round, and device events take the time.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from .workloads import WORKLOADS, Setting


def run_side(side: str, name: str, blocks: int, setting: Setting) -> dict[str, Any]:
    """Measure one side in a process of its own."""
    threads = str(setting.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-m", "benchmarks.side", side, name, str(blocks), json.dumps(dataclasses.asdict(setting))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parent.parent)
    if done.returncode:
        raise SystemExit(f"{side} failed on {name}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def difference(name: str, ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of two sides' losses; SystemExit where they do not do the same work."""
    worst = max(abs(a - b) / max(abs(b), 0.1) for a, b in zip(ours, theirs, strict=True))
    if not worst <= 1e-2:
        raise SystemExit(f"{name}: the sides do not do the same work: losses {ours} and {theirs}")
    return worst


def compare(name: str, rounds: int, blocks: int, setting: Setting) -> dict[str, Any]:
    """Both sides of one workload in turn: medians over all blocks, and the ratio of each round."""
    sides: dict[str, list[dict[str, Any]]] = {"flux": [], "torch": []}
    for _ in range(rounds):
        for side in sides:
            sides[side].append(run_side(side, name, blocks, setting))
            if len(sides["torch"]) == 1:
                worst = difference(name, sides["flux"][0]["losses"], sides["torch"][0]["losses"])
    medians = {side: [statistics.median(r["step_s"]) for r in runs] for side, runs in sides.items()}
    ratios = sorted(a / b for a, b in zip(medians["flux"], medians["torch"], strict=True))
    return {
        "workload": name,
        "what": WORKLOADS[name].what,
        "device": sides["flux"][0]["device"],
        "flux_ms": statistics.median(medians["flux"]) * 1e3,
        "torch_ms": statistics.median(medians["torch"]) * 1e3,
        "ratio": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "loss_difference": worst,
        "flux_first_call_s": sides["flux"][0]["first_call_s"],
        "new_bytes_per_step": sides["flux"][0].get("new_bytes_per_step"),
    }


def heads(setting: Setting) -> tuple[str, str]:
    """What the two sides are called in the table."""
    peer = "PyTorch as a CUDA graph" if setting.graph else "PyTorch eager"
    return f"minitorch_flux{' captured' if setting.capture else ''}, ms", f"{peer}, ms"


def table(rows: list[dict[str, Any]], setting: Setting) -> str:
    """The results as a Markdown table."""
    ours, theirs = heads(setting)
    lines = [f"| workload | what | {ours} | {theirs} | ratio (min to max) | new bytes a step |", "|" + "---|" * 6]
    for r in rows:
        fresh = "" if r["new_bytes_per_step"] is None else f"{r['new_bytes_per_step']:.0f}"
        lines.append(f"| {r['workload']} | {r['what']} | {r['flux_ms']:.3f} | {r['torch_ms']:.3f} | **{r['ratio']:.2f}** "
                     f"({r['ratio_min']:.2f} to {r['ratio_max']:.2f}) | {fresh} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=f"any of: {', '.join(WORKLOADS)}")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where both sides compute (default: cpu)")
    parser.add_argument("--capture", action="store_true", help="our steps are captured (on a GPU: one CUDA graph); PyTorch's "
                        "stay eager")
    parser.add_argument("--peer-graph", action="store_true", help="PyTorch's steps are CUDA graphs (GPU only)")
    parser.add_argument("--tf32", action="store_true", help="both sides may use tf32 for float32 products (GPU only)")
    parser.add_argument("--rounds", type=int, default=5, help="how often the sides take turns (default 5)")
    parser.add_argument("--blocks", type=int, default=7, help="timed blocks per turn (default 7)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of both sides")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [w for w in options.workloads if w not in WORKLOADS]
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}: choose from {', '.join(WORKLOADS)}")
    if options.device == "cpu" and (options.peer_graph or options.tf32):
        parser.error("--peer-graph and --tf32 are for --device gpu")
    if importlib.util.find_spec("torch") is None:
        parser.error("PyTorch, the peer of these measurements, is not installed: pip install torch")
    if options.device == "gpu" and (missing := _missing_device()):
        parser.error(missing)
    device = "cuda" if options.device == "gpu" else "cpu"
    setting = Setting(device, options.threads, options.capture, options.peer_graph, options.tf32)
    rows = []
    for name in options.workloads:
        rows.append(compare(name, options.rounds, options.blocks, setting))
        print(table(rows[-1:], setting).splitlines()[-1], flush=True)
        if options.json:  # what there is so far, should the rest be cut off
            machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
            found = {"machine": machine | dataclasses.asdict(setting), "results": rows}
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    print("\n" + table(rows, setting))
    return 0


def _missing_device() -> str | None:
    """What is missing for measuring on a GPU."""
    from minitorch_flux.backend import DeviceError, find_cupy

    try:
        find_cupy()
    except DeviceError as error:
        return f"--device gpu: {error}"
    import torch

    return None if torch.cuda.is_available() else f"--device gpu: this PyTorch ({torch.__version__}) finds no CUDA device"


if __name__ == "__main__":
    sys.exit(main())
