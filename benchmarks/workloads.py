"""What is timed: the same model, weights, data, loss and optimiser on each side.

A model is a table of layers, which ``flux_side.py`` and ``torch_side.py`` read, each for its framework. Both sides draw the
same weights and start from the same arrays, so their losses can be compared before anything is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


@dataclass(frozen=True)
class Setting:
    """How a side runs: the device ("cpu" or "cuda"), and what is asked of it.

    ``capture``: the step is captured and replayed; PyTorch's stays eager, but with ``graph``, where it is a CUDA graph.
    ``tf32``: float32 products on a GPU may round their factors, on both sides.
    """

    device: str = "cpu"
    threads: int = 1
    capture: bool = False
    graph: bool = False
    tf32: bool = False


@dataclass(frozen=True)
class Workload:
    """A model by its layers, the shape of its input, and the length of a timed run.

    The layers, of ``i`` inputs and ``o`` outputs::

        ("dense", i, o, activation)             ("conv", i, o, kernel, pad, activation)
        ("pool",)  ("flatten",)                 ("rnn" | "lstm" | "gru", i, o)      ("embedding", i, o)
        ("conv_norm", i, o, kernel, stride, groups, activation)      a convolution without bias, then BatchNorm
        ("add", branch, shortcut, activation)   activation(branch(x) + shortcut(x)); an empty shortcut is x itself
        ("norm", size)  ("attention", size, heads)                   LayerNorm, self-attention of (N, tokens, size)
        ("mean", axes)                          the mean over axes
    """

    name: str
    what: str
    layers: tuple[tuple[Any, ...], ...]
    input_shape: tuple[int, ...]
    classes: int
    batch: int
    steps: int  # per timed block

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """``(x, y)``: standard normal inputs, class indices; of a language model two sequences (T, N) of indices."""
        rng = np.random.default_rng(0)
        if self.layers[0][0] == "embedding":
            shape = (*self.input_shape, self.batch)
            return rng.integers(0, self.classes, shape), rng.integers(0, self.classes, shape)
        x = rng.standard_normal((self.batch, *self.input_shape)).astype(np.float32)
        return x, rng.integers(0, self.classes, self.batch)


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


def _characters(kind: str) -> Workload:
    layers = (("embedding", 96, 64), (kind, 64, 256), ("dense", 256, 96, None))
    return Workload(kind, f"96 characters, {kind.upper()} 64-256 over 64 steps, batch 32, Adam", layers, (64,), 96, 32, 8)


def basic_stages() -> tuple[tuple[Any, ...], ...]:
    """The layers of ResNet-18 between its stem, of 64 planes, and its classifier, of 512."""
    layers: list[tuple[Any, ...]] = []
    i = 64
    for o in (64, 128, 256, 512):
        for stride in (1 if o == 64 else 2, 1):
            branch = (("conv_norm", i, o, 3, stride, 1, "relu"), ("conv_norm", o, o, 3, 1, 1, None))
            layers.append(("add", branch, (("conv_norm", i, o, 1, stride, 1, None),) if i != o else (), "relu"))
            i = o
    return tuple(layers)


def _resnet18() -> Workload:
    layers = (("conv_norm", 3, 64, 3, 1, 1, "relu"), *basic_stages(), ("mean", (2, 3)), ("dense", 512, 10, None))
    return Workload("resnet18", "ResNet-18 for 32x32 (no pool), batch 32, Adam", layers, (3, 32, 32), 10, 32, 3)


def _invres() -> Workload:
    block = (("conv_norm", 32, 192, 1, 1, 1, "relu6"), ("conv_norm", 192, 192, 3, 1, 192, "relu6"),
             ("conv_norm", 192, 32, 1, 1, 1, None))
    layers = (("conv_norm", 3, 32, 3, 1, 1, "relu6"), ("add", block, (), None), ("add", block, (), None),
              ("mean", (2, 3)), ("dense", 32, 10, None))
    return Workload("invres", "two inverted residuals 32-192-32 on 32x32, batch 32, Adam", layers, (3, 32, 32), 10, 32, 6)


def _vit() -> Workload:
    block = (("add", (("norm", 192), ("attention", 192, 3)), (), None),
             ("add", (("norm", 192), ("dense", 192, 768, "gelu"), ("dense", 768, 192, None)), (), None))
    layers = (*block * 4, ("mean", (1,)), ("dense", 192, 10, None))
    return Workload("vit", "four encoder blocks 192-768, 3 heads, 64 tokens, batch 32, Adam", layers, (64, 192), 10, 32, 4)


WORKLOADS = {
    w.name: w
    for w in (
        Workload("tiny", "2-16-2 tanh, batch 4, Adam", (("dense", 2, 16, "tanh"), ("dense", 16, 2, None)), (2,), 2, 4, 400),
        Workload("mlp", "784-512-512-10 relu, batch 128, Adam",
                 (("dense", 784, 512, "relu"), ("dense", 512, 512, "relu"), ("dense", 512, 10, None)), (784,), 10, 128, 20),
        Workload("lenet", "LeNet on 28x28, batch 128, Adam", (
            ("conv", 1, 6, 5, 2, "relu"), ("pool",), ("conv", 6, 16, 5, 0, "relu"), ("pool",), ("flatten",),
            ("dense", 400, 120, "relu"), ("dense", 120, 84, "relu"), ("dense", 84, 10, None)), (1, 28, 28), 10, 128, 20),
        *map(_characters, GATES),
        _resnet18(),
        _invres(),
        _vit(),
    )
}


class Side:
    """A workload in one framework, ready to run: ``step()`` is one training step and returns the loss.

    ``timed(n)``: the seconds that ``n`` steps take, on a GPU between two device events. ``fresh()``: bytes of memory that
    was ever newly allocated, None where that is not known. ``device``: what the device calls itself.
    """

    step: Callable[[], Any]
    device: str

    def timed(self, n: int) -> float:
        """Seconds of ``n`` steps."""
        raise NotImplementedError

    def fresh(self) -> int | None:
        """Bytes of new memory so far."""
        return None
