"""Normalisation layers."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor
from ..backend import accumulator
from ..ops.channel_norms import batch_norm, fixed_norm, group_norm
from ..ops.comparisons import where
from ..ops.elementary import power, rsqrt, square
from ..ops.elementwise import as_tensor
from ..ops.layer_norms import layer_norm, rms_norm
from ..ops.pooling import meanpool
from ..ops.reductions import mean
from ..ops.statistics import norm, var
from .arguments import axis_of, like
from .registry import register
from .windows import halves


def _as(a: Any, x: Tensor) -> Any:
    """A parameter in the dtype of the input."""
    return None if a is None else like(as_tensor(a), x)


@register("BatchNormalization", fixed=("input_mean", "input_var"))
def batch_normalization(
    x: Any, scale: Any, b: Any, input_mean: Any, input_var: Any, *, epsilon: float = 1e-5, is_test: int = 0,
    momentum: float = 0.9, spatial: int = 1, training_mode: int = 0,
) -> Any:
    """With the stored statistics, and in ``training_mode`` with those of the batch, moving the stored ones."""
    x = as_tensor(x)
    if not spatial and x.ndim > 2:
        raise ValueError("spatial=0, statistics for each pixel, is not supported")
    if not training_mode:
        return fixed_norm(x, _as(scale, x), _as(b, x), input_mean, input_var, eps=epsilon)
    found: list[Any] = []
    y = batch_norm(x, _as(scale, x), _as(b, x), eps=epsilon, observe=found.append)
    first, rest, variance, _ = found[0]
    old = as_tensor(input_mean), as_tensor(input_var)
    new = (like(Tensor(a), o) for a, o in zip((first + rest, variance), old))
    return y, *(like(o * momentum + n * (1 - momentum), o) for o, n in zip(old, new))


@register("InstanceNormalization")
def instance_normalization(x: Any, scale: Any, b: Any, *, epsilon: float = 1e-5) -> Any:
    x = as_tensor(x)
    return group_norm(x, _as(scale, x), _as(b, x), groups=x.shape[1], eps=epsilon)


@register("GroupNormalization", since=18)
def group_normalization_18(x: Any, scale: Any, bias: Any, *, num_groups: int, epsilon: float = 1e-5) -> Any:
    """Scale and bias had one number per group at first."""
    x = as_tensor(x)
    each = x.shape[1] // num_groups
    scale, bias = (as_tensor(a).repeat(each) if as_tensor(a).size == num_groups else a for a in (scale, bias))
    return group_norm(x, _as(scale, x), _as(bias, x), groups=num_groups, eps=epsilon)


@register("GroupNormalization", since=21)
def group_normalization(
    x: Any, scale: Any, bias: Any, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    x = as_tensor(x)
    return group_norm(x, _as(scale, x), _as(bias, x), groups=num_groups, eps=epsilon)


@register("LayerNormalization")
def layer_normalization(
    x: Any, scale: Any, b: Any = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1, node: Any
) -> Any:
    """Over ``axis`` and all after it; also the mean, and 1 / sqrt(var + epsilon)."""
    x = as_tensor(x)
    axes = tuple(range(axis_of(x, axis), x.ndim))
    y = _scaled(layer_norm, x, len(axes), epsilon, scale, b)
    if len(node.outputs) == 1:
        return y
    wide = x.astype(accumulator(x.dtype))
    return y, mean(wide, axes, keepdims=True), rsqrt(var(wide, axes, keepdims=True) + epsilon)


@register("RMSNormalization")
def rms_normalization(x: Any, scale: Any, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Any:
    x = as_tensor(x)
    return _scaled(rms_norm, x, x.ndim - axis_of(x, axis), epsilon, scale)


def _scaled(function: Any, x: Tensor, ndim: int, eps: float, *parameters: Any) -> Tensor:
    """``function`` with its parameters where they have the sizes of the axes; where they broadcast, applied after it."""
    given = [as_tensor(a) for a in parameters if a is not None]
    if all(a.shape == x.shape[x.ndim - ndim :] for a in given):
        return function(x, *(_as(a, x) for a in parameters), ndim=ndim, eps=eps)
    y = function(x, ndim=ndim, eps=eps) * _as(given[0], x)
    return y + _as(given[1], x) if len(given) > 1 else y


@register("MeanVarianceNormalization")
def mean_variance_normalization(x: Any, *, axes: Any = (0, 2, 3)) -> Any:
    x = as_tensor(x)
    over = tuple(axis_of(x, a) for a in axes)
    centred = x - mean(x, over, keepdims=True)
    return centred / ((mean(square(centred), over, keepdims=True)) ** 0.5 + 1e-9)


@register("LpNormalization")
def lp_normalization(x: Any, *, axis: int = -1, p: int = 2) -> Any:
    """x / its p-norm along ``axis``, and 0 where the norm is 0."""
    x = as_tensor(x)
    length = norm(x, p, axis_of(x, axis), keepdims=True)
    flat = length == 0
    return where(flat, 0.0, x / where(flat, 1.0, length))


@register("LRN")
def lrn(x: Any, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Any:
    """x / (bias + alpha mean of x^2 over ``size`` neighbouring channels)^beta; the channels beyond the border are 0."""
    x = as_tensor(x)
    planes = square(x).reshape(x.shape[0], 1, x.shape[1], math.prod(x.shape[2:]))
    near = meanpool(planes, (size, 1), stride=1, pad=(halves(size - 1, True), 0))
    return x / power(near.reshape(x.shape) * alpha + bias, beta)

