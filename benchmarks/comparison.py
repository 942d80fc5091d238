"""``--compare OLD.json``: what became slower since then.

Times move with the machine and its load, ratios to a peer that was measured in the same turns hardly do. So a row is judged by
its ratio where both results have one, and by its time only where one of them has no peer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .peers import OURS

KEY = ("suite", "name", "mode", "batch", "threads", "sweep", "size")


@dataclass(frozen=True)
class Change:
    """A row in both results. ``factor`` above 1: slower now (in the suite ``memory``: a higher peak)."""

    what: str
    measure: str
    before: float
    now: float

    @property
    def factor(self) -> float:
        """Now to before."""
        return self.now / self.before


def read(path: Path) -> dict[str, Any]:
    """Results from a file. Raises ValueError where it holds something else."""
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list) or "machine" not in found:
        raise ValueError(f"{path} has no results of this suite: expected an object with machine and rows")
    return found


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells rows apart."""
    return tuple(row.get(name) for name in KEY)


def _value(row: dict[str, Any], measure: str) -> float | None:
    if "error" in row or row.get("kind") == "fit":
        return None
    if measure == "ratio":
        return row.get("ratio")
    if "seconds" in row:
        return float(row["seconds"][OURS.name]) * 1e3
    side = row["sides"][OURS.name]
    return side.get("ms", side.get("peak_bytes"))


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every row that both have, the one that lost most first."""
    before = {key(row): row for row in old["rows"]}
    found = []
    for row in new["rows"]:
        was = before.get(key(row))
        if was is None:
            continue
        for measure in ("ratio", "time"):
            a, b = _value(was, measure), _value(row, measure)
            if a and b:
                what = ", ".join(str(part) for part in key(row) if part is not None)
                found.append(Change(what, measure, a, b))
                break
    return sorted(found, key=lambda change: -change.factor)


def report(found: list[Change], threshold: float) -> tuple[str, bool]:
    """A text, and whether something became slower by more than the threshold."""
    slower = [c for c in found if c.factor > threshold]
    faster = [c for c in found if c.factor < 1 / threshold]
    lines = [f"{len(found)} rows compared: {len(slower)} slower by more than {threshold:g}, {len(faster)} faster"]
    lines += [f"  slower: {_line(c)}" for c in slower] + [f"  faster: {_line(c)}" for c in reversed(faster)]
    return "\n".join(lines), bool(slower)


def _line(c: Change) -> str:
    return f"{c.what}: {c.measure} {c.before:.3g} -> {c.now:.3g} (x {c.factor:.2f})"
