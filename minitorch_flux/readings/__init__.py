"""The kernel machinery: one text, three readings (GPU, CPU, emulator).

`emulator` has ``emulated``, which runs kernels in the emulator; `inventory` what this machine has and can build.
"""

from .errors import KernelBuildError, KernelError, KernelWarning
from .kernel import KernelFile

__all__ = ["KernelBuildError", "KernelError", "KernelFile", "KernelWarning"]
