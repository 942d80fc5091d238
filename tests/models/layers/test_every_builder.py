"""What holds for everything that the module builds, in one table: states, copies, dtypes, kernels, layouts and shapes."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Generator, GroupNorm, Layers, SkipConnection, gelu, swish, tanh

from .tools import randn, randomise

CASES = {
    "conv_norm": (lambda: Chain(*Layers.conv_norm((3, 3), 4, 6, tanh, pad=1)), (3, 4, 5, 6)),
    "conv_norm, revnorm": (lambda: Chain(*Layers.conv_norm((3, 3), 4, 6, tanh, revnorm=True)), (3, 4, 5, 6)),
    "conv_norm, group": (lambda: Chain(*Layers.conv_norm((3, 3), 4, 6, norm_layer=partial(GroupNorm, groups=3))), (3, 4, 5, 6)),
    "basic_conv_bn": (lambda: Chain(*Layers.basic_conv_bn((3, 3), 4, 6, stride=2)), (3, 4, 5, 6)),
    "dwsep_conv_norm": (lambda: Chain(*Layers.dwsep_conv_norm((3, 3), 4, 6, tanh)), (3, 4, 5, 6)),
    "LayerNormV2": (lambda: Layers.LayerNormV2(6, tanh), (3, 6)),
    "ChannelLayerNorm": (lambda: Layers.ChannelLayerNorm(4, tanh), (3, 4, 5, 6)),
    "LayerScale": (lambda: Layers.LayerScale(6, 0.1), (3, 4, 6)),
    "prenorm": (lambda: Layers.prenorm(6, Layers.mlp_block(6, 8)), (3, 4, 6)),
    "DropBlock": (lambda: Layers.DropBlock(0.2, 3, rng=Generator(0), active=True), (3, 4, 8, 9)),
    "DropBlock, options": (lambda: Layers.DropBlock(0.2, 4, 0.5, Generator(0), batchwise=True, edge="valid", active=True),
                           (3, 4, 8, 9)),
    "StochasticDepth": (lambda: Layers.StochasticDepth(0.5, rng=Generator(0), active=True), (8, 4, 6)),
    "StochasticDepth, batch": (lambda: Layers.StochasticDepth(0.5, "batch", rng=Generator(0), active=True), (8, 4, 6)),
    "AdaptiveMeanMaxPool": (lambda: Layers.AdaptiveMeanMaxPool((2, 3)), (3, 4, 5, 6)),
    "create_classifier": (lambda: Layers.create_classifier(4, 5, tanh, dropout_prob=0.3), (3, 4, 5, 6)),
    "create_classifier, hidden": (lambda: Layers.create_classifier(4, 8, 5, use_conv=(True, False)), (3, 4, 5, 6)),
    "squeeze_excite": (lambda: Layers.squeeze_excite(8, 4, activation=swish), (3, 8, 5, 6)),
    "effective_squeeze_excite": (lambda: Layers.effective_squeeze_excite(4), (3, 4, 5, 6)),
    "mbconv": (lambda: Layers.mbconv((3, 3), 4, 8, 4, swish, stride=1, reduction=2), (3, 4, 5, 6)),
    "fused_mbconv": (lambda: Layers.fused_mbconv((3, 3), 4, 8, 6, swish, stride=2), (3, 4, 5, 6)),
    "mlp_block": (lambda: Layers.mlp_block(6, 8, activation=gelu), (3, 4, 6)),
    "gated_mlp_block": (lambda: Layers.gated_mlp_block(partial(Layers.SpatialGatingUnit, npatches=4), 6, 8), (3, 4, 6)),
    "SpatialGatingUnit": (lambda: Layers.SpatialGatingUnit(6, 4), (3, 4, 6)),
    "mixerblock": (lambda: Layers.mixerblock(6, 4), (3, 4, 6)),
    "resmixerblock": (lambda: Layers.resmixerblock(6, 4), (3, 4, 6)),
    "spatial_gating_block": (lambda: Layers.spatial_gating_block(6, 4), (3, 4, 6)),
    "PatchEmbedding": (lambda: Layers.PatchEmbedding((4, 6), patch_size=(2, 3), embedplanes=6, norm_layer=flux.LayerNorm),
                       (3, 3, 4, 6)),
    "ViPosEmbedding": (lambda: Layers.ViPosEmbedding(6, 4), (3, 4, 6)),
    "ClassTokens": (lambda: Layers.ClassTokens(6), (3, 4, 6)),
    "MHAttention": (lambda: Layers.MHAttention(6, 2, qkv_bias=True), (3, 4, 6)),
    "inputscale": (lambda: Layers.inputscale(0.5, activation=tanh), (3, 4)),
    "swapdims": (lambda: Layers.swapdims((0, 2, 1)), (3, 4, 6)),
    "token_mean": (lambda: Chain(Layers.token_mean), (3, 4, 6)),
    "first_token": (lambda: Chain(Layers.first_token), (3, 4, 6)),
    "addact": (lambda: SkipConnection(Layers.mlp_block(6, 8), Layers.addact), (3, 6)),
    "actadd": (lambda: SkipConnection(Layers.mlp_block(6, 8), partial(Layers.actadd, swish)), (3, 6)),
    "cat_channels": (lambda: flux.Parallel(Layers.cat_channels, flux.Dense(6, 2), flux.Dense(6, 2)), (3, 4, 6)),
}
NO_LAYERS = {"dropblock", "dropblock_gamma", "flatten_chains", "linear_scheduler", "norm_layers", "round_channels"}

every_case = pytest.mark.parametrize("name", CASES)


def made(name):
    make, shape = CASES[name]
    flux.seed(0)
    m = make()
    return (randomise(m) if m.state_dict() else m), randn(*shape)


def test_the_table_has_every_builder():
    assert {name.partition(",")[0] for name in CASES} | NO_LAYERS == set(Layers.__all__)


@every_case
def test_the_state_dict_makes_another_one_the_same(name):
    m, x = made(name)
    other = CASES[name][0]()
    other.load_state_dict(m.state_dict())
    for a, b in ((flux.testmode(m), flux.testmode(other)),):
        np.testing.assert_array_equal(a(x).numpy(), b(x).numpy())
    assert list(m.state_dict()) == list(other.state_dict())


@every_case
def test_it_prints_as_python_that_rebuilds_it(name):
    m, _ = made(name)
    scope = {**vars(flux), **vars(Layers), "partial": partial}
    assert repr(eval(repr(m), scope)).partition("#")[0] == repr(m).partition("#")[0]


@every_case
def test_copies_and_pickles_are_equal_and_apart(name):
    m, x = made(name)
    flux.testmode(m)
    y = m(x).numpy()
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        np.testing.assert_array_equal(other(x).numpy(), y)
        for p in other.parameters():
            p.data += 1
    np.testing.assert_array_equal(m(x).numpy(), y)


@every_case
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_it_computes_in_the_dtype_of_its_weights(name, dtype):
    m, x = made(name)
    wanted = m(x).numpy()
    m, x = made(name)
    m = {"float16": flux.f16, "float32": flux.f32, "float64": flux.f64}[dtype](m)
    y = m(x.astype(dtype))
    assert y.dtype == dtype
    near = 3e-2 if dtype == "float16" else 1e-4
    np.testing.assert_allclose(y.numpy(), wanted, rtol=near, atol=near * max(1, np.abs(wanted).max()))


@every_case
def test_kernels_agree_with_references(name):
    m, x = made(name)
    y = m(x).numpy()
    m, x = made(name)
    with flux.use_kernels(False):
        np.testing.assert_allclose(m(x).numpy(), y, rtol=1e-4, atol=1e-5)


@every_case
def test_shapes_empty_batches_and_odd_layouts(name):
    m, x = made(name)
    flux.testmode(m)
    y = m(x).numpy()
    assert flux.outputsize(m, x.shape) == y.shape
    np.testing.assert_allclose(m(np.asfortranarray(x)).numpy(), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(m(x[::-1]).numpy()[::-1], y, rtol=1e-5, atol=1e-6)
    one = x[:1]
    np.testing.assert_allclose(m(one).numpy(), y[:1], rtol=1e-4, atol=1e-5)
    assert m(x[:0]).shape == (0, *y.shape[1:])


@every_case
def test_the_input_is_not_written_to(name):
    m, x = made(name)
    before = x.copy()
    flux.trainmode(m)
    with flux.record():
        m(x).sum()
    np.testing.assert_array_equal(x, before)
