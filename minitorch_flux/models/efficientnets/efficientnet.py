"""EfficientNet: one network that grows in width, depth and resolution together."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...nn.norms import BatchNorm
from ...ops.nonlinearities import swish
from ..layers.inverted_residuals import mbconv
from ..mobilenets.building import Stage, check_factor, inverted_residual_network, widened
from ..networks import Network, row

STAGES = [  # block, kernel, planes, expansion, stride, repeats, reduction
    Stage(mbconv, 3, 16, 1, 1, 1, 4),
    Stage(mbconv, 3, 24, 6, 2, 2, 4),
    Stage(mbconv, 5, 40, 6, 2, 2, 4),
    Stage(mbconv, 3, 80, 6, 2, 3, 4),
    Stage(mbconv, 5, 112, 6, 1, 3, 4),
    Stage(mbconv, 5, 192, 6, 2, 4, 4),
    Stage(mbconv, 3, 320, 6, 1, 1, 4),
]
"""Of b0; the others are scaled."""

EFFICIENTNETS = {  # imsize, width_mult, depth_mult, dropout_prob, eps
    "b0": (224, 1.0, 1.0, 0.2, 1e-5),
    "b1": (240, 1.0, 1.1, 0.2, 1e-5),
    "b2": (260, 1.1, 1.2, 0.3, 1e-5),
    "b3": (300, 1.2, 1.4, 0.3, 1e-5),
    "b4": (380, 1.4, 1.8, 0.4, 1e-5),
    "b5": (456, 1.6, 2.2, 0.4, 1e-3),
    "b6": (528, 1.8, 2.6, 0.5, 1e-3),
    "b7": (600, 2.0, 3.1, 0.5, 1e-3),
    "b8": (672, 2.2, 3.6, 0.5, 1e-3),
}


def EfficientNet(config: str, **keywords: Any) -> Network:
    """EfficientNet(config, *, norm_layer=BatchNorm, stochastic_depth_prob=0.2, dropout_prob=0.2, inchannels=3,
    nclasses=1000, ...)

    EfficientNet of configuration "b0" to "b8", each for images of its own size, 224 to 672 pixels; the keywords are
    ``inverted_residual_network``'s. ``EfficientNet("b0")`` has 5,288,548 parameters.

    The factors of a configuration may be given, ``width_mult=2.0, depth_mult=3.1`` makes a "b7" of any; the head's 1280
    planes grow with a ``width_mult`` above 1. ``dropout_prob`` is 0.2 to 0.5, None for no Dropout. Padding and the ``eps``
    of the norms (1e-5, from "b5" on 1e-3) are those of the weights that are published for PyTorch; TensorFlow's weights
    want ``pad=SamePad("upper")`` and ``norm_layer=partial(BatchNorm, eps=1e-3)``.
    Source: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019.
    """
    imsize, width, depth, dropout, eps = row("EfficientNet", config, EFFICIENTNETS)
    check_factor("EfficientNet", "width_mult", width := keywords.get("width_mult", width))
    rows = {
        "width_mult": width, "depth_mult": depth, "headplanes": widened(1280, width), "activation": swish,
        "norm_layer": BatchNorm if eps == 1e-5 else partial(BatchNorm, eps=eps),
        "stochastic_depth_prob": 0.2, "dropout_prob": dropout, "imsize": (imsize, imsize),
    }  # fmt: skip
    return inverted_residual_network(STAGES, **{**rows, **keywords})
