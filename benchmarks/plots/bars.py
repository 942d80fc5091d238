"""Bars: the ratio of every row, what small things cost, what a step takes of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..tables import MODES, geometric_mean, sides_of
from .styles import COLOURS, FASTER, INK, PALE, SLOWER, figure, number, save, title

Row = dict[str, Any]
HEADS = {"workloads": "Whole models", "ops": "Layers at the shapes of real networks", "random": "Convolutions of random shapes"}


def _label(row: Row, suite: str) -> str:
    return f"{row['name']}, batch {row['batch']}" if suite == "workloads" else row["name"]


def ratios(rows: list[Row], suite: str, folder: Path) -> list[Path]:
    """A panel for each mode, a bar for each row and number of threads: our time by that of PyTorch's better layout."""
    if not rows:
        return []
    rows = [row | {"mode": "infer"} if row["mode"] == "update" else row for row in rows]  # Adam has no backward
    titles = MODES if suite == "workloads" else MODES | {"infer": "forward"}
    modes, threads = (list(dict.fromkeys(row[k] for row in rows)) for k in ("mode", "threads"))
    labels = list(dict.fromkeys(_label(row, suite) for row in rows))
    made = figure(3.2 + 4.2 * len(modes), 1.9 + len(labels) * (0.12 + 0.2 * len(threads)))
    axes = made.subplots(1, len(modes), sharey=True, sharex=True, squeeze=False)[0]
    found = [value for row in rows for r in row["ratios"].values() for value in (r["min"], r["max"])]
    edge = min(max(max(value, 1 / value) for value in found) * 1.5, 30)
    for ax, mode in zip(axes, modes, strict=True):
        there = [row for row in rows if row["mode"] == mode]
        for row in there:
            at = labels.index(_label(row, suite))
            i, wide = threads.index(row["threads"]), 0.8 / len(threads)
            y = at + (i - (len(threads) - 1) / 2) * wide
            ratio, r = row["ratio"], row["ratios"][row["best"]]
            colour = FASTER if ratio <= 1 else SLOWER
            ax.barh(y, ratio - 1, left=1, height=wide * 0.86, color=colour, alpha=1 - 0.45 * i / max(1, len(threads)))
            ax.plot([r["min"], r["max"]], [y, y], color=INK, linewidth=1, alpha=0.6)
            outer = max(r["min"], 1.25 / edge) if ratio <= 1 else min(r["max"], edge / 1.25)
            ax.annotate(f"{ratio:.2f}", (outer, y), (-3 if ratio <= 1 else 3, 0), textcoords="offset points", fontsize=8,
                        va="center", ha="right" if ratio <= 1 else "left")  # fmt: skip
            jax = row["ratios"].get("jax")
            if jax:
                ax.plot(min(max(jax["median"], 1 / edge), edge), y, "D", markersize=3.5, color=COLOURS["jax"])
        mean = geometric_mean([row["ratio"] for row in there])
        ax.set_title(f"{titles[mode]}: geometric mean {mean:.2f}")
        ax.axvline(1, color=INK, linewidth=1)
        ax.set_xscale("log")
        ax.set_xlim(1 / edge, edge)
        ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if 1 / edge <= t <= edge]
        ax.set_xticks(ticks, [number(t) for t in ticks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(axis="y", visible=False)
        torch = rows[0]["best"].startswith("torch")
        ax.set_xlabel("our time / PyTorch's, better layout" if torch else f"our time / {title(rows[0]['best'])}'s")
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.4, -0.6)
    handles = [Patch(color=FASTER, label="we are faster"), Patch(color=SLOWER, label="slower")]
    if len(threads) > 1:
        handles += [Patch(color=PALE, alpha=1 - 0.45 * i / len(threads), label=f"{n} thread{'s' * (n != 1)}")
                    for i, n in enumerate(threads)]  # fmt: skip
    if any("jax" in row["ratios"] for row in rows):
        handles.append(axes[0].plot([], [], "D", color=COLOURS["jax"], markersize=4, label="to JAX (jit)")[0])
    made.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=9)
    made.suptitle(HEADS[suite], x=0.01, ha="left", fontweight="bold")
    return [save(made, folder, f"{suite}-ratios")]


def _grouped(ax: Any, rows: list[Row], labels: list[str], value: Any, unit: Any) -> None:
    names = sides_of(rows)
    wide = 0.82 / len(names)
    for i, name in enumerate(names):
        for at, row in enumerate(rows):
            if name in row["sides"] and (v := value(row["sides"][name])):
                y = at + (i - (len(names) - 1) / 2) * wide
                ax.barh(y, v, height=wide * 0.9, color=COLOURS[name], label=title(name))
                ax.annotate(unit(v), (v, y), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xscale("log")
    ax.margins(x=0.12)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="y", visible=False)


def _legend(made: Any, ax: Any) -> None:
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    made.legend(unique.values(), unique.keys(), loc="outside upper right", ncols=len(unique), fontsize=9)


def overhead(rows: list[Row], folder: Path) -> list[Path]:
    """Microseconds of things so small that all of it is overhead."""
    if not rows:
        return []
    made = figure(9, 1.5 + 0.55 * len(rows))
    ax = made.subplots()
    _grouped(ax, rows, [f"{r['name']}, {MODES[r['mode']]}" for r in rows], lambda s: s["ms"] * 1e3, lambda v: f"{v:.0f}")
    ax.set_xlabel("microseconds a call, one thread")
    _legend(made, ax)
    made.suptitle("Overhead", x=0.01, ha="left", fontweight="bold")
    return [save(made, folder, "overhead")]


def memory(rows: list[Row], folder: Path) -> list[Path]:
    """The peak of a step, a panel for each mode."""
    rows = [row for row in rows if any(side.get("peak_bytes") for side in row["sides"].values())]
    if not rows:
        return []
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    made = figure(3 + 4.5 * len(modes), 1.6 + 0.62 * len({r["name"] for r in rows}))
    axes = made.subplots(1, len(modes), squeeze=False)[0]
    for ax, mode in zip(axes, modes, strict=True):
        there = [row for row in rows if row["mode"] == mode]
        _grouped(ax, there, [f"{r['name']}, {r['batch']}" for r in there], lambda s: (s.get("peak_bytes") or 0) / 1e6,
                 lambda v: f"{v:.0f}" if v >= 10 else f"{v:.1f}")
        ax.set_title(MODES[mode])
        ax.set_xlabel("MB at the peak, above the process before")
    _legend(made, axes[0])
    made.suptitle("Memory", x=0.01, ha="left", fontweight="bold")
    return [save(made, folder, "memory")]
