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

    @property
    def master(self) -> Array | None:
        """The float32 numbers behind a 16-bit parameter, flat, if it has them."""
        a = self.bank.master
        return None if a is None else a[self.place : self.place + self.size]

    def state(self) -> dict[str, Any]:
        """The state arrays, views of this parameter's shape, and the numbers, by name."""
        found: dict[str, Any] = {} if self.master is None else {"master": self.master.reshape(self.shape)}
        single = self.rule.rules == (self.rule,)
        for i, (slots, numbers) in enumerate(zip(self.bank.slots, self.clock.numbers, strict=True)):
            prefix = "" if single else f"{i}."
            for name, a in slots.items():
                if a is not None:
                    found[prefix + name] = a[self.place : self.place + self.size].reshape(self.shape)
            found.update({prefix + name: value for name, value in numbers.items()})
        return found


class Bank:
    """The state of all parameters of one dtype on one device. ``slots[i]`` has the arrays of the chain's i-th rule.

    ``master``: where these are 16-bit numbers that are to have masters, float32 copies of them. The steps are taken there, so
    that what is too small for 16 bits is not lost, and the parameters are their roundings.
    """

    def __init__(self, rule: Rule, leaves: Sequence[Leaf], like: Array, masters: bool) -> None:
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
        self.master: Array | None = None
        if masters and dtype != like.dtype:
            self.master = to_device(xp.zeros(place, dtype), device)

    def arrays(self) -> list[Array]:
        """All arrays."""
        found = [a for slots in self.slots for a in slots.values()]
        return [a for a in (self.master, *found) if a is not None]


def bank_key(a: Array) -> tuple[str, str]:
    """Which bank the state of a parameter belongs to."""
    return a.dtype.name, device_of(a)


def build_banks(rule: Rule, leaves: Sequence[Leaf], arrays: Sequence[Array], masters: bool) -> None:
    """Give every leaf a place in a new bank for the dtype and device of its array; a state it has moves there."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, a in enumerate(arrays):
        groups.setdefault(bank_key(a), []).append(i)
    for numbers in groups.values():
        old = [(leaves[i], getattr(leaves[i], "bank", None), getattr(leaves[i], "place", 0)) for i in numbers]
        bank = Bank(rule, [leaves[i] for i in numbers], arrays[numbers[0]], masters)
        for i, (leaf, before, place) in zip(numbers, old, strict=True):
            if leaf.master is not None:
                kept = None if before is None or before.master is None else before.master[place : place + leaf.size]
                leaf.master[...] = arrays[i].reshape(-1) if kept is None else to_device(kept, bank.key[1])
            if before is None:
                continue
            for slots, earlier in zip(bank.slots, before.slots, strict=True):
                for name, a in slots.items():
                    if a is not None:
                        was = to_device(earlier[name][place : place + leaf.size], bank.key[1])
                        a[leaf.place : leaf.place + leaf.size] = was
