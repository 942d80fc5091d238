"""The stem of a residual network: from images to the planes of the first stage, at a quarter of the size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...nn.chain import Chain
from ...nn.norms import BatchNorm
from ...nn.pools import MaxPool
from ...ops.nonlinearities import relu
from ..layers.convolutions import conv_norm
from ..networks import named_layers

STEMS = ("default", "deep", "deep_tiered")


def resnet_stem(
    stem_type: str = "default",
    *,
    inchannels: int = 3,
    outplanes: int = 64,
    replace_pool: bool = False,
    activation: Callable[..., Any] = relu,
    norm_layer: Callable[..., Any] = BatchNorm,
    revnorm: bool = False,
    rng: Any = None,
) -> Chain:
    """resnet_stem(stem_type="default", *, inchannels=3, outplanes=64, replace_pool=False, activation=relu,
    norm_layer=BatchNorm, revnorm=False, rng=None)

    ``"default"``: a 7x7 convolution with stride 2 to ``outplanes``. ``"deep"``: three 3x3 convolutions instead, the first
    with stride 2, of half of ``outplanes`` twice and then all. ``"deep_tiered"``: the first of them has three eighths of
    ``outplanes``. Each with norm and activation. Then a 3x3 max pool with stride 2, or with ``replace_pool=True`` a 3x3
    convolution with stride 2, norm and activation.
    Sources: Metalhead's ``resnet_stem``; He and others, "Deep residual learning", 2016; timm.
    """
    if stem_type not in STEMS:
        raise ValueError(f"resnet_stem: there is no stem {stem_type!r}, expected one of {', '.join(STEMS)}")
    if stem_type == "default":
        plan = [(7, 2, outplanes)]
    else:
        width = outplanes // 2
        plan = [(3, 2, width if stem_type == "deep" else 3 * (width // 4)), (3, 1, width), (3, 1, outplanes)]
    if replace_pool:
        plan.append((3, 2, outplanes))
    layers: dict[str, Any] = {}
    planes = inchannels
    for i, (kernel, stride, out) in enumerate(plan):
        pair = conv_norm((kernel, kernel), planes, out, activation, norm_layer=norm_layer, revnorm=revnorm, stride=stride,
                         pad=kernel // 2, rng=rng)
        layers |= named_layers(pair, activation, i + 1)
        planes = out
    return Chain(**layers, **({} if replace_pool else {"pool": MaxPool((3, 3), stride=2, pad=1)}))
