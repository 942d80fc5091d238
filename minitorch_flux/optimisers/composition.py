"""OptimiserChain and the rules that go into one: WeightDecay, ClipGrad, ClipNorm, AccumGrad.

    OptimiserChain(AccumGrad(4), ClipNorm(1.0, total=True), AdamW(3e-4))

A rule of this file only changes the gradient that the next one gets; alone, or at the end of a chain, what it leaves is
subtracted from the parameters. Source: Optimisers.jl.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..backend import Array
from ..ops.batches import Batch
from .rule import Rule

_silent = np.errstate(all="ignore")  # numbers that are not finite pass through, as they do in kernels


class OptimiserChain(Rule):
    """OptimiserChain(*rules)

    Each rule turns the gradient that the one before left into its own step; the last one's is subtracted. Without rules
    the gradient itself is. ``adjust`` changes every member that has the setting.
    """

    def __init__(self, *rules: Rule) -> None:
        for rule in rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"OptimiserChain takes rules such as ClipGrad(1.0), Adam(1e-3); got {rule!r}")
        object.__setattr__(self, "members", rules)

    members: tuple[Rule, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The members, those of chains inside it in their place."""
        return tuple(rule for member in self.members for rule in member.rules)

    def knows(self, keyword: str) -> bool:
        """Whether a member takes this keyword."""
        return any(member.knows(keyword) for member in self.members)

    def replace(self, **changes: Any) -> Rule:
        """The same chain with other settings in every member that has them."""
        for key in changes:
            if not self.knows(key):
                raise TypeError(f"no member of {self!r} has a setting {key!r}")
        return OptimiserChain(
            *(member.replace(**{k: v for k, v in changes.items() if member.knows(k)}) for member in self.members)
        )

    def __repr__(self) -> str:
        return f"OptimiserChain({', '.join(map(repr, self.members))})"


class WeightDecay(Rule):
    """WeightDecay(lambda_=5e-4)

    ``dx + lambda_ * x``: L2 regularisation when it comes before the other rules. ``weight_decay`` is accepted too.
    """

    lambda_: float = 5e-4
    aliases: ClassVar[dict[str, str]] = {"weight_decay": "lambda_"}
    updates = False

    @_silent
    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Change dx."""
        for piece in batch.pieces:
            x, dx = piece.read()
            piece.step(dx + self.lambda_ * x)


class ClipGrad(Rule):
    """ClipGrad(delta=10.0)

    Every element of the gradient is brought into [-delta, delta]. ``clip_value`` is accepted for ``delta``.
    """

    delta: float = 10.0
    aliases: ClassVar[dict[str, str]] = {"clip_value": "delta"}
    updates = False

    @_silent
    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Change dx."""
        batch.xp.clip(batch.dx, -self.delta, self.delta, out=batch.dx)


class ClipNorm(Rule):
    """ClipNorm(omega=10.0, p=2, throw=True, total=False)

    Each parameter's gradient is scaled down to ``norm(dx, p) = omega`` where it is longer. With ``total`` the norm is
    that of all gradients together, which are scaled alike by ``min(1, omega / (norm + 1e-6))``, as
    ``torch.nn.utils.clip_grad_norm_`` does. ``p`` may be ``float("inf")``. ``max_norm``, ``norm_type`` are accepted for
    ``omega``, ``p``. ``throw``: a norm that is infinite or NaN raises FloatingPointError, before any parameter changes.
    """

    omega: float = 10.0
    p: float = 2.0
    throw: bool = True
    total: bool = False
    aliases: ClassVar[dict[str, str]] = {"max_norm": "omega", "norm_type": "p"}
    updates, meets = False, True

    def _sum(self, dx: Array, batch: Batch) -> Array:
        """The sum of |dx|^p, or the largest |dx| for p = inf."""
        if not dx.size:
            return batch.xp.zeros((), batch.accumulator)
        if self.p == math.inf:
            return abs(dx).max().astype(batch.accumulator)
        power = (
            batch.xp.square(dx, dtype=batch.accumulator) if self.p == 2 else abs(dx).astype(batch.accumulator) ** self.p
        )
        return power.sum()

    def _norm(self, total: Any) -> Any:
        return total if self.p == math.inf else total ** (1 / self.p)

    @_silent
    def meet(self, batches: Sequence[Batch]) -> None:
        """Find the norm of all gradients together."""
        if self.total:
            sums = [float(self._sum(b.dx, b)) for b in batches]
            norm = self._norm(max(sums) if self.p == math.inf else sum(sums))
            if self.throw and not math.isfinite(norm):
                raise FloatingPointError(
                    f"ClipNorm: the gradients together have {self._called()} {norm}; throw=False permits it"
                )
            for batch in batches:
                batch.norm = norm

    def _called(self) -> str:
        return f"the {self.p:g}-norm"

    @_silent
    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Change dx."""
        if self.total:
            batch.dx *= min(self.omega / (batch.norm + 1e-6), 1.0)  # in this order NaN stays NaN
            return
        for name, (lo, hi) in zip(batch.names, batch.spans, strict=True):
            dx = batch.dx[lo:hi]
            norm = self._norm(self._sum(dx, batch))
            if self.throw and not math.isfinite(norm):
                raise FloatingPointError(
                    f"ClipNorm: the gradient of {name} has {self._called()} {float(norm)}; throw=False permits it"
                )
            dx *= batch.xp.minimum(self.omega / norm, 1)


class AccumGrad(Rule):
    """AccumGrad(n)

    The rules after it get the mean of ``n`` gradients, once every ``n`` updates; at the others nothing changes.
    """

    n: int
    updates = False

    def slots(self) -> dict[str, float | None]:
        """The sum so far."""
        return {"sum": 0.0}

    def numbers(self) -> dict[str, Any]:
        """How many gradients it has."""
        return {"count": 0}

    @_silent
    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> bool:
        """Add dx; True with the mean in its place when it is complete."""
        count = numbers["count"] + 1
        numbers["count"] = count % self.n
        for piece in batch.pieces:
            _, dx, total = piece.read(slots[0])
            total[...] = dx if count == 1 else total + dx
            if count == self.n:
                piece.step(total / self.n)
        return count == self.n
