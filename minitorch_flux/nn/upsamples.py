"""Upsample and PixelShuffle: images made larger."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..ops.upsampling import pixel_shuffle, upsample_bicubic, upsample_linear, upsample_nearest
from .inputs import as_real, layer_name, whole
from .module import Module

NDIM = {"nearest": None, "linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}
"""The modes, and how many axes after N and C each takes."""


class Upsample(Module):
    """Upsample(mode="nearest", *, scale=None, size=None, align_corners=False)

    Interpolates ``x`` (N, C, *I) to another size, (N, C, *P).

    ``mode``: ``"nearest"`` over 1 to 3 axes, ``"linear"`` over 1, ``"bilinear"`` and ``"bicubic"`` over 2, ``"trilinear"``
    over 3. ``scale``: a number, or one for each axis, whole or not; P = floor(I scale), and pixels are taken at multiples
    of 1 / scale as given (PyTorch's ``recompute_scale_factor=False``). ``size``: P itself, a number or one for each axis.
    ``align_corners=True`` keeps the corner pixels where they are; not for ``"nearest"``.

    Flux's ``Upsample(:bilinear)`` is ours with ``align_corners=True``; the default False is PyTorch's. Raises ValueError
    for an unknown mode and an input with other axes, TypeError where not exactly one of ``scale`` and ``size`` is given.
    Sources: Flux's ``Upsample``, PyTorch's.
    """

    def __init__(
        self, mode: str = "nearest", *, scale: Any = None, size: Any = None, align_corners: bool = False
    ) -> None:
        if not isinstance(mode, str) or mode not in NDIM:
            hint = "; write Upsample('nearest', scale=...)" if not isinstance(mode, str) else ""
            raise ValueError(f"Upsample: the mode is one of {', '.join(map(repr, NDIM))}, got {mode!r}{hint}")
        if (scale is None) == (size is None):
            raise TypeError(f"Upsample: give either scale= or size=, got {'neither' if scale is None else 'both'}")
        if align_corners and mode == "nearest":
            raise ValueError("Upsample: align_corners is for linear interpolation, 'nearest' has none")
        what, value, kind = ("scale", scale, int | float | np.number) if size is None else ("size", size, int | np.integer)
        for n in value if isinstance(value, tuple | list) else (value,):
            if isinstance(n, bool) or not isinstance(n, kind) or not n > 0:
                number = "number" if size is None else "whole number"
                raise ValueError(f"Upsample: {what} is a positive {number} or a tuple with one for each axis, got {value!r}")
        self.mode, self.align_corners = mode, align_corners
        self.scale, self.size = (tuple(v) if isinstance(v, list) else v for v in (scale, size))

    def __call__(self, x: Any) -> Tensor:
        x = as_real(x, self)
        given: dict[str, Any] = {"scale": self.scale, "size": self.size, "name": layer_name(self)}
        if self.mode == "nearest":
            return upsample_nearest(x, **given)
        if self.mode == "bicubic":
            return upsample_bicubic(x, align_corners=self.align_corners, **given)
        return upsample_linear(x, align_corners=self.align_corners, ndim=NDIM[self.mode], **given)


class PixelShuffle(Module):
    """PixelShuffle(r)

    Channels become pixels: ``x`` (N, C r^d, *I) gives (N, C, *(I r)) over d = 1 to 3 axes; channel (c r + a) r + b of an
    image becomes the pixels (i r + a, j r + b) of channel c, as in PyTorch.

    Raises ValueError where the channels cannot be divided by r^d. Source: Flux's ``PixelShuffle``; Shi and others,
    "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural network", 2016.
    """

    def __init__(self, r: int) -> None:
        self.r = whole(r, "PixelShuffle: r")
        if not self.r:
            raise ValueError("PixelShuffle: r is a whole number from 1 on, got 0")

    def __call__(self, x: Any) -> Tensor:
        return pixel_shuffle(as_real(x, self), self.r, name=layer_name(self))
