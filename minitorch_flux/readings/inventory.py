"""What kernels there are, what this machine can do with them, and building them before they are needed."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.threads import blas_threads, num_threads
from . import host
from .arguments import accumulation_dtype
from .cache import cache_folder, cached, digest, is_cached
from .kernel import KernelFile
from .nvrtc import INSTALL_NVRTC, OPTIONS, Usage, architectures, compile_cuda, cuda_text, nvrtc_version
from .source import Constants, KernelText, kernels_folder, read_kernels
from .toolchain import INSTALL_COMPILER, toolchain


def kernel_texts() -> list[KernelText]:
    """Every kernel file of the library, by name."""
    return [read_kernels(path) for path in sorted(kernels_folder().glob("*.cu"))]


def types_of(dtype: Any) -> dict[str, np.dtype[Any]]:
    """T and ACC of a build for this dtype."""
    t = np.dtype(dtype)
    return {"T": t, "ACC": accumulation_dtype(t)}


def prebuild(requests: Iterable[tuple[KernelFile, Any, Constants]]) -> int:
    """Build, side by side, the CPU libraries of (kernel file, dtype, constants) and load them; returns how many.

    Optional: a first call builds what it needs. Raises KernelBuildError where a compiler refuses a file.
    """

    def one(request: tuple[KernelFile, Any, Constants]) -> bool:
        file, dtype, constants = request
        return host.library_of(file.source, types_of(dtype), constants) is not None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(one, requests))


def usage_of(
    source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants, architecture: int
) -> dict[str, Usage] | None:
    """What each kernel of a build takes of a GPU, compiled now or remembered; None where CUDA has no such type.

    Needs NVRTC, no GPU. Raises KernelError without it, KernelBuildError where it refuses the text.
    """
    text = cuda_text(source, types, constants)
    if text is None:
        return None
    key = _usage_key(text, architecture)

    def make(folder: Path) -> None:
        program = compile_cuda(text, source.name, architecture)
        found = {name: dataclasses.asdict(usage) for name, usage in program.usage.items()}
        (folder / "usage.json").write_text(json.dumps(found), encoding="utf-8")

    found = json.loads(cached(key, "usage.json", make).read_text(encoding="utf-8"))
    return {name: Usage(**usage) for name, usage in found.items()}


def _usage_key(text: str, architecture: int) -> str:
    return digest("usage", text, str(architecture), repr(OPTIONS), repr(nvrtc_version()))


def usage_is_known(
    source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants, architecture: int
) -> bool:
    """Whether ``usage_of`` need not compile."""
    text = cuda_text(source, types, constants)
    return text is None or is_cached(_usage_key(text, architecture), "usage.json")


def info() -> dict[str, Any]:
    """What the readings have on this machine; what is missing comes with why and what to install."""
    tools = toolchain()
    found: dict[str, Any] = {
        "kernels": str(kernels_folder()),
        "cache": str(cache_folder()),
        "built": sum(entry.is_dir() for entry in cache_folder().iterdir()),
        "threads": num_threads(),
        "blas threads": blas_threads(),
    }
    if isinstance(tools, str):
        found |= {"compiler": None, "why": tools, "install": INSTALL_COMPILER}
    else:
        found |= {
            "compiler": " ".join(tools.command),
            "version": tools.version,
            "flags": " ".join(tools.flags),
            "openmp": tools.openmp,
            "simd mathematics": any(flag.startswith("-DFLUX_SIMD_MATH") for flag in tools.flags),
            "float16": tools.half,
        }
    version = nvrtc_version()
    found["nvrtc"] = None if version is None else ".".join(map(str, version))
    if version is None:
        found["install nvrtc"] = INSTALL_NVRTC
    else:
        found["architectures"] = architectures()
    return found
