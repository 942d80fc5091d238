"""PatchEmbedding by nested loops, ViPosEmbedding and ClassTokens by hand, all against PyTorch."""

import copy
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, GroupNorm, LayerNorm, LayerNormV2, identity, normal_init, ones
from minitorch_flux.models.layers import ChannelLayerNorm, ClassTokens, PatchEmbedding, ViPosEmbedding, prenorm

from .tools import randn, randomise, same_as_torch, trains


@pytest.mark.parametrize(("imsize", "patch"), [((4, 6), (2, 3)), ((6, 4), (3, 2)), ((4, 4), (4, 4)), ((2, 3), (1, 1))])
def test_patch_embedding_by_nested_loops(imsize, patch):
    m = randomise(PatchEmbedding(imsize, inchannels=2, patch_size=patch, embedplanes=5))
    x = randn(3, 2, *imsize)
    y = m(x).numpy()
    rows, columns = imsize[0] // patch[0], imsize[1] // patch[1]
    assert y.shape == (3, rows * columns, 5)
    assert m.npatches == rows * columns
    w, b = m.proj.weight.numpy(), m.proj.bias.numpy()
    for n in range(3):
        for i in range(rows):
            for j in range(columns):
                piece = x[n, :, i * patch[0] : (i + 1) * patch[0], j * patch[1] : (j + 1) * patch[1]]
                np.testing.assert_allclose(y[n, i * columns + j], (w * piece).sum(axis=(1, 2, 3)) + b, rtol=1e-4, atol=1e-5)


def test_patch_embedding_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj, self.norm = nn.Conv2d(3, 6, (2, 4), (2, 4)), nn.LayerNorm(6)

        def forward(self, x):
            return self.norm(self.proj(x).flatten(2).transpose(1, 2))

    ours = PatchEmbedding((4, 8), patch_size=(2, 4), embedplanes=6, norm_layer=LayerNormV2)
    same_as_torch(ours, Theirs(), randn(2, 3, 4, 8))
    assert list(ours.state_dict()) == ["proj.weight", "proj.bias", "norm.weight", "norm.bias"]


@pytest.mark.parametrize(("keywords", "shape"), [
    ({}, (2, 4, 6)), ({"flatten": False}, (2, 6, 2, 2)), ({"norm_layer": LayerNorm}, (2, 4, 6)),
    ({"norm_layer": BatchNorm, "flatten": False}, (2, 6, 2, 2)), ({"norm_layer": GroupNorm, "flatten": False}, (2, 6, 2, 2)),
    ({"norm_layer": ChannelLayerNorm, "flatten": False}, (2, 6, 2, 2)), ({"norm_layer": lambda planes: identity}, (2, 4, 6)),
    ({"norm_layer": lambda planes, activation: LayerNorm(planes, activation)}, (2, 4, 6)),
])  # fmt: skip
def test_patch_embedding_keywords(keywords, shape):
    m = PatchEmbedding((8, 8), patch_size=(4, 4), embedplanes=6, **keywords)
    x = randn(2, 3, 8, 8)
    assert m(x).shape == shape
    assert flux.outputsize(m, x.shape) == shape
    trains(m, x)
    if "norm_layer" not in keywords:
        assert m.norm is identity
        assert list(m.state_dict()) == ["proj.weight", "proj.bias"]
        assert repr(eval(repr(m))) == repr(m)


