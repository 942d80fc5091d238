"""The emulator reading: the GPU's own reading of a kernel, run thread by thread on the CPU, for tests.

``with emulated():`` makes every kernel launch inside go through kernels/emulate.h, so an op is tested as it stands:

    with emulated(lanes=32, rows=2, backwards=True, sanitize="thread"):
        y = softmax_forward(x, -1)

A missing barrier, a race, a read beyond the end: gone unnoticed on the CPU, found here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .arguments import C_NAMES, fit_arguments, type_defines
from .cache import cached, digest
from .errors import KernelBuildError, KernelError
from .geometry import WARP, Geometry, geometry
from .kernel import launching
from .source import Constants, KernelText, Signature, compose, kernels_folder
from .toolchain import INSTALL_COMPILER, Toolchain, toolchain

_CHECKS = ("-std=c++17", "-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
SANITIZERS: dict[str, tuple[str, ...]] = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "undefined": ("-fsanitize=undefined", "-fno-sanitize-recover=all"),
    "thread": ("-fsanitize=thread",),
}
_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "TSAN_OPTIONS": "halt_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class EmulatorError(KernelError):
    """What the emulator or a sanitizer found; the text is its report."""


class Emulation:
    """One way of running kernels in the emulator: the launch shape, the order of threads, the sanitizer."""

    gpu = True  # texts for GPUs only run here, too

    def __init__(
        self,
        grid: int | None = None,
        lanes: int | None = None,
        rows: int | None = None,
        backwards: bool = False,
        sanitize: str | None = None,
        patience: float | None = None,
    ) -> None:
        if sanitize is not None and sanitize not in SANITIZERS:
            raise ValueError(f"sanitize={sanitize!r}: use {', '.join(map(repr, SANITIZERS))} or None")
        if lanes is not None and (lanes % WARP or (lanes > WARP and (rows or 1) > 1) or lanes * (rows or 1) > 1024):
            raise ValueError(
                f"lanes={lanes}, rows={rows}: a block has whole warps of {WARP} lanes, up to 1024 threads, "
                "and several rows only where a row is one warp"
            )
        self.grid, self.lanes, self.rows, self.backwards, self.sanitize = grid, lanes, rows, backwards, sanitize
        self.patience = patience
        self.launches = 0

    def __str__(self) -> str:
        """The launch shape in words; a part that was not asked for is the GPU's own choice."""
        block = f"{self.lanes} x {self.rows or 1} threads" if self.lanes else "threads as on a GPU"
        count = f"{self.grid} blocks of " if self.grid else ""
        return f"{count}{block}{', last ones first' * self.backwards}"

    def shape(self, rows: int, width: int, elementwise: bool, block: int = 0) -> Geometry:
        """The launch shape: the GPU's own, except for what was asked for. ``block``: the threads that the text fixes."""
        g = geometry(rows, width, elementwise, block=block)
        if block:
            return Geometry(self.grid or g.grid, block, 1)
        lanes = self.lanes or g.lanes
        return Geometry(self.grid or g.grid, lanes, self.rows or (g.rows if lanes == WARP else 1))

    def launch(
        self,
        source: KernelText,
        signature: Signature,
        types: Mapping[str, np.dtype[Any]],
        constants: Constants,
        rows: int,
        width: int,
        args: Sequence[Any],
    ) -> bool:
        """Run one kernel; arrays are written in place. False where the compiler has no such type.

        Raises EmulatorError with the report where something was found.
        """
        program = self.program(source, signature, types, constants)
        if program is None:
            return False
        fitted = fit_arguments(signature, types, args, np.ndarray, "cpu")
        g = self.shape(rows, width, signature.elementwise, source.gpu.block if source.gpu else 0)
        with tempfile.TemporaryDirectory(prefix="minitorch_flux-") as folder:
            file = Path(folder, "arguments")
            with file.open("wb") as f:
                for a in fitted:
                    raw = b"" if a is None else a.tobytes()
                    f.write(np.int64(-1 if a is None else len(raw)).tobytes() + raw)
            command = list(map(str, (program, signature.name, g.grid, g.lanes, g.rows, int(self.backwards), file)))
            result = _run(command, self.patience)
            if "unexpected memory mapping" in result.stderr and (setarch := shutil.which("setarch")):
                # TSan and this kernel's address randomisation do not agree.
                result = _run([setarch, "-R", *command], self.patience)
            if result.returncode:
                raise EmulatorError(
                    f"{signature.name} of {source.name}, {g.grid} blocks of {g.lanes} x {g.rows} threads"
                    f"{', backwards' * self.backwards}: {result.stderr or f'ended with status {result.returncode}'}"
                )
            with file.open("rb") as f:
                for parameter, a in zip(signature.parameters, fitted, strict=True):
                    raw = f.read(max(0, np.frombuffer(f.read(8), np.int64).item()))
                    if isinstance(a, np.ndarray) and not parameter.const:
                        a[...] = np.frombuffer(raw, a.dtype).reshape(a.shape)
        self.launches += 1
        return True


    def program(
        self, source: KernelText, signature: Signature, types: Mapping[str, np.dtype[Any]], constants: Constants
    ) -> Path | None:
        """The program that runs the kernel, or None where the compiler has no such type."""
        return build(source, types, constants, self.sanitize)


