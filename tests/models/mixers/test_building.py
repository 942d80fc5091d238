"""mixer: a network of one's own blocks."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Layers, models


def test_blocks_of_ones_own():
    seen = []

    def block(planes, npatches, *, stochastic_depth_prob, rng, twice=False):
        seen.append((planes, npatches, stochastic_depth_prob, rng, twice))
        return flux.Dense(planes, planes, rng=rng)

    rng = flux.Generator(0)
    m = models.mixer(block, 6, 3, patch_size=(2, 4), imsize=(4, 8), stochastic_depth_prob=0.3, norm_layer=flux.identity,
                     inchannels=2, nclasses=5, rng=rng, twice=True)  # fmt: skip
    assert seen == [(6, 4, 0.0, rng, True), (6, 4, pytest.approx(0.1), rng, True), (6, 4, pytest.approx(0.2), rng, True)]
    assert m.backbone.names == ("patches", "block1", "block2", "block3", "norm")
    assert m.backbone.norm is flux.identity
    assert (m.imsize, m.inchannels, m.nclasses) == ((4, 8), 2, 5)
    x = np.ones((3, 2, 4, 8), np.float32)
    tokens = m.backbone(x)
    assert tokens.shape == (3, 4, 6)
    np.testing.assert_allclose(m(x).numpy(), m.classifier.last(tokens.numpy().mean(1)).numpy(), rtol=1e-5)


def test_no_blocks_and_options_that_a_block_has_not():
    m = models.mixer(Layers.mixerblock, 4, 0, imsize=(16, 16))
    assert m.backbone.names == ("patches", "norm")
    assert m(np.zeros((1, 3, 16, 16), np.float32)).shape == (1, 1000)
    with pytest.raises(TypeError, match="layerscale_init"):
        models.mixer(Layers.mixerblock, 4, 1, layerscale_init=0.1)


def test_pools_of_tokens():
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(Layers.token_mean(x).numpy(), x.mean(1))
    np.testing.assert_array_equal(Layers.first_token(x).numpy(), x[:, 0])
    flux.check(lambda x: Layers.token_mean(x) * Layers.first_token(x), x)
    for f in (Layers.token_mean, Layers.first_token):
        with pytest.raises(ValueError, match=rf"{f.__name__}: expected tokens \(N, L, features\), one at least \(input shape "):
            f(np.zeros((2, 3)))
        with pytest.raises(ValueError, match="one at least"):
            f(np.zeros((2, 0, 3)))
        assert f(np.zeros((0, 2, 3))).shape == (0, 3)
