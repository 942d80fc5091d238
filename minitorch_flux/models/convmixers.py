"""ConvMixer: patches, mixed by depthwise and by 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..nn.chain import Chain
from ..nn.combinations import SkipConnection
from ..nn.norms import BatchNorm
from ..ops.arithmetic import add
from ..ops.geometry import SamePad
from ..ops.nonlinearities import gelu_erf, relu
from .layers.classifiers import create_classifier
from .layers.convolutions import conv_norm
from .networks import Network, named_layers, row

CONFIGS: dict[str, dict[str, Any]] = {
    "small": {"planes": 768, "depth": 32, "kernel_size": (7, 7), "activation": relu},
    "base": {"planes": 1536, "depth": 20, "kernel_size": (9, 9)},
    "large": {"planes": 1024, "depth": 20, "kernel_size": (9, 9)},
}


def convmixer(
    planes: int,
    depth: int,
    *,
    kernel_size: tuple[int, int] = (9, 9),
    patch_size: tuple[int, int] = (7, 7),
    activation: Callable[..., Any] = gelu_erf,
    norm_layer: Callable[..., Any] = BatchNorm,
    bias: bool = False,
    dropout_prob: float | None = None,
    imsize: tuple[int, int] = (224, 224),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """convmixer(planes, depth, *, kernel_size=(9, 9), patch_size=(7, 7), activation=gelu_erf, norm_layer=BatchNorm,
    bias=False, dropout_prob=None, imsize=(224, 224), inchannels=3, nclasses=1000, rng=None)

    A stem that cuts images into patches, ``depth`` blocks on maps of ``planes`` channels, and a classifier. A block is a
    depthwise convolution of ``kernel_size`` on a residual branch, then a 1x1 convolution; each convolution is followed by
    ``activation``, then by a norm.

    ``bias``: whether the convolutions have one; the norm after it makes it redundant, but the weights that the authors
    published have it. ``dropout_prob``: before the classifier's Dense layer, None for none. Nothing depends on ``imsize``,
    which is kept for whoever asks.
    Sources: Metalhead's ``convmixer``; Trockman and Kolter, "Patches are all you need?", 2022
    (https://arxiv.org/abs/2201.09792).
    """

    def layers(kernel: tuple[int, int], n: int, **keywords: Any) -> Chain:
        pair = conv_norm(kernel, n, planes, activation, preact=True, norm_layer=norm_layer, bias=bias, rng=rng, **keywords)
        return Chain(**named_layers(pair, activation))

    blocks = {
        f"block{i + 1}": Chain(
            depthwise=SkipConnection(layers(kernel_size, planes, groups=planes, pad=SamePad()), add),
            pointwise=layers((1, 1), planes),
        )
        for i in range(depth)
    }
    classifier = create_classifier(planes, nclasses, dropout_prob=dropout_prob, rng=rng)
    backbone = Chain(stem=layers(patch_size, inchannels, stride=patch_size), **blocks)
    return Network(backbone, classifier, imsize=imsize, inchannels=inchannels, nclasses=nclasses)


def ConvMixer(config: str = "base", **keywords: Any) -> Network:
    """ConvMixer(config="base", *, bias=False, patch_size=(7, 7), dropout_prob=None, inchannels=3, nclasses=1000, ...)

    ConvMixer of configuration "small" (768 planes, 32 blocks, relu), "base" (1536, 20) or "large" (1024, 20); the keywords
    are ``convmixer``'s. ``ConvMixer("base")`` has 51,562,984 parameters, as Metalhead's. The authors' weights have biases:
    ``ConvMixer("small", bias=True)``, 21,110,248 parameters, ``ConvMixer("base", bias=True)``, 51,625,960, and
    ``ConvMixer("large", bias=True, patch_size=(14, 14))``, 24,383,464.
    Source: Trockman and Kolter, "Patches are all you need?", 2022 (https://arxiv.org/abs/2201.09792).
    """
    return convmixer(**{**row("ConvMixer", config, CONFIGS), **keywords})
