"""EfficientNet-Lite: EfficientNet for small devices, without squeeze and excitation, with relu6."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from ...nn.norms import BatchNorm
from ...ops.geometry import SamePad
from ...ops.nonlinearities import relu6
from ..layers.utilities import round_channels
from ..mobilenets.building import check_factor, inverted_residual_network
from ..networks import Network, row
from .efficientnet import STAGES

EFFICIENTNET_LITES = {  # imsize, width_mult, depth_mult, dropout_prob
    "lite0": (224, 1.0, 1.0, 0.2),
    "lite1": (240, 1.0, 1.1, 0.2),
    "lite2": (260, 1.1, 1.2, 0.3),
    "lite3": (280, 1.2, 1.4, 0.3),
    "lite4": (300, 1.4, 1.8, 0.3),
}


def EfficientNetLite(config: str = "lite0", **keywords: Any) -> Network:
    """EfficientNetLite(config="lite0", *, norm_layer=BatchNorm with eps=1e-3, stochastic_depth_prob=0.2, dropout_prob=0.2,
    inchannels=3, nclasses=1000, ...)

    EfficientNet-Lite of configuration "lite0" to "lite4", for images of 224, 240, 260, 280 and 300 pixels; the keywords are
    ``inverted_residual_network``'s. ``EfficientNetLite("lite0")`` has 4,652,008 parameters.

    ``EfficientNet`` with relu6 and without squeeze and excitation. The factors ``width_mult`` and ``depth_mult`` are a
    configuration's, but may be given; they leave stem (32 planes), head (1280) and the number of blocks in the first and the
    last stage as they are. Padding is TensorFlow's, ``SamePad("upper")``, as
    the published weights want it. ``dropout_prob`` is 0.2, and 0.3 from "lite2" on; None for no Dropout.
    Source: "EfficientNet-lite", the authors' repository of EfficientNets, 2020.
    """
    imsize, width, depth, dropout = row("EfficientNetLite", config, EFFICIENTNET_LITES)
    check_factor("EfficientNetLite", "width_mult", width := keywords.pop("width_mult", width))
    check_factor("EfficientNetLite", "depth_mult", depth := keywords.pop("depth_mult", depth))
    stages = [stage._replace(planes=round_channels(stage.planes * width), reduction=None) for stage in STAGES]
    stages[1:-1] = [stage._replace(repeats=math.ceil(stage.repeats * depth)) for stage in stages[1:-1]]
    rows = {
        "activation": relu6, "norm_layer": partial(BatchNorm, eps=1e-3), "pad": SamePad("upper"),
        "stochastic_depth_prob": 0.2, "dropout_prob": dropout, "imsize": (imsize, imsize),
    }  # fmt: skip
    return inverted_residual_network(stages, **{**rows, **keywords})
