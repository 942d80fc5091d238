"""ChannelLayerNorm, LayerScale and prenorm. LayerNormV2 is the package's own, in nn/layer_norms.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...autograd import Param, Tensor
from ...backend import DEFAULT
from ...nn.chain import Chain
from ...nn.initialisers import ones, zeros
from ...nn.inputs import as_input, drawn, layer_name, whole
from ...nn.layer_norms import LayerNorm, check_activation
from ...nn.module import Module
from ...nn.scales import Scale
from ...ops.layer_norms import layer_norm
from ...ops.nonlinearities import identity
from .norm_factories import norm_layers


class ChannelLayerNorm(Module):
    """ChannelLayerNorm(sz, activation=identity, *, eps=1e-6)

    A variant of LayerNorm where the input is normalised along the channel axis: ``y = activation(weight * (x - mean) /
    sqrt(var + eps) + bias)`` with the mean and the (biased) variance of every pixel's ``sz`` channels.

    ``x`` (N, sz, H, W) keeps its shape. ``weight`` and ``bias`` (sz,), ones and zeros at first, are the learnable rescaling
    and shift. The same in train and test mode. Raises ValueError for another number of axes or channels.
    Source: Metalhead's ``Layers.ChannelLayerNorm``; ConvNeXt's norm between its stages.
    """

    stays_float32 = True

    def __init__(self, sz: int, activation: Callable[..., Any] = identity, *, eps: float = 1e-6) -> None:
        self.sz = whole(sz, "ChannelLayerNorm(sz): the number of channels")
        self.activation = check_activation("ChannelLayerNorm", activation)
        if not (isinstance(eps, int | float) and 0 <= eps < math.inf):
            raise ValueError(f"ChannelLayerNorm: eps must be 0 or a small positive number, got {eps!r}")
        self.eps = eps
        self.weight = Param(drawn(ones, (self.sz,), None, "ChannelLayerNorm"))
        self.bias = Param(drawn(zeros, (self.sz,), None, "ChannelLayerNorm"))

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.weight, self)
        if x.ndim != 4:
            raise ValueError(f"{layer_name(self)}: the input has {x.ndim} axes, expected 4, (N, channels, H, W) (input shape "
                             f"{x.shape})")
        if x.shape[1] != self.sz:
            raise ValueError(f"{layer_name(self)}: the input has {x.shape[1]} channels on axis 1, expected {self.sz} (input "
                             f"shape {x.shape})")
        y = layer_norm(x.transpose((0, 2, 3, 1)), self.weight, self.bias, ndim=1, eps=self.eps, eps_inside=True)
        return self.activation(y.transpose((0, 3, 1, 2)))


class LayerScale(Scale):
    """LayerScale(planes, lambda_)

    A ``Scale`` without bias that begins at ``lambda_``, a small number: ``y = weight * x``, ``weight`` (planes,).

    It scales the last axis of ``x`` (..., planes), so that a residual branch contributes little at first. ``lambda_`` None,
    0 or below gives ``identity``: no layer at all. Sources: Metalhead's ``Layers.LayerScale``; Touvron and others, "Going
    deeper with image transformers", 2021.
    """

    def __new__(cls, planes: Any = None, lambda_: Any = 1.0) -> Any:
        """``identity`` in place of a layer that is off."""
        if lambda_ is None:
            return identity
        if isinstance(lambda_, bool) or not isinstance(lambda_, int | float | np.number):
            raise TypeError(f"LayerScale(planes, lambda_): lambda_ is a number, the first value of the scale, got {lambda_!r}")
        return super().__new__(cls) if lambda_ > 0 else identity

    def __init__(self, planes: int, lambda_: Any) -> None:
        self.lambda_ = float(lambda_)
        size = whole(planes, "LayerScale(planes, lambda_): the number of planes")
        super().__init__(size, bias=False, init=partial(_filled, self.lambda_))

    @property
    def planes(self) -> int:
        """The size of the axis that is scaled."""
        return self.size

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.planes, self.lambda_], {}


def _filled(value: float, *shape: int) -> Any:
    return np.full(shape, value, DEFAULT)


def prenorm(planes: int, block: Callable[..., Any], *, norm_layer: Callable[..., Any] = LayerNorm) -> Chain:
    """prenorm(planes, block, *, norm_layer=LayerNorm)

    A normalisation layer before a block: ``Chain(norm_layer(planes), block)``. ``norm_layer`` as in ``conv_norm``.
    Source: Metalhead's ``Layers.prenorm``.
    """
    return Chain(*norm_layers(norm_layer, planes), block)
