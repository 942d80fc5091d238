"""predict and evaluate: in batches, in test mode, with nothing recorded, and nothing left behind."""

import numpy as np
import pytest

from minitorch_flux.autograd import Tensor, is_recording, record
from minitorch_flux.backend import Generator, default_generator, seed
from minitorch_flux.data import DataLoader
from minitorch_flux.losses import logitcrossentropy
from minitorch_flux.nn.module import testmode, trainmode, walk
from minitorch_flux.training import accuracy, evaluate, predict

from .small import N, X, Y, make_model


@pytest.mark.parametrize("batchsize", [1, 5, 22, 100])
def test_predict_is_the_model(batchsize):
    model = make_model()
    y = predict(model, X, batchsize)
    assert type(y) is np.ndarray
    np.testing.assert_allclose(y, model(X).numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(predict(model, Tensor(X), batchsize), y)


@pytest.mark.parametrize("batchsize", [1, 5, 22, 100])
def test_evaluate_is_the_mean_over_everything(batchsize):
    model = make_model()
    y_hat = model(X)
    found = evaluate(model, (X, Y), batchsize, right=accuracy, loss=logitcrossentropy)
    assert list(found) == ["right", "loss"]
    assert found["right"] == pytest.approx(accuracy(y_hat, Y))
    assert found["loss"] == pytest.approx(float(logitcrossentropy(y_hat, Y)), rel=1e-5)
    assert evaluate(model, DataLoader((X, Y), batchsize)) == {"accuracy": found["right"]}
    assert evaluate(model, [(X[:7], Y[:7]), [X[7:], Y[7:]]])["accuracy"] == pytest.approx(found["right"])


@pytest.mark.parametrize("mode", [True, False, "auto"])
def test_test_mode_and_back(mode):
    model = make_model()
    y = model(X).numpy()
    testmode(model, mode)
    before = [m.active for _, m in walk(model)]
    seed(0)
    counter = default_generator().state_dict()
    np.testing.assert_allclose(predict(model, X), y, rtol=1e-6)
    with record():
        np.testing.assert_allclose(predict(model, X), y, rtol=1e-6)
        assert is_recording()
    assert [m.active for _, m in walk(model)] == before
    assert default_generator().state_dict() == counter
    assert all(p.grad is None for p in model.parameters())


def test_nothing_is_recorded():
    outputs = []

    def model(x):
        outputs.append(make_model()(x))
        return outputs[-1]

    with record():
        predict(model, X)
    assert all(y.node is None for y in outputs)


def test_modes_come_back_after_an_error():
    model = trainmode(make_model())
    with pytest.raises(ValueError, match="features"):
        predict(model, X[:, :2])
    assert all(m.active for _, m in walk(model))


def test_what_is_refused():
    model = make_model(rng=Generator(0))
    with pytest.raises(ValueError, match="predict: there are no observations"):
        predict(model, X[:0])
    with pytest.raises(ValueError, match="evaluate: there are no observations"):
        evaluate(model, (X[:0], Y[:0]))
    with pytest.raises(TypeError, match=r"evaluate: every batch is a pair \(x, y\), got ndarray"):
        evaluate(model, X)
    assert len(X) == N
