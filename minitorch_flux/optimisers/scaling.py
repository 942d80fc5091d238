"""LossScale: gradients that are multiplied on their way through 16 bits, so that small ones are not lost there.

float16 ends at 6e-8, and many gradients are smaller. The loss is multiplied by a number, the scale, and so are all gradients
on the way back; LossScale, the first rule of a chain, divides them again, in float32. Where the scale was too large, gradients
are infinite or NaN: then the whole step is skipped, and the scale lowered. bfloat16 has the range of float32 and needs none.

    opt = setup(OptimiserChain(LossScale(), ClipNorm(1.0, total=True), Adam(1e-3)), model)
    loss, grads = withgradient(lambda m: loss_of(m) * opt.loss_scale, model)
    update(opt, model, grads)

``train`` does the multiplication itself. Source: Micikevicius et al., "Mixed precision training", ICLR 2018;
torch.amp.GradScaler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..backend import device_of
from ..ops.batches import Batch
from .banks import Leaf
from .composition import AccumGrad
from .rule import HIGHEST, LOWEST, Rule


class LossScale(Rule):
    """LossScale(initial=65536.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000)

    The first rule of a chain, or the one after AccumGrad: divides the gradients by the scale that the loss was multiplied by.
    If one of all gradients of the step is infinite or NaN the whole step is skipped: no parameter, no state and no clock
    changes, and the scale is multiplied by ``backoff_factor``. After ``growth_interval`` good steps in a row it is multiplied
    by ``growth_factor``. The scale stays within 1 and 2^32; gradients that are not finite at 1 raise FloatingPointError.

    There is one scale for all parameters, saved with the optimiser's state: ``opt.loss_scale`` is the scale now,
    ``opt.skipped`` counts the skipped steps. ``adjust(opt, initial=1024.0)`` begins anew with that scale. ``init_scale`` is
    accepted for ``initial``.
    """

    initial: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    aliases: ClassVar[dict[str, str]] = {"init_scale": "initial"}
    hints: ClassVar[dict[str, str]] = {"enabled": "; leave LossScale out of the chain"}
    updates, meets = False, True

    @np.errstate(all="ignore")
    def meet(self, batches: Sequence[Batch]) -> bool:
        """Divide all gradients; False where one is not finite, which ends the step."""
        scaling = batches[0].scaling
        finite: dict[str, list[Any]] = {}
        for batch in batches:
            dx = batch.xp.divide(batch.dx, scaling.scale, out=batch.dx)
            finite.setdefault(device_of(dx), []).append((batch.xp, batch.xp.isfinite(dx).all()))
        # Every device is waited for once.
        good = [bool(flags[0][0].stack([flag for _, flag in flags]).all()) for flags in finite.values()]
        return scaling.decide(self, all(good))

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> None:
        """Nothing: ``meet`` has done it."""


class Scaling:
    """The one scale of an optimiser state. ``numbers``: the scale, the good steps in a row, the steps skipped in all."""

    def __init__(self, place: int, leaves: Sequence[Leaf]) -> None:
        self.place, self.leaves = place, leaves  # LossScale is the rule of this number
        self.numbers: dict[str, Any] = {"scale": self.rule.initial, "good": 0, "skipped": 0}

    @property
    def rule(self) -> LossScale:
        """The rule."""
        return scale_rule(self.leaves[0].rule, self.place)

    @property
    def scale(self) -> float:
        """What the loss is multiplied by."""
        return self.numbers["scale"]

    def begin(self) -> None:
        """Start from the rule's first scale."""
        self._set(self.rule.initial)
        self.numbers["good"] = 0

    def decide(self, rule: LossScale, finite: bool) -> bool:
        """Count a step; ``finite`` says whether its gradients are, and so whether it is taken."""
        n = self.numbers
        if finite:
            n["good"] += 1
            if n["good"] >= rule.growth_interval:
                n["good"] = 0
                self._set(n["scale"] * rule.growth_factor)
            return True
        if n["scale"] <= LOWEST:
            raise FloatingPointError(
                f"LossScale: gradients are infinite or NaN even at the lowest scale, {LOWEST:g} ({n['skipped']} steps were "
                "skipped so far): the loss or the weights have diverged, or a gradient is beyond the range of float16; look "
                "for NaN in the data, lower the learning rate, divide the loss by a constant, or train in bfloat16"
            )
        n["good"] = 0
        n["skipped"] += 1
        self._set(n["scale"] * rule.backoff_factor)
        return False

    def _set(self, scale: float) -> None:
        scale = min(max(scale, LOWEST), HIGHEST)
        if self.place and scale != self.scale:  # sums of gradients that are not complete go on in the new scale
            for bank in {id(leaf.bank): leaf.bank for leaf in self.leaves}.values():
                for slots in bank.slots[: self.place]:
                    for a in slots.values():
                        if a is not None:
                            a *= scale / self.scale
        self.numbers["scale"] = scale


def scale_rule(rule: Rule, place: int) -> LossScale:
    """The LossScale in a rule that has one at this place."""
    found = rule.rules[place]
    assert isinstance(found, LossScale)
    return found


def scaling_for(rule: Rule, leaves: Sequence[Leaf]) -> Scaling | None:
    """The state of the rule's LossScale, if it has one; raises ValueError where that is in the wrong place."""
    places = [i for i, member in enumerate(rule.rules) if isinstance(member, LossScale)]
    if not places:
        return None
    if len(places) > 1:
        raise ValueError(f"setup: a chain takes one LossScale, {rule!r} has {len(places)}")
    if not all(isinstance(member, AccumGrad) for member in rule.rules[: places[0]]):
        raise ValueError(
            f"setup: LossScale comes first in a chain, or directly after AccumGrad, as the rules before it would get gradients "
            f"that are still multiplied; got {rule!r}"
        )
    return Scaling(places[0], leaves)
