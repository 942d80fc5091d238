"""How many blocks of how many threads a launch takes on a GPU (and in the emulator)."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_GRID = 1 << 16  # blocks; beyond that the loops of ROWS and EACH come round again
WARP = 32


@dataclass(frozen=True)
class Geometry:
    """`grid` blocks of `lanes` x `rows` threads: blockDim.x lanes work on each of blockDim.y rows."""

    grid: int
    lanes: int
    rows: int


def geometry(rows: int, width: int, elementwise: bool, most: int = 512, block: int = 0) -> Geometry:
    """The launch of a kernel over `rows` rows of `width` elements.

    A short row (up to 256 elements) is a warp, eight to a block; a long one is a block of its own with four elements
    or more for each of at most 512 threads. Elementwise kernels (EACH) have a thread for each of rows * width elements.
    `most`: how many threads of this kernel a block can have, for a kernel with many registers fewer than 512.
    `block`: a row is a block of just as many threads, where the kernel's text says so.
    """
    if block:
        return Geometry(max(1, min(rows, LARGEST_GRID)), block, 1)
    whole = max(1, most // WARP) * WARP
    if elementwise:
        lanes = min(256, whole)
        return Geometry(max(1, min(-(-rows * width // lanes), LARGEST_GRID)), lanes, 1)
    lanes = WARP if width <= 256 else min(512, whole, -(-width // 128) * WARP)
    rows_per_block = min(8, whole // WARP) if lanes == WARP else 1
    return Geometry(max(1, min(-(-rows // rows_per_block), LARGEST_GRID)), lanes, rows_per_block)
