"""``.. results::`` shows what is in benchmarks/results: a section for each file, a table for each suite of measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
TOGETHER = ("suite", "mode", "device", "threads", "dtype")
"""What the rows of one table have in common."""


class Results(SphinxDirective):
    """A section for each file: the machine in words, then its rows."""

    def run(self) -> list[nodes.Node]:
        out: list[nodes.Node] = []
        for path in sorted(FOLDER.glob("*.json")):
            self.env.note_dependency(str(path))
            title = path.stem.replace("-", " ").replace("_", " ")
            section = nodes.section(ids=[nodes.make_id(path.stem)])
            section += nodes.title(text=(title[0].upper() + title[1:]).replace("Cpu", "CPU").replace("Gpu", "GPU"))
            section += list(parts(json.loads(path.read_text())))
            out.append(section)
        return out


def parts(content: Any) -> Iterator[nodes.Node]:
    """What a file holds: single values as words, measurements and other rows as tables."""
    if isinstance(content, list):
        content = {"rows": content}
    single = {k: v for k, v in content.items() if not isinstance(v, dict | list)}
    if single:
        yield words("", single)
    for key, value in content.items():
        if isinstance(value, dict) and value:
            inner = {k: v for k, v in value.items() if isinstance(v, dict)}
            flat = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
            if inner and not flat:
                yield nodes.rubric(text=plain(key))
                yield table([{plain(key): name, **row} for name, row in inner.items()])
            else:
                yield words(key, flat | {k: v for row in inner.values() for k, v in row.items()})
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            yield from measured(value)


def measured(rows: list[dict[str, Any]]) -> Iterator[nodes.Node]:
    """Rows of measurements; those of one suite, mode, device and number of threads are a table."""

    def common(row: dict[str, Any]) -> list[str]:
        return [str(row.get(key, "")) for key in TOGETHER]

    for key, group in groupby(sorted(rows, key=common), common):
        named = {name: value for name, value in zip(TOGETHER, key, strict=True) if value}
        if named:
            yield nodes.rubric(text=", ".join(f"{v} threads" if k == "threads" else plain(v) for k, v in named.items()))
        yield table([flattened(row) for row in group])


def flattened(row: dict[str, Any]) -> dict[str, Any]:
    """A row as one level: the milliseconds of each side, the ratio with its smallest and largest."""
    if "sides" not in row:
        return {k: v for k, v in row.items() if k not in TOGETHER}
    flat = {k: row[k] for k in ("name", "what", "batch") if k in row}
    flat |= {f"{side}, ms": times.get("ms") for side, times in row["sides"].items() if isinstance(times, dict)}
    for side, ratio in (row.get("ratios") or {}).items():
        if isinstance(ratio, dict) and ratio.get("median") is not None:
            spread = f" ({shown(ratio['min'])} to {shown(ratio['max'])})" if "min" in ratio and "max" in ratio else ""
            flat[f"ratio to {side}"] = f"{shown(ratio['median'])}{spread}"
    return flat


def plain(key: str) -> str:
    return key if key.startswith("minitorch_flux") else key.replace("_", " ")


def words(what: str, values: dict[str, Any]) -> nodes.paragraph:
    text = "; ".join(f"{plain(k)} {shown(v)}" for k, v in values.items() if v not in (None, ""))
    return nodes.paragraph(text=f"{plain(what)}: {text}." if what else f"{text}.")


def shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def table(rows: list[dict[str, Any]]) -> nodes.table:
    """Rows as a table, with the columns of all of them that hold single values."""
    columns = list(dict.fromkeys(k for row in rows for k, v in row.items() if not isinstance(v, dict | list)))
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=1) for _ in columns]
    head, body = nodes.thead(), nodes.tbody()
    group += [head, body]
    for place, row in [(head, {c: plain(c) for c in columns}), *((body, row) for row in rows)]:
        line = nodes.row()
        for column in columns:
            line += nodes.entry("", nodes.paragraph(text=shown(row.get(column))))
        place += line
    return nodes.table("", group)


def setup(app: Any) -> ExtensionMetadata:
    app.add_directive("results", Results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
