"""Which array of a state dict belongs to which parameter of a model, when their names differ.

First the names themselves, behind whatever prefix finds the most of them (``module.``, ``model.``, ``encoder.``). Then the
order: both sides are lists of layers, each with the names and shapes of its arrays, and they must agree one by one. Last,
layers that were registered at another place (a shortcut before or after its branch) may stand elsewhere, if no other layer
looks like them. Shapes agree when they are equal without their axes of size 1: a 1x1 convolution is a Dense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..nn.state_dicts import IGNORED

Shape = tuple[int, ...]
STANDARD = {"weight", "bias", "running_mean", "running_var"}  # names that never stand for one another
COMPARISONS = 4_000_000  # of units on both sides, in the search for moved layers


@dataclass
class Layer:
    """The arrays of one layer: the last part of each name, with the whole name and the shape."""

    path: str
    arrays: dict[str, tuple[str, Shape]] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        return self.arrays[name][1]


@dataclass
class Plan:
    """What goes where: own name to the names in the file (two are added up), and own name to one that does not fit."""

    how: str
    used: dict[str, tuple[str, ...]] = field(default_factory=dict)
    misshapen: dict[str, str] = field(default_factory=dict)

    def add(self, own: Layer, theirs: Layer) -> None:
        for name, (path, shape) in own.arrays.items():
            if name not in theirs.arrays:
                continue
            key, found = theirs.arrays[name]
            if squeezed(found) == squeezed(shape):
                self.used[path] = (key, *_second_bias(name, own, theirs))
            else:
                self.misshapen[path] = key


def squeezed(shape: Shape) -> Shape:
    return tuple([n for n in shape if n != 1])


def layers(shapes: Mapping[str, Shape]) -> list[Layer]:
    """The layers of a state dict, in the order of their first arrays."""
    found: dict[str, Layer] = {}
    for key, shape in shapes.items():
        path, _, name = key.rpartition(".")
        if name not in IGNORED:
            found.setdefault(path, Layer(path)).arrays[name] = key, shape
    return list(found.values())


def _second_bias(name: str, own: Layer, theirs: Layer) -> tuple[str, ...]:
    """The hidden bias that is added to ``bias_ih...`` where a recurrent layer has one bias and the file two.

    In RNN and LSTM (1 and 4 gates) both are added to the same sum; in a GRU, the third gate's are not.
    """
    second = name.replace("bias_ih", "bias_hh")
    if second == name or second in own.arrays or second not in theirs.arrays:
        return ()
    if _gates(name, own) not in (1, 4) or squeezed(theirs.shape(second)) != squeezed(own.shape(name)):
        return ()
    return (theirs.arrays[second][0],)


def _gates(bias: str, layer: Layer) -> float:
    weight = bias.replace("bias_ih", "weight_hh").replace("bias_hh", "weight_hh")
    return layer.shape(bias)[0] / layer.shape(weight)[1] if weight in layer.arrays and layer.shape(weight)[1:] > (0,) else 0


def _signature(layer: Layer) -> frozenset[tuple[str, Shape]]:
    """What two layers have in common that fit each other."""
    return frozenset(
        (name, squeezed(shape)) for name, (_, shape) in layer.arrays.items()
        if not name.startswith("bias_hh") or _gates(name, layer) not in (1, 4)
    )  # fmt: skip


# -- by names ----------------------------------------------------------------------------------------------------------


def by_names(own: Mapping[str, Shape], theirs: Mapping[str, Shape], prefix: str | None = None) -> Plan:
    """The same names, behind a prefix: the one that finds the most, without one."""
    if prefix is None:
        prefix = best_prefix(own, theirs)
    plan = Plan("names")
    by_path = {layer.path: layer for layer in layers(theirs)}
    for layer in layers(own):
        path = f"{prefix}{layer.path}" if layer.path else prefix.removesuffix(".")
        if path in by_path:
            plan.add(layer, by_path[path])
    return plan


def best_prefix(own: Mapping[str, Shape], theirs: Mapping[str, Shape]) -> str:
    """What stands before most of the own names in the file, with its dot; the shortest of those."""
    count: Counter[str] = Counter()
    for key in theirs:
        at = 0
        while True:
            if key[at:] in own:
                count[key[:at]] += 1
            at = key.find(".", at) + 1
            if not at:
                break
    return min(count, key=lambda prefix: (-count[prefix], len(prefix)), default="")


# -- by order ----------------------------------------------------------------------------------------------------------


def is_numbered(theirs: Mapping[str, Shape]) -> bool:
    """Whether the names alone tell the order of the layers: all the parts of each module are numbers, or there is one."""
    parts: dict[str, set[str]] = {}
    for layer in layers(theirs):
        names = layer.path.split(".")
        for i, name in enumerate(names):
            parts.setdefault(".".join(names[:i]), set()).add(name)
    return all(len(names) == 1 or all(name.isdecimal() for name in names) for names in parts.values())


def numbered(key: str) -> list[tuple[int, str]]:
    """What to sort names by: 2 comes before 10."""
    return [(int(part), "") if part.isdecimal() and len(part) < 19 else (0, part) for part in key.split(".")]


def by_order(own: Sequence[Layer], theirs: Sequence[Layer]) -> Plan | None:
    """One layer after the other, or, where layers are cut differently, one array after the other; None where they differ."""
    plan = Plan("order")
    if [_signature(layer) for layer in own] == [_signature(layer) for layer in theirs]:
        for a, b in zip(own, theirs):
            plan.add(a, b)
        return plan
    mine, others = ([(name, *entry) for layer in side for name, entry in layer.arrays.items()] for side in (own, theirs))
    if len(mine) != len(others):
        return None
    for (name, path, shape), (other, key, found) in zip(mine, others):
        if squeezed(shape) != squeezed(found) or (name != other and name in STANDARD and other in STANDARD):
            return None
        plan.used[path] = (key,)
    return plan


def by_ends(own: Sequence[Layer], theirs: Sequence[Layer]) -> Plan:
    """The layers from the first on, and from the last one back, as long as they agree: for parts of a model."""
    plan = Plan("order")
    shorter = min(len(own), len(theirs))
    a, b = [_signature(layer) for layer in own], [_signature(layer) for layer in theirs]
    start = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    end = next((i for i in range(shorter - start) if a[-1 - i] != b[-1 - i]), shorter - start)
    for i in [*range(start), *range(-end, 0)]:
        plan.add(own[i], theirs[i])
    return plan


# -- by order, with moved layers ---------------------------------------------------------------------------------------


def by_moves(own: Sequence[Layer], theirs: Sequence[Layer]) -> Plan | None:
    """As ``by_order``, but some layers stand elsewhere; None where their shapes leave more than one possibility.

    A norm goes with the layer before it. What both sides have in the same order is their longest common subsequence; a
    unit that could stand for two others in it makes the whole uncertain, and so does one elsewhere that is not the only
    one of its kind.
    """
    mine, others = _units(own), _units(theirs)
    a, b = ([tuple(map(_signature, unit)) for unit in side] for side in (mine, others))
    if Counter(a) != Counter(b) or len(a) * len(b) > COMPARISONS:
        return None
    before, after = _common(a, b), _common(a[::-1], b[::-1])
    pairs: dict[int, int] = {}
    for i, unit in enumerate(a):
        at = [j for j, other in enumerate(b) if unit == other and before[i][j] + 1 + after[-2 - i][-2 - j] == before[-1][-1]]
        if len(at) > 1:
            return None
        if at:
            pairs[i] = at[0]
    count = Counter(a)
    for i in set(range(len(a))) - set(pairs):
        if count[a[i]] > 1:
            return None
        pairs[i] = b.index(a[i])
    if len(set(pairs.values())) != len(a):
        return None
    plan = Plan("order, with moved layers")
    for i, j in pairs.items():
        for x, y in zip(mine[i], others[j]):
            plan.add(x, y)
    return plan


def _units(side: Sequence[Layer]) -> list[list[Layer]]:
    """Layers, each with the norms behind it that have as many channels as its weight has outputs."""
    units: list[list[Layer]] = []
    for layer in side:
        shapes = {squeezed(shape) for _, shape in layer.arrays.values()}
        is_norm = len(shapes) == 1 and len(min(shapes)) <= 1
        if units and is_norm and "weight" in units[-1][0].arrays and units[-1][0].shape("weight")[:1] in shapes:
            units[-1].append(layer)
        else:
            units.append([layer])
    return units


def _common(a: Sequence[object], b: Sequence[object]) -> list[list[int]]:
    """The lengths of the longest common subsequences of all beginnings of ``a`` and ``b``."""
    table = [[0] * (len(b) + 1)]
    for x in a:
        last, row = table[-1], [0]
        for j, y in enumerate(b):
            row.append(last[j] + 1 if x == y else max(last[j + 1], row[j]))
        table.append(row)
    return table
