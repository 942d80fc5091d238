"""Connectionist temporal classification: the probability of a label sequence under any alignment (kernels: kernels/ctc.cu).

The labels of a sequence, with a blank before, between and after them, are its U states; a path begins in state 0 or 1,
stays, goes one on, or skips a blank between two different labels, and ends in state U - 1 or U - 2. With the
log-probabilities lp = logsoftmax(x) and e(t, u) = lp[t, label(u)],

    a(t, u) = e + log(exp a(t-1, u) + exp a(t-1, u-1) + [skip u] exp a(t-1, u-2))
    b(t, u) = e + log(exp b(t+1, u) + exp b(t+1, u+1) + [skip u+2] exp b(t+1, u+2))
    loss    = -log(exp a(T-1, U-1) + exp a(T-1, U-2))
    dx      = dy (exp(lp) - sum over the states of a class of exp(a + b - e + loss))

x (T, N, C), labels (N, U) of the states, lengths (N,) of the sequences and ends (N,), their numbers of states. A sequence
too short for its labels has the loss infinity, and the gradient ``miss``.

Source: Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification", ICML 2006.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, empty
from ..readings import KernelFile
from .comparisons import where
from .elementary import exp
from .indexing import take_along_axis
from .joining import cat, stack
from .products import matmul
from .softmaxes import logsoftmax, logsoftmax_forward, logsumexp, logsumexp_forward

# -- what arrays and tensors share -------------------------------------------------------------------------------------


class _Arrays:
    """The functions of the recursions, for arrays; ``_Tensors`` has the same for tensors."""

    def __init__(self, like: Any) -> None:
        self.xp = array_module(like)

    def cat(self, xs: Any) -> Any:
        """Side by side along the states."""
        return self.xp.concatenate(xs, axis=1)

    def log_sum(self, xs: Any) -> Any:
        """log(exp x + exp y + ...)."""
        return logsumexp_forward(self.xp.stack(xs), 0)

    def where(self, mask: Any, x: Any, y: Any) -> Any:
        """x or y."""
        return self.xp.where(mask, x, y)


class _Tensors(_Arrays):
    def cat(self, xs: Any) -> Any:
        return cat(xs, axis=1)

    def log_sum(self, xs: Any) -> Any:
        return logsumexp(stack(xs), 0)

    def where(self, mask: Any, x: Any, y: Any) -> Any:
        return where(mask, x, y)


def _skips(labels: Any) -> Any:
    """Which states can be entered from two before: labels that differ from the last one; (N, U)."""
    xp = array_module(labels)
    odd = xp.arange(labels.shape[1]) % 2 == 1
    return xp.concatenate([xp.zeros_like(labels[:, :2], bool), (labels[:, 2:] != labels[:, :-2]) & odd[2:]], axis=1)


def _forward_sums(e: Any, labels: Any, f: Any) -> list[Any]:
    """a(t, .) for every step, each (N, U), of emissions ``e`` (T, N, U)."""
    xp, skips, dtype = f.xp, _skips(labels), e.dtype
    none = xp.full((labels.shape[0], 2), -math.inf, dtype)
    first = xp.where(xp.arange(labels.shape[1]) < 2, dtype.type(0), dtype.type(-math.inf))
    sums = []
    for t in range(e.shape[0]):
        if t == 0:
            a = e[0] + first
        else:
            two = f.cat([none, a])
            a = e[t] + f.log_sum([a, two[:, 1:-1], f.where(skips, two[:, :-2], none[:, :1])])
        sums.append(a)
    return sums


def _final(labels: Any, ends: Any, dtype: Any) -> Any:
    """0 for the states that a path may end in, minus infinity elsewhere: (N, U)."""
    xp = array_module(labels)
    u, end = xp.arange(labels.shape[1]), ends[:, None]
    return xp.where((u == end - 1) | (u == end - 2), dtype.type(0), dtype.type(-math.inf))


def _backward_sums(e: Any, labels: Any, lengths: Any, ends: Any, f: Any) -> list[Any]:
    """b(t, .) for every step; where t is beyond a sequence's end, minus infinity."""
    xp, dtype = f.xp, e.dtype
    enters = xp.concatenate([_skips(labels)[:, 2:], xp.zeros_like(labels[:, :2], bool)], axis=1)[:, : labels.shape[1]]
    none = xp.full((labels.shape[0], 2), -math.inf, dtype)
    final = _final(labels, ends, dtype)
    b = xp.full(labels.shape, -math.inf, dtype)
    sums = []
    for t in reversed(range(e.shape[0])):
        two = f.cat([b, none])
        on = f.log_sum([b, two[:, 1:-1], f.where(enters, two[:, 2:], none[:, :1])])
        b = e[t] + f.where((lengths == t + 1)[:, None], final, on)
        sums.append(b)
    return sums[::-1]


