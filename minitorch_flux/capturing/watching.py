"""Watch: what a step reads in Python, so that no change of it goes unnoticed.

A recording holds only as long as the step would go the same way: the same layers with the same settings, the same arrays
behind the parameters, the same numbers in the variables that the function uses. ``Watch`` finds all that can be reached from
the function: its closure, its defaults, the globals that its code names, the objects that it belongs to, and what these
hold; of objects that are no layers, the attributes that the code names.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from itertools import chain
from operator import is_
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd.tree import Structure
from ..backend import Generator, is_array
from ..nn.recurrence import Recur
from ..optimisers.parts import StatePart
from .spans import owner

PLAIN = (int, float, complex, str, bytes, bool, type(None))
"""What is compared by value: a new object that is equal changes nothing."""
UNCHANGING = (*PLAIN, types.ModuleType, type, np.generic, np.dtype)
LONG = 100
"""Longer lists of other things than layers and tensors are watched by their length alone."""


class Watch:
    """All that can be reached from a function and its arguments, as it is now.

    ``tensors``: parameters, buffers and other tensors; ``recurrent``: layers with a state; ``generators``; ``keepers``:
    optimiser states; ``known``: the owners of all arrays found, by id.
    """

    def __init__(self, step: Any, *others: Any) -> None:
        self._step = step
        self.tensors: list[Tensor] = []
        self.recurrent: list[Recur] = []
        self.known: dict[int, Any] = {}
        self.generators: list[Generator] = []
        self.keepers: list[Any] = []
        self._views: list[Any] = []
        self._names: list[tuple[str, Any]] = []  # of each view: what it belongs to, and that itself
        self._cells: list[tuple[str, types.CellType]] = []
        self._items: list[tuple[str, dict[str, Any], str]] = []  # a name, and where it is looked up
        self._lists: list[tuple[str, Any]] = []
        self._seen: dict[int, Any] = {}
        self._objects: list[tuple[str, Any, set[str]]] = []  # a name, attributes, and those that are watched or not there
        self._words: set[str] = set()  # the names in the code of all functions found
        self._stack: list[tuple[str, Any]] = [("an argument", x) for x in others] + [("the step", step)]
        self._walk()
        self.arrays = [t.data for t in self.tensors]
        self.tracks = [t.track for t in self.tensors]
        self.snapshot = self._now()
        self._lengths = list(map(len, self._views))

    def add(self, t: Tensor, data: Any) -> None:
        """Watch a tensor that only the recording has found."""
        if id(t) not in self._seen:
            self._seen[id(t)] = t
            self.tensors.append(t)
            self.arrays.append(data)
            self.tracks.append(t.track)

    def unchanged(self) -> bool:
        """Whether everything is as it was."""
        if not (all(map(is_, [t.data for t in self.tensors], self.arrays)) and [t.track for t in self.tensors] == self.tracks):
            return False
        now = self._now()
        if len(now) == len(self.snapshot) and all(map(is_, now, self.snapshot)):
            return True
        if len(now) == len(self.snapshot) and all(map(_equal, now, self.snapshot)):
            self.snapshot = now
            return True
        return False

    def changes(self) -> list[str]:
        """The names of what has changed, but for the data of tensors."""
        lengths = list(map(len, self._views))
        if lengths != self._lengths:
            return [name for (name, _), a, b in zip(self._names, lengths, self._lengths, strict=True) if a != b]
        return [name for name, a, b in zip(self._all_names(), self._now(), self.snapshot, strict=True) if not _equal(a, b)]

    # -- what is there now ---------------------------------------------------------------------------------------------

    def _now(self) -> list[Any]:
        return [
            *chain.from_iterable(self._views),
            *[_content(c) for _, c in self._cells],
            *[d.get(k) for _, d, k in self._items],
            *[len(x) for _, x in self._lists],
        ]

    def _all_names(self) -> list[str]:
        found = [f"{name}.{k}" for name, x in self._names for k in (x if isinstance(x, dict) else range(len(x)))]
        found += [name for name, _ in self._cells]
        found += [name for name, _, _ in self._items]
        return found + [f"the length of {name}" for name, _ in self._lists]

    # -- finding it ----------------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        while self._stack:
            while self._stack:
                self._visit(*self._stack.pop())
            for name, values, chosen in self._objects:  # when the code that reads them is known
                self._add_items(name, values, sorted(self._words & values.keys() - chosen))
                chosen |= self._words

    def _add_items(self, name: str, values: dict[str, Any], keys: list[str]) -> None:
        prefix = f"{name}." if name else ""
        self._items += [(f"{prefix}{k}", values, k) for k in keys]
        self._stack += [(f"{prefix}{k}", values[k]) for k in keys]

    def _visit(self, name: str, x: Any) -> None:
        if isinstance(x, UNCHANGING) or id(x) in self._seen:
            return
        self._seen[id(x)] = x
        if isinstance(x, Tensor):
            self.tensors.append(x)
            self.known[id(owner(x.data))] = x.data
        elif isinstance(x, np.ndarray) or is_array(x):
            self.known[id(owner(x))] = x
        elif isinstance(x, Structure):
            if isinstance(x, Recur):
                self.recurrent.append(x)
            self._look_at(name, vars(x))
            self._visit_class(type(x))
        elif isinstance(x, dict):
            if len(x) <= LONG or _holds_parts(x.values()):
                self._look_at(name, x)
            else:
                self._lists.append((name, x))
        elif isinstance(x, list | tuple):
            if len(x) <= LONG or _holds_parts(x):
                self._names.append((name, x))
                self._views.append(x)
                self._stack += [(f"{name}[{i}]", v) for i, v in enumerate(x)]
            else:
                self._lists.append((name, x))
        elif isinstance(x, set):
            self._lists.append((name, x))
        elif isinstance(x, functools.partial):
            self._stack += [(name, v) for v in (x.func, *x.args, *x.keywords.values())]
        elif isinstance(x, types.MethodType):
            self._stack += [(name, x.__self__), (name, x.__func__)]
        elif isinstance(x, types.FunctionType):
            self._visit_function(x)
        elif isinstance(x, property):
            self._stack += [(name, f) for f in (x.fget, x.fset) if f is not None]
        elif isinstance(x, staticmethod | classmethod):
            self._stack.append((name, x.__func__))
        elif isinstance(x, Generator):
            self.generators.append(x)
        elif isinstance(x, StatePart):
            if all(x._root is not k for k in self.keepers):
                self.keepers.append(x._root)
        elif hasattr(x, "__dict__"):
            self._objects.append((name, vars(x), set()))
            self._visit_class(type(x))

    def _look_at(self, name: str, values: dict[str, Any]) -> None:
        self._names.append((name, values))
        self._views.append(values.values())
        self._stack += [(f"{name}.{k}", v) for k, v in values.items()]

    def _visit_function(self, f: types.FunctionType) -> None:
        """What a function can read: but for this library's functions, and the globals of installed packages."""
        if (f.__module__ or "").partition(".")[0] == "minitorch_flux" and f is not self._step:
            return
        cells = list(zip(f.__code__.co_freevars, f.__closure__ or (), strict=True))
        self._cells += cells
        self._stack += [(n, _content(c)) for n, c in cells]
        self._stack += [(f.__name__, v) for v in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values())]
        if _is_foreign(f.__module__ or ""):
            return
        words = set(_words(f.__code__))
        self._words |= words
        names = sorted(words & f.__globals__.keys())
        self._add_items("", f.__globals__, names)
        for n in names:
            value = f.__globals__[n]
            if isinstance(value, types.ModuleType) and not _is_foreign(value.__name__):
                self._add_items(n, vars(value), sorted(words & vars(value).keys()))

    def _visit_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if not _is_foreign(base.__module__) and id(base) not in self._seen:
                self._seen[id(base)] = base
                self._objects.append((base.__name__, vars(base), {"__init__", "__doc__", "__module__"}))
                self._stack += [(f"{base.__name__}.{k}", v) for k, v in vars(base).items() if k != "__init__" and isinstance(
                    v, types.FunctionType | property | staticmethod | classmethod)]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None


def _words(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from _words(c)


@functools.cache
def _is_foreign(module: str) -> bool:
    """Whether a module belongs to this library, to Python's own or to what pip has installed."""
    import sys

    top = module.partition(".")[0]
    if top in sys.stdlib_module_names and top != "__main__" or top in ("minitorch_flux", "numpy", "builtins"):
        return True
    path = getattr(sys.modules.get(module), "__file__", None) or ""
    return "site-packages" in path or "dist-packages" in path


def _holds_parts(values: Any) -> bool:
    return any(isinstance(v, Tensor | Structure) for v in values)


def _equal(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, PLAIN) and (a == b or (a != a and b != b)))
