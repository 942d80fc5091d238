"""Layers: Metalhead's building blocks of models, also as ``from minitorch_flux import Layers``.

What is in capitals makes one layer, the other builders a list or a Chain of layers of the package. Images are (N, C, H, W),
tokens (N, L, C). Source: Metalhead.jl's ``Layers`` module.
"""

from __future__ import annotations

from types import FunctionType

from ...nn.layer_norms import LayerNormV2
from ...ops.dropblocks import dropblock, dropblock_gamma
from ...spelling import teach
from .attention_blocks import MHAttention
from .classifiers import create_classifier
from .connections import actadd, addact, cat_channels
from .convolutions import basic_conv_bn, conv_norm, dwsep_conv_norm
from .drops import DropBlock, StochasticDepth, linear_scheduler
from .embeddings import ClassTokens, PatchEmbedding, ViPosEmbedding
from .inverted_residuals import fused_mbconv, mbconv
from .mixers import mixerblock, resmixerblock, spatial_gating_block
from .mlps import SpatialGatingUnit, gated_mlp_block, mlp_block
from .norm_factories import norm_layers
from .normalisations import ChannelLayerNorm, LayerScale, prenorm
from .pools import AdaptiveMeanMaxPool, first_token, token_mean
from .squeeze_excites import effective_squeeze_excite, squeeze_excite
from .utilities import flatten_chains, inputscale, round_channels, swapdims

__all__ = [
    "AdaptiveMeanMaxPool",
    "ChannelLayerNorm",
    "ClassTokens",
    "DropBlock",
    "LayerNormV2",
    "LayerScale",
    "MHAttention",
    "PatchEmbedding",
    "SpatialGatingUnit",
    "StochasticDepth",
    "ViPosEmbedding",
    "actadd",
    "addact",
    "basic_conv_bn",
    "cat_channels",
    "conv_norm",
    "create_classifier",
    "dropblock",
    "dropblock_gamma",
    "dwsep_conv_norm",
    "effective_squeeze_excite",
    "first_token",
    "flatten_chains",
    "fused_mbconv",
    "gated_mlp_block",
    "inputscale",
    "linear_scheduler",
    "mbconv",
    "mixerblock",
    "mlp_block",
    "norm_layers",
    "prenorm",
    "resmixerblock",
    "round_channels",
    "spatial_gating_block",
    "squeeze_excite",
    "swapdims",
    "token_mean",
]

for _name in __all__:
    _value = globals()[_name]
    if isinstance(_value, FunctionType) and (_taught := teach(_value)) is not _value:
        _taught.__module__ = __name__  # where pickles find it
        globals()[_name] = _taught
