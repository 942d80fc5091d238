"""Nested values: models, lists, tuples and dicts of parameters and arrays.

``Structure`` is what a layer is to this file: an object that lists its children. ``Gradients`` mirrors one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..backend import Array, is_array, is_float
from .tensor import Param, Tensor


class Structure:
    """An object with named children: attributes that are parameters, buffers, structures or containers of them."""

    _indexed = False  # whether ``structure[i]`` is its i-th child, as for Chain and its kin

    def children(self) -> Iterator[tuple[str, Any]]:
        """The name and value of every attribute that holds parameters, buffers or other structures."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor | Structure) or (isinstance(value, list | tuple | dict) and _holds(value)):
                yield name, value


def _holds(x: Any) -> bool:
    values = x.values() if isinstance(x, dict) else x
    return any(isinstance(v, Tensor | Structure) or (isinstance(v, list | tuple | dict) and _holds(v)) for v in values)


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

    def __init__(self, parts: dict[str, Any], indexed: bool) -> None:
        self.__dict__.update(parts)
        self.__dict__["_indexed"] = indexed

    def _parts(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_indexed"}

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._parts()[key]
        if not self._indexed:
            raise TypeError("these gradients belong to a layer without an index: use their attributes "
                            f"({', '.join(self._parts())})")
        return list(self._parts().values())[key]

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts().values())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None  # a part of the layer that has no parameters

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

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
    if type(x) is float:
        return make(x)
    if isinstance(x, dict):
        return {k: lift(v, make) for k, v in x.items()}
    if isinstance(x, list):
        return [lift(v, make) for v in x]
    if isinstance(x, tuple):
        values = [lift(v, make) for v in x]
        return type(x)(*values) if hasattr(x, "_fields") else tuple(values)
    return x


def mirror(x: Any, gradient_of: Callable[[Tensor], Any]) -> Any:
    """The structure of ``x`` with each trainable leaf replaced by its gradient, None where there is none."""
    if isinstance(x, Tensor):
        return gradient_of(x)
    if isinstance(x, Structure):
        parts = {name: mirror(value, gradient_of) for name, value in x.children()}
        if all(v is None for v in parts.values()):
            return None
        return Gradients(parts, x._indexed)
    if isinstance(x, dict):
        return _none_if_empty({k: mirror(v, gradient_of) for k, v in x.items()}, x.values())
    if isinstance(x, list | tuple):
        values = [mirror(v, gradient_of) for v in x]
        if isinstance(x, tuple):
            return _none_if_empty(type(x)(*values) if hasattr(x, "_fields") else tuple(values), values)
        return _none_if_empty(values, values)
    return None


def _none_if_empty(result: Any, values: Any) -> Any:
    parts = result.values() if isinstance(result, dict) else values
    return None if all(v is None for v in parts) else result


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


__all__ = ["Array", "Gradients", "Structure", "items", "lift", "mirror", "parameters"]
