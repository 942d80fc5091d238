"""Network, and what is asked of one."""

import copy
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, Conv, Dense, GlobalMeanPool, flatten, models, relu


def small(**keywords):
    backbone = Chain(Conv((3, 3), 1, 4, relu), BatchNorm(4))
    return models.Network(backbone, Chain(GlobalMeanPool(), flatten, Dense(4, 5)), inchannels=1, nclasses=5, **keywords)


def test_it_is_a_chain_of_two_parts():
    m, x = small(imsize=[8, 8]), np.ones((2, 1, 8, 8), np.float32)
    assert isinstance(m, Chain)
    assert models.backbone(m) is m.backbone is m[0]
    assert models.classifier(m) is m.classifier is m[1]
    assert (m.imsize, m.inchannels, m.nclasses) == ((8, 8), 1, 5)
    np.testing.assert_array_equal(m(x).numpy(), m.classifier(m.backbone(x)).numpy())
    assert list(m.state_dict())[:2] == ["backbone.0.weight", "backbone.0.bias"]
    assert m[:1][0] is m.backbone
    assert flux.outputsize(m, x.shape) == (2, 5)


def test_it_prints_copies_and_pickles():
    for m in (small(), small(imsize=(8, 8))):
        for other in (eval(repr(m), {**vars(flux), "Network": models.Network}), copy.deepcopy(m),
                      pickle.loads(pickle.dumps(m))):
            assert repr(other) == repr(m)
            assert (other.imsize, other.inchannels, other.nclasses) == (m.imsize, 1, 5)
    assert "imsize=(8, 8)" in repr(small(imsize=(8, 8)))
    assert "imsize" not in repr(small())


def test_num_parameters():
    m = small()
    assert models.num_parameters(m) == 4 * 9 + 4 + 8 + 25
    assert models.num_parameters(m, buffers=True) == models.num_parameters(m) + 8
    flux.freeze(m.backbone)
    assert models.num_parameters(m) == 25
    assert models.num_parameters(m, buffers=True) == 81
    assert models.num_parameters(Dense(2, 3)) == 9
    twice = Dense(3, 3)
    assert models.num_parameters(Chain(twice, twice)) == 12  # a shared one counts once


def test_the_classifier_is_exchanged():
    m = small()
    m.classifier = Chain(GlobalMeanPool(), flatten, Dense(4, 2))
    assert m(np.ones((3, 1, 8, 8), np.float32)).shape == (3, 2)


@pytest.mark.parametrize("f", [models.backbone, models.classifier])
def test_what_is_no_network(f):
    for m in (Dense(2, 3), Chain(Dense(2, 3), Dense(3, 4)), 5):
        with pytest.raises(TypeError,
                           match=f"{f.__name__} takes a model of the zoo, a Network of backbone and classifier, got"):
            f(m)
