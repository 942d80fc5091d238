"""Mutants of the kernels: the same texts with one small bug each, made by rule, to see whether the samples notice.

    python -m tests.readings.mutants                    # every file; goes on where it was stopped
    python -m tests.readings.mutants softmaxes.cu       # some
    python -m tests.readings.mutants --list             # what there is

Rules: a barrier, row reduction or ONE_LANE is taken out; the bound of a loop is moved by one in either direction, that of
a condition moved or taken out; index pairs (a * b + c; heights and widths; constant subscripts) and gates are exchanged;
an accumulator is narrowed to float in a build for float64.

A mutant is built alone, without the kernels of its file that it does not touch, and the samples of its kernels
(minitorch_flux/cli/kernel_samples) are run in the emulator against the references: in several launch shapes, then under
AddressSanitizer, UBSan and ThreadSanitizer, and on the CPU reading where that has code of its own. It is killed when
something differs, is reported, or does not end. survivors.txt lists the survivors with their reasons.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minitorch_flux.cli.kernel_samples import SAMPLES, Difference, Sample, compare
from minitorch_flux.cli.kernel_samples.running import expected
from minitorch_flux.readings import KernelBuildError, host
from minitorch_flux.readings.cache import VARIABLE, cache_folder
from minitorch_flux.readings.emulator import SANITIZERS, Emulation, EmulatorError, compiler, program_text
from minitorch_flux.readings.kernel import launching
from minitorch_flux.readings.source import KernelText, Signature, kernels_folder, parse_file, parse_kernels, read_kernels

from .mutations import Mutant, mutants_of

SIZES = (33, 1, 1025)
"""Of each sample, those of these sizes that it has, and the largest of the others that it has."""
PATIENCE = 60.0

BLOCKS: dict[str, Any] = {"grid": 3, "lanes": 64}
WARPS: dict[str, Any] = {"grid": 2, "lanes": 32, "rows": 2, "backwards": True}
STAGES: dict[str, tuple[dict[str, Any], ...]] = {
    "emulator": (BLOCKS, WARPS),
    "address": (BLOCKS | {"sanitize": "address"},),
    "thread": ({"grid": 2, "lanes": 64, "sanitize": "thread"}, {"grid": 1, "lanes": 32, "rows": 2, "sanitize": "thread"}),
}
FLAGS = ("-std=c++17", "-g", "-w")


def sizes_of(sample: Sample, stage: str = "") -> list[int]:
    found = [n for n in SIZES if n in sample.sizes]
    found += [] if len(found) > 2 else [max(set(sample.sizes) - set(found))]
    return [found[0], max(found)] if stage == "thread" else found  # TSan is slow


def only(source: KernelText, kernels: Sequence[str]) -> KernelText:
    """The text without the other kernels; lines stay where they are."""
    text = source.text
    for signature in sorted(source.kernels.values(), key=lambda s: -s.start):
        if signature.name not in kernels:
            part = text[signature.start : signature.end]
            text = text[: signature.start] + "\n" * part.count("\n") + text[signature.end :]
    return replace(source, text=text, kernels=parse_kernels(text, source.name))


class Mutated(Emulation):
    """Runs the mutant's kernels in the emulator, and others as they are on the CPU."""

    def __init__(self, mutant: Mutant | None, kernels: Sequence[str], folder: Path, **how: Any) -> None:
        super().__init__(**how, patience=PATIENCE)
        self.mutant, self.kernels, self.folder = mutant, tuple(kernels), folder
        self.gpu = any(SAMPLES[kernel].gpu for kernel in kernels)

    def launch(
        self, source: KernelText, signature: Signature, types: Mapping[str, Any], constants: Any,
        rows: int, width: int, args: Sequence[Any],
    ) -> bool:  # fmt: skip
        if signature.name in self.kernels:
            return super().launch(source, signature, types, constants, rows, width, args)
        library = host.library_of(source, types, constants)
        return library is not None and host.launcher(library, signature, types)(rows, width, tuple(args))

    def text(self, source: KernelText, types: Mapping[str, Any], constants: Any) -> str:
        text = program_text(only(self.source(source), self.kernels), types, constants)
        assert text is not None
        if self.mutant is not None and self.mutant.file == "flux.h":  # it is no part of the file's own text
            plain = (kernels_folder() / "flux.h").read_text()
            assert text.count(plain) == 1
            text = text.replace(plain, self.mutant.text)
        return text

    def source(self, source: KernelText) -> KernelText:
        return source if self.mutant is None else mutated(source, self.mutant)

    def program(self, source: KernelText, signature: Signature, types: Mapping[str, Any], constants: Any) -> Path:
        text = self.text(source, types, constants)
        path = self.folder / hashlib.sha256(f"{self.sanitize}{text}".encode()).hexdigest()[:16]
        if not path.exists():
            code = path.with_suffix(".cpp")
            code.write_text(text)
            fast = "-O1" if self.sanitize == "thread" else "-O0"  # -O1: what TSan is not to see is inlined
            flags = (*FLAGS, fast, *SANITIZERS.get(self.sanitize or "", ()))
            built = subprocess.run([*compiler().command, *flags, str(code), "-o", str(path)], capture_output=True, text=True)
            if built.returncode:
                raise KernelBuildError(built.stderr)
        return path


