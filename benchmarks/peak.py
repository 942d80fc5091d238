"""Memory as the operating system counts it, the same for every side: resident bytes, their high-water mark, page faults.

A side's own statistics would count what its allocator hands out, each by its own rules. The resident set counts every page
that was really touched, by arrays, workspaces and libraries alike. Linux only; elsewhere None.
"""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _field(name: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), None)


def resident() -> int | None:
    """Bytes of this process that are in memory now."""
    return _field("VmRSS")


def reset_high_water() -> bool:
    """Let the high-water mark begin anew at what is resident; False where that cannot be done."""
    try:
        REFERENCES.write_text("5")
    except OSError:
        return False
    return True


def high_water() -> int | None:
    """The most bytes that were ever in memory since the mark was reset."""
    return _field("VmHWM")


def faulted() -> int:
    """Bytes of pages that were touched for the first time so far: new memory, also where it was given back and came again."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize()


def trim() -> None:
    """Let the C library give its free memory back to the system, where it can (glibc)."""
    trimmed = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trimmed is not None:
        trimmed(0)
