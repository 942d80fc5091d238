"""What can go wrong between a kernel's text and its launch."""

from __future__ import annotations


class KernelError(RuntimeError):
    """A kernel file that says something the readings do not understand, or that lacks what was asked for."""


class KernelBuildError(KernelError):
    """A compiler refused a kernel file; the message is the compiler's and names the file and the line."""


class KernelWarning(UserWarning):
    """Kernels work, but not as well as they could: the text says why and what to do."""
