"""Batch normalisation over the batches of all ranks."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Operation, Structure, Tensor, operation
from ..autograd.tree import items
from ..backend import Array, accumulator, array_module
from ..backend.tracers import refuse_capture
from ..nn.module import training
from ..nn.norms import BatchNorm, moved
from ..ops.joining import concatenate
from ..ops.nonlinearities import activation_of
from .groups import Group, current, wire_dtype


def _all_sum(x: Array, group: Group) -> Array:
    refuse_capture("a sum over ranks", "call the function as it is, without capture")
    wire = array_module(x).ascontiguousarray(x, wire_dtype(x.dtype))
    return group.within.sum(wire.copy() if wire is x else wire, "the statistics of a SyncBatchNorm").astype(x.dtype, copy=False)


def _all_sum_rule(dy: Tensor, group: Group) -> Tensor:
    return all_sum(dy, group=group)


all_sum: Operation = operation("all_sum", _all_sum, rule=_all_sum_rule)
"""The sum of ``x`` over all ranks; its gradient is the sum of theirs. Collective, and so is its backward pass."""


class SyncBatchNorm(BatchNorm):
    """SyncBatchNorm(channels, activation=identity, *, ...): a BatchNorm over the batches of all ranks together.

    Keywords as BatchNorm: ``y = activation(weight * (x - mean) / sqrt(var + eps) + bias)`` with ``mean = sum(x) / m`` and
    ``var = sum((x - mean)^2) / m`` over the ``m`` numbers of each channel on all ranks, so that results and gradients are those
    of one process on the whole batch, to rounding. 16-bit inputs are computed in float32 and keep their dtype. A rank may have
    none of a batch. In test mode, and in a process alone, it is a BatchNorm. ``sync_batch_norms(model)`` exchanges those of a
    model. Every rank must call it equally often.
    """

    def __call__(self, x: Any) -> Tensor:
        group = current()
        if group.size == 1 or (self.track_stats and not training(self)):
            return super().__call__(x)
        x = self._input(x, 2)
        dtype, x = x.dtype, x.astype(accumulator(x.dtype))
        axes = (0, *range(2, x.ndim))
        shape = (1, self.channels, *[1] * (x.ndim - 2))
        xp = array_module(x.data)
        own = xp.full(1, x.shape[0] * math.prod(x.shape[2:]), x.dtype)
        both = all_sum(concatenate([x.sum(axis=axes), own]), group=group)
        total = both[self.channels]
        count = float(total.item())
        if count == 1:
            raise ValueError(f"{self!r}: one value per channel on all ranks together has no variance (input shape {x.shape}): "
                             "give it larger inputs or call the layer in test mode, flux.testmode(model)")
        mean = both[: self.channels] / count
        centred = x - mean.reshape(shape)
        var = all_sum((centred * centred).sum(axis=axes), group=group) / count
        scale = (var + self.eps) ** -0.5
        if self.weight is not None:
            scale = scale * self.weight
        y = centred * scale.reshape(shape)
        if self.bias is not None:
            y = y + self.bias.reshape(shape)
        if self.track_stats and training(self):
            moved(self.running_mean, mean.data, self.momentum)
            moved(self.running_var, var.data * (count / (count - 1)), self.momentum)
        act = activation_of(self.activation)
        return (self.activation(y) if act is None else act(y)).astype(dtype)


def sync_batch_norms(model: Any) -> Any:
    """Let every BatchNorm in ``model`` take the statistics of all ranks: in place, with its parameters; returns the model."""
    seen: set[int] = set()
    stack = [model]
    while stack:
        x = stack.pop()
        if id(x) in seen or not isinstance(x, Structure | dict | list | tuple):
            continue
        seen.add(id(x))
        if type(x) is BatchNorm:
            x.__class__ = SyncBatchNorm
        stack.extend(v for _, v in items(x))
    return model
