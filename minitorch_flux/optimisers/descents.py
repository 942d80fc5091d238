"""Descent, Momentum, Nesterov, Lion: steps along the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..ops.batches import Batch
from ..ops.updates import lion_update, momentum_update
from .rule import Rule


class Descent(Rule):
    """Descent(eta=1e-3, weight_decay=0, maximize=False)

    Gradient descent: ``x -= eta * g`` with ``g = dx + weight_decay * x`` (``-dx`` with ``maximize``).
    ``lr`` is accepted for ``eta``. Source: torch.optim.SGD, Flux's ``Descent``.
    """

    eta: float = 1e-3
    weight_decay: float = 0.0
    maximize: bool = False
    hints: ClassVar[dict[str, str]] = {
        "momentum": "; use Momentum(eta, rho)",
        "nesterov": "; use Nesterov(eta, rho)",
        "rho": "; use Momentum(eta, rho)",
    }

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        momentum_update(batch, None, -1.0 if self.maximize else 1.0, self.weight_decay, self.eta, 0.0, 0.0, 0.0, 0.0)


class Momentum(Rule):
    """Momentum(eta=1e-3, rho=0.9, dampening=0, weight_decay=0, maximize=False)

    Gradient descent with a heavy ball: ``u = rho * u + (1 - dampening) * g`` (``u = g`` at the first step and where rho
    is 0), ``x -= eta * u``, with ``g = dx + weight_decay * x`` (``-dx`` with ``maximize``). ``lr``, ``momentum`` are
    accepted for ``eta``, ``rho``. Source: torch.optim.SGD; Optimisers.jl's puts eta inside the velocity.
    """

    eta: float = 1e-3
    rho: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    maximize: bool = False
    aliases: ClassVar[dict[str, str]] = {"momentum": "rho"}
    hints: ClassVar[dict[str, str]] = {"nesterov": "; use Nesterov(eta, rho)"}

    def slots(self) -> dict[str, float | None]:
        """The velocity."""
        return {"u": 0.0}

    def numbers(self) -> dict[str, Any]:
        """The steps taken."""
        return {"t": 0}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        fresh = 1.0 - self.dampening if numbers["t"] and self.rho else 1.0
        numbers["t"] += 1
        sign = -1.0 if self.maximize else 1.0
        momentum_update(batch, slots[0], sign, self.weight_decay, self.eta, self.rho, fresh, 0.0, 1.0)


class Nesterov(Rule):
    """Nesterov(eta=1e-3, rho=0.9, weight_decay=0, maximize=False)

    Gradient descent with Nesterov's momentum: ``u = rho * u + g``, ``x -= eta * (g + rho * u)``, with
    ``g = dx + weight_decay * x`` (``-dx`` with ``maximize``). ``lr``, ``momentum`` are accepted for ``eta``, ``rho``.
    Source: torch.optim.SGD(nesterov=True); Flux's ``Nesterov``.
    """

    eta: float = 1e-3
    rho: float = 0.9
    weight_decay: float = 0.0
    maximize: bool = False
    aliases: ClassVar[dict[str, str]] = {"momentum": "rho"}

    def slots(self) -> dict[str, float | None]:
        """The velocity."""
        return {"u": 0.0}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        sign = -1.0 if self.maximize else 1.0
        momentum_update(batch, slots[0], sign, self.weight_decay, self.eta, self.rho, 1.0, 1.0, self.rho)


class Lion(Rule):
    """Lion(eta=1e-4, beta=(0.9, 0.99), weight_decay=0, maximize=False)

    The sign of a blend of momentum and gradient: ``s = sign(beta1 * m + (1 - beta1) * g)``,
    ``m = beta2 * m + (1 - beta2) * g``, ``x -= eta * (s + weight_decay * x)``; the decay is decoupled, as in AdamW.
    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2, and its code's defaults.
    (Optimisers.jl's Lion gives the new gradient the weight beta2 in m; the paper gives it 1 - beta2.)
    """

    eta: float = 1e-4
    beta: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    maximize: bool = False

    def slots(self) -> dict[str, float | None]:
        """The momentum."""
        return {"m": 0.0}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        (b1, b2), eta = self.beta, self.eta
        sign = -1.0 if self.maximize else 1.0
        lion_update(batch, slots[0], sign, 0.0, 1.0 - eta * self.weight_decay, eta, b1, 1.0 - b1, b2, 1.0 - b2)
