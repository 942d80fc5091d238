"""What the tests of the zoo share: counting without drawing, PyTorch's build beside ours, a training step."""

import copy
import pickle
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import models

CLASSES = 5


def images(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def check_published(build, wanted, features, imsize):
    """The count of parameters, and the shapes of features and scores, of a network of which nothing is drawn."""
    with flux.shapes_only():
        m = build()
    assert models.num_parameters(m) == wanted
    assert (m.imsize, m.inchannels, m.nclasses) == (imsize, 3, 1000)
    assert flux.outputsize(models.backbone(m), (2, 3, *imsize)) == (2, *features)
    assert flux.outputsize(models.classifier(m), (2, *features)) == (2, 1000)
    assert flux.outputsize(m, (2, 3, *imsize)) == (2, 1000)
    assert list(m.names) == ["backbone", "classifier"]


def fill(theirs, seed=0):
    """Weights for a plain PyTorch network that keep its signal at one size, and statistics that are not the default."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for key, value in theirs.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = rng.standard_normal(tuple(value.shape))
            if value.ndim > 1:
                noise *= np.sqrt(2 / value[0].numel())
            elif key.endswith("running_var"):
                noise = 1 + 0.5 * np.tanh(noise)
            else:
                noise = 0.1 * noise + (key.endswith("weight") if value.ndim == 1 else 0)
            value.copy_(torch.from_numpy(noise))


@contextmanager
def one_thread(torch):
    """PyTorch on one thread: two wait for each other at every small layer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def error_beside_torch(ours, theirs, x, train=False):
    """The largest error of outputs, gradients by input and parameters and statistics, each by the largest element of its
    array. In float64, ours with the weights of theirs; both have their layers in the same order.
    """
    torch = pytest.importorskip("torch")
    ours, theirs = flux.f64(ours), theirs.double()
    fill(theirs)
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}  # views of its arrays
    names = dict(zip(ours.state_dict(), state, strict=True))
    report = flux.load_torch(ours, theirs)  # by the order of the layers, as trained weights are loaded
    assert (len(report.used), report.missing, report.unused) == (len(state), [], [])
    theirs.train(train)
    flux.testmode(ours, not train)
    x = np.asarray(x, np.float64)
    t, x = torch.from_numpy(x).requires_grad_(), flux.tensor(x, requires_grad=True)
    with one_thread(torch):
        wanted = theirs(t)
        dy = np.random.default_rng(1).standard_normal(tuple(wanted.shape))
        (wanted * torch.from_numpy(dy)).sum().backward()
    with flux.record():
        y = ours(x)
        (y * dy).sum().backward()
    assert y.shape == tuple(wanted.shape)
    gradients = dict(theirs.named_parameters())
    pairs = [(y.numpy(), wanted.detach().numpy()), (x.grad, t.grad.numpy())]
    pairs += [(p.grad, gradients[names[k]].grad.numpy()) for k, p in ours.named_parameters()]
    pairs += [(b.numpy(), state[names[k]].numpy()) for k, b in ours.named_buffers()]
    assert np.abs(pairs[1][1]).max() > 1e-6  # the input is seen
    return max(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6) for a, b in pairs)


def count(theirs):
    """The number of parameters of a PyTorch network; its arrays may be on the "meta" device."""
    return sum(p.numel() for p in theirs.parameters())


def on_meta(build, *arguments):
    """A PyTorch network of which nothing is drawn."""
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        return build(*arguments)


def check_network(build, x, names=None):
    """One step of training lowers the loss; modes, state dict, parts, printing and pickles.

    ``build`` takes ``rng``, ``nclasses`` and ``dropout_prob``. ``names``: what its print says beyond the public names.
    """
    m, y = build(rng=flux.Generator(0), nclasses=CLASSES, dropout_prob=0.5), np.arange(len(x)) % CLASSES
    assert m(x).shape == flux.outputsize(m, x.shape) == (len(x), CLASSES)
    np.testing.assert_array_equal(models.classifier(m)(models.backbone(m)(x)).numpy(), m(x).numpy())
    np.testing.assert_array_equal(m(x).numpy(), flux.testmode(m)(x).numpy())
    flux.trainmode(m)
    assert not np.array_equal(m(x).numpy(), m(x).numpy())  # Dropout

    plain = build(rng=flux.Generator(0), nclasses=CLASSES, dropout_prob=None)
    flux.trainmode(plain)
    plain.load_state_dict(m.state_dict())  # the keys do not depend on Dropout
    with flux.record():
        before = flux.losses.logitcrossentropy(plain(x), y)
    before.backward()
    slope = sum(np.square(p.grad.astype(np.float64)).sum() for p in plain.parameters())
    flux.update(flux.setup(flux.Descent(0.01 * before.item() / slope), plain), plain)  # a step to a loss 1 % lower
    assert flux.losses.logitcrossentropy(plain(x), y).item() < before.item()

    other = build(rng=flux.Generator(1), nclasses=CLASSES, dropout_prob=None)
    key = next(iter(other.state_dict()))
    assert not np.array_equal(other.state_dict()[key], plain.state_dict()[key])
    other.load_state_dict(plain.state_dict())
    flux.testmode(plain)
    np.testing.assert_array_equal(other(x).numpy(), plain(x).numpy())

    assert f"{models.num_parameters(m):_} parameters" in repr(m)
    scope = {**vars(flux), **vars(models.layers), **vars(models), "partial": partial, **(names or {})}
    with flux.shapes_only():
        m = build(rng=None, nclasses=CLASSES, dropout_prob=0.5)
        printed = eval(repr(m), scope)
    for again in (printed, copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert [(k, v.shape) for k, v in again.state_dict().items()] == [(k, v.shape) for k, v in m.state_dict().items()]
        assert str(again).replace("  (all zero)", "") == repr(m).replace("  (all zero)", "")
    with pytest.raises(ValueError, match=f"channels on axis 1, expected {m.inchannels}"):
        flux.outputsize(m, (len(x), 2 * x.shape[1], *x.shape[2:]))
