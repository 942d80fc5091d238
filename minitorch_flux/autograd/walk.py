"""The walk backwards through the tape: iterative, latest operation first.

Nodes are numbered in the order of their creation and every input of a node is older than it, so taking the highest
number next (from a heap) visits each node after all of its users: a graph 100,000 operations deep needs no stack.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from ..backend import FUNCTIONS, array_module, as_array, empty_like, is_array, is_whole, refuse_complex
from .node import Node, Resumed, TapeError
from .recording import OFF, RECORDING, at_level, state
from .tensors import Tensor

Found = dict[Any, Any]
"""The gradient at each leaf tensor, or node, where the walk ended."""


class _Sums:
    """Gradients on their way, added up where several arrive.

    A gradient that a rule returned may be shared with others, so the first sum makes a new array; from then on the sum
    is ours and later ones are added in place.
    """

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph
        self.ours: set[Any] = set()

    def add(self, key: Any, before: Any, g: Any) -> Any:
        """``before + g``, the sum so far at ``key``."""
        if self.create_graph:
            return before + g
        if key in self.ours:
            before += g
            return before
        self.ours.add(key)
        return array_module(g).add(before, g, out=empty_like(g))


def pull_back(
    y: Tensor,
    dy: Any,
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    stops: frozenset[Node] = frozenset(),
    since: int = 0,
) -> Found:
    """Gradients of ``y`` at every leaf, and at every node of ``stops``: ``{leaf or node: gradient}``.

    ``dy`` is the gradient of y itself. Nodes older than ``since`` and everything behind a node of ``stops`` are left
    alone.
    """
    with at_level(RECORDING if create_graph else OFF):
        return _pull_back(y, dy, create_graph, create_graph or retain_graph, stops, since)


def _pull_back(y: Tensor, dy: Any, create_graph: bool, retain: bool, stops: frozenset[Node], since: int) -> Found:
    dy = _fit(dy, y.dtype)
    found: Found = {}
    if y.node is None:
        return {y: dy}
    if y.node.order < since:
        return found
    arrived: dict[Node, list[Any]] = {y.node: [None] * len(y.node.dtypes)}  # per output of a node in the heap
    arrived[y.node][y.output] = dy
    sums = _Sums(create_graph)
    arriving = state.arriving
    if arriving is not None and not arriving.begin(y):
        arriving = None
    heap = [(-y.node.order, y.node)]
    while heap:
        _, node = heapq.heappop(heap)
        dys = arrived.pop(node)
        g = dys[0] if len(dys) == 1 else tuple(dys)
        if node in stops:
            found[node] = g
            continue
        if (pulling := state.pulling) is None:
            grads = node.op.pull(node, g, create_graph)
        else:
            grads = pulling(node, g, create_graph)
        parents = node.parents
        if type(grads) is Resumed:
            parents, grads = grads.parents, grads.grads
        if not retain:
            node.free()
        for parent, dx in zip(parents, grads, strict=True):
            if parent is None or dx is None:
                continue
            if type(parent) is Node:
                source, output = parent, 0
            elif type(parent) is tuple:
                source, output = parent
            else:
                dx = _fit(dx, parent.data.dtype)
                found[parent] = sums.add(parent, found[parent], dx) if parent in found else dx
                if arriving is not None:
                    arriving.arrived(parent, found[parent])
                continue
            if source.order < since:
                continue
            dx = _fit(dx, source.dtypes[output])
            slots = arrived.get(source)
            if slots is None:
                slots = arrived[source] = [None] * len(source.dtypes)
                heapq.heappush(heap, (-source.order, source))
            slots[output] = dx if slots[output] is None else sums.add((source, output), slots[output], dx)
    return found


def _fit(g: Any, dtype: Any) -> Any:
    """A gradient has the dtype of what it is the gradient of."""
    if g.dtype == dtype:
        return g
    return g.astype(dtype) if isinstance(g, Tensor) else FUNCTIONS["astype_forward"](g, dtype)


def seed_gradient(y: Tensor, dy: Any, what: str) -> Any:
    """The gradient that a backward pass starts from: ``dy``, or ones for a single element."""
    if dy is None:
        if y.size != 1:
            raise ValueError(f"{what} needs a value with one element, got shape {y.shape}: reduce it (.sum(), .mean()) "
                             "or give the incoming gradient")
        return array_module(y.data).ones(y.shape, y.dtype)
    value = dy.data if isinstance(dy, Tensor) else as_array(dy, like=y.data)
    refuse_complex(value.dtype, what)
    if value.shape != y.shape:
        raise ValueError(f"{what}: the incoming gradient has shape {value.shape}, the value has {y.shape}")
    return dy if isinstance(dy, Tensor) else value


def own(found: Found, given: Iterable[Any] = ()) -> Found:
    """The gradients as arrays of their own: no views, nothing that two leaves share or that was ``given``."""
    seen = {id(a) for a in given}
    for leaf, g in found.items():
        if not is_array(g):
            g = array_module(g).asarray(g)  # NumPy's arithmetic turns arrays without axes into scalars
        elif id(g) in seen or not is_whole(g) or not getattr(g.flags, "writeable", True):
            copy = empty_like(g)
            copy[...] = g
            g = copy
        seen.add(id(g))
        found[leaf] = g
    return found


def backward(y: Tensor, dy: Any, *, retain_graph: bool, create_graph: bool) -> None:
    """Tensor.backward: add the gradients of ``y`` to the ``.grad`` of the leaves, of all of them or, on error, none."""
    if y.node is None and not (y.track == 2 or y.recorded):
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
    if not create_graph:
        found = own(found, [g])
    sums = {leaf: _accumulated(leaf, grad) for leaf, grad in found.items()}
    for leaf, grad in sums.items():
        leaf.grad = grad


def _accumulated(leaf: Tensor, grad: Any) -> Any:
    """What ``leaf.grad`` becomes; an array that was there stays as it is, somebody may hold it."""
    if grad.shape != leaf.shape:
        raise TapeError(f"a gradient of shape {grad.shape} arrived at a leaf of shape {leaf.shape}")
    before = leaf.grad
    if before is None:
        return grad
    if before.shape != leaf.shape:
        raise ValueError(f"backward() adds to .grad, but that of a leaf of shape {leaf.shape} has shape {before.shape}; "
                         "set it to None")
    if isinstance(before, Tensor) or isinstance(grad, Tensor):
        return before + grad
    grad += before
    return grad
