"""Convolutions: Conv, ConvTranspose, and what is made of windows."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..ops.convolution import conv_bias_act
from ..ops.elementwise import as_tensor
from ..ops.geometry import Window, window
from ..ops.im2col import fold
from ..ops.joining import concatenate
from ..ops.nonlinearities import identity, swish
from ..ops.padding import pad
from ..ops.transposed_convolution import conv_transpose_bias_act
from .arguments import ints
from .registry import register
from .windows import Pairs, halves, numbers, padding_of, pairs_of


def _checked(x: Tensor, w: Tensor) -> int:
    """The number of axes that the window slides over."""
    if x.ndim != w.ndim or x.ndim < 3:
        raise ValueError(f"the input has shape {x.shape}, expected {w.ndim} axes (N, C, ...) as the weight, which has shape "
                         f"{w.shape}")
    return x.ndim - 2


@register("Conv")
def conv(
    x: Any, w: Any, b: Any = None, *, auto_pad: str = "NOTSET", dilations: Any = None, group: int = 1,
    kernel_shape: Any = None, pads: Any = None, strides: Any = None,
) -> Any:
    x, w = as_tensor(x), as_tensor(w)
    n = _checked(x, w)
    stride, dilation = numbers(strides, n, 1), numbers(dilations, n, 1)
    pairs = padding_of(auto_pad, pads, x.shape[2:], w.shape[2:], stride, dilation)
    return conv_bias_act(x, w, b, window("Conv", w.shape[2:], stride, pairs, dilation, group))


@register("ConvTranspose")
def conv_transpose(
    x: Any, w: Any, b: Any = None, *, auto_pad: str = "NOTSET", dilations: Any = None, group: int = 1,
    kernel_shape: Any = None, output_padding: Any = None, output_shape: Any = None, pads: Any = None, strides: Any = None,
) -> Any:
    """``output_shape``, with or without N and C, and SAME pads say how long the output is, instead of ``pads``."""
    x, w = as_tensor(x), as_tensor(w)
    n = _checked(x, w)
    stride, dilation, extra = numbers(strides, n, 1), numbers(dilations, n, 1), numbers(output_padding, n, 0)
    pairs: Pairs
    if output_shape is not None or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = ints(output_shape) or tuple(i * s for i, s in zip(x.shape[2:], stride))
        whole = [
            (i - 1) * s + (k - 1) * d + 1 + e
            for i, s, k, d, e in zip(x.shape[2:], stride, w.shape[2:], dilation, extra)
        ]
        totals = [size - out for size, out in zip(whole, wanted[-n:])]
        pairs = tuple(halves(max(total, 0), auto_pad == "SAME_UPPER") for total in totals)
        extra = tuple(e + max(-total, 0) for e, total in zip(extra, totals))
    else:
        pairs = ((0, 0),) * n if auto_pad == "VALID" else pairs_of(pads, n)
    box = window("ConvTranspose", w.shape[2:], stride, pairs, dilation, group, transposed=True).outpadded(extra)
    return conv_transpose_bias_act(x, w, b, box)


@register("Col2Im", host=("image_shape", "block_shape"))
def col2im(
    x: Any, image_shape: Any, block_shape: Any, *, dilations: Any = None, pads: Any = None, strides: Any = None
) -> Any:
    sizes, kernel = ints(image_shape) or (), ints(block_shape) or ()
    n = len(sizes)
    return fold(x, sizes, kernel, stride=numbers(strides, n, 1), pad=pairs_of(pads, n), dilation=numbers(dilations, n, 1))


@register("CausalConvWithState")
def causal_conv_with_state(
    x: Any, weight: Any, bias: Any = None, past_state: Any = None, *, activation: str = "none"
) -> Any:
    """A depthwise convolution of (N, C, L) that sees only what came before; the last K - 1 inputs are the next state."""
    x, w = as_tensor(x), as_tensor(weight)
    back = w.shape[-1] - 1
    if activation not in ("none", "silu", "swish"):
        raise ValueError(f"activation={activation!r} is not none, silu or swish")
    act = identity if activation == "none" else swish
    box: Window
    if past_state is None:
        box, whole = window("CausalConvWithState", w.shape[2:], 1, ((back, 0),), 1, x.shape[1]), x
    else:
        whole = concatenate([past_state, x], 2)
        box = window("CausalConvWithState", w.shape[2:], 1, 0, 1, x.shape[1])
    y = conv_bias_act(whole, w, bias, box, act)
    return y, _last(whole, back)


def _last(x: Tensor, n: int) -> Tensor:
    """The last ``n`` along the last axis, zeros before where there are fewer."""
    lack = max(n - x.shape[-1], 0)
    return pad(x, [(0, 0), (0, 0), (lack, 0)])[:, :, x.shape[-1] + lack - n :]
