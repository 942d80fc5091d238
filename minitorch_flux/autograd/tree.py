"""Nested values: models, lists, tuples and dicts of parameters and arrays.

``Structure`` is what a layer is to this file: an object that lists its children. ``Gradients`` mirrors one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import Array, is_array, is_float
from .tensors import Param, Tensor


class Structure:
    """An object with named children: attributes that are parameters, buffers, structures or containers of them."""

    _indexed = False  # whether ``structure[i]`` is its i-th child, as for Chain and its kin
    _open = False  # whether it waits for an input to tell its size; then it has no parts yet

    def children(self) -> Iterator[tuple[str, Any]]:
        """The name and value of every attribute that holds parameters, buffers or other structures."""
        for name, value in vars(self).items():
            if isinstance(value, _PARTS) or (isinstance(value, _CONTAINERS) and _holds(value)):
                yield name, value

    def _carry(self, convert: Callable[[Tensor], Tensor]) -> None:
        """Move or convert the tensors that the object remembers between its calls; the caller does so with its children."""


_PARTS, _CONTAINERS = (Tensor, Structure), (list, tuple, dict)  # tuples: a union would be built anew for every question


def _holds(x: Any) -> bool:
    values = x.values() if isinstance(x, dict) else x
    return any(isinstance(v, _PARTS) or (isinstance(v, _CONTAINERS) and _holds(v)) for v in values)


def items(x: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of a structure, dict, list or tuple; nothing for anything else."""
    if isinstance(x, Structure):
        yield from x.children()
    elif isinstance(x, dict):
        yield from ((str(k), v) for k, v in x.items())
    elif isinstance(x, list | tuple):
        yield from ((str(i), v) for i, v in enumerate(x))


class Gradients:
    """The gradients of a model, in its structure: ``grads.weight``, ``grads[0].bias``, ``grads["name"]``.

    A part with no parameters, or that the value does not depend on, is None.
    """

    __slots__ = ("__dict__", "_attributes")

    def __init__(self, parts: dict[str, Any], indexed: bool, attributes: tuple[str, ...] = ()) -> None:
        self.__dict__.update(parts)
        self.__dict__["_indexed"] = indexed
        self._attributes = attributes  # all that the layer has, also without gradients

    def _parts(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_indexed"}

    def _mapped(self, f: Callable[[Any], Any]) -> Gradients:
        return Gradients({k: f(v) for k, v in self._parts().items()}, self._indexed, self._attributes)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return getattr(self, key)
        if not self._indexed:
            raise TypeError("these gradients belong to a layer without an index: use their attributes "
                            f"({', '.join(self._parts())})")
        return list(self._parts().values())[key]

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts().values())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._attributes:
            return None  # the layer's, but no parameter and nothing with parameters
        raise AttributeError(f"the layer of these gradients has no {name!r}; they have {', '.join(self.__dict__)}",
                             name=name, obj=self)

    def __repr__(self) -> str:
        body = ", ".join(f"{k}={_brief(v)}" for k, v in self._parts().items() if v is not None)
        return f"Gradients({body})"


def _brief(x: Any) -> str:
    if is_array(x) or isinstance(x, Tensor):
        return f"<{x.shape} {x.dtype}>"
    if isinstance(x, list | tuple):
        return "[" + ", ".join(_brief(v) for v in x) + "]"
    return repr(x)


def lift(x: Any, make: Callable[[Any], Tensor]) -> Any:
    """``x`` with every floating-point array, float and Tensor outside models replaced by ``make`` of it."""
    if isinstance(x, Param | Structure):
        return x
    if isinstance(x, Tensor) or is_array(x):
        return make(x) if is_float(x.dtype) else x
    if isinstance(x, float | np.floating):
        return make(x)
    if isinstance(x, dict):
        return {k: lift(v, make) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return same_kind(x, [lift(v, make) for v in x])
    return x


def same_kind(x: Any, values: list[Any]) -> Any:
    """``values`` as the kind of sequence that ``x`` is: a list, a tuple or a named tuple."""
    if isinstance(x, tuple):
        return type(x)(*values) if hasattr(x, "_fields") else tuple(values)
    return values


def mirror(x: Any, gradient_of: Callable[[Tensor], Any], done: dict[int, Any] | None = None) -> Any:
    """The structure of ``x`` with each trainable leaf replaced by its gradient, None where there is none.

    A structure that is reached twice has one mirror image; inside itself (a child that knows its parent) it has none.
    """
    if isinstance(x, Tensor):
        return gradient_of(x)
    done = {} if done is None else done
    if isinstance(x, Structure):
        if id(x) not in done:
            done[id(x)] = None
            if x._open:  # the value did not pass through it
                return None
            parts = {
                name: gradient_of(value) if isinstance(value, Tensor) else mirror(value, gradient_of, done)
                for name, value in x.children()
            }
            if any([v is not None for v in parts.values()]):
                done[id(x)] = Gradients(parts, x._indexed, tuple(vars(x)))
        return done[id(x)]
    if not isinstance(x, _CONTAINERS):
        return None
    if isinstance(x, dict):
        mirrored = {k: mirror(v, gradient_of, done) for k, v in x.items()}
        return _none_if_empty(mirrored, mirrored.values())
    values = [mirror(v, gradient_of, done) for v in x]
    return _none_if_empty(same_kind(x, values), values)


def _none_if_empty(result: Any, values: Any) -> Any:
    return None if all(v is None for v in values) else result


def parameters(x: Any) -> list[Param]:
    """Every parameter of a nested value, each once, in the order of its first appearance."""
    found: dict[int, Param] = {}
    seen: set[int] = set()
    stack = [x]
    while stack:
        value = stack.pop()
        if isinstance(value, Param):
            found.setdefault(id(value), value)
        elif isinstance(value, Structure | dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            stack.extend(v for _, v in reversed(list(items(value))))
    return list(found.values())


__all__ = ["Array", "Gradients", "Structure", "items", "lift", "mirror", "parameters", "same_kind"]
