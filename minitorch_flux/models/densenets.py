"""DenseNet: every layer is fed with the maps of all layers before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Tensor
from ..nn.chain import Chain
from ..nn.combinations import SkipConnection
from ..nn.convolutions import Conv
from ..nn.norms import BatchNorm
from ..nn.pools import MaxPool, MeanPool
from ..ops.joining import concatenate
from ..ops.nonlinearities import relu
from .layers.classifiers import create_classifier
from .networks import Network

CONFIGS = {
    121: ([6, 12, 24, 16], 32),
    161: ([6, 12, 36, 24], 48),
    169: ([6, 12, 32, 32], 32),
    201: ([6, 12, 48, 32], 32),
}
"""By depth: how many layers each dense block has, and the planes that each layer adds."""
WIDENING = 4  # the 1x1 convolution of a layer makes this many times the planes that the layer adds


def beside_input(y: Any, x: Any) -> Tensor:
    """The connection of a dense layer: the channels of its input ``x``, then those of its output ``y``."""
    return concatenate([x, y], axis=1)


def dense_layer(inplanes: int, growth_rate: int, *, rng: Any = None) -> SkipConnection:
    """``x`` (N, inplanes, H, W) with ``growth_rate`` channels after its own: norm, relu, 1x1 convolution, norm, relu, 3x3
    convolution.
    """
    inner = WIDENING * growth_rate
    branch = Chain(
        norm1=BatchNorm(inplanes, relu),
        conv1=Conv((1, 1), inplanes, inner, bias=False, rng=rng),
        norm2=BatchNorm(inner, relu),
        conv2=Conv((3, 3), inner, growth_rate, pad=1, bias=False, rng=rng),
    )
    return SkipConnection(branch, beside_input)


def transition(inplanes: int, outplanes: int, *, rng: Any = None) -> Chain:
    """What is between two dense blocks, half the size and fewer planes: norm, relu, 1x1 convolution, 2x2 mean pool."""
    conv = Conv((1, 1), inplanes, outplanes, bias=False, rng=rng)
    return Chain(norm=BatchNorm(inplanes, relu), conv=conv, pool=MeanPool((2, 2)))


def densenet(
    nblocks: Sequence[int],
    *,
    growth_rate: int = 32,
    reduction: float = 0.5,
    dropout_prob: float | None = None,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """densenet(nblocks, *, growth_rate=32, reduction=0.5, dropout_prob=None, imsize=(224, 224), inchannels=3, nclasses=1000,
    rng=None)

    A densely connected network: a stem to ``2 * growth_rate`` planes at a quarter of the size, dense blocks with transitions
    between them, norm and relu, and a classifier.

    ``nblocks``: how many layers each block has. Each layer adds ``growth_rate`` planes to its input; a transition leaves
    ``reduction`` of the planes and half of the size. ``dropout_prob``: before the classifier's Dense layer, None for none.
    Nothing depends on ``imsize``, which is kept for whoever asks.

    The backbone is ``Chain(stem=..., block1=..., transition1=..., ..., norm=...)``.
    Raises ValueError where there is no block, or a transition would leave no plane.
    Source: Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks", 2017
    (https://arxiv.org/abs/1608.06993).
    """
    if not nblocks or min(nblocks) < 1:
        raise ValueError(f"densenet: nblocks tells how many layers each block has, at least one each, got {nblocks!r}")
    planes = 2 * growth_rate
    stem = Chain(
        conv=Conv((7, 7), inchannels, planes, stride=2, pad=3, bias=False, rng=rng),
        norm=BatchNorm(planes, relu),
        pool=MaxPool((3, 3), stride=2, pad=1),
    )
    layers: dict[str, Any] = {}
    for i, n in enumerate(nblocks):
        if i:
            left = int(planes * reduction)
            if left < 1:
                raise ValueError(f"densenet: reduction={reduction} leaves none of the {planes} planes after block {i}; it is "
                                 "the share that a transition keeps")
            layers[f"transition{i}"] = transition(planes, left, rng=rng)
            planes = left
        layers[f"block{i + 1}"] = Chain(*(dense_layer(planes + j * growth_rate, growth_rate, rng=rng) for j in range(n)))
        planes += n * growth_rate
    head = create_classifier(planes, nclasses, dropout_prob=dropout_prob, rng=rng)
    return Network(Chain(stem=stem, **layers, norm=BatchNorm(planes, relu)), head, imsize=imsize, inchannels=inchannels,
                   nclasses=nclasses)


def DenseNet(depth: int = 121, *, growth_rate: int | None = None, **keywords: Any) -> Network:
    """DenseNet(depth=121, *, growth_rate=32 (161: 48), reduction=0.5, dropout_prob=None, imsize=(224, 224), inchannels=3,
    nclasses=1000, rng=None)

    DenseNet of depth 121, 161, 169 or 201; the keywords are ``densenet``'s. ``DenseNet(121)`` has 7,978,856 parameters,
    ``DenseNet(161)``, whose layers add 48 planes, 28,681,000.
    Source: Huang and others, "Densely connected convolutional networks", 2017 (https://arxiv.org/abs/1608.06993).
    """
    if depth not in CONFIGS:
        raise ValueError(f"DenseNet: the depth is one of {', '.join(map(str, CONFIGS))}, got {depth!r}")
    nblocks, published = CONFIGS[depth]
    return densenet(nblocks, growth_rate=published if growth_rate is None else growth_rate, **keywords)
