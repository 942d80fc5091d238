"""RMSProp, Adam and their kin: every element has its own step size.

In all of them ``g = dx + weight_decay * x`` (``-dx`` with ``maximize``), ``t`` counts a parameter's steps from 1, and
``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g^2`` where they occur. ``lr``, ``betas`` are
accepted for ``eta``, ``beta``. With ``decoupled`` weight decay ``g = dx`` and ``x -= eta * weight_decay * x`` instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ..ops.batches import Batch
from ..ops.updates import adadelta_update, adam_update, adamax_update, rmsprop_update
from .rule import Rule


class RMSProp(Rule):
    """RMSProp(eta=1e-2, rho=0.99, eps=1e-8, weight_decay=0, momentum=0, centred=False, maximize=False)

    ``v = rho * v + (1 - rho) * g^2``, ``d = g / (sqrt(v) + eps)``, ``x -= eta * d``. ``centred`` takes the variance
    ``v - a^2`` (not below 0) in the place of v, with ``a = rho * a + (1 - rho) * g``; with ``momentum``
    ``u = momentum * u + d``, ``x -= eta * u``. ``lr``, ``alpha``, ``centered`` are accepted too.
    Source: torch.optim.RMSprop; Tieleman and Hinton, 2012; centred: Graves, 2013.
    """

    eta: float = 1e-2
    rho: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centred: bool = False
    maximize: bool = False
    aliases: ClassVar[dict[str, str]] = {"alpha": "rho", "centered": "centred"}

    def slots(self) -> dict[str, float | None]:
        """The mean square, the mean if centred, the velocity if there is momentum."""
        return {"v": 0.0, "a": 0.0 if self.centred else None, "u": 0.0 if self.momentum else None}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        sign, c = -1.0 if self.maximize else 1.0, 1.0 - self.rho
        rmsprop_update(batch, *slots, sign, self.weight_decay, self.eta, self.rho, c, c, self.eps, self.momentum)


class AdaGrad(Rule):
    """AdaGrad(eta=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, maximize=False)

    ``v = v + g^2``, ``x -= eta / (1 + (t - 1) * lr_decay) * g / (sqrt(v) + eps)``.
    Source: torch.optim.Adagrad; Duchi, Hazan and Singer, JMLR 2011.
    """

    eta: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    maximize: bool = False

    def slots(self) -> dict[str, float | None]:
        """The sum of squares."""
        return {"v": self.initial_accumulator_value}

    def numbers(self) -> dict[str, Any]:
        """The steps taken."""
        return {"t": 0}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        rate = self.eta / (1.0 + numbers["t"] * self.lr_decay)
        numbers["t"] += 1
        sign = -1.0 if self.maximize else 1.0
        rmsprop_update(batch, slots[0], None, None, sign, self.weight_decay, rate, 1.0, 0.0, 1.0, self.eps, 0.0)


class AdaDelta(Rule):
    """AdaDelta(eta=1.0, rho=0.9, eps=1e-6, weight_decay=0, maximize=False)

    ``v = rho * v + (1 - rho) * g^2``, ``d = g * sqrt(u + eps) / sqrt(v + eps)``, ``u = rho * u + (1 - rho) * d^2``,
    ``x -= eta * d``. Source: torch.optim.Adadelta; Zeiler, 2012.
    """

    eta: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0
    maximize: bool = False

    def slots(self) -> dict[str, float | None]:
        """The mean squares of gradients and of steps."""
        return {"v": 0.0, "u": 0.0}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        sign = -1.0 if self.maximize else 1.0
        adadelta_update(batch, *slots, sign, self.weight_decay, self.eta, self.rho, 1.0 - self.rho, self.eps)


class AdaMax(Rule):
    """AdaMax(eta=2e-3, beta=(0.9, 0.999), eps=1e-8, weight_decay=0, maximize=False)

    ``u = max(beta2 * u, |g| + eps)``, ``x -= eta / (1 - beta1^t) * m / u``.
    Source: torch.optim.Adamax; Kingma and Ba, ICLR 2015, section 7.
    """

    eta: float = 2e-3
    beta: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False

    def slots(self) -> dict[str, float | None]:
        """The mean and the largest gradient."""
        return {"m": 0.0, "u": 0.0}

    def numbers(self) -> dict[str, Any]:
        """The steps taken."""
        return {"t": 0}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        t = numbers["t"] = numbers["t"] + 1
        b1, b2 = self.beta
        sign, rate = -1.0 if self.maximize else 1.0, self.eta / (1.0 - b1**t)
        adamax_update(batch, *slots, sign, self.weight_decay, rate, b1, 1.0 - b1, b2, self.eps)


class _AdamFamily(Rule):
    """What Adam and its kin share; each lists its own settings."""

    eta: float
    beta: tuple[float, float]
    eps: float
    weight_decay: float
    amsgrad = False
    maximize = False
    decoupled = False
    aliases: ClassVar[dict[str, str]] = {"decoupled_weight_decay": "decoupled"}

    def slots(self) -> dict[str, float | None]:
        """The means of gradient and square, and the largest of the latter with amsgrad."""
        return {"m": 0.0, "v": 0.0, "top": 0.0 if self.amsgrad else None}

    def numbers(self) -> dict[str, Any]:
        """The steps taken."""
        return {"t": 0}

    def _step(
        self,
        batch: Batch,
        slots: Sequence[Any],
        scale: float,
        eps: float,
        nu: float,
        mu: float,
        belief: float = 0.0,
        floor: float = 0.0,
    ) -> None:
        (b1, b2), decay, keep = self.beta, self.weight_decay, 1.0
        if self.decoupled:
            decay, keep = 0.0, 1.0 - self.eta * decay
        sign = -1.0 if self.maximize else 1.0
        adam_update(batch, *slots, sign, decay, keep, b1, 1.0 - b1, b2, 1.0 - b2, belief, floor, scale, eps, nu, mu)


class Adam(_AdamFamily):
    """Adam(eta=1e-3, beta=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, maximize=False, decoupled=False)

    ``x -= eta * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)``; ``amsgrad`` takes the largest v so far.
    Source: torch.optim.Adam; Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    eta: float = 1e-3
    beta: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    maximize: bool = False
    decoupled: bool = False

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        t = numbers["t"] = numbers["t"] + 1
        b1, b2 = self.beta
        self._step(batch, slots, 1.0 / math.sqrt(1.0 - b2**t), self.eps, 0.0, self.eta / (1.0 - b1**t))


