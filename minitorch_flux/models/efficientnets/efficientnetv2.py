"""EfficientNetv2: EfficientNet whose first stages have fused blocks, which train faster."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...nn.norms import BatchNorm
from ...ops.nonlinearities import swish
from ..layers.inverted_residuals import fused_mbconv, mbconv
from ..mobilenets.building import Stage, inverted_residual_network
from ..networks import Network, row

EFFICIENTNETV2S: dict[str, tuple[int, float, list[Stage]]] = {  # imsize, dropout_prob, stages
    "small": (384, 0.2, [  # block, kernel, planes, expansion, stride, repeats, reduction
        Stage(fused_mbconv, 3, 24, 1, 1, 2),
        Stage(fused_mbconv, 3, 48, 4, 2, 4),
        Stage(fused_mbconv, 3, 64, 4, 2, 4),
        Stage(mbconv, 3, 128, 4, 2, 6, 4),
        Stage(mbconv, 3, 160, 6, 1, 9, 4),
        Stage(mbconv, 3, 256, 6, 2, 15, 4),
    ]),
    "medium": (480, 0.3, [
        Stage(fused_mbconv, 3, 24, 1, 1, 3),
        Stage(fused_mbconv, 3, 48, 4, 2, 5),
        Stage(fused_mbconv, 3, 80, 4, 2, 5),
        Stage(mbconv, 3, 160, 4, 2, 7, 4),
        Stage(mbconv, 3, 176, 6, 1, 14, 4),
        Stage(mbconv, 3, 304, 6, 2, 18, 4),
        Stage(mbconv, 3, 512, 6, 1, 5, 4),
    ]),
    "large": (480, 0.4, [
        Stage(fused_mbconv, 3, 32, 1, 1, 4),
        Stage(fused_mbconv, 3, 64, 4, 2, 7),
        Stage(fused_mbconv, 3, 96, 4, 2, 7),
        Stage(mbconv, 3, 192, 4, 2, 10, 4),
        Stage(mbconv, 3, 224, 6, 1, 19, 4),
        Stage(mbconv, 3, 384, 6, 2, 25, 4),
        Stage(mbconv, 3, 640, 6, 1, 7, 4),
    ]),
    "xlarge": (512, 0.4, [
        Stage(fused_mbconv, 3, 32, 1, 1, 4),
        Stage(fused_mbconv, 3, 64, 4, 2, 8),
        Stage(fused_mbconv, 3, 96, 4, 2, 8),
        Stage(mbconv, 3, 192, 4, 2, 16, 4),
        Stage(mbconv, 3, 256, 6, 1, 24, 4),
        Stage(mbconv, 3, 512, 6, 2, 32, 4),
        Stage(mbconv, 3, 640, 6, 1, 8, 4),
    ]),
}  # fmt: skip


def EfficientNetv2(config: str, **keywords: Any) -> Network:
    """EfficientNetv2(config, *, norm_layer=BatchNorm with eps=1e-3, stochastic_depth_prob=0.2, dropout_prob=0.2,
    inchannels=3, nclasses=1000, ...)

    EfficientNetv2 "small", "medium", "large" or "xlarge", for images of 384, 480, 480 and 512 pixels; the keywords are
    ``inverted_residual_network``'s. ``EfficientNetv2("small")`` has 21,458,488 parameters.

    ``dropout_prob`` is 0.2 to 0.4, None for no Dropout; ``width_mult`` scales all but the head's 1280 planes. "xlarge" has
    the published 256 and 640 planes in its fifth and last stage, 208,119,808 parameters; Metalhead's has 384 and 768, which
    no published weights fit.
    Source: Tan and Le, "EfficientNetV2: smaller models and faster training", 2021.
    """
    imsize, dropout, stages = row("EfficientNetv2", config, EFFICIENTNETV2S)
    rows = {
        "inplanes": stages[0].planes, "activation": swish, "norm_layer": partial(BatchNorm, eps=1e-3),
        "stochastic_depth_prob": 0.2, "dropout_prob": dropout, "imsize": (imsize, imsize),
    }  # fmt: skip
    return inverted_residual_network(stages, **{**rows, **keywords})
