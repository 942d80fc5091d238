"""The triad by kernels: runs the algorithm that convolution_table.py names.

direct     kernels/convolution.cu: output pixels in the lanes, 8 channels in registers. No columns are written; as fast
           as the machine multiplies while a line of the output fills its lanes.
columns    kernels/im2col.cu and BLAS, some images at a time so that the columns stay in the cache.
pointwise  a 1x1 window that visits every pixel is a matrix product as it is.

These are here, the others have files of their own. The choice, and with it every bit of the result, depends on shapes, the
machine and the number of threads only.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

from ..backend import array_module, contiguous, device_of, empty, workspace_limit
from ..readings import KernelFile
from . import blocked_convolution, image_columns, panel_convolution, winograd, winograd_tiles
from .bounds import bounded
from .convolution_table import algorithm_for
from .depthwise import depthwise_data, depthwise_filter, depthwise_forward, suits
from .geometry import Window
from .im2col import Sizes, columns, numbers, three
from .nonlinearities import Activation

convolution = KernelFile("convolution.cu")

CHUNK = 1 << 18  # numbers in the columns of one matrix product: 1 MB of float32
CHANNELS = 8  # most channels that a row computes side by side
ROW = 64  # pixels that one row of the direct kernel computes, or a little more
PARTS = 16  # most parts of the batch that a filter gradient is added up from
PART_SIZE = 1 << 20  # most numbers in them


def fits(a: Any, b: Any) -> bool:
    """Whether the kernels take these two arrays."""
    return bool(a.dtype == b.dtype and a.dtype.kind == "f" and a.dtype.itemsize >= 4 and a.size and b.size)


def _filters(w: Any, groups: int) -> Any:
    """w (O, C/groups, *K) as matrices (groups, O/groups, C/groups K)."""
    o = w.shape[0]
    return w.reshape(groups, o // groups, math.prod(w.shape[1:]))


# -- the direct kernels ------------------------------------------------------------------------------------------------


def _block(channels: int) -> int:
    """Channels of a row: at most CHANNELS, in blocks as equal as can be."""
    return -(-channels // -(-channels // CHANNELS))


@functools.lru_cache(maxsize=1024)
def _shape(window: Window, sizes: Sizes, out: Sizes, channels: int) -> tuple[Any, ...]:
    """Constants of the build, length of a line's phase, and the kernels' arguments after N, groups, C."""
    (d, h, _), (od, oh, ow), (kd, kh, kw) = three(sizes, 1), three(out, 1), three(window.kernel, 1)
    (sd, sh, sw), (dd, dh, dw), (pd, ph, _) = three(window.stride, 1), three(window.dilation, 1), three(window.lo, 0)
    phase = ow + (kw - 1) * dw // sw
    if sw == 1 and window.lo[-1] == 0 and sizes[-1] >= phase:
        phase = sizes[-1]  # the lines of the input itself will do
    constants = {"KW": kw, "OB": _block(channels), "SW": sw, "DW": dw}
    return constants, phase, (d, h, phase), (od, oh, ow, kd, kh, sd, sh, dd, dh, pd, ph)


def _lines(x: Any, window: Window, phase: int) -> Any:
    """The lines of ``x`` as the direct kernels read them: padded, and split into phases by the stride."""
    width, stride, lo = x.shape[-1], window.stride[-1], window.lo[-1]
    if stride == 1 and lo == 0 and phase == width:
        return x
    rows = x.size // width
    lines = empty((rows, stride, phase), x.dtype, like=x)
    return lines if columns("conv_lines", x, rows, stride * phase, x, lines, rows, width, stride, phase, lo) else None


def _packed(w: Any, block: int) -> Any:
    """w (groups, O, K) as (groups, blocks, K, block): what is multiplied by one pixel lies side by side; zeros fill up."""
    g, o, k = w.shape
    packed = empty((g, -(-o // block), k, block), w.dtype, like=w)
    for i in range(block):
        channels = w[:, i::block]
        n = channels.shape[1]
        packed[:, :n, :, i], packed[:, n:, :, i] = channels, 0
    return packed


def _direct(x: Any, w: Any, window: Window, out: Sizes) -> Any:
    n, c, g, o = x.shape[0], w.shape[1], window.groups, w.shape[0] // window.groups
    constants, phase, source, rest = _shape(window, x.shape[2:], out, o)
    lines = _lines(x, window, phase)
    if lines is None:
        return NotImplemented
    filters = _packed(w.reshape(g, o, w.size // w.shape[0]), constants["OB"])
    y = empty((n, g * o, *out), x.dtype, like=x)
    together = -(-ROW // out[-1])
    rows = n * g * filters.shape[1] * -(-math.prod(out[:-1]) // together)
    ran = convolution(
        "conv_forward", x, rows, out[-1], lines, filters, y, n, g, c, *source, o, *rest, together, constants=constants
    )
    return y if ran else NotImplemented


def _direct_data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    if window.unit_stride():
        return _direct(y, _turned(w, window.groups), window.reversed(), sizes)
    n, c, g, o = y.shape[0], w.shape[1], window.groups, w.shape[0] // window.groups
    constants, _, _, rest = _shape(window, sizes, y.shape[2:], c)
    x = empty((n, g * c, *sizes), y.dtype, like=y)
    width = -(-sizes[-1] // window.stride[-1])
    together = -(-ROW // width)
    rows = n * g * -(-c // constants["OB"]) * -(-math.prod(sizes[:-1]) // together)
    ran = convolution(
        "conv_data", y, rows, width, y, w, x, n, g, c, *three(sizes, 1), o, *rest, window.lo[-1], together, constants=constants
    )
    return x if ran else NotImplemented


def _direct_filter(x: Any, y: Any, window: Window) -> Any:
    n, g, c, o = x.shape[0], window.groups, x.shape[1] // window.groups, y.shape[1] // window.groups
    constants, phase, source, rest = _shape(window, x.shape[2:], y.shape[2:], o)
    lines = _lines(x, window, phase)
    if lines is None:
        return NotImplemented
    size = g * o * c * math.prod(window.kernel)
    images = -(-n // max(1, min(n, PARTS, PART_SIZE // size)))
    parts = -(-n // images)
    part = empty((parts, g * o, c, *window.kernel), x.dtype, like=x)
    rows = parts * size // window.kernel[-1] // o * -(-o // constants["OB"])
    ran = convolution(
        "conv_filter", x, rows, y.shape[-1], lines, y, part, n, g, c, *source, o, *rest, images, constants=constants
    )
    if not ran:
        return NotImplemented
    return part[0] if parts == 1 else part.sum(axis=0, out=empty(part.shape[1:], x.dtype, like=x))


def _turned(w: Any, groups: int) -> Any:
    """w with its outputs and inputs exchanged within each group, and its kernel reversed."""
    o, c, *kernel = w.shape
    w = w.reshape(groups, o // groups, c, *kernel).swapaxes(1, 2)
    back = (slice(None, None, -1),) * len(kernel)
    return contiguous(w[..., *back]).reshape(groups * c, o // groups, *kernel)


# -- columns -----------------------------------------------------------------------------------------------------------


def _chunks(n: int, per_image: int) -> range:
    """The first image of every chunk."""
    return range(0, n, max(1, min(n, CHUNK // per_image)))


def _by_columns(x: Any, w: Any, window: Window, out: Sizes) -> Any:
    xp = array_module(x)
    (n, c), g, p = x.shape[:2], window.groups, math.prod(out)
    filters = _filters(w, g)
    y = empty((n, w.shape[0], *out), x.dtype, like=x)
    products = y.reshape(n, g, filters.shape[1], p)
    rows = c * math.prod(window.kernel)
    starts, shape = _chunks(n, rows * p), numbers(window, x.shape[2:], out)
    col = empty((starts.step, rows, p), x.dtype, like=x)
    for i in starts:
        part = x[i : i + starts.step]
        m = len(part)
        if not columns("im2col_forward", x, m * rows, p, part, col, m, c, *shape, rows * p, p):
            return NotImplemented
        xp.matmul(filters, col[:m].reshape(m, g, rows // g, p), out=products[i : i + m])
    return y


def _data_by_columns(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    xp = array_module(y)
    n, g, out = y.shape[0], window.groups, y.shape[2:]
    p, filters = math.prod(out), _filters(w, g).swapaxes(-1, -2)
    rows = filters.shape[1] * g
    x = empty((n, w.shape[1] * g, *sizes), y.dtype, like=y)
    starts, shape = _chunks(n, rows * p), numbers(window, sizes, out)
    col = empty((starts.step, g, rows // g, p), y.dtype, like=y)
    d, h, width = three(sizes, 1)
    for i in starts:
        part = x[i : i + starts.step]
        m, c = part.shape[:2]
        xp.matmul(filters, y[i : i + m].reshape(m, g, w.shape[0] // g, p), out=col[:m])
        if not columns("col2im_forward", y, m * c * d * h, width, col, part, m, c, *shape, rows * p, p):
            return NotImplemented
    return x


def _filter_by_columns(x: Any, y: Any, window: Window) -> Any:
    xp = array_module(x)
    (n, c), o, g, out = x.shape[:2], y.shape[1], window.groups, y.shape[2:]
    p, rows = math.prod(out), c * math.prod(window.kernel)
    starts, shape = _chunks(n, (rows + o) * p), numbers(window, x.shape[2:], out)
    m = starts.step
    col, dy = empty((rows * m * p,), x.dtype, like=x), empty((o * m * p,), x.dtype, like=x)
    w, product = (empty((g, o // g, rows // g), x.dtype, like=x) for _ in range(2))
    for i in starts:
        part = x[i : i + m]
        m = len(part)  # images side by side: their pixels are added up by one product
        if not columns("im2col_forward", x, m * rows, p, part, col, m, c, *shape, p, m * p):
            return NotImplemented
        beside = dy[: o * m * p].reshape(o, m, p)
        beside[...] = y[i : i + m].reshape(m, o, p).swapaxes(0, 1)
        right = col[: rows * m * p].reshape(g, rows // g, m * p).swapaxes(-1, -2)
        xp.matmul(beside.reshape(g, o // g, m * p), right, out=product if i else w)
        if i:
            w += product
    return w.reshape(o, c // g, *window.kernel)


# -- taps that meet padding alone --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _seen(window: Window, sizes: Sizes, inputs: int) -> tuple[tuple[slice, ...], Window] | None:
    """The taps that meet the image anywhere, and the window of these; None where all do, and for the depthwise kernels.

    Around an image of one pixel a 3x3 kernel with padding 1 has one tap that does, and eight that are multiplied by zeros.
    """
    if suits(window, inputs):
        return None
    cuts, lo = [], []
    outs = window.output_size(sizes)
    for size, out, k, s, d, before in zip(sizes, outs, window.kernel, window.stride, window.dilation, window.lo):
        seen = [i for i in range(k) if any(0 <= p * s - before + i * d < size for p in range(out))]
        first, end = (seen[0], seen[-1] + 1) if seen else (0, 1)
        cuts.append(slice(first, end))
        lo.append(before - first * d)
    if all((cut.start, cut.stop) == (0, k) for cut, k in zip(cuts, window.kernel)):
        return None
    kernel = tuple(cut.stop - cut.start for cut in cuts)
    ends = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(outs, window.stride, kernel, window.dilation)]
    pad = tuple((a, end - a - size) for a, end, size in zip(lo, ends, sizes))
    return tuple(cuts), replace(window, kernel=kernel, pad=pad)


# -- the choice --------------------------------------------------------------------------------------------------------


def _pointwise(x: Any, w: Any, window: Window, out: Sizes) -> Any:
    return _product(_filters(w, window.groups), x, window.groups)


def _pointwise_data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    return _product(_filters(w, window.groups).swapaxes(-1, -2), y, window.groups)


def _product(filters: Any, x: Any, groups: int) -> Any:
    n, c, *sizes = x.shape
    p, o = math.prod(sizes), filters.shape[1]
    y = empty((n, groups, o, p), x.dtype, like=x)
    array_module(x).matmul(filters, x.reshape(n, groups, c // groups, p), out=y)
    return y.reshape(n, groups * o, *sizes)


ALGORITHMS: dict[str, tuple[Any, ...]] = {
    "depthwise": (lambda x, w, window, out: depthwise_forward(x, w, window), depthwise_data, depthwise_filter),
    "winograd_tiles": (winograd_tiles.forward, winograd_tiles.data, winograd_tiles.filter),
    "winograd": (winograd.forward, winograd.data, winograd.filter),
    "blocked": (blocked_convolution.forward, blocked_convolution.data, blocked_convolution.filter),
    "panels": (panel_convolution.forward, panel_convolution.data, panel_convolution.filter),
    "direct": (_direct, _direct_data, _direct_filter),
    "pointwise": (_pointwise, _pointwise_data),
    "image_columns": (image_columns.forward, image_columns.data, image_columns.filter),
    "columns": (_by_columns, _data_by_columns, _filter_by_columns),
}
"""``forward(x, w, window, out)``, ``data(y, w, window, sizes)`` and ``filter(x, y, window)`` of each, for contiguous arrays."""


def forward(x: Any, w: Any, window: Window) -> Any:
    """``conv_forward`` by kernels."""
    x, w, sizes = contiguous(x), contiguous(w), x.shape[2:]
    window, out = window.at(sizes), window.output_size(sizes)
    if seen := _seen(window, tuple(sizes), w.shape[1]):
        cuts, window = seen
        w = contiguous(w[:, :, *cuts])
    o = w.shape[0] // window.groups
    name = algorithm_for("forward", window, x.dtype.name, x.shape[0], w.shape[1], o, sizes, out, device_of(x) == "cpu")
    return bounded(ALGORITHMS, name, "forward", x, w, window, out)


def finished(x: Any, w: Any, b: Any, window: Window, activation: Activation) -> Any:
    """``conv_bias_act_forward`` where an algorithm ends in a bias and an activation by itself: one pass over y less."""
    sizes = tuple(x.shape[2:])
    window = window.at(sizes)
    out, o = window.output_size(sizes), w.shape[0] // window.groups
    if workspace_limit() is not None or _seen(window, sizes, w.shape[1]):
        return NotImplemented
    if algorithm_for("forward", window, x.dtype.name, x.shape[0], w.shape[1], o, sizes, out, True) != "panels":
        return NotImplemented
    return panel_convolution.finished(contiguous(x), contiguous(w), contiguous(b), window, activation, out)


def data(y: Any, w: Any, window: Window, sizes: Sizes) -> Any:
    """``conv_data_forward`` by kernels."""
    y, w, window = contiguous(y), contiguous(w), window.at(sizes)
    if seen := _seen(window, tuple(sizes), w.shape[1]):
        cuts, window = seen
        w = contiguous(w[:, :, *cuts])
    o = w.shape[0] // window.groups
    cpu = device_of(y) == "cpu"
    name = algorithm_for("data", window, y.dtype.name, y.shape[0], w.shape[1], o, tuple(sizes), y.shape[2:], cpu)
    return bounded(ALGORITHMS, name, "data", y, w, window, tuple(sizes))


def filter(x: Any, y: Any, window: Window) -> Any:
    """``conv_filter_forward`` by kernels."""
    x, y, window = contiguous(x), contiguous(y), window.at(x.shape[2:])
    if seen := _seen(window, x.shape[2:], x.shape[1] // window.groups):
        cuts, inner = seen
        part = filter(x, y, inner)
        if part is NotImplemented:
            return part
        w = empty((*part.shape[:2], *window.kernel), x.dtype, like=x)
        w[...] = 0
        w[:, :, *cuts] = part
        return w
    (n, c, *sizes), (o, *out), g = x.shape, y.shape[1:], window.groups
    name = algorithm_for("filter", window, x.dtype.name, n, c // g, o // g, tuple(sizes), tuple(out), device_of(x) == "cpu")
    return bounded(ALGORITHMS, name, "filter", x, y, window)
