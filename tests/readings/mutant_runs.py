"""One kernel, its mutants and one stage: a process that tells of each mutant whether the kernel's sample notices it.

The kernel as it is runs first, here. Then each mutant has a forked child in which flux_mutant (schemata.py) is its number:
what it crashes, breaks or leaves unfinished is the child's. Sanitizers are loaded before Python itself (``Worker``).
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minitorch_flux.cli.kernel_samples import SAMPLES, Difference, Sample, compare
from minitorch_flux.cli.kernel_samples.running import expected
from minitorch_flux.readings import KernelBuildError, KernelError
from minitorch_flux.readings.emulator import compiler
from minitorch_flux.readings.kernel import launching

from .mutant_programs import OnTheCpu, Runner
from .mutations import Mutant

SIZES = (33, 1, 1025)
"""Of each sample, first those of these sizes that it has."""

BLOCKS: dict[str, Any] = {"grid": 3, "lanes": 64}
WARPS: dict[str, Any] = {"grid": 3, "lanes": 32, "rows": 2, "backwards": True}
STAGES: dict[str, tuple[dict[str, Any], ...]] = {
    "emulator": (BLOCKS, WARPS, BLOCKS | {"other": True}),
    "address": (BLOCKS | {"sanitize": "address"},),
    # One block: the next one's threads have the same stacks, which TSan would take for shared arrays.
    "thread": ({"grid": 1, "lanes": 32, "rows": 2, "sanitize": "thread"}, {"grid": 1, "lanes": 64, "sanitize": "thread"}),
    "cpu": ({},),
}
"""How the samples are run, one stage after the other; the last one is for texts with code of their own for the CPU.

``other``: in the other dtype of the sample, for which a text may have lines of its own.
"""
FAST = {"emulator": "-O1", "address": "-O0", "thread": "-O1", "cpu": "-O1"}
"""What is built quickly and yet runs quickly; TSan is not to see what is inlined."""

REPORTS = {
    "data race": "race",
    "AddressSanitizer": "overflow",
    "runtime error": "undefined behaviour",
    "not every thread reaches": "barrier",
}
ENDS = {0: None, 10: "wrong", 11: "crash"}
"""What a child's status says."""


@dataclass(frozen=True)
class Job:
    """Mutants that a kernel reaches, to be tried in a stage with the kernel's sample."""

    stage: str
    kernel: str
    mutants: tuple[Mutant, ...]


def sizes_of(sample: Sample, stage: str, how: Mapping[str, Any]) -> list[int]:
    """The sizes of a sample that a stage runs, the quickest to kill first."""
    found = [n for n in SIZES if n in sample.sizes]
    found += [] if len(found) > 2 else [max(set(sample.sizes) - set(found))]
    if "other" in how:
        return found
    if stage == "thread":
        return [found[0] if how["lanes"] == 64 else max(found)]  # TSan takes a millisecond for each thread of a launch
    return found if stage == "address" else found + [n for n in sample.sizes if n not in found]


def dtype_of(sample: Sample, other: bool = False) -> str:
    """float64, so that a narrow sum shows, or what the kernel takes; or the one that this is not."""
    first = "float64" if "float64" in sample.dtypes else sample.dtypes[0]
    return next((dtype for dtype in sample.dtypes if dtype != first), first) if other else first


def outcomes(job: Job, tell: Any) -> None:
    """Run the job; ``tell(number, what kills it)`` of every mutant that does not survive, number 0 of the kernel as it is."""
    sample = SAMPLES[job.kernel]
    with tempfile.TemporaryDirectory(prefix="minitorch_flux-mutants-") as folder, tempfile.TemporaryFile(buffering=0) as report:
        runner = (OnTheCpu if job.stage == "cpu" else Runner)(job.kernel, job.mutants, FAST[job.stage], Path(folder))
        alive = set(runner.mutants)
        for how in STAGES[job.stage]:
            for n in sizes_of(sample, job.stage, how):
                runner.run_in(how)
                dtype = dtype_of(sample, "other" in how)
                wanted = expected(sample, n, dtype)
                begun = time.process_time()
                with launching(runner), np.errstate(all="ignore"):
                    try:
                        compare(sample, n, dtype, wanted)
                    except (Difference, KernelBuildError) as error:
                        tell(0, f"n={n}, {how}: {error}")
                        return
                limit = 3 + 20 * (time.process_time() - begun)
                for k in sorted(alive):
                    try:
                        runner.prepare(k)
                        found = _child(runner, k, sample, n, dtype, wanted, limit, report)
                    except KernelBuildError:
                        found = "does not build"
                    if found:
                        tell(k, found)
                        alive.remove(k)
                if not alive:
                    return


def _child(
    runner: Runner, k: int, sample: Sample, n: int, dtype: str, wanted: list[np.ndarray], limit: float, report: Any
) -> str | None:
    """What a forked child finds out about the mutant k."""
    report.seek(0)
    report.truncate()
    child = os.fork()
    if not child:
        status = 11
        try:
            os.dup2(report.fileno(), 2)
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))
            runner.choose(k)
            with launching(runner), np.errstate(all="ignore"):
                compare(sample, n, dtype, wanted)
            status = 0
        except (Difference, IndexError, ValueError, FloatingPointError):  # or an op looked at its kernel's result
            status = 10
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "endless" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "crash"
    code = os.WEXITSTATUS(status)
    if code in ENDS and not (code == 11 and report.seek(0, 2)):
        return f"{ENDS[code]}" if ENDS[code] else None
    report.seek(0)
    said = report.read().decode(errors="replace")
    return next((name for word, name in REPORTS.items() if word in said), "crash")


# -- the process -------------------------------------------------------------------------------------------------------


class Worker:
    """A process for one stage that runs job after job; a context manager."""

    def __init__(self, stage: str) -> None:
        sanitize = STAGES[stage][0].get("sanitize")
        command = [sys.executable, "-m", __name__]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "ASAN_OPTIONS": "detect_leaks=0",
            "TSAN_OPTIONS": "halt_on_error=1",
        }
        if sanitize:
            library = {"address": "libasan.so", "thread": "libtsan.so"}[sanitize]
            asked = [*compiler().command, f"-print-file-name={library}"]
            found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
            if not Path(found).is_file():
                raise KernelError(f"mutants under sanitizers need GCC and its {library}; {compiler().version} has none")
            environment["LD_PRELOAD"] = found
            if sanitize == "thread" and (setarch := shutil.which("setarch")):
                command = [setarch, "-R", *command]  # TSan and the kernel's address randomisation may not agree
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.communicate()

    def run(self, job: Job) -> dict[int, str]:
        """The numbers (from 1) of the job's mutants that do not survive, with what kills them.

        Raises AssertionError where the kernel as it is does not pass.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(job, self.process.stdin)
        self.process.stdin.flush()
        try:
            found: dict[int, str] = pickle.load(self.process.stdout)
        except EOFError:  # where a sanitizer stops it, it has said why
            found = {0: f"the process ended with status {self.process.wait()}"}
        if 0 in found:
            raise AssertionError(f"{job.kernel}, as it is, in the stage {job.stage}: {found[0]}")
        return found


def main() -> None:
    os.environ.pop("LD_PRELOAD", None)  # not for the compiler
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        found: dict[int, str] = {}
        outcomes(job, found.__setitem__)
        pickle.dump(found, answers)
        answers.flush()


if __name__ == "__main__":
    main()
