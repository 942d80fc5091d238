"""What the command can train on, and the settings that it takes when none are given.

How the settings of fashion-mini were chosen: in the 2000 training images alone. Each of ten stratified tenths was held
out in turn and the network trained on the other nine; the mean accuracy on the held-out tenth, +- 0.005:

    as below                 0.854      no shifts             0.832      mirrored instead      0.847
    20 epochs                0.841      highest rate 0.003    0.853      mirrored as well      0.854

The 500 test images were not looked at. The run then trains on all 2000, and no epoch is picked afterwards: its figures
are those after the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import data, optimisers
from ..data import ImageDataset
from ..data.idx import find_files
from ..models import MLP, LeNet, get_model, list_models
from ..models.lenet import SMALLEST
from ..nn.conversions import mixed
from ..optimisers import Rule


@dataclass(frozen=True)
class Dataset:
    """How a dataset is loaded and trained on."""

    load: Callable[[], ImageDataset]
    epochs: int
    batch: int = 64
    shift: int = 0  # random shifts of the training images, in pixels each way
    flip: bool = False  # and random mirror images


DATASETS = {
    "fashion-mini": Dataset(lambda: data.fashion_mnist(dtype="uint8"), epochs=30, shift=1),
    "digits": Dataset(lambda: data.digits(dtype="uint8"), epochs=30),
    "fashion-mnist": Dataset(lambda: data.fashion_mnist(mini=False, dtype="uint8"), epochs=8, shift=1),
}

def _of_the_zoo(name: str, shape: tuple[int, ...], classes: int) -> Any:
    return get_model(name, imsize=shape[1:], inchannels=shape[0], nclasses=classes)


MODELS: dict[str, Callable[[tuple[int, ...], int], Any]] = {
    "lenet": lambda shape, classes: LeNet((shape[1], shape[2]), shape[0], classes),
    "mlp": lambda shape, classes: MLP(shape, nclasses=classes),
    **{name: partial(_of_the_zoo, name) for name in list_models()},
}
"""By name: what builds a model for images ``(C, H, W)`` and a number of classes."""


@dataclass(frozen=True)
class Optimiser:
    """How an optimiser is made, and the highest learning rate that it is given by default."""

    make: Callable[[float], Rule]
    eta: float


OPTIMISERS = {
    "adamw": Optimiser(lambda eta: optimisers.AdamW(eta, weight_decay=0.05), 5e-3),
    "adam": Optimiser(optimisers.Adam, 3e-3),
    "adabelief": Optimiser(optimisers.AdaBelief, 3e-3),
    "adagrad": Optimiser(optimisers.AdaGrad, 2e-2),
    "adamax": Optimiser(optimisers.AdaMax, 5e-3),
    "amsgrad": Optimiser(optimisers.AMSGrad, 3e-3),
    "descent": Optimiser(optimisers.Descent, 0.1),
    "lion": Optimiser(optimisers.Lion, 5e-4),
    "momentum": Optimiser(lambda eta: optimisers.Momentum(eta, 0.9), 0.02),
    "nadam": Optimiser(optimisers.NAdam, 3e-3),
    "nesterov": Optimiser(lambda eta: optimisers.Nesterov(eta, 0.9), 0.02),
    "radam": Optimiser(optimisers.RAdam, 3e-3),
    "rmsprop": Optimiser(optimisers.RMSProp, 1e-3),
}


PRECISIONS = ("float32", "bfloat16", "float16")
"""In which numbers a run computes: all in float32, or mixed."""


def in_precision(model: Any, precision: str) -> Any:
    """The model for a run of this precision. ImportError where bfloat16 is not installed."""
    return model if precision == "float32" else mixed(model, precision)


def rule_in_precision(rule: Rule, precision: str) -> Rule:
    """The optimiser for a run of this precision: small gradients do not get lost in float16."""
    return optimisers.OptimiserChain(optimisers.LossScale(), rule) if precision == "float16" else rule


def dataset(name: str) -> Dataset:
    """The dataset of this name, or in the folder of this path. ValueError where there is neither."""
    if name in DATASETS:
        return DATASETS[name]
    folder = Path(name)
    known = ", ".join(DATASETS)
    if not folder.is_dir():
        raise ValueError(f"--data {name}: no such dataset and no such folder; the datasets are {known}")
    if find_files(folder) is not None:
        return Dataset(lambda: data.mnist_idx(folder, dtype="uint8"), epochs=8)
    if list(folder.glob("*.bin")) or list(folder.glob("*/*.bin")):
        return Dataset(lambda: data.cifar10(folder, dtype="uint8"), epochs=8, shift=2, flip=True)
    raise ValueError(f"--data {name}: no MNIST-like idx files (train-images-idx3-ubyte and so on) and no CIFAR-10 "
                     "binary files (data_batch_1.bin and so on) in this folder")


def default_model(shape: tuple[int, ...]) -> str:
    """The model for images ``(C, H, W)`` where none was asked for."""
    return "lenet" if min(shape[1:]) >= SMALLEST else "mlp"
