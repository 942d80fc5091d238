"""Random changes to batches of images ``(N, C, H, W)``, and their normalisation.

Functions from a batch to a new batch of the same dtype on the same device; each image is changed independently. ``rng``
is a ``flux.Generator`` or a ``numpy.random.Generator``, None the default one. The few numbers for each image are drawn
on the host, so the same generator gives the same images on the CPU and on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor
from ..backend import Array, array_module, empty, is_array
from ..backend.generator import Generator, resolve_rng

if TYPE_CHECKING:  # NumPy imports its generators when they are first named
    Rng = Generator | np.random.Generator | None


def random_flip(x: Any, p: float = 0.5, rng: Rng = None) -> Array:
    """Mirror each image left to right with probability ``p``."""
    x, host = _images(x, "random_flip"), _host(rng)
    flipped = host.random(len(x)) < _probability(p, "random_flip")
    y = x.copy()
    chosen = array_module(x).asarray(np.flatnonzero(flipped))
    y[chosen] = x[chosen][..., ::-1]
    return y


def random_crop(
    x: Any, size: int | tuple[int, int] | None = None, pad: int = 0, fill: float = 0, rng: Rng = None
) -> Array:
    """A window of ``size`` (``(h, w)``; default: the image's own) at a random place of each image.

    The image is first padded by ``pad`` pixels of value ``fill`` on every side: ``random_crop(x, pad=4)`` shifts by up
    to 4 pixels each way. All places are equally likely. Result ``(N, C, h, w)``.
    """
    x, host = _images(x, "random_crop"), _host(rng)
    xp = array_module(x)
    n, channels, height, width = x.shape
    h, w = (height, width) if size is None else (size, size) if isinstance(size, int) else size
    rows, columns = height + 2 * pad - h, width + 2 * pad - w
    if pad < 0 or h < 1 or w < 1 or rows < 0 or columns < 0:
        raise ValueError(f"random_crop: a window of {h} x {w} (height x width) does not fit into images of "
                         f"{height} x {width} with pad={pad}")
    top, left = host.integers(0, rows + 1, n), host.integers(0, columns + 1, n)
    if pad:
        padded = empty((n, channels, height + 2 * pad, width + 2 * pad), x.dtype, like=x)
        padded[...] = fill
        padded[..., pad : pad + height, pad : pad + width] = x
        x = padded
    windows = xp.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(2, 3))  # (N, C, rows + 1, columns + 1, h, w)
    return windows[xp.arange(n), :, xp.asarray(top), xp.asarray(left)]


def cutout(x: Any, size: int | tuple[int, int], p: float = 1.0, fill: float = 0, rng: Rng = None) -> Array:
    """Set a rectangle of ``size`` (``(h, w)``) to ``fill`` in each image, with probability ``p``.

    Its centre is any pixel, all equally likely, so that at the border a part of it falls outside the image (DeVries and
    Taylor, "Improved regularization of convolutional neural networks with cutout", 2017).
    """
    x, host = _images(x, "cutout"), _host(rng)
    xp = array_module(x)
    n, _, height, width = x.shape
    h, w = (size, size) if isinstance(size, int) else size
    if h < 1 or w < 1:
        raise ValueError(f"cutout: size={size!r}: expected at least one pixel each way")
    on = host.random(n) < _probability(p, "cutout")
    rows = _covered(host.integers(0, height, n), h, height) & on[:, None]
    columns = _covered(host.integers(0, width, n), w, width)
    hole = xp.asarray(rows)[:, None, :, None] & xp.asarray(columns)[:, None, None, :]
    return xp.where(hole, x.dtype.type(fill), x)


def normalise(x: Any, mean: Sequence[float] | float, std: Sequence[float] | float, scale: float = 255.0) -> Array:
    """``(x - mean) / std`` with one ``mean`` and ``std`` for each channel (axis 1), or one for all.

    Integer images are first divided by ``scale``, so that ``mean`` and ``std`` are in units of [0, 1] either way; the
    result is then float32. Floating-point images keep their dtype.
    """
    x = _images(x, "normalise")
    xp = array_module(x)
    real = x.dtype.kind == "f"
    dtype = x.dtype if real else np.dtype(np.float32)
    centre, spread = (np.atleast_1d(np.asarray(v, np.float64)) for v in (mean, std))
    for name, v in (("mean", centre), ("std", spread)):
        if v.shape not in ((1,), (x.shape[1],)):
            raise ValueError(f"normalise: {name} has shape {v.shape}, the images (shape {x.shape}) have {x.shape[1]} "
                             "channels on axis 1")
    if not (spread > 0).all():
        raise ValueError(f"normalise: std must be positive, got {std!r}")
    factor = 1 / (spread if real else spread * scale)
    factor, offset = (xp.asarray(v.astype(dtype)[:, None, None]) for v in (factor, -centre / spread))
    y = xp.multiply(x, factor, out=empty(x.shape, dtype, like=x), dtype=dtype)
    y += offset
    return y


def _images(x: Any, where: str) -> Array:
    x = x.data if isinstance(x, Tensor) else x
    if not is_array(x) or x.ndim != 4:
        found = f"an array of shape {x.shape}" if is_array(x) else type(x).__name__
        raise ValueError(f"{where}: expected a batch of images (N, C, H, W), got {found}")
    return x


def _host(rng: Rng) -> np.random.Generator:
    return rng if isinstance(rng, np.random.Generator) else resolve_rng(rng).host()


def _probability(p: float, where: str) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"{where}: p={p!r} is no probability")
    return p


def _covered(centre: np.ndarray, size: int, length: int) -> np.ndarray:
    """Which of ``length`` pixels lie in the ``size`` around each centre: bool ``(N, length)``."""
    first = centre[:, None] - size // 2
    pixels = np.arange(length)
    return (pixels >= first) & (pixels < first + size)
