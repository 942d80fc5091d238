"""The machine's C++ compiler: which one, and what it and this machine can do.

That is tried once and remembered; what is missing is left out and the results stay right. Nothing outside this file
and `host.py` knows the platform.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .cache import cached, digest
from .source import compose, parse_file

COMPILER = "MINITORCH_FLUX_CXX"
EXTRA_FLAGS = "MINITORCH_FLUX_CXXFLAGS"

# -ffast-math is not here and must not come: a library linked with it turns denormals off for the whole process.
BASE = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
SHARED = ("-shared",)

# (name, alternatives): of each, the first alternative that builds, loads and computes rightly is used.
OPTIONS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("native", (("-march=native",), ("-mcpu=native",))),
    ("wide vectors", (("-mprefer-vector-width=512",),)),
    ("OpenMP", (("-fopenmp",), ("-fopenmp-simd",))),
    ("SIMD mathematics", (("-DFLUX_SIMD_MATH=2",), ("-DFLUX_SIMD_MATH=1",))),
    ("half", (("-DFLUX_HALF",),)),
)

TRIAL = """
#include "flux.h"
#ifdef FLUX_HALF
extern "C" float trial_half(float v) { return (float)(_Float16)v; }
#endif
extern "C" int trial_threads() {
    int n = 0;
    #pragma omp parallel num_threads(2) reduction(+ : n)
    n += 1;
    return n;
}
KERNEL(trial)(const float* x, float* y, long long n) {
    ROWS(r, 4, n) {
        LANES(j, n) y[r * n + j] = f_exp(x[j]) + f_log(x[j]) + f_sin(x[j]) + f_cos(x[j])
#if FLUX_SIMD_MATH != 1
            + f_tanh(x[j]) + f_erf(x[j]) + f_expm1(x[j]) + f_log1p(x[j]) + f_tan(x[j]) + f_sinh(x[j]) + f_cosh(x[j])
            + f_exp2(x[j]) + f_log2(x[j]) + f_log10(x[j]) + f_atan(x[j]) + f_asinh(x[j])
            + f_asin(x[j] / 4) + f_acos(x[j] / 4) + f_atanh(x[j] / 4) + f_acosh(1 + x[j])
#endif
            ;
    }
}
"""

# Runs in a process of its own: a wrong -march dies there, not here.
TRIAL_RUN = """
import ctypes, math, sys
lib = ctypes.CDLL(sys.argv[1])
n = 37
x = (ctypes.c_float * n)(*[0.5 + i / n for i in range(n)])
y = (ctypes.c_float * (4 * n))()
assert lib.trial_threads() >= 1
lib.trial(x, y, ctypes.c_longlong(n))
for i in range(4 * n):
    v = x[i % n]
    want = math.exp(v) + math.log(v) + math.sin(v) + math.cos(v)
    if "1" != sys.argv[2]:
        want += (math.tanh(v) + math.erf(v) + math.expm1(v) + math.log1p(v) + math.tan(v) + math.sinh(v) + math.cosh(v)
                 + 2 ** v + math.log2(v) + math.log10(v) + math.atan(v) + math.asinh(v)
                 + math.asin(v / 4) + math.acos(v / 4) + math.atanh(v / 4) + math.acosh(1 + v))
    assert abs(y[i] - want) <= 1e-4 * abs(want), (v, y[i], want)
