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
from .surnames import NameDataset, NameSplit, encode_names, names

__all__ = [
    "DataLoader",
    "ImageDataset",
    "NameDataset",
    "NameSplit",
    "Split",
    "cifar10",
    "cutout",
    "digits",
    "encode_names",
    "fashion_mnist",
    "mnist_idx",
    "names",
    "normalise",
    "onecold",
    "onehot",
    "onehotbatch",
    "random_crop",
    "random_flip",
    "read_idx",
    "splitobs",
]
