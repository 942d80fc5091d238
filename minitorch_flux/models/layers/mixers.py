"""The blocks of MLPMixer, ResMLP and gMLP, on tokens (N, patches, planes): residual branches over patches and planes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...nn.chain import Chain
from ...nn.combinations import SkipConnection
from ...nn.dense import Dense
from ...nn.layer_norms import LayerNorm
from ...nn.scales import Scale
from ...ops.arithmetic import add
from ...ops.nonlinearities import gelu
from .drops import StochasticDepth
from .mlps import SpatialGatingUnit, gated_mlp_block, mlp_block
from .norm_factories import norm_layers
from .normalisations import LayerScale
from .utilities import swapdims


def _where_given(rng: Any) -> dict[str, Any]:
    """The keyword ``rng``, where there is one: an ``mlp_layer`` that draws nothing need not take it."""
    return {} if rng is None else {"rng": rng}


def mixerblock(
    planes: int,
    npatches: int,
    *,
    mlp_ratio: tuple[float, float] = (0.5, 4.0),
    mlp_layer: Callable[..., Any] = mlp_block,
    norm_layer: Callable[..., Any] = LayerNorm,
    dropout_prob: float | None = 0.0,
    stochastic_depth_prob: float | None = 0.0,
    activation: Callable[..., Any] = gelu,
    rng: Any = None,
) -> Chain:
    """A block of MLPMixer: an MLP over the patches, then one over the planes, each on a residual branch after a norm.

    ``mlp_ratio``: the hidden sizes of the two, as shares of ``planes``. ``mlp_layer`` is called as ``mlp_block`` is.
    Sources: Metalhead's ``mixerblock``; Tolstikhin and others, "MLP-Mixer", 2021.
    """
    tokens, channels = (int(planes * ratio) for ratio in mlp_ratio)
    keywords = {"dropout_prob": dropout_prob, "activation": activation, **_where_given(rng)}
    swap = swapdims((0, 2, 1))
    over_patches = [*norm_layers(norm_layer, planes), swap, mlp_layer(npatches, tokens, **keywords), swap]
    over_planes = [*norm_layers(norm_layer, planes), mlp_layer(planes, channels, **keywords)]
    drops = [StochasticDepth(stochastic_depth_prob, rng=rng) for _ in range(2)]
    return Chain(
        SkipConnection(Chain(*over_patches, drops[0]), add),
        SkipConnection(Chain(*over_planes, drops[1]), add),
    )


def resmixerblock(
    planes: int,
    npatches: int,
    *,
    mlp_ratio: float = 4.0,
    mlp_layer: Callable[..., Any] = mlp_block,
    layerscale_init: float | None = 1e-4,
    dropout_prob: float | None = 0.0,
    stochastic_depth_prob: float | None = 0.0,
    activation: Callable[..., Any] = gelu,
    rng: Any = None,
) -> Chain:
    """A block of ResMLP: a Dense layer over the patches, then an MLP over the planes, each on a residual branch between an
    affine ``Scale`` and a ``LayerScale`` that begins at ``layerscale_init``.

    Sources: Metalhead's ``resmixerblock``; Touvron and others, "ResMLP", 2021.
    """
    swap = swapdims((0, 2, 1))
    mlp = mlp_layer(planes, int(planes * mlp_ratio), dropout_prob=dropout_prob, activation=activation, **_where_given(rng))
    over_patches = [swap, Dense(npatches, npatches, rng=rng), swap]
    branches = [
        Chain(Scale(planes), *layers, LayerScale(planes, layerscale_init), StochasticDepth(stochastic_depth_prob, rng=rng))
        for layers in (over_patches, [mlp])
    ]
    return Chain(*(SkipConnection(branch, add) for branch in branches))


def spatial_gating_block(
    planes: int,
    npatches: int,
    *,
    mlp_ratio: float = 4.0,
    mlp_layer: Callable[..., Any] = gated_mlp_block,
    norm_layer: Callable[..., Any] = LayerNorm,
    gate_norm_layer: Callable[..., Any] | None = None,
    dropout_prob: float | None = 0.0,
    stochastic_depth_prob: float | None = 0.0,
    activation: Callable[..., Any] = gelu,
    rng: Any = None,
) -> SkipConnection:
    """A block of gMLP: a norm and an MLP with a ``SpatialGatingUnit`` on a residual branch.

    ``mlp_layer`` is called as ``gated_mlp_block`` is. ``gate_norm_layer``: of the gate, by default ``norm_layer``. With a
    ``mlp_ratio`` of 6 it is the paper's.
    Sources: Metalhead's ``spatial_gating_block``; Liu and others, "Pay attention to MLPs", 2021.
    """
    gate = partial(SpatialGatingUnit, npatches=npatches, norm_layer=gate_norm_layer or norm_layer, rng=rng)
    keywords = {"dropout_prob": dropout_prob, "activation": activation, **_where_given(rng)}
    mlp = mlp_layer(gate, planes, int(planes * mlp_ratio), **keywords)
    return SkipConnection(Chain(*norm_layers(norm_layer, planes), mlp, StochasticDepth(stochastic_depth_prob, rng=rng)), add)
