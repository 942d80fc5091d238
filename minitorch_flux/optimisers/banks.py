"""Where the state of an optimiser lies: one flat array per slot for all parameters of one dtype and device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend import Array, accumulator, array_module, device_of, to_device
from .rule import Rule


class Clock:
    """The numbers that rules count with, one dict a rule; shared by leaves that have always stepped together."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: list[dict[str, Any]]) -> None:
        self.numbers = numbers

    def copy(self) -> Clock:
        """A clock of its own with the same numbers."""
        return Clock([dict(n) for n in self.numbers])


class Leaf:
    """One parameter as an optimiser sees it: its rule, its place in a bank, its clock."""

    __slots__ = ("bank", "clock", "frozen", "path", "place", "rule", "shape", "size")

    def __init__(self, path: str, array: Array, rule: Rule, clock: Clock) -> None:
        self.path, self.shape, self.size = path, tuple(array.shape), array.size
        self.rule, self.clock, self.frozen = rule, clock, False
        self.bank: Bank
        self.place: int

    def state(self) -> dict[str, Any]:
        """The state arrays, views of this parameter's shape, and the numbers, by name."""
        found: dict[str, Any] = {}
        single = self.rule.rules == (self.rule,)
        for i, (slots, numbers) in enumerate(zip(self.bank.slots, self.clock.numbers, strict=True)):
            prefix = "" if single else f"{i}."
            for name, a in slots.items():
                if a is not None:
                    found[prefix + name] = a[self.place : self.place + self.size].reshape(self.shape)
            found.update({prefix + name: value for name, value in numbers.items()})
        return found


class Bank:
    """The state of all parameters of one dtype on one device. ``slots[i]`` has the arrays of the chain's i-th rule."""

    def __init__(self, rule: Rule, leaves: Sequence[Leaf], like: Array) -> None:
        self.key = bank_key(like)
        place = 0
        for leaf in leaves:
            leaf.bank, leaf.place = self, place
            place += leaf.size
        xp, dtype, device = array_module(like), accumulator(like.dtype), device_of(like)
        self.slots: list[dict[str, Array | None]] = [
            {
                name: None if first is None else to_device(xp.full(place, first, dtype), device)
                for name, first in member.slots().items()
            }
            for member in rule.rules
        ]


def bank_key(a: Array) -> tuple[str, str]:
    """Which bank the state of a parameter belongs to."""
    return a.dtype.name, device_of(a)


def build_banks(rule: Rule, leaves: Sequence[Leaf], arrays: Sequence[Array]) -> None:
    """Give every leaf a place in a new bank for the dtype and device of its array; a state it has moves there."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, a in enumerate(arrays):
        groups.setdefault(bank_key(a), []).append(i)
    for numbers in groups.values():
        old = [(leaves[i], getattr(leaves[i], "bank", None), getattr(leaves[i], "place", 0)) for i in numbers]
        bank = Bank(rule, [leaves[i] for i in numbers], arrays[numbers[0]])
        for leaf, before, place in old:
            if before is None:
                continue
            for slots, earlier in zip(bank.slots, before.slots, strict=True):
                for name, a in slots.items():
                    if a is not None:
                        was = to_device(earlier[name][place : place + leaf.size], bank.key[1])
                        a[leaf.place : leaf.place + leaf.size] = was
