"""Graphs: nodes in order, and the values that they pass on by name.

A value is a Tensor, or a NumPy array as far as it is known on the host: shapes, integer constants, and what is computed
of such alone. A node all of whose inputs are on the host gives host values, through the same functions; so the
arithmetic of shapes never touches a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd import Tensor, no_grad
from ..backend import device_of, is_array, to_device
from ..backend.tracers import unrecorded
from .registry import Operator

Scope = dict[str, Any]


def host_array(value: Any) -> np.ndarray:
    """A value as a NumPy array."""
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


@dataclass
class Node:
    """One operation: ``operator`` applied to the values named ``inputs`` (``""``: none) gives those named ``outputs``."""

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    graphs: dict[str, Graph]
    opset: int
    operator: Operator
    takes_node: bool
    uploads: dict[int, tuple[np.ndarray, Any]] = field(default_factory=dict)  # host constants where they were needed

    def __post_init__(self) -> None:
        names = [self.operator.parameter(i) for i in range(len(self.inputs))]
        self.on_host = tuple(name in self.operator.host for name in names)

    def run(self, scope: Scope) -> None:
        """Compute the outputs and put them into ``scope``."""
        values = [scope[name] if name else None for name in self.inputs]
        like = next((v for v, host in zip(values, self.on_host) if isinstance(v, Tensor) and not host), None)
        values = [
            v if v is None else host_array(v) if host else self._placed(i, v, like)
            for i, (v, host) in enumerate(zip(values, self.on_host))
        ]
        keywords: dict[str, Any] = dict(self.attributes)
        for name, graph in self.graphs.items():
            keywords[name] = graph.bound(scope)
        if self.takes_node:
            keywords["node"] = self
        known = like is None and not self.graphs  # before anything is run, also where only shapes are followed
        try:
            if known:
                with no_grad(), unrecorded():
                    result = self.operator.function(*values, **keywords)
            else:
                result = self.operator.function(*values, **keywords)
        except Exception as error:
            if type(error) in (TypeError, ValueError) and error.args and isinstance(error.args[0], str):
                error.args = (f"{self.title()}: {error.args[0]}", *error.args[1:])
            else:
                error.add_note(f"in {self.title()}")
            raise
        results = tuple(result) if isinstance(result, tuple | list) else (result,)
        if known:
            results = tuple([r if r is None else host_array(r) for r in results])
        for i, name in enumerate(self.outputs):
            if name:
                if i >= len(results) or results[i] is None:
                    raise ValueError(f"{self.title()}: the output {i} ({name!r}) is not supported")
                scope[name] = results[i]

    def _placed(self, i: int, value: Any, like: Any) -> Any:
        """A host value beside a tensor: on the tensor's device, copied there once if it is a constant."""
        if like is None or not isinstance(value, np.ndarray) or not is_array(like.data) or like.device == "cpu":
            return value
        kept = self.uploads.get(i)
        if kept is None or kept[0] is not value or device_of(kept[1]) != like.device:
            kept = self.uploads[i] = (value, to_device(value, like.device))
        return kept[1]

    def title(self) -> str:
        """The node in error messages."""
        domain = f"{self.domain}, " if self.domain else ""
        return f"node {self.name!r} ({self.op_type}, {domain}opset {self.opset})"

    def __str__(self) -> str:
        arguments = [name or "None" for name in self.inputs]
        arguments += [f"{k}={_brief(v)}" for k, v in self.attributes.items()]
        arguments += [f"{k}=<graph of {len(g.nodes)} nodes>" for k, g in self.graphs.items()]
        return f"{self.name}: {self.op_type}({', '.join(arguments)}) -> {', '.join(n for n in self.outputs if n)}"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.shape} {value.dtype}>"
    return repr(value) if not isinstance(value, list) or len(value) <= 8 else f"[{len(value)} values]"


@dataclass
class Graph:
    """Nodes in order. ``values``: parameters, buffers and host constants by name."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[Node]
    values: dict[str, Any]
    free: dict[str, list[tuple[Node, int]]] = field(default_factory=dict)  # values from outside, and who uses them

    def __post_init__(self) -> None:
        last: dict[str, int] = {}
        for i, node in enumerate(self.nodes):
            for name in (*node.inputs, *(n for g in node.graphs.values() for n in g.free)):
                last[name] = i
        kept = {*self.outputs, *self.values, *self.free}
        self.dead: list[list[str]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for name in node.outputs:
                if name and name not in kept:
                    self.dead[last.get(name, i)].append(name)

    def run(self, scope: Scope) -> tuple[Any, ...]:
        """The outputs; ``scope`` holds the inputs, and what the graph uses from outside."""
        scope.update(self.values)
        for node, dead in zip(self.nodes, self.dead):
            node.run(scope)
            for name in dead:  # its memory may be needed
                del scope[name]
        return tuple([scope[name] for name in self.outputs])

    def bound(self, outer: Scope) -> Body:
        """The graph as a function of its inputs, that sees the values around it."""
        return Body(self, {name: outer[name] for name in self.free})


@dataclass
class Body:
    """A graph inside a node: a function of its inputs that gives the tuple of its outputs."""

    graph: Graph
    outside: Scope

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        return self.graph.run({**self.outside, **dict(zip(self.graph.inputs, inputs))})
