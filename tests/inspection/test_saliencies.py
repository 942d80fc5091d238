"""Saliency against finite differences, SmoothGrad against its mean, Grad-CAM against PyTorch's autograd."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, Conv, Dense, MaxPool, models, relu

RNG = np.random.default_rng(1)


def network():
    flux.seed(3)
    model = Chain(Conv((3, 3), 2, 4, relu, pad=1), BatchNorm(4), MaxPool((2, 2)), Conv((3, 3), 4, 6, relu), flux.flatten,
                  Dense(24, 3))
    return flux.f64(model)


X = RNG.standard_normal((2, 2, 8, 8))
Y = np.random.default_rng(0).standard_normal((2, 2, 8, 8))


def differences(f, x, step=1e-6):
    out = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[i] += step
        low[i] -= step
        out[i] = (f(high) - f(low)) / (2 * step)
    return out


@pytest.mark.parametrize("target", [None, 1, (2, 0)])
def test_saliency_is_the_slope_of_the_score(target):
    model, x = flux.f64(Chain(Conv((3, 3), 2, 3, flux.tanh), flux.flatten, Dense(12, 3))), X[:, :, :4, :4].copy()
    scores = model(x).numpy()
    chosen = scores.argmax(1) if target is None else np.broadcast_to(target, 2)
    expected = differences(lambda z: model(z).numpy()[np.arange(2), chosen].sum(), x)
    np.testing.assert_allclose(flux.saliency(model, x, target), expected, rtol=1e-6, atol=1e-8)


def test_a_function_as_the_target():
    dense = flux.f64(Dense(3, 2))
    x = RNG.standard_normal((4, 3))
    s = flux.saliency(dense, x, target=lambda y: (y * y).sum())
    np.testing.assert_allclose(s, 2 * dense(x).numpy() @ dense.weight.data, rtol=1e-12)


def test_smoothgrad_is_the_mean_of_saliencies():
    model = network()
    s = flux.saliency(model, X, samples=4, noise=0.2, rng=flux.Generator(5))
    rng, spread = flux.Generator(5), 0.2 * (X.max() - X.min())
    chosen = model(X).numpy().argmax(1)  # of the input without noise
    each = [flux.saliency(model, X + spread * rng.normal(X.shape, dtype=np.float64), chosen) for _ in range(4)]
    np.testing.assert_allclose(s, np.mean(each, 0), rtol=1e-10)
    np.testing.assert_array_equal(s, flux.saliency(model, X, samples=4, noise=0.2, rng=flux.Generator(5)))
    assert flux.saliency(model, X, samples=1, noise=9.0).tolist() == flux.saliency(model, X).tolist()


def in_torch(model, torch):
    """The layers of ``network`` up to the last maps, and what follows, as PyTorch's functions of the same weights."""
    sd = {k: torch.tensor(v) for k, v in model.state_dict().items()}
    f = torch.nn.functional

    def maps(x):
        y = f.relu(f.conv2d(x, sd["0.weight"], sd["0.bias"], padding=1))
        y = f.batch_norm(y, sd["1.running_mean"], sd["1.running_var"], sd["1.weight"], sd["1.bias"])
        return f.relu(f.conv2d(f.max_pool2d(y, 2), sd["3.weight"], sd["3.bias"]))

    return maps, lambda a: f.linear(a.flatten(1), sd["5.weight"], sd["5.bias"])


@pytest.mark.parametrize("target", [None, 2])
def test_grad_cam_is_that_of_torch(target):
    torch = pytest.importorskip("torch")
    model = network()
    model[1].running_mean.data[:] = [0.1, -0.2, 0.3, 0.0]
    maps, rest = in_torch(model, torch)
    a = maps(torch.tensor(Y)).detach().requires_grad_()
    scores = rest(a)
    chosen = scores.argmax(1) if target is None else torch.tensor([target, target])
    scores[torch.arange(2), chosen].sum().backward()
    expected = torch.relu((a.grad.mean((2, 3), keepdim=True) * a).sum(1)).detach().numpy()
    found = flux.grad_cam(model, Y, target)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert target is not None or found.max() > 0
    np.testing.assert_array_equal(found, flux.grad_cam(model, Y, target, layer="3"))
    assert flux.grad_cam(model, Y, target, layer=model[0]).shape == (2, 8, 8)


def test_grad_cam_of_a_resnet_is_that_of_torch():
    torch = pytest.importorskip("torch")
    model = models.resnet18(nclasses=5)
    x = RNG.standard_normal((1, 3, 64, 64)).astype("float32")
    layers = [path for path, y in flux.feature_maps(model, x).items() if y.shape == (1, 512, 2, 2)]
    a = torch.tensor(flux.feature_maps(model, x, layer=layers[-1]), requires_grad=True)
    head = {k.rpartition(".")[2]: torch.tensor(v) for k, v in model.state_dict().items() if v.shape in ((5, 512), (5,))}
    torch.nn.functional.linear(a.mean((2, 3)), head["weight"], head["bias"])[0, 4].backward()
    expected = torch.relu((a.grad.mean((2, 3), keepdim=True) * a).sum(1)).detach().numpy()
    np.testing.assert_allclose(flux.grad_cam(model, x, 4), expected, rtol=1e-4, atol=1e-6)


def test_the_model_is_left_as_it_was():
    model = flux.trainmode(Chain(Conv((3, 3), 2, 3), BatchNorm(3), flux.GlobalMeanPool(), flux.flatten, Dense(3, 2)))
    before = model.state_dict()
    x = X.astype("float32")
    with flux.record():
        flux.saliency(model, x)
        flux.grad_cam(model, x)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert all(p.grad is None for p in model.parameters())
    assert model[1].active
    assert type(model[0]) is Conv
    assert flux.saliency(model, flux.Tensor(x)).dtype == np.float32


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: flux.saliency(network(), np.ones((1, 2, 8, 8), int)), TypeError, "of a float dtype, the input has int64"),
    (lambda: flux.saliency(network(), X, samples=0), ValueError, "saliency: samples is at least 1, got 0"),
    (lambda: flux.saliency(network(), X, 3), ValueError, "saliency: the target is a class from 0 to 2.*got 3"),
    (lambda: flux.saliency(network(), X, 0.5), ValueError, r"saliency: the target is a class from 0 to 2.*got 0\.5"),
    (lambda: flux.saliency(network()[:2], X), ValueError, r"output has shape \(2, 4, 8, 8\), expected scores \(N, classes\)"),
    (lambda: flux.saliency(network(), X, lambda y: y), ValueError, r"a function of the output that gives one.*\(2, 3\)"),
    (lambda: flux.grad_cam(network(), X, layer="5"), ValueError, r"layer '5' gives no maps .* its output has shape \(2, 3\)"),
    (lambda: flux.grad_cam(flux.f64(Chain(Dense(3, 2))), np.ones((1, 3))), ValueError, "no layer of this Chain gives maps"),
    (lambda: flux.grad_cam(network(), X, lambda y: flux.tensor(1.0, requires_grad=True) * 2), ValueError,
     "the score does not depend on the layer '3'"),
])  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
