"""Gradients over all ranks, summed in buckets while the backward pass is still under way.

A bucket is a flat array for the gradients of some parameters, the last layers' first, as a backward pass finds them. As soon as
all of a bucket's gradients are there, its sum over the ranks begins, and goes on beside the rest of the backward pass. Buckets
are summed in their order, which is the same on every rank whatever the order of arrival.

Every rank's loss is weighted by its number of observations, and the sum of the gradients divided by that of all ranks: the
gradient of the mean over all of them. That number travels with the sums, so that the ranks wait for each other once in a step,
at its end. On the way the weights are divided by a power of two near the number of the step before, which changes no bit of
the result, and keeps 16-bit gradients as large as those of a mean.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor, parameters
from ..autograd import withgradient as local_gradient
from ..autograd.recording import state
from ..autograd.tree import mirror, same_kind
from ..backend import Array, array_module, device_of, empty_like, is_array, to_device
from .groups import Group, current, wire_dtype

BUCKET = 4 << 20
"""Bytes of a bucket: large enough that latency does not count, small enough that the first one is full early."""


class _Buckets:
    """The flat arrays for a list of parameters, and which part of which belongs to which."""

    def __init__(self, params: list[Any]) -> None:
        self.params = params
        self.arrays = [p.data for p in params]
        self.flats: list[Array] = []
        self.members: list[list[int]] = []  # the parameters in each bucket
        self.views: dict[int, tuple[int, Array]] = {}  # by id: the bucket, and its part in the parameter's shape
        groups: dict[tuple[str, Any], list[int]] = {}
        for i in reversed(range(len(params))):
            a = self.arrays[i]
            wire = wire_dtype(a.dtype)
            groups.setdefault((device_of(a), wire), []).append(i)
        for (_, wire), numbers in groups.items():
            while numbers:
                taken: list[int] = []
                size = 0
                while numbers and (not taken or size < BUCKET):
                    taken.append(numbers.pop(0))
                    size += self.arrays[taken[-1]].size * wire.itemsize
                self._add(taken, wire)

    def _add(self, numbers: list[int], wire: np.dtype) -> None:
        like = self.arrays[numbers[0]]
        flat = array_module(like).zeros(sum(self.arrays[i].size for i in numbers), wire)
        start = 0
        for i in numbers:
            a = self.arrays[i]
            self.views[id(self.params[i])] = (len(self.flats), flat[start : start + a.size].reshape(a.shape))
            start += a.size
        self.flats.append(flat)
        self.members.append(numbers)

    def fits(self, params: list[Any]) -> bool:
        """Whether these are still the parameters, and their arrays."""
        return len(params) == len(self.params) and all(
            p is q and p.data is a for p, q, a in zip(params, self.params, self.arrays, strict=True)
        )


_known: weakref.WeakKeyDictionary[Any, _Buckets] = weakref.WeakKeyDictionary()


def _buckets(model: Any) -> _Buckets:
    """A model's buckets, kept as long as its parameters stay the same arrays."""
    params = [p for p in parameters(model) if p.track]
    found = _known.get(model) if hasattr(model, "__weakref__") else None
    if found is None or not found.fits(params):
        found = _Buckets(params)
        if hasattr(model, "__weakref__"):
            _known[model] = found
    return found


class _Reduction:
    """One backward pass whose gradients are summed over the ranks as they arrive."""

    def __init__(self, group: Group, buckets: _Buckets) -> None:
        self.group, self.buckets = group, buckets
        self.loss: Tensor | None = None
        self.missing = [len(m) for m in buckets.members]
        self.expected: dict[int, int] = {}  # by id of a parameter: the gradients that are still to come
        self.latest: dict[int, Array] = {}
        self.placed: set[int] = set()
        self.requests: list[Any] = []

    def begin(self, y: Tensor) -> bool:
        """Whether the backward pass from ``y`` is ours; counts how many gradients each parameter will get."""
        if y is not self.loss or y.node is None:
            return False
        seen, stack = {y.node}, [y.node]
        while stack:
            for parent in stack.pop().parents:
                if isinstance(parent, Tensor):
                    self.expected[id(parent)] = self.expected.get(id(parent), 0) + 1
                elif parent is not None:
                    source = parent[0] if type(parent) is tuple else parent
                    if source not in seen:
                        seen.add(source)
                        stack.append(source)
        return True

    def arrived(self, leaf: Tensor, g: Array) -> None:
        """A gradient at a leaf, the sum so far; the last one goes into its bucket."""
        self.latest[id(leaf)] = g
        left = self.expected[id(leaf)] = self.expected[id(leaf)] - 1
        if left < 0:
            raise RuntimeError(f"a gradient of shape {leaf.shape} came after its sum over the ranks had begun: the tape has "
                               "grown on the way back")
        if left == 0 and id(leaf) in self.buckets.views:
            self._place(leaf, g)
        self.group.poke(self.requests)

    def _place(self, leaf: Any, g: Array | None) -> None:
        number, view = self.buckets.views[id(leaf)]
        view[...] = 0 if g is None else g
        self.placed.add(id(leaf))
        self.missing[number] -= 1
        while len(self.requests) < len(self.missing) and not self.missing[len(self.requests)]:
            self.requests.append(self.group.start_sum(self.buckets.flats[len(self.requests)]))

    def finish(self, count: float, numbers: list[float], unit: float) -> tuple[dict[int, Array], Array]:
        """Wait for all sums: the gradients by the ids of the parameters, none where every rank has none, and the means of
        ``numbers``. The loss has been weighted by ``count / unit``."""
        params = self.buckets.params
        for p in params:
            if id(p) not in self.placed:
                self._place(p, self.latest.get(id(p)))
        weighted = [v * count if count else 0.0 for v in numbers]  # of no observations they may be NaN
        told = np.array([count, *weighted, *(id(p) in self.latest for p in params)], np.float64)
        self.group.finish([*self.requests, self.group.start_sum(told)], "the sum of the gradients")
        total, means, has = told[0], told[1 : len(numbers) + 1], told[len(numbers) + 1 :]
        if not total:
            raise ValueError("distributed.withgradient: no rank has any observation")
        self.group.unit = _unit(total)
        summed: dict[int, Array] = {}
        for p, anybody in zip(params, has, strict=True):
            if anybody:
                view, g = self.buckets.views[id(p)][1], empty_like(p.data)
                quotient = g if g.dtype == view.dtype else view
                array_module(view).divide(view, view.dtype.type(total / unit), out=quotient)
                if quotient is view:
                    g[...] = view
                summed[id(p)] = g
        return summed, means / total


