"""MobileNetv2: inverted residual blocks, wide inside and narrow between."""

from __future__ import annotations

from typing import Any

from ...ops.nonlinearities import relu6
from ..layers.inverted_residuals import mbconv
from ..networks import Network
from .building import Stage, check_factor, inverted_residual_network, widened

STAGES = [  # block, kernel, planes, expansion, stride, repeats
    Stage(mbconv, 3, 16, 1, 1, 1),
    Stage(mbconv, 3, 24, 6, 2, 2),
    Stage(mbconv, 3, 32, 6, 2, 3),
    Stage(mbconv, 3, 64, 6, 2, 4),
    Stage(mbconv, 3, 96, 6, 1, 3),
    Stage(mbconv, 3, 160, 6, 2, 3),
    Stage(mbconv, 3, 320, 6, 1, 1),
]


def MobileNetv2(width_mult: float = 1, *, max_width: int = 1280, **keywords: Any) -> Network:
    """MobileNetv2(width_mult=1, *, max_width=1280, inplanes=32, activation=relu6, norm_layer=BatchNorm, dropout_prob=0.2,
    inchannels=3, nclasses=1000, ...)

    MobileNetv2 with ``width_mult`` times the published planes, usually 0.35 to 1.4; the other keywords are
    ``inverted_residual_network``'s. ``MobileNetv2()`` has 3,504,872 parameters.

    The head has ``max_width`` planes, which a ``width_mult`` above 1 scales, too, as in the paper and in the published
    weights. Metalhead's does not: ``headplanes=1280`` gives its head for any ``width_mult``.
    Source: Sandler and others, "MobileNetV2: inverted residuals and linear bottlenecks", 2018.
    """
    check_factor("MobileNetv2", "width_mult", width_mult)
    rows = {
        "width_mult": width_mult, "headplanes": widened(max_width, width_mult), "activation": relu6, "dropout_prob": 0.2,
    }  # fmt: skip
    return inverted_residual_network(STAGES, **{**rows, **keywords})
