"""Kernel texts: where they are, what they declare, and the one string that a compiler gets.

A kernel file is read once. `KERNEL(name)(parameters) {` gives its signatures; `// constants: KH=2 KW=2` declares
compile-time constants and `// types: I=int64` type names beyond T and ACC, with values that the tests build (each line
is one set). `// gpu: sm=80 block=128 T=float16,bfloat16` declares a text that only GPUs from sm_80 on can run, in blocks of
128 threads and for these types: it has no CPU reading. The composed text carries `#line` directives, so a compiler or gdb
names the real file and line.
"""

from __future__ import annotations

import functools
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import KernelError

if TYPE_CHECKING:
    import numpy as np

PACKAGE = Path(__file__).parent.parent

Constants = Mapping[str, "int | float | str"]

_FOR_HEADERS = ("FLUX_CPU", "T", "ACC")  # what flux.h reads; every file has them


def kernels_folder() -> Path:
    """The folder of the kernel texts: beside the package in a checkout, inside it in an installed wheel."""
    for folder in (PACKAGE.parent / "kernels", PACKAGE / "_kernels"):
        if (folder / "flux.h").is_file():
            return folder
    raise KernelError(
        f"the kernel texts are missing: neither {PACKAGE.parent / 'kernels'} nor {PACKAGE / '_kernels'} has flux.h; "
        "reinstall minitorch_flux"
    )


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: `const T* __restrict__ x` is a read-only pointer to T called x."""

    name: str
    ctype: str
    pointer: bool = False
    const: bool = False
    optional: bool = False

    def __str__(self) -> str:
        return f"{'const ' * self.const}{self.ctype}{'*' * self.pointer} {self.name}"


@dataclass(frozen=True)
class Signature:
    """A kernel's name and parameters, where its text lies, and whether it is elementwise (EACH, no ROWS)."""

    name: str
    parameters: tuple[Parameter, ...]
    start: int
    end: int
    elementwise: bool

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))})"


@dataclass(frozen=True)
class GpuOnly:
    """What a text needs that only a GPU can run: the architecture, the threads of a block, the dtypes of T."""

    sm: int
    block: int
    dtypes: tuple[str, ...]

    def takes(self, dtype: np.dtype[Any], architecture: int) -> bool:
        """Whether a GPU of this architecture can run the text for T of this dtype."""
        return dtype.name in self.dtypes and architecture >= self.sm


@dataclass(frozen=True)
class KernelText:
    """A kernel file as read: its text with `#include "..."` of its own folder resolved, and what it declares."""

    path: Path
    text: str
    kernels: Mapping[str, Signature]
    constants: tuple[Mapping[str, str], ...]
    types: tuple[Mapping[str, str], ...]
    gpu: GpuOnly | None = None

    @property
    def name(self) -> str:
        return self.path.name

    def signature(self, kernel: str) -> Signature:
        if kernel not in self.kernels:
            raise KernelError(f"{self.name} has no kernel {kernel!r}; it has {', '.join(self.kernels) or 'none'}")
        return self.kernels[kernel]

    @functools.cached_property
    def declared(self) -> frozenset[str]:
        """The names of all constants and types that the file declares."""
        return frozenset(name for line in (*self.constants, *self.types) for name in line)

    @functools.cached_property
    def needs(self) -> Mapping[str, frozenset[str]]:
        """For each kernel, the declared constants and types that it names and for which the file has no default."""
        defaults = set(re.findall(r"^\s*#\s*define\s+(\w+)", self.text, re.MULTILINE))
        code = _without_comments(self.text)
        words = {k.name: set(re.findall(r"\w+", code[k.start : k.end])) for k in self.kernels.values()}
        return {name: (self.declared - defaults) & found for name, found in words.items()}


def _without_comments(text: str) -> str:
    """The same text, every character of a comment a space: places and lines stay where they are."""
    blank = lambda m: re.sub(r"[^\n]", " ", m[0])  # noqa: E731
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.DOTALL)


