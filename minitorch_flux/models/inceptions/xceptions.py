"""Xception: an Inception network taken to its end, of depthwise separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...nn.chain import Chain
from ...nn.combinations import Parallel
from ...nn.convolutions import Conv
from ...nn.norms import BatchNorm
from ...nn.pools import MaxPool
from ...ops.arithmetic import add
from ...ops.nonlinearities import identity, relu
from ..layers.classifiers import create_classifier
from ..layers.convolutions import conv_norm
from ..networks import Network, named_layers
from ..resnets.shortcuts import downsample_conv

STEM = (32, 64)
ENTRY = [(128, 128), (256, 256), (728, 728)]
MIDDLE = [(728, 728, 728)] * 8
EXIT = (728, 1024)
LAST = (1536, 2048)
"""By part, of each block the planes of its separable convolutions."""


def separable(number: int, inplanes: int, planes: int, activation: Any = identity, *, rng: Any = None) -> dict[str, Any]:
    """A 3x3 convolution of each channel by itself and a 1x1 one of all, then norm and activation, as named layers."""
    return {
        f"depthwise{number}": Conv((3, 3), inplanes, inplanes, pad=1, groups=inplanes, bias=False, rng=rng),
        f"pointwise{number}": Conv((1, 1), inplanes, planes, bias=False, rng=rng),
        f"norm{number}": BatchNorm(planes, activation),
    }


def xception_block(
    inplanes: int, planes: Sequence[int], *, stride: int = 1, start_with_relu: bool = True, rng: Any = None
) -> Parallel:
    """A residual block of separable convolutions to ``planes``, with relu between them and before the first one, and for a
    stride other than 1 a 3x3 max pool at its end; the shortcut is a 1x1 convolution where planes or size change.
    """
    layers: dict[str, Any] = {"act": relu} if start_with_relu else {}
    before = inplanes
    for i, outplanes in enumerate(planes):
        layers |= separable(i + 1, before, outplanes, relu if i + 1 < len(planes) else identity, rng=rng)
        before = outplanes
    if stride != 1:
        layers["pool"] = MaxPool((3, 3), stride=stride, pad=1)
    same = stride == 1 and inplanes == before
    shortcut = identity if same else downsample_conv(inplanes, before, stride=stride, rng=rng)
    return Parallel(add, shortcut=shortcut, branch=Chain(**layers))


def Xception(
    *,
    width_mult: float = 1.0,
    dropout_prob: float | None = None,
    imsize: tuple[int, int] = (299, 299),
    inchannels: int = 3,
    nclasses: int = 1000,
    rng: Any = None,
) -> Network:
    """Xception(*, width_mult=1.0, dropout_prob=None, imsize=(299, 299), inchannels=3, nclasses=1000, rng=None)

    Xception: twelve residual blocks of separable convolutions, without bias and without anything between the two parts of
    one; 22,855,952 parameters. ``width_mult``: multiplies all planes. ``dropout_prob``: before the classifier's Dense layer,
    None for none; the paper has 0.5. Nothing depends on ``imsize``, which is kept for whoever asks.

    The backbone is ``Chain(stem=..., entry=..., middle=..., exit=...)``.
    Source: Chollet, "Xception: deep learning with depthwise separable convolutions", 2017 (https://arxiv.org/abs/1610.02357).
    """
    if not width_mult > 0:
        raise ValueError(f"Xception: width_mult multiplies the planes and must be positive, got {width_mult}")

    def wide(planes: Sequence[int]) -> list[int]:
        return [max(1, round(n * width_mult)) for n in planes]

    first, before = wide(STEM)
    stem = {
        **named_layers(conv_norm((3, 3), inchannels, first, stride=2, rng=rng), relu, 1),
        **named_layers(conv_norm((3, 3), first, before, rng=rng), relu, 2),
    }
    blocks: dict[str, list[Parallel]] = {"entry": [], "middle": [], "exit": []}
    rows = [("entry", row, 2) for row in ENTRY] + [("middle", row, 1) for row in MIDDLE] + [("exit", EXIT, 2)]
    for i, (part, row, stride) in enumerate(rows):
        planes = wide(row)
        blocks[part].append(xception_block(before, planes, stride=stride, start_with_relu=i > 0, rng=rng))
        before = planes[-1]
    inner, last = wide(LAST)
    end = {"block": blocks["exit"][0], **separable(1, before, inner, relu, rng=rng), **separable(2, inner, last, relu, rng=rng)}
    parts = {"stem": Chain(**stem), "entry": Chain(*blocks["entry"]), "middle": Chain(*blocks["middle"]), "exit": Chain(**end)}
    head = create_classifier(last, nclasses, dropout_prob=dropout_prob, rng=rng)
    return Network(Chain(**parts), head, imsize=imsize, inchannels=inchannels, nclasses=nclasses)
