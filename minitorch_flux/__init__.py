"""minitorch_flux: Flux's layers and Metalhead's models in Python, from scratch on NumPy and CuPy."""
from .autograd import *  # noqa
from .ops import methods
