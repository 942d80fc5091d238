"""``python -m benchmarks`` and ``minitorch-flux bench``: this library beside what else is installed.

Suites: workloads (whole models: training steps, inference), ops (layers at the shapes of real networks), scaling, overhead and
memory; without a name all of them, with the name of a workload that one. Every side has a process of its own; their answers
must agree before a time counts; then they take turns, A B A B, with the same number of threads. A ratio below 1 means that
minitorch_flux is faster; it is told to the faster layout of PyTorch where that is installed. With --device gpu all sides
compute on the same GPU, PyTorch with cuDNN, in full float32 unless --tf32 lets all round, and device events take the time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from minitorch_flux.cli.program import count, positive

from . import comparison
from .machine import machine
from .peers import OURS, PEERS, Peer, Side
from .suites import Options
from .tables import tables
from .tasks import Setting
from .turns import Plan
from .workers import Worker, WorkerFailed
from .workloads import WORKLOADS

SUITES = ("workloads", "ops", "scaling", "overhead", "memory")
ON_GPU = ("workloads", "ops")
QUICK = Plan(rounds=2, blocks=1, seconds=0.02, answers=2)


class Parser(argparse.ArgumentParser):
    """argparse, with an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(n) for n in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers of at least 1, such as 1,2, got {text!r}")
    return found


def _batches(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not all(b == "own" or (b.isdigit() and int(b) > 0) for b in found):
        raise argparse.ArgumentTypeError(f"expected numbers of at least 1 and own, such as own,1, got {text!r}")
    return found


def parser(prog: str) -> Parser:
    """The arguments."""
    p = Parser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    p.add_argument("names", nargs="*", metavar="NAME", help=f"suites ({', '.join(SUITES)}) or workloads "
                   f"({', '.join(WORKLOADS)}); default: all suites")
    p.add_argument("--quick", action="store_true", help="all suites, shortened, in about two minutes")
    p.add_argument("--threads", type=_numbers, metavar="N,...", help="of every side, one table for each (default: all cores)")
    p.add_argument("--modes", default="train,infer", help="of the workloads (default: train,infer)")
    p.add_argument("--batch", type=_batches, metavar="N,...", help="of the workloads; own is that of its table "
                   "(default: own,1)")
    p.add_argument("--random", type=int, default=0, metavar="N", help="ops: also N convolutions of random shapes")
    p.add_argument("--peers", default=",".join(PEERS), help=f"who else takes part, or none (default: {','.join(PEERS)})")
    p.add_argument("--rounds", type=count, help=f"turns of every side (default: {Plan.rounds})")
    p.add_argument("--blocks", type=count, help=f"timed blocks in a turn (default: {Plan.blocks})")
    p.add_argument("--seconds", type=positive, help=f"of a block, about (default: {Plan.seconds:g})")
    p.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where all sides compute (default: cpu)")
    p.add_argument("--capture", action="store_true", help="our steps are captured (on a GPU: one CUDA graph); PyTorch's "
                   "stay eager")
    p.add_argument("--peer-graph", action="store_true", help="PyTorch's steps are CUDA graphs (GPU only)")
    p.add_argument("--tf32", action="store_true", help="all sides may use tf32 for float32 products (GPU only)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file, as they come")
    p.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to this file")
    p.add_argument("--plots", type=Path, metavar="FOLDER", help="draw them into this folder")
    p.add_argument("--compare", type=Path, metavar="OLD.json", help="show what became slower since then; exit code 1 where "
                   "something did by more than the threshold")
    p.add_argument("--threshold", type=positive, default=1.1, help="of --compare (default: 1.1)")
    return p


def main(arguments: Sequence[str] | None = None, prog: str = "python -m benchmarks") -> int:
    """The command. Exit codes: 0 done, 1 a side failed, sides did not agree or something became slower, 2 wrong input."""
    p = parser(prog)
    given = p.parse_args(arguments)
    suites, options = chosen(p, given)
    if given.compare:
        try:
            comparison.read(given.compare)  # now, and not when all is measured
        except (OSError, ValueError) as error:
            p.error(str(error))
    if given.plots:
        try:
            importlib.import_module("matplotlib")
        except ImportError:
            p.error("--plots needs matplotlib: pip install 'minitorch-flux[viz]'")
    try:
        found = measured(suites, options, given.json)
    except WorkerFailed as error:
        print(error, file=sys.stderr)
        return 1
    text = tables(found)
    print("\n" + text)
    if given.markdown:
        given.markdown.write_text(text)
    if given.plots:
        from .plots import draw

        for path in draw(found, given.plots):
            print(path)
    slower = report_of(given.compare, found, given.threshold) if given.compare else 0
    return int(bool(slower) or any("error" in row for row in found["rows"]))


def report_of(path: Path, found: dict[str, Any], threshold: float) -> int:
    """Say what became slower since the results of a file; 1 where something did by more than the threshold."""
    said, slower = comparison.report(comparison.changes(comparison.read(path), found), threshold)
    print(said)
    return int(slower)


def chosen(p: Parser, given: argparse.Namespace) -> tuple[list[str], Options]:
    """The suites to run and how; ends with exit code 2 where what was asked for cannot be done."""
    workloads = [n for n in given.names if n in WORKLOADS]
    suites = [n for n in SUITES if n in given.names or (workloads and n == "workloads") or not given.names]
    for name in given.names:
        if name not in WORKLOADS and name not in SUITES:
            p.error(f"there is no suite or workload {name!r}: choose from {', '.join((*SUITES, *WORKLOADS))}")
    if given.device == "cpu" and (given.peer_graph or given.tf32):
        p.error("--peer-graph and --tf32 are for --device gpu")
    modes = tuple(given.modes.split(","))
    if not set(modes) <= {"train", "infer"}:
        p.error(f"--modes: expected train, infer or both, got {given.modes!r}")
    peers = _peers(p, given.peers)
    if given.device == "gpu":
        if missing := _missing_device(peers):
            p.error(missing)
        if given.names and (cpu := [s for s in suites if s not in ON_GPU]):
            p.error(f"{cpu[0]} is measured on the CPU alone: on a GPU there are {' and '.join(ON_GPU)}")
        suites = [s for s in suites if s in ON_GPU]
    plan = QUICK if given.quick else Plan()
    for name in ("rounds", "blocks", "seconds"):
        if getattr(given, name) is not None:
            plan = replace(plan, **{name: getattr(given, name)})
    if given.random < 0:
        p.error(f"--random must be at least 0, got {given.random}")
    setting = Setting("cuda" if given.device == "gpu" else "cpu", 1, given.capture, given.peer_graph, given.tf32)
    threads = given.threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,)
    batches = given.batch or (("own",) if given.quick else ("own", "1"))
    return suites, Options(peers, setting, threads, plan, tuple(workloads), modes, batches, given.random, given.quick, say)


