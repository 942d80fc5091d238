"""Models: whole networks, built by one call."""

from .lenet import LeNet
from .mlp import MLP

__all__ = ["MLP", "LeNet"]
