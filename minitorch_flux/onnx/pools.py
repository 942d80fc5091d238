"""Pools over windows and over everything."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module
from ..ops import extremes, pooling
from ..ops import reductions as r
from ..ops.elementwise import as_tensor
from ..ops.geometry import window
from ..ops.lp_pooling import lpnormpool
from ..ops.scattering import scatter
from ..ops.statistics import norm
from .arguments import ints, like
from .registry import register
from .windows import numbers, padding_of, pairs_of


@register("MaxPool")
def max_pool(
    x: Any, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = None, pads: Any = None,
    storage_order: int = 0, strides: Any = None, node: Any,
) -> Any:
    x, k = as_tensor(x), tuple(kernel_shape)
    stride, dilation = numbers(strides, len(k), 1), numbers(dilations, len(k), 1)
    pad = padding_of(auto_pad, pads, x.shape[2:], k, stride, dilation)
    y = pooling.maxpool(x, k, stride=stride, pad=pad, dilation=dilation, ceil_mode=bool(ceil_mode))
    if len(node.outputs) == 1:
        return y
    box = window("MaxPool", k, stride, pad, dilation, ceil_mode=bool(ceil_mode))
    return y, _whole_places(x, pooling.max_pool_forward(x.data, box)[1], storage_order)


def _whole_places(x: Tensor, arg: Any, storage_order: int) -> Tensor:
    """Places in a plane as places in the whole array, row-major in it or, with ``storage_order``, column-major."""
    xp, sizes = array_module(arg), x.shape[2:]
    at = arg.astype(np.int64)
    if storage_order:
        where = [at // math.prod(sizes[i + 1 :]) % n for i, n in enumerate(sizes)]
        at = sum(p * math.prod(sizes[:i]) for i, p in enumerate(where))
    planes = xp.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *(1,) * len(sizes))
    return Tensor(at + planes * math.prod(sizes))


@register("AveragePool")
def average_pool(
    x: Any, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
    dilations: Any = None, pads: Any = None, strides: Any = None,
) -> Any:
    x, k = as_tensor(x), tuple(kernel_shape)
    stride, dilation = numbers(strides, len(k), 1), numbers(dilations, len(k), 1)
    pad = padding_of(auto_pad, pads, x.shape[2:], k, stride, dilation)
    return pooling.meanpool(x, k, stride=stride, pad=pad, dilation=dilation, ceil_mode=bool(ceil_mode),
                            count_include_pad=bool(count_include_pad))


@register("LpPool")
def lp_pool(
    x: Any, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = None, p: float = 2,
    pads: Any = None, strides: Any = None,
) -> Any:
    x, k = as_tensor(x), tuple(kernel_shape)
    stride, dilation = numbers(strides, len(k), 1), numbers(dilations, len(k), 1)
    pad = padding_of(auto_pad, pads, x.shape[2:], k, stride, dilation)
    return lpnormpool(x, k, p, stride=stride, pad=pad, dilation=dilation, ceil_mode=bool(ceil_mode))


def _planes(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@register("GlobalAveragePool")
def global_average_pool(x: Any) -> Any:
    x = as_tensor(x)
    return like(r.mean(x, _planes(x), keepdims=True), x)


@register("GlobalMaxPool")
def global_max_pool(x: Any) -> Any:
    x = as_tensor(x)
    return extremes.max(x, _planes(x), keepdims=True)


@register("GlobalLpPool")
def global_lp_pool(x: Any, *, p: float = 2) -> Any:
    x = as_tensor(x)
    planes = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    return norm(planes, p, 2).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


@register("MaxUnpool", host=("output_shape",))
def max_unpool(
    x: Any, places: Any, output_shape: Any = None, *, kernel_shape: Any, pads: Any = None, strides: Any = None
) -> Any:
    """Each value at its place in the array that MaxPool saw, zeros elsewhere; ``output_shape`` puts zeros after it."""
    x, places = as_tensor(x), as_tensor(places)
    n = x.ndim - 2
    lost = pairs_of(pads, n)
    sizes = [
        (i - 1) * s - sum(pair) + k
        for i, s, pair, k in zip(x.shape[2:], numbers(strides, n, 1), lost, kernel_shape)
    ]
    whole = (*x.shape[:2], *sizes)
    shape = ints(output_shape) or whole
    xp = array_module(x.data)
    at = xp.unravel_index(places.data.reshape(-1), whole)
    return scatter(Tensor(xp.zeros(shape, x.dtype)), at, x.reshape(-1))
