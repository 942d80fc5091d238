"""The roofline: each op's operations a second over its operations a byte, under what this machine can do at most."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..tables import geometric_mean
from .styles import INK, PALE, figure, number, save

Row = dict[str, Any]
FAMILIES = {
    "products": "#22577a", "dense": "#22577a",
    "convolution": "#2a9d8f", "depthwise": "#80b918", "attention": "#6a5acd", "recurrences": "#b5179e",
    "channel_norms": "#e07a3f", "layer_norms": "#e9a03b", "pooling": "#c1121f", "softmaxes": "#3a86ff",
}  # fmt: skip
OTHER = "#8a97a3"


def roofline(rows: list[Row], found: dict[str, Any], folder: Path) -> list[Path]:
    """A picture for each number of threads. Points are numbered; the list beside them says what they are, with the share of
    the roof above them: what is left to gain."""
    return [_one([r for r in rows if r["threads"] == n], found["ceilings"][str(n)], n, folder)
            for n in dict.fromkeys(row["threads"] for row in rows) if str(n) in found.get("ceilings", {})]


def _one(rows: list[Row], top: dict[str, float], threads: int, folder: Path) -> Path:
    rows = [row for row in rows if row["operations"] > 0]
    rows = sorted(rows, key=lambda row: row["operations"] / row["bytes"])
    each = [(row["operations"] / row["bytes"], row["flops"]) for row in rows]
    made = figure(13, 7.6)
    ax, side = made.subplots(1, 2, width_ratios=(2.1, 1.2))
    low, high = min(x for x, _ in each) / 2, max(max(x for x, _ in each) * 2, 4 * top["flops"] / top["fresh"])
    x = np.geomspace(low, high, 200)
    for name, text, line in (("copy", "copying", "-"), ("fresh", "into fresh memory", "--")):
        ax.plot(x, np.minimum(x * top[name], top["flops"]) / 1e9, color=INK, linewidth=1.6, linestyle=line)
        at = top["flops"] / top[name] / 12
        slope = math.degrees(math.atan2(1.2 * top[name] / 1e9, 1))
        ax.text(at, at * top[name] / 1e9 * 1.2, f"{text}: {top[name] / 1e9:.0f} GB/s", fontsize=8.5, rotation=slope,
                rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
    ax.annotate(f"matrix product: {top['flops'] / 1e9:.0f} GFLOP/s", (high, top["flops"] / 1e9), (-4, 5),
                textcoords="offset points", ha="right", fontsize=8.5)
    for i, (row, (a, b)) in enumerate(zip(rows, apart(each), strict=True), 1):
        colour = FAMILIES.get(row["family"], OTHER)
        ax.plot(a, b / 1e9, "o", color=colour, markersize=11, alpha=0.9, markeredgecolor="white", zorder=3)
        ax.annotate(str(i), (a, b / 1e9), color="white", fontsize=6.5, ha="center", va="center", zorder=4, fontweight="bold")
        peer = row["sides"].get(row.get("best"))
        if peer is not None:
            ax.plot(a, row["operations"] / peer["ms"] / 1e6, marker="_", color=colour, markersize=9, markeredgewidth=2)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    ax.set_xlabel("operations (as a direct sum has them) a byte that must be moved, forward")
    ax.set_ylabel("GFLOP/s")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda v, _: number(v))
    ax.set_title(f"Roofline, {threads} thread{'s' * (threads != 1)}; a dash is PyTorch's better layout")
    _list(side, rows, each, top)
    return save(made, folder, f"roofline-{threads}-thread{'s' * (threads != 1)}")


def apart(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points of which none hides another: those that would are moved a little to the right."""
    placed: list[tuple[float, float]] = []
    for a, b in points:
        x, y = math.log10(a), math.log10(b)
        while any(abs(x - u) < 0.1 and abs(y - v) < 0.075 for u, v in placed):
            x += 0.02
        placed.append((x, y))
    return [(10**x, 10**y) for x, y in placed]


def _list(ax: Any, rows: list[Row], each: list[tuple[float, float]], top: dict[str, float]) -> None:
    """The numbers' names and shares."""
    ax.set_axis_off()
    shares = [b / min(a * top["copy"], top["flops"]) for a, b in each]
    ax.set_title(f"share of the roof (geometric mean {geometric_mean(shares):.0%})")
    ax.set_ylim(max(len(rows), 24) + 0.5, 0.5)
    ax.set_xlim(0, 1)
    for i, (row, share) in enumerate(zip(rows, shares, strict=True), 1):
        colour = FAMILIES.get(row["family"], OTHER)
        ax.barh(i, 0.16 * min(share, 1.5), left=0.84, height=0.7, color=colour, alpha=0.35)
        ax.text(0, i, str(i), fontsize=7.5, va="center", color=colour, fontweight="bold")
        ax.text(0.06, i, row["name"], fontsize=7.5, va="center", color=INK)
        ax.text(0.83, i, f"{share:.0%}", fontsize=7.5, va="center", ha="right", color=INK if share >= 0.5 else PALE)
