"""GoogLeNet, the first Inception network."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...nn.pools import MaxPool
from ..networks import Network
from .plans import Fork, Plan, fork, inception, same

MAX = partial(MaxPool, (3, 3), stride=2, ceil_mode=True)
MAX_SAME = partial(MaxPool, (3, 3), stride=1, pad=1)


def _block(one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> Fork:
    """A row of the paper's table 1: planes of the 1x1 branch, of the 3x3 one, of the 5x5 one and after the pool."""
    pooled: Plan = [MAX_SAME, same(1, pool)]
    return fork([same(1, one)], [same(1, reduce3), same(3, three)], [same(1, reduce5), same(5, five)], pooled)


STAGES: dict[str, Plan] = {
    "stem": [same(7, 64, 2), MAX, same(1, 64), same(3, 192), MAX],
    "stage1": [_block(64, 96, 128, 16, 32, 32), _block(128, 128, 192, 32, 96, 64)],
    "stage2": [
        MAX,
        _block(192, 96, 208, 16, 48, 64),
        _block(160, 112, 224, 24, 64, 64),
        _block(128, 128, 256, 24, 64, 64),
        _block(112, 144, 288, 32, 64, 64),
        _block(256, 160, 320, 32, 128, 128),
    ],
    "stage3": [MAX, _block(256, 160, 320, 32, 128, 128), _block(384, 192, 384, 48, 128, 128)],
}


def GoogLeNet(
    *,
    batchnorm: bool = False,
    bias: bool | None = None,
    width_mult: float = 1.0,
    dropout_prob: float | None = 0.4,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """GoogLeNet(*, batchnorm=False, bias=not batchnorm, width_mult=1.0, dropout_prob=0.4, imsize=(224, 224), inchannels=3,
    nclasses=1000, rng=None)

    GoogLeNet, also called Inception-v1: a stem and nine blocks of four branches, with relu after every convolution;
    6,998,552 parameters, with ``batchnorm=True`` 7,005,832.

    ``batchnorm``: normalisation (``eps=1e-3``) after every convolution; ``bias``: of the convolutions, by default where they
    have no normalisation. ``width_mult``: multiplies all planes. ``dropout_prob``: before the classifier's Dense layer, None
    for none. Nothing depends on ``imsize``, which is kept for whoever asks.

    Source: Szegedy and others, "Going deeper with convolutions", 2015 (https://arxiv.org/abs/1409.4842), without its local
    response normalisation and the two further classifiers that it trains with. A pool keeps a last window that does not fit
    whole, as in the authors' implementation.
    """
    return inception("GoogLeNet", STAGES, batchnorm=batchnorm, bias=bias, width_mult=width_mult, dropout_prob=dropout_prob,
                     imsize=imsize, inchannels=inchannels, nclasses=nclasses, rng=rng)
