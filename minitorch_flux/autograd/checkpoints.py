"""Checkpoints on the tape: what lies between two of them is not kept, but computed again on the way back.

A call of ``f`` inside ``again_later`` is recorded as ever; then its tape is dropped, and one node stands for it that holds
the inputs. When the walk back comes to this node, ``f`` runs a second time, and the walk goes on through the tape of that
run: the same operations in the same order, so the gradients have the same bits. Of a recorded way back, too, the second run is
part of the tape: derivatives of any order are right, but their sums are added up in another order.

The second run draws the random numbers of the first one, whatever other draws there were meanwhile; what layers change in
themselves (running statistics) is put back after it; recording level and kernels are those of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import kernels_enabled, use_kernels
from ..backend.generator import drawing_again, noting_draws
from .node import Node, Resumed, TapeError, checksum_of, next_order
from .operations import source
from .recording import PLAIN, at_level, state, undoing
from .tensors import Tensor
from .tree import same_kind


def again_later(f: Callable[..., Any], inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """``f(*inputs, **keywords)``; where that is recorded, without its tape."""
    if state.level < PLAIN:
        return f(*inputs, **keywords)
    since = next_order()
    with noting_draws() as draws, checkpointing:
        y = f(*inputs, **keywords)
    outputs = _recorded(y, since)
    if not outputs:
        return y
    node = Node()
    node.op, node.order = _AGAIN, next_order()
    node.static, node.residuals = {"level": state.level, "kernels": kernels_enabled()}, (f, inputs, keywords, draws)
    node.inputs, node.dtypes, node.shapes = (), tuple([t.data.dtype for t in outputs]), [t.shape for t in outputs]
    node.parents, node.versions = _sources([t.node for t in outputs], since)
    node.out = node.types = None
    arrays = [(x, x.data) for x in inputs if isinstance(x, Tensor)]
    node.checks = [(x, a, checksum_of(a)) for x, a in arrays] if state.debug else None
    return _replaced(y, {id(t): _output(t, node, i) for i, t in enumerate(outputs)})


class _Again:
    """The operation behind every checkpoint."""

    name = "checkpoint"

    def pull(self, node: Node, dy: Any, create_graph: bool) -> Resumed:
        """The gradients of the outputs, as gradients of those of a second run."""
        node.check_saved()
        f, inputs, keywords, draws = node.residuals
        since = next_order()
        level, kernels = node.static["level"], node.static["kernels"]
        with at_level(level), use_kernels(kernels), drawing_again(draws), undoing(), running_again:
            y = f(*inputs, **keywords)
        outputs = _recorded(y, since)
        if [t.shape for t in outputs] != node.shapes or tuple([t.data.dtype for t in outputs]) != node.dtypes:
            raise TapeError("checkpoint: the second run, on the way back, gave other outputs than the first one; what is "
                            "inside must do the same both times")
        dys = dy if isinstance(dy, tuple) else (dy,)
        pairs = [(source(t), g) for t, g in zip(outputs, dys, strict=True) if g is not None]
        return Resumed([s for s, _ in pairs], [g for _, g in pairs])


_AGAIN = _Again()


class _Run:
    """``with checkpointing:`` the body is inside a checkpoint of this thread; ``with running_again:`` for the second time."""

    def __init__(self, again: int) -> None:
        self.again = again

    def __enter__(self) -> None:
        state.checkpoints += 1
        state.again += self.again

    def __exit__(self, *error: object) -> None:
        state.checkpoints -= 1
        state.again -= self.again


checkpointing, running_again = _Run(0), _Run(1)


def _recorded(y: Any, since: int) -> list[Tensor]:
    """The tensors in a nested value that were computed, and recorded, after ``since``; each once."""
    found: dict[int, Tensor] = {}
    stack = [y]
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor):
            if value.node is not None and value.node.order > since:
                found[id(value)] = value
        elif isinstance(value, dict):
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, list | tuple):
            stack.extend(reversed(value))
    return list(found.values())


def _sources(nodes: list[Any], since: int) -> tuple[list[Any], list[tuple[Tensor, int]]]:
    """Where a tape that begins after ``since`` gets its values from, and the versions of the leaves among that."""
    sources: list[Any] = []
    versions: list[tuple[Tensor, int]] = []
    seen, stack = set(nodes), list(dict.fromkeys(nodes))
    while stack:
        node = stack.pop()
        versions.extend(node.versions)
        for parent in node.parents:
            before = parent[0] if type(parent) is tuple else parent
            if type(before) is not Node or before.order < since:
                if before is not None:
                    sources.append(parent)
                    versions.extend([(before, before.version)] if isinstance(before, Tensor) else [])
            elif before not in seen:
                seen.add(before)
                stack.append(before)
    return sources, versions


def _output(t: Tensor, node: Node, i: int) -> Tensor:
    new = Tensor(t.data)
    new.track, new.node, new.output, new.base = 2, node, i, t.base
    return new


def _replaced(y: Any, new: dict[int, Tensor]) -> Any:
    if isinstance(y, Tensor):
        return new.get(id(y), y)
    if isinstance(y, dict):
        return {k: _replaced(v, new) for k, v in y.items()}
    return same_kind(y, [_replaced(v, new) for v in y]) if isinstance(y, list | tuple) else y
