"""NVIDIA's run-time compiler through ctypes: CUDA text in, machine code for one GPU architecture out.

It needs no GPU and no driver (`pip install nvidia-cuda-nvrtc`), so the tests compile every kernel for every
architecture with the very function that serves a GPU.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .arguments import CUDA_NAMES, type_defines
from .errors import KernelBuildError, KernelError
from .source import Constants, KernelText, compose

INSTALL_NVRTC = "install CUDA's compiler: pip install nvidia-cuda-nvrtc (and nvidia-cuda-runtime for 16-bit kernels)"
OPTIONS = ("-std=c++17",)
_HEADERS = {"float16": "#include <cuda_fp16.h>", "bfloat16": "#include <cuda_bf16.h>"}


@dataclass(frozen=True)
class Usage:
    """What one kernel takes of a GPU's multiprocessor: registers a thread, bytes spilled to memory, shared bytes."""

    registers: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class Program:
    """A compiled kernel file: the code ("cubin" for one architecture, else "ptx"), its log, what each kernel uses."""

    code: bytes
    kind: str
    log: str
    usage: Mapping[str, Usage]


def _folders() -> Iterator[Path]:
    """Where CUDA may be installed: pip's wheels, then $CUDA_PATH, then the system's."""
    for entry in sys.path:
        nvidia = Path(entry or ".") / "nvidia"
        if nvidia.is_dir():
            yield from sorted(nvidia.glob("cu[0-9]*"), reverse=True)
            yield nvidia / "cuda_nvrtc"
            yield nvidia / "cuda_runtime"
    if os.environ.get("CUDA_PATH"):
        yield Path(os.environ["CUDA_PATH"])
    yield Path("/usr/local/cuda")


def _libraries() -> Iterator[str]:
    for folder in _folders():
        for pattern in ("lib/libnvrtc.so.*", "lib64/libnvrtc.so.*", "bin/**/nvrtc64_*.dll"):
            found = [p for p in folder.glob(pattern) if "builtins" not in p.name and "alt" not in p.name]
            yield from map(str, sorted(found, key=lambda p: len(p.name)))
    if name := ctypes.util.find_library("nvrtc"):
        yield name


@functools.cache
def _nvrtc() -> ctypes.CDLL | None:
    for path in _libraries():
        for builtins in Path(path).parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins))  # looked for by name later; some wheels have no path to it
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    return None


def nvrtc_version() -> tuple[int, int] | None:
    """(13, 0) and the like, or None where there is no NVRTC."""
    library = _nvrtc()
    if library is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


@functools.cache
def architectures() -> tuple[int, ...]:
    """The GPU architectures that this NVRTC knows: 75, 80, 86, 90, ..."""
    library = _nvrtc()
    if library is None:
        return ()
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(numbers)
    return tuple(numbers)


def cuda_text(source: KernelText, types: Mapping[str, np.dtype[Any]], constants: Constants) -> str | None:
    """The whole text of a kernel file for a GPU, or None where CUDA has no such type.

    The headers are part of it: what caches the result by its text then sees every change.
    """
    defines = type_defines(types, CUDA_NAMES)
    if defines is None:
        return None
    before = "\n".join(_HEADERS[name] for name in sorted({t.name for t in types.values()} & set(_HEADERS)))
    return compose(source, defines, constants, before=before)


def _include_options() -> list[str]:
    folders = (folder / "include" for folder in _folders())
    return [f"-I{folder}" for folder in folders if (folder / "cuda_fp16.h").is_file()][:1]


def compile_cuda(text: str, name: str, architecture: int) -> Program:
    """Compile a CUDA text for an architecture (90 for compute capability 9.0).

    An architecture that this NVRTC does not know yet gets PTX of the newest older one, which the driver translates.
    Raises KernelBuildError with the compiler's message, which names the file and the line.
    """
    library = _nvrtc()
    if library is None:
        raise KernelError(f"no NVRTC to compile {name}: {INSTALL_NVRTC}")
    known = architectures()
    if architecture in known:
        kind, option = "cubin", f"-arch=sm_{architecture}"
    else:
        older = [a for a in known if a < architecture]
        if not older:
            raise KernelError(f"CUDA {nvrtc_version()} has no code for sm_{architecture}; it begins at sm_{min(known)}")
        kind, option = "ptx", f"-arch=compute_{max(older)}"
    options = [option, *OPTIONS, "--ptxas-options=-v", *(_include_options() if "#include <cuda_" in text else ())]
    program = ctypes.c_void_p()
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), name.encode(), 0, None, None))
    try:
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        status = library.nvrtcCompileProgram(program, len(options), array)
        log = _bytes(library, program, "ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
        if status:
            hint = f"\n{INSTALL_NVRTC}" if " open source file" in log else ""
            raise KernelBuildError(f"NVRTC refused {name} for sm_{architecture}:\n{log}{hint}")
        return Program(_bytes(library, program, kind.upper()), kind, log, _usage(log))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        raise KernelError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")


def _bytes(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def warnings_of(log: str) -> list[str]:
    """The lines of a compiler's log that warn (ptxas' own statistics do not)."""
    return [line for line in log.splitlines() if re.search(r"\bwarning\b", line, re.IGNORECASE)]


def _usage(log: str) -> dict[str, Usage]:
    found = {}
    for name, block in re.findall(r"Compiling entry function '(\w+)'.*?\n(.*?)(?=Compiling entry|\Z)", log, re.DOTALL):
        number = lambda pattern: sum(map(int, re.findall(pattern, block)))  # noqa: B023, E731
        found[name] = Usage(
            number(r"Used (\d+) registers"),
            number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
            number(r"(\d+) bytes smem"),
        )
    return found
