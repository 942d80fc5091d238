"""Samples of the kernels with windows: convolutions, pools, upsampling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from ...ops import blocked_convolution, image_columns, panel_convolution, winograd, winograd_tiles
from ...ops.convolution import conv_bias_act_forward, conv_data_forward, conv_filter_forward, conv_forward
from ...ops.convolution_kernels import ALGORITHMS
from ...ops.depthwise import depthwise_data, depthwise_filter, depthwise_forward
from ...ops.geometry import Window
from ...ops.im2col import col2im_forward, im2col_forward
from ...ops.lp_pooling import lp_pool_backward, lp_pool_forward
from ...ops.nonlinearities import Activation, gelu
from ...ops.pooling import max_pool_backward, max_pool_forward, max_pool_values, mean_pool_backward, mean_pool_forward
from ...ops.upsampling import cubic_taps, linear_taps, nearest_taps, resample, resample_planes
from .registry import Draw, sample

WIDTHS = (1, 31, 32, 33, 65)
"""An image is as wide as this; its other sizes are small."""


def _two_axes(d: Draw) -> Iterator[tuple[Window, tuple[int, ...]]]:
    """Windows over images 5 high, with the sizes of the image."""
    yield d.window((3, 3), pad=1), (5, d.n)
    yield d.window((2, 3), stride=(1, 2), pad=((0, 1), (1, 2)), dilation=(2, 1)), (5, 2 * d.n)
    yield d.window((1, 4), stride=(1, 2), pad=((0, 0), (1, 2))), (3, 2)  # the last tap is never inside


def _three_axes(d: Draw) -> Iterator[tuple[Window, tuple[int, ...]]]:
    yield d.window((2, 2, 2), stride=(2, 1, 1), pad=(1, 0, 1)), (3, 4, d.n)
    yield _deep(d)


def _deep(d: Draw, **options: Any) -> tuple[Window, tuple[int, ...]]:
    """Deeper than high, higher than wide, and nothing is the same along two axes."""
    window = d.window((2, 3, 2), stride=(1, 2, 3), pad=((2, 1), (0, 1), (1, 0)), dilation=(2, 1, 2), **options)
    return window, (min(d.n, 33) + 30, 19, 5)


# -- im2col.cu ---------------------------------------------------------------------------------------------------------


@sample("im2col_forward", sizes=WIDTHS, tolerance=0)
def _im2col(d: Draw) -> Iterator[Any]:
    for window, sizes in (*_two_axes(d), *_three_axes(d)):
        yield im2col_forward(d.normal(2, 3, *sizes), window)


@sample("col2im_forward", sizes=WIDTHS)
def _col2im(d: Draw) -> Iterator[Any]:
    for window, sizes in (*_two_axes(d), *_three_axes(d)):
        out = im2col_forward.reference(d.normal(2, 3, *sizes), window).shape
        yield col2im_forward(d.normal(*out), window, sizes)


# -- image_columns.cu --------------------------------------------------------------------------------------------------


def _three_passes(d: Draw, algorithm: Any, x: Any, y: Any, w: Any, window: Any) -> Iterator[Any]:
    """Forward, data and filter by the functions of a module, or by the references."""
    sizes = x.shape[2:]
    if d.kernels:
        yield algorithm.forward(x, w, window, window.output_size(sizes))
        yield algorithm.data(y, w, window, sizes)
        yield algorithm.filter(x, y, window)
    else:
        yield conv_forward(x, w, window), conv_data_forward(y, w, window, sizes), conv_filter_forward(x, y, window)


@sample("images_last", "images_first", "image_columns", "image_columns_data", sizes=WIDTHS, op="conv_forward", tolerance=64)
def _image_columns(d: Draw) -> Iterator[Any]:
    """Batches of d.n small images, with all three passes by these columns."""
    for window, sizes, c, o in (
        (d.window((2, 3), pad=((0, 1), (1, 1))), (3, 4), 3, 5),
        (d.window((3, 2), stride=(1, 2), pad=((2, 0), (1, 2)), dilation=(1, 2), groups=2), (4, 5), 4, 6),
        (d.window((2, 1, 2), stride=(2, 1, 1), pad=(1, 0, 1)), (3, 2, 4), 2, 3),
        (d.window((2, 3), stride=(1, 2), pad=((1, 0), (2, 2))), (6, 5), 2, 3),
        (d.window((1, 4), stride=(1, 2), pad=((0, 0), (1, 2))), (3, 2), 2, 3),  # the last tap is never inside
        (_deep(d)[0], (11, 9, 5), 2, 3),
    ):
        out = window.output_size(sizes)
        x, y, w = d.normal(d.n, c, *sizes), d.normal(d.n, o, *out), d.normal(o, c // window.groups, *window.kernel)
        yield from _three_passes(d, image_columns, x, y, w, window)


# -- winograd.cu -------------------------------------------------------------------------------------------------------


@sample(
    "winograd_lines", "winograd_image", "winograd_filter", "winograd_output", "winograd_output_backward",
    "winograd_filter_backward", "winograd_planes", sizes=(1, 31, 32, 33), op="conv_forward", tolerance=256, dtypes=("float32",),
)  # fmt: skip
def _winograd(d: Draw) -> Iterator[Any]:
    """Convolutions from d.n channels to three and back, with all three passes."""
    for pad, sizes in ((1, (5, 6)), (((0, 2), (1, 0)), (6, 9)), (3, (6, 4)), (1, (180, 3))):
        window = d.window((3, 3), pad=pad)
        out = window.output_size(sizes)
        x, y, w = d.normal(2, d.n, *sizes), d.normal(2, 3, *out), d.normal(3, d.n, 3, 3)
        yield from _three_passes(d, winograd, x, y, w, window)


# -- winograd_tiles.cu -------------------------------------------------------------------------------------------------


@sample(
    "tiles_weights", "tiles_forward", "tiles_filter", "tiles_filter_backward", sizes=(1, 31, 32, 33), op="conv_forward",
    tolerance=256, dtypes=("float32",),
)  # fmt: skip
def _winograd_tiles(d: Draw) -> Iterator[Any]:
    """Convolutions from d.n channels to 35 and back, with all three passes, as two threads take few tiles and many."""
    few: dict[str, Any] = {"CHUNK": 16}
    many: dict[str, Any] = {"FEW": 0, "STRIP": 1, "TILES": 2}
    uneven = ((0, 2), (1, 0))
    cases = ((few, uneven, (2, 10), 2), (few, 3, (1, 2), 3), (many, uneven, (2, 10), 2), (many, 1, (9, 2), 2))
    for settings, pad, sizes, n in cases:
        window = d.window((3, 3), pad=pad)
        out = window.output_size(sizes)
        x, y, w = d.normal(n, d.n, *sizes), d.normal(n, 35, *out), d.normal(35, d.n, 3, 3)
        with mock.patch.multiple(winograd_tiles, num_threads=lambda: 2, **settings):
            yield from _three_passes(d, winograd_tiles, x, y, w, window)


# -- blocked_convolution.cu --------------------------------------------------------------------------------------------


@sample(
    "blocked_weights", "blocked_forward", "blocked_data", "blocked_filter", "blocked_filter_backward", sizes=(1, 31, 32, 33),
    op="conv_forward", tolerance=64,
)  # fmt: skip
def _blocked(d: Draw) -> Iterator[Any]:
    """Convolutions from d.n channels to 35 and back, with all three passes."""
    for window, sizes, n in (
        (d.window((3, 3), pad=1), (5, 6), 2),
        (d.window((2, 3), stride=(2, 3), pad=((0, 1), (2, 1)), dilation=(2, 1), groups=2), (5, 8), 1),
        (d.window((1, 1), stride=2), (3, 2), 3),
        (d.window((2, 2), stride=3, pad=((4, 0), (0, 5))), (4, 3), 1),
    ):
        out, g = window.output_size(sizes), window.groups
        x, y, w = d.normal(n, g * d.n, *sizes), d.normal(n, g * 35, *out), d.normal(g * 35, d.n, *window.kernel)
        yield from _three_passes(d, blocked_convolution, x, y, w, window)


# -- panel_convolution.cu ----------------------------------------------------------------------------------------------


@sample(
    "panels_forward", "panels_data", "panels_filter", "panels_filter_backward", "panels_turn", sizes=(1, 31, 32, 33),
    op="conv_forward", tolerance=64,
)  # fmt: skip
def _panels(d: Draw) -> Iterator[Any]:
    """Convolutions from d.n channels to 50 and back, with all three passes for windows that do not overlap."""
    for window, sizes, n in (
        (d.window((1, 1)), (5, 7), 3),
        (d.window((1, 1), stride=(2, 2), pad=((0, 1), (1, 0)), groups=2), (3, 8), 2),
        (d.window((2, 3), stride=(2, 3), pad=((1, 0), (2, 1))), (5, 9), 2),
        (d.window((2, 2), stride=(4, 3), dilation=(3, 2), pad=((4, 0), (0, 5))), (5, 4), 1),
    ):
        out, g = window.output_size(sizes), window.groups
        x, y, w = d.normal(n, g * d.n, *sizes), d.normal(n, g * 50, *out), d.normal(g * 50, d.n, *window.kernel)
        yield from _three_passes(d, panel_convolution, x, y, w, window)
    for window, sizes in ((d.window((3, 2), pad=1), (4, 6)), (d.window((2, 3), stride=(1, 2), pad=((0, 1), (2, 2))), (3, 53))):
        out = window.output_size(sizes)
        x, y, w, b = d.normal(2, d.n, *sizes), d.normal(2, 9, *out), d.normal(9, d.n, *window.kernel), d.normal(9)
        yield _finished(d, x, w, b, window, gelu)
        yield panel_convolution.filter(x, y, window) if d.kernels else conv_filter_forward(x, y, window)


def _finished(d: Draw, x: Any, w: Any, b: Any, window: Window, activation: Activation) -> Any:
    """With bias and activation, written past the caches."""
    if not d.kernels:
        return conv_bias_act_forward.reference(x, w, b, window, activation)
    return panel_convolution.finished(x, w, b, window, activation, window.output_size(x.shape[2:]), past=True)


# -- convolution.cu ----------------------------------------------------------------------------------------------------


def _convolutions(d: Draw) -> Iterator[tuple[Window, tuple[int, ...], int, int]]:
    """(window, sizes, inputs, outputs) that the direct kernels take."""
    yield d.window((3, 3), pad=1), (5, d.n), 3, 10
    yield d.window((2, 3), stride=(2, 2), pad=((0, 1), (1, 1)), dilation=(2, 1), groups=2), (5, 2 * d.n), 4, 6
    yield d.window((2, 2, 2), stride=(2, 1, 1), pad=(1, 0, 1)), (3, 4, d.n), 2, 3
    odd = d.window((3, 2, 2), stride=(2, 1, 2), pad=((1, 0), (0, 1), (1, 1)), dilation=(1, 2, 1))
    yield odd, (7, 5, 2 * d.n + 1 if d.n < 100 else 9), 11, 9  # blocks of channels that are not full
    yield d.window((1, 5), stride=(1, 4), pad=((0, 0), (2, 1))), (3, 35), 8, 8  # more sums than a CPU has registers
    yield d.window((2, 3), stride=(3, 2), pad=((2, 0), (1, 2))), (99, d.n if d.n < 100 else 7), 2, 3  # higher than wide
    yield *_deep(d), 3, 2


_direct = ALGORITHMS["direct"]


def _filters(d: Draw, window: Window, inputs: int, outputs: int) -> Any:
    return d.normal(outputs, inputs // window.groups, *window.kernel)


@sample("conv_forward", "conv_lines", sizes=(*WIDTHS, 513), op="conv_forward")
def _conv(d: Draw) -> Iterator[Any]:
    for window, sizes, inputs, outputs in _convolutions(d):
        x, w = d.normal(3, inputs, *sizes), _filters(d, window, inputs, outputs)
        yield _direct[0](x, w, window, window.output_size(sizes)) if d.kernels else conv_forward(x, w, window)


@sample("conv_data", sizes=WIDTHS, op="conv_data_forward")
def _conv_data(d: Draw) -> Iterator[Any]:
    for window, sizes, inputs, outputs in _convolutions(d):
        y = d.normal(3, outputs, *window.output_size(sizes))
        yield (_direct[1] if d.kernels else conv_data_forward)(y, _filters(d, window, inputs, outputs), window, sizes)


@sample("conv_filter", sizes=WIDTHS, op="conv_filter_forward")
def _conv_filter(d: Draw) -> Iterator[Any]:
    for window, sizes, inputs, outputs in _convolutions(d):
        x, y = d.normal(3, inputs, *sizes), d.normal(3, outputs, *window.output_size(sizes))
        yield (_direct[2] if d.kernels else conv_filter_forward)(x, y, window)
    window = d.window((1, 2), pad=((0, 0), (1, 0)))
    x, y = d.normal(17, 2, 5, 33), d.normal(17, 3, 5, 33)
    yield (_direct[2] if d.kernels else conv_filter_forward)(x, y, window)  # the last part has one image, not two


# -- depthwise.cu ------------------------------------------------------------------------------------------------------


def _depthwise(d: Draw) -> Iterator[tuple[Window, tuple[int, ...], int, int]]:
    """(window, sizes, channels, outputs per channel)."""
    yield d.window((3, 3), pad=1, groups=3), (9, d.n), 3, 1
    yield d.window((3, 2), stride=(2, 3), pad=((1, 2), (1, 0)), groups=2), (9, 2 * d.n), 2, 2
    yield d.window((2, 2, 3), stride=(2, 1, 1), pad=(1, 0, 1), dilation=(1, 2, 1), groups=2), (3, 6, d.n), 2, 1
    yield d.window((3, 3), stride=(3, 1), pad=1, groups=3), (150, d.n), 3, 1  # higher than wide
    yield d.window((7, 5), pad=(3, 2), groups=2), (9, d.n), 2, 1  # not all sums of a filter are in a CPU's registers
    yield *_deep(d, groups=2), 2, 3


@sample("depthwise_forward", sizes=WIDTHS)
def _depthwise_conv(d: Draw) -> Iterator[Any]:
    for window, sizes, channels, mul in _depthwise(d):
        yield depthwise_forward(d.normal(3, channels, *sizes), d.normal(channels * mul, 1, *window.kernel), window)


@sample("depthwise_data", sizes=WIDTHS)
def _depthwise_data(d: Draw) -> Iterator[Any]:
    for window, sizes, channels, mul in _depthwise(d):
        y = d.normal(3, channels * mul, *window.output_size(sizes))
        yield depthwise_data(y, d.normal(channels * mul, 1, *window.kernel), window, sizes)


@sample("depthwise_filter", sizes=WIDTHS)
def _depthwise_filter(d: Draw) -> Iterator[Any]:
    for window, sizes, channels, mul in _depthwise(d):
        y = d.normal(3, channels * mul, *window.output_size(sizes))
        yield depthwise_filter(d.normal(3, channels, *sizes), y, window)


# -- pooling.cu --------------------------------------------------------------------------------------------------------


def _pools(d: Draw) -> Iterator[tuple[Window, tuple[int, ...]]]:
    yield d.window((2, 2), stride=2), (5, 2 * d.n)
    yield d.window((3, 3), stride=1, pad=1), (4, d.n)
    yield d.window((2, 2, 3), stride=(1, 2, 3), pad=(1, 0, 1), dilation=(1, 1, 2)), (3, 4, 3 * d.n + 2)
    yield d.window((3, 2), stride=(2, 1), pad=((1, 0), (0, 1))), (150, 3)  # higher than wide; only the right side is padded
    yield _deep(d)


@sample("max_pool_forward", sizes=WIDTHS)
def _max_pool(d: Draw) -> Iterator[Any]:
    for window, sizes in _pools(d):
        x = d.normal(3, 2, *sizes)
        yield max_pool_forward(x, window)
        x[..., ::3] = 1  # equal ones: the first wins
        x[1, ..., 1::4] = float("nan")
        yield max_pool_forward(x, window)


@sample("max_pool_values", sizes=WIDTHS)
def _max_pool_values(d: Draw) -> Iterator[Any]:
    for window, sizes in _pools(d):
        x = d.normal(3, 2, *sizes) - 3  # below the zeros that padding is read as
        yield max_pool_values(x, window)
        x[1, ..., 1::4] = float("nan")
        yield max_pool_values(x, window)


@sample("max_pool_backward", sizes=WIDTHS)
def _max_pool_back(d: Draw) -> Iterator[Any]:
    for window, sizes in _pools(d):
        y, arg = max_pool_forward.reference(d.normal(3, 2, *sizes), window)
        yield max_pool_backward(d.normal(*y.shape), arg, window, sizes)


@sample("mean_pool_forward", sizes=WIDTHS)
def _mean_pool(d: Draw) -> Iterator[Any]:
    for window, sizes in _pools(d):
        for padding in (True, False):
            yield mean_pool_forward(d.normal(3, 2, *sizes), window, padding)


@sample("mean_pool_backward", sizes=WIDTHS)
def _mean_pool_back(d: Draw) -> Iterator[Any]:
    for window, sizes in _pools(d):
        for padding in (True, False):
            y = d.normal(3, 2, *window.output_size(sizes))
            yield mean_pool_backward(y, window, padding, sizes)


@sample("lp_pool_forward", sizes=WIDTHS)
def _lp_pool(d: Draw) -> Iterator[Any]:
    for window, sizes in _pools(d):
        for p in (2.0, 3.0, 2.5):
            yield lp_pool_forward(d.normal(3, 2, *sizes), window, p)


@sample("lp_pool_backward", sizes=WIDTHS)
def _lp_pool_back(d: Draw) -> Iterator[Any]:
    for window, sizes in _pools(d):
        for p in (2.0, 3.0, 2.5):
            x = d.normal(3, 2, *sizes)
            x[0, 0] = 0
            y = lp_pool_forward.reference(x, window, p)
            yield lp_pool_backward(d.normal(*y.shape), x, y, window, p)


# -- upsampling.cu -----------------------------------------------------------------------------------------------------


@sample("resample")
def _resample(d: Draw) -> Iterator[Any]:
    for taps in (linear_taps(5, 12, None, False), cubic_taps(4, 10, None, False), linear_taps(9, 4, None, False).transposed):
        yield resample(d.normal(3, taps.size, d.n + 1), 1, taps)
    x = d.normal(3, 5, d.n + 1)
    x[0, 0] = float("inf")  # times a weight of 0 it counts for nothing
    yield resample(x, 1, nearest_taps(5, 7, None).transposed.transposed)
    yield resample(x, 1, linear_taps(5, 5, None, False))
    x = d.normal(3, 4, d.n + 1)
    x[0, 3] = float("inf")  # after the last tap that is not 0
    yield resample(x, 1, cubic_taps(4, 7, None, True))


@sample("resample_last")
def _resample_last(d: Draw) -> Iterator[Any]:
    for taps in (linear_taps(d.n, 12 * d.n, None, False).transposed, nearest_taps(d.n, 13 * d.n, None).transposed):
        yield resample(d.normal(5, taps.size), 1, taps)
        yield resample(d.normal(2, taps.out, 3), 1, taps.transposed)


@sample("resample_planes", sizes=WIDTHS)
def _resample_planes(d: Draw) -> Iterator[Any]:
    n = d.n
    lines = linear_taps(5, 12, None, False)
    up = linear_taps(n, 2 * n + 1, None, False)
    for taps in (up, cubic_taps(n + 1, n + 3, None, True), linear_taps(n, 4 * n, None, False)):
        yield resample_planes(d.normal(2, 3, 5, taps.size), lines, taps)
        yield resample_planes(d.normal(2, 3, 12, taps.out), lines.transposed, taps.transposed)
    x = d.normal(2, 5, n + 4)
    x[0, 0] = x[1, :, 0] = float("inf")  # times a weight of 0 it counts for nothing
    yield resample_planes(x, cubic_taps(5, 9, None, True), cubic_taps(n + 4, 2 * n + 7, None, True))
    yield resample_planes(x, lines, nearest_taps(n + 4, n + 1, None).transposed.transposed)
    yield resample(x, 2, linear_taps(n + 4, 7, None, False))
