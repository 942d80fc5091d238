"""The results as pictures: ratios as bars, scaling as lines, a roofline. ``python -m benchmarks.plots FILE.json ... FOLDER``
draws them from files of results, several of one machine as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """Every picture that these results have rows for, as PNG files in a folder; returns their paths."""
    from . import bars, lines, rooflines, styles

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in found["rows"] if "error" not in row]
    made = []
    with styles.style():
        for suite in ("workloads", "ops", "random"):
            made += bars.ratios([r for r in rows if r["suite"] == suite and "ratio" in r], suite, folder)
        made += bars.overhead([r for r in rows if r["suite"] == "overhead" and r["kind"] != "process"], folder)
        made += bars.memory([r for r in rows if r["suite"] == "memory"], folder)
        made += lines.scaling([r for r in rows if r["suite"] == "scaling"], folder)
        made += rooflines.roofline([r for r in rows if r["suite"] == "ops" and "flops" in r], found, folder)
    return made


def merged(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Several results as one: of a row that more than one has, the last."""
    from ..comparison import key

    rows = {key(row): row for found in results for row in found["rows"]}
    tops = {n: top for found in results for n, top in found.get("ceilings", {}).items()}
    return results[-1] | {"rows": list(rows.values()), "ceilings": tops}
