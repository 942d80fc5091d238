"""Optimiser steps on arrays: the one place of the library where arrays are written to on purpose.

    g = sign dx + decay x                   sign = -1 climbs; decay: L2 regularisation
    momentum_update   u = rho u + fresh g;  x -= rate (look g + ahead u)            (no u: x -= rate g)
    rmsprop_update    v = rho v + c g^2;  w = v - a^2,  a = rho a + (1 - rho) g  (no a: w = v)
                      d = g / (sqrt(w) + eps);  u = momentum u + d;  x -= rate u    (no u: x -= rate d)
    adam_update       m = b1 m + c1 g;  v = b2 v + c2 (g - belief m)^2 + floor;  w = v, or top = max(top, v)
                      x = keep x - (nu g + mu m) / (scale sqrt(w) + eps)
    adamax_update     m = b1 m + c1 g;  u = max(b2 u, |g| + eps);  x -= rate m / u
    adadelta_update   v = rho v + c g^2;  d = g sqrt(u + eps) / sqrt(v + eps);  u = rho u + c d^2;  x -= rate d
    lion_update       s = sign(b1 m + c1 g);  m = b2 m + c2 g;  x = keep x - rate s

Every optimiser is one of these with its own coefficients: see ``optimisers``. Each works on a ``Batch``, all parameters
that take the same step, so that a kernel (kernels/updates.cu) is launched once for all of them. The state arrays m, v,
a, u, top are flat and have the accumulator's dtype: float32 for 16-bit parameters, which are rounded only when written; with
``batch.master`` x is the float32 number behind the 16-bit parameter, and kept.
Kernel and reference differ by the rounding of fused multiply-adds: 30 ulp after three steps is the bound in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import Array, ArrayFunction, array_function
from ..readings import KernelFile
from .batches import Batch


def _update(reference: Callable[..., None]) -> ArrayFunction:
    """An array function whose reference is silent about overflow, as the kernels are."""
    return array_function(np.errstate(all="ignore")(reference))


@_update
def momentum_update(
    batch: Batch,
    u: Array | None,
    sign: float,
    decay: float,
    rate: float,
    rho: float,
    fresh: float,
    look: float,
    ahead: float,
) -> None:
    """Gradient descent; with ``u`` heavy-ball (look = 0, ahead = 1) or Nesterov's momentum (look = 1, ahead = rho)."""
    for piece in batch.pieces:
        x, dx, u_ = piece.read(u)
        g = sign * dx + decay * x
        if u_ is None:
            piece.step(rate * g)
        else:
            u_[...] = rho * u_ + fresh * g
            piece.step(rate * (look * g + ahead * u_))


@_update
def rmsprop_update(
    batch: Batch,
    v: Array,
    a: Array | None,
    u: Array | None,
    sign: float,
    decay: float,
    rate: float,
    rho: float,
    c_rho: float,
    c: float,
    eps: float,
    momentum: float,
) -> None:
    """RMSProp (c = c_rho = 1 - rho; with ``a`` centred, with ``u`` momentum) and AdaGrad (rho = c = 1)."""
    for piece in batch.pieces:
        x, dx, v_, a_, u_ = piece.read(v, a, u)
        g = sign * dx + decay * x
        v_[...] = rho * v_ + c * g * g
        w = v_
        if a_ is not None:
            a_[...] = rho * a_ + c_rho * g
            w = batch.xp.maximum(v_ - a_ * a_, 0)
        d = g / (batch.xp.sqrt(w) + eps)
        if u_ is not None:
            d += momentum * u_
            u_[...] = d
        piece.step(rate * d)


