"""Inception-ResNet-v2: Inception blocks as the branches of residual ones."""

from __future__ import annotations

from typing import Any

from ...ops.nonlinearities import identity
from ..networks import Network
from .inception_v4 import MEAN
from .plans import MAX, Fork, Plan, Residual, fork, inception, same, valid

STEM: Plan = [valid(3, 32, 2), valid(3, 32), same(3, 64), MAX, same(1, 80), valid(3, 192), MAX]
MIXED = fork([same(1, 96)], [same(1, 48), same(5, 64)], [same(1, 64), same(3, 96), same(3, 96)], [MEAN, same(1, 64)])
BLOCK_A = fork([same(1, 32)], [same(1, 32), same(3, 32)], [same(1, 32), same(3, 48), same(3, 64)])
"""The paper's figure 16, for maps of 35 x 35."""
REDUCTION_A = fork([valid(3, 384, 2)], [same(1, 256), same(3, 256), valid(3, 384, 2)], [MAX])
"""Figure 7 with table 1: half of the size."""
BLOCK_B = fork([same(1, 192)], [same(1, 128), same((1, 7), 160), same((7, 1), 192)])
"""Figure 17, for maps of 17 x 17."""
REDUCTION_B = fork(
    [same(1, 256), valid(3, 384, 2)],
    [same(1, 256), valid(3, 288, 2)],
    [same(1, 256), same(3, 288), valid(3, 320, 2)],
    [MAX],
)
"""Figure 18: half of the size again."""
BLOCK_C = fork([same(1, 192)], [same(1, 192), same((1, 3), 224), same((3, 1), 256)])
"""Figure 19, for maps of 8 x 8."""


def _residuals(block: Fork, scale: float, n: int) -> list[Residual]:
    return [Residual(block, scale)] * n


STAGES: dict[str, Plan] = {
    "stem": STEM,
    "stage1": [MIXED, *_residuals(BLOCK_A, 0.17, 10)],
    "stage2": [REDUCTION_A, *_residuals(BLOCK_B, 0.1, 20)],
    "stage3": [REDUCTION_B, *_residuals(BLOCK_C, 0.2, 9), Residual(BLOCK_C, 1.0, identity), same(1, 1536)],
}


def InceptionResNetv2(
    *,
    width_mult: float = 1.0,
    dropout_prob: float | None = None,
    imsize: tuple[int, int] = (299, 299),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """InceptionResNetv2(*, width_mult=1.0, dropout_prob=None, imsize=(299, 299), inchannels=3, nclasses=1000, rng=None)

    Inception-ResNet-v2: a stem, three blocks of branches and forty residual ones, ``relu(x + scale * up(branches(x)))``;
    55,843,464 parameters. The last convolution of a residual block has a bias and no normalisation, and the last block of all
    has no relu and is not scaled. ``width_mult``: multiplies all planes. ``dropout_prob``: before the classifier's Dense
    layer, None for none; the paper has 0.2. Nothing depends on ``imsize``, which is kept for whoever asks; images have at
    least 75 pixels each way.

    Source: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the impact of residual connections on
    learning", 2017 (https://arxiv.org/abs/1602.07261). Planes, scales and mean pools that do not count their padding are
    those of the authors' implementation, which differs a little from the paper's figures.
    """
    return inception("InceptionResNetv2", STAGES, width_mult=width_mult, dropout_prob=dropout_prob, imsize=imsize,
                     inchannels=inchannels, nclasses=nclasses, rng=rng)
