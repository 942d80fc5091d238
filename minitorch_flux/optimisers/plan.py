"""Plan: how one step runs for a given set of parameters, prepared once and used again.

A step of a tiny network takes a few microseconds, so nothing here asks twice what the last step has already answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Gradients
from ..backend import Array
from ..ops.batches import Batch, is_plain
from .banks import Leaf
from .leaves import Leaves, Node
from .rule import Rule
from .scaling import Scaling


class Group:
    """Leaves that take the same step: one rule, one clock, one bank. ``picks``: their places in the plan."""

    def __init__(self, leaves: Sequence[Leaf], targets: Sequence[Any], picks: Sequence[int]) -> None:
        first = leaves[0]
        self.leaves, self.targets, self.picks = leaves, targets, picks
        names = [leaf.path for leaf in leaves]
        self.batch = Batch([t.data for t in targets], [leaf.place for leaf in leaves], names, first.bank.master)
        self.clock = first.clock
        self.numbers = first.clock.numbers
        self.slots = [tuple(slots.values()) for slots in first.bank.slots]
        self.set_rule(first.rule)

    def set_rule(self, rule: Rule) -> None:
        """The rule from now on."""
        self.rule, self.rules = rule, rule.rules
        self.copies = len(self.rules) != 1 or not rule.updates
        """Whether rules write to the gradients, which must then be copies."""

    def apply(self, k: int) -> bool:
        """Run the k-th rule; whether the step goes on."""
        rule = self.rules[k]
        self.batch.final = rule.updates and k == len(self.rules) - 1
        return rule.apply(self.batch, self.slots[k], self.numbers[k]) is not False

    def finish(self) -> None:
        """What remains when all rules have run."""
        if not (self.rules and self.batch.final):
            self.batch.final = True
            self.batch.subtract()
        for t in self.targets:
            t.version += 1


class Plan:
    """A step of the leaves numbered ``active``."""

    tracks: list[int]  # of all leaves, when the plan was last chosen

    def __init__(self, leaves: Sequence[Leaf], bound: Leaves, active: tuple[int, ...], scaling: Scaling | None) -> None:
        keys: dict[Any, list[int]] = {}
        for i in active:
            leaf = leaves[i]
            keys.setdefault((id(leaf.rule), id(leaf.clock), id(leaf.bank), is_plain(bound.arrays[i])), []).append(i)
        self.groups = []
        place = {i: k for k, i in enumerate(active)}
        for members in keys.values():
            if any(leaf.clock is leaves[members[0]].clock for i, leaf in enumerate(leaves) if i not in members):
                clock = leaves[members[0]].clock.copy()  # from now on they step without the others
                for i in members:
                    leaves[i].clock = clock
            self.groups.append(
                Group([leaves[i] for i in members], [bound.targets[i] for i in members], [place[i] for i in members])
            )
        for group in self.groups:
            group.batch.scaling = scaling
        self.targets = [bound.targets[i] for i in active]
        self.shapes = [t.data.shape for t in self.targets]
        self.dtypes = [t.data.dtype for t in self.targets]
        self.types = [type(t.data) for t in self.targets]
        self.width = len(bound.root.entries) + 1 if isinstance(bound.root, Node) else 0
        # A parameter that only had no gradient may have one next time: then every step needs the long way.
        self.steady = all(
            leaf.frozen or not t.track
            for i, (leaf, t) in enumerate(zip(leaves, bound.targets, strict=True))
            if i not in place
        )
        self.getter = bound.getter(list(active)) if self.steady else None

    def valid(self) -> bool:
        """Whether its groups are still each on one clock of their own."""
        return all(leaf.clock is group.clock for group in self.groups for leaf in group.leaves)

    def adjust(self, new: dict[int, Rule]) -> None:
        """Take the new rules, by the id of the old ones."""
        for group in self.groups:
            group.set_rule(new[id(group.rule)])

    # -- gradients on the quick way: None where anything is unusual ----------------------------------------------------

    def quick(self, grads: Any) -> Sequence[Array] | None:
        """The gradients of the active leaves, if ``grads`` is as it always is."""
        if self.getter is None or type(grads) is not Gradients or len(grads.__dict__) != self.width:
            return None
        try:
            return self._fitting(self.getter(grads))
        except AttributeError:
            return None

    def quick_stored(self) -> Sequence[Array] | None:
        """The same from ``.grad``."""
        return self._fitting([t.grad for t in self.targets]) if self.steady and self.targets else None

    def _fitting(self, gs: Sequence[Any]) -> Sequence[Array] | None:
        if (
            [*map(type, gs)] == self.types
            and [g.shape for g in gs] == self.shapes
            and [g.dtype for g in gs] == self.dtypes
        ):
            return gs
        return None

    # -- the step ------------------------------------------------------------------------------------------------------

    def run(self, gs: Sequence[Array]) -> None:
        """Take the step with the gradients of the active leaves."""
        groups = self.groups
        try:
            for group in groups:
                batch = group.batch
                batch.load(gs if len(groups) == 1 else [gs[i] for i in group.picks], group.copies)
            for k in range(len(groups[0].rules) if groups else 0):
                meets = groups and groups[0].rules[k].meets
                if meets and groups[0].rules[k].meet([group.batch for group in groups]) is False:
                    return
                groups = [group for group in groups if group.apply(k)]
            for group in groups:
                group.finish()
        finally:
            for group in self.groups:
                group.batch.release()
