"""load_torch: weights that were trained in PyTorch, into a model of this library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..nn.state_dicts import IGNORED, StateError, as_plain, load_state_dict, tensors_by_path
from .formats import read_arrays
from .torch_files import read_torch
from .torch_names import (
    Plan,
    Shape,
    best_prefix,
    by_ends,
    by_moves,
    by_names,
    by_order,
    is_numbered,
    layers,
    numbered,
)

NESTS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
"""The names under which training programs put a state dict into a larger file, the likeliest first."""
LINES = 12  # of each kind, in a report or an error
COUNTERS = (*IGNORED, "_extra_state", "n_averaged")
"""Last parts of names that PyTorch saves and that mean nothing here."""


@dataclass
class LoadReport:
    """What ``load_torch`` did; printed, it says so in words.

    ``how``: "names", "order" or "order, with moved layers". ``key``: where the state dict was found in the source.
    ``used``: the model's name of each loaded array and its name in the file, two where biases were added. ``unused``: names
    in the file. ``missing``: names of the model that kept their values. ``reshaped`` and ``misshapen``: the model's name,
    with the shape in the file and the model's; the former differ by axes of size 1, the latter were not loaded.
    ``ignored``: what PyTorch saves and means nothing here.
    """

    how: str
    key: str = ""
    used: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    reshaped: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    misshapen: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        added = [f"{path} = {' + '.join(keys)}" for path, keys in self.used.items() if len(keys) > 1]
        shapes = {kind: [f"{k} {a} -> {b}" for k, (a, b) in getattr(self, kind).items()] for kind in ("reshaped", "misshapen")}
        parts = {"unused": self.unused, "missing": self.missing, **shapes, "added": added}
        where = f" from {self.key}" if self.key else ""
        lines = [f"loaded {len(self.used)} arrays{where} by {self.how}"]
        lines += [f"{kind}: {_some(found)}" for kind, found in parts.items() if found]
        return "\n".join(lines)


def _some(names: list[str]) -> str:
    return ", ".join(names[:LINES]) + (f" and {len(names) - LINES} more" if len(names) > LINES else "")


def load_torch(
    model: Any,
    source: Any,
    *,
    strict: bool = True,
    partial: bool = False,
    key: str | None = None,
    rename: Callable[[str], str | None] | Mapping[str, str] | None = None,
) -> LoadReport:
    """Load weights of PyTorch into ``model``, in place, all of them or none; returns a report of what went where.

    ``source``: a file of ``torch.save`` (.pt, .pth, .bin, .ckpt: the zip format or the legacy one), .safetensors or .npz; a
    state dict of arrays or of PyTorch's tensors; or a module of PyTorch. Files are never unpickled: tensors, dicts, lists,
    tuples, numbers and strings are read, and FileError names anything else. A state dict inside of a larger dict is found
    under its usual name, or where there is but one; ``key="ema"`` or ``"model.student"`` says which.

    Arrays are mapped by their names, behind a common prefix such as ``module.``, or else by structure: layer by layer in
    order, with equal names and shapes in each (axes of size 1 apart); layers may stand elsewhere if no other looks like
    them. The arrays of .safetensors have no order: there the names must be numbers for that. ``rename`` maps by hand: a
    function from a name in the file to the model's, or None to leave it out, or a dict of those that differ.

    ``parametrizations.weight.original0`` and ``original1`` are a WeightNorm's
    ``weight_g`` and ``weight_v``; where an RNN or an LSTM has one bias and the file two, they are added.

    ``strict=False`` permits unused and missing names; ``partial=True`` also passes over what has another shape, as when the
    classifier has another number of classes. Raises StateError that lists what does not fit; the model is as it was then.
    """
    tree, ordered = _opened(source)
    found, state = _state(tree, key)
    flat = _renamed(_arrays(state), rename)
    if not ordered:
        flat = dict(sorted(flat.items(), key=lambda entry: numbered(entry[0])))
    arrays = {name: a for name, a in flat.items() if not isinstance(a, str) and name.rpartition(".")[2] not in COUNTERS}
    opened: list[str] = []

    def leave_open(path: str, _: Any) -> tuple[()]:
        opened.append(path)
        return ()

    own = {path: t.shape for path, t in tensors_by_path(model, leave_open).items()}
    theirs = {name: a.shape for name, a in arrays.items()}
    if opened:
        return _load_open(model, own, flat, arrays, opened, strict and not partial, found)
    same = {path: id(t) for path, t in tensors_by_path(model).items()}
    plan = _plan(own, theirs, same, by_hand=rename is not None, ordered=ordered or is_numbered(theirs))
    report = _report(plan, own, flat, arrays, same, found)
    _check(report, own, theirs, flat, strict and not partial, partial)
    values = {}
    for path, keys in report.used.items():
        value = arrays[keys[0]] if len(keys) == 1 else arrays[keys[0]] + arrays[keys[1]].reshape(arrays[keys[0]].shape)
        values[path] = value.reshape(own[path])
    load_state_dict(model, values, strict=False)
    return report


# -- what is given -----------------------------------------------------------------------------------------------------


def _opened(source: Any) -> tuple[Any, bool]:
    """What the source holds, and whether it has kept the order of its arrays."""
    if isinstance(source, str | Path):
        kind = Path(source).suffix.lower()
        tree = read_arrays(source)[0] if kind in (".safetensors", ".npz") else read_torch(source)
        return tree, kind != ".safetensors"
    if not isinstance(source, Mapping) and callable(getattr(source, "state_dict", None)):
        return source.state_dict(), True
    if not isinstance(source, Mapping):
        raise TypeError("load_torch(model, source): the source is a file, a state dict or a module of PyTorch, got a "
                        f"{type(source).__name__}")
    return source, True


def _state(tree: Any, key: str | None) -> tuple[str, Mapping[str, Any]]:
    """The state dict in what a file holds, and where it is."""
    start = f"{key}." if key else ""
    for part in key.split(".") if key else ():
        if not isinstance(tree, Mapping) or part not in tree:
            there = ", ".join(map(str, tree)) if isinstance(tree, Mapping) else f"a {type(tree).__name__}"
            raise StateError(f"load_torch: key={key!r}: there is no {part!r}, only {there[:400]}")
        tree = tree[part]
    if not isinstance(tree, Mapping):
        raise StateError(f"load_torch: a state dict is a dict of arrays by name, the source has a {type(tree).__name__}")
    if _is_state(tree) or not tree:
        return key or "", tree
    found = dict(_nested(tree))
    chosen = next((name for name in NESTS if name in found), next(iter(found)) if len(found) == 1 else None)
    if chosen is None:
        nothing = f"none (only {', '.join(map(str, tree))[:400]})"
        which = f"several ({', '.join(found)}); say which with key=..." if found else nothing
        raise StateError(f"load_torch: of state dicts, the source has {which}")
    return f"{start}{chosen}", found[chosen]


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _is_state(x: Any) -> bool:
    return (isinstance(x, Mapping) and all(isinstance(k, str) for k in x) and any(_is_array(v) for v in x.values())
            and not any(_is_state(v) for v in x.values()))


def _nested(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The state dicts that are nested least deep, by where they are: those of optimisers are deeper than models'."""
    level = [("", tree)]
    for _ in range(4):
        level = [(f"{path}.{k}" if path else str(k), v) for path, x in level for k, v in x.items() if isinstance(v, Mapping)]
        if found := [(path, x) for path, x in level if _is_state(x)]:
            yield from found
            return


