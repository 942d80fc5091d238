"""Mutants of the kernels: the same texts with one small bug each, made by rule, to see whether the samples notice.

    python -m tests.readings.mutants                    # every file; goes on where it was stopped
    python -m tests.readings.mutants softmaxes.cu       # some
    python -m tests.readings.mutants --list             # what there is

Rules: a barrier, row reduction or ONE_LANE is taken out; the bound of a loop is moved by one in either direction, that of
a condition moved or taken out; index pairs (a * b + c; heights and widths; constant subscripts) and gates are exchanged;
an accumulator is narrowed to float in a build for float64.

Of each kernel the samples (minitorch_flux/cli/kernel_samples) are run with each mutant against the references: in the
emulator in several launch shapes, then under AddressSanitizer and UBSan, then under ThreadSanitizer, and last on the CPU
reading where that has code of its own (mutant_runs.py). One program has all mutants of a kernel (schemata.py,
mutant_programs.py). A mutant is killed when something differs, is reported, or does not end. survivors.txt lists the
survivors with their reasons.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from functools import cache
from queue import SimpleQueue

from minitorch_flux.cli.kernel_samples import SAMPLES
from minitorch_flux.readings.cache import cache_folder
from minitorch_flux.readings.source import _without_comments, kernels_folder

from .mutant_programs import FLAGS, source_of
from .mutant_runs import SIZES, STAGES, Job, Worker
from .mutations import Mutant, mutants_of

HEADERS = ("flux.h", "vectors.h")
"""Headers that have mutants of their own."""


def all_mutants(files: Sequence[str] = ()) -> list[Mutant]:
    """Every mutant of these files, or of all."""
    every = [p.name for p in sorted(kernels_folder().glob("*.cu"))] + list(HEADERS)
    found = [m for file in files or every for m in mutants_of(file)]
    if missing := {k for m in found for k in m.kernels if k not in SAMPLES}:
        print(f"without a sample, and so left out: {', '.join(sorted(missing))}", file=sys.stderr)
    return [m for m in found if not missing & set(m.kernels)]


# -- what is known from earlier runs -----------------------------------------------------------------------------------


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@cache
def _text(kernel: str) -> str:
    return _without_comments(source_of(kernel).text)


@cache
def _samples(kernel: str) -> str:
    return inspect.getsource(sys.modules[SAMPLES[kernel].calls.__module__])


@cache
def _header() -> str:
    return _without_comments((kernels_folder() / "flux.h").read_text())


def digests(mutant: Mutant) -> tuple[str, str]:
    """Of what the outcome depends on: of the mutant and the texts, and of the samples."""
    texts = (*dict.fromkeys(_text(kernel) for kernel in mutant.kernels), _without_comments(mutant.text), mutant.key)
    samples = sorted({_samples(kernel) for kernel in mutant.kernels})
    return _hash(_header(), *texts), _hash(repr((SIZES, STAGES, FLAGS)), *samples)


class Record:
    """Outcomes of earlier runs, kept in a file of the cache; of a mutant that is still alive, the stages that it outlived."""

    def __init__(self, grown: bool = False) -> None:
        self.file, self.grown = cache_folder() / "mutants.jsonl", grown
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        self.known = {row["text"]: (row["samples"], row["outcome"], row["outlived"]) for row in rows if "outlived" in row}

    def get(self, mutant: Mutant) -> tuple[str | None, list[str]]:
        """What killed the mutant, if it is known, and what it outlived. Samples that have only ``grown`` kill as before."""
        text, samples = digests(mutant)
        before, outcome, outlived = self.known.get(text, ("", None, []))
        if before == samples or (self.grown and outcome):
            return outcome, outlived
        return None, []

    def note(self, mutant: Mutant, outcome: str | None, outlived: Sequence[str]) -> None:
        text, samples = digests(mutant)
        row = {"text": text, "samples": samples, "outcome": outcome, "outlived": list(outlived), "what": mutant.key}
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")


# -- all of them -------------------------------------------------------------------------------------------------------


def reached(mutant: Mutant, stage: str) -> list[str]:
    """The kernels with which a stage tries the mutant."""
    if stage != "cpu":
        return list(mutant.kernels[:2] if stage == "thread" else mutant.kernels)  # TSan is slow
    return [k for k in mutant.kernels if "vec_" in source_of(k).text and not SAMPLES[k].gpu and mutant.file != "flux.h"]


def run_all(
    mutants: Sequence[Mutant], processes: int = 2, grown: bool = False, remembers: bool = True
) -> Iterator[tuple[Mutant, str]]:
    """Every mutant with its outcome: what kills it, "survives" or "does not build"; known ones first.

    Raises where a kernel as it is does not pass.
    """
    record = Record(grown) if remembers else None
    outlived: dict[Mutant, list[str]] = {}
    for m in mutants:
        outcome, stages = record.get(m) if record else (None, [])
        if outcome:
            yield m, outcome
        else:
            outlived[m] = stages
    for stage in STAGES:
        waiting = {m: reached(m, stage) for m, stages in outlived.items() if stage not in stages}
        with ExitStack() as workers, ThreadPoolExecutor(processes) as pool:
            free: SimpleQueue[Worker] = SimpleQueue()
            while any(waiting.values()):
                jobs: dict[str, list[Mutant]] = {}  # of each mutant one kernel at a time: most fall to the first
                for m, kernels in waiting.items():
                    if kernels:
                        jobs.setdefault(kernels.pop(0), []).append(m)
                for _ in range(free.qsize(), min(processes, len(jobs))):
                    free.put(workers.enter_context(Worker(stage)))
                running = {pool.submit(_run, free, Job(stage, kernel, tuple(some))): some for kernel, some in jobs.items()}
                for future in as_completed(running):
                    for k, found in future.result().items():
                        m = running[future][k - 1]
                        del outlived[m], waiting[m]
                        if record:
                            record.note(m, found, ())
                        yield m, found
        for m in waiting:
            outlived[m] = [*outlived[m], stage]
            if record:
                record.note(m, None, outlived[m])
    yield from ((m, "survives") for m in outlived)


def _run(free: SimpleQueue[Worker], job: Job) -> dict[int, str]:
    worker = free.get()
    try:
        return worker.run(job)
    finally:
        free.put(worker)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.readings.mutants", description="Mutants of the kernels.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="softmaxes.cu and the like (default: all)")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument(
        "--grown", action="store_true", help="the samples have only grown since the last run: what was killed is not run again"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    mutants = all_mutants(arguments.files)
    if arguments.list:
        for m in mutants:
            print(m.key)
        print(len(mutants), "mutants;", dict(Counter(m.rule for m in mutants)))
        return
    counts: dict[str, Counter[str]] = {}
    rules: dict[str, Counter[bool]] = {}
    started = time.monotonic()
    for i, (mutant, found) in enumerate(run_all(mutants, arguments.processes, arguments.grown)):
        counts.setdefault(mutant.file, Counter())[found] += 1
        if found != "does not build":
            rules.setdefault(mutant.rule, Counter())[found == "survives"] += 1
        if found == "survives":
            print(mutant.key, flush=True)
        if i % 50 == 49:
            print(f"... {i + 1} of {len(mutants)}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    for file, found_counts in sorted(counts.items()):
        total = sum(found_counts.values()) - found_counts["does not build"]
        print(f"{file:<22} {total - found_counts['survives']:>5} of {total:<5} {dict(found_counts)}")
    for rule, dead in sorted(rules.items()):
        print(f"{rule:<22} {dead[False]:>5} of {sum(dead.values())}")
    total = sum(sum(dead.values()) for dead in rules.values())
    survivors = sum(dead[True] for dead in rules.values())
    print(f"{total - survivors} of {total} killed: {100 * (total - survivors) / max(total, 1):.1f} %")


if __name__ == "__main__":
    main()
