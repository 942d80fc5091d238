"""mbconv and fused_mbconv: the inverted residual blocks of MobileNets and EfficientNets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...nn.chain import Chain
from ...nn.norms import BatchNorm
from ...ops.geometry import SamePad
from ...ops.nonlinearities import hardsigmoid, identity, relu
from ..networks import named_layers
from .convolutions import conv_norm
from .squeeze_excites import squeeze_excite


def mbconv(
    kernel_size: Any,
    inplanes: int,
    explanes: int,
    outplanes: int,
    activation: Callable[..., Any] = relu,
    *,
    stride: int,
    reduction: float | None = None,
    se_round_fn: Callable[[Any], Any] = round,
    se_activation: Callable[..., Any] | None = None,
    gate_activation: Callable[..., Any] = hardsigmoid,
    norm_layer: Callable[..., Any] = BatchNorm,
    pad: Any = None,
    **keywords: Any,
) -> Chain:
    """mbconv(kernel_size, inplanes, explanes, outplanes, activation=relu, *, stride, reduction=None, se_round_fn=round,
    se_activation=None, gate_activation=hardsigmoid, norm_layer=BatchNorm, pad=SamePad(), ...)

    An inverted residual block: a 1x1 convolution to ``explanes``, left out where they are ``inplanes``; a depthwise one of
    ``kernel_size``; squeeze and excitation where there is a ``reduction``; a 1x1 convolution to ``outplanes`` without
    activation. Each convolution is a ``conv_norm``; they are named expand, depthwise and project: ``m.expand_conv``. **The
    residual connection is not part of it**: for ``stride`` 1 and ``inplanes == outplanes`` write
    ``SkipConnection(mbconv(...), add)``.

    ``reduction``: ``se_round_fn(explanes / reduction)`` channels are left in the squeeze-and-excitation layer, whose inner
    activation is ``se_activation`` (by default ``activation``) and whose gate is ``gate_activation``. ``stride`` 1 or 2.
    Other keywords (``init``, ``rng``) go to all convolutions.
    Sources: Metalhead's ``Layers.mbconv``; Sandler and others, "MobileNetV2", 2018.
    """
    _check_stride("mbconv", stride)
    every = {"norm_layer": norm_layer, **keywords}
    layers: dict[str, Any] = {}
    if inplanes != explanes:
        layers |= _named("expand", conv_norm((1, 1), inplanes, explanes, activation, **every), activation)
    depthwise = conv_norm(kernel_size, explanes, explanes, activation, stride=stride, groups=explanes,
                          pad=SamePad() if pad is None else pad, **every)
    layers |= _named("depthwise", depthwise, activation)
    if reduction is not None:
        inner = activation if se_activation is None else se_activation
        layers["squeeze_excite"] = squeeze_excite(explanes, reduction=reduction, round_fn=se_round_fn, activation=inner,
                                                  gate_activation=gate_activation, rng=keywords.get("rng"))
    return Chain(**layers, **_named("project", conv_norm((1, 1), explanes, outplanes, identity, **every), identity))


def fused_mbconv(
    kernel_size: Any,
    inplanes: int,
    explanes: int,
    outplanes: int,
    activation: Callable[..., Any] = relu,
    *,
    stride: int,
    norm_layer: Callable[..., Any] = BatchNorm,
    pad: Any = None,
    **keywords: Any,
) -> Chain:
    """fused_mbconv(kernel_size, inplanes, explanes, outplanes, activation=relu, *, stride, norm_layer=BatchNorm,
    pad=SamePad(), ...)

    A fused inverted residual block: one convolution of ``kernel_size`` to ``explanes`` in place of ``mbconv``'s first two,
    then a 1x1 convolution to ``outplanes`` without activation. Where ``explanes == inplanes`` nothing is expanded: one
    convolution of ``kernel_size`` to ``outplanes`` with activation. The residual connection is not part of it.

    ``stride`` 1 or 2. The convolutions are named fused and project: ``m.fused_conv``.
    Sources: Metalhead's ``Layers.fused_mbconv``; Tan and Le, "EfficientNetV2", 2021.
    """
    _check_stride("fused_mbconv", stride)
    every = {"norm_layer": norm_layer, **keywords}
    expanded = outplanes if explanes == inplanes else explanes
    fused = conv_norm(kernel_size, inplanes, expanded, activation, stride=stride, pad=SamePad() if pad is None else pad,
                      **every)
    layers = _named("fused", fused, activation)
    if explanes != inplanes:
        layers |= _named("project", conv_norm((1, 1), explanes, outplanes, identity, **every), identity)
    return Chain(**layers)


def _named(role: str, layers: list[Any], activation: Any) -> dict[str, Any]:
    """The layers of a ``conv_norm`` by name, such as expand_conv and expand_norm: keys that no option moves."""
    return {f"{role}_{name}": layer for name, layer in named_layers(layers, activation).items()}


def _check_stride(name: str, stride: Any) -> None:
    if stride not in (1, 2):
        raise ValueError(f"{name}: stride has to be 1 or 2, got {stride!r}")