def _unit(total: float) -> float:
    """A power of two near a number of observations."""
    return 2.0 ** math.frexp(total)[1]


def withgradient(f: Callable[[Any], Any], model: Any, count: int, group: Group | None = None) -> tuple[Any, Any]:
    """The mean of ``f(model)`` over all ranks' observations, and its gradient: ``(value, gradient)``, equal on every rank.

    ``f``: a function of the model whose value is a mean over this rank's ``count`` observations: one number, or ``(number,
    {"name": number})``, all of which are averaged. ``count`` may be 0 on some ranks, not on all. ``model``: a layer, or
    parameters in dicts, lists and tuples; every rank has the same. ``group``: default, the one that ``init`` made.

    The sums of the gradients begin while the backward pass is under way. In one process, this is ``flux.withgradient``.
    Collective: all ranks call it. Raises ValueError where there are no observations at all.
    """
    group = current() if group is None else group
    if group.size == 1:
        if count == 0:
            raise ValueError("distributed.withgradient: there are no observations")
        return local_gradient(f, model)
    unit = group.unit or _unit(group.sum(np.array([count], np.float64), "the number of observations")[0])
    reduction = _Reduction(group, _buckets(model))
    beside: dict[str, Any] = {}

    def weighted(m: Any) -> Any:
        y = _silent(f, m) if count == 0 else f(m)
        value, companions = split_value(y, "distributed.withgradient: the function")
        beside.update(companions)
        loss = value * (count / unit)
        reduction.loss = loss if isinstance(loss, Tensor) else None
        return loss, value

    before, state.arriving = state.arriving, reduction
    try:
        (_, value), _ = local_gradient(weighted, model)  # the gradient has gone into the buckets
    finally:
        state.arriving = before
    numbers = [float(_item(v)) for v in (value, *beside.values())]
    summed, means = reduction.finish(count, numbers, unit)
    averaged = means[0] if not beside else (means[0], dict(zip(beside, means[1:], strict=True)))
    return averaged, mirror(model, lambda t: summed.get(id(t)))


def allreduce(grads: Any, count: float = 1, group: Group | None = None) -> Any:
    """``grads`` averaged over all ranks, each weighted by its ``count`` of observations: new arrays, equal on every rank.

    ``grads``: what ``gradient`` gave, an array, or any nesting of dicts, lists and tuples of arrays, of one structure on all
    ranks; None stays None. For loops that compute their gradients themselves; ``distributed.withgradient`` overlaps the sums
    with the backward pass. Collective.
    """
    group = current() if group is None else group
    arrays: list[Array] = []
    _mapped(grads, lambda a: arrays.append(a))
    total = np.array([count], np.float64)
    requests, sums = [group.start_sum(total)], []
    for a in arrays:
        wire = array_module(a).ascontiguousarray(a, wire_dtype(a.dtype))
        sums.append(wire * wire.dtype.type(count) if count else array_module(a).zeros_like(wire))
        requests.append(group.start_sum(sums[-1]))
    group.finish(requests, "the sum of the gradients")
    if not total[0]:
        raise ValueError("distributed.allreduce: the counts of all ranks are 0")
    for s in sums:
        s /= s.dtype.type(total[0])
    results = iter([s.astype(a.dtype, copy=False) for s, a in zip(sums, arrays, strict=True)])
    return _mapped(grads, lambda a: next(results))


def _mapped(x: Any, f: Callable[[Array], Any]) -> Any:
    """A nested value of arrays with ``f`` of each array."""
    if x is None:
        return None
    if isinstance(x, Tensor):
        x = x.data
    if is_array(x):
        return f(x)
    if hasattr(x, "_mapped"):  # Gradients
        return x._mapped(lambda v: _mapped(v, f))
    if isinstance(x, Mapping):
        return {k: _mapped(v, f) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return same_kind(x, [_mapped(v, f) for v in x])
    raise TypeError(f"distributed.allreduce: the gradients hold a {type(x).__name__}; they are arrays, None, or dicts, lists "
                    "and tuples of them")


def split_value(y: Any, function: str) -> tuple[Any, dict[Any, Any]]:
    """The loss, and the numbers beside it, of what a loss function returned; ``function`` names that one in an error."""
    if not isinstance(y, tuple):
        return y, {}
    if len(y) != 2 or not isinstance(y[1], Mapping):
        raise TypeError(f"{function} must return one number, or (number, dict of numbers), not a tuple of "
                        f"{', '.join(type(v).__name__ for v in y)}")
    return y[0], dict(y[1])


def _item(v: Any) -> Any:
    return to_device(v.data, "cpu").item() if isinstance(v, Tensor) else v.item() if hasattr(v, "item") else v


def _silent(f: Callable[[Any], Any], m: Any) -> Any:
    """The loss of no observations: it may be NaN, which nobody is to hear of, as it counts for nothing."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return f(m)
