"""Inception-v3: 5x5 and 7x7 convolutions taken apart into smaller ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...nn.pools import MeanPool
from ..networks import Network
from .plans import MAX, Fork, Plan, fork, inception, same, valid

MEAN = partial(MeanPool, (3, 3), stride=1, pad=1)


def _block_a(pool: int) -> Fork:
    """The paper's figure 5."""
    return fork([same(1, 64)], [same(1, 48), same(5, 64)], [same(1, 64), same(3, 96), same(3, 96)], [MEAN, same(1, pool)])


def _block_c(inner: int) -> Fork:
    """The paper's figure 6, for n = 7."""
    seven = [same(1, inner), same((1, 7), inner), same((7, 1), 192)]
    twice = [same(1, inner), same((7, 1), inner), same((1, 7), inner), same((7, 1), inner), same((1, 7), 192)]
    return fork([same(1, 192)], seven, twice, [MEAN, same(1, 192)])


BLOCK_B = fork([valid(3, 384, 2)], [same(1, 64), same(3, 96), valid(3, 96, 2)], [MAX])
"""The paper's figure 10: half of the size."""
BLOCK_D = fork([same(1, 192), valid(3, 320, 2)], [same(1, 192), same((1, 7), 192), same((7, 1), 192), valid(3, 192, 2)], [MAX])
"""Half of the size again."""
ENDS = fork([same((1, 3), 384)], [same((3, 1), 384)])
BLOCK_E = fork([same(1, 320)], [same(1, 384), ENDS], [same(1, 448), same(3, 384), ENDS], [MEAN, same(1, 192)])
"""The paper's figure 7."""

STAGES: dict[str, Plan] = {
    "stem": [valid(3, 32, 2), valid(3, 32), same(3, 64), MAX, same(1, 80), valid(3, 192), MAX],
    "stage1": [_block_a(32), _block_a(64), _block_a(64)],
    "stage2": [BLOCK_B, _block_c(128), _block_c(160), _block_c(160), _block_c(192)],
    "stage3": [BLOCK_D, BLOCK_E, BLOCK_E],
}


def Inceptionv3(
    *,
    width_mult: float = 1.0,
    dropout_prob: float | None = 0.2,
    imsize: tuple[int, int] = (299, 299),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """Inceptionv3(*, width_mult=1.0, dropout_prob=0.2, imsize=(299, 299), inchannels=3, nclasses=1000, rng=None)

    Inception-v3: a stem and eleven blocks of branches; 23,834,568 parameters. ``width_mult``: multiplies all planes.
    ``dropout_prob``: before the classifier's Dense layer, None for none. Nothing depends on ``imsize``, which is kept for
    whoever asks; images have at least 75 pixels each way.

    Source: Szegedy and others, "Rethinking the Inception architecture for computer vision", 2016
    (https://arxiv.org/abs/1512.00567), without the further classifier that it trains with. The planes are those of the
    authors' implementation; the mean pools count their padding, as in PyTorch's.
    """
    return inception("Inceptionv3", STAGES, width_mult=width_mult, dropout_prob=dropout_prob, imsize=imsize,
                     inchannels=inchannels, nclasses=nclasses, rng=rng)
