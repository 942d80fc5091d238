"""Interpolation to another size, and pixel_shuffle (kernels: kernels/upsampling.cu).

    upsample       y[p] = sum over k of w[p, k] x[first[p] + k]      along each of the last 1 to 3 axes in turn
                   dx[i] = sum over p of w[p, i - first[p]] dy[p]    the same form, with the transposed weights

    nearest        x[floor(p / s)]
    linear         (1 - f) x[i] + f x[i + 1]           i + f = (p + 1/2) / s - 1/2, and at least 0
    bicubic        four taps from i - 1 on             Keys' kernel with a = -3/4; i + f as above, without the bound

x (N, C, *I), y (N, C, *P), over 1 to 3 axes, bicubic over 2. s is the scale that was given, or else P / I; with
``align_corners`` i + f = p (I - 1) / (P - 1), so that the first and last pixels stay where they are. Beyond an edge lies
the pixel of the edge. These are PyTorch's conventions (its ``recompute_scale_factor=False``): P = floor(I s), and positions
follow the given s even where P / I differs from it; but nearest and linear leave an axis alone that keeps its size.

    pixel_shuffle  y[n, c, i r + a, j r + b] = x[n, (c r + a) r + b, i, j]

Sources: PyTorch's ``interpolate`` and ``pixel_shuffle``, NNlib's ``upsample_nearest``, ``upsample_linear``,
``pixel_shuffle``; Keys, "Cubic convolution interpolation for digital image processing", 1981.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty, is_float
from ..readings import KernelFile
from .elementwise import as_tensor

UNROLLED = 8
"""Taps of an element that a kernel unrolls."""

# -- which elements, and how much of each ------------------------------------------------------------------------------


class Taps:
    """A linear map along one axis of ``size`` elements: ``y[p] = sum over k of weights[k, p] x[first[p] + k]``.

    ``first`` (out,) and ``weights`` (taps, out) are made from any ``index`` and ``weight`` (taps, out): what falls on one
    element is added up. ``plain``: y[p] is x[first[p]]. ``rises``: no first is smaller than the one before.
    """

    def __init__(self, size: int, index: np.ndarray, weight: np.ndarray) -> None:
        out = index.shape[1]
        p = np.broadcast_to(np.arange(out), index.shape)
        used = weight != 0
        lo, hi = np.full(out, size), np.full(out, -1)
        np.minimum.at(lo, p[used], index[used])
        np.maximum.at(hi, p[used], index[used])
        taps = max(int((hi - lo).max()) + 1, 1)
        ordered = np.minimum.accumulate(lo[::-1])[::-1]
        if (longest := max(int((hi - ordered).max()) + 1, 1)) <= taps + 2:  # all maps but those that turn a line around
            lo, taps = ordered, longest
        lo = np.clip(lo, 0, size - taps)  # a line of taps stays inside; those before the first one have weight 0
        self.size, self.out, self.first = size, out, lo.astype(np.int32)
        self.rises = bool((lo[1:] >= lo[:-1]).all())
        self.weights = np.zeros((taps, out))
        np.add.at(self.weights, ((index - lo)[used], p[used]), weight[used])
        self.plain = taps == 1 and bool((self.weights == 1).all())

    @functools.cached_property
    def transposed(self) -> Taps:
        """The map of the gradient: from ``out`` to ``size`` elements."""
        k, p = self.weights.nonzero()
        at = self.first[p] + k  # the element that p reads, and so the one that gathers from p
        order = np.argsort(at, kind="stable")
        at, p, weight = at[order], p[order], self.weights[k, p][order]
        rank = np.arange(len(at)) - np.searchsorted(at, at)
        index, weights = np.zeros((int(rank.max()) + 1, self.size), np.int64), np.zeros((int(rank.max()) + 1, self.size))
        index[rank, at], weights[rank, at] = p, weight
        other = Taps(self.out, index, weights)
        other.__dict__["transposed"] = self
        return other

    @functools.cached_property
    def weights32(self) -> np.ndarray:
        """The weights in float32."""
        return self.weights.astype(np.float32)

    @property
    def short(self) -> bool:
        """Whether a kernel may unroll the taps, and look for those of neighbours in one piece of a line."""
        return self.rises and len(self.weights) <= UNROLLED


def _positions(size: int, out: int, scale: float | None, align_corners: bool) -> np.ndarray:
    """i + f for every output element."""
    p = np.arange(out)
    if align_corners:
        return p * ((size - 1) / (out - 1)) if out > 1 else np.zeros(1)
    return (p + 0.5) / (out / size if scale is None else scale) - 0.5


@functools.lru_cache(maxsize=256)
def nearest_taps(size: int, out: int, scale: float | None, align_corners: bool = False) -> Taps:
    """x[floor(p / s)], exactly."""
    p = np.arange(out)
    index = p * size // out if scale is None or size == out else np.floor(p / scale).astype(np.int64)
    return Taps(size, np.minimum(index, size - 1)[None], np.ones((1, out)))


@functools.lru_cache(maxsize=256)
def linear_taps(size: int, out: int, scale: float | None, align_corners: bool) -> Taps:
    """The two neighbours of a position, by their distance to it."""
    at = np.clip(_positions(size, out, None if size == out else scale, align_corners), 0, size - 1)
    i = np.floor(at).astype(np.int64)
    return Taps(size, np.stack([i, np.minimum(i + 1, size - 1)]), np.stack([1 - (at - i), at - i]))


@functools.lru_cache(maxsize=256)
def cubic_taps(size: int, out: int, scale: float | None, align_corners: bool) -> Taps:
    """The four neighbours of a position by Keys' kernel with a = -3/4."""
    a = -0.75
    at = _positions(size, out, scale, align_corners)
    i = np.floor(at)
    distances = np.abs(np.stack([at - i + 1 - k for k in range(4)]))
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    index = np.clip(np.stack([i - 1 + k for k in range(4)]), 0, size - 1).astype(np.int64)
    return Taps(size, index, np.where(distances <= 1, near, far))


