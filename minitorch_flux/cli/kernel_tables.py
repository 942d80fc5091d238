"""``minitorch-flux kernels``: what each kernel is for, in which readings it runs here, and what it takes of a GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend import FUNCTIONS
from ..readings import KernelBuildError
from ..readings.host import is_built
from ..readings.inventory import usage_is_known, usage_of
from ..readings.nvrtc import INSTALL_NVRTC, Usage, architectures, nvrtc_version
from ..readings.source import PACKAGE, KernelText
from ..readings.toolchain import INSTALL_COMPILER, toolchain
from .emulations import find_kernels
from .kernel_samples import SAMPLES, Launch, launches
from .program import WrongInput

USUAL = (75, 90, 120)
MANY = 10  # programs that take a while
SIZE = 33  # of the sample whose builds are shown: any will do


@dataclass
class Row:
    """A kernel. ``cpu``: built, can be built, GPU only, declines (the op runs its reference) or why there is none; ``gpu``:
    what it takes per architecture, the most of all builds that its sample needs."""

    kernel: str
    file: str
    page: str
    test: str | None
    ops: list[str]
    accepts: str
    builds: list[dict[str, Any]]
    cpu: str
    emulator: str
    gpu: dict[str, dict[str, int] | str] = field(default_factory=dict)


def run_kernels(arguments: Namespace) -> int:
    """The command. Raises WrongInput for a name or an architecture that is not known."""
    found = table(arguments.names, arguments.dtype, arguments.arch)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in found], indent=2))
    else:
        for line in lines(found, arguments.dtype, bool(arguments.names)):
            print(line)
    return 0


def table(names: list[str], dtype: str, arch: str | None) -> list[Row]:
    """A row for each kernel that is named, or for all."""
    chosen, wanted = _architectures(arch), _dtype(dtype)
    kernels = find_kernels(names)
    asked: dict[str, list[Launch]] = {}
    for _, kernel in kernels:
        made = launches(SAMPLES[kernel], SIZE, wanted) if kernel in SAMPLES else []
        asked[kernel] = list({x.build: x for x in made if x.signature.name == kernel}.values())
    usages = _usages([x for made in asked.values() for x in made], chosen)
    return [_row(text, kernel, asked[kernel], chosen, usages) for text, kernel in kernels]


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        try:
            import ml_dtypes  # noqa: F401 - NumPy knows the name from then on
        except ImportError:
            raise WrongInput("--dtype bfloat16 needs ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(name)


def _architectures(arch: str | None) -> tuple[int, ...]:
    """The architectures that are asked for and that NVRTC knows; none without NVRTC."""
    known = architectures()
    if arch is None:
        return tuple(a for a in USUAL if a in known)
    if not known:
        raise WrongInput(f"--arch {arch}: there is no NVRTC here; {INSTALL_NVRTC}")
    if arch == "all":
        return known
    names = arch.split(",")
    numbers = [int(m[1]) if (m := re.fullmatch(r"(?:sm_)?(\d+)", name.strip())) else -1 for name in names]
    for name, number in zip(names, numbers, strict=True):
        if number not in known:
            raise WrongInput(f"--arch {name}: this NVRTC compiles for {', '.join(f'sm_{a}' for a in known)}")
    return tuple(numbers)


def _usages(made: list[Launch], chosen: tuple[int, ...]) -> dict[tuple[Any, int], dict[str, Usage] | str]:
    """What the kernels of each build take on each architecture, compiled side by side; or the compiler's error."""
    wanted = {(x.build, arch): (x, arch) for x in made for arch in chosen if not x.source.gpu or arch >= x.source.gpu.sm}

    new = sum(not usage_is_known(x.source, x.types, x.constants, arch) for x, arch in wanted.values())
    if new > MANY:
        print(f"compiling {new} programs with NVRTC; they are remembered", file=sys.stderr)

    def one(what: tuple[Launch, int]) -> dict[str, Usage] | str:
        launch, arch = what
        try:
            return usage_of(launch.source, launch.types, launch.constants, arch) or "CUDA has no such type"
        except KernelBuildError as error:
            return next((line for line in str(error).splitlines() if "error" in line), str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(wanted, pool.map(one, wanted.values()), strict=True))


