"""Parts of an optimiser state: indexed like the model, printed, adjusted and frozen on their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .banks import Leaf
from .leaves import Node
from .rule import Rule

if TYPE_CHECKING:
    from .optimiser_states import OptimiserState


class StatePart:
    """The state of some of a model's parameters: ``opt[0]``, ``opt.encoder``, ``opt["0.weight"]``.

    A part of the model that is called like a method here is reached as ``opt["rule"]``.
    """

    _root: OptimiserState
    _node: Node | int | None
    _leaves: list[Leaf]

    def __init__(self, root: OptimiserState, node: Node | int | None, leaves: list[Leaf]) -> None:
        self._root, self._node, self._leaves = root, node, leaves

    @property
    def rule(self) -> Rule | tuple[Rule, ...]:
        """The rule, or a tuple of them where the parts have different ones."""
        rules = tuple(dict.fromkeys(leaf.rule for leaf in self._leaves))
        return rules[0] if len(rules) == 1 else rules

    def states(self) -> dict[str, dict[str, Any]]:
        """``{path: {"m": array, ..., "t": 3}}``; the arrays are the state itself, not copies."""
        return {leaf.path: leaf.state() for leaf in self._leaves}

    def __getitem__(self, key: Any) -> StatePart:
        if isinstance(key, str) and key in self._root._by_path:
            leaf = self._root._by_path[key]
            return StatePart(self._root, self._root._leaves.index(leaf), [leaf])
        node = self._node
        if isinstance(key, slice) and isinstance(node, Node):
            picked = Node(node.kind)
            picked.entries = node.entries[key]
            return self._part(picked)
        for step in key.split(".") if isinstance(key, str) else [key]:
            try:
                node = node.find(step)  # type: ignore[union-attr]
            except (KeyError, IndexError, AttributeError):
                raise KeyError(f"this optimiser state has no part {key!r}; it has {self._names()}") from None
        return self._part(node)

    def _part(self, node: Node | int | None) -> StatePart:
        numbers = node.leaves() if isinstance(node, Node) else [] if node is None else [node]
        return StatePart(self._root, node, [self._root._leaves[i] for i in numbers])

    def __getattr__(self, name: str) -> StatePart:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0], name=name, obj=self) from None

    def _names(self) -> str:
        return ", ".join(str(k) for k, _ in self._node.entries) if isinstance(self._node, Node) else "no parts"

    def __repr__(self) -> str:
        rule = self.rule
        lines = [f"# {rule!r}" if isinstance(rule, Rule) else "# several rules"]
        width = max((len(leaf.path) for leaf in self._leaves), default=0)
        for leaf in self._leaves:
            words = ", ".join(k if hasattr(v, "shape") else f"{k}={v}" for k, v in leaf.state().items())
            own = "" if isinstance(rule, Rule) else f"  {leaf.rule!r}"
            lines.append(f"{leaf.path:<{width}}  {leaf.shape}{own}  {words}{'  (frozen)' * leaf.frozen}".rstrip())
        arrays = {id(b): b for b in (leaf.bank for leaf in self._leaves)}.values()
        if self is self._root:
            nbytes = sum(a.nbytes for b in arrays for a in b.arrays())
            lines.append(
                f"# Total: {len(self._leaves)} parameters, {sum(leaf.size for leaf in self._leaves):_} numbers; "
                f"state {nbytes:_} bytes"
            )
        return "\n".join(lines)
