"""Datasets, batches, labels, and random changes to images."""

from .augmentations import cutout, normalise, random_crop, random_flip
from .cifar import cifar10
from .datasets import ImageDataset, Split
from .embedded import digits
from .fashion import fashion_mnist
from .idx import mnist_idx, read_idx
from .labels import onecold, onehot, onehotbatch
from .loaders import DataLoader
from .splitting import splitobs

__all__ = [
    "DataLoader",
    "ImageDataset",
    "Split",
    "cifar10",
    "cutout",
    "digits",
    "fashion_mnist",
    "mnist_idx",
    "normalise",
    "onecold",
    "onehot",
    "onehotbatch",
    "random_crop",
    "random_flip",
    "read_idx",
    "splitobs",
]