def _row(
    text: KernelText, kernel: str, made: list[Launch], chosen: tuple[int, ...],
    usages: dict[tuple[Any, int], dict[str, Usage] | str],
) -> Row:  # fmt: skip
    stem = text.path.stem
    ops = sorted({x.op or (kernel if kernel in FUNCTIONS else SAMPLES[kernel].op) for x in made} - {""})
    first = lambda p: (p.parent.name != "ops", p)  # noqa: E731 - others may have files of the same name
    pages = sorted((p for p in PACKAGE.rglob(f"{stem}.py") if "cli" not in p.parts), key=first)
    tests = sorted(PACKAGE.parent.glob(f"tests/*/test_{stem}.py"), key=first)
    gpu: dict[str, dict[str, int] | str] = {}
    for arch in chosen:
        found = [usages[x.build, arch] for x in made if not x.source.gpu or arch >= x.source.gpu.sm]
        errors = [u for u in found if isinstance(u, str)]
        taken = [u[kernel] for u in found if isinstance(u, dict) and kernel in u]
        if errors:
            gpu[f"sm_{arch}"] = errors[0]
        elif taken:
            gpu[f"sm_{arch}"] = {name: max(getattr(u, name) for u in taken) for name in ("registers", "shared", "spilled")}
    return Row(
        kernel, text.name, str(pages[0].relative_to(PACKAGE.parent)) if pages else "",
        str(tests[0].relative_to(PACKAGE.parent)) if tests else None, ops,
        "; ".join(dict.fromkeys(FUNCTIONS[op].accepts for op in ops if op in FUNCTIONS)),
        [{**{k: str(v) for k, v in x.types.items()}, **x.constants} for x in made],
        "GPU only" if text.gpu else _cpu(made), _emulator(made), gpu,
    )  # fmt: skip


def _compiler() -> str:
    return "no compiler" if isinstance(toolchain(), str) else ""


def _emulator(made: list[Launch]) -> str:
    if not made:
        return "declines"
    known = all(is_built(x.source, x.types, x.constants) is not None for x in made)
    return _compiler() or ("runs" if known else "no such type")


def _cpu(made: list[Launch]) -> str:
    if not made:
        return "declines"
    if _compiler():
        return _compiler()
    built = [is_built(x.source, x.types, x.constants) for x in made]
    return "no such type" if None in built else "built" if all(built) else "can be built"


# -- in a terminal -----------------------------------------------------------------------------------------------------


def lines(rows: list[Row], dtype: str, named: bool) -> list[str]:
    """The table as text; with names, what each kernel accepts, too."""
    archs = list(dict.fromkeys(arch for row in rows for arch in row.gpu))
    names, cpu, emulator = (max(map(len, column)) + 2 for column in zip(
        *((f"  {row.kernel}", row.cpu, row.emulator) for row in rows), ("", "CPU", "emulator")
    ))  # fmt: skip
    cells = {arch: max([len(arch), *(len(_cell(row.gpu.get(arch))) for row in rows)]) + 2 for arch in archs}
    head = f"{'  kernel':<{names}}{'CPU':<{cpu}}{'emulator':<{emulator}}" + "".join(f"{arch:<{cells[arch]}}" for arch in archs)
    out, file = [head.rstrip()], ""
    for row in rows:
        if row.file != file:
            file = row.file
            out.append(f"{file}: {row.page}{', ' * bool(row.test)}{row.test or ''}")
        gpu = "".join(f"{_cell(row.gpu.get(arch)):<{cells[arch]}}" for arch in archs)
        out.append(f"{'  ' + row.kernel:<{names}}{row.cpu:<{cpu}}{row.emulator:<{emulator}}{gpu}".rstrip())
        if named:
            out += [f"    {', '.join(row.ops)}: {row.accepts}"] if row.accepts else []
            out += [f"    sample build: {' '.join(f'{k}={v}' for k, v in build.items())}" for build in row.builds]
    return [*out, "", *_summary(rows, archs, dtype)]


def _cell(usage: dict[str, int] | str | None) -> str:
    """Registers of a thread, bytes of shared memory of a block, spilled bytes."""
    if usage is None:
        return "-"
    if isinstance(usage, str):
        return "does not build"
    spilled = f", {usage['spilled']} spilled" if usage["spilled"] else ""
    shared = f" + {usage['shared']} B" if usage["shared"] else ""
    return f"{usage['registers']}{shared}{spilled}"


def _summary(rows: list[Row], archs: list[str], dtype: str) -> list[str]:
    files = len({row.file for row in rows})
    declines = sum(row.emulator == "declines" for row in rows)
    out = [f"{len(rows)} kernels in {files} files; {len(rows) - declines} are launched for {dtype}"]
    if declines:
        out.append(f"declines: for {declines} of them the op runs its NumPy (CuPy) reference with {dtype}")
    if _compiler():
        out.append(f"no CPU reading: {toolchain()}; {INSTALL_COMPILER}")
    if nvrtc_version() is None:
        return [*out, f"no GPU columns: {INSTALL_NVRTC}"]
    used = [(u, row, arch) for row in rows for arch, u in row.gpu.items() if isinstance(u, dict)]
    if used:
        most, row, arch = max(used, key=lambda v: v[0]["registers"])
        spills = sum(u["spilled"] > 0 for u, _, _ in used)
        version = ".".join(map(str, nvrtc_version() or ()))
        out.append(f"GPU (NVRTC {version}): registers of a thread + shared memory of a block; at most {most['registers']} "
                   f"registers ({row.kernel}, {arch}); {spills or 'none'} spills")
    out += [f"{row.kernel}, {arch}: {u}" for row in rows for arch, u in row.gpu.items() if isinstance(u, str)]
    return out
