"""Mixers: networks of patches that are made of Dense layers only, without convolution and without attention."""

from .building import mixer
from .gmlps import gMLP
from .mlpmixers import MLPMixer
from .resmlps import ResMLP

__all__ = ["MLPMixer", "ResMLP", "gMLP", "mixer"]
