"""mixer: the builder of MLPMixer, ResMLP and gMLP, from a block and the number of times that it is repeated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...nn.chain import Chain
from ...nn.dense import Dense
from ...nn.layer_norms import LayerNormV2
from ..layers.drops import linear_scheduler
from ..layers.embeddings import PatchEmbedding
from ..layers.norm_factories import norm_layers
from ..layers.pools import token_mean
from ..networks import Network

CONFIGS = {  # planes, depth
    "small": (512, 8),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
"""The configurations of all three families."""

token_norm = partial(LayerNormV2, eps=1e-6)


def mixer(
    block: Callable[..., Any],
    planes: int,
    depth: int,
    *,
    patch_size: tuple[int, int] = (16, 16),
    norm_layer: Callable[..., Any] = token_norm,
    stochastic_depth_prob: float | None = 0.0,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
    **keywords: Any,
) -> Network:
    """mixer(block, planes, depth, *, patch_size=(16, 16), norm_layer=LayerNormV2 with eps=1e-6, stochastic_depth_prob=0.0,
    imsize=(224, 224), inchannels=3, nclasses=1000, rng=None, ...)

    Patches of ``patch_size``, each a token of ``planes`` features, ``depth`` blocks, a norm, and a classifier, a Dense layer
    of the mean of all tokens.

    ``block(planes, npatches, stochastic_depth_prob=..., rng=..., ...)`` makes a block: ``mixerblock``, ``resmixerblock``,
    ``spatial_gating_block`` or one of your own; further keywords are its. ``norm_layer``: of the last norm, as in
    ``conv_norm``. ``stochastic_depth_prob``: of dropping a branch, growing linearly over the blocks from 0 to this; None
    for no StochasticDepth. Images have the size ``imsize``, of which the weights depend.

    The backbone is ``Chain(patches=..., block1=..., ..., norm=...)``. Raises ValueError where ``imsize`` cannot be cut into
    patches. Source: Metalhead's ``build_mlpmixer``.
    """
    patches = PatchEmbedding(imsize, inchannels=inchannels, patch_size=patch_size, embedplanes=planes, rng=rng)
    drops = linear_scheduler(stochastic_depth_prob, depth=depth)
    blocks = {
        f"block{i + 1}": block(planes, patches.npatches, stochastic_depth_prob=p, rng=rng, **keywords)
        for i, p in enumerate(drops)
    }
    backbone = Chain(patches=patches, **blocks, norm=norm_layers(norm_layer, planes)[0])
    classifier = Chain(pool=token_mean, last=Dense(planes, nclasses, rng=rng))
    return Network(backbone, classifier, imsize=imsize, inchannels=inchannels, nclasses=nclasses)
