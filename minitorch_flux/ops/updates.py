"""Optimiser steps on arrays: the one place of the library where arrays are written to on purpose.

    g = sign dx + decay x                   sign = -1 climbs; decay: L2 regularisation
    momentum_update   u = rho u + fresh g;  x -= rate (look g + ahead u)            (no u: x -= rate g)
    rmsprop_update    v = rho v + c g^2;  w = v - a^2,  a = rho a + (1 - rho) g  (no a: w = v)
                      d = g / (sqrt(w) + eps);  u = momentum u + d;  x -= rate u    (no u: x -= rate d)
    adam_update       m = b1 m + c1 g;  v = b2 v + c2 (g - belief m)^2 + floor;  w = v, or top = max(top, v)
                      x -= shrink x + (nu g + mu m) / (scale sqrt(w) + eps)
    adamax_update     m = b1 m + c1 g;  u = max(b2 u, |g| + eps);  x -= rate m / u
    adadelta_update   v = rho v + c g^2;  d = g sqrt(u + eps) / sqrt(v + eps);  u = rho u + c d^2;  x -= rate d
    lion_update       s = sign(b1 m + c1 g);  m = b2 m + c2 g;  x -= shrink x + rate s

Every optimiser is one of these with its own coefficients: see ``optimisers``. Each works on a ``Batch``, all parameters
that take the same step, so that a kernel (kernels/updates.cu) is launched once for all of them. The state arrays m, v,
a, u, top are flat and have the accumulator's dtype: float32 for 16-bit parameters, which are rounded only when written.
Kernel and reference differ by the rounding of fused multiply-adds: at most 4 ulp of the larger of x and the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import Array, accumulator, address_of, array_function, array_module, device_of, empty, to_device
from ..readings import KernelFile

BLOCK = 1 << 14
"""Elements that a reference works on at a time: they stay in the L2 cache, and small parameters share NumPy's overhead."""
CHUNK = 1 << 12
"""Elements of one row of a kernel."""
GATHER = 1 << 13
"""Gradients of fewer elements on average are copied together: below this the copy is cheaper than finding addresses."""


class Piece:
    """A part of a batch that a reference takes at once: several small parameters, or a block of a large one."""

    def __init__(self, batch: Batch, parameters: slice, lo: int, hi: int, place: int, block: slice | None) -> None:
        self.batch, self.parameters, self.block = batch, parameters, block
        self.lo, self.hi = lo, hi  # where it lies in the flat gradient
        self.place = place  # where it lies in the state arrays

    def _flat(self, arrays: Sequence[Array]) -> Array:
        xp, dtype = self.batch.xp, self.batch.accumulator
        if self.block is not None:
            return arrays[self.parameters.start].reshape(-1)[self.block].astype(dtype, copy=False)
        return xp.concatenate(arrays[self.parameters], axis=None).astype(dtype, copy=False)

    def read(self, *state: Array | None) -> tuple[Any, ...]:
        """``x``, ``dx`` and this piece of each state array, flat; x and dx are not for writing."""
        batch, end = self.batch, self.place + self.hi - self.lo
        if batch.dx is None:
            dx = self._flat(batch.grads)
        else:
            dx = batch.dx[self.lo : self.hi].astype(batch.accumulator, copy=False)
        return self._flat(batch.arrays), dx, *(None if s is None else s[self.place : end] for s in state)

    def step(self, step: Array) -> None:
        """Subtract ``step`` from the parameters, or hand it on as the gradient of the batch's next rule."""
        batch = self.batch
        if not batch.final:
            batch.dx[self.lo : self.hi] = step
        elif self.block is not None:
            self._subtract(batch.arrays[self.parameters.start].reshape(-1)[self.block], step)
        else:
            start = 0
            for x in batch.arrays[self.parameters]:
                self._subtract(x, step[start : start + x.size].reshape(x.shape))
                start += x.size

    def _subtract(self, x: Array, step: Array) -> None:
        self.batch.xp.subtract(x, step, out=x, casting="unsafe")  # 16-bit: the one rounding


