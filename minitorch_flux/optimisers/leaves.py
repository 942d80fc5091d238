"""What an optimiser trains: the leaves of a model, their paths, and the gradients that belong to them.

A leaf is a ``Param``, a tensor with ``requires_grad``, or (outside layers) a floating-point array.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import numpy as np

from ..autograd import Gradients, Param, Tensor
from ..autograd.tree import Structure, items
from ..backend import Array, DeviceError, device_of, is_array, is_float


class ArrayLeaf:
    """A plain array in the role of a parameter."""

    __slots__ = ("data", "grad", "track", "version")

    def __init__(self, data: Array) -> None:
        self.data, self.grad, self.track, self.version = data, None, 1, 0


class Node:
    """A part of a model that has parts: ``entries`` pairs each key with a node, the number of a leaf, or None."""

    __slots__ = ("entries", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind  # "layer", "dict", "sequence", or "constant": a tensor that is not trained
        self.entries: list[tuple[Any, Node | int | None]] = []

    def find(self, key: Any) -> Node | int | None:
        """The part under a key, or the i-th one."""
        for k, part in self.entries:
            if k == key:
                return part
        if isinstance(key, int) and not isinstance(key, bool) and self.kind != "dict":
            return self.entries[key][1]
        raise KeyError(key)

    def leaves(self) -> list[int]:
        """The numbers of all leaves below, each once."""
        found: dict[int, None] = {}
        for _, part in self.entries:
            for i in part.leaves() if isinstance(part, Node) else [] if part is None else [part]:
                found[i] = None
        return list(found)


class Leaves:
    """The leaves of a model, in the order of their first appearance, each once.

    ``paths`` and ``targets`` go together; ``root`` is the model's structure. ``unchanged()`` is a quick look whether
    the model still consists of the same objects.
    """

    def __init__(self, model: Any, known: Container[str] = ()) -> None:
        self.model, self._known = model, known  # a known path may be frozen: a tensor without requires_grad
        self.paths: list[str] = []
        self.targets: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._nodes: dict[int, Node | None] = {}
        self._keep: list[Any] = []  # what _nodes knows by id
        self._views: list[Any] = []  # live views of the values of every container in the model
        self.root = self._walk(model, "", inside=False)
        self._snapshot = [*chain.from_iterable(self._views)]
        self.arrays = [t.data for t in self.targets]

    def _walk(self, x: Any, path: str, inside: bool) -> Node | int | None:
        if isinstance(x, Tensor):
            trained = isinstance(x, Param) or (x.node is None and (x.track == 2 or path in self._known))
            return self._leaf(x, path, x) if trained else Node("constant")
        if is_array(x):
            return None if inside or not is_float(x.dtype) else self._leaf(x, path, ArrayLeaf(x))
        if type(x) is float and not inside:
            raise TypeError(
                f"setup: {path or 'the model'} is a Python float, which cannot be updated in place; use "
                "np.array(value) or flux.tensor(value, requires_grad=True)"
            )
        if not isinstance(x, Structure | dict | list | tuple):
            return None
        if id(x) in self._nodes:
            return self._nodes[id(x)]
        self._nodes[id(x)] = None  # a structure that contains itself
        self._keep.append(x)
        node = Node("layer" if isinstance(x, Structure) else "dict" if isinstance(x, dict) else "sequence")
        if isinstance(x, Structure):
            inside = True
            self._watch(vars(x))
        elif not isinstance(x, tuple):
            self._views.append(x.values() if isinstance(x, dict) else x)
        parts = x.items() if isinstance(x, dict) else items(x)
        for key, value in parts:
            below = f"{path}.{key}" if path else str(key)
            node.entries.append((int(key) if node.kind == "sequence" else key, self._walk(value, below, inside)))
        self._nodes[id(x)] = node
        return node

    def _watch(self, attributes: dict[str, Any]) -> None:
        """Children come from attributes, or from lists and dicts in them."""
        self._views.append(attributes.values())
        for value in attributes.values():
            if isinstance(value, list | dict) and id(value) not in self._nodes:
                view = value.values() if isinstance(value, dict) else value
                if len(view) < 100 or any(isinstance(v, Tensor | Structure | list | tuple | dict) for v in view):
                    self._views.append(view)  # a long list of other things, a vocabulary say, is not looked through

    def _leaf(self, x: Any, path: str, target: Any) -> int:
        number = self._numbers.get(id(x))
        if number is None:
            number = self._numbers[id(x)] = len(self.targets)
            self._keep.append(x)
            self.paths.append(path)
            self.targets.append(target)
        return number

    def unchanged(self) -> bool:
        """Whether every part and every parameter's array is the object it was. False may also mean: look closely."""
        now = [*chain.from_iterable(self._views)]
        return (
            len(now) == len(self._snapshot)
            and all(map(is_, now, self._snapshot))
            and all(map(is_, [t.data for t in self.targets], self.arrays))
        )

    # -- gradients -----------------------------------------------------------------------------------------------------

    def getter(self, numbers: list[int]) -> Callable[[Any], Any] | None:
        """A quick function from gradients to the tuple of those of some leaves, where layers are all there is."""
        if len(numbers) < 2 or not _only_layers(self.root):
            return None
        return attrgetter(*(self.paths[i] for i in numbers))

    def collect(self, grads: Any) -> list[Array | None]:
        """The gradient of every leaf, or None; raises where ``grads`` does not have the model's structure."""
        found: list[Any] = [None] * len(self.targets)
        self._collect(self.root, grads, "", found)
        return found

    def checked(self, number: int, grad: Any) -> Array | None:
        """A leaf's gradient as an array of its shape, dtype and device; None stays None."""
        if grad is None:
            return None
        return _as_gradient(grad, self.targets[number].data, self.paths[number] or "the parameter")

    def _collect(self, node: Node | int | None, grads: Any, path: str, found: list[Any]) -> None:
        if grads is None:
            return
        if node is None:
            raise ValueError(f"update: there is a gradient at {path!r}, where the model has no parameters")
        if isinstance(node, int):
            if found[node] is None:
                found[node] = self.checked(node, grads)
            return
        if node.kind == "constant":
            return  # a gradient of it is nobody's concern here
        parts = _parts(grads, node, path)
        known = set()
        for key, part in node.entries:
            known.add(key)
            g = parts.get(key)
            if g is not None:
                self._collect(part, g, f"{path}.{key}" if path else str(key), found)
        unknown = [str(k) for k, g in parts.items() if k not in known and g is not None]
        if unknown:
            raise ValueError(
                f"update: the gradients have {', '.join(unknown)} at {path or 'the top'}, which the model does "
                f"not have; it has {', '.join(str(k) for k, _ in node.entries)}"
            )