# -- references --------------------------------------------------------------------------------------------------------


@array_function
def resample(x: Any, axis: int, taps: Taps) -> Any:
    """``x`` with ``taps`` applied along one axis."""
    xp = array_module(x)
    first = xp.asarray(taps.first)
    if taps.plain:
        return x.take(first, axis=axis)
    y: Any = 0
    for k, weight in enumerate(taps.weights.astype(x.dtype)):
        weight = xp.asarray(weight).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
        with np.errstate(invalid="ignore"):  # infinity times 0, which is not taken
            y = y + xp.where(weight == 0, xp.zeros((), x.dtype), x.take(first + k, axis=axis) * weight)
    return y


@array_function
def resample_planes(x: Any, rows: Taps, columns: Taps) -> Any:
    """``x`` with ``rows`` applied along its last axis but one, and ``columns`` along the last one; 16-bit floats are computed
    in float32."""
    high = x.astype(accumulator(x.dtype), copy=False)
    if rows.out * columns.out > rows.size * columns.size:  # the last axis, which is the slowest, where lines are few
        y = resample(resample(high, x.ndim - 1, columns), x.ndim - 2, rows)
    else:
        y = resample(resample(high, x.ndim - 2, rows), x.ndim - 1, columns)
    return y.astype(x.dtype, copy=False)


def upsample_forward(x: Any, maps: tuple[Taps, ...]) -> Any:
    """``x`` with a map along each of its last axes; 16-bit floats are computed in float32."""
    dtype = x.dtype
    axes = zip(range(x.ndim - len(maps), x.ndim), maps, strict=True)
    steps = [(axis, taps) for axis, taps in axes if taps.size != taps.out or not taps.plain]
    planes = is_float(dtype) and [axis for axis, _ in steps[-2:]] == [x.ndim - 2, x.ndim - 1]
    if not all(taps.plain for taps in maps) and not (planes and len(steps) == 2):
        x = x.astype(accumulator(dtype) if is_float(dtype) else np.float64, copy=False)
    grows = math.prod(taps.out for taps in maps) > math.prod(taps.size for taps in maps)
    parts = [*steps[:-2], steps[-2:]] if planes else steps
    for part in reversed(parts) if grows else parts:  # where it grows: the last axis, which is the slowest, where lines are few
        x = resample_planes(x, part[0][1], part[1][1]) if type(part) is list else resample(x, *part)
    return x.astype(dtype, copy=False) if is_float(dtype) else x


