"""What ``check`` looks at: a function or a layer, the arrays it can be differentiated by, and the state that it holds.

Every evaluation starts from the same state (buffers, recurrent state, modes, random generators) and works on copies of
the parameters and inputs, so nothing that belongs to the caller is changed by it.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..backend import as_array, device_of, is_array, is_float, to_device, use_kernels
from ..backend.generator import Generator, default_generator
from .recording import record, undoing
from .tensors import Param, Tensor
from .transforms import gradient
from .tree import Structure, items

Arrays = list[np.ndarray]


class Leaf(NamedTuple):
    """One array to differentiate by: a parameter, or a part of an input (``param`` is None)."""

    name: str
    value: np.ndarray  # on the host, in float64
    dtype: np.dtype  # what it was
    param: Param | None = None


class Setting(NamedTuple):
    """How to evaluate: on which device, in float64 or the dtypes given, with kernels or references, in which mode."""

    device: str
    exact: bool = True
    kernels: bool = True
    train: bool | None = None

    def cast(self, leaf: Leaf, value: np.ndarray) -> Any:
        """A new array of a leaf's numbers."""
        return self.place(np.array(value, np.float64 if self.exact else leaf.dtype))

    def of(self, a: Any) -> Any:
        """A copy of an array that is no leaf: a buffer, or what a layer remembers."""
        a = to_device(a, "cpu")
        return self.place(a.astype(np.float64) if self.exact and is_float(a.dtype) else a.copy())

    def place(self, a: Any) -> Any:
        """The array on the device."""
        return to_device(a, self.device)


