"""The pictures of a run: its curves, its confusion matrix, and images that it got right and wrong. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ..data import ImageDataset
from ..training import confusion_matrix

# Okabe and Ito's palette, which colour-blind people can tell apart.
INK, GREY, PALE = "#1f2933", "#6b7785", "#e4e7eb"
TRAIN, TEST, RIGHT, WRONG = "#56b4e9", "#0072b2", "#009e73", "#d55e00"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": PALE, "axes.spines.top": False, "axes.spines.right": False,
    "xtick.color": GREY, "ytick.color": GREY, "figure.facecolor": "white",
}  # fmt: skip
DPI = 150
COLUMNS, ROWS = 10, 2  # of images that are right, and of those that are wrong
MOST_CLASSES = 20  # that a confusion matrix names

Title = tuple[str, str]  # the headline, and the line below it


def draw(out: Path, history: Sequence[dict[str, Any]], images: ImageDataset, scores: np.ndarray, title: Title) -> None:
    """Write curves.png, confusion.png and predictions.png for the ``scores`` (N, classes) of the test images."""
    with matplotlib.rc_context(STYLE):
        for name, figure in (
            ("curves", curves(history, title)),
            ("confusion", confusion(scores, images, title)),
            ("predictions", predictions(scores, images, title)),
        ):
            FigureCanvasAgg(figure).print_png(out / f"{name}.png", metadata={"Software": "minitorch_flux"})


def _headline(figure: Figure, title: Title, top: float) -> None:
    """The title at the left margin, ``top`` inches below the upper edge."""
    height = figure.get_figheight()
    figure.text(0.25 / figure.get_figwidth(), 1 - top / height, title[0], size=15, weight="bold", va="top")
    figure.text(0.25 / figure.get_figwidth(), 1 - (top + 0.34) / height, title[1], size=10, color=GREY, va="top")


def curves(history: Sequence[dict[str, Any]], title: Title) -> Figure:
    """Loss and accuracy over the epochs, on training and test images."""
    figure = Figure(figsize=(10, 4.6), dpi=DPI)
    _headline(figure, title, 0.22)
    places = {"left": 0.065, "right": 0.925, "top": 0.74, "bottom": 0.125, "wspace": 0.32}
    axes = figure.subplots(1, 2, gridspec_kw=places)
    epochs = [row["epoch"] for row in history]
    for ax, name in zip(axes, ("loss", "accuracy"), strict=True):
        ends = []
        for key, label, colour in ((name, "train", TRAIN), (f"test_{name}", "test", TEST)):
            values = [row[key] for row in history]
            ax.plot(epochs, values, color=colour, lw=2, marker="o" if len(epochs) == 1 else "", solid_capstyle="round")
            ends.append((values[-1], label, colour))
        ax.set_title(name, loc="left", size=11, weight="bold", pad=10)
        ax.set_xlabel("epoch")
        ax.set_xlim(1, max(len(epochs), 2))
        ax.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
        ax.grid(axis="y", color=PALE, lw=0.8)
        ax.tick_params(length=0)
        _end_labels(ax, ends)
    return figure


def _end_labels(ax: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Name each line at its end, with its last value; close ones are moved apart."""
    low, high = ax.get_ylim()
    apart = 0.115 * (high - low)
    ends = sorted(ends)
    places = [value for value, _, _ in ends]
    if (gap := places[1] - places[0]) < apart:
        places = [places[0] - (apart - gap) / 2, places[1] + (apart - gap) / 2]
    for place, (value, label, colour) in zip(places, ends, strict=True):
        ax.annotate(f"{label}\n{value:.3f}", (ax.get_xlim()[1], place), (6, 0), textcoords="offset points", va="center",
                    color=colour, weight="bold", size=9, linespacing=1.15, annotation_clip=False)


