"""Convolutions with 3x3 kernels by Winograd's F(4x4, 3x3), a few tiles at a time (kernels: kernels/winograd_tiles.cu).

    y = A' [(G g G') * (B' d B)] A        for every tile d of 6x6 pixels of a channel, summed over the channels

The mathematics are those of winograd.py. There BLAS multiplies, between passes over the whole batch; here a core takes a strip
of tiles through all steps while they are in its cache, with products of the kernel's own. This is the faster one on a CPU; on a
GPU, whose BLAS is the faster, it is the other way round.
"""

from __future__ import annotations

from typing import Any

from ..backend import empty
from ..backend.threads import num_threads
from ..readings import KernelFile
from .geometry import Window
from .im2col import Sizes

winograd_tiles = KernelFile("winograd_tiles.cu")

CHANNELS = 16  # of a group that is read or written side by side
BLOCK = 32  # outputs whose products are computed side by side
STRIP = 1 << 18  # most numbers of a strip's tiles in both domains: 1 MB, what a core's own cache holds,
TILES = 28  # but so many tiles at least, for whose sake all filters are read once
FEW = 64  # tiles that a row can keep, all of them, in both domains
CHUNK = 64  # channels for which filters are transformed at a time where tiles are few
SUMS = 1 << 20  # most sums of a filter gradient that every thread has for itself


def _up(n: int, m: int) -> int:
    return -(-n // m) * m


def _strips(n: int, out: Sizes, each: int, parts: int) -> tuple[int, int, int]:
    """``(lines, across, parts)``: how high and wide a strip is, and in how many parts the strips can be.

    ``each``: numbers of one tile. The strips are as equal as can be, and at least as many as the parts.
    """
    high, wide = -(-out[0] // 4), -(-out[1] // 4)
    tiles = max(TILES, STRIP // each)
    across = -(-wide // -(-wide // tiles))
    beside, all_lines = -(-wide // across), n * high
    lines = min(max(1, tiles // across), -(-all_lines * beside // parts))
    count = -(-all_lines // lines)
    lines = -(-all_lines // count)
    return lines, across, min(parts, -(-all_lines // lines) * beside)


def _room(lines: int, across: int, out: Sizes, inputs: int, outputs: int) -> int:
    """Numbers that a row of the kernels has to itself: V, M and the pixels of a strip."""
    tiles, high = lines * across, min(lines, -(-out[0] // 4))
    transformed = tiles * (inputs + outputs) + 2 * CHANNELS
    return 36 * transformed + max((4 * high + 2) * (4 * across + 2) * CHANNELS, 16 * high * across * BLOCK)


def _few(tiles: int, outputs: int, threads: int) -> int:
    """The rows that share the outputs where tiles are so few that each keeps all of them; 0 where they are too many.

    Every row transforms all tiles, which must be little beside the filters that it is spared to write and read.
    """
    blocks = -(-outputs // BLOCK)
    rows = min(blocks, threads)
    equal = 4 * blocks >= 3 * rows * -(-blocks // rows)
    worth = tiles <= FEW and outputs >= 2 * tiles * (rows - 1) and (rows == threads or tiles < TILES)
    return rows if worth and equal else 0


def forward(x: Any, w: Any, window: Window, out: Sizes, turned: bool = False) -> Any:
    """y (N, O, *out) from x and w (O, C, 3, 3); ``turned``: from w (C, O, 3, 3) with every kernel reversed."""
    n, c, *sizes = x.shape
    o = w.shape[1 if turned else 0]
    blocks, threads, pitch = -(-o // BLOCK), num_threads(), _up(c, CHANNELS) + CHANNELS
    high, wide = -(-out[0] // 4), -(-out[1] // 4)
    inner, outer = (o * 9, 9) if turned else (9, c * 9)
    u, y = None, empty((n, o, *out), x.dtype, like=x)
    if split := _few(n * high * wide, o, threads):
        lines, across, parts, chunk = n * high, wide, 1, min(CHUNK, c)
        room = _room(lines, across, out, pitch, BLOCK) + 36 * chunk * BLOCK
    else:
        split = min(blocks, threads) if n * high * wide < threads * TILES else 1  # each reads its filters only
        lines, across, parts = _strips(n, out, 36 * (pitch + BLOCK), -(-threads // split))
        chunk, room = c, _room(lines, across, out, pitch, BLOCK)
        u = empty((blocks, 36, c, BLOCK), x.dtype, like=x)
        if not winograd_tiles("tiles_weights", x, blocks * c, BLOCK, w, u, c, o, inner, outer, int(turned)):
            return NotImplemented
    space = empty((parts * split, room), x.dtype, like=x)
    ran = winograd_tiles(
        "tiles_forward", x, parts * split, BLOCK,
        x, u, w, space, y, n, c, *sizes, o, *out, *window.lo, inner, outer, int(turned), lines, across, parts, split, chunk,
        room,
    )  # fmt: skip
    return y if ran else NotImplemented


def data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """``conv_data_forward``: a convolution with the turned kernels."""
    return forward(y, w, window.reversed(), sizes, turned=True)


def filter(x: Any, y: Any, window: Window) -> Any:
    """``conv_filter_forward``."""
    (n, c, *sizes), (o, *out) = x.shape, y.shape[1:]
    blocks, threads, pitch = -(-o // BLOCK), num_threads(), _up(c, CHANNELS) + CHANNELS
    high, wide = -(-out[0] // 4), -(-out[1] // 4)
    part, w = None, empty((o, c, 3, 3), x.dtype, like=x)
    if split := _few(n * high * wide, o, threads):
        share = -(-blocks // split) * BLOCK + CHANNELS
        lines, across, parts, chunk = n * high, wide, 1, min(CHUNK, c)
        room = _room(lines, across, tuple(out), pitch, share) + 36 * chunk * BLOCK
    else:
        split = min(blocks, threads) if n * high * wide < threads * TILES or 36 * blocks * BLOCK * c > SUMS else 1
        share = -(-blocks // split) * BLOCK + CHANNELS
        lines, across, parts = _strips(n, tuple(out), 36 * (pitch + share), -(-threads // split))
        chunk, room = c, _room(lines, across, tuple(out), pitch, share)
        part = empty((parts, blocks, 36, c, BLOCK), x.dtype, like=x)
    space = empty((parts * split, room), x.dtype, like=x)
    ran = winograd_tiles(
        "tiles_filter", x, parts * split, BLOCK,
        x, y, space, part, w if part is None else None, n, c, *sizes, o, *out, *window.lo, lines, across, parts, split, chunk,
        room,
    )  # fmt: skip
    if not ran:
        return NotImplemented
    if part is not None:
        winograd_tiles("tiles_filter_backward", x, blocks * c, BLOCK, part, w, parts, c, o)
    return w