def _arrays(state: Mapping[str, Any]) -> dict[str, Any]:
    """Plain arrays by name, with the names of a WeightNorm as they are here; what is no array is words."""
    found = {}
    for name, value in state.items():
        start, middle, end = name.rpartition("parametrizations.")
        weight, _, part = end.partition(".")
        if middle and part in ("original0", "original1") and f"{start}{middle}{weight}.original1" in state:
            name = f"{start}{weight}_{'g' if part == 'original0' else 'v'}"
        found[name] = as_plain(value) if _is_array(value) else f"{type(value).__name__} is no array"
    return found


def _renamed(flat: dict[str, Any], rename: Any) -> dict[str, Any]:
    if rename is None:
        return flat
    found: dict[str, Any] = {}
    for name, value in flat.items():
        other = rename.get(name, name) if isinstance(rename, Mapping) else rename(name)
        if other in found:
            raise StateError(f"load_torch: rename gives the name {other!r} to two arrays, {name!r} is the second")
        if other is not None:
            found[other] = value
    return found


# -- what goes where ---------------------------------------------------------------------------------------------------


def _plan(own: dict[str, Shape], theirs: dict[str, Shape], same: dict[str, int], *, by_hand: bool, ordered: bool) -> Plan:
    names = by_names(own, theirs, "" if by_hand else None)
    everything = set(same.values())
    if by_hand or not ordered or ({same[path] for path in names.used} == everything and not names.misshapen):
        return names
    mine, others = layers(own), layers(theirs)
    plan = by_order(mine, others) or by_moves(mine, others)
    if plan is not None:
        return plan
    ends = by_ends(mine, others)
    return ends if len(ends.used) > len(names.used) + len(names.misshapen) else names


