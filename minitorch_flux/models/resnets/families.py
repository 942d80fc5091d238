"""ResNet, WideResNet, ResNeXt, SEResNet, SEResNeXt, Res2Net and Res2NeXt: the published depths, each a row of a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..layers.squeeze_excites import squeeze_excite
from ..networks import Network
from .blocks import basicblock, bottle2neck, bottleneck
from .building import resnet

REPEATS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
"""By depth: how many blocks each of the four stages has."""
SHALLOW = (18, 34)
"""Depths that are made of basic blocks."""
IMSIZE = (224, 224)


def _built(
    name: str, depth: int, depths: tuple[int, ...], keywords: dict[str, Any], block: Any = None, **fixed: Any
) -> Network:
    """The network of a row, with the family's own keywords below the caller's."""
    if depth not in depths:
        raise ValueError(f"{name}: the depth is one of {', '.join(map(str, depths))}, got {depth!r}")
    block = block or (basicblock if depth in SHALLOW else bottleneck)
    return resnet(block, REPEATS[depth], **{"imsize": IMSIZE, **fixed, **keywords})


DEPTHS, DEEP = tuple(REPEATS), (50, 101, 152)


def ResNet(depth: int, **keywords: Any) -> Network:
    """ResNet(depth, *, inchannels=3, nclasses=1000, ...)

    ResNet of depth 18, 34, 50, 101 or 152; the keywords are ``resnet``'s. ``ResNet(50)`` has 25,557,032 parameters.
    Source: He and others, "Deep residual learning for image recognition", 2016 (the stride on the 3x3 convolution).
    """
    return _built("ResNet", depth, DEPTHS, keywords)


def WideResNet(depth: int, **keywords: Any) -> Network:
    """WideResNet(depth, *, base_width=128, inchannels=3, nclasses=1000, ...)

    ResNet of depth 50, 101 or 152 with wider bottlenecks; the keywords are ``resnet``'s. ``WideResNet(50)`` has 68,883,240
    parameters. Source: Zagoruyko and Komodakis, "Wide residual networks", 2016.
    """
    return _built("WideResNet", depth, DEEP, keywords, base_width=128)


def ResNeXt(depth: int, *, cardinality: int = 32, base_width: int = 4, **keywords: Any) -> Network:
    """ResNeXt(depth, *, cardinality=32, base_width=4, inchannels=3, nclasses=1000, ...)

    ResNet of depth 50, 101 or 152 whose 3x3 convolutions have ``cardinality`` groups of ``base_width``; the other keywords
    are ``resnet``'s. ``ResNeXt(50)`` has 25,028,904 parameters.
    Source: Xie and others, "Aggregated residual transformations for deep neural networks", 2017.
    """
    return _built("ResNeXt", depth, DEEP, keywords, cardinality=cardinality, base_width=base_width)


def SEResNet(depth: int, **keywords: Any) -> Network:
    """SEResNet(depth, *, attn_fn=squeeze_excite, inchannels=3, nclasses=1000, ...)

    ResNet of depth 18, 34, 50, 101 or 152 with squeeze and excitation in every block; the keywords are ``resnet``'s.
    ``SEResNet(50)`` has 28,088,024 parameters. Source: Hu and others, "Squeeze-and-excitation networks", 2018.
    """
    return _built("SEResNet", depth, DEPTHS, keywords, attn_fn=squeeze_excite)


def SEResNeXt(depth: int, *, cardinality: int = 32, base_width: int = 4, **keywords: Any) -> Network:
    """SEResNeXt(depth, *, cardinality=32, base_width=4, attn_fn=squeeze_excite, inchannels=3, nclasses=1000, ...)

    ``ResNeXt`` with squeeze and excitation in every block. ``SEResNeXt(50)`` has 27,559,896 parameters.
    Source: Hu and others, "Squeeze-and-excitation networks", 2018.
    """
    return _built("SEResNeXt", depth, DEEP, keywords, cardinality=cardinality, base_width=base_width, attn_fn=squeeze_excite)


def Res2Net(depth: int, *, scale: int = 4, base_width: int = 26, **keywords: Any) -> Network:
    """Res2Net(depth, *, scale=4, base_width=26, inchannels=3, nclasses=1000, ...)

    Residual networks of depth 50, 101 or 152 whose blocks look at several scales; the other keywords are ``resnet``'s.
    ``Res2Net(50)`` has 25,699,120 parameters. Source: Gao and others, "Res2Net", 2021.
    """
    return _built("Res2Net", depth, DEEP, keywords, bottle2neck, scale=scale, base_width=base_width)


def Res2NeXt(depth: int, *, scale: int = 4, base_width: int = 4, cardinality: int = 8, **keywords: Any) -> Network:
    """Res2NeXt(depth, *, scale=4, base_width=4, cardinality=8, inchannels=3, nclasses=1000, ...)

    ``Res2Net`` with ``cardinality`` groups in its 3x3 convolutions. ``Res2NeXt(50)`` has 24,671,464 parameters.
    Source: Gao and others, "Res2Net", 2021.
    """
    return _built("Res2NeXt", depth, DEEP, keywords, bottle2neck, scale=scale, base_width=base_width, cardinality=cardinality)


def _of_depth(family: Callable[..., Network], depth: int) -> Callable[..., Network]:
    """``family`` of one depth, under a name of its own: resnet18."""
    of_depth: Any = partial(family, depth)
    of_depth.__name__ = of_depth.__qualname__ = f"{family.__name__.lower()}{depth}"
    of_depth.__doc__ = f"``{family.__name__}({depth}, ...)``."
    return of_depth


resnet18, resnet34, resnet50, resnet101, resnet152 = (_of_depth(ResNet, d) for d in DEPTHS)