"""


@dataclass(frozen=True)
class Toolchain:
    """A compiler, what it calls itself, the flags that work here, and a digest of what they enable."""

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...]
    identity: str

    @property
    def half(self) -> bool:
        return "-DFLUX_HALF" in self.flags

    @property
    def openmp(self) -> bool:
        return "-fopenmp" in self.flags


def find_compiler() -> tuple[str, ...] | None:
    """$MINITORCH_FLUX_CXX, else c++, g++ or clang++ of the path, else the ziglang package."""
    if os.environ.get(COMPILER):
        return tuple(shlex.split(os.environ[COMPILER]))
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return (found,)
    try:
        import ziglang  # noqa: F401
    except ImportError:
        return None
    return (sys.executable, "-m", "ziglang", "c++")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _macros(command: tuple[str, ...], flags: tuple[str, ...]) -> str | None:
    """Every macro that the compiler predefines under these flags: its version and the CPU's features, in its words."""
    try:
        result = _run([*command, *flags, "-dM", "-E", "-x", "c++", os.devnull])
    except OSError:
        return None
    return result.stdout if result.returncode == 0 else None


def _try(command: tuple[str, ...], flags: tuple[str, ...]) -> str | None:
    """Build and run the trial kernel; None, or what went wrong."""
    with tempfile.TemporaryDirectory(prefix="minitorch_flux-") as folder:
        code, library = Path(folder, "trial.cpp"), Path(folder, "trial.so")
        code.write_text(compose(parse_file(Path("trial.cu"), TRIAL), {"FLUX_CPU": "1"}, {}), encoding="utf-8")
        built = _run([*command, *flags, *SHARED, str(code), "-o", str(library)])
        if built.returncode:
            return built.stderr.strip() or f"the compiler ended with status {built.returncode}"
        math = "1" if "-DFLUX_SIMD_MATH=1" in flags else "2"
        ran = _run([sys.executable, "-I", "-S", "-c", TRIAL_RUN, str(library), math])
        return (ran.stderr.strip() or f"the trial ended with status {ran.returncode}") if ran.returncode else None


def _working_flags(command: tuple[str, ...], extra: tuple[str, ...]) -> tuple[str, ...]:
    """The flags that work: all first choices at once where that succeeds, else one option after the other."""
    flags = (*BASE, *(flag for _, alternatives in OPTIONS for flag in alternatives[0]))
    if _try(command, flags + extra) is None:
        return flags + extra
    flags = BASE
    if why := _try(command, flags + extra):
        raise UnusableCompiler(why)
    for _, alternatives in OPTIONS:
        for alternative in alternatives:
            if _try(command, flags + alternative + extra) is None:
                flags += alternative
                break
    return flags + extra


class UnusableCompiler(Exception):
    """The compiler cannot build the simplest kernel; the text is its own."""


@functools.cache
def _toolchain(command: tuple[str, ...], extra: tuple[str, ...]) -> Toolchain | str:
    macros = None
    for native in (("-march=native",), ("-mcpu=native",), ()):
        macros = macros or _macros(command, (*BASE, *native, *extra))
    if macros is None:
        return f"{shlex.join(command)} does not run as a C++ compiler"
    version = re.search(r'^#define __VERSION__ "?([^"\n]*)', macros, re.MULTILINE)
    machine = [macros, *command, *extra, sys.platform, platform.machine(), *platform.libc_ver()]

    def probe(folder: Path) -> None:
        (folder / "flags.json").write_text(json.dumps(_working_flags(command, extra)))

    try:
        remembered = cached(digest("flags", TRIAL, repr(BASE), repr(OPTIONS), *machine), "flags.json", probe)
    except UnusableCompiler as error:
        return f"{shlex.join(command)} cannot build a kernel: {error}"
    flags = tuple(json.loads(remembered.read_text()))
    return Toolchain(command, version[1] if version else "unknown", flags, digest(*machine, *flags))


def toolchain() -> Toolchain | str:
    """The compiler in use, or why there is none."""
    command = find_compiler()
    if command is None:
        return f"no C++ compiler: neither ${COMPILER} nor c++, g++ or clang++ on the path, nor the ziglang package"
    return _toolchain(command, tuple(shlex.split(os.environ.get(EXTRA_FLAGS, ""))))


INSTALL_COMPILER = (
    "install a C++ compiler (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; "
    f"macOS: xcode-select --install; anywhere: pip install ziglang), or set {COMPILER}"
)
