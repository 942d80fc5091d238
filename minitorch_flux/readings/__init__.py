"""The kernel machinery: one text, three readings (GPU, CPU, emulator)."""

from .emulator import EMULATIONS, EmulatorError, emulated
from .errors import KernelBuildError, KernelError, KernelWarning
from .kernel import KernelFile

__all__ = [
    "EMULATIONS",
    "EmulatorError",
    "KernelBuildError",
    "KernelError",
    "KernelFile",
    "KernelWarning",
    "emulated",
]
