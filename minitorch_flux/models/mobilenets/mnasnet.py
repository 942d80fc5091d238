"""MNASNet: inverted residual blocks found by search on a phone."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...nn.norms import BatchNorm
from ..layers.inverted_residuals import mbconv
from ..networks import Network, row
from .building import Stage, check_factor, inverted_residual_network

MNASNETS: dict[str, tuple[int, list[Stage]]] = {  # inplanes, stages
    "B1": (32, [  # block, kernel, planes, expansion, stride, repeats, reduction
        Stage(mbconv, 3, 16, 1, 1, 1),
        Stage(mbconv, 3, 24, 3, 2, 3),
        Stage(mbconv, 5, 40, 3, 2, 3),
        Stage(mbconv, 5, 80, 6, 2, 3),
        Stage(mbconv, 3, 96, 6, 1, 2),
        Stage(mbconv, 5, 192, 6, 2, 4),
        Stage(mbconv, 3, 320, 6, 1, 1),
    ]),
    "A1": (32, [
        Stage(mbconv, 3, 16, 1, 1, 1),
        Stage(mbconv, 3, 24, 6, 2, 2),
        Stage(mbconv, 5, 40, 3, 2, 3, 4),
        Stage(mbconv, 3, 80, 6, 2, 4),
        Stage(mbconv, 3, 112, 6, 1, 2, 4),
        Stage(mbconv, 5, 160, 6, 2, 3, 4),
        Stage(mbconv, 3, 320, 6, 1, 1),
    ]),
    "small": (8, [
        Stage(mbconv, 3, 8, 1, 1, 1),
        Stage(mbconv, 3, 16, 3, 2, 1),
        Stage(mbconv, 3, 16, 6, 2, 2),
        Stage(mbconv, 5, 32, 6, 2, 4, 4),
        Stage(mbconv, 3, 32, 6, 1, 3, 4),
        Stage(mbconv, 5, 88, 6, 2, 3, 4),
        Stage(mbconv, 3, 144, 6, 1, 1),
    ]),
}  # fmt: skip


def MNASNet(config: str, *, width_mult: float = 1, max_width: int = 1280, **keywords: Any) -> Network:
    """MNASNet(config, *, width_mult=1, max_width=1280, inplanes=32, norm_layer=BatchNorm with momentum=0.0003,
    dropout_prob=0.2, inchannels=3, nclasses=1000, ...)

    MNASNet "B1", "A1" (with squeeze and excitation) or "small" (``inplanes=8``), with ``width_mult`` times the published
    planes, but always ``max_width`` in the head. The other keywords are ``inverted_residual_network``'s. "B1" has 4,383,312
    parameters, "A1" 3,887,038, "small" 2,030,264.

    The first block is an inverted residual block without expansion: no activation after its second convolution.
    Source: Tan and others, "MnasNet: platform-aware neural architecture search for mobile", 2019.
    """
    check_factor("MNASNet", "width_mult", width_mult)
    stem, stages = row("MNASNet", config, MNASNETS)
    rows = {
        "width_mult": width_mult, "inplanes": stem, "headplanes": max_width, "dropout_prob": 0.2,
        "norm_layer": partial(BatchNorm, momentum=0.0003),
    }  # fmt: skip
    return inverted_residual_network(stages, **{**rows, **keywords})
