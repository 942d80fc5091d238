"""Models: whole networks, built by one call."""

from . import layers
from .lenet import LeNet
from .mlp import MLP

Layers = layers  # the documents' name, as in ``from minitorch_flux import Layers``

__all__ = ["MLP", "Layers", "LeNet", "layers"]