def _emissions(labels: Any, steps: int) -> Any:
    """The class of each state at each step, (T, N, U)."""
    return array_module(labels).broadcast_to(labels, (steps, *labels.shape))


def _classes(labels: Any, classes: int, dtype: Any) -> Any:
    """1 where a state has a class: (N, U, C)."""
    return (labels[:, :, None] == array_module(labels).arange(classes)).astype(dtype)


# -- references --------------------------------------------------------------------------------------------------------


@array_function
def ctc_forward(lp: Any, labels: Any, lengths: Any, ends: Any) -> tuple[Any, Any]:
    """``(loss, alpha)``: loss (N,), and a (N, T, U + 2), two columns of minus infinity first."""
    xp, (steps, n, _), states = array_module(lp), lp.shape, labels.shape[1]
    alpha = xp.full((n, steps, states + 2), -math.inf, lp.dtype)
    if steps:
        e = xp.take_along_axis(lp, _emissions(labels, steps), axis=2)
        alpha[:, :, 2:] = xp.stack(_forward_sums(e, labels, _Arrays(lp)), axis=1)
    last = alpha[xp.arange(n), lengths - 1, 2:] if steps else alpha[:, :0].sum(1)[:, 2:]
    loss = -logsumexp_forward(last + _final(labels, ends, lp.dtype), 1)
    nothing = xp.where(ends == 1, lp.dtype.type(0), lp.dtype.type(math.inf))
    return xp.where(lengths == 0, nothing, loss), alpha


