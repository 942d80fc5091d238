"""gMLP: MLPs whose hidden planes are gated by the other patches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...nn.layer_norms import LayerNormV2
from ...ops.nonlinearities import gelu_erf
from ..layers.mixers import spatial_gating_block
from ..networks import Network, row
from .building import CONFIGS, mixer, token_norm


def gMLP(config: str = "base", *, norm_layer: Callable[..., Any] = token_norm, **keywords: Any) -> Network:
    """gMLP(config="base", *, mlp_ratio=4.0, dropout_prob=0.0, stochastic_depth_prob=0.0, activation=gelu_erf,
    norm_layer=LayerNormV2 with eps=1e-6, gate_norm_layer=LayerNormV2, patch_size=(16, 16), imsize=(224, 224), inchannels=3,
    nclasses=1000, ...)

    gMLP of configuration "small" (512 planes, 8 blocks), "base" (768, 12), "large" (1024, 24) or "huge" (1280, 32); the
    keywords are ``mixer``'s and its block's, ``Layers.spatial_gating_block``. ``gMLP("base")`` has 44,393,176 parameters.
    The paper's networks are ``mixer(spatial_gating_block, 256, 30, mlp_ratio=6)``, of 19,422,656 parameters, and of 128
    and 512 planes. ``dropout_prob``: inside of the MLPs, None for no Dropout.
    Source: Liu and others, "Pay attention to MLPs", 2021 (https://arxiv.org/abs/2105.08050).
    """
    planes, depth = row("gMLP", config, CONFIGS)
    block = partial(spatial_gating_block, norm_layer=norm_layer)
    own = {"activation": gelu_erf, "gate_norm_layer": LayerNormV2}
    return mixer(block, planes, depth, norm_layer=norm_layer, **{**own, **keywords})