def upsample_backward(dy: Any, maps: tuple[Taps, ...]) -> Any:
    """dx: the transposed maps."""
    return upsample_forward(dy, tuple([taps.transposed for taps in maps]))


# -- the operation -----------------------------------------------------------------------------------------------------

_upsample: Operation = operation(
    "upsample",
    upsample_forward,
    backward=lambda dy, maps: upsample_backward(dy, maps),
    rule=lambda dy, maps: _upsample(dy, maps=tuple([taps.transposed for taps in maps])),
)


def _interpolated(
    name: str, x: Any, scale: Any, size: Any, align_corners: bool, taps: Callable[..., Taps], ndim: int | None = None
) -> Tensor:
    x = as_tensor(x)
    axes = x.ndim - 2 if ndim is None else ndim
    if not 1 <= axes <= 3 or x.ndim != axes + 2:
        takes = "3 to 5 axes (N, C, ...)" if ndim is None else f"{axes + 2} axes (N, C, {', '.join('DHW'[-axes:])})"
        raise ValueError(f"{name}: takes an input of {takes}; got {x.ndim} axes (input shape {x.shape})")
    if (scale is None) == (size is None):
        raise TypeError(f"{name}: give either scale= or size=, got {'neither' if scale is None else 'both'}")
    if size is not None:
        outs, scales = _per_axis(name, "size", size, axes, int | np.integer, "a whole number"), [None] * axes
    else:
        scales = _per_axis(name, "scale", scale, axes, int | float | np.integer | np.floating, "a number")
        outs = [math.floor(i * s) for i, s in zip(x.shape[2:], scales)]
    for axis, (i, o) in enumerate(zip(x.shape[2:], outs), 2):
        if i == 0 or o == 0:
            raise ValueError(f"{name}: axis {axis} of the input has size {i} and would get {o}, both must be 1 or more "
                             f"(input shape {x.shape})")
    maps = [taps(i, int(o), s, align_corners) for i, o, s in zip(x.shape[2:], outs, scales)]
    return _upsample(x, maps=tuple(maps))


def _per_axis(name: str, what: str, value: Any, axes: int, kind: Any, words: str) -> list[Any]:
    """A number for every axis, or one for each, as a list."""
    values = list(value) if isinstance(value, tuple | list) else [value] * axes
    for v in values:
        if isinstance(v, bool) or not isinstance(v, kind):
            raise TypeError(f"{name}: {what} is {words} or a tuple with one for each axis, got {value!r}")
    if len(values) != axes:
        raise ValueError(f"{name}: {what} {value!r} has {len(values)} numbers, the input has {axes} axes after N and C")
    if not all(0 < v < math.inf for v in values):
        raise ValueError(f"{name}: {what} must be positive, got {value!r}")
    return values


def upsample_nearest(x: Any, scale: Any = None, *, size: Any = None, name: str = "upsample_nearest") -> Tensor:
    """The nearest pixel of ``x`` (N, C, *I) for every pixel of a new size: (N, C, *P), over 1 to 3 axes; any dtype.

    ``scale``: a number, or one for each axis; P = floor(I scale). Or ``size``: P, a number or one for each axis. Pixel p
    takes x[floor(p / scale)]. ``name``: in whose name errors speak.
    Raises TypeError where not exactly one of the two is given, ValueError for sizes that do not fit.
    """
    return _interpolated(name, x, scale, size, False, nearest_taps)


def upsample_linear(
    x: Any, scale: Any = None, *, size: Any = None, align_corners: bool = False, ndim: int | None = None,
    name: str = "upsample_linear",
) -> Tensor:
    """Linear interpolation of ``x`` (N, C, *I) along 1 to 3 axes (bilinear, trilinear); arguments as for
    ``upsample_nearest``.

    ``align_corners=True`` keeps the first and the last pixel where they are: then ``scale`` only decides the size. That is
    what NNlib and Flux do unless told otherwise; False is PyTorch's default and ours. Integers become float64.
    ``ndim``: how many axes there must be after N and C; None takes any number.
    """
    return _interpolated(name, x, scale, size, bool(align_corners), linear_taps, ndim)


def upsample_bicubic(
    x: Any, scale: Any = None, *, size: Any = None, align_corners: bool = False, name: str = "upsample_bicubic"
) -> Tensor:
    """Bicubic interpolation of ``x`` (N, C, H, W); arguments as for ``upsample_linear``."""
    return _interpolated(name, x, scale, size, bool(align_corners), cubic_taps, 2)