def say(text: str) -> None:
    """A line of what goes on."""
    print(text, flush=True)


def _peers(p: Parser, text: str) -> tuple[Peer, ...]:
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in PEERS:
            p.error(f"there is no peer {name!r}: choose from {', '.join(PEERS)}, or none")
    for name in names:
        if not PEERS[name].installed:
            say(PEERS[name].advice)
    found = tuple(peer for name, peer in PEERS.items() if name in names and peer.installed)
    if not found:
        say("no peer takes part: ours is timed alone, its answers are compared with nobody's")
    return found


def _missing_device(peers: tuple[Peer, ...]) -> str | None:
    """What is missing for measuring on a GPU."""
    from minitorch_flux.backend import DeviceError, find_cupy

    try:
        find_cupy()
    except DeviceError as error:
        return f"--device gpu: {error}"
    if PEERS["torch"] in peers:
        import torch

        if not torch.cuda.is_available():
            return f"--device gpu: this PyTorch ({torch.__version__}) finds no CUDA device; --peers none measures ours alone"
    return None


def measured(suites: list[str], options: Options, path: Path | None) -> dict[str, Any]:
    """The results of the suites, written to a file after every row, should the rest be cut off."""
    found: dict[str, Any] = {"machine": machine(), "setting": asdict(options.setting) | {"threads": list(options.threads)},
                             "plan": asdict(options.plan), "ceilings": {}, "rows": []}
    if options.setting.device == "cpu":
        for n in options.threads:
            with Worker(Side(OURS), replace(options.setting, threads=n)) as worker:
                found["ceilings"][str(n)] = worker.ask("ceilings", options.quick)
    for suite in suites:
        say(f"-- {suite}")
        for row in importlib.import_module(f".suites.{suite}", __package__).run(options):
            found["rows"].append(row)
            if path:
                path.write_text(json.dumps(found, indent=1) + "\n")
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n")
    return found
