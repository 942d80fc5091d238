"""Which algorithm computes a convolution: the one table that decides, by shapes and machine only.

On a CPU the cheapest by COSTS, of those that can compute the case; on a GPU, where few of them run, the first that fits of
``_on_gpu``. ``python -m benchmarks.convolution_shapes`` times what is taken, on shapes drawn at random, against every other
algorithm that can compute them and against PyTorch, and says where the table was wrong: the numbers come from there.

    depthwise       kernels/depthwise.cu: every group has one input channel
    winograd_tiles  kernels/winograd_tiles.cu: 3x3 with stride 1 in a quarter of the products, a few tiles at a time (CPU)
    winograd        kernels/winograd.cu: the same in passes over the batch, with products of BLAS (GPU)
    blocked         kernels/blocked_convolution.cu: channels in the lanes, for any kernel and stride (CPU, one or two axes)
    panels          kernels/panel_convolution.cu: pixels in the lanes, columns a cache's worth at a time (CPU, one or two axes)
    direct          kernels/convolution.cu: output pixels in the lanes, few channels in registers
    pointwise       a 1x1 window that visits every pixel is a product of matrices as it is
    image_columns   kernels/image_columns.cu and BLAS: columns of all images at once
    columns         kernels/im2col.cu and BLAS: columns of some images at a time
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from . import depthwise, panel_convolution
from .geometry import Window
from .im2col import Sizes

LANES = 16  # numbers that a CPU multiplies at once, for what is lost where a line or the channels do not fill them
WIDEST = 11  # longest kernel line that the direct kernels unroll
LONGEST_STEP = 4  # largest stride along the width with which their data gradient keeps its pixels in registers
FEW = 256  # on a GPU: up to this many inputs of a pixel a matrix product is no match for sums in registers
TILES = 32  # on a GPU: tiles and channels from which Winograd's products pay for the passes over the batch


@dataclass(frozen=True)
class Case:
    """One sum of the triad: ``passing`` is "forward", "data" or "filter"; channels are those of a group; ``image`` and
    ``result`` are the sizes of x and y; ``cpu``: where the arrays are."""

    passing: str
    window: Window
    dtype: str
    images: int
    inputs: int
    outputs: int
    image: Sizes
    result: Sizes
    cpu: bool

    @property
    def taps(self) -> int:
        """Elements of a kernel."""
        return math.prod(self.window.kernel)

    @property
    def planes(self) -> int:
        """Images, counting each group as one."""
        return self.images * self.window.groups

    @property
    def read(self) -> tuple[int, int]:
        """Channels and pixels of the images that are read (with a filter gradient, those of x)."""
        return (self.outputs, math.prod(self.result)) if self.passing == "data" else (self.inputs, math.prod(self.image))

    @property
    def made(self) -> tuple[int, int]:
        """Channels and pixels of those that come out (with a filter gradient, those of dy)."""
        return (self.inputs, math.prod(self.image)) if self.passing == "data" else (self.outputs, math.prod(self.result))

    @property
    def out(self) -> Sizes:
        """Sizes of what Winograd's tiles cover."""
        return self.image if self.passing == "data" else self.result

    @property
    def line(self) -> int:
        """Pixels that lie side by side in the lanes of the direct kernels."""
        return -(-self.image[-1] // self.window.stride[-1]) if self.passing == "data" else self.result[-1]

    @property
    def products(self) -> int:
        """Numbers that are multiplied, by the definition."""
        return self.planes * math.prod(self.result) * self.taps * self.inputs * self.outputs


# -- what can compute a case -------------------------------------------------------------------------------------------


def _winograd(c: Case) -> bool:
    w = c.window
    return w.kernel == (3, 3) and w.stride == w.dilation == (1, 1) and w.groups == 1 and c.dtype == "float32"


def _direct(c: Case) -> bool:
    return c.window.kernel[-1] <= WIDEST and (c.passing != "data" or c.window.stride[-1] <= LONGEST_STEP)


POSSIBLE: dict[str, Callable[[Case], bool]] = {
    "depthwise": lambda c: depthwise.suits(c.window, c.inputs),
    "winograd_tiles": lambda c: c.cpu and _winograd(c),
    "winograd": _winograd,
    "blocked": lambda c: c.cpu and c.window.ndim < 3,
    "panels": lambda c: c.cpu and panel_convolution.fits(c.window, c.passing),
    "direct": _direct,
    "pointwise": lambda c: c.passing != "filter" and c.window.pointwise(),
    "image_columns": lambda c: True,
    "columns": lambda c: True,
}
"""Whether an algorithm can compute a case at all."""


# -- what it costs on a CPU --------------------------------------------------------------------------------------------


def _up(n: int, m: int = LANES) -> int:
    return -(-n // m) * m


class Cost(NamedTuple):
    """What an algorithm does: numbers multiplied, with those in lanes that are left empty; numbers turned or copied on the
    way in and out; transformed weights; rounds that have a price of their own."""

    products: float
    numbers: float = 0
    weights: float = 0
    rounds: float = 0

    def seconds(self, each: Cost) -> float:
        """The time, at so many nanoseconds for each."""
        return 1e-9 * sum(a * b for a, b in zip(self, each))


def _winograd_tiles(c: Case) -> Cost:
    (read, _), (made, _) = c.read, c.made
    tiles = 36 * c.images * -(-c.out[0] // 4) * -(-c.out[-1] // 4)
    return Cost(tiles * read * _up(made), tiles * (_up(read) + _up(made)), 36 * read * _up(made, 32), 1)


def _blocked(c: Case) -> Cost:
    (read, seen), (made, pixels) = c.read, c.made
    numbers = c.planes * (seen * _up(read) + pixels * _up(made))
    return Cost(c.products / made * _up(made), numbers, c.window.groups * c.taps * read * _up(made, 32))


def _panels(c: Case) -> Cost:
    """What is copied to panels is counted in whole registers, which end with a line and with a panel."""
    unit, pixels, terms = c.window.pointwise(), c.planes * math.prod(c.result), c.inputs * c.taps
    rows = c.outputs if c.passing == "forward" else terms
    products = c.products / rows * (rows // 8 * 8 + max(rows % 8, 4 * (rows % 8 > 0)))  # a few sums wait for each other
    line = c.result[-1]
    copies = 0.5 if unit or c.passing == "data" else LANES * (-(-line // LANES) / line + 1 / panel_convolution.PANEL)
    if not c.window.unit_stride():
        copies *= 1.5
    moved = c.planes * (c.read[0] * c.read[1] + c.made[0] * c.made[1])
    if c.passing == "filter":
        turned = 5 * pixels * c.outputs
        return Cost(products / c.outputs * _up(c.outputs), 0 if unit else pixels * terms * copies, moved + turned, 0)
    copied = pixels * (c.outputs if c.passing == "data" else terms) * copies
    if c.passing == "data" and not unit:
        copied += 4 * pixels * terms  # one by one, to every so many
    return Cost(products, copied, moved, pixels / panel_convolution.PANEL * -(-rows // 8))


def _direct_cost(c: Case) -> Cost:
    (read, seen), (made, pixels) = c.read, c.made
    if c.taps == 1 and not c.window.unit_stride():
        return Cost(math.inf)  # most of the pixels that a lane reads are left out
    few = max(made, 4) / made  # sums that wait for each other
    if c.taps == 1 and c.passing == "filter":
        few *= 2  # nothing that is loaded serves another tap
    return Cost(c.products / c.line * _up(c.line) * few, c.planes * (seen * read + pixels * made))


def _by_blas(c: Case) -> float:
    """Products, more where each of its sums has a few only."""
    terms = c.read[0] * c.taps
    return c.products / terms * max(terms, 10)


def _columns(c: Case) -> Cost:
    (read, seen), (made, pixels) = c.read, c.made
    copies = c.planes * math.prod(c.result) * c.taps * c.inputs
    return Cost(_by_blas(c), copies, c.planes * (seen * read + pixels * made), c.images)


def _pointwise(c: Case) -> Cost:
    (read, seen), (made, pixels) = c.read, c.made
    return Cost(_by_blas(c), c.planes * (seen * read + pixels * made), 0, c.images)


COSTS: dict[str, tuple[Callable[[Case], Cost], Cost]] = {
    "winograd_tiles": (_winograd_tiles, Cost(0.020, 0.20, 0.22, 14e3)),
    "blocked": (_blocked, Cost(0.0193, 0.27, 0.38)),
    "panels": (_panels, Cost(0.0178, 0.28, 0.12, 35)),
    "direct": (_direct_cost, Cost(0.0217, 0.17)),
    "pointwise": (_pointwise, Cost(0.022, 0.15, 0, 500)),
    "image_columns": (_columns, Cost(0.0235, 0.27, 0.85)),
    "columns": (_columns, Cost(0.025, 0.36, 0.23, 700)),
}
"""What each of them does, and the nanoseconds that it takes: fitted to 234 sums of random shapes on one AVX-512 core of
3.7 GHz. Only their ratios count. All multiply at nearly the same rate; what differs is how many numbers they multiply, how
many lanes are empty and what is moved besides."""


def _on_gpu(c: Case) -> str:
    if POSSIBLE["winograd"](c) and min(c.inputs, c.outputs, c.images * (c.out[0] // 4) * (c.out[-1] // 4)) >= TILES:
        return "winograd"
    few = c.read[0] * c.taps <= FEW
    if _direct(c) and (few or 5 * c.line >= 4 * _up(c.line) if c.taps > 1 else few and c.window.groups > 1):
        return "direct"
    if c.images >= 8 and math.prod(c.result) <= 128 and c.images * math.prod(c.result) <= 1 << 14:
        return "image_columns"
    return "pointwise" if POSSIBLE["pointwise"](c) else "columns"


@functools.lru_cache(maxsize=4096)
def algorithm_for(
    passing: str, window: Window, dtype: str, images: int, inputs: int, outputs: int, image: Sizes, result: Sizes, cpu: bool
) -> str:
    """The name of the algorithm for a case (see Case)."""
    case = Case(passing, window, dtype, images, inputs, outputs, image, result, cpu)
    if POSSIBLE["depthwise"](case):
        return "depthwise"
    if not cpu:
        return _on_gpu(case)
    return min((name for name in COSTS if POSSIBLE[name](case)), key=lambda name: _seconds(name, case))


def _seconds(name: str, case: Case) -> float:
    count, each = COSTS[name]
    return count(case).seconds(each)
