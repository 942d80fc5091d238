"""What layers that are made of layers share: indexing, slicing, names, and the path to a layer in the error it raises."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Iterator
from functools import partial, reduce
from traceback import walk_tb
from typing import Any

import numpy as np

from ..autograd import Structure, Tensor
from ..backend import OutlineError, is_array, is_number
from ..foreign_attributes import LAYER
from ..ops.arithmetic import add, multiply
from ..ops.comparisons import maximum, minimum
from ..ops.joining import concatenate, dstack, hstack, stack, vstack
from . import printing
from .module import Module, walk

_OF_A_LIST = {tuple, list, concatenate, stack, hstack, vstack, dstack}
_OF_TWO = (add, multiply, maximum, minimum, operator.add, operator.mul)  # of any number, one after the other


class Container(Module):
    """Layers in a row, numbered or named: ``m[i]``, ``m["name"]``, ``m.name``, slices, and paths ``"0.weight"``.

    A connection, where there is one, is a child of its own after the layers, if it has parameters.
    """

    _indexed = True
    layers: tuple[Callable[..., Any], ...]
    names: tuple[str, ...] | None
    connection: Any = None

    def _hold(self, layers: Any, named: dict[str, Any]) -> None:
        """Keep the layers, after a look at each: called by ``__init__``."""
        kind = type(self).__name__
        if layers and named:
            raise TypeError(f"{kind}: give either layers or named layers, not both")
        own = (n for n in dir(type(self)) if not n.startswith("__") and hasattr(type(self), n))
        reserved = {"layers", "names", "connection", *own}
        for name in named:
            if name in reserved:
                raise ValueError(f"{kind}: a layer may not be called {name!r}, which is an attribute of {kind}")
        self.names = None
        self.layers = tuple(layers or named.values())
        self.names = tuple(named) or None
        for i, layer in enumerate(self.layers):
            check_layer(kind, layer, i)

    def _again(self, layers: list[Any], named: dict[str, Any]) -> Any:
        """A container of the same kind with other layers."""
        raise NotImplementedError

    def _call(self, i: int, *inputs: Any) -> Any:
        """The output of layer ``i``; an error in it names the path to the layer."""
        try:
            return self.layers[i](*inputs)
        except Exception as error:
            add_path(error, self, str(i) if self.names is None else repr(self.names[i]), self.layers[i])
            raise

    def children(self) -> Iterator[tuple[str, Any]]:
        """The layers, by index or by name, and a connection that is a layer itself."""
        yield from zip(self.names or map(str, range(len(self.layers))), self.layers, strict=True)
        if isinstance(self.connection, Structure):
            yield "connection", self.connection

    def __getitem__(self, key: Any) -> Any:
        kind = type(self).__name__
        if isinstance(key, str):
            if self.names is None or key not in self.names:
                raise KeyError(f"{kind} has no layer called {key!r}; it has {list(self.names or ())}")
            return self.layers[self.names.index(key)]
        if isinstance(key, slice):
            picked = list(range(len(self.layers)))[key]
        elif isinstance(key, list | tuple) or (is_array(key) and key.ndim == 1):
            keys = list(key)
            if keys and all(isinstance(k, bool) or getattr(k, "dtype", None) == np.bool_ for k in keys):
                if len(keys) != len(self.layers):
                    raise IndexError(f"{kind}: a mask of {len(keys)} for {len(self.layers)} layers")
                picked = [i for i, k in enumerate(keys) if k]
            else:
                picked = [self._place(k) for k in keys]
        else:
            return self.layers[self._place(key)]
        if self.names is None:
            return self._again([self.layers[i] for i in picked], {})
        return self._again([], {self.names[i]: self.layers[i] for i in picked})

    def _place(self, key: Any) -> int:
        n, i = len(self.layers), operator.index(key)
        if not -n <= i < n:
            raise IndexError(f"{type(self).__name__} has {n} layers, there is none at {i}")
        return i % n

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__.get("names") or ()
        if name in names:
            return self.layers[names.index(name)]
        hint = f"; here it is {LAYER[name]}" if name in LAYER else ""
        raise AttributeError(f"{type(self).__name__} has no layer or attribute {name!r}{hint}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        names = self.__dict__.get("names") or ()
        if name not in names:
            return super().__setattr__(name, value)
        i = names.index(name)
        check_layer(type(self).__name__, value, i)
        return super().__setattr__("layers", (*self.layers[:i], value, *self.layers[i + 1 :]))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        first = [] if self.connection is None else [self.connection]
        if self.names:
            return first, dict(zip(self.names, self.layers, strict=True))
        return [*first, *self.layers], {}


def check_layer(kind: str, layer: Any, i: int) -> None:
    """Raise TypeError where ``layer`` cannot be the i-th layer of a container."""
    if isinstance(layer, type) and issubclass(layer, Module):
        raise TypeError(f"{kind}: layer {i} is the class {layer.__name__}, not a layer: write {layer.__name__}(...)")
    if not callable(layer):
        hint = " (did you forget the * before a list of layers?)" if isinstance(layer, list | tuple) else ""
        raise TypeError(f"{kind}: layer {i} is a {type(layer).__name__}, which cannot be called{hint}")


def check_connection(kind: str, connection: Any) -> Any:
    """The function that joins the outputs of layers. Raises TypeError for what is none."""
    is_class = isinstance(connection, type) and issubclass(connection, Module)
    if callable(connection) and not is_class:
        return connection
    got = f"the class {connection.__name__}" if is_class else repr(connection)
    raise TypeError(f"{kind}: the connection is a function of the outputs, such as flux.add, lambda a, b: a * b, or tuple "
                    f"to keep them apart; got {got}")


def connect(owner: Any, outputs: list[Any]) -> Any:
    """The outputs joined by the owner's connection: each an argument of it, one list for a function of a list, and in
    turn for a sum, product, maximum or minimum of two.
    """
    f = owner.connection
    try:
        if any(f is g for g in _OF_TWO):
            return reduce(f, outputs)
        return f(outputs) if _takes_a_list(f) else f(*outputs)
    except Exception as error:
        shapes = ", ".join(str(y.shape) if hasattr(y, "shape") else type(y).__name__ for y in outputs)
        _say(error, type(owner).__name__, f": the connection {printing.text(f)} of {shapes}: ", owner)
        raise


def _takes_a_list(f: Any) -> bool:
    while isinstance(f, partial):
        f = f.func
    return inspect.unwrap(f) in _OF_A_LIST if isinstance(f, type) or inspect.isfunction(f) else False


def as_tensor(x: Any) -> Any:
    """An array of real numbers as a Tensor; anything else as it is: complex ones a layer refuses in its own name."""
    return Tensor(x) if is_array(x) and is_number(x.dtype) and x.dtype.kind != "c" else x


def as_tensors(x: Any) -> Any:
    """``as_tensor``, in tuples too."""
    return tuple(map(as_tensors, x)) if type(x) is tuple else as_tensor(x)


def add_path(error: Exception, owner: Module, key: str | None, layer: Any) -> None:
    """Say where in the model an error arose, in the layer ``owner[key]`` (or in the only layer of ``owner``).

    Paths stand before the message of a ValueError, TypeError or OutlineError, and in a note on any other error.
    """
    _add(error, owner, "" if key is None else f"[{key}]", layer)


def add_place(error: Exception, owner: Module) -> None:
    """The same for a module with a call of its own: which layer inside of it raised, the frames of the error tell.

    The outermost frame below the call whose first argument is a part of ``owner``: ``Block.branch[1] Dense(5, 4): ...``.
    """
    if getattr(error, "_inside", None) is owner:
        return
    places = {id(m): path for path, m in walk(owner) if m is not owner}
    for frame, _ in walk_tb(error.__traceback__):
        code = frame.f_code
        layer = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(layer, Module) and id(layer) in places:
            place = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", f".{places[id(layer)]}")
            _add(error, owner, place, layer)
            return


def _add(error: Exception, owner: Module, place: str, layer: Any) -> None:
    path = type(owner).__name__ + place
    inside = getattr(error, "_inside", None)  # the layer whose path the message begins with
    if inside is None:
        _say(error, path, " ", owner, f", {printing.text(layer)}")
    else:
        _say(error, path, "." if inside is layer else f".{type(layer).__name__}.", owner)


def _say(error: Exception, path: str, joint: str, owner: Any, note: str = "") -> None:
    if type(error) in (ValueError, TypeError, OutlineError) and error.args and isinstance(error.args[0], str):
        error.args = (f"{path}{joint}{error.args[0]}", *error.args[1:])
        error._inside = owner  # type: ignore[attr-defined]
    else:
        error.add_note(f"in {path}{note or joint.removesuffix(': ')}")
