"""Pooling by the p-norm over sliding windows (kernels: kernels/pooling.cu).

    lpnormpool   y[q] = (sum over k of |x[q s - lo + k d]|^p)^(1/p)                padding is zero
                 dx[i] = |x[i]|^(p-1) sign(x[i]) times the sum of dy[q] y[q]^(1-p) over all q and k with q s - lo + k d = i

x (N, C, *I), y (N, C, *Q) over 1 to 3 axes, p > 0. Where y is 0 its slope is taken as 0, and so is that of x at 0. 16-bit
floats are computed in float32, integers become float64. Source: NNlib's ``lpnormpool``; PyTorch's ``lp_pool2d`` for x >= 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty, is_float
from .arithmetic import absolute
from .comparisons import where
from .elementary import power
from .elementwise import raw
from .geometry import Pad, Window
from .im2col import padded, taps
from .pooling import ACCEPTS, counts_like, fits, inside, launch, mean_pool_spread, pool_window, zeros_for

# -- references --------------------------------------------------------------------------------------------------------


@array_function
def lp_pool_forward(x: Any, window: Window, p: float) -> Any:
    """The p-norm of every window."""
    xp, sizes = array_module(x), x.shape[2:]
    window, out = window.at(sizes), window.output_size(sizes)
    dtype = x.dtype if is_float(x.dtype) else np.dtype(np.float64)
    sums = xp.zeros((*x.shape[:2], *out), accumulator(dtype))
    powers = padded(xp.abs(x.astype(sums.dtype, copy=False)) ** p, window, out)
    for _, cut in taps(window, out):
        sums += powers[..., *cut]
    return (sums ** (1 / p)).astype(dtype, copy=False)


@array_function
def lp_pool_backward(dy: Any, x: Any, out: Any, window: Window, p: float) -> Any:
    """dx from dy, the input and the output."""
    xp, sizes = array_module(x), x.shape[2:]
    window, given = window.at(sizes), _given(dy, out, p)
    dx = zeros_for(dy, window, sizes, given.dtype)
    for _, cut in taps(window, dy.shape[2:]):
        dx[..., *cut] += given
    high = x.astype(given.dtype, copy=False)
    zero = high == 0
    slope = xp.where(zero, 0, xp.sign(high) * xp.where(zero, 1, xp.abs(high)) ** (p - 1))
    return (inside(dx, window, sizes) * slope).astype(dy.dtype, copy=False)


def _given(dy: Any, out: Any, p: float) -> Any:
    """dy y^(1-p), 0 where y is: what every window gives to its elements. In the dtype of sums."""
    xp, high = array_module(dy), accumulator(dy.dtype)
    y = out.astype(high, copy=False)
    return xp.where(y == 0, 0, dy * xp.where(y == 0, 1, y) ** (1 - p)).astype(high, copy=False)


# -- kernels -----------------------------------------------------------------------------------------------------------


@lp_pool_forward.kernel(accepts=ACCEPTS)
def _(x: Any, window: Window, p: float) -> Any:
    if not fits(x, window):
        return NotImplemented
    x, sizes = contiguous(x), x.shape[2:]
    out = window.output_size(sizes)
    y = empty((*x.shape[:2], *out), x.dtype, like=x)
    return y if launch("lp_pool_forward", x, (x, y), window.at(sizes), sizes, out, False, float(p)) else NotImplemented


@lp_pool_backward.kernel(accepts=f"{ACCEPTS}; dy, x and out of one dtype")
def _(dy: Any, x: Any, out: Any, window: Window, p: float) -> Any:
    if not fits(dy, window) or x.dtype != dy.dtype:
        return NotImplemented
    x, sizes, given = contiguous(x), x.shape[2:], contiguous(_given(dy, out, p))
    dx = empty(x.shape, x.dtype, like=x)
    ran = launch("lp_pool_backward", x, (given, x, dx), window.at(sizes), sizes, dy.shape[2:], True, float(p))
    return dx if ran else NotImplemented


# -- the operation -----------------------------------------------------------------------------------------------------


def _lp_pool_rule(dy: Tensor, x: Tensor, out: Tensor, window: Window, p: float) -> Tensor:
    zero, sizes = raw(out) == 0, x.shape[2:]
    given = where(zero, 0.0, dy * power(where(zero, 1.0, out), 1 - p))
    at = window.at(sizes)
    given = given * counts_like(raw(given), at, sizes, True, given.dtype)  # which the mean's gradient divides by
    none = raw(x) == 0
    slope = where(none, 0.0, power(where(none, 1.0, absolute(x)), p - 1) * array_module(raw(x)).sign(raw(x)))
    return mean_pool_spread(given, window=window, count_include_pad=True, sizes=sizes) * slope


_lp_pool: Operation = operation("lp_pool", lp_pool_forward, backward=lp_pool_backward, rule=_lp_pool_rule)


def lpnormpool(
    x: Any, k: Any, p: float, *, stride: Any = None, pad: Pad = 0, dilation: Any = 1, ceil_mode: bool = False,
    name: str = "lpnormpool",
) -> Tensor:
    """The p-norm of every window of ``x``, (sum |x|^p)^(1/p); arguments as for ``maxpool``. Its slope at 0 is 0.

    Raises ValueError where p is not positive. Source: NNlib's ``lpnormpool``.
    """
    if not p > 0:
        raise ValueError(f"{name}: p must be positive, got {p}")
    x, window, batched = pool_window(name, x, k, stride, pad, dilation, ceil_mode)
    y = _lp_pool(x, window=window, p=p)
    return y if batched else y.reshape(y.shape[1:])
