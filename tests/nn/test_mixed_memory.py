"""mixed halves the memory: weights, and what a recorded forward pass keeps on the tape; summary tells so beforehand."""

import math

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, Embedding, LayerNorm, MaxPool, MultiHeadAttention, SkipConnection, flatten
from minitorch_flux.autograd import Tensor
from minitorch_flux.backend import use_kernels
from minitorch_flux.losses import logitcrossentropy
from tests.inspection.measured import measured_peak
from tests.oracles import needs_compiler, normal, short_dtypes


def lenet():
    return Chain(Conv((5, 5), 1, 6, flux.relu, pad=2), MaxPool((2, 2)), Conv((5, 5), 6, 16, flux.relu), MaxPool((2, 2)),
                 flatten, Dense(400, 120, flux.relu), Dense(120, 84, flux.relu), Dense(84, 10))


def plus(y, x):
    return y + x


def block():
    """A ViT block after the embedding of its patches."""
    return Chain(Dense(48, 64), SkipConnection(Chain(LayerNorm(64), MultiHeadAttention(64, nheads=4)), plus),
                 SkipConnection(Chain(LayerNorm(64), Dense(64, 256, flux.gelu), Dense(256, 64)), plus))


def residual(i, o, stride):
    conv = lambda i, o, k, s: Conv((k, k), i, o, stride=s, pad=k // 2, bias=False)  # noqa: E731
    branch = Chain(conv(i, o, 3, stride), flux.BatchNorm(o, flux.relu), conv(o, o, 3, 1), flux.BatchNorm(o))
    if i == o:
        return SkipConnection(branch, lambda y, x: flux.relu(y + x))
    return flux.Parallel(lambda y, x: flux.relu(y + x), branch, Chain(conv(i, o, 1, stride), flux.BatchNorm(o)))


def resnet18():
    """In the form for CIFAR: no pool after the first convolution."""
    layers = [Conv((3, 3), 3, 64, pad=1, bias=False), flux.BatchNorm(64, flux.relu)]
    i = 64
    for o in (64, 128, 256, 512):
        layers += [residual(i, o, 1 if o == 64 else 2), residual(o, o, 1)]
        i = o
    return Chain(*layers, lambda x: x.mean(axis=(2, 3)), Dense(512, 10))


def characters(kind):
    return lambda: Chain(Embedding(96, 64), kind(64, 128), Dense(128, 96))


NETWORKS = {
    "lenet": (lenet, (8, 1, 28, 28)),
    "resnet18": (resnet18, (2, 3, 32, 32)),
    "lstm": (characters(flux.LSTM), (20, 4)),
    "gru": (characters(flux.GRU), (20, 4)),
    "vit block": (block, (2, 17, 48)),
}


def inputs(shape):
    x = normal(*shape, dtype=np.float32) if len(shape) > 2 else np.arange(math.prod(shape)).reshape(shape) % 96
    return x, x if len(shape) == 2 else np.arange(shape[0] if len(shape) == 4 else math.prod(shape[:2])).reshape(
        shape[:1] if len(shape) == 4 else shape[:2]) % 10  # fmt: skip


def whole(a):
    """The array whose memory this one is a view of."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def arrays(x):
    if isinstance(x, tuple | list):
        for part in x:
            yield from arrays(part)
    elif isinstance(x, Tensor):
        yield x.data
    elif isinstance(x, np.ndarray):
        yield x


def on_the_tape(loss, model):
    """The bytes of the distinct arrays that the tape keeps, without those of the model, by dtype."""
    own = {id(whole(p.data)) for p in (*model.parameters(), *(b for _, b in model.named_buffers()))}
    kept, seen, stack = {}, set(), [loss.node]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        kept |= {id(whole(a)): a for a in arrays([*(node.inputs or ()), *(node.out or ()), *node.residuals])}
        parents = [p[0] if isinstance(p, tuple) else p for p in node.parents]
        stack += [p for p in parents if p is not None and not isinstance(p, Tensor)]
    bytes_of = {}
    for key, a in kept.items():
        if key not in own:
            bytes_of[a.dtype.name] = bytes_of.get(a.dtype.name, 0) + a.nbytes
    return bytes_of


@pytest.mark.parametrize("dtype", [d.name for d in short_dtypes()])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_and_activations_are_halved(name, dtype):
    make, shape = NETWORKS[name]
    flux.seed(0)
    plain = make()
    m, (x, y) = flux.mixed(plain, dtype), inputs(shape)
    total = {}
    for model in (plain, m):
        flux.reset(model)
        with use_kernels(dtype == "float16"), flux.record():
            loss = logitcrossentropy(model(x), y)
        found = on_the_tape(loss, model)
        total[model is m] = sum(found.values())
    assert total[True] <= 0.55 * total[False], found
    assert found[dtype] > 0.8 * total[True], found

    norms = sum(p.nbytes for layer in m.modules() if layer.stays_float32 for p in (t.data for t in layer.parameters()))
    weights, short = (sum(p.data.nbytes for p in model.parameters()) for model in (plain, m))
    assert short - norms == (weights - norms) / 2
    assert sum(a.nbytes for a in m.state_dict().values()) < 0.52 * sum(a.nbytes for a in plain.state_dict().values())


@needs_compiler
def test_the_summary_of_a_mixed_model_is_right(monkeypatch):
    flux.seed(0)
    m, x = flux.mixed(lenet(), "float16"), normal(32, 1, 28, 28, dtype=np.float32)
    s = flux.summary(m, x)
    with flux.record():
        loss = m(x).mean()
    assert s.parameter_bytes == sum(p.data.nbytes for p in m.parameters())
    assert s.gradient_bytes == s.parameter_bytes
    assert s.activation_bytes == pytest.approx(sum(on_the_tape(loss, m).values()), rel=0.02)
    predicted = s.peak_bytes - s.parameter_bytes - s.input_bytes
    assert predicted == pytest.approx(measured_peak(monkeypatch, m, x), rel=0.1)
