"""create_classifier: both forms, every combination that makes sense, and why the others don't."""

import itertools

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import AdaptiveMeanPool, GlobalMaxPool, MeanPool, hardswish, identity, relu, sigmoid, tanh
from minitorch_flux.models.layers import AdaptiveMeanMaxPool, create_classifier

from .tools import randn, same_as_torch, trains

POOL = "AdaptiveMeanPool((1, 1))"


def prints(m):
    return [(repr(layer) if hasattr(layer, "parameters") else layer.__name__).partition("  #")[0] for layer in m]


@pytest.mark.parametrize(("arguments", "keywords", "wanted"), [
    ((6, 3), {}, [POOL, "flatten", "Dense(6, 3)"]),
    ((6, 3, tanh), {"dropout_prob": 0.5}, [POOL, "flatten", "Dropout(0.5)", "Dense(6, 3, tanh)"]),
    ((6, 3), {"dropout_prob": 0.0}, [POOL, "flatten", "Dropout(0.0)", "Dense(6, 3)"]),
    ((6, 3), {"pool_layer": identity}, ["identity", "Dense(6, 3)"]),
    ((6, 3), {"pool_layer": identity, "dropout_prob": 0.1}, ["identity", "Dropout(0.1)", "Dense(6, 3)"]),
    ((6, 3, relu), {"use_conv": True, "pool_layer": identity}, ["identity", "Conv((1, 1), 6, 3, relu)"]),
    ((6, 3), {"use_conv": True, "dropout_prob": 0.1}, [POOL, "Dropout(0.1)", "Conv((1, 1), 6, 3)"]),
    ((6, 3), {"pool_layer": GlobalMaxPool()}, ["GlobalMaxPool()", "flatten", "Dense(6, 3)"]),
    ((6, 8, 3), {}, [POOL, "flatten", "Dense(6, 8, relu)", "Dense(8, 3)"]),
    ((6, 8, 3, (hardswish, sigmoid)), {"dropout_prob": 0.2},
     [POOL, "flatten", "Dense(6, 8, hardswish)", "Dropout(0.2)", "Dense(8, 3, sigmoid)"]),
    ((6, 8, 3), {"pool_layer": identity}, ["identity", "Dense(6, 8, relu)", "Dense(8, 3)"]),
    ((6, 8, 3), {"use_conv": (True, True), "dropout_prob": 0.2},
     [POOL, "Conv((1, 1), 6, 8, relu)", "Dropout(0.2)", "Conv((1, 1), 8, 3)"]),
    ((6, 8, 3), {"use_conv": (True, True), "pool_layer": identity},
     ["identity", "Conv((1, 1), 6, 8, relu)", "Conv((1, 1), 8, 3)"]),
    ((6, 8, 3), {"use_conv": (True, False), "dropout_prob": 0.2},
     [POOL, "Conv((1, 1), 6, 8, relu)", "Dropout(0.2)", "flatten", "Dense(8, 3)"]),
])  # fmt: skip
def test_the_layers(arguments, keywords, wanted):
    m = create_classifier(*arguments, **keywords)
    assert prints(m) == wanted


def test_every_sensible_combination_runs_and_trains():
    pools = {None: (), identity: (4, 5), AdaptiveMeanPool((1, 1)): (), AdaptiveMeanMaxPool((1, 1)): (), GlobalMaxPool(): ()}
    for (pool, maps), conv, p in itertools.product(pools.items(), (False, True), (None, 0.0, 0.5)):
        for hidden, use in (((), conv), ((8,), (conv, conv)), ((8,), (True, False))):
            if use == (True, False) and pool is identity:
                continue
            keywords = {} if pool is None else {"pool_layer": pool}
            m = create_classifier(6, *hidden, 3, use_conv=use, dropout_prob=p, **keywords)
            last = use[-1] if hidden else use
            x = randn(4, 6) if pool is identity and not last else randn(4, 6, 4, 5)
            shape = (4, 3, *(maps or (1, 1))) if last else (4, 3)
            assert m(x).shape == shape
            assert flux.outputsize(m, x.shape) == shape
            if p != 0.5:
                trains(m, x)


def test_pools_to_other_sizes():
    assert create_classifier(6 * 4, 3, pool_layer=AdaptiveMeanPool((2, 2)))(randn(2, 6, 7, 7)).shape == (2, 3)
    assert create_classifier(6, 3, use_conv=True, pool_layer=MeanPool((2, 2)))(randn(2, 6, 8, 6)).shape == (2, 3, 4, 3)


