"""The Inception networks: GoogLeNet, Inception-v3, Inception-v4, Inception-ResNet-v2 and Xception."""

from .googlenets import GoogLeNet
from .inception_resnet_v2 import InceptionResNetv2
from .inception_v3 import Inceptionv3
from .inception_v4 import Inceptionv4
from .xceptions import Xception

__all__ = ["GoogLeNet", "InceptionResNetv2", "Inceptionv3", "Inceptionv4", "Xception"]
