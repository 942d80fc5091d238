"""Fourier transforms as products with matrices, spectrograms, and mel weights.

ONNX holds a complex number as two numbers along the last axis, a real one as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops.elementwise import as_tensor
from ..ops.indexing import take
from ..ops.joining import stack
from ..ops.padding import pad
from ..ops.products import matmul
from ..ops.shapes import moveaxis
from .arguments import axis_of, number
from .protos import dtype_of
from .registry import register


@register("DFT", host=("dft_length",))
def dft_17(x: Any, dft_length: Any = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0) -> Any:
    """The axis was an attribute at first."""
    return dft(x, dft_length, axis, inverse=inverse, onesided=onesided)


@register("DFT", since=20, host=("dft_length", "axis"))
def dft(x: Any, dft_length: Any = None, axis: Any = -2, *, inverse: int = 0, onesided: int = 0) -> Any:
    """``y_k = sum x_n exp(-2 pi i k n / N)`` along an axis of (..., 1) or (..., 2); of N ``dft_length``, cut or filled with 0.

    ``inverse``: with plus, over N. ``onesided``: of real numbers the first N // 2 + 1 frequencies, and back from these.
    """
    x = as_tensor(x)
    at = axis_of(x, int(number(axis)))
    rows = moveaxis(x, at, -2)
    have, back = rows.shape[-2], bool(inverse and onesided)
    n = int(number(dft_length)) if dft_length is not None else 2 * (have - 1) if back else have
    rows = _long(rows, n // 2 + 1 if back else n)
    y = _real_again(rows, n) if back else _spectrum(rows, n, n // 2 + 1 if onesided else n, bool(inverse))
    return moveaxis(y, -2, at)


def _long(x: Tensor, n: int) -> Tensor:
    """The last axis but one cut to ``n`` elements, or filled up with zeros."""
    have = x.shape[-2]
    return x[..., :n, :] if have >= n else pad(x, [(0, 0)] * (x.ndim - 2) + [(0, n - have), (0, 0)])


def _waves(rows: int, columns: int, n: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi k m / n, exact in the angle, (rows, columns)."""
    angle = np.outer(np.arange(rows), np.arange(columns)) % n * (2 * np.pi / n)
    return _beside(np.cos(angle), x), _beside(np.sin(angle), x)


def _beside(a: np.ndarray, x: Tensor) -> Tensor:
    """Numbers in the dtype and on the device of ``x``."""
    return Tensor(array_module(x.data).asarray(a.astype(x.dtype)))


def _spectrum(x: Tensor, n: int, count: int, inverse: bool) -> Tensor:
    cos, sin = _waves(n, count, n, x)
    re, im = x[..., 0], x[..., 1] if x.shape[-1] == 2 else None
    sin = -sin if inverse else sin
    real, imaginary = matmul(re, cos), -matmul(re, sin)
    if im is not None:
        real, imaginary = real + matmul(im, sin), imaginary + matmul(im, cos)
    y = stack([real, imaginary], -1)
    return y / n if inverse else y


def _real_again(x: Tensor, n: int) -> Tensor:
    """The real numbers whose first frequencies these are; each stands for its conjugate, too."""
    count = n // 2 + 1
    cos, sin = _waves(count, n, n, x)
    twice = np.full(count, 2.0)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    weights = _beside(twice / n, x)
    y = matmul(x[..., 0] * weights, cos)
    if x.shape[-1] == 2:
        y = y - matmul(x[..., 1] * weights, sin)
    return y[..., None]


@register("STFT", host=("frame_step", "frame_length"))
def stft(signal: Any, frame_step: Any, window: Any = None, frame_length: Any = None, *, onesided: int = 1) -> Any:
    """The spectra of frames of (N, L, 1 or 2), ``frame_step`` apart: (N, frames, frequencies, 2)."""
    x = as_tensor(signal)
    step = int(number(frame_step))
    length = int(number(frame_length)) if frame_length is not None else x.shape[1] if window is None else as_tensor(window).size
    count = 1 + (x.shape[1] - length) // step
    if count < 1 or step < 1:
        raise ValueError(f"frames of {length} numbers every {step} do not fit into a signal of {x.shape[1]} (shape {x.shape})")
    xp = array_module(x.data)
    frames = take(x, xp.arange(count)[:, None] * step + xp.arange(length), axis=1)
    if window is not None:
        frames = frames * as_tensor(window).reshape(-1, 1)
    return _spectrum(frames, length, length // 2 + 1 if onesided else length, inverse=False)


@register("MelWeightMatrix", host=("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"))
def mel_weight_matrix(
    num_mel_bins: Any, dft_length: Any, sample_rate: Any, lower_edge_hertz: Any, upper_edge_hertz: Any, *,
    output_datatype: int = 1,
) -> Any:
    """Triangles over the frequencies (dft_length // 2 + 1, num_mel_bins), evenly spaced in mel: 2595 log10(1 + f / 700)."""
    bins, length, rate, low, high = (
        number(v) for v in (num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz)
    )
    first, last = (2595 * np.log10(1 + f / 700) for f in (low, high))
    mel = np.arange(bins + 2) * ((last - first) / (bins + 2)) + first
    edges = ((length + 1) * (700 * (10 ** (mel / 2595) - 1)) // rate).astype(int)
    place = np.arange(length // 2 + 1)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = np.where(place <= centre, (place - left) / np.maximum(centre - left, 1), 0)
    rising = np.where(left == centre, place == centre, np.maximum(rising, 0))
    falling = np.where((place >= centre) & (place < right), (right - place) / np.maximum(right - centre, 1), 0)
    return np.where((place >= centre) & (right > centre), falling, rising).astype(dtype_of(output_datatype, "MelWeightMatrix"))
