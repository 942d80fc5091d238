"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .peers import OURS, PEERS, Side

Row = dict[str, Any]
TITLES = {Side(p, layout).name: Side(p, layout).title for p in (OURS, *PEERS.values()) for layout in p.layouts}
MODES = {"train": "training step", "infer": "inference", "gradient": "forward and backward", "update": "update",
         "once": "once"}  # fmt: skip


def tables(found: dict[str, Any]) -> str:
    """Every suite's table, under a heading, after a line about the machine."""
    blocks = [about(found)]
    for suite, write in WRITERS.items():
        rows = [row for row in found["rows"] if row["suite"] == suite]
        if rows:
            blocks += [f"## {HEADS[suite]}", write(rows)]
    return "\n\n".join(blocks) + "\n"


def about(found: dict[str, Any]) -> str:
    """The machine in a line or two, and how the numbers came about."""
    m = found["machine"]
    lines = [f"{m['processor']}, {m['cores']} cores, {m['blas']}, {m['compiler']}; "
             + ", ".join(f"{name} {version}" for name, version in m["versions"].items())
             + f"; {m['date']}, load {m['load']} at the start."]  # fmt: skip
    for threads, top in found.get("ceilings", {}).items():
        lines.append(f"At {threads} thread{'s' * (threads != '1')}: {top['flops'] / 1e9:.0f} GFLOP/s in a matrix product, "
                     f"{top['copy'] / 1e9:.1f} GB/s copying, {top['fresh'] / 1e9:.1f} GB/s into fresh memory.")
    return "\n".join(lines)


