"""Reductions over axes, extremes and their places, and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module, is_float
from ..ops import extremes
from ..ops import reductions as r
from ..ops.arithmetic import absolute
from ..ops.elementary import log, square
from ..ops.elementwise import as_tensor
from ..ops.joining import concatenate
from ..ops.scans import cumprod, cumsum
from ..ops.shapes import flip
from ..ops.softmaxes import logsumexp
from ..ops.statistics import norm
from .arguments import axis_of, ints, like, number
from .registry import register


def _reduction(name: str, function: Callable[..., Any], empty: float | None = None) -> None:
    """``function(x, axes, keepdims=)``; ``empty``: its value over no elements where the library has none."""

    @register(name, host=("axes",))
    def translated(data: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        x = as_tensor(data)
        over = ints(axes) or ()
        if not over and noop_with_empty_axes:
            return like(function(x, (), keepdims=True), x)
        over = tuple(axis_of(x, a) for a in over) or tuple(range(x.ndim))
        if empty is not None and math.prod(x.shape[a] for a in over) == 0:
            shape = [1 if a in over else n for a, n in enumerate(x.shape) if keepdims or a not in over]
            return Tensor(array_module(x.data).full(shape, _limit(x.dtype, empty), x.dtype))
        return like(function(x, over, keepdims=bool(keepdims)), x)


def _limit(dtype: Any, value: float) -> float:
    """An infinity, or the extreme of a dtype that has none."""
    if is_float(dtype) or not math.isinf(value):
        return value
    if dtype.kind == "b":
        return value > 0
    limits = np.iinfo(dtype)
    return limits.max if value > 0 else limits.min


def _logsumexp(x: Tensor, axes: Any, keepdims: bool) -> Tensor:
    x = x if is_float(x.dtype) else x.astype(np.float64)
    return logsumexp(x, axes, keepdims=keepdims) if axes else x


def _extreme(function: Callable[..., Any], any_or_all: Callable[..., Any]) -> Callable[..., Any]:
    def over(x: Tensor, axes: Any, keepdims: bool) -> Tensor:
        return (any_or_all if x.dtype.kind == "b" else function)(x, axes, keepdims=keepdims)

    return over


_reduction("ReduceSum", r.sum)
_reduction("ReduceMean", r.mean)
_reduction("ReduceProd", r.prod)
_reduction("ReduceMax", _extreme(extremes.max, r.any), empty=-math.inf)
_reduction("ReduceMin", _extreme(extremes.min, r.all), empty=math.inf)
_reduction("ReduceL1", lambda x, axes, keepdims: r.sum(absolute(x), axes, keepdims=keepdims))
_reduction("ReduceL2", lambda x, axes, keepdims: norm(_floating(x), axis=axes, keepdims=keepdims) if axes else absolute(x))
_reduction("ReduceSumSquare", lambda x, axes, keepdims: r.sum(square(x), axes, keepdims=keepdims))
_reduction("ReduceLogSum", lambda x, axes, keepdims: log(r.sum(x, axes, keepdims=keepdims)), empty=-math.inf)
_reduction("ReduceLogSumExp", _logsumexp, empty=-math.inf)


def _floating(x: Tensor) -> Tensor:
    return x if is_float(x.dtype) else x.astype(np.float64)


def _place(function: Callable[..., Any]) -> Callable[..., Any]:
    def translated(data: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        x = as_tensor(data)
        axis = axis_of(x, axis)
        if not select_last_index:
            return function(x, axis, keepdims=bool(keepdims))
        return x.shape[axis] - 1 - function(flip(x, axis), axis, keepdims=bool(keepdims))

    return translated


register("ArgMax")(_place(extremes.argmax))
register("ArgMin")(_place(extremes.argmin))


def _scan(function: Callable[..., Any], first: int) -> Callable[..., Any]:
    def translated(x: Any, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Any:
        x = as_tensor(x)
        along = axis_of(x, number(axis))
        turned = flip(x, along) if reverse else x
        if exclusive:  # shifted by one, so that each element misses itself
            before, after = (slice(None),) * along, (slice(None),) * (x.ndim - along - 1)
            start = Tensor(array_module(x.data).full_like(x.data[(*before, slice(0, 1), *after)], first))
            turned = concatenate([start, turned[(*before, slice(0, x.shape[along] - 1), *after)]], along)
        y = like(function(turned, along), x)
        return flip(y, along) if reverse else y

    return translated


register("CumSum", host=("axis",))(_scan(cumsum, 0))
register("CumProd", host=("axis",))(_scan(cumprod, 1))