def confusion(scores: np.ndarray, images: ImageDataset, title: Title) -> Figure:
    """Which class is taken for which: shares of each row in colour, counts in figures."""
    counts = confusion_matrix(scores, images.test.labels)
    n = len(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(8.2, 8.2), dpi=DPI)
    _headline(figure, title, 0.22)
    ax = figure.add_axes((0.155, 0.035, 0.81, 0.735))
    ax.imshow(share, cmap=LinearSegmentedColormap.from_list("", ["white", "#b9dcf2", TEST, "#003d62"]), vmin=0, vmax=1)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, colors=INK)
    if n <= MOST_CLASSES:
        ax.set_xticks(range(n), images.classes, rotation=35, ha="left", rotation_mode="anchor")
        ax.set_yticks(range(n), images.classes)
        ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        ax.grid(which="minor", color=PALE, lw=0.8)
        ax.tick_params(which="minor", length=0, top=False)
        for i, j in zip(*np.nonzero(counts), strict=True):
            ax.text(j, i, f"{counts[i, j]}", ha="center", va="center_baseline", size=11 if n <= 10 else 7,
                    color="white" if share[i, j] > 0.5 else INK, weight="bold" if i == j else "normal")
    ax.set_xlabel("taken for", labelpad=10, color=GREY, size=11)
    ax.xaxis.set_label_position("top")
    ax.set_ylabel("is a", labelpad=8, color=GREY, size=11)
    return figure


def predictions(scores: np.ndarray, images: ImageDataset, title: Title) -> Figure:
    """Test images that are right, one class after the other, and those that are wrong, the surest first."""
    x, y = images.test
    sure, found = _confidence(scores)
    right, wrong = np.flatnonzero(found == y), np.flatnonzero(found != y)
    groups = [
        (RIGHT, f"right: {len(right):,} of {len(y):,}", "some of every class", _by_turns(right, y), 1.34),
        (WRONG, f"wrong: {len(wrong):,} of {len(y):,}", "the mistakes it was surest of",
         wrong[np.argsort(-sure[wrong], kind="stable")], 1.48),
    ]  # fmt: skip
    width, height = 12.2, 7.95
    figure = Figure(figsize=(width, height), dpi=DPI)
    _headline(figure, title, 0.22)
    ax = figure.add_axes((0, 0, 1, 1))  # one for all: its unit is an inch, from the upper left corner
    tile, step, top = 1.0, 1.175, 1.05  # an image, from one to the next, from the upper edge to a group
    for colour, heading, about, chosen, line in groups:
        ax.text(0.25, top, heading, size=12, weight="bold", color=colour, va="top")
        ax.text(2.65, top + 0.02, about, size=10, color=GREY, va="top")
        for k, i in enumerate(chosen[: COLUMNS * ROWS]):
            left, upper = 0.3 + k % COLUMNS * step, top + 0.38 + k // COLUMNS * line
            lower = upper + tile
            image = np.moveaxis(x[i], 0, -1) if len(x[i]) == 3 else x[i][0]
            ax.imshow(image, cmap="gray_r", extent=(left, left + tile, lower, upper), interpolation="nearest")
            ax.add_patch(Rectangle((left, upper), tile, tile, fill=False, edgecolor=colour, linewidth=1.5))
            words: dict[str, Any] = {"size": 8, "ha": "center", "va": "top"}
            bold: dict[str, Any] = {"color": colour, "weight": "bold"} if colour == WRONG else {}
            ax.text(left + tile / 2, lower + 0.07, f"{images.classes[found[i]]} {sure[i]:.0%}", **words, **bold)
            if colour == WRONG:
                ax.text(left + tile / 2, lower + 0.2, f"is: {images.classes[y[i]]}", **words)
        top += 0.38 + ROWS * line + 0.28
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    ax.axis("off")
    return figure


def _confidence(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the likeliest class of each row, and that class."""
    e = np.exp(scores - scores.max(1, keepdims=True), dtype=np.float64)
    return 1 / e.sum(1), scores.argmax(1)


def _by_turns(chosen: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same positions, one of each class in turn."""
    rank = np.empty(len(chosen), int)
    for label in np.unique(y[chosen]):
        mine = y[chosen] == label
        rank[mine] = np.arange(mine.sum())
    return chosen[np.lexsort((y[chosen], rank))]
