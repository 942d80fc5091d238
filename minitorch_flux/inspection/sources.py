"""Where things are written: the page, the reference, the gradient and the kernels of an operation, read from the code itself.

Nothing here is a list that somebody keeps: a function's code names what it calls, so walking from an operation's forward
function finds the array functions behind it, and from their launchers the kernels.
"""

from __future__ import annotations

import dis
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from ..autograd import Operation
from ..backend import ArrayFunction
from ..ops.nonlinearities import Activation
from ..readings import KernelFile
from ..readings.source import PACKAGE


class Where(NamedTuple):
    """A line of a file; prints as ``minitorch_flux/ops/dense.py:34``."""

    path: Path
    line: int

    def __str__(self) -> str:
        inside = self.path.is_relative_to(PACKAGE.parent)
        return f"{self.path.relative_to(PACKAGE.parent) if inside else self.path.name}:{self.line}"


class Kernel(NamedTuple):
    """A compiled text that can serve an array function."""

    name: str
    where: Where


class Function(NamedTuple):
    """An array function: its reference, the kernels that serve it, and which arguments those take."""

    name: str
    where: Where
    kernels: tuple[Kernel, ...]
    accepts: str


def plain(f: Any) -> Any:
    """The Python function behind a wrapper, a method, an array function or a partial one."""
    while True:
        if isinstance(f, ArrayFunction):
            f = f.reference
        elif isinstance(f, MethodType):
            f = f.__func__
        elif hasattr(f, "__wrapped__"):
            f = f.__wrapped__
        elif hasattr(f, "func") and callable(f.func):
            f = f.func
        else:
            return f


def where_of(f: Any) -> Where | None:
    """Where a function or class is written; None of what has no Python text."""
    f = plain(f)
    if inspect.isclass(f):
        try:
            lines, first = inspect.getsourcelines(f)
        except (OSError, TypeError):
            return None
        after = next((i for i, line in enumerate(lines) if line.lstrip().startswith("class ")), 0)  # the decorators
        return Where(Path(inspect.getfile(f)), first + after)
    code = getattr(f, "__code__", None)
    return None if code is None else Where(Path(code.co_filename), code.co_firstlineno)


def _names(code: CodeType) -> set[str]:
    """Every name that a function uses, those of the functions inside it too."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _words(code: CodeType) -> set[str]:
    """Every piece of text that a function has."""
    found = {c for c in code.co_consts if isinstance(c, str)}
    for constant in code.co_consts:
        found |= _words(constant) if isinstance(constant, CodeType) else set(constant) if _is_texts(constant) else set()
    return found


def _is_texts(constant: Any) -> bool:
    return isinstance(constant, tuple | frozenset) and all(isinstance(c, str) for c in constant)


def used_by(f: FunctionType, owner: type | None = None) -> Iterator[Any]:
    """What a function refers to: globals, what it closes over, and methods of its class."""
    names = sorted(_names(f.__code__))
    for name in names:
        value = f.__globals__.get(name)
        if isinstance(value, ModuleType):  # conv_tensor.launch: what the function takes from it
            yield from (vars(value)[n] for n in names if n in vars(value) and _is_ours(value.__name__))
        elif isinstance(value, dict):
            yield from _chosen(f, name, value)
        elif value is not None:
            yield value
        elif owner is not None and isinstance(getattr(owner, name, None), FunctionType):
            yield getattr(owner, name)
        elif owner is not None and isinstance(inspect.getattr_static(owner, name, None), property):
            yield inspect.getattr_static(owner, name).fget
    for cell in f.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue


def _is_ours(module: str) -> bool:
    return f"{module}.".startswith("minitorch_flux.")


def _chosen(f: FunctionType, name: str, of: dict[Any, Any]) -> Iterator[Any]:
    """The values of a table; of rows of functions, ``TABLE[key][1]``, only those in the column that the function takes."""
    steps = list(dis.get_instructions(f))
    after = next((steps[i + 1 : i + 6] for i, step in enumerate(steps) if step.argval == name), [])
    column = next((step.argval for step in after if type(step.argval) is int and step.opname.startswith("LOAD")), None)
    for value in of.values():
        if isinstance(value, tuple):
            yield from value if column is None else value[column : column + 1]
        else:
            yield value


def reached(start: Any, kind: type, parts: tuple[str, ...], owner: type | None = None) -> list[Any]:
    """Every object of a ``kind`` that ``start`` uses, itself or by functions of these ``parts`` of the package, in order."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    first = plain(start)
    waiting = [start if isinstance(start, kind | Activation) else first]
    while waiting:
        f = waiting.pop(0)
        if id(f) in seen:
            continue
        seen.add(id(f))
        f = f._operation if isinstance(f, Activation) else f
        if isinstance(f, kind):
            found[id(f)] = f
        if isinstance(f, Operation) or (isinstance(f, ArrayFunction) and f.launcher is not None):
            continue  # what is inside is its own business
        f = plain(f)
        if isinstance(f, FunctionType) and (f is first or f.__module__.startswith(parts)):
            waiting += list(used_by(f, owner))
    return list(found.values())


OPS = ("minitorch_flux.ops",)


def functions_of(start: Any) -> list[Function]:
    """The array functions that an operation's forward or backward function calls."""
    functions = reached(start, ArrayFunction, OPS)
    return [Function(f.name, where, kernels_of(f), f.accepts) for f in functions if (where := where_of(f)) is not None]


def kernels_of(f: ArrayFunction) -> tuple[Kernel, ...]:
    """The kernels that the launcher of an array function can start, as it names them."""
    if f.launcher is None:
        return ()
    files: dict[str, KernelFile] = {}
    texts = {f.name}
    seen: set[int] = set()
    waiting = [plain(f.launcher)]
    while waiting:
        g = waiting.pop(0)
        if id(g) in seen:
            continue
        seen.add(id(g))
        texts |= _words(g.__code__)
        for value in used_by(g):
            if isinstance(value, KernelFile):
                files[value.file] = value
            elif isinstance(plain(value), FunctionType) and plain(value).__module__.startswith(OPS) and not isinstance(
                value, ArrayFunction | Operation
            ):
                waiting.append(plain(value))
    return tuple(
        Kernel(name, place) for file in files.values() for name in file.source.kernels
        if name in texts and (place := _kernel_line(file.source.path, name)) is not None
    )  # fmt: skip


def _kernel_line(path: Path, name: str) -> Where | None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if re.match(rf"KERNEL\({name}\)", line):
            return Where(path, number)
    return None


def operations_of(start: Any, owner: type | None = None) -> list[Operation]:
    """The operations that a function, or a layer's call, is made of."""
    return reached(start, Operation, ("minitorch_flux.ops", "minitorch_flux.nn", "minitorch_flux.losses"), owner)


@functools.cache
def page_of(op: Operation) -> tuple[str, Where] | None:
    """The docstring of the page on which an operation is made, and the line; None of one that is made elsewhere."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("minitorch_flux.") and module is not None and _holds(module, op):
            path = Path(module.__file__ or "")
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if re.search(rf'\(\s*"{re.escape(op.name)}"', line) or re.match(rf'\s*"{re.escape(op.name)}",$', line):
                    return module.__doc__ or "", Where(path, number)
    where = where_of(op.forward)
    made_in = None if where is None else sys.modules.get(plain(op.forward).__module__)
    return None if where is None or made_in is None else (made_in.__doc__ or "", where)


def _holds(module: Any, op: Operation) -> bool:
    values: list[Callable[..., Any]] = list(vars(module).values())
    return any(value is op or getattr(value, "_operation", None) is op for value in values)
