"""What a side is asked to do: a network in one of four modes, in a setting."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

MODES = {
    "train": "one training step: loss, gradient, Adam",
    "infer": "the outputs of a network that is not trained",
    "gradient": "forward and backward: the gradients of inputs and weights for a given gradient of the outputs",
    "update": "Adam's update with given gradients",
}


@dataclass(frozen=True)
class Setting:
    """How a side runs: the device ("cpu" or "cuda"), and what is asked of it.

    ``capture``: the step is captured and replayed; PyTorch's stays eager, but with ``graph``, where it is a CUDA graph.
    ``tf32``: float32 products on a GPU may round their factors, on both sides.
    ``layout``: of the images and filters of a peer that has a choice.
    """

    device: str = "cpu"
    threads: int = 1
    capture: bool = False
    graph: bool = False
    tf32: bool = False
    layout: str = "contiguous"


@dataclass(frozen=True)
class Network:
    """A model by its layers, and the shape of its input.

    The layers, of ``i`` inputs and ``o`` outputs; ``activation`` is a name or None::

        ("dense", i, o, activation)             ("conv", i, o, kernel, pad, activation, stride=1, groups=1)
        ("flatten",)  ("mean", axes)            ("deconv", i, o, kernel, stride, pad)
        ("pool",)                               max pooling 2 x 2
        ("max_pool", kernel, stride, pad)       ("mean_pool", kernel)      ("adaptive_mean", size)
        ("conv_norm", i, o, kernel, stride, groups, activation)      a convolution without bias, then BatchNorm
        ("add", branch, shortcut, activation)   activation(branch(x) + shortcut(x)); an empty shortcut is x itself
        ("batch_norm", i, activation)  ("group_norm", i, groups)  ("norm", size) for LayerNorm  ("rms_norm", size)
        ("attention", size, heads)              self-attention of (N, tokens, size)
        ("rnn" | "lstm" | "gru", i, o)          of (T, N, i)               ("embedding", i, o)
        ("crossentropy",)                       the mean loss of logits (N, classes) for drawn classes
        ("ctc", length)                         the loss of logits (T, N, classes) for drawn targets of a length
        ("function", name)                      a function of the array alone, by a name that each side knows
        ("upsample", scale)                     bilinear                   ("unfold", kernel, pad)

    ``classes``: what the labels of a training step, or the indices of an embedding, are drawn from.
    """

    name: str
    what: str
    layers: tuple[tuple[object, ...], ...]
    input_shape: tuple[int, ...]  # without the batch
    classes: int
    batch: int

    @property
    def sequences(self) -> bool:
        """Whether it maps sequences (T, N) of indices."""
        return self.layers[0][0] == "embedding"

    @property
    def images(self) -> bool:
        """Whether its inputs are images (N, C, H, W)."""
        return len(self.input_shape) == 3

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """``(x, y)``: standard normal inputs, class indices; of a language model two sequences (T, N) of indices."""
        rng = np.random.default_rng(0)
        if self.sequences:
            shape = (*self.input_shape, self.batch)
            return rng.integers(0, self.classes, shape), rng.integers(0, self.classes, shape)
        x = rng.standard_normal((self.batch, *self.input_shape)).astype(np.float32)
        return x, rng.integers(0, self.classes, self.batch)


@dataclass(frozen=True)
class Task:
    """A network in a mode."""

    network: Network
    mode: str

    def of_batch(self, batch: int) -> Task:
        """The same with another batch."""
        return replace(self, network=replace(self.network, batch=batch))


class Absent(Exception):
    """A side has no equivalent of what it is asked for; the text says what."""


def weights(parameters: Iterable[tuple[str, tuple[int, ...]]]) -> list[np.ndarray]:
    """Arrays for parameters given by name and shape: matrices and filters by the size of their rows, biases like the matrix
    before them, the weights of norms 1."""
    rng = np.random.default_rng(1)
    arrays, bound = [], 0.0
    for name, shape in parameters:
        if len(shape) > 1:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
        drawn = rng.uniform(-bound, bound, shape).astype(np.float32)
        arrays.append(np.ones_like(drawn) if len(shape) == 1 and name.endswith("weight") else drawn)
    return arrays


def output_gradient(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of the outputs in the mode ``gradient``."""
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


def given_gradients(shapes: Iterable[tuple[int, ...]]) -> list[np.ndarray]:
    """The gradients of the parameters in the mode ``update``."""
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def labels(n: int, classes: int) -> np.ndarray:
    """Classes for ``n`` rows."""
    return np.random.default_rng(4).integers(0, classes, n)


def targets(n: int, length: int, classes: int) -> np.ndarray:
    """Targets (N, length) of the CTC loss; class 0 is the blank."""
    return np.random.default_rng(5).integers(1, classes, (n, length))
