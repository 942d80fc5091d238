"""Programs of a kernel with all its mutants, as libraries: the emulator's, also under a sanitizer, and the CPU reading.

A ``Runner`` takes launches like an emulation. It launches its kernel from these programs, and others as they are on the CPU.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minitorch_flux.cli.kernel_samples import SAMPLES
from minitorch_flux.readings import KernelBuildError, host
from minitorch_flux.readings.arguments import fit_arguments
from minitorch_flux.readings.emulator import SANITIZERS, Emulation, compiler, program_text
from minitorch_flux.readings.source import KernelText, Signature, kernels_folder, parse_file, parse_kernels, read_kernels

from .mutations import Mutant
from .schemata import HELPERS, PROLOGUE, refused, schema

FLAGS = ("-std=c++17", "-w", "-fPIC", "-shared", "-fvisibility=hidden")

LAUNCH = """
extern "C" __attribute__((visibility("default")))
void flux_launch(const char* name, const int* shape, int count, char** data, const long long* bytes, const bool* written) {
    emu::Entry* e = emu::entries;
    while (e && std::strcmp(e->name, name)) e = e->next;
    emu::need(e && e->arguments == count, "no such kernel");
    for (int i = 0; i < count; ++i) {
        emu::slots[i] = {data[i] ? (char*)std::malloc(bytes[i]) : nullptr, bytes[i]};
        if (bytes[i] > 0) std::memcpy(emu::slots[i].data, data[i], bytes[i]);
    }
    e->run({(unsigned)shape[0], 1, 1}, {(unsigned)shape[1], (unsigned)shape[2], 1}, shape[3]);
    for (int i = 0; i < count; ++i) {
        if (written[i] && bytes[i] > 0) std::memcpy(data[i], emu::slots[i].data, bytes[i]);
        std::free(emu::slots[i].data);
    }
}
"""
"""The emulator's program as a library: arrays come from Python, copies of exactly their size go to the kernel."""

Build = tuple[Any, ...]


def only(source: KernelText, kernel: str) -> KernelText:
    """The text without the other kernels; lines stay where they are."""
    text = source.text
    for signature in sorted(source.kernels.values(), key=lambda s: -s.start):
        if signature.name != kernel:
            part = text[signature.start : signature.end]
            text = text[: signature.start] + "\n" * part.count("\n") + text[signature.end :]
    return replace(source, text=text, kernels=parse_kernels(text, source.name))


def source_of(kernel: str) -> KernelText:
    """The kernel file that has the kernel."""
    return next(s for s in map(read_kernels, sorted(kernels_folder().glob("*.cu"))) if kernel in s.kernels)


def with_header(source: KernelText, header: str, text: str) -> KernelText:
    """The kernel file with another text of a header that it includes."""
    own, include = source.path.read_text(), f'#include "{header}"'
    assert own.count(include) == 1, f"{source.name} does not include {header}"
    line = own.count("\n", 0, own.index(include)) + 2
    lines = f'#line 1 "{kernels_folder() / header}"\n{text}\n#line {line} "{source.path}"'
    return parse_file(source.path, own.replace(include, lines))


