"""ViT: parameters and shapes of every configuration, and the network beside plain PyTorch."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.models.vits import transformer_block

from .zoo_tools import CLASSES, check_network, error_beside_torch, images

COUNTS = {
    "tiny": 5_717_416,
    "small": 22_050_664,
    "base": 86_567_656,
    "large": 304_326_632,
    "huge": 632_199_400,
    "giant": 1_012_780_392,
    "gigantic": 1_844_640_360,
}
OTHERS = [
    ("base", {"patch_size": (32, 32)}, 88_224_232),
    ("large", {"patch_size": (32, 32)}, 306_535_400),
    ("huge", {"patch_size": (14, 14)}, 632_045_800),
    ("giant", {"patch_size": (14, 14)}, 1_012_611_432),
    ("gigantic", {"patch_size": (14, 14)}, 1_844_440_680),
    ("base", {"pool": "mean"}, 86_567_656 - 2 * 768),
    ("base", {"qkv_bias": False}, 86_567_656 - 12 * 3 * 768),
]
tiny = partial(models.vit, 8, 2, 2, imsize=(8, 12), patch_size=(4, 4), emb_dropout_prob=None)


def torch_vit(pool, qkv_bias=True):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Start(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).flatten(2).transpose(1, 2)

    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 8))

        def forward(self, x):
            return torch.cat([self.token.expand(len(x), 1, 8), x], 1)

    class Positions(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.vectors = nn.Parameter(torch.zeros(1, n, 8))

        def forward(self, x):
            return x + self.vectors

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.attention = nn.LayerNorm(8, eps=1e-6), nn.MultiheadAttention(8, 2, batch_first=True)
            self.norm2, self.mlp = nn.LayerNorm(8, eps=1e-6), nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))

        def forward(self, x):
            y = self.norm1(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            return x + self.mlp(self.norm2(x))

    class Pool(nn.Module):
        def forward(self, x):
            return x[:, 0] if pool == "class" else x.mean(1)

    first = [Token(), Positions(7)] if pool == "class" else [Positions(6)]
    return nn.Sequential(Start(3, 8, 4, 4), *first, Block(), Block(), nn.LayerNorm(8, eps=1e-6), Pool(), nn.Linear(8, CLASSES))


@pytest.mark.parametrize(("config", "keywords", "wanted"), [*((c, {}, n) for c, n in COUNTS.items()), *OTHERS])
def test_parameters(config, keywords, wanted):
    with flux.shapes_only():
        m = models.ViT(config, **keywords)
    assert models.num_parameters(m, buffers=True) == wanted
    assert (m.imsize, m.inchannels, m.nclasses) == ((224, 224), 3, 1000)


@pytest.mark.parametrize("config", COUNTS)
def test_shapes(config):
    with flux.shapes_only():
        m = models.ViT(config)
    features = (2, 197, m.classifier.last.in_)
    assert flux.outputsize(m.backbone, (2, 3, 224, 224)) == features
    assert flux.outputsize(m.classifier, features) == (2, 1000)


def test_a_patch_of_32():
    with flux.shapes_only():
        m = models.ViT("base", patch_size=(32, 32), dropout_prob=None)
    assert flux.outputsize(m.backbone, (2, 3, 224, 224)) == (2, 50, 768)


def test_two_billion_parameters_without_an_array():  # drawn, they would take 7 GiB and a minute
    tracemalloc.start()
    try:
        with flux.shapes_only():
            m = models.ViT("gigantic")
        assert models.num_parameters(m) == 1_844_640_360
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_beside_torch(pool):
    assert error_beside_torch(tiny(nclasses=CLASSES, pool=pool, dropout_prob=None), torch_vit(pool), images(3, 3, 8, 12)) < 1e-9


def test_a_block_beside_torchs_encoder_layer():
    torch = pytest.importorskip("torch")
    ours = flux.f64(transformer_block(8, 2, hidden_planes=12, rng=flux.Generator(0)))
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 12, 0.0, torch.nn.functional.gelu, 1e-6, True, True, dtype=torch.float64)
    names = {
        "self_attn.in_proj_": "0.layer.attention.qkv.", "self_attn.out_proj.": "0.layer.attention.proj.",
        "linear1.": "1.layer.mlp.0.", "linear2.": "1.layer.mlp.2.", "norm1.": "0.layer.norm.", "norm2.": "1.layer.norm.",
    }  # fmt: skip
    state = theirs.state_dict()
    ours.load_state_dict({name + part: state[key + part] for key, name in names.items() for part in ("weight", "bias")})
    x = images(2, 5, 8, dtype=np.float64)
    np.testing.assert_allclose(ours(x).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-12, atol=1e-13)


def test_training_modes_state_and_printing():
    check_network(tiny, images(6, 3, 8, 12))


def test_options():
    m = tiny(qkv_bias=False, hidden_planes=20, dropout_prob=0.1, emb_dropout_prob=0.2, activation=flux.relu,
             norm_layer=flux.LayerNorm, pool="mean", inchannels=1, nclasses=7, rng=flux.Generator(0))  # fmt: skip
    text = repr(m)
    assert "Dense(8, 20, relu)" in text
    assert "MHAttention(8, 2, proj_dropout_prob=0.1" in text
    assert "Dropout(0.2" in text
    assert "LayerNorm(8)" in text
    assert "gelu" not in text
    assert m.backbone.names == ("patches", "positions", "dropout", "block1", "block2", "norm")
    x = images(2, 1, 8, 12)
    assert flux.trainmode(m)(x).shape == (2, 7)
    assert "MHAttention(8, 2, qkv_bias=True" in repr(tiny())
    assert "Dropout" not in repr(tiny(dropout_prob=None))
    two = [tiny(rng=flux.Generator(3))(images(1, 3, 8, 12)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*two)


def test_what_there_is_not():
    with pytest.raises(ValueError, match="ViT: the configuration is one of 'tiny', .*'gigantic', got 'nano'"):
        models.ViT("nano")
    with pytest.raises(ValueError, match=r"vit: pool is 'class' .* or 'mean' .*, got 'max'"):
        tiny(pool="max")
    with pytest.raises(ValueError, match="planes=8 should be divisible by nheads=3"):
        models.vit(8, 1, 3)
    with pytest.raises(ValueError, match="images of 9 x 12 cannot be cut into patches of 4 x 4"):
        tiny(imsize=(9, 12))
    with pytest.raises(ValueError, match=r"ViPosEmbedding.*expected an input \(N, 7, 8\)"):
        tiny()(images(1, 3, 8, 8))
