"""Convolution as products of the weights with panels of columns (kernels: kernels/panel_convolution.cu).

The three sums of convolution.py over one or two axes. The lanes are pixels, as they lie in memory: a core copies what some of
them see to panels in its cache, and multiplies the weights, as they lie too, by these. The columns of a 1x1 window are the
image itself: they cost little beside the products. ``data`` is for windows that do not overlap. ``finished`` ends in a bias
and an activation; a result that no cache holds is written past them all, and the next pixels are asked for in time.
"""

from __future__ import annotations

import math
from typing import Any

from ..backend import empty
from ..backend.threads import num_threads
from ..readings import KernelFile
from .geometry import Window
from .im2col import Sizes, three
from .nonlinearities import Activation, identity, parameter_of

panels = KernelFile("panel_convolution.cu")

PANEL = 48  # pixels whose columns lie side by side
TOGETHER = 8  # most lines of the left factor that are multiplied at once
LONGEST = 480  # most pixels of a strip,
STRIP = 1 << 16  # whose columns are so many numbers, if those of one panel are no more
PAST = 1 << 24  # bytes of a result from which it is written past the caches
SUMS = 1 << 18  # most sums of a filter gradient that every thread has for itself


def _up(n: int, m: int) -> int:
    return -(-n // m) * m


def fits(window: Window, passing: str) -> bool:
    """Whether this file can compute a pass."""
    apart = all((k - 1) * d + 1 <= s for k, d, s in zip(window.kernel, window.dilation, window.stride))
    return window.ndim < 3 and (passing != "data" or apart)


def _numbers(window: Window, sizes: Sizes, out: Sizes) -> tuple[Sizes, Sizes, Sizes]:
    """(height, width) of the image and of the result, and the window's ten numbers; a pixel that visits all visits a line."""
    if window.pointwise():
        return (1, math.prod(sizes)), (1, math.prod(out)), (1, 1, 1, 1, 1, 1, 0, 0)
    pairs = ((window.kernel, 1), (window.stride, 1), (window.dilation, 1), (window.lo, 0))
    return three(sizes, 1)[1:], three(out, 1)[1:], tuple(n for v, fill in pairs for n in three(v, fill)[1:])


def _strips(groups: int, pixels: int, depth: int, lines: int) -> tuple[int, int, int, int]:
    """``(strip, parts, split, room)`` for panels of ``depth`` lines and ``lines`` of the left factor."""
    threads, count = num_threads(), -(-pixels // PANEL)
    most = max(1, min(LONGEST, STRIP // depth) // PANEL)
    strips = -(-count // most)
    together = threads // math.gcd(groups, threads)  # as many shares as threads, as equal as can be
    strip = PANEL * -(-count // min(_up(strips, together), count))
    strips = groups * -(-pixels // strip)
    split = min(threads, -(-lines // TOGETHER)) if strips < threads else 1
    return strip, min(strips, -(-threads // split)), split, depth * strip + TOGETHER * PANEL


def _past(y: Any) -> bool:
    """Whether a result is written past the caches: it is too large for them, and its lines begin where theirs do."""
    return bool(y.nbytes >= PAST and math.prod(y.shape[2:]) * y.itemsize % 64 == 0)


def forward(x: Any, w: Any, window: Window, out: Sizes) -> Any:
    """``conv_forward``."""
    found = finished(x, w, None, window, identity, out)
    return found if found is NotImplemented else found[0]


def finished(x: Any, w: Any, b: Any, window: Window, activation: Activation, out: Sizes, past: bool | None = None) -> Any:
    """``conv_bias_act_forward``: (y, z), z where the gradient needs it; ``past``: written past the caches (default: where
    large)."""
    n, g, o, k = x.shape[0], window.groups, w.shape[0] // window.groups, math.prod(w.shape[1:])
    size, result, numbers = _numbers(window, x.shape[2:], out)
    strip, parts, split, room = _strips(g, n * math.prod(out), k, o)
    y, space = empty((n, g * o, *out), x.dtype, like=x), empty((parts * split, room), x.dtype, like=x)
    z = None if activation.from_output else empty(y.shape, x.dtype, like=x)
    ran = panels(
        "panels_forward", x, parts * split, PANEL, x, w, b, z, y, space, parameter_of(activation, ()), n, g, w.shape[1], *size,
        o, *result, *numbers, strip, parts, split, room, _past(y) if past is None else past, activation is not identity,
        constants=activation.constants,
    )  # fmt: skip
    return (y, z) if ran else NotImplemented


def data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """``conv_data_forward``, for windows that do not overlap."""
    n, g, c, o, k = y.shape[0], window.groups, w.shape[1], w.shape[0] // window.groups, math.prod(w.shape[1:])
    size, result, numbers = _numbers(window, sizes, y.shape[2:])
    strip, parts, split, room = _strips(g, n * math.prod(result), o, k)
    x, u = empty((n, g * c, *sizes), y.dtype, like=y), empty((g, k, o), y.dtype, like=y)
    space = empty((parts * split, room), y.dtype, like=y)
    if any(lo or o * k != i for lo, o, k, i in zip(window.lo, y.shape[2:], window.kernel, sizes)):
        x[...] = 0
    if not panels("panels_turn", y, g * -(-k // 16), o, w, u, g, o, k, constants=identity.constants):
        return NotImplemented
    panels(
        "panels_data", y, parts * split, PANEL, y, u, x, space, n, g, c, *size, o, *result, *numbers, strip, parts, split, room,
        _past(x), constants=identity.constants,
    )  # fmt: skip
    return x


def filter(x: Any, y: Any, window: Window) -> Any:
    """``conv_filter_forward``."""
    n, g, c, o = x.shape[0], window.groups, x.shape[1] // window.groups, y.shape[1] // window.groups
    size, result, numbers = _numbers(window, x.shape[2:], y.shape[2:])
    k, pixels, whole = c * math.prod(window.kernel), math.prod(result), window.pointwise()
    wide, threads = _up(o, PANEL), num_threads()
    strip = _up(min(pixels, max(64, min(512, 2 * STRIP // (wide + (0 if whole else k))))), 16)
    strip = _up(-(-pixels // -(-pixels // strip)), 16)
    strips, sums = n * -(-pixels // strip), g * wide * k
    split = min(threads, -(-k // TOGETHER)) if strips < threads or sums > SUMS else 1
    parts = min(strips, -(-threads // split))
    room = (wide + (0 if whole else -(-k // split))) * strip
    space, part = empty((parts * split, room), x.dtype, like=x), empty((parts, sums), x.dtype, like=x)
    w = empty((g * o, c, *window.kernel), x.dtype, like=x)
    ran = panels(
        "panels_filter", x, parts * split, PANEL, x, y, part, space, n, g, c, *size, o, *result, *numbers, strip, parts, split,
        room, whole, constants=identity.constants,
    )  # fmt: skip
    if not ran:
        return NotImplemented
    rows = g * wide // PANEL * -(-k // 16)
    panels("panels_filter_backward", x, rows, PANEL, part, w, parts, g, k, o, constants=identity.constants)
    return w
