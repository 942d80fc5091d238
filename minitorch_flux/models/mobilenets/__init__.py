"""MobileNets and MNASNets: small and fast networks of depthwise convolutions, and the builder of all of their kind."""

from .building import Stage, inverted_residual_network
from .mnasnet import MNASNet
from .mobilenetv1 import MobileNetv1
from .mobilenetv2 import MobileNetv2
from .mobilenetv3 import MobileNetv3

__all__ = ["MNASNet", "MobileNetv1", "MobileNetv2", "MobileNetv3", "Stage", "inverted_residual_network"]