class Batch:
    """Parameters that take a step together: of one dtype, on one device.

    ``arrays[k]`` is a parameter, ``names[k]`` what errors call it, ``places[k]`` the element of the flat state arrays where
    its state begins. ``load`` brings the gradients of one step: ``grads``, arrays like the parameters, or copies of all
    of them one after the other in ``dx``. ``final``: whether a step is subtracted from the parameters or becomes the
    ``dx`` of another rule.
    """

    def __init__(self, arrays: Sequence[Array], places: Sequence[int], names: Sequence[str] = ()) -> None:
        self.arrays, self.places, self.names = list(arrays), list(places), list(names)
        self.xp, self.dtype = array_module(arrays[0]), arrays[0].dtype
        self.accumulator = accumulator(self.dtype)
        ends = np.cumsum([a.size for a in arrays]).tolist()
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))
        """Where each parameter's gradient lies in ``dx``."""
        self.total: int = ends[-1]
        self.contiguous = all(map(_plain, arrays))
        self.gathers = self.total < GATHER * len(self.arrays)
        self.final = True
        self.dx: Array | None = None
        self.grads: Sequence[Array] = ()
        self.norm: float | None = None
        """Of all gradients of the step together, where a rule has asked for it."""
        self._workspace: Array | None = None
        self._pieces: list[Piece] | None = None
        self._tables: _Tables | None = None

    def load(self, grads: Sequence[Array], copy: bool = False) -> None:
        """Take the gradients of a step; ``copy`` them into ``dx`` where a rule is to write to them."""
        if copy or self.gathers or not all(map(_plain, grads)):
            if self._workspace is None:
                self._workspace = empty(self.total, self.dtype, like=self.arrays[0])
            self.dx = self.xp.concatenate(grads, axis=None, out=self._workspace)
        else:
            self.grads = grads

    def release(self) -> None:
        """Let go of the gradients."""
        self.dx, self.grads = None, ()

    @property
    def pieces(self) -> list[Piece]:
        """The whole batch in pieces of at most BLOCK elements (or one parameter that is not contiguous)."""
        if self._pieces is None:
            self._pieces = self._cut()
        return self._pieces

    def _cut(self) -> list[Piece]:
        pieces, k = [], 0
        while k < len(self.arrays):
            (lo, hi), place, first = self.spans[k], self.places[k], k
            k += 1
            if hi - lo > BLOCK and _plain(self.arrays[first]):
                for start in range(0, hi - lo, BLOCK):
                    end = min(start + BLOCK, hi - lo)
                    pieces.append(Piece(self, slice(first, k), lo + start, lo + end, place + start, slice(start, end)))
                continue
            while k < len(self.arrays) and self.spans[k][1] - lo <= BLOCK and self.places[k] - place == hi - lo:
                hi, k = self.spans[k][1], k + 1
            pieces.append(Piece(self, slice(first, k), lo, hi, place, None))
        return pieces

    def subtract(self) -> None:
        """x -= dx."""
        for piece in self.pieces:
            _, dx = piece.read()
            piece.step(dx)

    def launch(self, kernel: str, *arguments: Any) -> Any:
        """Run a kernel of updates.cu over all parameters; NotImplemented where it cannot."""
        if not (self.final and self.contiguous and self.total):
            return NotImplemented
        tables = self._tables
        if tables is None:
            tables = self._tables = _Tables(self)
        dx_at = tables.addresses(self.grads) if self.dx is None else tables.flat
        ran = updates(
            kernel,
            self.arrays[0],
            tables.rows,
            tables.width,
            None,
            tables.x,
            self.dx,
            dx_at,
            tables.at,
            tables.n,
            tables.rows,
            tables.width,
            *arguments,
        )
        return None if ran else NotImplemented


def _plain(a: Array) -> bool:
    """Whether a kernel can work on an array's memory."""
    return a.flags.c_contiguous and getattr(a.flags, "aligned", True) and a.dtype.isnative


class _Tables:
    """Where the chunks of a batch begin: what a kernel needs to work on many arrays in one launch."""

    def __init__(self, batch: Batch) -> None:
        self.device, size = device_of(batch.arrays[0]), batch.dtype.itemsize
        chunks = [
            (k, start, min(CHUNK, hi - lo - start))
            for k, (lo, hi) in enumerate(batch.spans)
            for start in range(0, hi - lo, CHUNK)
        ]
        self.parameter, start, n = np.array(chunks, np.int64).T
        self.offset = start * size
        self.rows, self.width = len(chunks), int(n.max())
        self.x = self.addresses(batch.arrays)
        self.flat = self._there(np.array([lo for lo, _ in batch.spans])[self.parameter] * size + self.offset)
        self.at = self._there(np.array(batch.places)[self.parameter] + start)
        self.n = self._there(n.astype(np.int32))

    def _there(self, table: np.ndarray) -> Array:
        return to_device(table, self.device)

    def addresses(self, arrays: Sequence[Array]) -> Array:
        """The address of each chunk of these arrays, on their device."""
        first = np.array([address_of(a) for a in arrays], np.int64)
        return self._there(first[self.parameter] + self.offset)


# -- the references ----------------------------------------------------------------------------------------------------


def _update(reference: Callable[..., None]) -> Any:
    """An array function whose reference is silent about overflow, as the kernels are, and whose kernel has its name."""
    function = array_function(np.errstate(all="ignore")(reference))
    name = function.name
    function.kernel(accepts="contiguous parameters of every float dtype, the step subtracted")(
        lambda batch, *arguments: batch.launch(name, *arguments)
    )
    return function


updates = KernelFile("updates.cu")


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
    shrink: float,
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
        piece.step(shrink * x + (nu * g + mu * m_) / (scale * batch.xp.sqrt(w) + eps))


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
    shrink: float,
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
        piece.step(shrink * x + rate * s)
