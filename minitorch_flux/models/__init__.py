"""Models: whole networks, built by one call, and ``layers``, the building blocks that they are made of."""

from . import layers
from .alexnets import AlexNet
from .catalogue import get_model, list_models
from .convmixers import ConvMixer, convmixer
from .convnexts import ConvNeXt, convnext
from .densenets import DenseNet, densenet
from .efficientnets import EfficientNet, EfficientNetLite, EfficientNetv2
from .inceptions import GoogLeNet, InceptionResNetv2, Inceptionv3, Inceptionv4, Xception
from .lenet import LeNet
from .mixers import MLPMixer, ResMLP, gMLP, mixer
from .mlp import MLP
from .mobilenets import MNASNet, MobileNetv1, MobileNetv2, MobileNetv3, inverted_residual_network
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
from .squeezenets import SqueezeNet
from .unets import UNet
from .vggs import VGG, vgg
from .vits import ViT, vit
from .weight_names import published_names

Layers = layers  # the documents' name, as in ``from minitorch_flux import Layers``

__all__ = [
    "MLP",
    "VGG",
    "AlexNet",
    "ConvMixer",
    "ConvNeXt",
    "DenseNet",
    "EfficientNet",
    "EfficientNetLite",
    "EfficientNetv2",
    "GoogLeNet",
    "InceptionResNetv2",
    "Inceptionv3",
    "Inceptionv4",
    "Layers",
    "LeNet",
    "MLPMixer",
    "MNASNet",
    "MobileNetv1",
    "MobileNetv2",
    "MobileNetv3",
    "Network",
    "Res2NeXt",
    "Res2Net",
    "ResMLP",
    "ResNeXt",
    "ResNet",
    "SEResNeXt",
    "SEResNet",
    "SqueezeNet",
    "UNet",
    "ViT",
    "WideResNet",
    "Xception",
    "backbone",
    "basicblock",
    "bottle2neck",
    "bottleneck",
    "classifier",
    "convmixer",
    "convnext",
    "densenet",
    "gMLP",
    "get_model",
    "inverted_residual_network",
    "layers",
    "list_models",
    "mixer",
    "num_parameters",
    "published_names",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg",
    "vit",
]