def _parameter(text: str, where: str) -> Parameter:
    words = text.replace("*", " * ").split()
    kept = [w for w in words if w not in ("__restrict__", "const", "OPTIONAL", "*")]
    if len(kept) < 2 or words.count("*") > 1 or not all(re.fullmatch(r"\w+", w) for w in kept):
        raise KernelError(f"{where}: cannot read the parameter {text.strip()!r}; write it as `const T* __restrict__ x`")
    pointer = "*" in words
    return Parameter(
        kept[-1], " ".join(kept[:-1]), pointer, pointer and words[0:2].count("const") > 0, "OPTIONAL" in words
    )


def _closing(text: str, start: int, where: str) -> int:
    """The place just after the bracket that closes the one at `start`."""
    pair = {"(": ")", "{": "}"}[text[start]]
    depth = 0
    for m in re.compile(rf"[{re.escape(text[start] + pair)}]").finditer(text, start):
        depth += 1 if m[0] == text[start] else -1
        if depth == 0:
            return m.end()
    raise KernelError(f"{where}: the {text[start]!r} is never closed")


def parse_kernels(text: str, file: str) -> dict[str, Signature]:
    """Every `KERNEL(name)(parameters) { body }` of a text, in order."""
    code = _without_comments(text)
    found: dict[str, Signature] = {}
    for m in re.finditer(r"\bKERNEL\((\w+)\)\s*\(", code):
        where = f"{file}:{code.count(chr(10), 0, m.start(1)) + 1}"
        after = _closing(code, m.end() - 1, where)
        parameters = tuple(_parameter(p, where) for p in code[m.end() : after - 1].split(","))
        brace = code.find("{", after)
        if brace < 0 or code[after:brace].strip():
            raise KernelError(f"{where}: KERNEL({m[1]})(...) is not followed by its body")
        end = _closing(code, brace, where)
        body = code[brace:end]
        if m[1] in found:
            raise KernelError(f"{where}: there are two kernels {m[1]!r}")
        if not re.search(r"\b(ROWS|EACH)\(", body):
            raise KernelError(
                f"{where}: {m[1]} has neither ROWS nor EACH, and what is outside them must have no effect"
            )
        elementwise = "ROWS(" not in body
        found[m[1]] = Signature(m[1], parameters, m.start(), end, elementwise)
    return found


def parse_declarations(kind: str, text: str, file: str) -> tuple[dict[str, str], ...]:
    """The sets of `// kind: NAME=value ...` lines, in order."""
    found = []
    for m in re.finditer(rf"^//\s*{kind}:(.*)$", text, flags=re.MULTILINE):
        pairs = [word.partition("=") for word in m[1].split()]
        if not pairs or not all(re.fullmatch(r"[A-Za-z_]\w*", name) and value for name, _, value in pairs):
            raise KernelError(f"{file}: cannot read {m[0]!r}; write `// {kind}: NAME=value OTHER=value`")
        found.append({name: value for name, _, value in pairs})
    return tuple(found)


def _inlined(path: Path, text: str, seen: set[str]) -> str:
    """The text of `path` with `#include "x.h"` replaced by x.h itself, once each: of its folder or of the kernels'."""
    folders = (path.parent, kernels_folder())

    def replace(m: re.Match[str]) -> str:
        line = text.count("\n", 0, m.start()) + 2
        if m[1] in seen:
            return ""
        seen.add(m[1])
        for folder in folders:
            if (folder / m[1]).is_file():
                inner = _inlined(folder / m[1], (folder / m[1]).read_text(encoding="utf-8"), seen)
                return f'#line 1 "{folder / m[1]}"\n{inner}\n#line {line} "{path}"'
        return m[0]

    return re.sub(r'^[ \t]*#[ \t]*include[ \t]*"([\w./]+)"[^\n]*', replace, text, flags=re.MULTILINE)