def test_keywords_are_dispatched_as_arguments_are():
    wanted = prints(create_classifier(6, 8, 3, (tanh, identity), dropout_prob=0.1))
    assert prints(create_classifier(inplanes=6, hidden_planes=8, nclasses=3, activations=(tanh, identity),
                                    dropout_prob=0.1)) == wanted
    assert prints(create_classifier(6, 8, nclasses=3, activations=[tanh, identity], dropout_prob=0.1)) == wanted
    assert prints(create_classifier(6, 8, nclasses=3)) == prints(create_classifier(np.int64(6), np.int64(8), np.int64(3)))
    assert prints(create_classifier(6, nclasses=3, activation=tanh)) == prints(create_classifier(6, 3, tanh))
    assert prints(create_classifier(inplanes=6, nclasses=3)) == prints(create_classifier(6, 3))
    assert prints(create_classifier(6, 3, use_conv=False)) == prints(create_classifier(6, 3, identity))


def test_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    theirs = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8), nn.Hardswish(), nn.Dropout(0.5),
                           nn.Linear(8, 3))
    same_as_torch(create_classifier(6, 8, 3, (hardswish, identity), dropout_prob=0.5), theirs, randn(4, 6, 3, 5),
                  tolerance=1e-7)
    theirs = nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    same_as_torch(create_classifier(6, 8, 3, use_conv=(True, True), pool_layer=identity), theirs, randn(4, 6, 3, 5))
    theirs = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    same_as_torch(create_classifier(6, 3), theirs, randn(4, 6, 3, 5))


def test_dropout_is_active_in_train_mode_only():
    m = create_classifier(6, 3, dropout_prob=0.5)
    x = randn(50, 6, 2, 2)
    np.testing.assert_array_equal(m(x).numpy(), m(x).numpy())
    flux.trainmode(m)
    assert not np.array_equal(m(x).numpy(), m(x).numpy())


def test_state_dict_keys_and_generators():
    for keywords in ({}, {"dropout_prob": 0.1}, {"pool_layer": identity}, {"use_conv": True}):
        assert list(create_classifier(6, 3, **keywords).state_dict()) == ["last.weight", "last.bias"]
    wanted = ["hidden.weight", "hidden.bias", "last.weight", "last.bias"]
    for keywords in ({}, {"dropout_prob": 0.1}, {"use_conv": (True, False)}, {"use_conv": (True, True)}):
        assert list(create_classifier(6, 8, 3, **keywords).state_dict()) == wanted
    for arguments, keywords in (((6, 3), {}), ((6, 8, 3), {"use_conv": (True, False)})):
        a, b = (create_classifier(*arguments, rng=flux.Generator(0), **keywords).state_dict() for _ in range(2))
        assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), [
    ((6, 8, 3), {"use_conv": (False, True)}, ValueError,
     r"use_conv=\(False, True\) makes no sense: .* no maps for a convolution"),
    ((6, 8, 3), {"use_conv": (True, False), "pool_layer": identity}, ValueError,
     r"use_conv=\(True, False\) needs a pool_layer"),
    ((6, 8, 3), {"use_conv": True}, TypeError, "with a hidden layer use_conv is a pair, such as .* got True"),
    ((6, 8, 3), {"use_conv": (1, 0)}, TypeError, "use_conv is a pair"),
    ((6, 3), {"use_conv": (True, False)}, TypeError, "use_conv is True or False where there is no hidden layer"),
    ((6, 8, 3, relu), {}, TypeError, "activations is a pair, of the hidden and of the last layer, got"),
    ((6, 3), {"pool_layer": AdaptiveMeanPool}, TypeError, "pool_layer is a layer, such as .* got AdaptiveMeanPool"),
    ((6, 3), {"pool_layer": (1, 1)}, TypeError, r"pool_layer is a layer, .* got \(1, 1\)"),
    ((6,), {}, TypeError, r"create_classifier\(\) missing 1 required positional argument: 'nclasses'"),
    ((6, 3), {"dropout": 0.1}, TypeError, "dropout"),
    ((6, 3), {"dropout_prob": 2}, ValueError, "probability p must be between 0 and 1"),
])  # fmt: skip
def test_errors(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        create_classifier(*arguments, **keywords)


def test_maps_in_a_dense_layer_are_named_at_the_call():
    with pytest.raises(ValueError, match=r"Chain\['last'\] Dense\(6, 3\): the input has 5 features, expected 6"):
        create_classifier(6, 3, pool_layer=identity)(randn(2, 6, 4, 5))
