"""Lines: how time and memory grow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from ..peers import OURS
from ..tables import sides_of
from .styles import COLOURS, MARKERS, PALE, figure, number, save, title

Row = dict[str, Any]


def scaling(rows: list[Row], folder: Path) -> list[Path]:
    """A panel of times for each sweep and one of memory below it; all axes logarithmic, so that a power is a straight line."""
    fits = {row["sweep"]: row for row in rows if row.get("kind") == "fit"}
    sized = [row for row in rows if "size" in row]
    made = []
    for name, chosen in (("scaling", [s for s in fits if fits[s]["sides"]]),
                         ("scaling-threads", list(dict.fromkeys(r["sweep"] for r in sized if r["axis"] == "threads")))):
        if not chosen:
            continue
        deep = 2 if name == "scaling" else 1
        f = figure(3.1 * max(3, len(chosen)), 3.1 * deep + 0.5)
        axes = f.subplots(deep, len(chosen), squeeze=False)
        for i, sweep in enumerate(chosen):
            there = [row for row in sized if row["sweep"] == sweep]
            _panel(axes[0][i], there, fits.get(sweep), "time")
            if deep == 2:
                _panel(axes[1][i], there, fits.get(sweep), "memory")
        axes[0][0].set_ylabel("ms a training step")
        if deep == 2:
            axes[1][0].set_ylabel("MB at the peak of the first step")
        handles = {text: h for row in axes for ax in row for h, text in zip(*ax.get_legend_handles_labels(), strict=True)}
        f.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=len(handles), fontsize=9)
        f.suptitle("Scaling" if deep == 2 else "Scaling with the threads", x=0.01, ha="left", fontweight="bold")
        made.append(save(f, folder, name))
    return made


def _value(side: Row, what: str) -> float | None:
    if what == "time":
        return float(side["ms"])
    peak = side.get("peak_bytes")
    return peak / 1e6 if peak and peak > 1e5 else None  # less is within the noise of pages


def _panel(ax: Any, rows: list[Row], fit: Row | None, what: str) -> None:
    rows = sorted(rows, key=lambda row: row["size"])
    for name in sides_of(rows):
        points = [(row["size"], v) for row in rows if name in row["sides"] and (v := _value(row["sides"][name], what))]
        if points:
            ax.plot(*zip(*points, strict=True), color=COLOURS[name], marker=MARKERS[name], markersize=4.5, label=title(name),
                    linewidth=2 if name == OURS.name else 1.3)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    sizes = sorted({row["size"] for row in rows})
    ax.set_xticks(sizes, [number(n) for n in sizes], fontsize=8)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = ax.get_ylim()
    if rows[0]["axis"] == "threads":
        ax.set_yscale("linear")
        ax.set_ylim(0, None)
    elif high / low < 10:  # a tick at least
        middle = math.sqrt(low * high)
        ax.set_ylim(middle / 4, middle * 4)
    ax.set_xlabel(rows[0]["axis"])
    head = rows[0]["sweep"]
    if fit is not None:
        key = "time" if what == "time" else "memory"
        power = fit["sides"].get(OURS.name, {}).get(key)
        head = head if what == "time" else "memory"
        head += f": n^{power:.2f}" if power is not None else ""
        if what == "time":
            _guide(ax, rows, fit["power"])
    ax.set_title(head, fontsize=10)


def _guide(ax: Any, rows: list[Row], power: float) -> None:
    """The expected power as a dashed line, through our last point."""
    size, last = rows[-1]["size"], rows[-1]["sides"][OURS.name]["ms"]
    sizes = [row["size"] for row in rows]
    limits = ax.get_ylim()
    ax.plot(sizes, [last * (n / size) ** power for n in sizes], color=PALE, linestyle="--", linewidth=1, zorder=1)
    ax.annotate(f"n^{power:g}", (sizes[-2], last * (sizes[-2] / size) ** power), (4, -10), textcoords="offset points",
                color=PALE, fontsize=8)
    ax.set_ylim(limits)