@_update
def adam_update(
    batch: Batch,
    m: Array,
    v: Array,
    top: Array | None,
    sign: float,
    decay: float,
    keep: float,
    b1: float,
    c1: float,
    b2: float,
    c2: float,
    belief: float,
    floor: float,
    scale: float,
    eps: float,
    nu: float,
    mu: float,
) -> None:
    """Adam and its kin; which coefficients make which is in ``optimisers/adaptive.py``."""
    for piece in batch.pieces:
        x, dx, m_, v_, top_ = piece.read(m, v, top)
        g = sign * dx + decay * x
        m_[...] = b1 * m_ + c1 * g
        r = g - belief * m_
        v_[...] = b2 * v_ + c2 * r * r + floor
        w = v_ if top_ is None else batch.xp.maximum(top_, v_, out=top_)
        piece.step((nu * g + mu * m_) / (scale * batch.xp.sqrt(w) + eps), keep)


@_update
def adamax_update(
    batch: Batch,
    m: Array,
    u: Array,
    sign: float,
    decay: float,
    rate: float,
    b1: float,
    c1: float,
    b2: float,
    eps: float,
) -> None:
    """AdaMax: Adam with the largest gradient, slowly forgotten, in the place of the root mean square."""
    for piece in batch.pieces:
        x, dx, m_, u_ = piece.read(m, u)
        g = sign * dx + decay * x
        m_[...] = b1 * m_ + c1 * g
        batch.xp.maximum(b2 * u_, abs(g) + eps, out=u_)
        piece.step(rate * m_ / u_)


@_update
def adadelta_update(
    batch: Batch, v: Array, u: Array, sign: float, decay: float, rate: float, rho: float, c: float, eps: float
) -> None:
    """AdaDelta: the ratio of the running means of past steps and past gradients."""
    for piece in batch.pieces:
        x, dx, v_, u_ = piece.read(v, u)
        g = sign * dx + decay * x
        v_[...] = rho * v_ + c * g * g
        d = g * batch.xp.sqrt(u_ + eps) / batch.xp.sqrt(v_ + eps)
        u_[...] = rho * u_ + c * d * d
        piece.step(rate * d)


@_update
def lion_update(
    batch: Batch,
    m: Array,
    sign: float,
    decay: float,
    keep: float,
    rate: float,
    b1: float,
    c1: float,
    b2: float,
    c2: float,
) -> None:
    """Lion: the sign of a blend of momentum and gradient."""
    for piece in batch.pieces:
        x, dx, m_ = piece.read(m)
        g = sign * dx + decay * x
        s = batch.xp.sign(b1 * m_ + c1 * g)
        m_[...] = b2 * m_ + c2 * g
        piece.step(rate * s, keep)


# -- the kernels -------------------------------------------------------------------------------------------------------

updates = KernelFile("updates.cu")
MASTER = {"MASTER": 1}


def _launcher(kernel: str) -> Callable[..., Any]:
    def launch(batch: Batch, *arguments: Any) -> Any:
        if not (batch.final and batch.contiguous and batch.total):
            return NotImplemented
        t, dx = batch.tables, batch.dx
        build: dict[str, Any] = {}
        if batch.narrow:
            if batch.master is not None:
                build["constants"] = MASTER
            if dx is not None and dx.dtype != batch.dtype:
                build["G"] = dx.dtype
        if dx is None:
            dx_at = t.addresses(batch.grads)
        elif "G" in build:
            dx, dx_at = None, t.within(dx)
        else:
            dx_at = t.flat
        # No x: its chunks are found by their addresses.
        table = (None, t.x, dx, dx_at, t.at, t.left, batch.master, t.rows, t.width)
        return None if updates(kernel, batch.arrays[0], t.rows, t.width, *table, *arguments, **build) else NotImplemented

    return launch


for _function, _kernel in (
    (momentum_update, "momentum_update"),
    (rmsprop_update, "rmsprop_update"),
    (adam_update, "adam_update"),
    (adamax_update, "adamax_update"),
    (adadelta_update, "adadelta_update"),
    (lion_update, "lion_update"),
):
    _function.kernel(accepts="contiguous parameters of every float dtype, at least one element; the last rule of a chain")(
        _launcher(_kernel)
    )
