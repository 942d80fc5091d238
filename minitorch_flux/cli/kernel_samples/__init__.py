"""A small call for every kernel: what ``minitorch-flux emulate`` runs, and what the tests of all kernels run.

A sample makes its inputs with a ``Draw`` and yields what the op returns for them, one call after the other, so that all
calls together reach every branch of the kernel. Inside ``use_kernels(False)`` the same calls run the op's reference.
``draw.n`` is the size that meets the machine's boundaries: the lanes of a row, or the elements of an elementwise kernel.
Some ops leave small arrays to NumPy, and an optimiser finds its parameters by their addresses, which mean nothing to the
emulator: their samples launch the kernel themselves where ``draw.kernels`` is true.
"""

from . import adaptive, images, norms, pointwise, products, rows, sequences, tensor_cores
from .registry import BOUNDARIES, SAMPLES, Draw, Sample
from .running import Difference, Launch, compare, launches, poisoned, run

__all__ = [
    "BOUNDARIES",
    "SAMPLES",
    "Difference",
    "Draw",
    "Launch",
    "Sample",
    "adaptive",
    "compare",
    "images",
    "launches",
    "norms",
    "pointwise",
    "poisoned",
    "products",
    "rows",
    "run",
    "sequences",
    "tensor_cores",
]