def _only_layers(node: Node | int | None) -> bool:
    if not isinstance(node, Node):
        return True
    return node.kind in ("layer", "constant") and all(_only_layers(part) for _, part in node.entries)


def _parts(grads: Any, node: Node, path: str) -> dict[Any, Any]:
    if isinstance(grads, Gradients) and node.kind == "layer":
        return grads._parts()
    if isinstance(grads, dict) and node.kind != "sequence":
        return grads
    if isinstance(grads, list | tuple) and node.kind == "sequence":
        return dict(enumerate(grads))
    hint = ""
    if isinstance(grads, tuple) and not path:
        hint = "; the gradient of several arguments is a tuple, pass the model's own entry"
    kind = {"layer": "layer", "dict": "dict", "sequence": "list or tuple"}[node.kind]
    raise TypeError(
        f"update: the gradients at {path or 'the top'} are a {type(grads).__name__}, the model has a {kind} there{hint}"
    )


def _as_gradient(g: Any, x: Array, path: str) -> Array:
    """The gradient of a leaf as an array of its shape, dtype and device."""
    g = g.data if isinstance(g, Tensor) else np.asarray(g) if isinstance(g, np.generic) else g
    if not is_array(g):
        raise TypeError(f"update: the gradient of {path} is a {type(g).__name__}, not an array of shape {x.shape}")
    if g.shape != x.shape:
        raise ValueError(f"update: the gradient of {path} has shape {g.shape}, the parameter has {x.shape}")
    if not is_float(g.dtype):
        raise TypeError(f"update: the gradient of {path} has dtype {g.dtype}, expected {x.dtype}")
    if device_of(g) != device_of(x):
        raise DeviceError(f"update: the gradient of {path} is on {device_of(g)}, the parameter on {device_of(x)}")
    return g.astype(x.dtype, copy=False)
