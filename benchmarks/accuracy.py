"""``python -m benchmarks.accuracy``: does a network learn as much here as in PyTorch?

ResNet-18 (its usual stem, one input channel) on all of Fashion-MNIST, once per seed on each side: here by ``minitorch-flux
train``, there the same network in plain PyTorch, from the same initial weights, with PyTorch's AdamW and one-cycle schedule
and the same shifted images. A run that is in the file of results is not made again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

MODEL, DATA, RATE = "resnet18", "fashion-mnist", 5e-3


def here(seed: int, epochs: int, batch: int) -> float:
    """The test accuracy that ``minitorch-flux train`` reports."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "minitorch_flux", "train", "--model", MODEL, "--data", DATA, "--lr", RATE,
                   "--epochs", epochs, "--batch", batch, "--seed", seed, "--out", f"{folder}/run"]
        said = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    return float(re.findall(r"^test accuracy ([\d.]+)$", said, re.MULTILINE)[-1])


def torch_resnet18(start: Any, classes: int) -> Any:
    """ResNet-18 for images of one channel in PyTorch, with the weights of ours."""
    import torch
    from torch import nn

    from .peers.torch import LAYERS, sequence
    from .workloads import basic_stages

    head = sequence((*basic_stages(), ("mean", (2, 3)), ("dense", 512, classes, None)))
    model = nn.Sequential(*LAYERS["conv_norm"](1, 64, 7, 2, 1, "relu"), nn.MaxPool2d(3, 2, 1), *head)
    with torch.no_grad():
        for theirs, ours in zip(model.parameters(), start.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(np.array(ours.data)))
    return model


def there(seed: int, epochs: int, batch: int) -> float:
    """The test accuracy of the same network trained by PyTorch."""
    import torch
    from torch.nn.functional import cross_entropy

    import minitorch_flux as flux
    from minitorch_flux.data import DataLoader, fashion_mnist, random_crop

    images = fashion_mnist(mini=False, dtype="uint8")
    flux.seed(seed)
    torch.manual_seed(seed)
    classes = len(images.classes)
    model = torch_resnet18(flux.models.get_model(MODEL, inchannels=1, nclasses=classes), classes)
    loader = DataLoader(images.train, batch, shuffle=True)
    opt = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        opt, RATE, total_steps=epochs * len(loader), pct_start=0.25, cycle_momentum=False
    )

    def scores(x: np.ndarray) -> Any:
        return model(torch.from_numpy(np.asarray(images.normalise(x))))

    for _ in range(epochs):
        for x, y in loader:
            opt.zero_grad()
            cross_entropy(scores(random_crop(x, pad=1)), torch.from_numpy(y)).backward()
            opt.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = sum(int((scores(x).argmax(1).numpy() == y).sum()) for x, y in DataLoader(images.test, 500))
    return right / len(images.test.labels)


SIDES = {"minitorch_flux": here, "torch": there}


def summary(runs: dict[str, float], epochs: int) -> str:
    """The table of both sides, and how many standard errors lie between their means."""
    lines = [f"{MODEL} on {DATA}, {epochs} epochs: test accuracy", "| side | seeds | mean | standard error |"]
    lines.append("|---|---|---|---|")
    means, errors = [], []
    for side in SIDES:
        found = [accuracy for key, accuracy in runs.items() if key.startswith(f"{side} ")]
        means.append(mean(found))
        errors.append(stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan"))
        lines.append(f"| {side} | {', '.join(f'{a:.4f}' for a in found)} | {means[-1]:.4f} | {errors[-1]:.4f} |")
    apart = (means[0] - means[1]) / (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    return "\n".join([*lines, f"minitorch_flux - torch: {means[0] - means[1]:+.4f}, {apart:+.1f} standard errors"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/accuracy.json"))
    arguments = parser.parse_args()
    known = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    settings = {"model": MODEL, "data": DATA, "rate": RATE, "epochs": arguments.epochs, "batch": arguments.batch}
    if known.get("settings", settings) != settings:
        parser.error(f"{arguments.json} has results of other settings: {known['settings']}")
    runs = known.get("runs", {})
    for seed in range(arguments.seeds):
        for side, run in SIDES.items():
            if (key := f"{side} {seed}") not in runs:
                start = time.perf_counter()
                runs[key] = run(seed, arguments.epochs, arguments.batch)
                print(f"{key}: {runs[key]:.4f} after {time.perf_counter() - start:.0f} s", flush=True)
                arguments.json.write_text(json.dumps({"settings": settings, "runs": runs}, indent=2) + "\n")
    print(summary(runs, arguments.epochs))


if __name__ == "__main__":
    main()
