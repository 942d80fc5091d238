"""What the tests of this folder share."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import testmode


def randn(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def trains(model, *inputs):
    """Every parameter has a gradient that is not zero throughout, in train mode; returns the gradients by path."""
    flux.trainmode(model)
    with flux.record():
        y = model(*inputs)
        loss = (y * (y + np.linspace(0, 1, y.size, dtype=y.dtype).reshape(y.shape))).sum()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert grads
    for name, g in grads.items():
        assert g is not None, name
        assert np.isfinite(g).all(), name
        assert np.abs(g).max() > 0, name
    flux.zero_grad(model)
    testmode(model, "auto")
    return grads


def randomise(model, scale=0.5, seed=0):
    """Random numbers for every parameter and buffer of ``model``, positive ones for variances; returns it."""
    rng = np.random.default_rng(seed)
    state = {}
    for k, v in model.state_dict().items():
        a = rng.standard_normal(v.shape) * scale
        state[k] = (np.abs(a) + 0.5 if k.endswith("var") else a).astype(v.dtype)
    model.load_state_dict(state)
    return model


def same_as_torch(ours, theirs, *inputs, names=None, train=False, tolerance=1e-9):
    """Compare outputs, gradients and running statistics of two models in float64, ours with the weights of theirs.

    ``names``: their name of each of our arrays where they differ; by default both have the same arrays in the same order.
    Gradients that arrive are random ones.
    """
    torch = pytest.importorskip("torch")
    ours, theirs = flux.f64(ours), theirs.double()
    mine = list(ours.state_dict())
    names = names or dict(zip(mine, [k for k in theirs.state_dict() if not k.endswith("num_batches_tracked")], strict=True))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for k, v in theirs.state_dict().items():
            if v.is_floating_point():
                a = rng.standard_normal(tuple(v.shape)) * 0.5
                v.copy_(torch.from_numpy(np.abs(a) + 0.5 if k.endswith("var") else a))
    ours.load_state_dict({k: theirs.state_dict()[names[k]].numpy() for k in mine})
    theirs.train(train)
    testmode(ours, not train)
    xs = [np.asarray(x, np.float64) for x in inputs]
    ts = [torch.from_numpy(x).requires_grad_() for x in xs]
    wanted = theirs(*ts)
    dy = rng.standard_normal(tuple(wanted.shape))
    (wanted * torch.from_numpy(dy)).sum().backward()
    tensors = [flux.tensor(x, requires_grad=True) for x in xs]
    with flux.record():
        y = ours(*tensors)
        (y * dy).sum().backward()
    assert y.shape == tuple(wanted.shape)
    near = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(y.numpy(), wanted.detach().numpy(), **near)
    for x, t in zip(tensors, ts, strict=True):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), **near)
    their_grads = dict(theirs.named_parameters())
    for k, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad, their_grads[names[k]].grad.numpy(), err_msg=k, **near)
    for k, b in ours.named_buffers():
        np.testing.assert_allclose(b.numpy(), theirs.state_dict()[names[k]].numpy(), err_msg=k, **near)