class Subject:
    """A function with its inputs, taken apart."""

    def __init__(self, f: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
        self.f, self.inputs = f, inputs
        self.structures: dict[int, Structure] = {}
        self.tensors: dict[int, Tensor] = {}  # parameters and buffers
        self.leaves: list[Leaf] = []
        self.generators: list[Any] = [default_generator()]
        roots = [(name, x) for name, x in _reachable(f) if isinstance(x, Structure | Tensor)]
        roots += [(f"input {i}", x) for i, x in enumerate(inputs)]
        for name, x in roots:
            self._collect(name, x)
        for i, x in enumerate(inputs):
            _map(x, f"input {i}", self._add_leaf, lambda a: a)
        self._find_generators(f)
        self.device = next((device_of(t.data) for t in self.tensors.values()), None) or _device_of(inputs)
        self._data = {k: (t.data, t.version, t.grad) for k, t in self.tensors.items()}
        self._vars = {k: _copied(vars(s)) for k, s in self.structures.items()}
        self._rng = [_state_of(g) for g in self.generators]

    def _collect(self, root: str, x: Any) -> None:
        """Every structure, parameter and buffer inside ``x``, each once."""
        stack = [("", x)]
        while stack:
            path, value = stack.pop()
            if isinstance(value, Tensor):
                if id(value) in self.tensors or (value is x and not isinstance(x, Param)):
                    continue
                self.tensors[id(value)] = value
                if isinstance(value, Param):
                    name = f"parameter {path}" if path else "parameter"
                    name += f" of {root}" if root else ""
                    self.leaves.append(Leaf(name, _host(value.data), value.dtype, value))
                continue
            if isinstance(value, Structure):
                if id(value) in self.structures:
                    continue
                self.structures[id(value)] = value
            stack.extend((f"{path}.{k}" if path else k, v) for k, v in reversed(list(items(value))))

    def _add_leaf(self, name: str, x: Any) -> Any:
        a = x.data if isinstance(x, Tensor) else np.asarray(x) if isinstance(x, float) else x
        self.leaves.append(Leaf(name, _host(a), a.dtype))
        return x

    def _find_generators(self, f: Any) -> None:
        held = [v for s in self.structures.values() for v in vars(s).values()]
        for x in [*held, *self.inputs, *(v for _, v in _reachable(f))]:
            if isinstance(x, Generator | np.random.Generator) and not any(x is g for g in self.generators):
                self.generators.append(x)

    @property
    def has_modes(self) -> bool:
        """Whether there is a layer that can be put into train and test mode."""
        return any(hasattr(s, "active") for s in self.structures.values())

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Everything as it was found."""
        for k, t in self.tensors.items():
            t.data, t.version, t.grad = self._data[k]
        for k, s in self.structures.items():
            vars(s).clear()
            vars(s).update(_copied(self._vars[k]))
        for g, saved in zip(self.generators, self._rng, strict=True):
            _set_state(g, saved)

    @contextmanager
    def prepared(self, points: Arrays, setting: Setting) -> Iterator[list[Any]]:
        """The state as found but for the parameters, the mode and the dtype; gives what to pass for each leaf."""
        self.restore()
        arrays = [setting.cast(leaf, point) for leaf, point in zip(self.leaves, points, strict=True)]
        for leaf, a in zip(self.leaves, arrays, strict=True):
            if leaf.param is not None:
                leaf.param.data = a
        for t in self.tensors.values():
            if not isinstance(t, Param):
                t.data = setting.of(t.data)
        if setting.train is not None:
            for s in self.structures.values():
                if hasattr(s, "active"):
                    s.active = setting.train
        try:
            with use_kernels(setting.kernels), undoing():
                for s in self.structures.values():
                    s._carry(lambda t: Tensor(setting.of(t.data)))
                yield [a if leaf.param is None else leaf.param for leaf, a in zip(self.leaves, arrays, strict=True)]
        finally:
            self.restore()

    def call(self, leaves: tuple[Any, ...], setting: Setting) -> list[Tensor]:
        """The floating-point values of the function at what stands for the leaves."""
        inputs = iter(
            [
                x if isinstance(x, Tensor) else Tensor(x)
                for x, leaf in zip(leaves, self.leaves, strict=True)
                if leaf.param is None
            ]
        )
        arguments = [
            _map(x, "", lambda name, x: next(inputs), lambda a: setting.place(to_device(a, "cpu").copy()))
            for x in self.inputs
        ]
        return list(_floats(self.f(*arguments)))

    def value(self, points: Arrays, setting: Setting) -> Arrays:
        """The values, on the host."""
        with self.prepared(points, setting) as leaves, record():
            return [to_device(y.data, "cpu") for y in self.call(tuple(leaves), setting)]

    def gradient(self, points: Arrays, dys: Arrays, setting: Setting) -> Arrays:
        """The gradients of ``sum(y * dy)`` by all leaves, from an ordinary backward pass, on the host."""
        with self.prepared(points, setting) as leaves:
            grads = _list(gradient(lambda *xs: self._projected(xs, dys, setting), *leaves))
        return [_or_zeros(g, p) for g, p in zip(grads, points, strict=True)]

    def second(self, points: Arrays, dys: Arrays, us: Arrays, setting: Setting) -> tuple[Arrays, Arrays]:
        """The gradients as above, but recorded, and those of ``sum(u * gradient)`` by all leaves and by the ``dys``."""
        k = len(points)
        firsts: Arrays = []

        def outer(*xs: Any) -> Tensor:
            inner = _list(gradient(lambda *ls: self._projected(ls, xs[k:], setting), *xs[:k]))
            firsts.extend(_or_zeros(g, p) for g, p in zip(inner, points, strict=True))
            total = Tensor(setting.place(np.zeros(())))
            for g, u in zip(inner, us, strict=True):
                if g is not None:
                    total = total + (g * setting.place(u)).sum()
            return total

        with self.prepared(points, setting) as leaves:
            grads = _list(gradient(outer, *leaves, *(setting.place(dy) for dy in dys)))
        return firsts, [_or_zeros(g, p) for g, p in zip(grads, [*points, *dys], strict=True)]

    def _projected(self, leaves: tuple[Any, ...], dys: Any, setting: Setting) -> Tensor:
        total = Tensor(setting.place(np.zeros(())))
        for y, dy in zip(self.call(leaves, setting), dys, strict=True):
            if isinstance(dy, np.ndarray):
                dy = setting.place(dy.astype(y.dtype))
            total = total + (y * dy).sum()
        return total

    def changed_inputs(self, points: Arrays, setting: Setting) -> Iterator[str]:
        """The names of the parameters and inputs that the function writes to."""
        with self.prepared(points, setting) as leaves, record():
            given = [x.data if isinstance(x, Tensor) else x for x in leaves]
            others: list[tuple[Any, Any]] = []

            def keep(a: Any) -> Any:
                others.append((a, setting.place(to_device(a, "cpu").copy())))
                return others[-1][1]

            inputs = iter([Tensor(a) for a, leaf in zip(given, self.leaves, strict=True) if leaf.param is None])
            self.f(*[_map(x, "", lambda name, x: next(inputs), keep) for x in self.inputs])
            for leaf, a, point in zip(self.leaves, given, points, strict=True):
                if not np.array_equal(_host(a), setting.cast(leaf, point).astype(np.float64), equal_nan=True):
                    yield leaf.name
            for a, b in others:
                if not np.array_equal(to_device(a, "cpu"), to_device(b, "cpu")):
                    yield f"an input of dtype {a.dtype} and shape {a.shape}"


# -- nested values -----------------------------------------------------------------------------------------------------


def _map(x: Any, name: str, leaf: Callable[[str, Any], Any], other: Callable[[Any], Any]) -> Any:
    """``x`` with ``leaf(name, part)`` for floating-point parts outside models and ``other`` of the other arrays."""
    if isinstance(x, Param | Structure):
        return x
    if isinstance(x, Tensor) or is_array(x):
        if is_float(x.dtype):
            return leaf(name, x)
        return Tensor(other(x.data)) if isinstance(x, Tensor) else other(x)
    if type(x) is float:
        return leaf(name, x)
    if isinstance(x, dict):
        return {k: _map(v, f"{name}[{k!r}]", leaf, other) for k, v in x.items()}
    if isinstance(x, list | tuple):
        values = [_map(v, f"{name}[{i}]", leaf, other) for i, v in enumerate(x)]
        return values if isinstance(x, list) else type(x)(*values) if hasattr(x, "_fields") else tuple(values)
    return x


def _floats(y: Any) -> Iterator[Tensor]:
    if isinstance(y, dict):
        y = list(y.values())
    if isinstance(y, list | tuple):
        for v in y:
            yield from _floats(v)
    elif isinstance(y, Tensor) or is_array(y) or type(y) is float:
        t = y if isinstance(y, Tensor) else Tensor(as_array(y))
        if is_float(t.dtype):
            yield t


def _reachable(f: Any) -> Iterator[tuple[str, Any]]:
    """What a function holds: itself if it is a layer, its closure, its object, its defaults, the globals it names."""
    seen: set[int] = set()
    stack = [("", f)]
    while stack:
        name, x = stack.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        yield name, x
        if isinstance(x, functools.partial):
            stack += [(name, v) for v in (x.func, *x.args, *x.keywords.values())]
        elif isinstance(x, types.MethodType):
            stack += [(name, x.__self__), (name, x.__func__)]
        elif isinstance(x, types.FunctionType):
            cells = zip(x.__code__.co_freevars, x.__closure__ or (), strict=True)
            stack += [(n, c.cell_contents) for n, c in cells if c != types.CellType()]
            stack += [(name, v) for v in (*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values())]
            used = [(n, x.__globals__.get(n)) for n in x.__code__.co_names]
            stack += [(n, v) for n, v in used if isinstance(v, Structure | Tensor | Generator | np.random.Generator)]
        elif isinstance(x, list | tuple | dict) and not isinstance(x, Structure):
            stack += [(name, v) for v in (x.values() if isinstance(x, dict) else x)]


def _device_of(x: Any) -> str:
    found: list[str] = []

    def note(a: Any) -> Any:
        if hasattr(a, "dtype"):
            found.append(device_of(a.data if isinstance(a, Tensor) else a))
        return a

    for part in x:
        _map(part, "", lambda name, a: note(a), note)
    return found[0] if found else "cpu"


# -- states ------------------------------------------------------------------------------------------------------------


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    return {k: type(v)(v) if type(v) in (list, dict) else v for k, v in attributes.items()}


def _state_of(g: Any) -> Any:
    return g.state_dict() if isinstance(g, Generator) else g.bit_generator.state


def _set_state(g: Any, saved: Any) -> None:
    if isinstance(g, Generator):
        g.load_state_dict(saved)
    else:
        g.bit_generator.state = saved


def _host(a: Any) -> np.ndarray:
    return np.asarray(to_device(as_array(a), "cpu"), np.float64)


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple) else [x]


def _or_zeros(g: Any, point: np.ndarray) -> np.ndarray:
    return np.zeros(point.shape) if g is None else _host(g.data if isinstance(g, Tensor) else g)