def test_patch_embedding_defaults():
    with flux.nn.inputs.nothing_drawn():
        m = PatchEmbedding()
    assert m.npatches == 196
    assert m.proj.weight.shape == (768, 3, 16, 16)
    assert repr(m).startswith("PatchEmbedding()  # 590_592 parameters")
    m = PatchEmbedding((8, 8), patch_size=(4, 4), embedplanes=2)
    assert m(randn(1, 3, 16, 12)).shape == (1, 12, 2)  # any whole patches
    small = {"patch_size": (2, 2), "embedplanes": 2}
    a, b = (PatchEmbedding((4, 4), rng=flux.Generator(0), **small).proj.weight.numpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_positions_and_class_tokens_by_hand():
    positions, tokens = randomise(ViPosEmbedding(4, 3)), randomise(ClassTokens(4))
    x = randn(2, 3, 4)
    np.testing.assert_array_equal(positions(x).numpy(), x + positions.vectors.numpy())
    y = tokens(x).numpy()
    assert y.shape == (2, 4, 4)
    np.testing.assert_array_equal(y[:, 1:], x)
    np.testing.assert_array_equal(y[:, 0], np.broadcast_to(tokens.token.numpy()[0, 0], (2, 4)))
    for m in (positions, tokens):
        flux.check(m, x)
        trains(m, x)
        for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
            assert repr(other) == repr(m)
            np.testing.assert_array_equal(other(x).numpy(), m(x).numpy())
    assert tokens(np.zeros((0, 3, 4))).shape == (0, 4, 4)
    assert flux.outputsize(Chain(ClassTokens(4), ViPosEmbedding(4, 4)), (2, 3, 4)) == (2, 4, 4)


def test_how_they_begin_and_print():
    flux.seed(0)
    vectors = ViPosEmbedding(64, 50).vectors.numpy()
    assert vectors.shape == (1, 50, 64)
    assert abs(vectors.mean()) < 2e-3
    assert vectors.std() == pytest.approx(0.02, rel=0.1)
    assert ClassTokens(4).token.numpy().tolist() == [[[0, 0, 0, 0]]]
    assert repr(ViPosEmbedding(4, 3)) == "ViPosEmbedding(4, 3)  # 12 parameters"
    assert repr(ClassTokens(4, init=ones)) == "ClassTokens(4, init=ones)  # 4 parameters"
    assert ClassTokens(4, init=ones).token.numpy().min() == 1
    assert repr(ViPosEmbedding(4, 3, init=normal_init)).startswith("ViPosEmbedding(4, 3, init=normal_init)")
    for make in (lambda: ViPosEmbedding(4, 3, rng=flux.Generator(1)).vectors,
                 lambda: ClassTokens(4, init=normal_init, rng=flux.Generator(1)).token):
        np.testing.assert_array_equal(make().numpy(), make().numpy())


def test_the_embedding_of_a_vision_transformer_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Conv2d(3, 6, 2, 2)
            self.token, self.vectors = nn.Parameter(torch.zeros(1, 1, 6)), nn.Parameter(torch.zeros(1, 5, 6))

        def forward(self, x):
            y = self.proj(x).flatten(2).transpose(1, 2)
            return torch.cat([self.token.expand(len(x), 1, 6), y], dim=1) + self.vectors

    ours = Chain(PatchEmbedding((4, 4), patch_size=(2, 2), embedplanes=6), ClassTokens(6), ViPosEmbedding(6, 5))
    names = {"0.proj.weight": "proj.weight", "0.proj.bias": "proj.bias", "1.token": "token", "2.vectors": "vectors"}
    same_as_torch(ours, Theirs(), randn(2, 3, 4, 4), names=names)
    assert isinstance(prenorm(6, ours), Chain)


@pytest.mark.parametrize(("make", "x", "error", "message"), [
    (lambda: PatchEmbedding((30, 32)), None, ValueError,
     r"PatchEmbedding: images of 30 x 32 cannot be cut into patches of 16 x 16"),
    (lambda: PatchEmbedding(224), None, TypeError, r"imsize is a pair \(height, width\), got 224"),
    (lambda: PatchEmbedding((4, 4), patch_size=2), None, TypeError, r"patch_size is a pair \(height, width\), got 2"),
    (lambda: PatchEmbedding((4, 4.5)), None, TypeError, "imsize must be a whole number, got 4.5"),
    (lambda: PatchEmbedding((4, 4), patch_size=(0, 2)), None, ValueError, "cannot be cut into patches of 0 x 2"),
    (lambda: PatchEmbedding((4, 4), patch_size=(2, 2), embedplanes=6), randn(2, 3, 5, 4), ValueError,
     r"embedplanes=6\): images of 5 x 4 cannot be cut into patches of 2 x 2"),
    (lambda: PatchEmbedding((4, 4), patch_size=(2, 2), embedplanes=6), randn(3, 4, 4), ValueError, "has 3 axes, expected 4"),
    (lambda: PatchEmbedding((4, 4), patch_size=(2, 2), embedplanes=6), randn(2, 1, 4, 4), ValueError,
     "1 channels on axis 1, expected 3"),
    (lambda: ViPosEmbedding(4, 3), randn(2, 5, 4), ValueError,
     r"ViPosEmbedding\(4, 3\): expected an input \(N, 3, 4\): \(N, tokens, features\) \(input shape \(2, 5, 4\)\)"),
    (lambda: ViPosEmbedding(4, 3), randn(3, 4), ValueError, r"expected an input \(N, 3, 4\)"),
    (lambda: ViPosEmbedding(4, "3"), None, TypeError, "npatches must be a whole number, got '3'"),
    (lambda: ViPosEmbedding(4, 3, init=lambda *shape: np.zeros(3)), None, ValueError, "init gave an array of shape"),
    (lambda: ClassTokens(4), randn(2, 3, 5), ValueError,
     r"ClassTokens\(4\): expected an input \(N, tokens, 4\) \(input shape \(2, 3, 5\)\)"),
    (lambda: ClassTokens(4), randn(3, 4), ValueError, "expected an input"),
    (lambda: ClassTokens(None), None, TypeError, "planes must be a whole number, got None"),
])  # fmt: skip
def test_errors(make, x, error, message):
    with pytest.raises(error, match=message):
        make()(x)
