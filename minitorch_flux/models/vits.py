"""ViT: a transformer that reads an image as a sequence of patches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..nn.chain import Chain
from ..nn.combinations import SkipConnection
from ..nn.dense import Dense
from ..nn.dropouts import Dropout
from ..nn.layer_norms import LayerNormV2
from ..ops.arithmetic import add
from ..ops.nonlinearities import gelu_erf
from .layers.attention_blocks import MHAttention
from .layers.embeddings import ClassTokens, PatchEmbedding, ViPosEmbedding
from .layers.mlps import mlp_block
from .layers.norm_factories import norm_layers
from .layers.pools import first_token, token_mean
from .networks import Network, row

CONFIGS = {  # planes, depth, heads, hidden planes of the MLPs
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "giant": (1408, 40, 16, 6144),
    "gigantic": (1664, 48, 16, 8192),
}
POOLS = {"class": first_token, "mean": token_mean}

token_norm = partial(LayerNormV2, eps=1e-6)


def transformer_block(
    planes: int,
    nheads: int,
    *,
    hidden_planes: int | None = None,
    qkv_bias: bool = True,
    dropout_prob: float | None = None,
    activation: Callable[..., Any] = gelu_erf,
    norm_layer: Callable[..., Any] = token_norm,
    rng: Any = None,
) -> Chain:
    """transformer_block(planes, nheads, *, hidden_planes=4 planes, qkv_bias=True, dropout_prob=None, activation=gelu_erf,
    norm_layer=LayerNormV2 with eps=1e-6, rng=None)

    A block of a transformer's encoder for tokens (N, L, planes), which keep their shape: self-attention in ``nheads`` heads,
    then an MLP for every token, each on a residual branch after a norm. ``dropout_prob``: of the outputs of attention and MLP
    and of the hidden planes. Source: Vaswani and others, "Attention is all you need", 2017, with the norms first.
    """
    p = 0.0 if dropout_prob is None else dropout_prob
    attention = MHAttention(planes, nheads, qkv_bias=qkv_bias, proj_dropout_prob=p, rng=rng)
    hidden = 4 * planes if hidden_planes is None else hidden_planes
    mlp = mlp_block(planes, hidden, dropout_prob=dropout_prob, activation=activation, rng=rng)
    return Chain(
        *(
            SkipConnection(Chain(norm=norm_layers(norm_layer, planes)[0], **{name: layer}), add)
            for name, layer in {"attention": attention, "mlp": mlp}.items()
        )
    )


def vit(
    planes: int = 768,
    depth: int = 12,
    nheads: int = 12,
    hidden_planes: int | None = None,
    *,
    patch_size: tuple[int, int] = (16, 16),
    pool: str = "class",
    qkv_bias: bool = True,
    dropout_prob: float | None = 0.1,
    emb_dropout_prob: float | None = 0.1,
    activation: Callable[..., Any] = gelu_erf,
    norm_layer: Callable[..., Any] = token_norm,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """vit(planes=768, depth=12, nheads=12, hidden_planes=4 planes, *, patch_size=(16, 16), pool="class", qkv_bias=True,
    dropout_prob=0.1, emb_dropout_prob=0.1, activation=gelu_erf, norm_layer=LayerNormV2 with eps=1e-6, imsize=(224, 224),
    inchannels=3, nclasses=1000, rng=None)

    A vision transformer: patches of ``patch_size``, each a token of ``planes`` features, a class token before them, a
    learnt vector for every place, ``depth`` blocks of attention in ``nheads`` heads and an MLP with ``hidden_planes``, a norm,
    and a classifier, a Dense layer.

    ``pool``: what the classifier sees, ``"class"``, the class token after all blocks, or ``"mean"``, the mean of all tokens;
    then there is no class token. ``qkv_bias``: of queries, keys and values. ``dropout_prob`` and ``emb_dropout_prob``: in the
    blocks and of the tokens that go into the first; None for no Dropout. Images have the size ``imsize``, of which the
    weights depend. The biases, the form of gelu and the norms are those of the weights that are published for PyTorch.

    The backbone is ``Chain(patches=..., token=..., positions=..., dropout=..., block1=..., ..., norm=...)``; it gives tokens
    (N, L, planes). Raises ValueError where ``imsize`` cannot be cut into patches, ``planes`` into heads, or for another pool.
    Sources: Metalhead's ``vit``; Dosovitskiy and others, "An image is worth 16x16 words", 2021
    (https://arxiv.org/abs/2010.11929); for the mean: Beyer and others, "Better plain ViT baselines for ImageNet-1k", 2022.
    """
    if pool not in POOLS:
        raise ValueError(f"vit: pool is 'class' (the class token) or 'mean' (the mean of all tokens), got {pool!r}")
    patches = PatchEmbedding(imsize, inchannels=inchannels, patch_size=patch_size, embedplanes=planes, rng=rng)
    token = {"token": ClassTokens(planes, rng=rng)} if pool == "class" else {}
    dropout = {} if emb_dropout_prob is None else {"dropout": Dropout(emb_dropout_prob, rng=rng)}
    block = partial(transformer_block, planes, nheads, hidden_planes=hidden_planes, qkv_bias=qkv_bias,
                    dropout_prob=dropout_prob, activation=activation, norm_layer=norm_layer, rng=rng)
    backbone = Chain(
        patches=patches,
        **token,
        positions=ViPosEmbedding(planes, patches.npatches + len(token), rng=rng),
        **dropout,
        **{f"block{i + 1}": block() for i in range(depth)},
        norm=norm_layers(norm_layer, planes)[0],
    )
    classifier = Chain(pool=POOLS[pool], last=Dense(planes, nclasses, rng=rng))
    return Network(backbone, classifier, imsize=imsize, inchannels=inchannels, nclasses=nclasses)


def ViT(config: str = "base", **keywords: Any) -> Network:
    """ViT(config="base", *, patch_size=(16, 16), pool="class", dropout_prob=0.1, emb_dropout_prob=0.1, imsize=(224, 224),
    inchannels=3, nclasses=1000, ...)

    Vision transformer of configuration "tiny", "small", "base", "large", "huge", "giant" or "gigantic"; the keywords are
    ``vit``'s. ``ViT("base")`` has 86,567,656 parameters, with ``patch_size=(32, 32)`` 88,224,232. Published weights load with
    ``flux.load_torch(m, path, rename=published_names("ViT"))``.
    Sources: Dosovitskiy and others, "An image is worth 16x16 words", 2021 (https://arxiv.org/abs/2010.11929); Zhai and
    others, "Scaling vision transformers", 2022, for the two largest.
    """
    return vit(*row("ViT", config, CONFIGS), **keywords)
