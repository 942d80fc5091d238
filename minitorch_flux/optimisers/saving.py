"""An optimiser's state as plain arrays and numbers, by parameter path.

    format                    1
    0.weight.m, 0.weight.v    state arrays, of the parameter's shape
    0.weight.t                numbers
    0.weight.master           the float32 number behind a 16-bit parameter
    rules.0.Adam.eta          the settings of each different rule
    0.weight.rule             which one, where there are several
    loss_scale                LossScale's number now; also loss_scale.good, loss_scale.skipped: its good steps in a row, and
                              how many were skipped in all

The parts of a chain have their place before their name: ``0.weight.1.m``, ``rules.0.1.Adam.eta``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import as_array, is_float, to_device
from .banks import Clock, Leaf
from .composition import OptimiserChain
from .rule import HIGHEST, LOWEST, Rule
from .scaling import Scaling, scale_rule

FORMAT = 1
_SCALE = {"scale": "loss_scale", "good": "loss_scale.good", "skipped": "loss_scale.skipped"}


def _join(*parts: str) -> str:
    return ".".join(p for p in parts if p)


def _members(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Each member and its place in the chain, which a lone rule does not have."""
    alone = not isinstance(rule, OptimiserChain)
    for i, member in enumerate(rule.rules):
        yield "" if alone else str(i), member


def saved_state(leaves: Sequence[Leaf], scaling: Scaling | None) -> dict[str, Any]:
    """See the head of this file. Arrays are copies on the CPU."""
    rules = list({id(leaf.rule): leaf.rule for leaf in leaves}.values())
    state: dict[str, Any] = {"format": FORMAT}
    for r, rule in enumerate(rules):
        for place, member in _members(rule):
            for field in member.fields:
                state[_join("rules", str(r), place, type(member).__name__, field)] = getattr(member, field)
    for leaf in leaves:
        for name, value in leaf.state().items():
            state[_join(leaf.path, name)] = np.array(to_device(value, "cpu")) if hasattr(value, "shape") else value
        if len(rules) > 1:
            state[_join(leaf.path, "rule")] = next(r for r, rule in enumerate(rules) if rule is leaf.rule)
    if scaling is not None:
        state |= {_SCALE[name]: value for name, value in scaling.numbers.items()}
    return state


def load_state(leaves: Sequence[Leaf], scaling: Scaling | None, state: Mapping[str, Any]) -> None:
    """Take back what ``saved_state`` gave. Raises ValueError, listing what does not fit, before any change."""
    reader = _Reader(state)
    version = reader.take("format")
    if version != FORMAT:
        raise ValueError(
            f"an optimiser state of format {version} cannot be loaded, only {FORMAT}: what state_dict() gave"
        )
    rules = reader.rules(leaves[0].rule)
    clocks: dict[str, Clock] = {}
    changes = []
    for leaf in leaves:
        which = reader.take(_join(leaf.path, "rule")) or 0
        if which not in range(len(rules)):
            reader.problems.append(f"{_join(leaf.path, 'rule')}: there is no rule {which}")
            which = 0
        numbers, arrays = [], []
        if leaf.master is not None:
            arrays.append((leaf.master, reader.array(_join(leaf.path, "master"), leaf.shape)))
        for (place, _), slots, first in zip(_members(leaf.rule), leaf.bank.slots, leaf.clock.numbers, strict=True):
            path = _join(leaf.path, place)
            numbers.append({name: reader.number(_join(path, name), value) for name, value in first.items()})
            arrays += [
                (a[leaf.place : leaf.place + leaf.size], reader.array(_join(path, name), leaf.shape))
                for name, a in slots.items()
                if a is not None
            ]
        # Leaves with the same numbers share a clock: they take their steps together.
        changes.append((leaf, rules[which : which + 1], clocks.setdefault(repr(numbers), Clock(numbers)), arrays))
    scale: dict[str, Any] = {}
    if scaling is not None:
        scale = {name: reader.number(_SCALE[name], value) for name, value in scaling.numbers.items()}
        if not LOWEST <= scale["scale"] <= HIGHEST:
            reader.problems.append(f"loss_scale: {scale['scale']} is not within {LOWEST:g} and 2**32")
        if len({scale_rule(rule, scaling.place) for rule in rules}) > 1:
            reader.problems.append("rules: they have different LossScales")
    reader.finish()
    if scaling is not None:
        scaling.numbers.update(scale)
    for leaf, rule, clock, arrays in changes:
        leaf.rule, leaf.clock = rule[0], clock
        for a, value in arrays:
            a[...] = to_device(value.reshape(-1), leaf.bank.key[1])


class _Reader:
    """Takes the entries of a saved state one by one and notes what does not fit."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.rest = dict(state)
        self.problems: list[str] = []

    def take(self, key: str) -> Any:
        """A number or a list of them, whatever it was saved as; None where it is missing."""
        value = self.rest.pop(key, None)
        return None if value is None else np.asarray(value).tolist()

    def number(self, key: str, like: Any) -> Any:
        """A number of the type of ``like``."""
        value = self.take(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and type(like)(value) == value >= 0:
            return type(like)(value)
        self.problems.append(f"{key}: missing" if value is None else f"{key}: {value!r} is no number that it can be")
        return like

    def array(self, key: str, shape: tuple[int, ...]) -> Any:
        """An array of this shape."""
        value = self.rest.pop(key, None)
        if value is None:
            self.problems.append(f"{key}: missing")
            return None
        a = value.data if isinstance(value, Tensor) else as_array(value)
        if a.shape != shape:
            self.problems.append(f"{key}: shape {a.shape}, the parameter has {shape}")
        elif not is_float(a.dtype):
            self.problems.append(f"{key}: dtype {a.dtype} is not floating-point")
        return a

    def rules(self, rule: Rule) -> list[Rule]:
        """Every rule of the state: of the kind of ``rule``, with their own settings."""
        found: list[Rule] = []
        while any(key.startswith(f"rules.{len(found)}.") for key in self.rest):
            start = f"rules.{len(found)}"
            settings = []
            for place, member in _members(rule):
                path = _join(start, place, type(member).__name__)
                settings.append({f: self._setting(_join(path, f), getattr(member, f)) for f in member.fields})
            try:
                new = _rebuilt(rule, iter(settings))
            except (TypeError, ValueError) as error:
                self.problems.append(f"{start}: {error}")
                new = rule
            if not same_slots(rule, new):
                self.problems.append(f"{start}: {new!r} keeps other state arrays than {rule!r}")
            found.append(new)
        if not found and rule.rules:
            self.problems.append("rules.0: missing")
        return found or [rule]

    def _setting(self, key: str, now: Any) -> Any:
        if key not in self.rest:
            self.problems.append(f"{key}: missing")
            return now
        value = self.take(key)
        return tuple(value) if isinstance(value, list) else value

    def finish(self) -> None:
        """Raise if anything did not fit or is left over."""
        problems = self.problems + [f"{key}: unexpected" for key in self.rest]
        if problems:
            more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
            raise ValueError(
                "the state does not fit this optimiser, nothing was loaded:\n  " + "\n  ".join(problems[:20]) + more
            )


def _rebuilt(rule: Rule, settings: Iterator[dict[str, Any]]) -> Rule:
    if isinstance(rule, OptimiserChain):
        return OptimiserChain(*(_rebuilt(member, settings) for member in rule.members))
    return type(rule)(**next(settings))


def same_slots(a: Rule, b: Rule) -> bool:
    """Whether two rules of one kind keep the same state arrays."""
    return [[v is None for v in r.slots().values()] for r in a.rules] == [
        [v is None for v in r.slots().values()] for r in b.rules
    ]
