"""LeNet, the first convolutional network that read cheques."""

from __future__ import annotations

from typing import Any

from ..nn.chain import Chain
from ..nn.convolutions import Conv
from ..nn.dense import Dense
from ..nn.pools import MaxPool
from ..ops.nonlinearities import relu
from ..ops.shapes import flatten

SMALLEST = 12  # pixels each way: below, nothing is left after the second pool


def LeNet(imsize: tuple[int, int] = (28, 28), inchannels: int = 1, nclasses: int = 10, rng: Any = None) -> Chain:
    """LeNet-5 with relu and max pooling: two 5x5 convolutions (6 and 16 channels), Dense layers of 120 and 84.

    ``imsize``: height and width of the images, at least 12 each. ``(N, inchannels, *imsize)`` gives logits
    ``(N, nclasses)``; 61,706 parameters for the defaults.
    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.
    """
    h, w = imsize
    if min(h, w) < SMALLEST:
        raise ValueError(f"LeNet: images of {h} x {w} (height x width) are too small, expected at least {SMALLEST} "
                         "each way; take models.MLP")
    rows, columns = ((n // 2 - 4) // 2 for n in (h, w))  # pad=2 keeps the size, 5x5 takes 4, each pool halves
    return Chain(
        Conv((5, 5), inchannels, 6, relu, pad=2, rng=rng),
        MaxPool((2, 2)),
        Conv((5, 5), 6, 16, relu, rng=rng),
        MaxPool((2, 2)),
        flatten,
        Dense(16 * rows * columns, 120, relu, rng=rng),
        Dense(120, 84, relu, rng=rng),
        Dense(84, nclasses, rng=rng),
    )
