"""ResMLP: a Dense layer over the patches and an MLP over the planes, with scales in the place of norms."""

from __future__ import annotations

from typing import Any

from ...nn.scales import Scale
from ...ops.nonlinearities import gelu_erf
from ..layers.mixers import resmixerblock
from ..networks import Network, row
from .building import CONFIGS, mixer


def ResMLP(config: str = "base", **keywords: Any) -> Network:
    """ResMLP(config="base", *, mlp_ratio=4.0, layerscale_init=1e-4, dropout_prob=0.0, stochastic_depth_prob=0.0,
    activation=gelu_erf, norm_layer=Scale, patch_size=(16, 16), imsize=(224, 224), inchannels=3, nclasses=1000, ...)

    ResMLP of configuration "small" (512 planes, 8 blocks), "base" (768, 12), "large" (1024, 24) or "huge" (1280, 32); the
    keywords are ``mixer``'s and its block's, ``Layers.resmixerblock``. ``ResMLP("base")`` has 58,548,952 parameters. The
    paper's networks are ``mixer(resmixerblock, 384, 12)``, of 15,350,872 parameters, and deeper ones; their
    ``layerscale_init`` is 0.1, 1e-5 and 1e-6 for a depth of 12, 24 and 36. ``norm_layer`` is the last norm.
    Source: Touvron and others, "ResMLP: feedforward networks for image classification with data-efficient training", 2021
    (https://arxiv.org/abs/2105.03404).
    """
    planes, depth = row("ResMLP", config, CONFIGS)
    return mixer(resmixerblock, planes, depth, **{"activation": gelu_erf, "norm_layer": Scale, **keywords})
