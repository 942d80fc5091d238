"""A DCGAN invents clothes: a generator learns to fool a discriminator, which learns not to be fooled.

    python examples/dcgan.py [--epochs 50] [--seed 0] [--out runs/dcgan] [--device cuda]

The generator turns 64 random numbers and the name of a class into an image, with transposed convolutions and batch
normalisation. It never sees a real one, only the gradient of what the discriminator makes of its own. The real ones are the
2000 training images of Fashion-MNIST that come with the package. Takes about 60 s on two cores. Leaves ``dcgan.png``:
what becomes of the same random numbers in the course of the training, and new inventions. Needs matplotlib. (After Radford,
Metz and Chintala, "Unsupervised representation learning with deep convolutional GANs", 2016.)
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, Conv, ConvTranspose, Dense, flatten, leakyrelu, relu, tanh
from minitorch_flux.backend import to_device
from minitorch_flux.losses import logitbinarycrossentropy

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
NOISE, CLASSES, WIDTH, BATCH, RATE = 64, 10, 32, 50, 1e-3


def small(*shape, rng=None):
    """The paper's initial weights: normal with a deviation of 0.02."""
    return flux.normal_init(*shape, std=0.02, rng=rng)


def networks():
    """The generator, (N, 74) to images (N, 1, 28, 28) from -1 to 1; the discriminator, images to a logit for each class."""

    def leaky(x):
        return leakyrelu(x, 0.2)

    generator = Chain(
        Dense(NOISE + CLASSES, 2 * WIDTH * 7 * 7, bias=False, init=small), lambda x: x.reshape(-1, 2 * WIDTH, 7, 7),
        BatchNorm(2 * WIDTH, relu),
        ConvTranspose((4, 4), 2 * WIDTH, WIDTH, stride=2, pad=1, bias=False, init=small), BatchNorm(WIDTH, relu),  # 14 x 14
        ConvTranspose((4, 4), WIDTH, 1, tanh, stride=2, pad=1, init=small),  # 28 x 28
    )  # fmt: skip
    discriminator = Chain(
        Conv((4, 4), 1, WIDTH, leaky, stride=2, pad=1, init=small),
        Conv((4, 4), WIDTH, 2 * WIDTH, stride=2, pad=1, bias=False, init=small), BatchNorm(2 * WIDTH, leaky),
        flatten, Dense(2 * WIDTH * 7 * 7, CLASSES, init=small),
    )  # fmt: skip
    return generator, discriminator


def verdict(d, images, kind, truth):
    """How far the discriminator is from saying ``truth`` (1: real, 0: made) of the images of the kind (N, 10), one-hot."""
    return logitbinarycrossentropy((d(images) * kind).sum(1), truth * kind.sum(1))


def play(generator, discriminator, data, epochs, rng, watch):
    """Train both, a step each with every batch; ``watch(step)`` is called after every epoch."""
    loader = flux.DataLoader(data, batchsize=BATCH, shuffle=True, partial=False)
    rate = flux.schedules.CosAnneal(RATE, RATE / 20, period=epochs * len(loader))
    forger, expert = (flux.setup(flux.Adam(RATE, beta=(0.5, 0.999)), model) for model in (generator, discriminator))

    def fooling(g, noise, kind):
        made = g(flux.cat([noise, kind], axis=1))
        return verdict(discriminator, made, kind, 1), made  # it wants its own to be taken for real

    for epoch in range(epochs):
        for step, (real, kind) in enumerate(loader, epoch * len(loader)):
            noise, real = rng.normal((BATCH, NOISE), like=real), flux.data.random_flip(real)
            (fooled, made), up = flux.withgradient(lambda g, z=noise, y=kind: fooling(g, z, y), generator)
            told, down = flux.withgradient(  # not 1 but 0.9, so as not to be too sure
                lambda d, a=real, b=made, y=kind: verdict(d, a, y, 0.9) + verdict(d, b, y, 0), discriminator)
            for opt, model, grads in ((forger, generator, up), (expert, discriminator, down)):
                flux.adjust(opt, rate(step))
                flux.update(opt, model, grads)
        print(f"epoch {epoch + 1:3}: generator {fooled.item():.2f}, discriminator {told.item():.2f}", flush=True)
        watch(step + 1)


def draw(course, made, names, path):
    """``course``: for some steps the images of the same noise; ``made``: new images; both with a column for each class."""
    figure, axes = plt.subplots(1, 2, figsize=(15, 7.2), subplot_kw={"frame_on": False})
    titles = "The same random numbers in the course of the training", "New inventions"
    for ax, rows, title in zip(axes, ([images for _, images in course], made.reshape(-1, 10, 28, 28)), titles, strict=True):
        sheet = np.concatenate([np.pad(np.concatenate(row, 1), ((0, 3), (0, 0)), constant_values=-1) for row in rows])
        ax.imshow(sheet, cmap="gray_r", vmin=-1, vmax=1)
        ax.set_title(title)
        ax.set_xticks(28 * np.arange(10) + 14, names, fontsize=8)
        ax.set_yticks([])
        ax.grid(False)
    axes[0].set_yticks(31 * np.arange(len(course)) + 14, [f"step {step:,}" for step, _ in course])
    figure.savefig(path)


def main(epochs=50, seed=0, out="runs/dcgan", device="cpu"):
    """Train, invent, draw; returns the real images and 80 invented ones, (N, 28, 28) from -1 to 1."""
    flux.seed(seed)
    rng, clothes, course = flux.Generator(seed), flux.data.fashion_mnist(), []
    images, kinds = 2 * clothes.train.images - 1, flux.onehotbatch(clothes.train.labels, CLASSES)
    generator, discriminator = (model.to(device) for model in networks())
    same, fresh = rng.normal((10, NOISE)), rng.normal((80, NOISE))

    def invent(noise):  # of the ten classes in turn
        kind = flux.onehotbatch(np.arange(len(noise)) % CLASSES, CLASSES)
        return flux.cpu(generator)(np.concatenate([noise, kind], 1)).numpy()[:, 0]

    data = to_device(images, device), to_device(kinds, device)
    play(generator, discriminator, data, epochs, rng, lambda step: course.append((step, invent(same))))
    made, chosen = invent(fresh), sorted({max(1, round(epochs * (i / 8) ** 2.5)) for i in range(1, 9)})
    Path(out).mkdir(parents=True, exist_ok=True)
    draw([course[i - 1] for i in chosen], made, clothes.classes, Path(out, "dcgan.png"))
    return images[:, 0], made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"epochs": 50, "seed": 0, "out": "runs/dcgan", "device": "cpu"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(**vars(parser.parse_args()))
