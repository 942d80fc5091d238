"""A small model, data and loss that the tests of training share."""

import numpy as np

from minitorch_flux import ops  # noqa: F401
from minitorch_flux.autograd import is_recording
from minitorch_flux.backend import Generator, default_generator
from minitorch_flux.data import DataLoader
from minitorch_flux.losses import logitcrossentropy
from minitorch_flux.nn.chain import Chain
from minitorch_flux.nn.dense import Dense
from minitorch_flux.nn.module import Module
from minitorch_flux.nn.state_dicts import state_dict
from minitorch_flux.ops.nonlinearities import tanh
from minitorch_flux.training import accuracy

N, BATCH = 22, 5  # a smaller last batch
X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
Y = (X[:, 0] > 0) + 2 * (X[:, 1] > 0)


class Noise(Module):
    """Adds random numbers in train mode, from its own generator, NumPy's, or the default one."""

    def __init__(self, rng=None):
        self.rng = rng

    def __call__(self, x):
        if not (is_recording() if self.active is None else self.active):
            return x
        rng = self.rng if self.rng is not None else default_generator()
        host = rng if isinstance(rng, np.random.Generator) else rng.host()
        return x + np.float32(0.1) * host.standard_normal(x.shape, np.float32)


def make_model(seed=0, rng=None):
    draws = Generator(seed)
    return Chain(Dense(3, 4, tanh, rng=draws), Noise(rng), Dense(4, 4, rng=draws))


def make_loader(**options):
    return DataLoader((X, Y), BATCH, **{"shuffle": True, **options})


def loss(model, x, y):
    y_hat = model(x)
    return logitcrossentropy(y_hat, y), {"accuracy": accuracy(y_hat, y)}


def weights(model):
    return b"".join(a.tobytes() for a in state_dict(model).values())
