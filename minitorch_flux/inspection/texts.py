"""Numbers as people read them, and tables whose columns stand straight."""

from __future__ import annotations

from collections.abc import Sequence

CUT = 46
"""Longer cells of text are cut."""


def in_bytes(n: float) -> str:
    """``1234567`` as ``1.2 MiB``."""
    return _scaled(n, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def in_thousands(n: float, unit: str = "") -> str:
    """``1234567`` as ``1.23 M``."""
    text = _scaled(n, 1000, ("", "k", "M", "G", "T", "P"), 2)
    return text if not unit else f"{text}{'' if text[-1].isalpha() else ' '}{unit}"


def in_seconds(t: float) -> str:
    """``0.00123`` as ``1.23 ms``."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if t >= factor:
            return f"{t / factor:.3g} {unit}" if t < 1000 * factor else f"{t / factor:.0f} {unit}"
    return f"{t * 1e6:.3g} us"


def in_shape(shape: object) -> str:
    """``(2, 3)`` as ``2 × 3``; nothing for what is not known."""
    if shape is None:
        return ""
    if not isinstance(shape, tuple) or any(not isinstance(n, int) for n in shape):
        return str(shape)
    return " × ".join(map(str, shape)) if shape else "scalar"


def _scaled(n: float, step: int, units: Sequence[str], digits: int = 1) -> str:
    i = 0
    while abs(n) >= step and i < len(units) - 1:
        n, i = n / step, i + 1
    return f"{n:.0f} {units[i]}".rstrip() if i == 0 else f"{n:.{digits}f} {units[i]}"


def cut(text: str, width: int = CUT) -> str:
    """``text`` in one line of at most ``width`` characters."""
    text = " ".join(text.split("\n"))
    return text if len(text) <= width else text[: width - 1] + "…"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int, foot: Sequence[Sequence[str]] = ()) -> list[str]:
    """The lines of a table: its first ``left`` columns begin at the left, the others end at the right."""
    lines = [head, *rows, *foot]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        placed = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(placed).rstrip()

    rule = "─" * len(line(["x" * w for w in widths]))
    return [line(head), rule, *map(line, rows), *([rule, *map(line, foot)] if foot else [])]
