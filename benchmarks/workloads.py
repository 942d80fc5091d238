"""What is timed: the same model, weights, data, loss and optimiser on each side.

A side is a function that builds the workload in one framework and returns ``step()``, which does one training step and
returns the loss as a float-convertible value. Both sides start from the same arrays, so their losses can be compared before
anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A model by its layers, the shape of its input, and the length of a timed run."""

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

    def weights(self) -> list[np.ndarray]:
        """The parameters in order, weights and biases of each layer that has them."""
        rng = np.random.default_rng(1)
        arrays = []
        for kind, *sizes in self.layers:
            i, o = sizes[0] if sizes else 0, sizes[1] if len(sizes) > 1 else 0
            weights: list[tuple[int, ...]] = []
            if kind == "embedding":
                weights = [(i, o)]
            elif kind in GATES:
                weights = [(GATES[kind] * o, i), (GATES[kind] * o, o)]
            elif kind == "dense":
                weights = [(o, i)]
            elif kind == "conv":
                weights = [(o, i, sizes[2], sizes[2])]
            shapes = weights if kind == "embedding" else [*weights, *(shape[:1] for shape in weights)]
            for shape in shapes:
                bound = 1 / np.sqrt(np.prod(weights[0][1:]))
                arrays.append(rng.uniform(-bound, bound, shape).astype(np.float32))
        return arrays


GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def _characters(kind: str) -> Workload:
    layers = (("embedding", 96, 64), (kind, 64, 256), ("dense", 256, 96, None))
    return Workload(kind, f"96 characters, {kind.upper()} 64-256 over 64 steps, batch 32, Adam", layers, (64,), 96, 32, 8)


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
    )
}


def flux_side(w: Workload) -> Callable[[], Any]:
    """The workload in minitorch_flux."""
    import minitorch_flux as flux

    make: dict[str, Callable[..., Any]] = {
        "dense": lambda i, o, act: flux.Dense(i, o, getattr(flux, act or "identity")),
        "conv": lambda i, o, k, pad, act: flux.Conv((k, k), i, o, getattr(flux, act), pad=pad),
        "pool": lambda: flux.MaxPool((2, 2)),
        "flatten": lambda: flux.flatten,
        "embedding": flux.Embedding,
        "rnn": lambda i, o: flux.RNN(i, o, hidden_bias=True),
        "lstm": lambda i, o: flux.LSTM(i, o, hidden_bias=True),
        "gru": lambda i, o: flux.GRU(i, o, hidden_bias=True),
    }
    model = flux.Chain(*(make[kind](*sizes) for kind, *sizes in w.layers))
    model.load_state_dict(dict(zip(model.state_dict(), w.weights(), strict=True)))
    opt = flux.setup(flux.Adam(1e-3), model)
    x, y = w.data()

    def loss(m: Any) -> Any:
        return flux.losses.logitcrossentropy(m(x), y)

    def step() -> Any:
        value, grads = flux.withgradient(loss, model)
        flux.update(opt, model, grads)
        return value

    return step


def torch_side(w: Workload) -> Callable[[], Any]:
    """The workload in PyTorch, eager."""
    import torch
    from torch import nn

    class Outputs(nn.Module):  # of a recurrent layer, without its state
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Any) -> Any:
            return self.layer(x)[0]

    activations = {"tanh": nn.Tanh, "relu": nn.ReLU}
    layers: list[Any] = []
    for kind, *sizes in w.layers:
        if kind == "dense":
            layers.append(nn.Linear(sizes[0], sizes[1]))
        elif kind == "conv":
            layers.append(nn.Conv2d(sizes[0], sizes[1], sizes[2], padding=sizes[3]))
        elif kind == "embedding":
            layers.append(nn.Embedding(*sizes))
        elif kind in GATES:
            layers.append(Outputs(getattr(nn, kind.upper())(*sizes)))
        else:
            layers.append(nn.MaxPool2d(2) if kind == "pool" else nn.Flatten())
        if kind in ("dense", "conv") and sizes[-1]:
            layers.append(activations[sizes[-1]]())
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for p, a in zip(model.parameters(), w.weights(), strict=True):
            p.copy_(torch.from_numpy(a))
    opt = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = map(torch.from_numpy, w.data())
    flat = y.flatten()

    def step() -> Any:
        opt.zero_grad()
        logits = model(x)
        if y.ndim > 1:
            logits = logits.flatten(0, -2)
        loss = nn.functional.cross_entropy(logits, flat)
        loss.backward()
        opt.step()
        return loss.detach()

    return step


SIDES = {"flux": flux_side, "torch": torch_side}
