"""Squeeze and excitation: every channel of an image is multiplied by a gate that has seen all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...nn.chain import Chain
from ...nn.combinations import SkipConnection
from ...nn.convolutions import Conv
from ...nn.inputs import whole
from ...nn.pools import AdaptiveMeanPool
from ...ops.arithmetic import multiply
from ...ops.nonlinearities import identity, relu, sigmoid
from .convolutions import conv_norm
from .utilities import round_channels


def squeeze_excite(
    inplanes: int,
    squeeze_planes: int | None = None,
    *,
    reduction: float = 16,
    round_fn: Callable[[Any], Any] = round_channels,
    norm_layer: Callable[..., Any] = identity,
    activation: Callable[..., Any] = relu,
    gate_activation: Callable[..., Any] = sigmoid,
    rng: Any = None,
) -> SkipConnection:
    """squeeze_excite(inplanes, squeeze_planes=None, *, reduction=16, round_fn=round_channels, norm_layer=identity,
    activation=relu, gate_activation=sigmoid, rng=None)

    A squeeze-and-excitation layer: ``y = x * gate``, where the gate (N, inplanes, 1, 1) is the mean of every channel after a
    1x1 convolution to ``squeeze_planes`` with ``activation`` and one back with ``gate_activation``, both ``conv_norm``.

    ``squeeze_planes`` is by default ``round_fn(inplanes / reduction)``. ``x`` (N, inplanes, H, W) keeps its shape.
    Sources: Metalhead's ``Layers.squeeze_excite``; Hu and others, "Squeeze-and-excitation networks", 2018.
    """
    inplanes = whole(inplanes, "squeeze_excite: inplanes")
    if squeeze_planes is None:
        if not reduction > 0:
            raise ValueError(f"squeeze_excite: reduction must be positive, got {reduction!r}")
        squeeze_planes = int(round_fn(inplanes / reduction))
        if squeeze_planes < 1:
            raise ValueError(f"squeeze_excite: {inplanes} planes reduced by {reduction} leave {squeeze_planes}, expected at "
                             "least 1; give a smaller reduction, or squeeze_planes")
    elif whole(squeeze_planes, "squeeze_excite: squeeze_planes") < 1:
        raise ValueError(f"squeeze_excite: squeeze_planes must be at least 1, got {squeeze_planes}")
    squeeze = conv_norm((1, 1), inplanes, squeeze_planes, activation, norm_layer=norm_layer, rng=rng)
    excite = conv_norm((1, 1), squeeze_planes, inplanes, gate_activation, norm_layer=norm_layer, rng=rng)
    return SkipConnection(Chain(AdaptiveMeanPool((1, 1)), *squeeze, *excite), multiply)


def effective_squeeze_excite(
    inplanes: int, gate_activation: Callable[..., Any] = sigmoid, *, rng: Any = None
) -> SkipConnection:
    """effective_squeeze_excite(inplanes, gate_activation=sigmoid, *, rng=None)

    Squeeze and excitation with one 1x1 convolution that keeps the number of channels, so that nothing is lost on the way.
    Sources: Metalhead's ``Layers.effective_squeeze_excite``; Lee and Park, "CenterMask", 2020.
    """
    gate = Conv((1, 1), inplanes, inplanes, gate_activation, rng=rng)
    return SkipConnection(Chain(AdaptiveMeanPool((1, 1)), gate), multiply)
