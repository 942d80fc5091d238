"""MLPMixer: an MLP over the patches and an MLP over the planes, by turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...ops.nonlinearities import gelu_erf
from ..layers.mixers import mixerblock
from ..networks import Network, row
from .building import CONFIGS, mixer, token_norm


def MLPMixer(config: str = "base", *, norm_layer: Callable[..., Any] = token_norm, **keywords: Any) -> Network:
    """MLPMixer(config="base", *, mlp_ratio=(0.5, 4.0), dropout_prob=0.0, stochastic_depth_prob=0.0, activation=gelu_erf,
    norm_layer=LayerNormV2 with eps=1e-6, patch_size=(16, 16), imsize=(224, 224), inchannels=3, nclasses=1000, ...)

    MLPMixer of configuration "small" (512 planes, 8 blocks), "base" (768, 12), "large" (1024, 24) or "huge" (1280, 32); the
    keywords are ``mixer``'s and its block's, ``Layers.mixerblock``. ``MLPMixer("base")`` has 59,880,472 parameters.
    ``dropout_prob``: inside of the MLPs, None for no Dropout.
    Source: Tolstikhin and others, "MLP-Mixer: an all-MLP architecture for vision", 2021 (https://arxiv.org/abs/2105.01601).
    """
    planes, depth = row("MLPMixer", config, CONFIGS)
    block = partial(mixerblock, norm_layer=norm_layer)
    return mixer(block, planes, depth, norm_layer=norm_layer, **{"activation": gelu_erf, **keywords})