def _report(
    plan: Plan, own: dict[str, Shape], flat: dict[str, Any], arrays: dict[str, Any], same: dict[str, int], key: str
) -> LoadReport:
    given = {same[path] for path in plan.used}
    taken = {key for keys in plan.used.values() for key in keys} | set(plan.misshapen.values())
    report = LoadReport(plan.how, key, plan.used)
    for name in flat:
        if name.rpartition(".")[2] in COUNTERS:
            report.ignored.append(name)
        elif name not in taken:
            report.unused.append(name)
    once = {t: path for path, t in reversed(same.items())}  # a shared parameter under its first name
    report.missing = [path for t, path in reversed(once.items()) if t not in given and path not in plan.misshapen]
    shapes = {path: (arrays[keys[0]].shape, own[path]) for path, keys in plan.used.items()}
    report.reshaped = {path: both for path, both in shapes.items() if both[0] != both[1]}
    report.misshapen = {path: (arrays[key].shape, own[path]) for path, key in plan.misshapen.items()}
    return report


def _check(
    report: LoadReport, own: dict[str, Shape], theirs: dict[str, Shape], flat: dict[str, Any], strict: bool, partial: bool
) -> None:
    problems = [] if partial else [f"{k}: shape {a}, the model has {b}" for k, (a, b) in report.misshapen.items()]
    if strict:
        problems += [f"{k}: missing" for k in report.missing]
        problems += [f"{k}: unused{f' ({flat[k]})' if isinstance(flat[k], str) else _hint(k, own)}" for k in report.unused]
    if problems:
        more = [f"... and {len(problems) - LINES} more"] if len(problems) > LINES else []
        if report.how != "names" or len(report.used) * 2 < len(own):
            more.append(f"neither names nor order agree: {_difference(own, theirs)}; give rename=, a function from the names "
                        "in the file to the model's, or a module or a .pt file if this one has lost its order")
        raise StateError("load_torch: the state dict does not fit the model, nothing was loaded:\n  "
                         + "\n  ".join(problems[:LINES] + more))
    if not report.used and own:
        raise StateError(f"load_torch: nothing in the state dict fits the model: {_difference(own, theirs)}")


def _hint(key: str, own: dict[str, Shape]) -> str:
    path, _, name = key.rpartition(".")
    start = f"{path}." if path else ""
    if name.startswith("bias_hh") and f"{start}{name.replace('bias_hh', 'bias_ih')}" in own:
        return " (a GRU with hidden_bias=True has it)"
    if name in ("weight_g", "weight_v") and f"{start}weight" in own:
        return " (a WeightNorm of the layer has it)"
    return ""


def _difference(own: dict[str, Shape], theirs: dict[str, Shape]) -> str:
    """Where the orders begin to differ, in words."""
    mine, others = layers(own), layers(theirs)
    differ = (i for i, (a, b) in enumerate(zip(mine, others)) if by_order([a], [b]) is None)
    at = next(differ, min(len(mine), len(others)))

    def words(side: list[Any]) -> str:
        if at >= len(side):
            return "nothing more"
        return f"{side[at].path or 'itself'} ({', '.join(f'{n} {shape}' for n, (_, shape) in side[at].arrays.items())})"

    return f"layer {at} of the model is {words(mine)}, of the file {words(others)}"


def _load_open(
    model: Any, own: dict[str, Shape], flat: dict[str, Any], arrays: dict[str, Any], opened: list[str], strict: bool, key: str
) -> LoadReport:
    """Into a model that has layers whose sizes the arrays will tell: by names alone."""
    starts = {f"{path}." if path else "": path for path in opened}
    names = {**own, **{f"{start}{name}": () for start in starts for key in arrays for name in [key.rpartition(".")[2]]}}
    prefix = best_prefix(names, {key: () for key in arrays})
    keys = {k.removeprefix(prefix): k for k in arrays}
    ignored = [k for k in flat if k.rpartition(".")[2] in COUNTERS]
    words = [k for k in flat if k not in arrays and k not in ignored]
    if words and strict:
        raise StateError(f"load_torch: {words[0]}: unused ({flat[words[0]]})")
    result = load_state_dict(model, {name: arrays[k] for name, k in keys.items()}, strict)
    unused = [keys[name] for name in result["unexpected"]] + words
    used: dict[str, tuple[str, ...]] = {name: (k,) for name, k in keys.items() if k not in unused}
    return LoadReport("names", key, used, unused, result["missing"], ignored=ignored)
