"""The formulas of a page: the indented lines of its docstring that speak of a name."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence


def blocks_of(doc: str) -> list[list[str]]:
    """The indented blocks of a docstring, each a list of lines without the common indent."""
    blocks: list[list[str]] = []
    inside = False
    for line in doc.splitlines()[1:]:
        if line.startswith("    "):
            if not inside:
                blocks.append([])
            blocks[-1].append(line)
            inside = True
        elif line.strip():
            inside = False
        elif inside:
            blocks[-1].append("")
    return [textwrap.dedent("\n".join(block).rstrip()).splitlines() for block in blocks]


def formulas_of(doc: str, names: Sequence[str]) -> list[str]:
    """The lines about one of ``names``; all formulas of the page where it has none by name."""
    spellings = {spelling for name in names for spelling in (name, name.replace("_", ""), name.lstrip("_"))}
    chosen: list[str] = []
    everything: list[str] = []
    for block in blocks_of(doc):
        everything += [*([""] if everything else []), *block]
        taking = False
        for line in block:
            head = re.split(r"\s{2,}", line.strip())[0]
            words = [word.strip() for word in head.split(",")]
            new = bool(line) and not line.startswith(" ")
            if new:
                taking = not spellings.isdisjoint(words) or any(re.search(rf"\s{{3,}}{s}\s", line) for s in spellings)
            if taking and line.strip():
                chosen.append(line)
    return chosen if any(re.search(r"[=^|+*/]", line) for line in chosen) else everything
