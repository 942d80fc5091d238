"""Samples of the kernels for a GPU's tensor cores, which the emulator runs, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from ...ops.geometry import Window
from .registry import Draw, sample

WIDTHS = (1, 31, 32, 33, 65)
"""Of an image: 128 pixels are a tile."""


def _convolutions(d: Draw) -> Iterator[tuple[Window, tuple[int, ...], int, int]]:
    """(window, sizes, inputs, outputs)."""
    yield d.window((3, 3), pad=1), (5, d.n), 17, 20
    yield d.window((2, 3), stride=(2, 2), pad=((0, 1), (1, 1)), dilation=(2, 1), groups=2), (7, 2 * d.n), 32, 32
    yield d.window((2, 2, 1), stride=(2, 1, 1), pad=((1, 0), (0, 1), (0, 0))), (3, 3, d.n), 16, 65
    deep = d.window((2, 3, 2), stride=(1, 2, 3), pad=((2, 1), (0, 1), (1, 0)), dilation=(2, 1, 2))
    yield deep, (13, 9, 5), 17, 20  # nothing is the same along two axes


def _filters(d: Draw, window: Window, inputs: int, outputs: int) -> Any:
    return d.normal(outputs, inputs // window.groups, *window.kernel)


@sample("conv_tensor_forward", sizes=WIDTHS, dtypes=("float16",), gpu=True)
def _conv(d: Draw) -> Iterator[Any]:
    for window, sizes, inputs, outputs in _convolutions(d):
        w = _filters(d, window, inputs, outputs)
        yield conv_forward(d.normal(2, inputs, *sizes), w, window)
        yield conv_data_forward(d.normal(2, outputs, *window.output_size(sizes)), w, window, sizes)


@sample("conv_tensor_filter", sizes=WIDTHS, dtypes=("float16",), gpu=True)
def _conv_filter(d: Draw) -> Iterator[Any]:
    for window, sizes, inputs, outputs in _convolutions(d):
        y = d.normal(2, outputs, *window.output_size(sizes))
        yield conv_filter_forward(d.normal(2, inputs, *sizes), y, window)
