"""EfficientNets: the networks found by search and then scaled, their second version, and those for small devices."""

from .efficientnet import EfficientNet
from .efficientnetlite import EfficientNetLite
from .efficientnetv2 import EfficientNetv2

__all__ = ["EfficientNet", "EfficientNetLite", "EfficientNetv2"]
