"""The feedforward blocks of vision transformers and mixers, and the spatial gate of gMLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...autograd import Tensor
from ...nn.chain import Chain
from ...nn.dense import Dense
from ...nn.dropouts import Dropout
from ...nn.initialisers import normal_init, ones
from ...nn.inputs import as_input, layer_name, whole
from ...nn.layer_norms import LayerNorm
from ...nn.module import Module
from ...ops.joining import chunk
from ...ops.nonlinearities import gelu, identity
from ...ops.shapes import swapaxes
from .norm_factories import norm_layers


def _dropout(p: float | None, rng: Any) -> Any:
    """Dropout, or identity for None."""
    return identity if p is None else Dropout(p, rng=rng if p else None)


def mlp_block(
    inplanes: int,
    hidden_planes: int,
    *,
    outplanes: int | None = None,
    dropout_prob: float | None = 0.0,
    activation: Callable[..., Any] = gelu,
    rng: Any = None,
) -> Chain:
    """mlp_block(inplanes, hidden_planes, *, outplanes=inplanes, dropout_prob=0.0, activation=gelu, rng=None)

    The feedforward block of mixers and vision transformers: a Dense layer to ``hidden_planes`` with ``activation``, Dropout,
    a Dense layer to ``outplanes``, Dropout; on the last axis. ``dropout_prob=None`` puts ``identity`` in Dropout's place.
    Source: Metalhead's ``Layers.mlp_block``.
    """
    outplanes = inplanes if outplanes is None else outplanes
    return Chain(
        Dense(inplanes, hidden_planes, activation, rng=rng),
        _dropout(dropout_prob, rng),
        Dense(hidden_planes, outplanes, rng=rng),
        _dropout(dropout_prob, rng),
    )


def gated_mlp_block(
    gate_layer: Callable[..., Any],
    inplanes: int,
    hidden_planes: int,
    *,
    outplanes: int | None = None,
    dropout_prob: float | None = 0.0,
    activation: Callable[..., Any] = gelu,
    rng: Any = None,
) -> Chain:
    """gated_mlp_block(gate_layer, inplanes, hidden_planes, *, outplanes=inplanes, dropout_prob=0.0, activation=gelu,
    rng=None)

    ``mlp_block`` with a gate between its Dense layers: ``gate_layer(hidden_planes)`` makes a layer that halves the number of
    features, such as ``SpatialGatingUnit``. ``gate_layer=identity`` gives ``mlp_block`` itself.

    Raises ValueError for odd ``hidden_planes``. Sources: Metalhead's ``Layers.gated_mlp_block``; Liu and others, "Pay
    attention to MLPs", 2021.
    """
    if gate_layer is identity:
        return mlp_block(inplanes, hidden_planes, outplanes=outplanes, dropout_prob=dropout_prob, activation=activation,
                         rng=rng)
    if hidden_planes % 2:
        raise ValueError(f"gated_mlp_block: hidden_planes must be even, the gate halves them, got {hidden_planes}")
    gate = gate_layer(hidden_planes)
    if not callable(gate):
        raise TypeError(f"gated_mlp_block: gate_layer makes a layer from the number of planes, it gave {gate!r}")
    return Chain(
        Dense(inplanes, hidden_planes, activation, rng=rng),
        _dropout(dropout_prob, rng),
        gate,
        Dense(hidden_planes // 2, inplanes if outplanes is None else outplanes, rng=rng),
        _dropout(dropout_prob, rng),
    )


class SpatialGatingUnit(Module):
    """SpatialGatingUnit(planes, npatches, *, norm_layer=LayerNorm, rng=None)

    The gate of gMLP: ``x`` (N, npatches, planes) is split into halves u and v along the planes, and ``y = u * proj(norm(v))``
    (N, npatches, planes / 2), where ``proj`` is a Dense layer along the patches.

    ``proj`` begins near the constant 1: weight (npatches, npatches) normal with a deviation of 1e-6, bias ones. ``norm`` is
    made by ``norm_layer`` for planes / 2. Raises ValueError for odd ``planes`` and for another number of patches.
    Sources: Metalhead's ``SpatialGatingUnit``; Liu and others, "Pay attention to MLPs", 2021.
    """

    def __init__(
        self, planes: int, npatches: int, *, norm_layer: Callable[..., Any] = LayerNorm, rng: Any = None
    ) -> None:
        self.planes = whole(planes, "SpatialGatingUnit: planes")
        if self.planes % 2:
            raise ValueError(f"SpatialGatingUnit: planes must be even, they are split into halves, got {planes}")
        self.npatches = whole(npatches, "SpatialGatingUnit: npatches")
        self.norm_layer = norm_layer
        self.norm = norm_layers(norm_layer, self.planes // 2)[0]
        self.proj = Dense(self.npatches, self.npatches, init=normal_init(std=1e-6), init_bias=ones, rng=rng)

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.proj.weight, self)
        if x.ndim != 3 or x.shape[1:] != (self.npatches, self.planes):
            raise ValueError(f"{layer_name(self)}: expected an input (N, {self.npatches}, {self.planes}): (N, patches, planes) "
                             f"(input shape {x.shape})")
        u, v = chunk(x, 2, axis=-1)
        return u * swapaxes(self.proj(swapaxes(self.norm(v), 1, 2)), 1, 2)
