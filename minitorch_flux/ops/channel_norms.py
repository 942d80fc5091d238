"""Normalisation over channels: batch, group and instance normalisation (kernels: kernels/channel_norms.cu).

    v = (x - mean) rstd        rstd = 1 / sqrt(var + eps), var biased
    y = act(w v + b)           w and b (C,) or None

    batch_norm   mean and var of each channel, over the batch and all axes after the channels
    group_norm   of each sample and group of C / groups consecutive channels; with groups = C instance normalisation
    fixed_norm   mean and var (C,) are given: what batch normalisation does in test mode

    dz = dy act'(w v + b)      db = sum dz,  dw = sum dz v        over all axes but the channels
    g  = dz w                  dx = rstd (g - mean g - v mean(g v)), the means as those of x
                               fixed_norm: dx = rstd g,  dmean = -w rstd db,  dvar = -w rstd^2 dw / 2

x (N, C, *I) with any number of axes I. 16-bit floats are computed in float32, and w, b, mean and var may be float32 then:
y and dx have the dtype of x, the other gradients that of what they are of. The mean is kept as the sum of two numbers:
a first one, and the mean of what it leaves of x. So no digits are lost of an x whose spread is small beside its mean.
Nothing is kept for the gradient but x and four numbers of each channel or group; act's input is computed again.
Sources: Ioffe and Szegedy, "Batch normalization", 2015; Wu and He, "Group normalization", 2018; Ulyanov and others,
"Instance normalization", 2016.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, contiguous, empty
from ..backend.threads import num_threads
from ..readings import KernelFile
from .elementary import rsqrt
from .nonlinearities import Activation, along, identity

# -- references --------------------------------------------------------------------------------------------------------

BATCH, SAMPLE = (0, 2), (2,)
"""The axes of (N, groups, rest) that statistics are taken over."""


def _wide(x: Any) -> Any:
    """``x``, an array or a tensor, in the dtype that it is computed in."""
    high = accumulator(x.dtype)
    return x if x.dtype == high else x.astype(high)


def _parts(x: Any, groups: int) -> Any:
    """``x`` as (N, groups, all the rest), in the dtype that it is computed in."""
    return _wide(_split(x, groups))


def _split(x: Any, groups: int) -> Any:
    n, channels, *sizes = x.shape
    return x.reshape(n, groups, channels // max(groups, 1) * math.prod(sizes))


def _affine(v: Any, weight: Any, bias: Any) -> Any:
    """w v + b, of arrays or tensors."""
    if weight is not None:
        v = v * along(weight, 1, v.ndim)
    return v if bias is None else v + along(bias, 1, v.ndim)


def _channel_sum(z: Any) -> Any:
    return z.sum(axis=(0, *range(2, z.ndim)))


def _like(z: Any, x: Any) -> Any:
    """``z``, an array or a tensor, in the dtype of ``x`` (or None)."""
    return z if x is None or z.dtype == x.dtype else z.astype(x.dtype)


def _statistics(x: Any, groups: int, axes: tuple[int, ...], eps: float) -> Any:
    """(4, rows): the mean in two parts, the variance and rstd of each channel or group."""
    xp, z = array_module(x), _parts(x, groups)
    if z.size == 0:
        return xp.zeros((4, math.prod(n for i, n in enumerate(z.shape) if i not in axes)), z.dtype)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean = z.mean(axis=axes, keepdims=True)
        z = z - mean
        rest = z.mean(axis=axes, keepdims=True)
        z -= rest
        var = (z * z).mean(axis=axes, keepdims=True)
        return xp.stack([mean, rest, var, 1 / xp.sqrt(var + eps)]).reshape(4, -1)


def _by_group(stats: Any, groups: int) -> Any:
    """The statistics as they broadcast to (N, groups, rest)."""
    return stats.reshape(4, stats.shape[1] // groups if groups else 1, groups, 1)


def _standard(x: Any, stats: Any, groups: int) -> Any:
    """v, as (N, groups, rest)."""
    mean, rest, _, rstd = _by_group(stats, groups)
    with np.errstate(invalid="ignore", over="ignore"):
        return (_parts(x, groups) - mean - rest) * rstd


def _forward(x: Any, weight: Any, bias: Any, stats: Any, groups: int, activation: Activation) -> Any:
    v = _standard(x, stats, groups).reshape(x.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        return activation.function(array_module(x), _affine(v, weight, bias)).astype(x.dtype, copy=False)


def _backward(
    dy: Any, x: Any, weight: Any, bias: Any, stats: Any, groups: int, axes: Any, activation: Activation, needs: Any
) -> Any:
    """``(dx, dw, db)``; ``axes`` is None where the statistics do not depend on x."""
    xp, v = array_module(x), _standard(x, stats, groups)
    flat, dz = v.reshape(x.shape), dy.astype(v.dtype, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        if activation is not identity:
            z = _affine(flat, weight, bias)
            slope = activation.derivative(xp, activation.function(xp, z) if activation.from_output else z)
            dz = xp.where(slope, dz, 0) if slope.dtype == bool else dz * slope
        dw = _like(_channel_sum(dz * flat), weight) if needs[1] else None
        db = _like(_channel_sum(dz), bias) if needs[2] else None
        if not needs[0]:
            return None, dw, db
        g = _split(_affine(dz, weight, None), groups)
        if axes is not None and g.size:
            g = g - g.mean(axis=axes, keepdims=True) - v * (g * v).mean(axis=axes, keepdims=True)
        dx = (g * _by_group(stats, groups)[3]).reshape(x.shape)
    return dx.astype(x.dtype, copy=False), dw, db


@array_function
def batch_norm_forward(x: Any, weight: Any, bias: Any, eps: float, activation: Activation = identity) -> tuple[Any, Any]:
    """``(y, stats)``, statistics (4, C): mean, rest of the mean, variance, rstd."""
    stats = _statistics(x, x.shape[1], BATCH, eps)
    return _forward(x, weight, bias, stats, x.shape[1], activation), stats


@array_function
def group_norm_forward(
    x: Any, weight: Any, bias: Any, groups: int, eps: float, activation: Activation = identity
) -> tuple[Any, Any]:
    """``(y, stats)``, statistics (4, N groups): mean, rest of the mean, variance, rstd."""
    stats = _statistics(x, groups, SAMPLE, eps)
    return _forward(x, weight, bias, stats, groups, activation), stats


@array_function
def fixed_norm_forward(x: Any, weight: Any, bias: Any, stats: Any, activation: Activation = identity) -> Any:
    """y with given statistics (4, C)."""
    return _forward(x, weight, bias, stats, x.shape[1], activation)


@array_function
def batch_norm_backward(
    dy: Any, x: Any, weight: Any, bias: Any, stats: Any, activation: Activation, needs: Any, fixed: bool = False
) -> Any:
    """``(dx, dw, db)``; ``fixed``: the statistics do not depend on x."""
    return _backward(dy, x, weight, bias, stats, x.shape[1], None if fixed else BATCH, activation, needs)


@array_function
def group_norm_backward(
    dy: Any, x: Any, weight: Any, bias: Any, stats: Any, groups: int, activation: Activation, needs: Any
) -> Any:
    """``(dx, dw, db)``."""
    return _backward(dy, x, weight, bias, stats, groups, SAMPLE, activation, needs)


@batch_norm_forward.outlined
def _(x: Any, *rest: Any) -> Any:
    return x.copy(), array_module(x).empty((4, x.shape[1]), accumulator(x.dtype))


@group_norm_forward.outlined
def _(x: Any, weight: Any, bias: Any, groups: int, *rest: Any) -> Any:
    return x.copy(), array_module(x).empty((4, x.shape[0] * groups), accumulator(x.dtype))


@fixed_norm_forward.outlined
def _(x: Any, *rest: Any) -> Any:
    return x.copy()


# -- the operations ----------------------------------------------------------------------------------------------------

Observer = Callable[[Any], None] | None
"""What is given the statistics (4, rows) of a forward pass, once: running statistics."""


def _batch_norm(
    x: Any, weight: Any, bias: Any, eps: float, activation: Activation = identity, observe: Observer = None
) -> tuple[Any, Any]:
    y, stats = batch_norm_forward(x, weight, bias, eps, activation)
    if observe is not None:
        observe(stats)
    return y, stats


def _group_norm(
    x: Any, weight: Any, bias: Any, groups: int, eps: float, activation: Activation = identity, observe: Observer = None
) -> tuple[Any, Any]:
    y, stats = group_norm_forward(x, weight, bias, groups, eps, activation)
    if observe is not None:
        observe(stats)
    return y, stats


def _fixed_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float, activation: Activation = identity
) -> tuple[Any, Any]:
    xp = array_module(x)
    stats = xp.empty((4, x.shape[1]), accumulator(x.dtype))
    stats[0], stats[1], stats[2] = mean, 0, var
    stats[3] = 1 / xp.sqrt(stats[2] + eps)
    return fixed_norm_forward(x, weight, bias, stats, activation), stats


def _batch_norm_backward(
    dy: Any, x: Any, weight: Any, bias: Any, stats: Any, activation: Activation, needs: Any
) -> tuple[Any, ...]:
    return batch_norm_backward(dy, x, weight, bias, stats, activation, needs)


def _fixed_norm_backward(
    dy: Any, x: Any, weight: Any, bias: Any, stats: Any, activation: Activation, needs: Any, mean_dtype: Any, var_dtype: Any
) -> tuple[Any, ...]:
    inputs = needs[0], needs[1] or needs[4], needs[2] or needs[3]
    dx, dw, db = batch_norm_backward(dy, x, weight, bias, stats, activation, inputs, True)
    scale = stats[3] if weight is None else stats[3] * weight
    dmean = (-scale * db).astype(mean_dtype, copy=False) if needs[3] else None
    dvar = (-0.5 * scale * stats[3] * dw).astype(var_dtype, copy=False) if needs[4] else None
    return dx, dw if needs[1] else None, db if needs[2] else None, dmean, dvar


def _affine_rule(dy: Tensor, v: Tensor, weight: Any, bias: Any, activation: Activation) -> tuple[Tensor, Tensor, Tensor]:
    """``(dz w, dw, db)``."""
    dz = activation.pull(dy, _affine(v, weight, bias))
    return _affine(dz, weight, None), _channel_sum(dz * v), _channel_sum(dz)


def _rule(
    dy: Tensor, x: Any, weight: Any, bias: Any, groups: int, axes: tuple[int, ...], eps: float, activation: Activation
) -> tuple[Tensor, Tensor, Tensor]:
    if x.size == 0:  # there is nothing to take a mean of
        return dy * x, _channel_sum(dy * x), _channel_sum(dy)
    z, dy = _parts(x, groups), _wide(dy)
    z = z - z.mean(axis=axes, keepdims=True)
    rstd = rsqrt((z * z).mean(axis=axes, keepdims=True) + eps)
    v = z * rstd
    g, dw, db = _affine_rule(dy, v.reshape(x.shape), weight, bias, activation)
    g = _split(g, groups)
    dx = rstd * (g - g.mean(axis=axes, keepdims=True) - v * (g * v).mean(axis=axes, keepdims=True))
    return dx.reshape(x.shape), dw, db


def _batch_norm_rule(dy: Tensor, x: Any, weight: Any, bias: Any, eps: float, activation: Activation, needs: Any) -> Any:
    return _needed(_rule(dy, x, weight, bias, x.shape[1], BATCH, eps, activation), (x, weight, bias), needs)


def _group_norm_rule(
    dy: Tensor, x: Any, weight: Any, bias: Any, groups: int, eps: float, activation: Activation, needs: Any
) -> Any:
    return _needed(_rule(dy, x, weight, bias, groups, SAMPLE, eps, activation), (x, weight, bias), needs)


def _fixed_norm_rule(
    dy: Tensor, x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float, activation: Activation, needs: Any
) -> Any:
    rstd = rsqrt(_wide(var) + eps)
    scale = rstd if weight is None else rstd * weight
    v = _affine(_wide(x) - along(mean, 1, x.ndim), rstd, None)
    g, dw, db = _affine_rule(_wide(dy), v, weight, bias, activation)
    gradients = _affine(g, rstd, None), dw, db, -scale * db, scale * rstd * dw * -0.5
    return _needed(gradients, (x, weight, bias, mean, var), needs)


def _needed(gradients: tuple[Tensor, ...], of: Any, needs: Any) -> tuple[Tensor | None, ...]:
    return tuple([_like(g, x) if need else None for g, x, need in zip(gradients, of, needs, strict=True)])


batch_norm = operation(
    "batch_norm", _batch_norm, backward=_batch_norm_backward, rule=_batch_norm_rule, residuals=("stats",)
)
group_norm = operation(
    "group_norm", _group_norm, backward=group_norm_backward, rule=_group_norm_rule, residuals=("stats",)
)
fixed_norm = operation(
    "fixed_norm", _fixed_norm, backward=_fixed_norm_backward, rule=_fixed_norm_rule, residuals=("stats",)
)

# -- kernels -----------------------------------------------------------------------------------------------------------

channel_norms = KernelFile("channel_norms.cu")

TILE = 64
"""Channels of one row of a ``_last`` kernel, or up to eight times as many: they are neighbours in memory."""

ACCEPTS = (
    "floats of one dtype, at least one; weight and bias or neither, which of 16-bit floats may be float32; what is not "
    "contiguous is copied"
)


@functools.cache
def _constants(activation: Activation) -> dict[str, Any]:
    return {"ACT": activation.name, "FROM_OUTPUT": int(activation.from_output)}


def _fits(x: Any, weight: Any, bias: Any, *dy: Any) -> bool:
    dtype = x.dtype
    if dtype.kind not in "fV" or x.size == 0 or any(a.dtype != dtype for a in dy):
        return False
    if weight is None or bias is None:
        return weight is bias
    return all(a.dtype == dtype or a.dtype == accumulator(dtype) for a in (weight, bias))


def _sizes(x: Any) -> tuple[int, int, int]:
    """``(batch, channels, inner)``."""
    n, channels, *sizes = x.shape
    return n, channels, math.prod(sizes)


def _tile(channels: int) -> int:
    """Long stretches of memory are quick to read, but every thread wants a row or two."""
    return min(-(-channels // (2 * num_threads() * TILE)), 8) * TILE


def _parameter(activation: Activation) -> float:
    return activation.default or 0.0


def _parameters(dw: Any, db: Any, weight: Any, bias: Any, needs: Any) -> tuple[Any, Any]:
    """The gradients of weight and bias that are wanted, in their dtypes."""
    return _like(dw, weight) if needs[1] else None, _like(db, bias) if needs[2] else None


@batch_norm_forward.kernel(accepts=ACCEPTS)
def _(x: Any, weight: Any, bias: Any, eps: float, activation: Activation = identity) -> Any:
    if not _fits(x, weight, bias):
        return NotImplemented
    n, channels, inner = _sizes(x)
    high = accumulator(x.dtype)
    x, weight, bias = contiguous(x), contiguous(weight, high), contiguous(bias, high)
    y, stats = empty(x.shape, x.dtype, like=x), empty((4, channels), high, like=x)
    c, p = _constants(activation), _parameter(activation)
    if inner == 1:
        tile = _tile(channels)
        ran = channel_norms(
            "batch_norm_forward_last", x, -(-channels // tile), tile,
            x, weight, bias, y, stats, eps, p, n, channels, tile, constants=c,
        )  # fmt: skip
    else:
        ran = channel_norms(
            "batch_norm_forward", x, channels, inner, x, weight, bias, y, stats, eps, p, n, channels, inner, constants=c
        )
    return (y, stats) if ran else NotImplemented


@batch_norm_backward.kernel(accepts=ACCEPTS)
def _(
    dy: Any, x: Any, weight: Any, bias: Any, stats: Any, activation: Activation, needs: Any, fixed: bool = False
) -> Any:
    if not _fits(x, weight, bias, dy):
        return NotImplemented
    n, channels, inner = _sizes(x)
    dy, x, w, b = contiguous(dy), contiguous(x), contiguous(weight, stats.dtype), contiguous(bias, stats.dtype)
    dx = empty(x.shape, x.dtype, like=x) if needs[0] else None
    dw, db = (empty((channels,), stats.dtype, like=x) for _ in range(2))
    c, p, share = _constants(activation), _parameter(activation), 0.0 if fixed else 1 / (n * inner)
    if inner == 1:
        work, tile = empty((2, channels), stats.dtype, like=x), _tile(channels)
        ran = channel_norms(
            "batch_norm_backward_last", x, -(-channels // tile), tile,
            dy, x, w, b, stats, work, dx, dw, db, share, p, n, channels, tile, constants=c,
        )  # fmt: skip
    else:
        ran = channel_norms(
            "batch_norm_backward", x, channels, inner,
            dy, x, w, b, stats, dx, dw, db, share, p, n, channels, inner, constants=c,
        )  # fmt: skip
    return (dx, *_parameters(dw, db, weight, bias, needs)) if ran else NotImplemented


@fixed_norm_forward.kernel(accepts=ACCEPTS)
def _(x: Any, weight: Any, bias: Any, stats: Any, activation: Activation = identity) -> Any:
    if not _fits(x, weight, bias):
        return NotImplemented
    n, channels, inner = _sizes(x)
    x, weight, bias = contiguous(x), contiguous(weight, stats.dtype), contiguous(bias, stats.dtype)
    y = empty(x.shape, x.dtype, like=x)
    c, p = _constants(activation), _parameter(activation)
    if inner == 1:
        ran = channel_norms(
            "fixed_norm_forward_last", x, n, channels, x, weight, bias, stats, y, p, n, channels, constants=c
        )
    else:
        rows = n * channels
        ran = channel_norms(
            "fixed_norm_forward", x, rows, inner, x, weight, bias, stats, y, p, rows, channels, inner, constants=c
        )
    return y if ran else NotImplemented


@group_norm_forward.kernel(accepts=ACCEPTS)
def _(x: Any, weight: Any, bias: Any, groups: int, eps: float, activation: Activation = identity) -> Any:
    if not _fits(x, weight, bias):
        return NotImplemented
    n, channels, inner = _sizes(x)
    high = accumulator(x.dtype)
    x, weight, bias = contiguous(x), contiguous(weight, high), contiguous(bias, high)
    rows, size = n * groups, channels // groups
    y, stats = empty(x.shape, x.dtype, like=x), empty((4, rows), high, like=x)
    ran = channel_norms(
        "group_norm_forward", x, rows, size * inner,
        x, weight, bias, y, stats, eps, _parameter(activation), rows, groups, size, inner, constants=_constants(activation),
    )  # fmt: skip
    return (y, stats) if ran else NotImplemented


@group_norm_backward.kernel(accepts=ACCEPTS)
def _(
    dy: Any, x: Any, weight: Any, bias: Any, stats: Any, groups: int, activation: Activation, needs: Any
) -> Any:
    if not _fits(x, weight, bias, dy):
        return NotImplemented
    n, channels, inner = _sizes(x)
    dy, x, w, b = contiguous(dy), contiguous(x), contiguous(weight, stats.dtype), contiguous(bias, stats.dtype)
    rows, size = n * groups, channels // groups
    dx = empty(x.shape, x.dtype, like=x) if needs[0] else None
    sums = empty((2, n, channels), stats.dtype, like=x) if needs[1] or needs[2] else None
    c, p = _constants(activation), _parameter(activation)
    if not channel_norms(
        "group_norm_backward", x, rows, size * inner,
        dy, x, w, b, stats, dx, sums, p, rows, groups, size, inner, constants=c,
    ):  # fmt: skip
        return NotImplemented
    if sums is None:
        return dx, None, None
    dw, db = (empty((channels,), stats.dtype, like=x) for _ in range(2))
    channel_norms("group_norm_sums", x, channels, n, sums, dw, db, n, channels, constants=c)
    return dx, *_parameters(dw, db, weight, bias, needs)
