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
        """``(x, y)``: standard normal inputs, class indices."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.input_shape)).astype(np.float32)
        return x, rng.integers(0, self.classes, self.batch)

    def weights(self) -> list[np.ndarray]:
        """The parameters in order, weight and bias of each layer that has them."""
        rng = np.random.default_rng(1)
        arrays = []
        for kind, *sizes in self.layers:
            if kind == "dense":
                shape: tuple[int, ...] = (sizes[1], sizes[0])
            elif kind == "conv":
                shape = (sizes[1], sizes[0], sizes[2], sizes[2])
            else:
                continue
            bound = 1 / np.sqrt(np.prod(shape[1:]))
            arrays += [rng.uniform(-bound, bound, shape).astype(np.float32),
                       rng.uniform(-bound, bound, shape[0]).astype(np.float32)]
        return arrays


WORKLOADS = {
    w.name: w
    for w in (
        Workload("tiny", "2-16-2 tanh, batch 4, Adam", (("dense", 2, 16, "tanh"), ("dense", 16, 2, None)), (2,), 2, 4, 400),
        Workload("mlp", "784-512-512-10 relu, batch 128, Adam",
                 (("dense", 784, 512, "relu"), ("dense", 512, 512, "relu"), ("dense", 512, 10, None)), (784,), 10, 128, 20),
        Workload("lenet", "LeNet on 28x28, batch 128, Adam", (
            ("conv", 1, 6, 5, 2, "relu"), ("pool",), ("conv", 6, 16, 5, 0, "relu"), ("pool",), ("flatten",),
            ("dense", 400, 120, "relu"), ("dense", 120, 84, "relu"), ("dense", 84, 10, None)), (1, 28, 28), 10, 128, 20),
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

    activations = {"tanh": nn.Tanh, "relu": nn.ReLU}
    layers: list[Any] = []
    for kind, *sizes in w.layers:
        if kind == "dense":
            layers.append(nn.Linear(sizes[0], sizes[1]))
        elif kind == "conv":
            layers.append(nn.Conv2d(sizes[0], sizes[1], sizes[2], padding=sizes[3]))
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

    def step() -> Any:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss.detach()

    return step


SIDES = {"flux": flux_side, "torch": torch_side}
