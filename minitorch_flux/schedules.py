"""Schedules of the learning rate: functions of the number of steps (or epochs) taken so far, counted from 0.

    s = Warmup(CosAnneal(1e-3, period=90), steps=10)
    adjust(opt, s(t))                                           # by hand
    train(..., callbacks=[Schedule(s, every="epoch")])          # or by a callback

A schedule is a pure function, the same t gives the same number, and prints as Python that rebuilds it; any function of t
serves as one. ``Plateau`` alone looks at a metric and has a state. Names: ParameterSchedulers.jl; formulas and defaults:
torch.optim.lr_scheduler, whose relative factors become values here (``Linear(0.1, 1.0, 5)`` is LinearLR with
``start_factor=0.1`` at a learning rate of 1).
"""

from __future__ import annotations

import inspect
import math
import operator
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class _Schedule:
    """Prints as the call that rebuilds it; equal where the settings are."""

    def _settings(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in inspect.signature(type(self)).parameters}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._settings() == other._settings()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown, named = [], False
        for k, p in inspect.signature(type(self)).parameters.items():
            value = getattr(self, k)
            if value == p.default:
                named = True
            else:
                shown.append(f"{k}={value!r}" if named or p.kind is p.KEYWORD_ONLY else repr(value))
        return f"{type(self).__name__}({', '.join(shown)})"


def _number(who: object, name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    number = math.nan if isinstance(value, bool | str) else float(value)
    if not low <= number <= high or number == math.inf:
        bound = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"{type(who).__name__}: {name} must be a number {bound}, got {value!r}")
    return number


def _steps(who: object, name: str, value: Any, low: int = 1) -> int:
    try:
        n = operator.index(value)
    except TypeError:
        n = -1
    if isinstance(value, bool) or n < low:
        raise ValueError(f"{type(who).__name__}: {name} must be a whole number, at least {low}, got {value!r}")
    return n


def _increasing(who: object, name: str, values: Any) -> tuple[int, ...]:
    found = tuple(_steps(who, name, v) for v in values)
    if list(found) != sorted(set(found)):
        raise ValueError(f"{type(who).__name__}: {name} must increase, got {list(found)}")
    return found


class Constant(_Schedule):
    """Constant(value): always ``value``; a part of a ``Sequence``."""

    def __init__(self, value: float) -> None:
        self.value = _number(self, "value", value)

    def __call__(self, t: int) -> float:
        return self.value


class Step(_Schedule):
    """Step(start, decay=0.1, size=30)

    ``start * decay ** (t // size)``; with a list, ``size=[30, 80]``, multiplied by ``decay`` at each of these t.
    Source: torch's StepLR, MultiStepLR; ParameterSchedulers.jl's ``Step``.
    """

    def __init__(self, start: float, decay: float = 0.1, size: int | Sequence[int] = 30) -> None:
        self.start, self.decay = _number(self, "start", start), _number(self, "decay", decay)
        self.size = _increasing(self, "size", size) if isinstance(size, list | tuple) else _steps(self, "size", size)

    def __call__(self, t: int) -> float:
        drops = bisect_right(self.size, t) if isinstance(self.size, tuple) else t // self.size
        return self.start * self.decay**drops


class Exp(_Schedule):
    """Exp(start, decay): ``start * decay ** t``. Source: torch's ExponentialLR; ParameterSchedulers.jl's ``Exp``."""

    def __init__(self, start: float, decay: float) -> None:
        self.start, self.decay = _number(self, "start", start), _number(self, "decay", decay)

    def __call__(self, t: int) -> float:
        return self.start * self.decay**t


class Linear(_Schedule):
    """Linear(start, end, steps): in a straight line from ``start`` to ``end`` at ``t = steps``, and ``end`` from there.

    Source: torch's LinearLR.
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        self.start, self.end = _number(self, "start", start), _number(self, "end", end)
        self.steps = _steps(self, "steps", steps)

    def __call__(self, t: int) -> float:
        return self.start + (self.end - self.start) * min(t, self.steps) / self.steps


class Poly(_Schedule):
    """Poly(start, steps, power=1): ``start * (1 - t / steps) ** power``, and 0 after ``steps``.

    Source: torch's PolynomialLR; ParameterSchedulers.jl's ``Poly``.
    """

    def __init__(self, start: float, steps: int, power: float = 1.0) -> None:
        self.start, self.steps = _number(self, "start", start), _steps(self, "steps", steps)
        self.power = _number(self, "power", power)

    def __call__(self, t: int) -> float:
        return self.start * (1 - min(t, self.steps) / self.steps) ** self.power


class CosAnneal(_Schedule):
    """CosAnneal(start, end=0, period, restart=False, growth=1)

    ``end + (start - end) * (1 + cos(pi * t / period)) / 2``: half a wave from ``start`` down to ``end``, and up again
    after ``period``, as torch's CosineAnnealingLR. ``restart``: begin at ``start`` again instead, each period ``growth``
    times as long as the last (torch's CosineAnnealingWarmRestarts).
    Source: Loshchilov and Hutter, "SGDR", ICLR 2017; ParameterSchedulers.jl's ``CosAnneal``.
    """

    def __init__(self, start: float, end: float = 0.0, *, period: int, restart: bool = False, growth: int = 1) -> None:
        self.start, self.end = _number(self, "start", start), _number(self, "end", end)
        self.period, self.restart, self.growth = _steps(self, "period", period), bool(restart), _steps(self, "growth", growth)
        if growth != 1 and not restart:
            raise ValueError("CosAnneal: growth is the factor from one restart to the next; it needs restart=True")

    def __call__(self, t: int) -> float:
        period = self.period
        if self.restart and self.growth == 1:
            t = t % period
        while self.restart and t >= period:
            t, period = t - period, period * self.growth
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * t / period)) / 2


class Sequence_(_Schedule):  # not to hide typing's here
    """Sequence(schedules, milestones)

    The first schedule up to ``milestones[0]``, then the second, and so on; each counts from its own beginning.
    Source: torch's SequentialLR; ParameterSchedulers.jl's ``Sequence``.
    """

    def __init__(self, schedules: Sequence[Callable[[int], float]], milestones: Sequence[int]) -> None:
        self.schedules, self.milestones = tuple(schedules), _increasing(self, "milestones", milestones)
        if len(self.schedules) != len(self.milestones) + 1 or not all(map(callable, self.schedules)):
            raise ValueError(f"Sequence: {len(self.milestones)} milestones lie between {len(self.milestones) + 1} schedules, "
                             f"got {len(self.schedules)}: {list(self.schedules)}")

    def __call__(self, t: int) -> float:
        i = bisect_right(self.milestones, t)
        return self.schedules[i](t - (self.milestones[i - 1] if i else 0))


Sequence_.__name__ = Sequence_.__qualname__ = "Sequence"
