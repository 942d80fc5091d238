"""Inception-v4: deeper and more uniform than Inception-v3."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...nn.pools import MeanPool
from ..networks import Network
from .plans import MAX, Plan, fork, inception, same, valid

MEAN = partial(MeanPool, (3, 3), stride=1, pad=1, count_include_pad=False)

STEM: Plan = [
    valid(3, 32, 2),
    valid(3, 32),
    same(3, 64),
    fork([MAX], [valid(3, 96, 2)]),
    fork([same(1, 64), valid(3, 96)], [same(1, 64), same((1, 7), 64), same((7, 1), 64), valid(3, 96)]),
    fork([valid(3, 192, 2)], [MAX]),
]
"""The paper's figure 3."""
BLOCK_A = fork([same(1, 96)], [same(1, 64), same(3, 96)], [same(1, 64), same(3, 96), same(3, 96)], [MEAN, same(1, 96)])
"""Figure 4."""
REDUCTION_A = fork([valid(3, 384, 2)], [same(1, 192), same(3, 224), valid(3, 256, 2)], [MAX])
"""Figure 7 with table 1: half of the size."""
BLOCK_B = fork(
    [same(1, 384)],
    [same(1, 192), same((1, 7), 224), same((7, 1), 256)],
    [same(1, 192), same((7, 1), 192), same((1, 7), 224), same((7, 1), 224), same((1, 7), 256)],
    [MEAN, same(1, 128)],
)
"""Figure 5."""
REDUCTION_B = fork(
    [same(1, 192), valid(3, 192, 2)],
    [same(1, 256), same((1, 7), 256), same((7, 1), 320), valid(3, 320, 2)],
    [MAX],
)
"""Figure 8: half of the size again."""
ENDS = fork([same((1, 3), 256)], [same((3, 1), 256)])
BLOCK_C = fork([same(1, 256)], [same(1, 384), ENDS], [same(1, 384), same((3, 1), 448), same((1, 3), 512), ENDS],
               [MEAN, same(1, 256)])
"""Figure 6."""

STAGES: dict[str, Plan] = {
    "stem": STEM,
    "stage1": [BLOCK_A] * 4,
    "stage2": [REDUCTION_A, *[BLOCK_B] * 7],
    "stage3": [REDUCTION_B, *[BLOCK_C] * 3],
}


def Inceptionv4(
    *,
    width_mult: float = 1.0,
    dropout_prob: float | None = None,
    imsize: tuple[int, int] = (299, 299),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """Inceptionv4(*, width_mult=1.0, dropout_prob=None, imsize=(299, 299), inchannels=3, nclasses=1000, rng=None)

    Inception-v4: a stem and sixteen blocks of branches; 42,679,816 parameters. ``width_mult``: multiplies all planes.
    ``dropout_prob``: before the classifier's Dense layer, None for none; the paper has 0.2. Nothing depends on ``imsize``,
    which is kept for whoever asks; images have at least 75 pixels each way.

    Source: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the impact of residual connections on
    learning", 2017 (https://arxiv.org/abs/1602.07261). The mean pools do not count their padding, as in the authors'
    implementation.
    """
    return inception("Inceptionv4", STAGES, width_mult=width_mult, dropout_prob=dropout_prob, imsize=imsize,
                     inchannels=inchannels, nclasses=nclasses, rng=rng)
