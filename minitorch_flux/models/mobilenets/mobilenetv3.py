"""MobileNetv3: inverted residual blocks found by search, with hardswish and squeeze and excitation."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...nn.norms import BatchNorm
from ...ops.nonlinearities import hardsigmoid, hardswish, relu
from ..layers.inverted_residuals import mbconv
from ..layers.utilities import round_channels
from ..networks import Network, row
from .building import Stage, check_factor, inverted_residual_network, widened

MOBILENETV3S: dict[str, tuple[int, list[Stage]]] = {  # hidden_planes, stages
    "small": (1024, [  # block, kernel, planes, expansion, stride, repeats, reduction, activation
        Stage(mbconv, 3, 16, 1, 2, 1, 4, relu),
        Stage(mbconv, 3, 24, 72 / 16, 2, 1, None, relu),
        Stage(mbconv, 3, 24, 88 / 24, 1, 1, None, relu),
        Stage(mbconv, 5, 40, 4, 2, 1, 4),
        Stage(mbconv, 5, 40, 6, 1, 2, 4),
        Stage(mbconv, 5, 48, 3, 1, 2, 4),
        Stage(mbconv, 5, 96, 6, 2, 1, 4),
        Stage(mbconv, 5, 96, 6, 1, 2, 4),
    ]),
    "large": (1280, [
        Stage(mbconv, 3, 16, 1, 1, 1, None, relu),
        Stage(mbconv, 3, 24, 4, 2, 1, None, relu),
        Stage(mbconv, 3, 24, 3, 1, 1, None, relu),
        Stage(mbconv, 5, 40, 3, 2, 1, 4, relu),
        Stage(mbconv, 5, 40, 3, 1, 2, 4, relu),
        Stage(mbconv, 3, 80, 6, 2, 1),
        Stage(mbconv, 3, 80, 200 / 80, 1, 1),
        Stage(mbconv, 3, 80, 184 / 80, 1, 2),
        Stage(mbconv, 3, 112, 6, 1, 2, 4),
        Stage(mbconv, 5, 160, 6, 2, 1, 4),
        Stage(mbconv, 5, 160, 6, 1, 2, 4),
    ]),
}  # fmt: skip


def MobileNetv3(config: str, *, width_mult: float = 1, max_width: int | None = None, **keywords: Any) -> Network:
    """MobileNetv3(config, *, width_mult=1, max_width=1024 or 1280, inplanes=16, norm_layer=BatchNorm with eps=1e-3 and
    momentum=0.01, dropout_prob=0.2, inchannels=3, nclasses=1000, ...)

    MobileNetv3 "small" or "large" with ``width_mult`` times the published planes. The classifier has a hidden layer of
    ``max_width`` (1024, 1280), which a ``width_mult`` above 1 scales, too. The other keywords are
    ``inverted_residual_network``'s. "small" has 2,542,856 parameters, "large" 5,483,032.
    Source: Howard and others, "Searching for MobileNetV3", 2019.
    """
    hidden, stages = row("MobileNetv3", config, MOBILENETV3S)
    check_factor("MobileNetv3", "width_mult", width_mult)
    last = stages[-1]
    rows = {
        "width_mult": width_mult, "inplanes": 16, "hidden_planes": widened(max_width or hidden, width_mult),
        "headplanes": round_channels(round_channels(last.planes * width_mult) * last.expansion),
        "activation": hardswish, "norm_layer": partial(BatchNorm, eps=1e-3, momentum=0.01), "se_from_explanes": True,
        "se_round_fn": round_channels, "se_activation": relu, "gate_activation": hardsigmoid, "dropout_prob": 0.2,
    }  # fmt: skip
    return inverted_residual_network(stages, **{**rows, **keywords})
