"""``python -m benchmarks.precision``: does a network learn as well in 16 bits as in float32?

Three networks, each from the same initial weights and the same batches in every precision, once per seed: LeNet and ResNet-18
(CIFAR form) on the package's part of Fashion-MNIST, and a character LSTM on the Python language reference. What is
reported is the loss and the accuracy on examples that were not trained on, their spread (standard deviation) from seed to
seed, and the mean difference of the losses from float32 with the same seed: it lies within the noise where it is smaller than
float32's spread. A run that is in the file of results is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean, stdev
from typing import Any

import numpy as np

import minitorch_flux as flux
from minitorch_flux.data import fashion_mnist

from .peers.flux import chain
from .workloads import WORKLOADS

PRECISIONS = ("float32", "bfloat16", "float16", "bfloat16 without masters")
Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """A network, what it learns from, and for how long."""

    layers: tuple[Any, ...]
    batches: Callable[[int], Iterator[Arrays]]  # of a seed, without end
    held_out: Callable[[], list[Arrays]]
    rate: float
    steps: int
    seeds: int
    precisions: tuple[str, ...] = PRECISIONS


def _images(small: bool, train: bool) -> Arrays:
    """The images, normalised; ``small``: as (N, 3, 16, 16), the mean of each four pixels of the padded ones."""
    data = fashion_mnist(mini=True)
    x, y = data.train if train else data.test
    x = data.normalise(x)
    if small:
        x = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)], constant_values=x.min())
        x = x.reshape(len(x), 1, 16, 2, 16, 2).mean(axis=(3, 5)).repeat(3, axis=1)
    return x, y


def _drawn(small: bool, batch: int) -> Callable[[int], Iterator[Arrays]]:
    def batches(seed: int) -> Iterator[Arrays]:
        (x, y), rng = _images(small, train=True), np.random.default_rng(seed)
        while True:
            order = rng.permutation(len(x))
            for i in range(0, len(x) - batch + 1, batch):
                yield x[order[i : i + batch]], y[order[i : i + batch]]

    return batches


def _tested(small: bool) -> Callable[[], list[Arrays]]:
    def held_out() -> list[Arrays]:
        x, y = _images(small, train=False)
        return [(x[i : i + 100], y[i : i + 100]) for i in range(0, len(x), 100)]

    return held_out


def _text() -> np.ndarray:
    text = "\n".join(topics[name] for name in sorted(topics))
    return np.array([ord(c) - 31 if " " <= c <= "~" else 0 for c in text])


def _pieces(codes: np.ndarray, streams: int, length: int) -> Iterator[Arrays]:
    """(x, y) of shape (length, streams), y one character ahead, from places spread over the text."""
    whole = (len(codes) - 1) // streams
    x, y = (codes[at : at + whole * streams].reshape(streams, whole).T for at in (0, 1))
    for t in range(0, whole - length + 1, length):
        yield x[t : t + length], y[t : t + length]


def _characters(seed: int) -> Iterator[Arrays]:
    codes = _text()
    codes = codes[: len(codes) * 9 // 10]
    while True:
        codes = np.roll(codes, 1000 * seed + 1)
        yield from _pieces(codes, 16, 64)


def _unread() -> list[Arrays]:
    codes = _text()
    return list(_pieces(codes[len(codes) * 9 // 10 :], 64, 64))[:6]


LSTM = (("embedding", 96, 32), ("lstm", 32, 128), ("dense", 128, 96, None))
TASKS = {
    "lenet": Task(WORKLOADS["lenet"].layers, _drawn(False, 50), _tested(False), rate=2e-3, steps=400, seeds=5),
    "characters": Task(LSTM, _characters, _unread, rate=4e-3, steps=800, seeds=3),
    "resnet18": Task(WORKLOADS["resnet18"].layers, _drawn(True, 16), _tested(True), rate=1e-3, steps=120, seeds=3,
                     precisions=PRECISIONS[:3]),
}  # fmt: skip


def run(task: Task, precision: str, seed: int) -> dict[str, float]:
    """Train and test: the loss and the accuracy on what was held out, and the steps that LossScale skipped."""
    flux.seed(seed)
    model = chain(task.layers)
    dtype, _, without = precision.partition(" ")
    if dtype != "float32":
        model = flux.mixed(model, dtype)
    rule = flux.AdamW(task.rate, weight_decay=1e-2)
    scaled = dtype == "float16"
    chained = flux.OptimiserChain(flux.LossScale(), rule) if scaled else rule
    opt = flux.setup(chained, model, master_weights=not without)
    rate = flux.schedules.CosAnneal(task.rate, period=task.steps)
    for step, (x, y) in zip(range(task.steps), task.batches(seed), strict=False):
        scale = opt.loss_scale if scaled else 1.0
        _, grads = flux.withgradient(
            lambda m, x=x, y=y, scale=scale: flux.losses.logitcrossentropy(m(x), y) * scale, model
        )
        flux.adjust(opt, rate(step))
        flux.update(opt, model, grads)
    losses, right = [], []
    for x, y in task.held_out():
        scores = model(x)
        losses.append(flux.losses.logitcrossentropy(scores, y).item())
        right.append(float((scores.numpy().astype(np.float32).argmax(-1) == y).mean()))
    found = {"loss": round(mean(losses), 5), "accuracy": round(mean(right), 5)}
    return found | {"skipped": opt.skipped} if scaled else found


def table(runs: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """A row for each task and precision: means, spreads and the difference from float32."""
    rows: list[dict[str, Any]] = []
    for name, task in TASKS.items():
        plain: dict[int, float] = {}
        noise: float | None = None
        for precision in task.precisions:
            found = {seed: runs[key] for seed in range(task.seeds) if (key := f"{name} {precision} {seed}") in runs}
            if not found:
                continue
            row: dict[str, Any] = {"task": name, "precision": precision, "seeds": len(found)}
            for what in ("loss", "accuracy"):
                values = [f[what] for f in found.values()]
                row[what] = round(mean(values), 4)
                row[f"{what}_spread"] = round(stdev(values), 4) if len(values) > 1 else None
            if precision == "float32":
                plain, noise = {seed: f["loss"] for seed, f in found.items()}, row["loss_spread"]
            elif pairs := [f["loss"] - plain[seed] for seed, f in found.items() if seed in plain]:
                row["loss_difference"] = round(mean(pairs), 4)
                row["within_noise"] = None if noise is None else abs(row["loss_difference"]) <= noise
            rows.append(row)
    return rows


ANSWERS = {True: "yes", False: "no", None: "one seed"}


def _spread(value: float, spread: float | None) -> str:
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"


def text(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    lines = ["| network | precision | seeds | held-out loss | accuracy | loss less float32's | within its noise |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        cells = [_spread(row[what], row[f"{what}_spread"]) for what in ("loss", "accuracy")]
        apart = " | "
        if "loss_difference" in row:
            apart = f"{row['loss_difference']:+.4f} | {ANSWERS[row['within_noise']]}"
        lines.append(f"| {row['task']} | {row['precision']} | {row['seeds']} | {cells[0]} | {cells[1]} | {apart} |")
    return "\n".join(lines)


def write(path: Path, settings: dict[str, Any], runs: dict[str, dict[str, float]]) -> None:
    path.write_text(json.dumps({"settings": settings, "table": table(runs), "runs": runs}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/precision.json"))
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    arguments = parser.parse_args()
    flux.set_num_threads(1)
    settings = {name: {"steps": t.steps, "rate": t.rate} for name, t in TASKS.items()}
    known = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    if known.get("settings", settings) != settings:
        parser.error(f"{arguments.json} has results of other settings: {known['settings']}")
    runs = known.get("runs", {})
    for name in arguments.only:
        task = TASKS[name]
        for seed in range(task.seeds):
            for precision in task.precisions:
                if (key := f"{name} {precision} {seed}") not in runs:
                    start = time.perf_counter()
                    runs[key] = run(task, precision, seed)
                    print(f"{key}: {runs[key]} after {time.perf_counter() - start:.0f} s", flush=True)
                    write(arguments.json, settings, runs)
    write(arguments.json, settings, runs)
    print(text(table(runs)))


if __name__ == "__main__":
    main()