def parse_file(path: Path, text: str) -> KernelText:
    """A kernel file from its text."""
    text = _inlined(path, text, {"flux.h", "call.h", "emulate.h"})
    file = path.name
    constants, types = (parse_declarations(kind, text, file) for kind in ("constants", "types"))
    return KernelText(path, text, parse_kernels(text, file), constants, types, _gpu_only(text, file))


def _gpu_only(text: str, file: str) -> GpuOnly | None:
    found = parse_declarations("gpu", text, file)
    if not found:
        return None
    (needs,) = found if len(found) == 1 else ({},)
    sm, block, dtypes = (needs.get(key, "") for key in ("sm", "block", "T"))
    if not (sm.isdigit() and block.isdigit() and dtypes and int(block) % 32 == 0):
        raise KernelError(f"{file}: write one line `// gpu: sm=80 block=128 T=float16,float32`, with whole warps in a block")
    return GpuOnly(int(sm), int(block), tuple(dtypes.split(",")))


@functools.cache
def read_kernels(path: Path) -> KernelText:
    """Read and parse a kernel file."""
    if not path.is_file():
        raise KernelError(f"there is no kernel file {path}")
    return parse_file(path, path.read_text(encoding="utf-8"))


def constant_text(name: str, value: object) -> str:
    """A constant as C++ text: ints, bools, floats (as ACC) and identifiers."""
    if isinstance(value, numbers.Integral):
        whole = int(value)
        return str(whole) if whole >= 0 else f"({whole})"
    if isinstance(value, numbers.Real):
        special = {"nan": "NAN", "inf": "INFINITY", "-inf": "-INFINITY"}
        return f"ACC({special.get(str(float(value)), repr(float(value)))})"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*|-?\d+(\.\d+)?", value):
        return value
    raise KernelError(f"the constant {name}={value!r} is neither a number nor an identifier")


def compose(
    source: KernelText,
    types: Mapping[str, str],
    constants: Constants,
    *,
    before: str = "",
    header: str = "",
    after: str = "",
) -> str:
    """The one text that a compiler gets: defines, flux.h, `header` (a file beside it), then the kernels.

    `before` comes first of all. `after` follows every kernel, on the line of its closing brace, with `{name}` and
    `{optional}` (a bit for every parameter that may be None) filled in. A kernel that names a declared constant or type
    which is neither given nor defined in the file is left out: files may mix kernels that need different ones.
    """
    given = set(constants) | set(types)
    for name in sorted(given - source.declared - set(_FOR_HEADERS)):
        kind, value = ("constants", constants[name]) if name in constants else ("types", "int64")
        raise KernelError(
            f"{source.name} does not declare {name}; add a line `// {kind}: {name}={value}`, so that tests build it"
        )
    defines = {k: constant_text(k, v) for k, v in sorted(constants.items())} | dict(sorted(types.items()))
    lines = {k: f"#define {k} {v}" for k, v in defines.items()}
    folder = kernels_folder()
    parts = [before, *(lines.pop(k) for k in _FOR_HEADERS if k in lines)]
    for file in ("flux.h", header):
        if file:
            parts += [f'#line 1 "{folder / file}"', (folder / file).read_text(encoding="utf-8")]
    parts += lines.values()  # after the headers, where a short name could do harm
    text = source.text
    for signature in sorted(source.kernels.values(), key=lambda s: -s.start):
        kernel = text[signature.start : signature.end]
        if source.needs[signature.name] - given:
            kernel = "\n" * kernel.count("\n")
        else:
            optional = sum(p.optional << i for i, p in enumerate(signature.parameters))
            kernel += after.format(name=signature.name, optional=f"{optional}ull")
        text = text[: signature.start] + kernel + text[signature.end :]
    parts += [f'#line 1 "{source.path}"', text]
    return "\n".join(p for p in parts if p) + "\n"