def pixel_shuffle(x: Any, r: int, *, name: str = "pixel_shuffle") -> Tensor:
    """Channels to pixels: ``x`` (N, C r^d, *I) becomes (N, C, *(I r)) over d = 1 to 3 axes.

    Raises ValueError where the channels cannot be divided by r^d.
    """
    x = as_tensor(x)
    d = x.ndim - 2
    if not 1 <= d <= 3:
        raise ValueError(f"{name}: takes an input of 3 to 5 axes (N, C, ...); got {x.ndim} axes (input shape {x.shape})")
    if isinstance(r, bool) or not isinstance(r, int | np.integer) or r < 1:
        raise TypeError(f"{name}: r is a whole number from 1 on, got {r!r}")
    n, c, *sizes = x.shape
    if c % r**d:
        raise ValueError(f"{name}: axis 1 of the input has {c} channels, which cannot be divided by r^{d} = {r**d} "
                         f"(input shape {x.shape})")
    split = x.reshape(n, c // r**d, *[r] * d, *sizes)
    order = [v for i in range(d) for v in (2 + d + i, 2 + i)]
    return split.transpose(0, 1, *order).reshape(n, c // r**d, *(i * r for i in sizes))


# -- kernels -----------------------------------------------------------------------------------------------------------

upsampling = KernelFile("upsampling.cu")

ROW = 1024  # numbers of the output that one row of resample_planes computes, or a few more


def _weights(taps: Taps, like: Any) -> Any:
    """The weights as the kernels read them, where ``like`` is."""
    return array_module(like).asarray(taps.weights if like.dtype == np.float64 else taps.weights32)


def _launch_planes(x: Any, y: Any, outer: int, start: Any, rows: Any, columns: Taps, height: int) -> bool:
    """Launch resample_planes on ``outer`` planes of ``height`` lines; ``start`` and ``rows``: those of the lines."""
    (taps, out), first = rows.shape, array_module(x).asarray(columns.first)
    lines = min(-(-ROW // columns.out), out)
    shape = (outer, height, columns.size, out, columns.out, taps, lines)
    arrays = (x, start, rows, first, _weights(columns, x), y)
    constants = {"TAPS": len(columns.weights)}
    return upsampling("resample_planes", x, outer * -(-out // lines), columns.out, *arrays, *shape, constants=constants)


@resample.kernel(accepts="float32 and float64 with at least one element; copied where they are not contiguous")
def _(x: Any, axis: int, taps: Taps) -> Any:
    if not x.size or x.dtype.kind != "f" or x.dtype.itemsize < 4:
        return NotImplemented
    x, xp, shape = contiguous(x), array_module(x), x.shape
    y = empty((*shape[:axis], taps.out, *shape[axis + 1 :]), x.dtype, like=x)
    first, weights = xp.asarray(taps.first), _weights(taps, x)
    outer, inner, n = math.prod(shape[:axis]), math.prod(shape[axis + 1 :]), weights.shape[0]
    if inner == 1 and taps.short:
        ran = _launch_planes(x, y, outer, xp.zeros(1, np.int32), xp.ones((1, 1), x.dtype), taps, 1)
    elif inner == 1:
        ran = upsampling("resample_last", x, outer, taps.out, x, first, weights, y, outer, taps.size, taps.out, n)
    else:
        ran = upsampling("resample", x, outer * taps.out, inner, x, first, weights, y, outer, taps.size, taps.out, inner, n)
    return y if ran else NotImplemented


@resample_planes.kernel(accepts=f"floats, not empty; at most {UNROLLED} taps, rising columns; copied where not contiguous")
def _(x: Any, rows: Taps, columns: Taps) -> Any:
    if not (x.size and is_float(x.dtype) and columns.short and len(rows.weights) <= UNROLLED):
        return NotImplemented
    x, outer = contiguous(x), math.prod(x.shape[:-2])
    y = empty((*x.shape[:-2], rows.out, columns.out), x.dtype, like=x)
    start = array_module(x).asarray(rows.first)
    return y if _launch_planes(x, y, outer, start, _weights(rows, x), columns, rows.size) else NotImplemented
