"""LeNet against PyTorch's build of the same network with the same weights."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.models import LeNet


def test_parameters_shapes_and_print():
    model = LeNet()
    assert sum(p.size for p in model.parameters()) == 61_706
    assert model(np.zeros((3, 1, 28, 28), np.float32)).shape == (3, 10)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        "0.weight": (6, 1, 5, 5), "0.bias": (6,), "2.weight": (16, 6, 5, 5), "2.bias": (16,),
        "5.weight": (120, 400), "5.bias": (120,), "6.weight": (84, 120), "6.bias": (84,),
        "7.weight": (10, 84), "7.bias": (10,),
    }  # fmt: skip
    assert "Conv((5, 5), 1, 6, relu, pad=2)" in repr(model)
    assert "61_706 parameters" in repr(model)


@pytest.mark.parametrize(("imsize", "channels", "classes"), [((12, 12), 1, 2), ((32, 32), 3, 10), ((13, 30), 2, 5)])
def test_other_images(imsize, channels, classes):
    model = LeNet(imsize, channels, classes)
    assert model(np.zeros((2, channels, *imsize), np.float32)).shape == (2, classes)


@pytest.mark.parametrize("imsize", [(11, 28), (28, 11), (8, 8), (0, 0)])
def test_images_that_are_too_small(imsize):
    h, w = imsize
    with pytest.raises(ValueError, match=rf"LeNet: images of {h} x {w} \(height x width\) are too small, expected at least 12"):
        LeNet(imsize)


def test_the_generator_decides():
    a, b, c = (LeNet(rng=flux.Generator(n)).state_dict() for n in (0, 0, 1))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    assert not np.array_equal(a["0.weight"], c["0.weight"])


def test_a_step_lowers_the_loss():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 1, 28, 28)).astype(np.float32), np.arange(16) % 10
    model = LeNet(rng=flux.Generator(0))
    f = lambda m: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    opt = flux.setup(flux.Descent(0.05), model)
    before, grads = flux.withgradient(f, model)
    flux.update(opt, model, grads)
    assert float(f(model)) < float(before)


@pytest.mark.parametrize("kernels", [True, False])
def test_against_torch(kernels):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    ours = LeNet(rng=flux.Generator(0))
    named = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in named.items()})
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 9)
    xt = torch.from_numpy(x).requires_grad_()
    loss = nn.functional.cross_entropy(theirs(xt), torch.from_numpy(y))
    loss.backward()
    with flux.use_kernels(kernels):
        value, (grads, dx) = flux.withgradient(lambda m, x: flux.losses.logitcrossentropy(m(x), y), ours, x)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(dx, xt.grad.numpy(), rtol=1e-3, atol=1e-7)
    layers = [grads[i] for i in (0, 2, 5, 6, 7)]
    for layer, (name, p) in zip([g for g in layers for _ in range(2)], theirs.named_parameters(), strict=True):
        g = layer.weight if name.endswith("weight") else layer.bias
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-3, atol=1e-6, err_msg=name)