def ms(value: float) -> str:
    """Milliseconds with three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def megabytes(value: float | None) -> str:
    """Bytes as megabytes."""
    return "" if value is None else f"{value / 1e6:.1f}"


def markdown(heads: list[str], lines: list[list[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *lines])


def sides_of(rows: list[Row], key: str = "sides") -> list[str]:
    """The sides that occur, in the order of the table of peers."""
    there = {name for row in rows for name in row.get(key, {})}
    return [name for name in TITLES if name in there]


def failure(row: Row) -> str:
    """Why a row has no numbers."""
    return "not measured: " + row["error"].splitlines()[-1][:120].replace("|", "/")


def spread(row: Row, name: str) -> str:
    """A ratio with its least and largest turn; bold where it is to the one that counts."""
    r = row.get("ratios", {}).get(name)
    if r is None:
        return ""
    mark = "**" if row.get("best") == name else ""
    return f"{mark}{r['median']:.2f}{mark} ({r['min']:.2f} to {r['max']:.2f})"


def timed(rows: list[Row]) -> str:
    """Times of all sides, the ratio to each (bold: the first peer's better layout), what is new memory."""
    names = sides_of(rows)
    others = [name for name in names if name != OURS.name]
    heads = ["", "threads", *(f"{TITLES[n]}, ms" for n in names), *(f"ratio to {TITLES[n]}" for n in others), "first call, s",
             "new MB a call"]  # fmt: skip
    lines = []
    for row in rows:
        head = [f"{row['name']}: {row['what']}, {MODES[row['mode']]}, batch {row['batch']}", str(row["threads"])]
        if "error" in row:
            lines.append([*head, failure(row), *[""] * (len(heads) - 3)])
            continue
        fresh = row["sides"][OURS.name].get("fresh_bytes")
        lines.append([*head, *(ms(row["sides"][n]["ms"]) if n in row["sides"] else "" for n in names),
                      *(spread(row, n) for n in others), first(row), megabytes(fresh)])
    return markdown(heads, lines) + (f"\n\n{mean_line(rows)}" if mean_line(rows) else "")


def first(row: Row) -> str:
    """Seconds of making the model and calling it once: ours, and of the side that the ratio is told to."""
    each = [row["sides"][n].get("first_s") for n in (OURS.name, row.get("best")) if n in row["sides"]]
    return " / ".join(f"{s:.2f}" for s in each if s is not None)


def mean_line(rows: list[Row]) -> str:
    """The geometric mean of the ratios, by mode and threads, their median and their worst."""
    parts = []
    for mode, threads in dict.fromkeys((row["mode"], row["threads"]) for row in rows):
        there = [row for row in rows if (row["mode"], row["threads"]) == (mode, threads)]
        found = [(row["ratio"], row["name"]) for row in there if "ratio" in row]
        if found:
            ordered = sorted(r for r, _ in found)
            worst = max(found)
            head = f"{MODES[mode]}, {threads} thread{'s' * (threads != 1)}"
            parts.append(f"{head}: geometric mean {geometric_mean(ordered):.2f}, median {ordered[len(ordered) // 2]:.2f}, "
                         f"worst {worst[0]:.2f} ({worst[1]})")
    return "Ratios to the better layout: " + "; ".join(parts) + "." if parts else ""


def compact(rows: list[Row]) -> str:
    """The ratios alone, a line for each workload and batch, a column for each mode and number of threads."""
    rows = [row for row in rows if row["suite"] == "workloads"]
    columns = list(dict.fromkeys((row["mode"], row["threads"]) for row in rows))
    lines: dict[str, dict[Any, str]] = {}
    for row in rows:
        cell = lines.setdefault(f"{row['name']}: {row['what']}, batch {row['batch']}", {})
        if "best" in row:
            mark = " c" if row["best"].endswith("channels_last") else ""
            cell[row["mode"], row["threads"]] = f"{spread(row, row['best'])}{mark}"
        else:
            cell[row["mode"], row["threads"]] = failure(row) if "error" in row else ms(row["sides"][OURS.name]["ms"]) + " ms"
    heads = ["", *(f"{MODES[mode]}, {n} thread{'s' * (n != 1)}" for mode, n in columns)]
    return markdown(heads, [[name, *(cell.get(column, "") for column in columns)] for name, cell in lines.items()])


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    product = 1.0
    for v in values:
        product *= v ** (1 / len(values))
    return product


def _scaling(rows: list[Row]) -> str:
    fits = [row for row in rows if row.get("kind") == "fit" and row["sides"]]
    names = sides_of(fits)
    heads = ["sweep", "at most", *(f"{TITLES[n]}: time" for n in names), *(f"{TITLES[n]}: memory" for n in names),
             "steepest rise of the cost per size"]  # fmt: skip
    lines = []
    for row in fits:
        grown = [f"n^{row['sides'][n][key]:.2f}" if key in row["sides"].get(n, {}) else "" for key in ("time", "memory")
                 for n in names]
        lines.append([row["sweep"], f"n^{row['power']:g}", *grown, f"x {row['sides'][OURS.name]['cliff']:.2f}"])
    threads = sorted((row for row in rows if row.get("axis") == "threads" and "sides" in row),
                     key=lambda row: (row["name"], row["size"]))
    parts = [markdown(heads, lines)] if lines else []
    if threads:
        which = sides_of(threads)
        parts.append(markdown(["", "threads", *(f"{TITLES[n]}, ms" for n in which)],
                              [[row["name"], str(row["size"]), *cells(row, which, 1)] for row in threads]))
    return "\n\n".join(parts)


def cells(row: Row, names: list[str], factor: float) -> list[str]:
    """The times of some sides, in milliseconds or, with a factor of 1000, microseconds; empty where there is none."""
    return [ms(row["sides"][n]["ms"] * factor) if n in row.get("sides", {}) else "" for n in names]


def _overhead(rows: list[Row]) -> str:
    small, whole = [r for r in rows if r["kind"] != "process"], [r for r in rows if r["kind"] == "process"]
    parts = []
    if small:
        names = sides_of(small)
        parts.append(markdown(["", *(f"{TITLES[n]}, µs" for n in names)],
                              [[f"{r['name']}, {MODES[r['mode']]}", *cells(r, names, 1e3)] for r in small]))
    if whole:
        names = sides_of(whole, "seconds")
        times = [[f"{r['seconds'][n]:.2f}" if n in r["seconds"] else "" for n in names] for r in whole]
        parts.append(markdown(["", *(f"{TITLES[n]}, s" for n in names)],
                              [[r["name"], *line] for r, line in zip(whole, times, strict=True)]))
    return "\n\n".join(parts)


def _memory(rows: list[Row]) -> str:
    good = [row for row in rows if "error" not in row]
    names = sides_of(good)
    heads = ["", *(f"{TITLES[n]}: peak MB" for n in names), "ratio", *(f"{TITLES[n]}: new MB a step" for n in names)]
    lines = [[f"{row['name']}, {MODES[row['mode']]}, batch {row['batch']}",
              *(megabytes(row["sides"].get(n, {}).get("peak_bytes")) for n in names),
              f"**{row['ratio']:.2f}**" if "ratio" in row else "",
              *(megabytes(row["sides"].get(n, {}).get("touched_bytes")) for n in names)] for row in good]  # fmt: skip
    lines += [[f"{row['name']}, {MODES[row['mode']]}: {failure(row)}", *[""] * (len(heads) - 1)]
              for row in rows if "error" in row]
    return markdown(heads, lines)


HEADS = {"workloads": "Workloads", "ops": "Ops", "random": "Convolutions of random shapes", "scaling": "Scaling",
         "overhead": "Overhead", "memory": "Memory"}  # fmt: skip
WRITERS: dict[str, Callable[[list[Row]], str]] = {
    "workloads": timed, "ops": timed, "random": timed, "scaling": _scaling, "overhead": _overhead, "memory": _memory,
}  # fmt: skip
