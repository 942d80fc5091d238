"""The walk backwards through the tape: iterative, latest operation first.

Nodes are numbered in the order of their creation and every input of a node is older than it, so taking the highest
number next (from a heap) visits each node after all of its users: a graph 100,000 operations deep needs no stack.
"""

from __future__ import annotations

import heapq
from typing import Any

from ..backend import array_module, as_array, empty_like, is_array
from .operation import Node, TapeError
from .recording import OFF, RECORDING, at_level
from .tensor import Tensor


class Cotangents:
    """Gradients on their way: sums per destination, formed in the order in which they arrive.

    A gradient that a rule returned may be shared with others, so the first sum makes a new array; from then on the sum
    is ours and later ones are added in place.
    """

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph
        self.values: dict[int, list[Any]] = {}  # id -> [destination, value, owned]

    def add(self, key: int, destination: Any, value: Any) -> bool:
        """Add ``value``; True when it is the first for this key."""
        entry = self.values.get(key)
        if entry is None:
            self.values[key] = [destination, value, False]
            return True
        if self.create_graph:
            entry[1] = entry[1] + value
        elif entry[2]:
            entry[1] += value
        else:
            entry[1], entry[2] = array_module(value).add(entry[1], value, out=empty_like(value)), True
        return False


def pull_back(
    y: Tensor,
    dy: Any,
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    stops: frozenset[Node] = frozenset(),
    since: int = 0,
) -> dict[int, tuple[Any, Any]]:
    """Gradients of ``y`` at every leaf, and at every node of ``stops``: ``{id: (leaf or node, gradient)}``.

    ``dy`` is the gradient of y itself. Nodes older than ``since`` and everything behind a node of ``stops`` are left
    alone.
    """
    with at_level(RECORDING if create_graph else OFF):
        return _pull_back(y, dy, create_graph, retain_graph, stops, since)


def _pull_back(
    y: Tensor, dy: Any, create_graph: bool, retain_graph: bool, stops: frozenset[Node], since: int
) -> dict[int, tuple[Any, Any]]:
    leaves = Cotangents(create_graph)
    if y.node is None:
        leaves.add(id(y), y, dy)
        return {k: (d, v) for k, (d, v, _) in leaves.values.items()}
    pending: dict[Node, Any] = {}
    heap: list[tuple[int, Node]] = []
    inner = Cotangents(create_graph)

    def send(parent: Any, g: Any) -> None:
        if type(parent) is Node:
            node, output = parent, 0
        elif type(parent) is tuple:
            node, output = parent
        else:
            leaves.add(id(parent), parent, _fit(g, parent.data.dtype))
            return
        if node.order < since:
            return
        dtype = node.dtype if node.n_outputs == 1 else node.dtype[output]
        key = node.order if node.n_outputs == 1 else (node.order, output)
        inner.add(key, node, _fit(g, dtype))  # type: ignore[arg-type]
        if node not in pending:
            pending[node] = None
            heapq.heappush(heap, (-node.order, node))

    send(y.node if y.node.n_outputs == 1 else (y.node, y.output), dy)
    values = inner.values
    while heap:
        _, node = heapq.heappop(heap)
        if node.n_outputs == 1:
            g = values.pop(node.order)[1]
        else:
            arrived = [values.pop((node.order, i), None) for i in range(node.n_outputs)]  # type: ignore[call-overload]
            g = tuple(None if a is None else a[1] for a in arrived)
        if node in stops:
            leaves.add(id(node), node, g)
            continue
        grads = node.op.pull(node, g, create_graph)
        parents = node.parents
        if not (retain_graph or create_graph):
            node.free()
        for parent, dx in zip(parents, grads, strict=True):
            if parent is not None and dx is not None:
                send(parent, dx)
    return {k: (d, v) for k, (d, v, _) in leaves.values.items()}


def _fit(g: Any, dtype: Any) -> Any:
    """A gradient has the dtype of what it is the gradient of."""
    return g if g.dtype == dtype else g.astype(dtype)


def seed_gradient(y: Tensor, dy: Any, what: str) -> Any:
    """The gradient that a backward pass starts from: ``dy``, or ones for a single element."""
    if dy is None:
        if y.size != 1:
            raise ValueError(f"{what} needs a value with one element, got shape {y.shape}: reduce it (.sum(), .mean()) "
                             "or give the incoming gradient")
        return array_module(y.data).ones(y.shape, y.dtype)
    value = dy.data if isinstance(dy, Tensor) else as_array(dy, like=y.data)
    if value.shape != y.shape:
        raise ValueError(f"{what}: the incoming gradient has shape {value.shape}, the value has {y.shape}")
    if isinstance(dy, Tensor):
        return dy
    return value.astype(y.dtype, copy=False)


def backward(y: Tensor, dy: Any, *, retain_graph: bool, create_graph: bool) -> None:
    """Tensor.backward: add the gradients of ``y`` to the ``.grad`` of the leaves."""
    if not (y.node is not None or y.track == 2):
        raise TapeError(
            "backward() on a value that was not recorded. The weights of a model are recorded only inside "
            "`with flux.record():` (or use flux.withgradient(loss, model)); other arrays by "
            "flux.tensor(a, requires_grad=True)"
        )
    g = seed_gradient(y, dy, "backward()")
    if create_graph and not isinstance(g, Tensor):
        g = Tensor(g)
    elif not create_graph and isinstance(g, Tensor):
        g = g.data
    found = pull_back(y, g, create_graph=create_graph, retain_graph=retain_graph)
    given = {id(g), id(dy)}
    for leaf, grad in found.values():
        if grad.shape != leaf.shape:
            raise TapeError(f"a gradient of shape {grad.shape} arrived at a leaf of shape {leaf.shape}")
        if leaf.grad is None:
            # the array may be shared with the caller (dy itself), another leaf or a view: the leaf gets its own
            if not create_graph and (id(grad) in given or is_array(grad.base) or not grad.flags.writeable):
                grad = grad.copy()
            leaf.grad = grad
            given.add(id(grad))
        else:
            leaf.grad = leaf.grad + grad
