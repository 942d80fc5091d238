"""Residual networks: the builder ``resnet``, its blocks, shortcuts and stems, and the families that it builds."""

from .blocks import Scales, basicblock, bottle2neck, bottleneck
from .building import resnet
from .families import (
    Res2Net,
    Res2NeXt,
    ResNet,
    ResNeXt,
    SEResNet,
    SEResNeXt,
    WideResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from .shortcuts import ZeroPadShortcut, downsample_conv, downsample_identity, downsample_pool
from .stems import resnet_stem

__all__ = [
    "Res2NeXt",
    "Res2Net",
    "ResNeXt",
    "ResNet",
    "SEResNeXt",
    "SEResNet",
    "Scales",
    "WideResNet",
    "ZeroPadShortcut",
    "basicblock",
    "bottle2neck",
    "bottleneck",
    "downsample_conv",
    "downsample_identity",
    "downsample_pool",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet_stem",
]