class AdamW(Adam):
    """AdamW(eta=1e-3, beta=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, maximize=False)

    Adam whose weight decay is decoupled from the gradient: ``x -= eta * weight_decay * x`` beside Adam's step.
    Source: torch.optim.AdamW; Loshchilov and Hutter, ICLR 2019.
    """

    eta: float = 1e-3
    beta: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    amsgrad: bool = False
    maximize: bool = False
    decoupled = True


class AMSGrad(Adam):
    """AMSGrad(eta=1e-3, beta=(0.9, 0.999), eps=1e-8, weight_decay=0, maximize=False, decoupled=False)

    Adam with the largest v so far in the place of v. Source: torch.optim.Adam(amsgrad=True); Reddi, Kale and Kumar,
    ICLR 2018. (Optimisers.jl's leaves the corrections by 1 - beta^t out.)
    """

    eta: float = 1e-3
    beta: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False
    decoupled: bool = False
    amsgrad = True


class NAdam(_AdamFamily):
    """NAdam(eta=2e-3, beta=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, maximize, decoupled=False)

    Adam with Nesterov's momentum. With ``k_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)`` and ``K = k_1 ... k_t``:
    ``x -= eta * ((1 - k_t) / (1 - K) * g + k_(t+1) / (1 - K k_(t+1)) * m) / (sqrt(v / (1 - beta2^t)) + eps)``.
    Source: torch.optim.NAdam; Dozat, 2016.
    """

    eta: float = 2e-3
    beta: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    maximize: bool = False
    decoupled: bool = False

    def numbers(self) -> dict[str, Any]:
        """The steps taken and the product of the k_t."""
        return {"t": 0, "product": 1.0}

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        t = numbers["t"] = numbers["t"] + 1
        b1, b2 = self.beta
        k, following = (b1 * (1.0 - 0.5 * 0.96 ** (i * self.momentum_decay)) for i in (t, t + 1))
        product = numbers["product"] = numbers["product"] * k
        nu, mu = self.eta * (1.0 - k) / (1.0 - product), self.eta * following / (1.0 - product * following)
        self._step(batch, slots, 1.0 / math.sqrt(1.0 - b2**t), self.eps, nu, mu)


class RAdam(_AdamFamily):
    """RAdam(eta=1e-3, beta=(0.9, 0.999), eps=1e-8, weight_decay=0, maximize=False, decoupled=False)

    Adam that trusts v only once its variance is small. With ``R = 2 / (1 - beta2) - 1`` and
    ``r_t = R - 2 t beta2^t / (1 - beta2^t)``: where ``r_t > 5``
    ``x -= eta * c * m / (1 - beta1^t) * sqrt(1 - beta2^t) / (sqrt(v) + eps)`` with
    ``c = sqrt((r_t - 4) (r_t - 2) R / ((R - 4) (R - 2) r_t))``, else ``x -= eta * m / (1 - beta1^t)``.
    Source: torch.optim.RAdam; Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.
    """

    eta: float = 1e-3
    beta: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False
    decoupled: bool = False

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        t = numbers["t"] = numbers["t"] + 1
        b1, b2 = self.beta
        rest, longest = 1.0 - b2**t, 2.0 / (1.0 - b2) - 1.0
        length = longest - 2.0 * t * b2**t / rest
        scale, eps, mu = 0.0, 1.0, self.eta / (1.0 - b1**t)  # a step along m
        if length > 5.0:
            scale = 1.0 / math.sqrt(rest)
            eps = self.eps * scale
            mu *= math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        self._step(batch, slots, scale, eps, 0.0, mu)


class AdaBelief(_AdamFamily):
    """AdaBelief(eta=1e-3, beta=(0.9, 0.999), eps=1e-16, weight_decay=0, maximize=False, decoupled=False)

    Adam with the deviation of the gradient from its mean: ``v = beta2 * v + (1 - beta2) * (g - m)^2 + eps``,
    ``x -= eta * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)``.
    Source: Optimisers.jl's ``AdaBelief``; Zhuang et al., NeurIPS 2020.
    """

    eta: float = 1e-3
    beta: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-16
    weight_decay: float = 0.0
    maximize: bool = False
    decoupled: bool = False

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Take one step."""
        t = numbers["t"] = numbers["t"] + 1
        b1, b2 = self.beta
        scale, mu = 1.0 / math.sqrt(1.0 - b2**t), self.eta / (1.0 - b1**t)
        self._step(batch, slots, scale, self.eps, 0.0, mu, 1.0, self.eps)
