"""``minitorch-flux info``: what this machine has, and what to install for what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from typing import Any

import numpy as np

from ..backend import DeviceError, find_cupy
from ..backend.arrays import INSTALL_CUPY
from ..readings.inventory import info, kernel_texts

EXTRAS = (  # package, the extra that brings it, what it is for
    ("matplotlib", "viz", "pictures of a run"),
    ("pooch", "data", "downloading datasets"),
)


def show_info() -> None:
    """Print the table."""
    for name, *lines in rows():
        for i, line in enumerate(lines):
            print(f"{'' if i else name:<11} {line}")


def rows() -> list[tuple[str, ...]]:
    """``(what, line, further lines ...)``."""
    from .. import __version__

    found = info()
    return [
        ("minitorch", f"minitorch_flux {__version__}"),
        ("Python", f"{platform.python_version()} ({sys.executable})", f"{platform.system()} {platform.machine()}"),
        ("NumPy", f"{np.__version__}, BLAS: {_blas()}", f"threads: {found['threads']}{_blas_threads(found)}"),
        ("compiler", *_compiler(found)),
        ("kernels", f"{len(kernel_texts())} files in {found['kernels']}", _built(found)),
        ("cache", found["cache"]),
        ("CUDA", *_cuda(found)),
        ("CuPy", *_cupy()),
        *[(name, _extra(name, extra, use)) for name, extra, use in EXTRAS],
    ]


def _blas() -> str:
    build = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {}) if isinstance(build, dict) else {}
    return " ".join(str(blas[k]) for k in ("name", "version") if blas.get(k)) or "unknown"


def _blas_threads(found: dict[str, Any]) -> str:
    n = found["blas threads"]
    if n is None:
        return " (this BLAS does not say how many it uses)"
    return "" if n == found["threads"] else f" (BLAS: {n})"


def _compiler(found: dict[str, Any]) -> list[str]:
    if found["compiler"] is None:
        return [f"none, so the NumPy references run: {found['why']}", f"to get the kernels: {found['install']}"]
    features = [name for name in ("openmp", "simd mathematics", "float16") if found[name]]
    lacking = [name for name in ("openmp", "simd mathematics") if not found[name]]
    lines = [f"{found['compiler']}, version {found['version']}", f"with {', '.join(features) or 'nothing special'}"]
    return lines + ([f"without {', '.join(lacking)}: slower, the results are the same"] if lacking else [])


def _built(found: dict[str, Any]) -> str:
    if found["compiler"] is None:
        return "not built: no compiler"
    n = found["built"]
    return f"built: {n} entries in the cache" if n else "not built yet: the first use does it"


def _cuda(found: dict[str, Any]) -> list[str]:
    if found["nvrtc"] is None:
        return [f"no NVRTC (needed for a GPU only): {found['install nvrtc']}"]
    known = found["architectures"]
    return [f"NVRTC {found['nvrtc']} compiles the kernels for sm_{known[0]} to sm_{known[-1]}"]


def _cupy() -> list[str]:
    if importlib.util.find_spec("cupy") is None:
        return [f"not installed (needed for a GPU only): {INSTALL_CUPY}"]
    try:
        runtime = find_cupy().cuda.runtime
        count = runtime.getDeviceCount()
        names = [runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
    except DeviceError as error:
        return [str(error)]
    return [_version("cupy"), *(f"cuda:{i}: {name}" for i, name in enumerate(names))]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed"


def _extra(package: str, extra: str, use: str) -> str:
    if importlib.util.find_spec(package) is None:
        return f"not installed ({use}): pip install 'minitorch-flux[{extra}]'"
    return f"{_version(package)} ({use})"
