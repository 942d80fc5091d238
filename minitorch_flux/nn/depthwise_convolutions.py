"""DepthwiseConv, the convolution that keeps channels apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from ..backend import is_array
from .convolutions import Convolution
from .initialisers import glorot_uniform, zeros
from .inputs import whole
from .lazy_sizes import open_size


@open_size("sizes", axis=lambda layer: -len(layer.kernel) - 1,
           saved=lambda shapes, layer: shapes["weight"][0] // layer.mul)
class DepthwiseConv(Convolution):
    """DepthwiseConv(kernel, in, mul=1, activation=identity, *, stride=1, pad=0, dilation=1, bias=True, ...)

    Depthwise convolution: every input channel is convolved with ``mul`` kernels of its own, over 1 to 3 axes.

    **The second number is the multiplier, not the number of outputs**: there are ``in * mul`` of them, those of channel 0
    first. ``DepthwiseConv((3, 3), 3)`` keeps 3 channels, ``DepthwiseConv((3, 3), 3, 5)`` and, with a pair,
    ``DepthwiseConv((3, 3), (3, 5))`` make 15; an activation may follow each of them.

    ``x`` (N, in, *I), or (in, *I) for one sample, gives (N, in * mul, *O). ``weight`` (in * mul, 1, *kernel), ``bias`` (in *
    mul,): it is ``Conv(kernel, in, in * mul, groups=in)``, weights included, and the other keywords are those of ``Conv``.
    ``DepthwiseConv(weight_array, bias, activation, mul=1, ...)`` takes given weights.

    Raises ValueError that names the axis and both sizes where channels or axes do not fit. Source: Flux v0.8's
    ``DepthwiseConv`` (later versions take ``in => out``).
    """

    _axes = "in * mul, 1"
    _defaults = {"stride": 1, "pad": 0, "dilation": 1, "flipkernel": False}

    def __init__(
        self,
        kernel: Any,
        *sizes: Any,
        mul: int | None = None,
        stride: Any = 1,
        pad: Any = 0,
        dilation: Any = 1,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] = zeros,
        flipkernel: bool = False,
        rng: Any = None,
    ) -> None:
        self.stride, self.pad, self.dilation, self.flipkernel = stride, pad, dilation, flipkernel
        if is_array(kernel) or isinstance(kernel, Tensor):
            self.mul = 1 if mul is None else _multiplier(mul)
            outputs = kernel.shape[0] if kernel.ndim else 0
            if kernel.ndim > 2 and (kernel.shape[1] != 1 or outputs % self.mul):
                raise ValueError(f"DepthwiseConv: the weight has the axes (in * mul, 1, kernel...) with mul {self.mul}, got "
                                 f"shape {kernel.shape}")
            self.groups = max(outputs // self.mul, 1)
        else:
            channels, self.mul, sizes = _channels(sizes, mul)
            self.groups = max(channels, 1)
            sizes = ((channels, channels * self.mul), *sizes)
        self._build(kernel, sizes, lambda _, s: (*s[0], list(s[1:])), bias, init, init_bias, rng)

    def _sizes(self) -> list[Any]:
        return [self.in_] if self.mul == 1 else [self.in_, self.mul]


def _multiplier(mul: Any) -> int:
    if (mul := whole(mul, "DepthwiseConv: the multiplier")) < 1:
        raise ValueError(f"DepthwiseConv: the multiplier must be at least 1, got {mul}")
    return mul


def _channels(sizes: tuple[Any, ...], mul: Any) -> tuple[int, int, tuple[Any, ...]]:
    """``(in, mul)`` from ``in``, ``in, mul`` or ``(in, mul)``, and what follows them."""
    if sizes and isinstance(sizes[0], tuple | list):
        pair, rest = tuple(sizes[0]), sizes[1:]
    else:
        n = 2 if len(sizes) > 1 and not callable(sizes[1]) and sizes[1] is not None else 1
        pair, rest = sizes[:n], sizes[n:]
    if len(pair) not in (1, 2):
        raise TypeError(f"DepthwiseConv: the channels are in, or in and the multiplier, got {pair!r}")
    if len(pair) == 2 and mul is not None:
        raise TypeError(f"DepthwiseConv: the multiplier is given twice, as {pair[1]!r} and as mul={mul!r}")
    multiplier = pair[1] if len(pair) == 2 else 1 if mul is None else mul
    return whole(pair[0], "DepthwiseConv: the number of input channels"), _multiplier(multiplier), rest
