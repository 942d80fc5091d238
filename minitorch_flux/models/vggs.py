"""VGG: 3x3 convolutions and max pools in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..nn.chain import Chain
from ..nn.dense import Dense
from ..nn.dropouts import Dropout
from ..nn.norms import BatchNorm
from ..nn.pools import MaxPool
from ..ops.nonlinearities import identity, relu
from ..ops.shapes import flatten
from .layers.convolutions import conv_norm
from .networks import Network, named_layers

CONFIGS = {
    11: [(64, 1), (128, 1), (256, 2), (512, 2), (512, 2)],
    13: [(64, 2), (128, 2), (256, 2), (512, 2), (512, 2)],
    16: [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)],
    19: [(64, 2), (128, 2), (256, 4), (512, 4), (512, 4)],
}
"""By depth: of each stage the planes and the number of convolutions."""


def vgg(
    imsize: tuple[int, int],
    *,
    config: Sequence[tuple[int, int]],
    batchnorm: bool = False,
    fcsize: int = 4096,
    dropout_prob: float | None = 0.0,
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """vgg(imsize, *, config, batchnorm=False, fcsize=4096, dropout_prob=0.0, inchannels=3, nclasses=1000, rng=None)

    Stages of 3x3 convolutions with relu, each with a 2x2 max pool at its end, and three Dense layers, of ``fcsize`` inside.

    ``imsize``: height and width of the images, (N, inchannels, *imsize); the first Dense layer is made for it. ``config``: of
    each stage ``(planes, number of convolutions)``. ``batchnorm``: normalisation after every convolution, whose bias stays.
    ``dropout_prob``: after the first two Dense layers, None for none.

    The backbone is ``Chain(stage1=..., stage2=..., ...)``.
    Raises ValueError where a stage has no convolution and where nothing is left of such images after the pools.
    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015
    (https://arxiv.org/abs/1409.1556).
    """
    if not config or any(n < 1 for _, n in config):
        raise ValueError("vgg: config holds (planes, number of convolutions) of each stage, at least one convolution each, got "
                         f"{config!r}")
    height, width = (n >> len(config) for n in imsize)  # each pool leaves half of it
    if not height or not width:
        raise ValueError(f"vgg: images of {imsize[0]} x {imsize[1]} (height x width) are too small for {len(config)} pools, "
                         f"expected at least {2 ** len(config)} each way")
    stages: dict[str, Chain] = {}
    planes = inchannels
    for i, (outplanes, n) in enumerate(config):
        layers: dict[str, Any] = {}
        for j in range(n):
            pair = conv_norm((3, 3), planes, outplanes, pad=1, norm_layer=BatchNorm if batchnorm else identity, bias=True,
                             rng=rng)
            layers |= named_layers(pair, relu, j + 1)
            planes = outplanes
        stages[f"stage{i + 1}"] = Chain(**layers, pool=MaxPool((2, 2)))

    def dropout(i: int) -> dict[str, Any]:
        return {} if dropout_prob is None else {f"dropout{i}": Dropout(dropout_prob, rng=rng if dropout_prob else None)}

    classifier = Chain(
        flatten=flatten,
        dense1=Dense(planes * height * width, fcsize, relu, rng=rng),
        **dropout(1),
        dense2=Dense(fcsize, fcsize, relu, rng=rng),
        **dropout(2),
        dense3=Dense(fcsize, nclasses, rng=rng),
    )
    return Network(Chain(**stages), classifier, imsize=imsize, inchannels=inchannels, nclasses=nclasses)


def VGG(
    depth: int, *, imsize: tuple[int, int] = (224, 224), dropout_prob: float | None = 0.5, **keywords: Any
) -> Network:
    """VGG(depth, *, imsize=(224, 224), batchnorm=False, fcsize=4096, dropout_prob=0.5, inchannels=3, nclasses=1000, rng=None)

    VGG of depth 11, 13, 16 or 19; the keywords are ``vgg``'s. ``VGG(16)`` has 138,357,544 parameters, ``VGG(11)`` has
    132,863,336 and with ``batchnorm=True`` 132,868,840.
    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015
    (https://arxiv.org/abs/1409.1556).
    """
    if depth not in CONFIGS:
        raise ValueError(f"VGG: the depth is one of {', '.join(map(str, CONFIGS))}, got {depth!r}")
    return vgg(imsize, config=CONFIGS[depth], dropout_prob=dropout_prob, **keywords)
