"""Models: whole networks, built by one call, and ``layers``, the building blocks that they are made of."""

from . import layers
from .lenet import LeNet
from .mlp import MLP
from .networks import Network, backbone, classifier, num_parameters
from .resnets import (
    Res2Net,
    Res2NeXt,
    ResNet,
    ResNeXt,
    SEResNet,
    SEResNeXt,
    WideResNet,
    basicblock,
    bottle2neck,
    bottleneck,
    resnet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)

Layers = layers  # the documents' name, as in ``from minitorch_flux import Layers``

__all__ = [
    "MLP",
    "Layers",
    "LeNet",
    "Network",
    "Res2NeXt",
    "Res2Net",
    "ResNeXt",
    "ResNet",
    "SEResNeXt",
    "SEResNet",
    "WideResNet",
    "backbone",
    "basicblock",
    "bottle2neck",
    "bottleneck",
    "classifier",
    "layers",
    "num_parameters",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]
