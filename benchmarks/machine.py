"""What the results were measured on."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np


def machine() -> dict[str, Any]:
    """Processor, cores, BLAS, compiler and versions."""
    from minitorch_flux.readings.inventory import info

    found = info()
    build = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {}) if isinstance(build, dict) else {}
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "blas": " ".join(str(blas[k]) for k in ("name", "version") if blas.get(k)) or "unknown",
        "compiler": f"{found['compiler']} {found['version']}" if found["compiler"] else "none",
        "flags": found.get("flags"),
        "python": platform.python_version(),
        "versions": {name: v for name in ("minitorch-flux", "numpy", "torch", "jax") if (v := version(name))},
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "load": load(),
    }


def processor() -> str:
    """The processor's own name, with its widest vectors."""
    name, wide = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
        flags = next(line for line in lines if line.startswith("flags")).split()
        wide = next((f" with {text}" for flag, text in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    return name + wide


def load() -> float | None:
    """Processes that wanted to run in the last minute: how much else the machine did when the measurement began."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def version(package: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
