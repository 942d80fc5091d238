"""The zoo's classifiers by their names: ``list_models("resnet*")`` and ``get_model("resnet18", nclasses=10)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from types import MappingProxyType
from typing import Any

from .alexnets import AlexNet
from .convmixers import ConvMixer
from .convnexts import ConvNeXt
from .densenets import DenseNet
from .efficientnets import EfficientNet, EfficientNetLite, EfficientNetv2
from .inceptions import GoogLeNet, InceptionResNetv2, Inceptionv3, Inceptionv4, Xception
from .mixers import MLPMixer, ResMLP, gMLP
from .mobilenets import MNASNet, MobileNetv1, MobileNetv2, MobileNetv3
from .networks import Network
from .resnets import Res2Net, Res2NeXt, ResNet, ResNeXt, SEResNet, SEResNeXt, WideResNet
from .squeezenets import SqueezeNet
from .vggs import VGG
from .vits import ViT

Build = Callable[..., Network]


def _each(family: Build, *variants: Any, dash: str = "") -> dict[str, Build]:
    """A family's variants, named after both: resnet18, vit-base."""
    return {f"{family.__name__}{dash}{variant}".lower(): partial(family, variant) for variant in variants}


DEEP, SIZES = (50, 101, 152), ("small", "base", "large", "huge")
ZOO: Mapping[str, Build] = MappingProxyType({
    "alexnet": AlexNet,
    **_each(VGG, 11, 13, 16, 19),
    **{f"vgg{depth}-bn": partial(VGG, depth, batchnorm=True) for depth in (11, 13, 16, 19)},
    **_each(ResNet, 18, 34, *DEEP),
    **_each(WideResNet, *DEEP),
    **{
        f"resnext{depth}-{groups}x{width}": partial(ResNeXt, depth, cardinality=groups, base_width=width)
        for depth in DEEP
        for groups, width in ((32, 4), (32, 8), (64, 4), (64, 8))
    },
    **_each(SEResNet, 18, 34, *DEEP),
    **_each(SEResNeXt, *DEEP),
    **_each(Res2Net, *DEEP),
    **_each(Res2NeXt, *DEEP),
    **_each(DenseNet, 121, 161, 169, 201),
    "squeezenet": SqueezeNet,
    "googlenet": GoogLeNet,
    "googlenet-bn": partial(GoogLeNet, batchnorm=True),
    "inceptionv3": Inceptionv3,
    "inceptionv4": Inceptionv4,
    "inceptionresnetv2": InceptionResNetv2,
    "xception": Xception,
    "mobilenetv1": MobileNetv1,
    "mobilenetv2": MobileNetv2,
    **_each(MobileNetv3, "small", "large", dash="-"),
    **_each(MNASNet, "B1", "A1", "small", dash="-"),
    **_each(EfficientNet, *(f"b{i}" for i in range(9)), dash="-"),
    **_each(EfficientNetv2, "small", "medium", "large", "xlarge", dash="-"),
    **_each(EfficientNetLite, *(f"lite{i}" for i in range(5)), dash="-"),
    **_each(ConvNeXt, "tiny", "small", "base", "large", "xlarge", dash="-"),
    **_each(ConvMixer, "small", "base", "large", dash="-"),
    **_each(MLPMixer, *SIZES, dash="-"),
    **_each(ResMLP, *SIZES, dash="-"),
    **_each(gMLP, *SIZES, dash="-"),
    **_each(ViT, "tiny", *SIZES, "giant", "gigantic", dash="-"),
    **{f"vit-{size}-32": partial(ViT, size, patch_size=(32, 32)) for size in ("base", "large")},
})  # fmt: skip
"""By name: what builds it; each takes ``imsize``, ``inchannels`` and ``nclasses``, and what else its family takes."""


def list_models(pattern: str = "*") -> list[str]:
    """The names that ``get_model`` knows, family by family: those that match ``pattern``, with ``*`` for anything."""
    return [name for name in ZOO if fnmatchcase(name, pattern.lower())]


def get_model(name: str, **keywords: Any) -> Network:
    """get_model(name, *, imsize=(224, 224), inchannels=3, nclasses=1000, ...)

    The model of this name, untrained; the keywords are its family's. ``get_model("resnet18")`` is ``ResNet(18)``.
    ValueError for a name that is not in ``list_models()``, with the nearest ones.
    """
    if name in ZOO:
        return ZOO[name](**keywords)
    low = str(name).lower()
    near = [known for known in ZOO if known.startswith(low)][:3] or get_close_matches(low, ZOO, 3)
    raise ValueError(f"get_model: there is no model {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else
                     "list_models() returns the names"))
