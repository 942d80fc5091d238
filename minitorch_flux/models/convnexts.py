"""ConvNeXt: a convolutional network with the proportions of a transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..nn.chain import Chain
from ..nn.combinations import SkipConnection
from ..nn.convolutions import Conv
from ..nn.dense import Dense
from ..nn.dropouts import Dropout
from ..nn.layer_norms import LayerNormV2
from ..nn.pools import AdaptiveMeanPool
from ..ops.arithmetic import add
from ..ops.nonlinearities import gelu_erf, identity
from ..ops.shapes import flatten
from .layers.drops import StochasticDepth, linear_scheduler
from .layers.normalisations import ChannelLayerNorm, LayerScale
from .layers.utilities import swapdims
from .networks import Network, row

CONFIGS = {  # depths of the stages, planes of the stages
    "tiny": ([3, 3, 9, 3], [96, 192, 384, 768]),
    "small": ([3, 3, 27, 3], [96, 192, 384, 768]),
    "base": ([3, 3, 27, 3], [128, 256, 512, 1024]),
    "large": ([3, 3, 27, 3], [192, 384, 768, 1536]),
    "xlarge": ([3, 3, 27, 3], [256, 512, 1024, 2048]),
}
WIDENING = 4  # the planes inside of a block, in units of its own

last_axis_norm = partial(LayerNormV2, eps=1e-6)


def convnextblock(
    planes: int,
    stochastic_depth_prob: float | None = 0.0,
    *,
    layerscale_init: float | None = 1e-6,
    activation: Callable[..., Any] = gelu_erf,
    rng: Any = None,
) -> SkipConnection:
    """convnextblock(planes, stochastic_depth_prob=0.0, *, layerscale_init=1e-6, activation=gelu_erf, rng=None)

    A residual branch for ``x`` (N, planes, H, W), which keeps its shape: a depthwise 7x7 convolution, then for every pixel a
    norm, a Dense layer to ``4 planes`` with ``activation``, one back, and a scale that begins at ``layerscale_init`` (None or
    0: no scale); StochasticDepth. Sources: Metalhead's ``convnextblock``; Liu and others, "A ConvNet for the 2020s", 2022.
    """
    scale = LayerScale(planes, layerscale_init)
    branch = Chain(
        conv=Conv((7, 7), planes, planes, pad=3, groups=planes, rng=rng),
        channels_last=swapdims((0, 2, 3, 1)),
        norm=last_axis_norm(planes),
        dense1=Dense(planes, WIDENING * planes, activation, rng=rng),
        dense2=Dense(WIDENING * planes, planes, rng=rng),
        **({} if scale is identity else {"scale": scale}),
        channels_first=swapdims((0, 3, 1, 2)),
        drop_path=StochasticDepth(stochastic_depth_prob, rng=rng),
    )
    return SkipConnection(branch, add)


def convnext(
    depths: Sequence[int],
    planes: Sequence[int],
    *,
    stochastic_depth_prob: float | None = 0.0,
    layerscale_init: float | None = 1e-6,
    dropout_prob: float | None = None,
    activation: Callable[..., Any] = gelu_erf,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """convnext(depths, planes, *, stochastic_depth_prob=0.0, layerscale_init=1e-6, dropout_prob=None, activation=gelu_erf,
    imsize=(224, 224), inchannels=3, nclasses=1000, rng=None)

    A stem that cuts images into patches of 4 x 4, stages of ``convnextblock``, between which a norm and a 2x2 convolution
    halve the size, and a classifier: mean pool, norm, Dense layer.

    ``depths`` and ``planes``: how many blocks each stage has, and of how many planes. ``stochastic_depth_prob``: of dropping
    a block's branch, growing linearly over all blocks from 0 to this; None for no StochasticDepth. ``layerscale_init``: None
    or 0 for no scale. ``dropout_prob``: before the classifier's Dense layer, None for none. Nothing depends on ``imsize``,
    which is kept for whoever asks; images have at least 4 pixels for every halving.

    The backbone is ``Chain(stem=..., stage1=..., down1=..., stage2=..., ...)``. Raises ValueError where depths and planes
    are not equally many. Source: Liu and others, "A ConvNet for the 2020s", 2022 (https://arxiv.org/abs/2201.03545).
    """
    if not depths or len(depths) != len(planes):
        raise ValueError(f"convnext: every stage has a depth and a number of planes, got {len(depths)} depths and "
                         f"{len(planes)} numbers of planes")
    drops = iter(linear_scheduler(stochastic_depth_prob, depth=sum(depths)))
    layers: dict[str, Any] = {
        "stem": Chain(conv=Conv((4, 4), inchannels, planes[0], stride=4, rng=rng), norm=ChannelLayerNorm(planes[0]))
    }
    for i, (depth, n) in enumerate(zip(depths, planes, strict=True)):
        if i:
            conv = Conv((2, 2), planes[i - 1], n, stride=2, rng=rng)
            layers[f"down{i}"] = Chain(norm=ChannelLayerNorm(planes[i - 1]), conv=conv)
        block = partial(convnextblock, n, layerscale_init=layerscale_init, activation=activation, rng=rng)
        layers[f"stage{i + 1}"] = Chain(*(block(next(drops)) for _ in range(depth)))
    dropout = {} if dropout_prob is None else {"dropout": Dropout(dropout_prob, rng=rng)}
    classifier = Chain(
        pool=AdaptiveMeanPool((1, 1)),
        flatten=flatten,
        norm=last_axis_norm(planes[-1]),
        **dropout,
        last=Dense(planes[-1], nclasses, rng=rng),
    )
    return Network(Chain(**layers), classifier, imsize=imsize, inchannels=inchannels, nclasses=nclasses)


def ConvNeXt(config: str = "tiny", **keywords: Any) -> Network:
    """ConvNeXt(config="tiny", *, stochastic_depth_prob=0.0, layerscale_init=1e-6, inchannels=3, nclasses=1000, ...)

    ConvNeXt of configuration "tiny", "small", "base", "large" or "xlarge"; the keywords are ``convnext``'s.
    ``ConvNeXt("tiny")`` has 28,589,128 parameters: the convolutions between the stages have a bias, as published. Published
    weights load with ``flux.load_torch(m, path, rename=published_names("ConvNeXt"))``.
    Source: Liu and others, "A ConvNet for the 2020s", 2022 (https://arxiv.org/abs/2201.03545).
    """
    return convnext(*row("ConvNeXt", config, CONFIGS), **keywords)
