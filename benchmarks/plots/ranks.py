"""Steps on several ranks, measured over the pieces of their prediction, and the extrapolation to many GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .styles import FASTER, INK, PALE, SLOWER, figure, save, style

PIECES = {"share": ("one process alone", FASTER), "crowding": ("crowding of cores and memory", "#a8d5cf"),
          "bookkeeping": ("bookkeeping", "#f2b88a"), "polling": ("polling", "#c9b6e4"), "sums": ("sums over ranks", SLOWER)}


def draw(found: dict[str, Any], folder: Path) -> Path:
    """``ranks.png``: a panel for each workload and scaling, and one of efficiency against GPUs."""
    rows = found["rows"]
    panels = list(dict.fromkeys((row["workload"], row["scaling"]) for row in rows))
    columns = max(2, -(-(len(panels) + 1) // 2))
    with style():
        f = figure(3.2 * columns, 6.6)
        axes = [ax for line in f.subplots(2, columns, squeeze=False) for ax in line]
        for ax, (name, scaling) in zip(axes, panels, strict=False):
            _steps(ax, [row for row in rows if (row["workload"], row["scaling"]) == (name, scaling)])
            ax.set_title(f"{name}, {scaling} scaling")
        _efficiency(axes[len(panels)], found["extrapolated"])
        for ax in axes[len(panels) + 1 :]:
            ax.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        f.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
        f.suptitle(f"A training step on several ranks, {rows[0]['cores']} cores", x=0.01, ha="left", fontweight="bold")
        folder.mkdir(parents=True, exist_ok=True)
        return save(f, folder, "ranks")


def _steps(ax: Any, rows: list[dict[str, Any]]) -> None:
    """Bars of the prediction's pieces, and over them what was measured, from the fastest round to the slowest."""
    at = range(len(rows))
    base = [0.0] * len(rows)
    for key, (label, colour) in PIECES.items():
        high = [max(0.0, row["parts_s"][key] * 1e3) for row in rows]
        ax.bar(at, high, 0.62, base, color=colour, label=label)
        base = [a + b for a, b in zip(base, high, strict=True)]
    middle = [row["step_s"] * 1e3 for row in rows]
    apart = [[abs(row[end] - row["step_s"]) * 1e3 for row in rows] for end in ("fastest_s", "slowest_s")]
    ax.errorbar(at, middle, apart, fmt="o", color=INK, ecolor=INK, elinewidth=1, capsize=3, markersize=5, label="measured")
    ax.set_xticks(at, [f"{row['ranks']} x {row['share']}" for row in rows])
    ax.grid(axis="x", visible=False)
    ax.set_ylim(0, None)
    ax.set_xlabel("ranks x observations")
    ax.set_ylabel("ms a step")


def _efficiency(ax: Any, rows: list[dict[str, Any]]) -> None:
    for alone, marker in zip(dict.fromkeys(row["alone_s"] for row in rows), "os^", strict=False):
        some = [row for row in rows if row["alone_s"] == alone]
        gpus = [row["gpus"] for row in some]
        ax.plot(gpus, [100 * row["efficiency"] for row in some], color=PALE, linestyle="--", marker=marker, markersize=5,
                markerfacecolor="white", label=f"{alone * 1e3:g} ms on one GPU")
    ax.legend(loc="lower left", fontsize=8)
    ax.set_xscale("log", base=2)
    ax.set_xticks(gpus, [str(n) for n in gpus], fontsize=8)
    ax.set_ylim(0, 105)
    ax.set_xlabel("GPUs, 8 a host")
    ax.set_ylabel("% of linear growth")
    ax.set_title("extrapolated, not measured")
