"""What the pictures share: colours, fonts, how a figure is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ..tables import TITLES

INK, PALE, GRID = "#22303c", "#8a97a3", "#e3e8ec"
FASTER, SLOWER = "#2a9d8f", "#e07a3f"
COLOURS = {"minitorch_flux": "#2a9d8f", "torch": "#e07a3f", "torch channels_last": "#f2b88a", "jax": "#6a5acd"}
MARKERS = {"minitorch_flux": "o", "torch": "s", "torch channels_last": "D", "jax": "^"}


def style() -> Any:
    """A context in which figures look alike."""
    return mpl.rc_context({
        "font.size": 10, "font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": PALE,
        "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False,
        "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8,
        "xtick.color": INK, "ytick.color": INK, "legend.frameon": False, "figure.dpi": 110, "savefig.dpi": 130,
        "figure.constrained_layout.use": True,
    })  # fmt: skip


def figure(width: float, height: float) -> Figure:
    """An empty figure, outside pyplot, so that no window is asked for."""
    return Figure(figsize=(width, height))


def save(made: Figure, folder: Path, name: str) -> Path:
    """Write it as a PNG."""
    path = folder / f"{name}.png"
    made.savefig(path, facecolor="white")
    return path


def title(name: str) -> str:
    """Of a side."""
    return TITLES.get(name, name)


def number(value: float) -> str:
    """Without trailing zeros: 0.25, 1, 4, 1024."""
    return f"{value:g}"