@array_function
def ctc_backward(
    dy: Any, lp: Any, labels: Any, lengths: Any, ends: Any, alpha: Any, loss: Any, miss: float
) -> Any:
    """The gradient (T, N, C) with respect to the logits; ``miss`` for sequences whose loss is infinite."""
    xp, (steps, _, classes) = array_module(lp), lp.shape
    if not lp.size:
        return xp.zeros(lp.shape, lp.dtype)
    e = xp.take_along_axis(lp, _emissions(labels, steps), axis=2)
    b = xp.stack(_backward_sums(e, labels, lengths, ends, _Arrays(lp)))
    a = alpha[:, :, 2:].swapaxes(0, 1)
    lost = xp.logical_not(loss < math.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        p = xp.where(a == -math.inf, 0, xp.exp(a + b - e + loss[:, None]))
        dx = xp.exp(lp) - xp.matmul(p.swapaxes(0, 1), _classes(labels, classes, lp.dtype)).swapaxes(0, 1)
        dx = xp.where(lost[:, None], lp.dtype.type(miss), dx * dy[:, None])
    inside = xp.arange(steps)[:, None] < lengths
    return xp.where(inside[:, :, None], dx, lp.dtype.type(0))


# -- the operation -----------------------------------------------------------------------------------------------------


def _forward(x: Any, labels: Any, lengths: Any, ends: Any, miss: float) -> tuple[Any, Any, Any]:
    lp = logsoftmax_forward(array_module(x).ascontiguousarray(x, accumulator(x.dtype)), 2)
    loss, alpha = ctc_forward(lp, labels, lengths, ends)
    return loss.astype(x.dtype, copy=False), lp, alpha


def _backward(dy: Any, out: Any, lp: Any, alpha: Any, x_dtype: Any, labels: Any, lengths: Any, ends: Any, miss: float) -> Any:
    dx = ctc_backward(dy.astype(lp.dtype, copy=False), lp, labels, lengths, ends, alpha, out.astype(lp.dtype, copy=False), miss)
    return dx.astype(x_dtype, copy=False)


def _rule(dy: Tensor, x: Tensor, labels: Any, lengths: Any, ends: Any, miss: float) -> Tensor:
    """The formula of the head of this file in differentiable operations, one step of the recursions at a time."""
    xp, (steps, n, classes) = array_module(x.data), x.shape
    if not x.size:
        return x * 0.0
    lp, f = logsoftmax(x, 2), _Tensors(x.data)
    e = take_along_axis(lp, _emissions(labels, steps), 2)
    a, b = stack(_forward_sums(e, labels, f)), stack(_backward_sums(e, labels, lengths, ends, f))
    last = a[xp.maximum(lengths - 1, 0), xp.arange(n)] + _final(labels, ends, x.dtype)
    feasible = (last.data > -math.inf).any(axis=1) & (lengths > 0)
    inside = (xp.arange(steps)[:, None] < lengths) & feasible
    zero = xp.zeros((), x.dtype)
    loss = -logsumexp(where(feasible[:, None], last, zero), 1)
    exponent = a + b - e + loss.reshape(n, 1)
    p = where(inside[:, :, None] & (exponent.data > -math.inf), exponent, zero - math.inf)
    dx = exp(lp) - matmul(exp(p).swapaxes(0, 1), _classes(labels, classes, x.dtype)).swapaxes(0, 1)
    dx = where(inside[:, :, None], dx * dy.reshape(n, 1), zero)
    lost = (xp.arange(steps)[:, None] < lengths) & xp.logical_not(feasible)
    return where(lost[:, :, None], zero + x.dtype.type(miss), dx)


ctc = operation("ctc", _forward, backward=_backward, rule=_rule, residuals=("lp", "alpha"))
"""The loss (N,) of logits (T, N, C); ``losses.ctc_loss`` is the public function."""


# -- kernels -----------------------------------------------------------------------------------------------------------

kernels = KernelFile("ctc.cu")


def _jumps(labels: Any, dtype: Any) -> Any:
    """0 for the states that can be entered from two before, minus infinity for the others and two beyond: (N, U + 2)."""
    xp = array_module(labels)
    jumps = xp.full((labels.shape[0], labels.shape[1] + 2), -math.inf, dtype)
    jumps[:, :-2][_skips(labels)] = 0
    return jumps


def _fits(lp: Any) -> bool:
    return lp.size > 0 and lp.dtype.kind == "f" and lp.dtype.itemsize > 2 and lp.flags.c_contiguous


@ctc_forward.kernel(accepts="contiguous log-probabilities of float32 or float64, at least one")
def _(lp: Any, labels: Any, lengths: Any, ends: Any) -> Any:
    if not _fits(lp):
        return NotImplemented
    (steps, n, classes), states = lp.shape, labels.shape[1]
    alpha, loss = empty((n, steps, states + 2), lp.dtype, like=lp), empty((n,), lp.dtype, like=lp)
    sizes = (n, steps, classes, states)
    ran = kernels("ctc_forward", lp, n, states, lp, labels, _jumps(labels, lp.dtype), lengths, ends, alpha, loss, *sizes)
    return (loss, alpha) if ran else NotImplemented


@ctc_backward.kernel(accepts="contiguous log-probabilities of float32 or float64, at least one")
def _(dy: Any, lp: Any, labels: Any, lengths: Any, ends: Any, alpha: Any, loss: Any, miss: float) -> Any:
    if not _fits(lp):
        return NotImplemented
    xp, (steps, n, classes), states = array_module(lp), lp.shape, labels.shape[1]
    dx, work = empty(lp.shape, lp.dtype, like=lp), empty((n, 3, states + 2), lp.dtype, like=lp)
    loss, jumps = xp.ascontiguousarray(loss), _jumps(labels, lp.dtype)
    arrays = (xp.ascontiguousarray(dy), lp, labels, jumps, lengths, ends, alpha, loss, miss, work, dx)
    ran = kernels("ctc_backward", lp, n, max(states, classes), *arrays, n, steps, classes, states)
    return dx if ran else NotImplemented
