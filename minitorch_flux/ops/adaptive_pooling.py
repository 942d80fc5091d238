"""Pooling to a given size: window p of an axis of I pixels that gives O reaches from floor(p I / O) to ceil((p + 1) I / O).

    adaptive_maxpool   y[p] = max of x over window p        dx[i] = sum of dy[p] over all p whose maximum lies at i
    adaptive_meanpool  y[p] = mean of x over window p       dx[i] = sum of dy[p] / size[p] over all windows that hold i

x (N, C, *I), y (N, C, *O) over 1 to 3 axes. These are PyTorch's windows: they exist for every I and O, also for O > I,
and differ by at most one pixel in length. (Flux's have one length for all, where they exist.) Where O divides I they are
those of ``maxpool`` and ``meanpool`` with k = I / O, and those run. First maximum and NaN as in pooling.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import accumulator, array_function, array_module, is_float
from .im2col import Sizes
from .pooling import max_pool_gather, maxpool, meanpool, places, with_batch


def cells(sizes: Sizes, out: Sizes) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """``(window, cell)`` for every cell of the output: both as slices, the cell's of length 1."""
    axes = [[(slice(p * i // o, -(-(p + 1) * i // o)), slice(p, p + 1)) for p in range(o)] for i, o in zip(sizes, out)]
    for pairs in itertools.product(*axes):
        yield tuple(w for w, _ in pairs), tuple(c for _, c in pairs)


@array_function
def adaptive_max_forward(x: Any, out: Sizes) -> tuple[Any, Any]:
    """``(y, arg)``: the maximum of every window and its place in its plane."""
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *out), x.dtype)
    arg, place = xp.empty(y.shape, np.int32), places(x, x.shape[2:])
    for window, cell in cells(x.shape[2:], out):
        v, one = x[..., *window], (*x.shape[:2], *(1,) * len(out))
        v = v.reshape(*x.shape[:2], place[window].size)
        at = v.argmax(axis=2)
        y[..., *cell] = xp.take_along_axis(v, at[..., None], axis=2).reshape(one)
        arg[..., *cell] = xp.take(place[window].ravel(), at).reshape(one)
    return y, arg


@array_function
def adaptive_max_backward(dy: Any, arg: Any, sizes: Sizes) -> Any:
    """dx (N, C, *sizes): every dy at the place of its maximum."""
    xp = array_module(dy)
    dx, place = xp.zeros((*dy.shape[:2], *sizes), dy.dtype), places(dy, sizes)
    for window, cell in cells(sizes, dy.shape[2:]):
        dx[..., *window] += xp.where(arg[..., *cell] == place[window], dy[..., *cell], 0)
    return dx


@array_function
def adaptive_mean_forward(x: Any, out: Sizes) -> Any:
    """The mean of every window; 16-bit floats are added up in float32, integers become float64."""
    xp = array_module(x)
    dtype = x.dtype if is_float(x.dtype) else np.dtype(np.float64)
    y = xp.empty((*x.shape[:2], *out), dtype)
    for window, cell in cells(x.shape[2:], out):
        axes = tuple(range(2, x.ndim))
        y[..., *cell] = x[..., *window].mean(axis=axes, keepdims=True, dtype=accumulator(dtype))
    return y


@array_function
def adaptive_mean_backward(dy: Any, sizes: Sizes) -> Any:
    """dx (N, C, *sizes): every dy / size to all elements of its window."""
    dx = array_module(dy).zeros((*dy.shape[:2], *sizes), accumulator(dy.dtype))
    for window, cell in cells(sizes, dy.shape[2:]):
        size = int(np.prod([w.stop - w.start for w in window]))
        dx[..., *window] += dy[..., *cell] / size
    return dx.astype(dy.dtype, copy=False)


_adaptive_max: Operation = operation(
    "adaptive_max",
    adaptive_max_forward,
    residuals=("arg",),
    backward=lambda dy, arg, x_shape: adaptive_max_backward(dy, arg, x_shape[2:]),
    rule=lambda dy, arg, x_shape: _adaptive_max_spread(dy, arg, sizes=x_shape[2:]),
)
_adaptive_max_spread: Operation = operation(
    "adaptive_max_spread",
    adaptive_max_backward,
    backward=lambda dy, arg: (max_pool_gather(dy, arg), None),
    rule=lambda dy, arg, sizes: (_adaptive_max_gather(dy, arg, sizes=sizes), None),
)
_adaptive_max_gather: Operation = operation(
    "adaptive_max_gather",
    lambda x, arg, sizes: max_pool_gather(x, arg),
    backward=lambda dy, arg, sizes: (adaptive_max_backward(dy, arg, sizes), None),
    rule=lambda dy, arg, sizes: (_adaptive_max_spread(dy, arg, sizes=sizes), None),
)
_adaptive_mean: Operation = operation(
    "adaptive_mean",
    adaptive_mean_forward,
    backward=lambda dy, x_shape: adaptive_mean_backward(dy, x_shape[2:]),
    rule=lambda dy, x_shape: _adaptive_mean_spread(dy, sizes=x_shape[2:]),
)
_adaptive_mean_spread: Operation = operation(
    "adaptive_mean_spread",
    adaptive_mean_backward,
    backward=lambda dy, dy_shape: adaptive_mean_forward(dy, dy_shape[2:]),
    rule=lambda dy, dy_shape: _adaptive_mean(dy, out=dy_shape[2:]),
)


# -- public functions --------------------------------------------------------------------------------------------------


def _sizes(name: str, x: Any, out: Any) -> tuple[Tensor, Sizes, bool]:
    x, batched = with_batch(name, x, len(out) if isinstance(out, tuple | list) else None)
    out = tuple(out) if isinstance(out, tuple | list) else (out,) * (x.ndim - 2)
    if any(isinstance(o, bool) or not isinstance(o, int) or o < 1 for o in out):
        raise ValueError(f"{name}: the output size is a positive int or one per axis, got {out!r}")
    if 0 in x.shape[2:]:
        raise ValueError(f"{name}: the input has an empty axis, there is nothing to pool (input shape {x.shape})")
    return x, out, batched


def _divides(sizes: Sizes, out: Sizes) -> bool:
    """Whether all windows have one size and there are several: then the sliding pools serve, and their kernels."""
    return max(out) > 1 and not any(i % o for i, o in zip(sizes, out))


def adaptive_maxpool(x: Any, out: Any, *, name: str = "adaptive_maxpool") -> Tensor:
    """Max pooling of ``x`` (N, C, *I) to (N, C, *out) with PyTorch's windows.

    ``out``: one size per axis, or an int for every axis; with a tuple, the batch axis may be missing.
    """
    x, out, batched = _sizes(name, x, out)
    sizes = x.shape[2:]
    if _divides(sizes, out):
        y = maxpool(x, tuple(i // o for i, o in zip(sizes, out)), name=name)
    else:
        y = _adaptive_max(x, out=out)
    return y if batched else y.reshape(y.shape[1:])


def adaptive_meanpool(x: Any, out: Any, *, name: str = "adaptive_meanpool") -> Tensor:
    """Mean pooling of ``x`` (N, C, *I) to (N, C, *out) with PyTorch's windows; arguments as for ``adaptive_maxpool``."""
    x, out, batched = _sizes(name, x, out)
    sizes = x.shape[2:]
    if _divides(sizes, out):
        y = meanpool(x, tuple(i // o for i, o in zip(sizes, out)), name=name)
    else:
        y = _adaptive_mean(x, out=out)
    return y if batched else y.reshape(y.shape[1:])
