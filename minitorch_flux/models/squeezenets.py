"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters."""

from __future__ import annotations

from typing import Any

from ..nn.chain import Chain
from ..nn.combinations import Parallel
from ..nn.convolutions import Conv
from ..nn.dropouts import Dropout
from ..nn.pools import AdaptiveMeanPool, MaxPool
from ..ops.nonlinearities import relu
from ..ops.shapes import flatten
from .layers.connections import cat_channels
from .networks import Network

STAGES = ([(16, 64), (16, 64)], [(32, 128), (32, 128)], [(48, 192), (48, 192), (64, 256), (64, 256)])
"""Version 1.1: of each fire module the squeezed planes and those of each of its two expansions."""


def fire(inplanes: int, squeezed: int, expanded: int, *, rng: Any = None) -> Chain:
    """A fire module: a 1x1 convolution to ``squeezed`` planes; a 1x1 and a 3x3 convolution of these, each to ``expanded``
    planes, side by side. All with relu.
    """
    return Chain(
        squeeze=Conv((1, 1), inplanes, squeezed, relu, rng=rng),
        expand=Parallel(
            cat_channels,
            conv1x1=Conv((1, 1), squeezed, expanded, relu, rng=rng),
            conv3x3=Conv((3, 3), squeezed, expanded, relu, pad=1, rng=rng),
        ),
    )


def SqueezeNet(
    *,
    dropout_prob: float | None = 0.5,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """SqueezeNet(*, dropout_prob=0.5, imsize=(224, 224), inchannels=3, nclasses=1000, rng=None)

    SqueezeNet 1.1: a convolution and eight fire modules in three stages, each after a max pool; the classifier is a 1x1
    convolution with relu and the mean of its maps. 1,235,496 parameters. ``dropout_prob``: before that convolution, None for
    none. Nothing depends on ``imsize``, which is kept for whoever asks.

    Sources: Iandola and others, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", 2016
    (https://arxiv.org/abs/1602.07360); the authors' version 1.1, whose pools keep a last window that does not fit whole.
    """
    layers: dict[str, Any] = {"conv": Conv((3, 3), inchannels, 64, relu, stride=2, rng=rng)}
    planes = 64
    for i, rows in enumerate(STAGES):
        fires: dict[str, Any] = {"pool": MaxPool((3, 3), stride=2, ceil_mode=True)}
        for j, (squeezed, expanded) in enumerate(rows):
            fires[f"fire{j + 1}"] = fire(planes, squeezed, expanded, rng=rng)
            planes = 2 * expanded
        layers[f"stage{i + 1}"] = Chain(**fires)
    dropout = {} if dropout_prob is None else {"dropout": Dropout(dropout_prob, rng=rng if dropout_prob else None)}
    classifier = Chain(
        **dropout,
        conv=Conv((1, 1), planes, nclasses, relu, rng=rng),
        pool=AdaptiveMeanPool((1, 1)),
        flatten=flatten,
    )
    return Network(Chain(**layers), classifier, imsize=imsize, inchannels=inchannels, nclasses=nclasses)
