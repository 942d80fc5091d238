"""The kernel machinery: one text, three readings (GPU, CPU, emulator)."""

from .errors import KernelBuildError, KernelError, KernelWarning
from .kernel import KernelFile

__all__ = ["KernelBuildError", "KernelError", "KernelFile", "KernelWarning"]
