"""A vision transformer reads handwritten digits as sentences of 16 words.

    python examples/vit.py [--epochs 60] [--seed 0] [--out runs/vit] [--device cuda]

Every image (8 x 8, part of the package: 1442 to train on, 355 to test) is cut into 16 patches of 2 x 2 pixels. Each becomes
a token of 64 numbers, and in two blocks all tokens look at each other; a class token among them is what the digit is read
from. Takes about 35 s on two cores. Leaves ``vit.png``: the accuracy beside that of the nearest neighbour, where the
class token looks, and which places the network has learnt to be near each other. Needs matplotlib.
(Dosovitskiy and others, "An image is worth 16x16 words", 2021; ``flux.models.ViT`` has the paper's sizes.)
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, LayerNormV2, MultiHeadAttention, gelu
from minitorch_flux.backend import to_device
from minitorch_flux.models.layers import ClassTokens, PatchEmbedding, ViPosEmbedding

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
WIDTH, HEADS, DEPTH, DROPOUT = 64, 4, 2, 0.1
BLUE, GREY, ORANGE = "#0072b2", "#6b7785", (0.84, 0.37, 0.0)


class Block(flux.Module):
    """Tokens (N, L, WIDTH) look at each other, then think, each for itself; both is added to what they were."""

    def __init__(self):
        self.norm1, self.norm2, self.attention = LayerNormV2(WIDTH), LayerNormV2(WIDTH), MultiHeadAttention(WIDTH, HEADS)
        self.mlp = Chain(Dense(WIDTH, 4 * WIDTH, gelu), flux.Dropout(DROPOUT), Dense(4 * WIDTH, WIDTH), flux.Dropout(DROPOUT))

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def weights(self, x):
        """How much each token looks at each other one: (N, HEADS, L, L)."""
        return self.attention(self.norm1(x), return_weights=True)[1]


def vit():
    """Images (N, 1, 8, 8) to scores (N, 10)."""
    return Chain(
        patches=PatchEmbedding((8, 8), inchannels=1, patch_size=(2, 2), embedplanes=WIDTH),  # (N, 16, WIDTH)
        token=ClassTokens(WIDTH),  # (N, 17, WIDTH)
        places=ViPosEmbedding(WIDTH, 17),
        **{f"block{i + 1}": Block() for i in range(DEPTH)},
        norm=LayerNormV2(WIDTH),
        first=lambda x: x[:, 0],
        scores=Dense(WIDTH, 10),
    )


def learn(model, train, test, epochs):
    """Train with images shifted by up to a pixel; gives the test accuracy after every epoch."""
    loader = flux.DataLoader(train, batchsize=64, shuffle=True)
    rate = flux.schedules.Warmup(flux.schedules.CosAnneal(2e-3, period=epochs * len(loader)), len(loader))

    def loss(m, x, y):
        return flux.losses.logitcrossentropy(m(flux.data.random_crop(x, pad=1)), y, label_smoothing=0.1)

    callbacks = flux.Schedule(rate), flux.Evaluate(lambda m: flux.evaluate(m, test), prefix="test_")
    return flux.train(loss, model, loader, flux.AdamW(2e-3, weight_decay=0.05), epochs=epochs, callbacks=callbacks).history


def draw(model, history, nearest, images, path):
    """The accuracy, the attention of the class token in every head of the last block, the likeness of the places."""
    figure = plt.figure(figsize=(14, 7.6))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.45))
    top, bottom = left.subfigures(2, 1, height_ratios=(1, 1.25))
    accuracies = [row["test_accuracy"] for row in history]
    ax = top.subplots()
    ax.plot(range(1, len(accuracies) + 1), accuracies, color=BLUE)
    ax.axhline(nearest, color=GREY, ls=(0, (5, 3)), lw=1.2)
    ax.annotate(f"nearest neighbour {nearest:.1%}", (len(accuracies), nearest), (0, 4), textcoords="offset points", ha="right",
                color=GREY)
    ax.set(xlabel="epoch", ylim=(0.5, 1.05), xlim=(1, max(2, len(accuracies))))
    ax.set_title(f"Accuracy on test images: {accuracies[-1]:.1%} in the end")
    places = model.places.vectors.numpy()[0, 1:]
    places = places / np.linalg.norm(places, axis=1, keepdims=True)
    bottom.suptitle("How like the vector of each place is to all 16", x=0.02, ha="left")
    for ax, likeness in zip(bottom.subplots(4, 4).flat, places @ places.T, strict=True):
        ax.imshow(likeness.reshape(4, 4), cmap="viridis", vmin=-0.5, vmax=1)
        ax.axis("off")
    weights = model[f"block{DEPTH}"].weights(model[: 2 + DEPTH](images)).numpy()[:, :, 0, 1:].reshape(-1, HEADS, 4, 4)
    right.suptitle(f"Where the class token looks, in each head of block {DEPTH}", x=0.02, ha="left")
    for row, image, heads in zip(right.subplots(6, 1 + HEADS), images[:, 0], weights, strict=True):
        for ax, attention in zip(row, [None, *heads], strict=True):
            ax.imshow(image, cmap="gray_r")
            if attention is not None:
                ax.imshow(np.full((8, 8, 3), ORANGE), alpha=np.kron(0.85 * attention / attention.max(), np.ones((2, 2))))
            ax.axis("off")
    figure.savefig(path)


def main(epochs=60, seed=0, out="runs/vit", device="cpu"):
    """Train, test, draw; returns the accuracy on the test images and that of the nearest neighbour."""
    flux.seed(seed)
    data = flux.data.digits()
    train, test = ((data.normalise(s.images), s.labels) for s in (data.train, data.test))
    distances = ((test[0][:, None] - train[0][None]) ** 2).sum((2, 3, 4))
    nearest = float(np.mean(train[1][distances.argmin(1)] == test[1]))
    model = vit().to(device)
    history = learn(model, *((to_device(x, device), to_device(y, device)) for x, y in (train, test)), epochs)
    print(f"accuracy on test images {history[-1]['test_accuracy']:.3f}, of the nearest neighbour {nearest:.3f}")
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(flux.cpu(model), history, nearest, test[0][:6], Path(out, "vit.png"))
    print(f"picture in {out}")
    return history[-1]["test_accuracy"], nearest


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"epochs": 60, "seed": 0, "out": "runs/vit", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
