"""Which language is a surname from? A GRU reads it letter by letter.

    python examples/names.py [--epochs 12] [--seed 0] [--out runs/names] [--device cuda]

Trains on 6024 names of ten languages, about 15 s on two cores, and tests on 1502 others. Leaves ``names.png``: which
language is taken for which, and what the network believes after each letter of a few names. Needs matplotlib.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minitorch_flux as flux
from minitorch_flux.backend import to_device
from minitorch_flux.data import encode_names

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
PEOPLE = ["lehtonen", "lindqvist", "kovacevic", "vandenberg", "martinelli", "rodriguez", "hutchinson", "schwarzenegger"]
DARK = "#1f2933"


class Reader(flux.Module):
    """Letters (T, N) and the lengths of the names (N,) to scores (N, languages)."""

    def __init__(self, languages, width=32, hidden=128):
        self.embedding = flux.Embedding(27, width)
        self.gru = flux.GRU(width, hidden)
        self.dropout = flux.Dropout(0.3)
        self.dense = flux.Dense(hidden, languages)

    def __call__(self, letters, lengths):
        self.gru(self.embedding(letters), lengths=lengths)
        return self.dense(self.dropout(self.gru.state))  # what it knows at the end of each name

    def after_each_letter(self, letters):
        """Scores (T, N, languages)."""
        return self.dense(self.gru(self.embedding(letters)))


def train(data, epochs, seed, device):
    """A trained Reader, back on the CPU, and its losses, one per epoch."""
    flux.seed(seed)
    letters, lengths = encode_names(data.train.names)
    model = Reader(len(data.classes)).to(device)
    batches = flux.DataLoader((letters.T, lengths, data.train.labels), batchsize=64, shuffle=True)
    opt = flux.setup(flux.AdamW(3e-3, weight_decay=1e-2), model)

    def loss(m, *batch):
        x, n, y = (to_device(a, device) for a in batch)
        return flux.losses.logitcrossentropy(m(x.T, n), y)

    state = flux.train(loss, model, batches, opt, epochs=epochs,
                       callbacks=[flux.Schedule(flux.schedules.CosAnneal(3e-3, period=epochs * len(batches)))])
    return flux.cpu(model), [row["loss"] for row in state.history]


def draw(counts, title, model, classes, path):
    """Which language is taken for which, and what the model believes after each letter of a few names."""
    figure = plt.figure(figsize=(16, 8))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    ax, share = left.subplots(), counts / counts.sum(1, keepdims=True)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*np.nonzero(counts), strict=True):
        ax.text(j, i, counts[i, j], ha="center", va="center", color="white" if share[i, j] > 0.5 else DARK,
                weight="bold" if i == j else "normal")
    ax.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(xlabel="taken for", ylabel="is")
    ax.set_title(title)
    right.suptitle("What the network believes after each letter", x=0.01, ha="left")
    axes = right.subplots(2, len(PEOPLE) // 2, sharey=True)
    for cell, name in zip(axes.flat, PEOPLE, strict=True):
        letters, _ = encode_names([name])
        belief = flux.softmax(model.after_each_letter(letters)).numpy()[:, 0].T
        best = int(belief[:, -1].argmax())
        cell.imshow(belief, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        cell.set_xticks(range(len(name)), list(name))
        cell.set_title(f"{classes[best]}, {belief[best, -1]:.0%}")
    for cell in (ax, *axes.flat):
        cell.set_yticks(range(len(classes)), classes)
        cell.spines[:].set_visible(False)
        cell.grid(False)
    figure.savefig(path)


def main(epochs=12, seed=0, out="runs/names", device="cpu"):
    """Train, test, draw; returns the test accuracy and that of always guessing the commonest language."""
    data = flux.data.names()
    model, losses = train(data, epochs, seed, device)
    letters, lengths = encode_names(data.test.names)
    scores = model(letters, lengths)
    accuracy = flux.accuracy(scores, data.test.labels)
    commonest = int(np.bincount(data.train.labels).argmax())
    baseline = float(np.mean(data.test.labels == commonest))
    print(f"loss of the last epoch {losses[-1]:.3f}")
    print(f"always {data.classes[commonest]}: accuracy {baseline:.3f}")
    print(f"the GRU: accuracy {accuracy:.3f} on {len(lengths)} names that it has not seen")
    found = scores.numpy().argmax(-1)
    for name, label, guess in list(zip(data.test.names, data.test.labels, found, strict=True))[::167]:
        print(f"  {name:16} {data.classes[label]:9} {'right' if label == guess else 'taken for ' + data.classes[guess]}")
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(flux.confusion_matrix(scores, data.test.labels), f"{accuracy:.1%} right (always the commonest: {baseline:.1%})",
         model, data.classes, Path(out, "names.png"))
    print(f"pictures in {out}")
    return accuracy, baseline


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"epochs": 12, "seed": 0, "out": "runs/names", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