def mutated(source: KernelText, mutant: Mutant) -> KernelText:
    """The kernel file with the mutant in place, whether it is in the file itself or in a header that it includes."""
    if mutant.file == source.name:
        return parse_file(source.path, mutant.text)
    if mutant.file == "flux.h":  # every program has it, but no kernel file's text
        return source
    own, include = source.path.read_text(), f'#include "{mutant.file}"'
    assert own.count(include) == 1, f"{source.name} does not include {mutant.file}"
    line = own.count("\n", 0, own.index(include)) + 2
    lines = f'#line 1 "{kernels_folder() / mutant.file}"\n{mutant.text}\n#line {line} "{source.path}"'
    return parse_file(source.path, own.replace(include, lines))


def dtype_of(kernel: str) -> str:
    """float64, so that a narrow sum shows, or what the kernel takes."""
    return "float64" if "float64" in SAMPLES[kernel].dtypes else SAMPLES[kernel].dtypes[0]


@cache
def wanted(kernel: str, n: int) -> list[np.ndarray]:
    return expected(SAMPLES[kernel], n, dtype_of(kernel))


def outcome(mutant: Mutant | None, kernels: Sequence[str]) -> str:
    """What kills the mutant, or "survives", or "does not build"; None as the mutant: the kernels as they are."""
    first = ("thread",) if mutant is not None and mutant.rule in ("barrier removed", "ONE_LANE removed") else ()
    stages = (*first, *(stage for stage in STAGES if stage not in first))
    with tempfile.TemporaryDirectory(prefix="minitorch_flux-mutant-") as folder:
        for stage in stages:
            for how in STAGES[stage]:
                for kernel in kernels:
                    for n in sizes_of(SAMPLES[kernel], stage):
                        with launching(Mutated(mutant, kernels, Path(folder), **how)):
                            found = verdict(kernel, n)
                        if found:
                            return found
        if mutant is not None and any("vec_" in source_of(k).text and not SAMPLES[k].gpu for k in kernels):
            return on_the_cpu(mutant, kernels, Path(folder)) or "survives"  # it has code of its own there
        return "survives"


def verdict(kernel: str, n: int) -> str | None:
    """How this run ended, if it should not have: what was wrong."""
    try:
        with np.errstate(all="ignore"):
            compare(SAMPLES[kernel], n, dtype_of(kernel), wanted(kernel, n))
    except Difference:
        return "wrong"
    except KernelBuildError:
        return "does not build"
    except EmulatorError as error:
        for word, name in REPORTS.items():
            if word in str(error):
                return name
        return "crash"
    except (IndexError, ValueError, FloatingPointError):  # an op looked at its kernel's result
        return "wrong"
    return None


REPORTS = {
    "data race": "race",
    "AddressSanitizer": "overflow",
    "runtime error": "undefined behaviour",
    "not every thread reaches": "barrier",
    "still running": "endless",
}


class OnTheCpu:
    """Runs the mutant's kernels in its CPU reading."""

    def __init__(self, mutant: Mutant, kernels: Sequence[str]) -> None:
        self.mutant, self.kernels = mutant, kernels

    def launch(
        self, source: KernelText, signature: Signature, types: Mapping[str, Any], constants: Any,
        rows: int, width: int, args: tuple[Any, ...],
    ) -> bool:  # fmt: skip
        if signature.name in self.kernels:
            source = only(mutated(source, self.mutant), self.kernels)
        library = host.library_of(source, types, constants)
        return library is not None and host.launcher(library, signature, types)(rows, width, args)


