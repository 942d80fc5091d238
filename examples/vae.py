"""A variational autoencoder squeezes a piece of clothing into two numbers, and draws clothes from any two numbers.

    python examples/vae.py [--epochs 100] [--seed 0] [--out runs/vae] [--device cuda]

The encoder says where on a plane an image lies and how sure it is of that; the decoder draws an image from a place. Both
learn from the 2000 images of Fashion-MNIST that come with the package, without their labels, in about 30 s on two
cores. Leaves ``vae.png``: test images with what is left of them after two numbers, where the classes lie on the plane,
and the images on it. Needs matplotlib. (Kingma and Welling, "Auto-encoding variational Bayes", 2014.)
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, swish
from minitorch_flux.backend import to_device
from minitorch_flux.losses import logitbinarycrossentropy

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
HIDDEN, PIXELS = 400, 28 * 28


class VAE(flux.Module):
    """Images (N, 784) of pixels from 0 to 1. ``rng`` draws a place from the Gaussian that the encoder gives."""

    def __init__(self, rng):
        self.rng = rng
        self.encoder = Chain(Dense(PIXELS, HIDDEN, swish), Dense(HIDDEN, HIDDEN, swish), Dense(HIDDEN, 4))
        self.decoder = Chain(Dense(2, HIDDEN, swish), Dense(HIDDEN, HIDDEN, swish), Dense(HIDDEN, PIXELS))

    def encode(self, x):
        """The mean (N, 2) and the logarithm of the variance (N, 2) of the Gaussian on the plane."""
        found = self.encoder(x)
        return found[:, :2], found[:, 2:]

    def decode(self, z):
        """Images (N, 28, 28) of the places (N, 2), as an array."""
        return flux.sigmoid(self.decoder(z)).numpy().reshape(-1, 28, 28)

    def terms(self, x):
        """What an image costs, in nats: -log p(x | z), of a random z near its place, and KL(q(z | x) || N(0, 1))."""
        mean, logvar = self.encode(x)
        noise = self.rng.normal(mean.shape, like=x)
        z = mean + flux.exp(0.5 * logvar) * noise  # z is random, and yet there is a gradient with respect to mean, logvar
        rebuilt = logitbinarycrossentropy(self.decoder(z), x, agg="sum")
        divergence = 0.5 * (flux.exp(logvar) + mean * mean - 1 - logvar).sum()
        return rebuilt / len(x), divergence / len(x)


def learn(model, images, epochs):
    """Train on the images (N, 784); gives the mean of both terms for each epoch."""

    def loss(m, x):
        rebuilt, divergence = m.terms(x)
        return rebuilt + divergence, {"rebuilt": rebuilt, "divergence": divergence}

    loader = flux.DataLoader(images, batchsize=100, shuffle=True)
    rate = flux.schedules.CosAnneal(1e-3, period=epochs * len(loader))
    state = flux.train(loss, model, loader, flux.Adam(1e-3), epochs=epochs, capture=True, callbacks=[flux.Schedule(rate)])
    return state.history


def draw(model, data, path):
    """Test images and their reconstructions, the places of the test images, and the images of a grid of places."""
    images, labels = data.test
    figure = plt.figure(figsize=(14.5, 8.2))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 3.4))
    mean = model.encode(images.reshape(-1, PIXELS))[0].numpy()
    chosen = np.concatenate([np.flatnonzero(labels == c)[:2] for c in range(10)])
    rebuilt = model.decode(mean[chosen])
    strip = np.concatenate([np.concatenate(images[chosen, 0], 1), np.concatenate(rebuilt, 1)], 0)
    ax = top.subplots()
    ax.imshow(strip, cmap="gray_r", aspect="equal")
    ax.set_title("Test images, and below them what the decoder makes of the two numbers that the encoder gives")
    ax.axis("off")
    left, right = bottom.subplots(1, 2)
    colours = plt.get_cmap("tab10").colors
    for c, name in enumerate(data.classes):
        left.scatter(*mean[labels == c].T, s=16, color=colours[c], alpha=0.75, lw=0, label=name)
    left.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1, fontsize=9, markerscale=1.8)
    left.set_title("Where the encoder puts the test images; it never saw a label")
    places = np.linspace(-3, 3, 33, dtype=np.float32)[1::2]  # the middles of 16 columns
    z = np.stack(np.meshgrid(places, places[::-1]), -1).reshape(-1, 2)
    grid = model.decode(z).reshape(16, 16, 28, 28).transpose(0, 2, 1, 3).reshape(448, 448)
    right.imshow(grid, cmap="gray_r", extent=(-3, 3, -3, 3))
    right.set_title("What the decoder draws at each place of the plane")
    for ax in (left, right):
        ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        ax.grid(ax is left, axis="both")
    figure.savefig(path)


def main(epochs=100, seed=0, out="runs/vae", device="cpu"):
    """Train, test, draw; returns the mean cost of a test image in nats, and that of the mean image."""
    flux.seed(seed)
    data = flux.data.fashion_mnist()
    train, test = (s.images.reshape(-1, PIXELS) for s in (data.train, data.test))
    model = VAE(flux.Generator(seed)).to(device)
    for row in learn(model, to_device(train, device), epochs)[:: max(1, epochs // 10)]:
        print(f"epoch {row['epoch']:3}: {row['loss']:.1f} nats an image, {row['divergence']:.1f} of them for the place")
    model = flux.cpu(model)
    cost = sum(t.item() for t in model.terms(test))
    mean = train.mean(0, keepdims=True).clip(1e-3, 1 - 1e-3)
    baseline = float(-(test * np.log(mean) + (1 - test) * np.log(1 - mean)).sum(1).mean())
    print(f"test images: {cost:.1f} nats an image; drawing always the mean image: {baseline:.1f}")
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(model, data, Path(out, "vae.png"))
    print(f"picture in {out}")
    return cost, baseline


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"epochs": 100, "seed": 0, "out": "runs/vae", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
