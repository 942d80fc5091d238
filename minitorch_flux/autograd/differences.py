"""Finite differences: what a gradient must agree with.

    (f(x + h d) - f(x - h d)) / 2h = <gradient, d> + O(h^2) + O(eps |f| / h)

A direction ``d`` is one element, or random signs and sizes for all. Steps are relative to the elements, so that signs
stay, and several sizes are tried: a long step crosses kinks (relu, max), a short one drowns in rounding. At a kink the
gradient must lie between the derivatives from the left and from the right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = (1e-5, 1e-6, 1e-4, 1e-7, 1e-3)
EPS = float(np.finfo(np.float64).eps)

Function = Callable[[np.ndarray], tuple[float, float]]
"""A number as a function of one array, and the sum of the absolute values that it was added up from."""


class Disagreement(Exception):
    """A gradient that differs from the differences, and where (None: along many elements together)."""

    def __init__(self, index: tuple[int, ...] | None, gradient: float, differences: float) -> None:
        super().__init__(index, gradient, differences)
        self.index, self.gradient, self.differences = index, gradient, differences


class Differences:
    """How to compare: each element of arrays up to ``few``, else ``directions`` random ones.

    ``worst`` is the largest error of the last comparison, relative to the gradient; ``kinks`` counts those met so far.
    """

    def __init__(self, tolerance: float, few: int, directions: int, rng: Any) -> None:
        self.tolerance, self.few, self.directions, self.rng = tolerance, few, directions, rng
        self.kinks, self.worst = 0, 0.0

    def compare(self, x: np.ndarray, gradient: np.ndarray, f: Function) -> str:
        """Hold ``gradient`` against differences of ``f`` at ``x``; says in words what was compared."""
        self.worst = 0.0
        size = _sizes(x)
        elements = list(np.ndindex(x.shape))
        if x.size > self.few:
            if self._directions(x, gradient, size, f):
                return f"{self.directions} directions"
            # a kink: a direction mixes many derivatives, so look at elements one by one
            elements = [elements[i] for i in self.rng.choice(x.size, self.few, replace=False)]
        for index in elements:
            step = np.zeros(x.shape)
            step[index] = size[index]
            _, kink, error, wanted = self._along(x, gradient, step, f)
            self.kinks += kink
            if error:
                raise Disagreement(index, float(gradient[index]), wanted / float(step[index]))
        return f"{len(elements)} of {x.size} elements" if len(elements) < x.size else f"{x.size} elements"

    def _directions(self, x: np.ndarray, gradient: np.ndarray, size: np.ndarray, f: Function) -> bool:
        """True when all random directions agree, False when one crosses a kink."""
        for _ in range(self.directions):
            step = size * self.rng.uniform(0.5, 1, x.shape) * self.rng.choice([-1.0, 1.0], x.shape)
            agrees, kink, error, wanted = self._along(x, gradient, step, f)
            if kink and not agrees:
                return False
            if error:
                raise self._located(x, gradient, step, f, wanted)
        return True

    def _along(
        self, x: np.ndarray, gradient: np.ndarray, step: np.ndarray, f: Function
    ) -> tuple[bool, bool, bool, float]:
        """Whether they agree smoothly, whether there is a kink, whether it is an error, and what differences give."""
        got = float((gradient * step).sum())
        scale = max(float(np.abs(gradient * step).sum()), float(np.abs(gradient).max() * np.abs(step).max()))
        best, found = np.inf, np.nan
        for h in STEPS:
            (up, a), (down, b) = f(x + h * step), f(x - h * step)
            wanted = (up - down) / (2 * h)
            noise = 100 * EPS * max(a, b) / h
            error = abs(wanted - got)
            if error / max(scale, noise, 1e-300) < best:
                best, found = error / max(scale, noise, 1e-300), wanted
            if error <= self.tolerance * scale + noise:
                self.worst = max(self.worst, error / scale if scale > noise else 0.0)
                return True, False, False, wanted
        kink, between = _kink(f, x, step, got)
        return False, kink, not between, found

    def _located(
        self, x: np.ndarray, gradient: np.ndarray, step: np.ndarray, f: Function, wanted: float
    ) -> Disagreement:
        """The element that is to blame: halve the direction, keep the half with the larger error."""
        chosen = np.arange(x.size)
        while len(chosen) > 1:
            halves = np.array_split(chosen, 2)
            chosen = max(halves, key=lambda part: self._error(x, gradient, _only(step, part), f)[0])
        error, along = self._error(x, gradient, _only(step, chosen), f)
        index = tuple(int(i) for i in np.unravel_index(chosen[0], x.shape))
        if error <= self.tolerance * abs(float(gradient[index] * step[index])):
            return Disagreement(None, float((gradient * step).sum()), wanted)  # spread over many elements
        return Disagreement(index, float(gradient[index]), along / step[index])

    def _error(self, x: np.ndarray, gradient: np.ndarray, step: np.ndarray, f: Function) -> tuple[float, float]:
        h = STEPS[0]
        wanted = (f(x + h * step)[0] - f(x - h * step)[0]) / (2 * h)
        return abs(wanted - float((gradient * step).sum())), wanted


def _kink(f: Function, x: np.ndarray, step: np.ndarray, got: float) -> tuple[bool, bool]:
    """Whether ``f`` has a kink or a jump exactly at ``x``, and whether ``got`` can be its derivative there."""
    middle, total = f(x)
    (up, down), (up2, down2) = ((f(x + h * step)[0] - middle, f(x - h * step)[0] - middle) for h in (1e-5, 1e-6))
    noise = 100 * EPS * total
    if not np.isfinite([up, down, up2, down2]).all():
        return False, False
    for far, near in ((up, up2), (down, down2)):
        if abs(near) > max(10 * noise, 0.5 * abs(far)):  # does not shrink with the step: a jump has no derivative
            return True, True
    right, left = up2 / 1e-6, -down2 / 1e-6
    bend, noise = abs(right - left), noise / 1e-6
    # curvature would be a tenth at a tenth of the step
    if bend > 10 * noise and abs(up + down) / 1e-5 < 2 * bend:
        slack = 1e-3 * bend + noise
        return True, min(left, right) - slack <= got <= max(left, right) + slack
    return False, False


def _only(step: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    part = np.zeros(step.size)
    part[chosen] = step.reshape(-1)[chosen]
    return part.reshape(step.shape)


def _sizes(x: np.ndarray) -> np.ndarray:
    """What counts as a small change of each element: its own size, but not more than how far the elements are apart."""
    if x.size == 0:
        return np.ones(x.shape)
    spread = float(x.std()) or float(np.abs(x).mean()) or 1.0
    return np.clip(np.abs(x), 0.01 * spread, spread)