def on_the_cpu(mutant: Mutant, kernels: Sequence[str], folder: Path) -> str | None:
    """The verdict on the CPU reading, found in a child process: a mutant may crash it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            tools = compiler()
            flags = tuple("-O1" if flag == "-O3" else flag for flag in tools.flags)  # built more quickly
            host.toolchain = lambda: replace(tools, flags=flags, identity=f"{tools.identity} -O1")
            os.environ[VARIABLE] = str(folder)
            folder.chmod(0o700)
            for kernel in kernels:
                for n in sizes_of(SAMPLES[kernel]):
                    with launching(OnTheCpu(mutant, kernels)):
                        found = verdict(kernel, n)
                    if found:
                        os.write(write, f"{found} on the CPU".encode())
                        os._exit(0)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    end = time.monotonic() + 4 * PATIENCE
    while (status := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return "endless on the CPU"
        time.sleep(0.02)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    return said or ("crash on the CPU" if status[1] else None)


# -- all of them -------------------------------------------------------------------------------------------------------


@cache
def source_of(kernel: str) -> KernelText:
    return next(s for s in map(read_kernels, sorted(kernels_folder().glob("*.cu"))) if kernel in s.kernels)


def all_mutants(files: Sequence[str] = ()) -> list[Mutant]:
    """Every mutant of these files, or of all."""
    every = [p.name for p in sorted(kernels_folder().glob("*.cu"))] + ["flux.h", "vectors.h"]
    found = [m for file in files or every for m in mutants_of(file)]
    if missing := {k for m in found for k in m.kernels if k not in SAMPLES}:
        print(f"without a sample, and so left out: {', '.join(sorted(missing))}", file=sys.stderr)
    return [m for m in found if not missing & set(m.kernels)]


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def digests(mutant: Mutant | None, kernels: Sequence[str]) -> tuple[str, str]:
    """Of what the outcome depends on: of the kernels' texts, and of their samples."""
    header = mutant.text if mutant is not None and mutant.file == "flux.h" else (kernels_folder() / "flux.h").read_text()
    sources = [source_of(kernel) for kernel in kernels]
    if mutant is not None:
        sources = [mutated(source, mutant) for source in sources]
    texts = [only(source, [kernel]).text for source, kernel in zip(sources, kernels, strict=True)]
    modules = {SAMPLES[kernel].calls.__module__ for kernel in kernels}
    samples = [inspect.getsource(sys.modules[name]) for name in sorted(modules)]
    return _hash(header, *texts), _hash(repr((SIZES, STAGES)), *samples)


def judged(mutant: Mutant) -> str:
    return outcome(mutant, mutant.kernels)


def baseline(kernel: str) -> str:
    """The outcome of a kernel as it is."""
    return outcome(None, [kernel])


class Record:
    """Outcomes of earlier runs, kept in a file of the cache."""

    def __init__(self, grown: bool = False) -> None:
        self.file, self.grown = cache_folder() / "mutants.jsonl", grown
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        self.known = {row["text"]: (row["samples"], row["outcome"]) for row in rows}

    def get(self, mutant: Mutant | None, kernels: Sequence[str]) -> str | None:
        """The outcome, if it is known. Samples that have only ``grown`` kill what they killed before."""
        text, samples = digests(mutant, kernels)
        before, outcome = self.known.get(text, ("", None))
        killed = mutant is not None and outcome not in (None, "survives")
        return outcome if before == samples or (self.grown and killed) else None

    def note(self, mutant: Mutant | None, kernels: Sequence[str], outcome: str) -> None:
        text, samples = digests(mutant, kernels)
        row = {"text": text, "samples": samples, "outcome": outcome, "what": mutant.key if mutant else kernels[0]}
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")


def run_all(mutants: Sequence[Mutant], processes: int = 2, grown: bool = False) -> Iterator[tuple[Mutant, str]]:
    """Every mutant with its outcome; those of earlier runs first. Raises where a kernel as it is does not pass."""
    record = Record(grown)
    known = [record.get(m, m.kernels) for m in mutants]
    yield from ((m, found) for m, found in zip(mutants, known, strict=True) if found is not None)
    left = [m for m, found in zip(mutants, known, strict=True) if found is None]
    with ProcessPoolExecutor(processes) as pool:
        kernels = sorted(k for k in {k for m in left for k in m.kernels} if record.get(None, [k]) != "survives")
        for kernel, found in zip(kernels, pool.map(baseline, kernels), strict=True):
            if found != "survives":
                raise AssertionError(f"{kernel}, as it is: {found}")
            record.note(None, [kernel], found)
        futures = {pool.submit(judged, m): m for m in left}
        for future in as_completed(futures):
            mutant, found = futures[future], future.result()
            record.note(mutant, mutant.kernels, found)
            yield mutant, found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.readings.mutants", description="Mutants of the kernels.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="softmaxes.cu and the like (default: all)")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument("--grown", action="store_true", help="the samples have only grown since the last run: what was "
                        "killed is not run again")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    mutants = all_mutants(arguments.files)
    if arguments.list:
        for m in mutants:
            print(m.key)
        print(len(mutants), "mutants;", dict(Counter(m.rule for m in mutants)))
        return
    counts: dict[str, Counter[str]] = {}
    started = time.monotonic()
    for i, (mutant, found) in enumerate(run_all(mutants, arguments.processes, arguments.grown)):
        counts.setdefault(mutant.file, Counter())[found] += 1
        if found == "survives":
            print(mutant.key, flush=True)
        if i % 50 == 49:
            print(f"... {i + 1} of {len(mutants)}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    for file, found_counts in sorted(counts.items()):
        total = sum(found_counts.values()) - found_counts["does not build"]
        print(f"{file:<22} {total - found_counts['survives']:>5} of {total:<5} {dict(found_counts)}")
    total = sum(sum(c.values()) - c["does not build"] for c in counts.values())
    survivors = sum(c["survives"] for c in counts.values())
    print(f"{total - survivors} of {total} killed: {100 * (total - survivors) / max(total, 1):.1f} %")


if __name__ == "__main__":
    main()