def _run(command: Sequence[str], patience: float | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | _ENVIRONMENT
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=patience
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"emulator: still running after {patience:g} seconds")


def compiler() -> Toolchain:
    """The compiler that builds the emulator's programs. Raises KernelError, with what to install, where there is none."""
    tools = toolchain()
    if isinstance(tools, str):
        raise KernelError(f"the emulator needs a C++ compiler: {tools}; {INSTALL_COMPILER}")
    return tools


def program_text(source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants) -> str | None:
    """The text of the emulator's program for a kernel file, or None where the compiler has no such type."""
    defines = type_defines(types, C_NAMES)
    if defines is None or ("_Float16" in defines.values() and not compiler().half):
        return None
    emulate_h = kernels_folder() / "emulate.h"
    before = f'#line 1 "{emulate_h}"\n{emulate_h.read_text(encoding="utf-8")}'
    return compose(source, defines, constants, before=before, after=" EMULATE({name})")


def build(
    source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants, sanitize: str | None
) -> Path | None:
    """The emulator's program for a kernel file, from the cache or built now."""
    tools, text = compiler(), program_text(source, types, constants)
    if text is None:
        return None
    flags = (*_CHECKS, *SANITIZERS.get(sanitize or "", ()))
    key = digest("emulator", text, tools.identity, *flags)
    return cached(key, "emulate", lambda folder: _compile(tools, flags, text, source.name, folder))


def _compile(tools: Toolchain, flags: Sequence[str], text: str, name: str, folder: Path) -> None:
    code = folder / f"{name}.cpp"
    code.write_text(text, encoding="utf-8")
    command = [*tools.command, *flags, str(code), "-o", str(folder / "emulate")]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise KernelBuildError(f"{' '.join(tools.command)} on {name} for the emulator:\n{result.stderr}")


@contextmanager
def emulated(
    *,
    grid: int | None = None,
    lanes: int | None = None,
    rows: int | None = None,
    backwards: bool = False,
    sanitize: str | None = None,
    patience: float | None = None,
) -> Iterator[Emulation]:
    """Run every kernel launch on NumPy arrays inside the block in the emulator; yields the count as `.launches`.

    `grid` blocks of `lanes` x `rows` threads, default the GPU's own choice for the launch. `backwards`: last threads
    and blocks first. `sanitize`: "address" (AddressSanitizer and UBSan), "undefined" (UBSan alone) or "thread"
    (ThreadSanitizer: races). A launch that runs for more than `patience` seconds is an error.
    """
    with launching(Emulation(grid, lanes, rows, backwards, sanitize, patience)) as emulation:
        yield emulation


EMULATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"grid": 3, "lanes": 64},
    {"grid": 2, "lanes": 32, "rows": 2, "backwards": True},
    {"grid": 3, "lanes": 64, "backwards": True, "sanitize": "address"},
    {"grid": 2, "lanes": 64, "sanitize": "thread"},
    {"grid": 2, "lanes": 32, "rows": 2, "sanitize": "thread"},
)
"""The ways in which a kernel must have run to be trusted on a GPU: parametrise a family's test over them.

TSan takes a millisecond for each thread of a launch; so it gets few."""
