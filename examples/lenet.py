"""LeNet learns to tell clothes apart: a training loop with nothing hidden.

    python examples/lenet.py [--epochs 12] [--seed 0] [--out runs/lenet] [--device cuda]

The images are the part of Fashion-MNIST that comes with the package, 2000 to train on and 500 to test. Takes about 5 s
on two cores. Leaves ``lenet.png``: the loss, what is taken for what, and the worst mistakes. Needs matplotlib.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, MaxPool, flatten, relu
from minitorch_flux.backend import to_device

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
DARK, GREY, BLUE, ORANGE = "#1f2933", "#6b7785", "#0072b2", "#d55e00"


def lenet():
    """LeNet-5 with today's parts: max-pooling and relu. Images (N, 1, 28, 28) to scores (N, 10)."""
    return Chain(
        Conv((5, 5), 1, 6, relu, pad=2),  # (N, 6, 28, 28)
        MaxPool((2, 2)),                  # (N, 6, 14, 14)
        Conv((5, 5), 6, 16, relu),        # (N, 16, 10, 10)
        MaxPool((2, 2)),                  # (N, 16, 5, 5)
        flatten,                          # (N, 400)
        Dense(400, 120, relu),
        Dense(120, 84, relu),
        Dense(84, 10),
    )  # fmt: skip


def learn(model, train, test, epochs):
    """Train the model; gives the loss of every step, and (step, accuracy on the test images) after every epoch."""
    loader = flux.DataLoader(train, batchsize=32, shuffle=True)
    opt = flux.setup(flux.AdamW(2e-3, weight_decay=1e-2), model)
    rate = flux.schedules.CosAnneal(2e-3, period=epochs * len(loader))
    losses, accuracies = [], []
    for epoch in range(epochs):
        for x, y in loader:
            # The loss and its gradient with respect to every weight: grads has the structure of the model.
            loss, grads = flux.withgradient(lambda m, x=x, y=y: flux.losses.logitcrossentropy(m(x), y), model)
            flux.adjust(opt, rate(len(losses)))
            flux.update(opt, model, grads)  # one step downhill, in place
            losses.append(loss.item())
        accuracies.append((len(losses), flux.evaluate(model, test)["accuracy"]))
        print(f"epoch {epoch + 1:2}: loss {np.mean(losses[-len(loader):]):.3f}, "
              f"accuracy on test images {accuracies[-1][1]:.3f}", flush=True)
    return losses, accuracies


def draw(losses, accuracies, scores, data, path):
    """The learning curves, the confusion matrix, and the mistakes that the network was surest of."""
    images, labels = data.test
    figure = plt.figure(figsize=(14, 7))
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.1, 1))
    left, middle, right = top.subplots(1, 3, width_ratios=(1.1, 0.9, 1.1))
    smooth = np.convolve(losses, np.ones(20) / 20, "valid")
    left.plot(losses, color="#cfe3f1", lw=1)
    left.plot(np.arange(len(smooth)) + 10, smooth, color=BLUE)
    left.set(xlabel="training steps", ylim=(0, None), xlim=(0, len(losses)))
    left.set_title("Loss of each batch, and its mean over 20")
    steps, values = zip(*accuracies, strict=True)
    middle.plot(steps, values, color=ORANGE, marker="o", ms=4)
    middle.set(xlabel="training steps", xlim=(0, len(losses) * 1.02))
    middle.set_title(f"Accuracy on test images: {values[-1]:.1%} in the end")
    counts = flux.confusion_matrix(scores, labels)
    right.imshow(counts, cmap="Blues")
    right.grid(False)
    for i, j in zip(*np.nonzero(counts), strict=True):
        right.text(j, i, counts[i, j], ha="center", va="center", color="white" if counts[i, j] > 25 else DARK,
                   weight="bold" if i == j else "normal", fontsize=9)
    right.set_xticks(range(10), data.classes, rotation=40, ha="right", rotation_mode="anchor")
    right.set_yticks(range(10), data.classes)
    right.spines[:].set_visible(False)
    right.set_title("What is (row) taken for what (column)")
    p = flux.softmax(scores).numpy()
    found, sure = p.argmax(1), p.max(1)
    mistakes = np.argsort(np.where(found != labels, -sure, 0))[:10]
    bottom.suptitle("The mistakes it was surest of", x=0.01, ha="left")
    for ax, i in zip(bottom.subplots(1, 10), mistakes, strict=True):
        ax.imshow(images[i, 0], cmap="gray_r")
        ax.axis("off")
        ax.set_title(f"{data.classes[found[i]]} {sure[i]:.0%}", fontsize=9, loc="center", color=ORANGE)
        ax.text(0.5, -0.05, f"is: {data.classes[labels[i]]}", transform=ax.transAxes, ha="center", va="top", fontsize=9)
    figure.savefig(path)


def main(epochs=12, seed=0, out="runs/lenet", device="cpu"):
    """Train, test, draw; returns the accuracy on the test images."""
    flux.seed(seed)
    data = flux.data.fashion_mnist()
    train, test = (tuple(to_device(a, device) for a in (data.normalise(s.images), s.labels)) for s in (data.train, data.test))
    model = lenet().to(device)
    print(model)
    losses, accuracies = learn(model, train, test, epochs)
    Path(out).mkdir(parents=True, exist_ok=True)
    scores = flux.cpu(flux.predict(model, test[0]))
    draw(losses, accuracies, scores, data, Path(out, "lenet.png"))
    print(f"picture in {out}")
    return accuracies[-1][1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"epochs": 12, "seed": 0, "out": "runs/lenet", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