class Runner(Emulation):
    """Launches a kernel from programs with all these mutants of it, and other kernels as they are on the CPU.

    ``fast``: how much the compiler does for speed; ``folder`` keeps the programs.
    """

    def __init__(self, kernel: str, mutants: Sequence[Mutant], fast: str, folder: Path) -> None:
        super().__init__()
        self.kernel, self.fast, self.folder = kernel, fast, folder
        self.mutants = dict(enumerate(mutants, 1))
        self.alone: set[int] = set()  # those that no program has as a choice
        self.loaded: dict[Build, Any] = {}
        self.used: dict[Build, tuple[KernelText, Mapping[str, Any], Any]] = {}
        self.instead: dict[Build, Path] = {}  # libraries of the one mutant that runs, if it is built alone
        self.paths: dict[tuple[int, Build], Path] = {}  # of all of those
        self.gpu = SAMPLES[kernel].gpu

    def run_in(self, how: Mapping[str, Any]) -> None:
        """The launch shape from now on."""
        super().__init__(**{name: value for name, value in how.items() if name != "other"})
        self.used.clear()

    def prepare(self, k: int) -> None:
        """Build what a mutant needs that is no choice."""
        self.instead = {}
        for build, what in self.used.items():
            if k in self.alone:
                if (k, build) not in self.paths:
                    self.paths[k, build] = self.library_alone(self.mutants[k], *what)
                self.instead[build] = self.paths[k, build]

    def choose(self, k: int) -> None:
        """Be this mutant, in a child."""
        if self.instead:
            self.loaded = {build: self.load(path) for build, path in self.instead.items()}
        for library in self.loaded.values():
            ctypes.c_int.in_dll(library, "flux_mutant").value = k

    def launch(
        self, source: KernelText, signature: Signature, types: Mapping[str, Any], constants: Any,
        rows: int, width: int, args: Sequence[Any],
    ) -> bool:  # fmt: skip
        if signature.name != self.kernel:
            plain = host.library_of(source, types, constants)
            return plain is not None and host.launcher(plain, signature, types)(rows, width, tuple(args))
        build = (source.name, *sorted((name, str(v)) for name, v in (*types.items(), *constants.items())))
        if build not in self.used:
            self.used[build] = source, dict(types), dict(constants)
        if build not in self.loaded:
            self.loaded[build] = self.load(self.library(source, types, constants))
        return self.call(self.loaded[build], source, signature, types, rows, width, args)

    def call(
        self, library: Any, source: KernelText, signature: Signature, types: Mapping[str, Any],
        rows: int, width: int, args: Sequence[Any],
    ) -> bool:  # fmt: skip
        fitted = fit_arguments(signature, types, args, np.ndarray, "cpu")
        g = self.shape(rows, width, signature.elementwise, source.gpu.block if source.gpu else 0)
        arrays = [a if a is None or isinstance(a, np.ndarray) else np.array([a]) for a in fitted]
        n = len(arrays)
        data = (ctypes.c_void_p * n)(*(None if a is None else a.ctypes.data for a in arrays))
        sizes = (ctypes.c_longlong * n)(*(-1 if a is None else a.nbytes for a in arrays))
        written = (ctypes.c_bool * n)(*(p.pointer and not p.const for p in signature.parameters))
        shape = (ctypes.c_int * 4)(g.grid, g.lanes, g.rows, self.backwards)
        library.flux_launch(signature.name.encode(), shape, n, data, sizes, written)
        return True

    def load(self, path: Path) -> Any:
        return ctypes.PyDLL(str(path))

    def library(self, source: KernelText, types: Mapping[str, Any], constants: Any) -> Path:
        """The program with a choice for every mutant that can be one; where the compiler refuses some, without them."""
        while True:
            texts: dict[str, str] = {}
            chosen = {k: m for k, m in self.mutants.items() if k not in self.alone}
            for file in {m.file for m in chosen.values()}:
                text = (kernels_folder() / file).read_text()
                texts[file], left = schema(text, {k: m for k, m in chosen.items() if m.file == file})
                self.alone |= left
            try:
                return self.built(self.composed(source, texts), types, constants, texts.get("flux.h"))
            except KernelBuildError as error:
                bad: set[int] = set()
                for file, text in texts.items():
                    bad |= refused(str(error), file, text, {k: m for k, m in chosen.items() if m.file == file})
                if not bad:
                    raise
                self.alone |= bad

    def library_alone(self, mutant: Mutant, source: KernelText, types: Mapping[str, Any], constants: Any) -> Path:
        """The program with this mutant as it is written."""
        header = mutant.text if mutant.file == "flux.h" else None
        return self.built(self.composed(source, {mutant.file: mutant.text}), types, constants, header)

    def composed(self, source: KernelText, texts: Mapping[str, str]) -> KernelText:
        """The kernel file with these texts of it or of a header, and of its kernels ours alone."""
        for file, text in texts.items():
            if file == source.name:
                source = parse_file(source.path, text)
            elif file != "flux.h":  # which no kernel file's text has inside
                source = with_header(source, file, text)
        return only(source, self.kernel)

    def built(self, source: KernelText, types: Mapping[str, Any], constants: Any, header: str | None) -> Path:
        text = program_text(source, types, constants)
        assert text is not None
        plain = (kernels_folder() / "flux.h").read_text()
        assert text.count(plain) == 1
        text = text.replace(plain, (header or plain) + HELPERS).replace("std::exit(", "_exit(")
        text = f'extern "C" void _exit(int) __attribute__((noreturn));\n{PROLOGUE}{text}{LAUNCH}'
        flags = (*FLAGS, self.fast, *SANITIZERS.get(self.sanitize or "", ()))
        return self.compiled(text, flags)

    def compiled(self, text: str, flags: Sequence[str]) -> Path:
        code = self.folder / f"{len(list(self.folder.iterdir()))}.cpp"
        code.write_text(text)
        built = subprocess.run(
            [*compiler().command, *flags, str(code), "-o", str(code.with_suffix(".so"))], capture_output=True, text=True
        )
        if built.returncode:
            raise KernelBuildError(built.stderr)
        return code.with_suffix(".so")


class OnTheCpu(Runner):
    """The same with the CPU reading, where behind every array there is a fence."""

    def built(self, source: KernelText, types: Mapping[str, Any], constants: Any, header: str | None) -> Path:
        tools = compiler()
        text, begin = host._text(tools, source, types, constants), f'#line 1 "{source.path}"\n'
        assert text is not None
        assert text.count(begin) == 1
        text = text.replace(begin, f"{HELPERS}{begin}")
        flags = tuple("-O1" if flag == "-O3" else flag for flag in tools.flags)  # built more quickly
        return self.compiled(PROLOGUE + text, (*flags, "-shared", "-w"))

    def load(self, path: Path) -> Any:
        return host.Library(path, -1)

    def choose(self, k: int) -> None:
        if self.instead:
            self.loaded = {build: self.load(path) for build, path in self.instead.items()}
        for library in self.loaded.values():
            ctypes.c_int.in_dll(library.handle, "flux_mutant").value = k

    def call(
        self, library: Any, source: KernelText, signature: Signature, types: Mapping[str, Any],
        rows: int, width: int, args: Sequence[Any],
    ) -> bool:  # fmt: skip
        fenced = [_fenced(a) if isinstance(a, np.ndarray) and a.size else a for a in args]
        ran = host.launcher(library, signature, types)(rows, width, tuple(fenced))
        for parameter, a, copy in zip(signature.parameters, args, fenced, strict=True):
            if a is not copy and not parameter.const:
                a[...] = copy
        return ran


def _fenced(a: np.ndarray) -> np.ndarray:
    """A copy that ends where a page begins that nobody may read: what goes beyond it crashes."""
    whole = -(-a.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, whole + mmap.PAGESIZE)
    bytes_ = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(bytes_.ctypes.data + whole), ctypes.c_size_t(mmap.PAGESIZE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = bytes_[whole - a.nbytes : whole].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy
