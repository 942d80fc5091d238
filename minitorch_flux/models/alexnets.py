"""AlexNet, the network that won ImageNet in 2012."""

from __future__ import annotations

from typing import Any

from ..nn.chain import Chain
from ..nn.convolutions import Conv
from ..nn.dense import Dense
from ..nn.dropouts import Dropout
from ..nn.pools import AdaptiveMeanPool, MaxPool
from ..ops.nonlinearities import relu
from ..ops.shapes import flatten
from .networks import Network

PLANES = 256
"""Of the features."""
SIZE = (6, 6)
"""Of the maps that the classifier sees, whatever the images are."""


def AlexNet(
    *,
    fcsize: int = 4096,
    dropout_prob: float | None = 0.5,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """AlexNet(*, fcsize=4096, dropout_prob=0.5, imsize=(224, 224), inchannels=3, nclasses=1000, rng=None)

    Five convolutions with relu and three max pools, a mean pool to 6 x 6, and three Dense layers, of ``fcsize`` inside:
    61,100,840 parameters. ``dropout_prob``: before the first two Dense layers, None for none. Nothing depends on ``imsize``,
    which is kept for whoever asks; images have at least 63 pixels each way.

    Sources: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012; the
    planes are those of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014
    (https://arxiv.org/abs/1404.5997), without local response normalisation.
    """
    backbone = Chain(
        conv1=Conv((11, 11), inchannels, 64, relu, stride=4, pad=2, rng=rng),
        pool1=MaxPool((3, 3), stride=2),
        conv2=Conv((5, 5), 64, 192, relu, pad=2, rng=rng),
        pool2=MaxPool((3, 3), stride=2),
        conv3=Conv((3, 3), 192, 384, relu, pad=1, rng=rng),
        conv4=Conv((3, 3), 384, 256, relu, pad=1, rng=rng),
        conv5=Conv((3, 3), 256, PLANES, relu, pad=1, rng=rng),
        pool5=MaxPool((3, 3), stride=2),
    )

    def dropout(i: int) -> dict[str, Any]:
        return {} if dropout_prob is None else {f"dropout{i}": Dropout(dropout_prob, rng=rng if dropout_prob else None)}

    classifier = Chain(
        pool=AdaptiveMeanPool(SIZE),
        flatten=flatten,
        **dropout(1),
        dense1=Dense(PLANES * SIZE[0] * SIZE[1], fcsize, relu, rng=rng),
        **dropout(2),
        dense2=Dense(fcsize, fcsize, relu, rng=rng),
        dense3=Dense(fcsize, nclasses, rng=rng),
    )
    return Network(backbone, classifier, imsize=imsize, inchannels=inchannels, nclasses=nclasses)
