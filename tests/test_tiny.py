"""The public idea on one page: read this first. Every line of it runs."""

import importlib
import importlib.util

import numpy as np
import pytest

import minitorch_flux as flux

GPU = importlib.util.find_spec("cupy") is not None and importlib.import_module("cupy").is_available()


@pytest.fixture(autouse=True)
def seed():
    flux.seed(0)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((32, 1, 28, 28)).astype("float32")


@pytest.fixture
def y():
    return np.arange(32) % 10  # class indices; one-hot rows work too


@pytest.fixture
def model():
    from minitorch_flux import Chain, Conv, Dense, MaxPool, flatten, relu

    return Chain(Conv((3, 3), 1, 8, relu, pad=1), MaxPool((2, 2)), flatten, Dense(8 * 14 * 14, 10))


def test_a_model_is_a_function(model, x):
    y_hat = model(x)  # a Tensor; nothing recorded, test mode
    assert isinstance(y_hat, flux.Tensor)
    assert y_hat.shape == (32, 10)
    assert y_hat.dtype == np.float32
    assert y_hat.node is None
    assert type(model[0]).__name__ == "Conv"
    assert model[:-1](x).shape == (32, 8 * 14 * 14)  # the output before the last layer
    assert type(model[-1]).__name__ == "Dense"


def test_one_step_of_training(model, x, y):
    loss, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), model)
    opt = flux.setup(flux.Adam(1e-3), model)
    flux.update(opt, model, grads)  # in place; grads has the model's structure
    assert grads[0].weight.shape == model[0].weight.shape
    assert flux.losses.logitcrossentropy(model(x), y).item() < loss


def test_the_tape_for_those_who_like_it(model, x, y):
    opt = flux.setup(flux.Adam(1e-3), model)
    with flux.record():
        loss = flux.losses.logitcrossentropy(model(x), y)
    loss.backward()
    assert model[0].weight.grad.shape == model[0].weight.shape  # an array like the weight
    flux.update(opt, model)  # uses and clears .grad
    assert model[0].weight.grad is None


def test_gradients_of_plain_functions():
    dw, db = flux.gradient(lambda w, b: ((w * 3 + b) ** 2).sum(), np.ones(4), np.zeros(4))
    assert dw.tolist() == [18] * 4
    assert db.tolist() == [6] * 4


def test_training(model, x, y):
    opt = flux.setup(flux.Adam(1e-3), model)
    loss = lambda m, x, y: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    before = loss(model, x, y).item()
    flux.train(loss, model, flux.DataLoader((x, y), batchsize=8, shuffle=True), opt, epochs=2)
    assert loss(model, x, y).item() < before


def test_modes_and_devices(model, x):
    flux.testmode(model)
    flux.testmode(model, False)
    flux.testmode(model, "auto")
    flux.trainmode(model)
    flux.cpu(model)
    if GPU:
        assert flux.gpu(model)[0].weight.device == "cuda:0"
        model.to("cuda:0")
        model.to("cpu")
    else:
        with pytest.raises(flux.DeviceError, match="pip install|no usable CUDA device"):
            flux.gpu(model)
    with flux.no_grad():
        a = model(x)
    with flux.use_kernels(False):
        b = model(x)  # the NumPy reference
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_saving(model, tmp_path):
    sd = model.state_dict()  # {"0.weight": ndarray, "0.bias": ...}
    assert list(sd) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    model.load_state_dict(sd)  # strict; lists what is missing, unexpected or misshapen
    flux.save(tmp_path / "lenet.safetensors", model)
    flux.load(tmp_path / "lenet.safetensors", model)
    np.testing.assert_array_equal(model.state_dict()["3.weight"], sd["3.weight"])


def test_recurrence():
    from minitorch_flux import LSTM, Recur

    rnn = Recur(lambda h, x: (h + x, x), 0)
    assert (rnn(2), rnn(3), rnn.state) == (2, 3, 5)
    flux.reset(rnn)
    seq = LSTM(4, 8)(np.zeros((5, 32, 4), "float32"))
    assert seq.shape == (5, 32, 8)


def test_layers_of_metalhead():
    from minitorch_flux import Chain, Dense, Layers

    m = Chain(Dense(3, 32), *Layers.conv_norm((3, 3), 32, 64), Dense(64, 10))  # conv_norm returns a list
    assert len(m) == 4


def test_branches():
    from minitorch_flux import Dense, Parallel, SkipConnection

    x = np.ones((2, 4), "float32")
    assert SkipConnection(Dense(4, 4), lambda fx, x: fx + x)(x).shape == (2, 4)
    assert Parallel(lambda a, b: a + b, Dense(4, 2), Dense(4, 2))(x).shape == (2, 2)


def test_tokens():
    from minitorch_flux import Embedding, MultiHeadAttention

    assert Embedding(96, 64)(np.zeros((5, 32), int)).shape == (5, 32, 64)
    tokens = np.zeros((2, 64, 192), "float32")
    assert MultiHeadAttention(192, nheads=3)(tokens).shape == (2, 64, 192)  # self-attention, the output alone


def test_normalisation_and_dropout(x):
    from minitorch_flux import BatchNorm, Chain, Dropout, GlobalMeanPool

    assert Chain(BatchNorm(1), Dropout(0.5), GlobalMeanPool())(x).shape == (32, 1, 1, 1)


def test_models():
    from minitorch_flux import models

    resnet = models.ResNet(18, nclasses=10)
    models.backbone(resnet)
    assert models.num_parameters(resnet) == 11_181_642


def test_summary(model):
    assert "Conv" in str(flux.summary(model, (1, 28, 28)))  # one sample's shape


def test_outputsize(model):
    assert flux.outputsize(model, (32, 1, 28, 28)) == (32, 10)  # the shape as passed


def test_onnx(model, tmp_path, x):
    flux.onnx.save(model, tmp_path / "model.onnx", x)
    net = flux.onnx.load(tmp_path / "model.onnx")
    np.testing.assert_allclose(net(x).numpy(), model(x).numpy(), rtol=1e-4, atol=1e-5)
