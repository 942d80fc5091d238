"""Every layer and every loss inside a captured step."""

import numpy as np
import pytest
from nn.test_every_layer import CASES

import minitorch_flux as flux
from minitorch_flux import Chain

from .sides import alongside

RNG = np.random.default_rng(0)


# -- layers ------------------------------------------------------------------------------------------------------------


def shaken(x, i):
    """Other numbers, with integers among the same ones."""
    return np.roll(x, i) if x.dtype.kind in "ib" else x * np.float32(1 + 0.1 * i)


def outputs(y):
    return [t for part in y for t in outputs(part)] if isinstance(y, tuple | list) else [y]


def mapped(x, f):
    return tuple(mapped(v, f) for v in x) if isinstance(x, tuple) else f(x)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case):
    """A row of the table of all layers with every keyword."""

    def make():
        layer, scale = case.layer(), flux.Param(np.ones((), "f4"))
        opt = flux.setup(flux.Adam(0.01), [layer, scale])

        def step(*inputs):
            def loss(parts):
                xs = mapped(inputs, lambda x: x * parts[1] if x.dtype.kind == "f" else x)
                return sum([((t + 0.3) ** 2).mean() for t in outputs(parts[0](*xs, **case.call))])

            value, grads = flux.withgradient(loss, [layer, scale])
            flux.update(opt, [layer, scale], grads)
            return value

        return step, layer, opt

    alongside(make, [mapped(case.inputs, lambda x: shaken(x, i)) for i in range(5)])  # noqa: B023


FUNCTIONS = {
    "activations": Chain(flux.leakyrelu, flux.elu, flux.mish, flux.swish, flux.softplus, flux.hardtanh, flux.selu, flux.celu),
    "drawn slopes": flux.rrelu,
    "softmax": flux.softmax,
    "logsoftmax": flux.logsoftmax,
    "indexing": lambda x: x[[0, 2, 0], 1:] * x[1, :-1],
    "where": lambda x: flux.where(x > 0, x, x * 0.1),
    "sorting": lambda x: flux.sort(x, axis=-1) * flux.cumsum(x, axis=1),
    "powers": lambda x: (x**2 + 1) ** 0.5 + x**3 + abs(x) ** 1.7 + 2.0**x,
    "reductions": lambda x: x.max(axis=0) + x.min(axis=0) + x.std(axis=0) + x.mean() + x.var(axis=0),
    "joining": lambda x: flux.concatenate([x, x.T @ x, flux.stack([x[0], x[1]])]),
    "einsum": lambda x: flux.einsum("ij,kj->ik", x, x),
    "padding": lambda x: flux.pad(x, 1, mode="reflect"),
}


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "references"])
@pytest.mark.parametrize("shape", [(5, 4), (40, 520)], ids=["small", "large"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name, shape, kernels):
    def step(x):
        return flux.withgradient(lambda x: (FUNCTIONS[name](x) ** 2).sum(), x)

    with flux.use_kernels(kernels):
        alongside(lambda: (step,), [(RNG.standard_normal(shape).astype("f4"),) for _ in range(4)])


# -- losses ------------------------------------------------------------------------------------------------------------

PREDICTED = {
    "mse": ("real", "real"), "mae": ("real", "real"), "huber_loss": ("real", "real"), "msle": ("positive", "positive"),
    "crossentropy": ("share", "share"), "logitcrossentropy": ("real", "share"), "binarycrossentropy": ("unit", "unit"),
    "logitbinarycrossentropy": ("real", "unit"), "kldivergence": ("share", "share"), "poisson_loss": ("positive", "positive"),
    "hinge_loss": ("real", "sign"), "squared_hinge_loss": ("real", "sign"), "dice_coeff_loss": ("unit", "unit"),
    "tversky_loss": ("unit", "unit"), "binary_focal_loss": ("unit", "unit"), "focal_loss": ("share", "share"),
}  # fmt: skip


def numbers(kind):
    x = RNG.random((5, 4)).astype("f4")
    return {"real": x - 0.5, "positive": x + 0.1, "unit": x * 0.8 + 0.1, "sign": np.sign(x - 0.5),
            "share": x / x.sum(axis=1, keepdims=True)}[kind]


@pytest.mark.parametrize("name", PREDICTED)
def test_loss(name):
    loss = getattr(flux.losses, name)
    calls = [tuple(numbers(kind) for kind in PREDICTED[name]) for _ in range(5)]
    alongside(lambda: (lambda y_hat, y: flux.withgradient(lambda p: loss(p, y), y_hat),), calls)


@pytest.mark.parametrize("weight", [None, np.array([1.0, 2, 0.5, 1], "f4")])
@pytest.mark.parametrize("agg", ["mean", "sum", "none"])
def test_classes(weight, agg):
    def step(x, y):
        loss = flux.losses.logitcrossentropy
        return flux.withgradient(lambda x: loss(x, y, weight=weight, agg=agg, label_smoothing=0.1).sum(), x)

    alongside(lambda: (step,), [(RNG.standard_normal((5, 4)).astype("f4"), RNG.integers(0, 4, 5)) for _ in range(5)])
