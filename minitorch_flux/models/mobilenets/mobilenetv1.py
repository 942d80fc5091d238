"""MobileNetv1: depthwise separable convolutions, one after the other."""

from __future__ import annotations

from typing import Any

from ...ops.nonlinearities import relu6
from ..layers.convolutions import dwsep_conv_norm
from ..networks import Network
from .building import Stage, check_factor, inverted_residual_network

STAGES = [  # block, kernel, planes, expansion, stride, repeats
    Stage(dwsep_conv_norm, 3, 64, 1, 1, 1),
    Stage(dwsep_conv_norm, 3, 128, 1, 2, 2),
    Stage(dwsep_conv_norm, 3, 256, 1, 2, 2),
    Stage(dwsep_conv_norm, 3, 512, 1, 2, 6),
    Stage(dwsep_conv_norm, 3, 1024, 1, 2, 2),
]


def MobileNetv1(width_mult: float = 1, **keywords: Any) -> Network:
    """MobileNetv1(width_mult=1, *, inplanes=32, activation=relu6, norm_layer=BatchNorm, dropout_prob=None, inchannels=3,
    nclasses=1000, ...)

    MobileNetv1 with ``width_mult`` times the published planes, usually 0.25 to 1.4; the other keywords are
    ``inverted_residual_network``'s. ``MobileNetv1()`` has 4,231,976 parameters.
    Source: Howard and others, "MobileNets: efficient convolutional neural networks for mobile vision applications", 2017.
    """
    check_factor("MobileNetv1", "width_mult", width_mult)
    rows = {"width_mult": width_mult, "headplanes": None, "activation": relu6}
    return inverted_residual_network(STAGES, **{**rows, **keywords})
