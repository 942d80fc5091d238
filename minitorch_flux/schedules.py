"""Schedules of the learning rate: functions of the number of steps (or epochs) taken so far, counted from 0.

    s = Warmup(CosAnneal(1e-3, period=90), 10)
    adjust(opt, s(t))                                           # by hand, or
    train(..., callbacks=[Schedule(s, every="epoch")])          # by a callback

A schedule is a pure function, the same t gives the same number, and prints as the Python that rebuilds it; any function
of t serves as one. ``Plateau`` alone looks at a metric and has a state. Names: ParameterSchedulers.jl. Formulas and
defaults: torch.optim.lr_scheduler, with values in the place of its factors of the optimiser's rate: LinearLR with
``start_factor=0.1`` at a rate of 0.5 is ``Linear(0.05, 0.5, 5)``.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, MISSING, dataclass, fields
from typing import Any


class _Settings:
    """Prints as the call that rebuilds it, without what has its default."""

    def __repr__(self) -> str:
        shown, by_name = [], False
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if f.default is not MISSING and value == f.default:
                by_name = True
            else:
                shown.append(f"{f.name}={value!r}" if by_name or f.kw_only else repr(value))
        return f"{type(self).__name__}({', '.join(shown)})"

    def _take_numbers(self, *names: str, low: float = 0.0, high: float = math.inf) -> None:
        for name in names:
            value = getattr(self, name)
            number = math.nan if isinstance(value, bool | str) else float(value)
            if not low <= number <= high or number == math.inf:
                bound = f"between {low:g} and {high:g}" if high < math.inf else f"at least {low:g}"
                raise ValueError(f"{type(self).__name__}: {name} must be a finite number, {bound}, got {value!r}")
            setattr(self, name, number)

    def _take_counts(self, *names: str, low: int = 1) -> None:
        for name in names:
            setattr(self, name, self._count(name, getattr(self, name), low))

    def _count(self, name: str, value: Any, low: int = 1) -> int:
        try:
            n = operator.index(value)
        except TypeError:
            n = low - 1
        if isinstance(value, bool) or n < low:
            raise ValueError(f"{type(self).__name__}: {name} must be a whole number, at least {low}, got {value!r}")
        return n

    def _increasing(self, name: str, values: Iterable[int]) -> tuple[int, ...]:
        found = tuple(self._count(name, v) for v in values)
        if list(found) != sorted(set(found)):
            raise ValueError(f"{type(self).__name__}: {name} must increase, got {list(found)}")
        return found

    def _choose(self, name: str, *choices: str) -> None:
        if getattr(self, name) not in choices:
            known = " or ".join(map(repr, choices))
            raise ValueError(f"{type(self).__name__}: {name} is {known}, got {getattr(self, name)!r}")


@dataclass(repr=False)
class Constant(_Settings):
    """Constant(value): always ``value``; for parts of a ``Sequence``."""

    value: float

    def __post_init__(self) -> None:
        self._take_numbers("value")

    def __call__(self, t: int) -> float:
        return self.value


@dataclass(repr=False)
class Step(_Settings):
    """Step(start, decay=0.1, size=30)

    ``start * decay ** (t // size)``; with a list, ``size=[30, 80]``, multiplied by ``decay`` at each of these t.
    Source: torch's StepLR and MultiStepLR; ParameterSchedulers.jl's ``Step``.
    """

    start: float
    decay: float = 0.1
    size: Any = 30

    def __post_init__(self) -> None:
        self._take_numbers("start", "decay")
        if isinstance(self.size, list | tuple):
            self.size = self._increasing("size", self.size)
        else:
            self._take_counts("size")

    def __call__(self, t: int) -> float:
        drops = bisect_right(self.size, t) if isinstance(self.size, tuple) else t // self.size
        return self.start * self.decay**drops


@dataclass(repr=False)
class Exp(_Settings):
    """Exp(start, decay): ``start * decay ** t``. Source: torch's ExponentialLR; ParameterSchedulers.jl's ``Exp``."""

    start: float
    decay: float

    def __post_init__(self) -> None:
        self._take_numbers("start", "decay")

    def __call__(self, t: int) -> float:
        return self.start * self.decay**t


@dataclass(repr=False)
class Linear(_Settings):
    """Linear(start, end, steps): in a straight line to ``end`` at ``t = steps``, and ``end`` from there on.

    Source: torch's LinearLR.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        self._take_numbers("start", "end")
        self._take_counts("steps")

    def __call__(self, t: int) -> float:
        return self.start + (self.end - self.start) * min(t, self.steps) / self.steps


@dataclass(repr=False)
class Poly(_Settings):
    """Poly(start, steps, power=1): ``start * (1 - t / steps) ** power``, and 0 from ``steps`` on.

    Source: torch's PolynomialLR; ParameterSchedulers.jl's ``Poly``.
    """

    start: float
    steps: int
    power: float = 1.0

    def __post_init__(self) -> None:
        self._take_numbers("start", "power")
        self._take_counts("steps")

    def __call__(self, t: int) -> float:
        return self.start * (1 - t / self.steps) ** self.power if t < self.steps else 0.0


@dataclass(repr=False)
class CosAnneal(_Settings):
    """CosAnneal(start, end=0, *, period, restart=False, growth=1)

    ``end + (start - end) * (1 + cos(pi * t / period)) / 2``: half a wave down from ``start`` to ``end``, and up again
    after ``period``, as in torch's CosineAnnealingLR. ``restart``: at ``start`` again instead, each period ``growth``
    times as long as the last (torch's CosineAnnealingWarmRestarts).
    Source: Loshchilov and Hutter, "SGDR", ICLR 2017; ParameterSchedulers.jl's ``CosAnneal``.
    """

    start: float
    end: float = 0.0
    _: KW_ONLY
    period: int
    restart: bool = False
    growth: int = 1

    def __post_init__(self) -> None:
        self._take_numbers("start", "end")
        self._take_counts("period", "growth")
        if self.growth != 1 and not self.restart:
            raise ValueError("CosAnneal: growth is the factor from one restart to the next; it needs restart=True")

    def __call__(self, t: int) -> float:
        period = self.period
        if self.restart:
            if self.growth == 1:
                t %= period
            while t >= period:
                t, period = t - period, period * self.growth
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * t / period)) / 2


@dataclass(repr=False)
class Sequence(_Settings):
    """Sequence(schedules, milestones)

    The first schedule up to ``milestones[0]``, then the second, and so on; each counts from its own beginning.
    Source: torch's SequentialLR; ParameterSchedulers.jl's ``Sequence``.
    """

    schedules: Iterable[Callable[[int], float]]
    milestones: Iterable[int]

    def __post_init__(self) -> None:
        self.schedules, self.milestones = tuple(self.schedules), self._increasing("milestones", self.milestones)
        if len(self.schedules) != len(self.milestones) + 1 or not all(map(callable, self.schedules)):
            raise ValueError(
                f"Sequence: {len(self.milestones)} milestones separate {len(self.milestones) + 1} schedules, got "
                f"{list(self.schedules)}"
            )

    def __call__(self, t: int) -> float:
        i = bisect_right(self.milestones, t)  # type: ignore[call-overload]
        begin = self.milestones[i - 1] if i else 0  # type: ignore[index]
        return self.schedules[i](t - begin)  # type: ignore[index]


@dataclass(repr=False)
class Warmup(_Settings):
    """Warmup(schedule, steps, start=0)

    In a straight line from ``start`` to the schedule's first value at ``t = steps``, then the schedule, which counts
    from there. A number in the place of the schedule is held. ``LinearLR`` followed by another in torch's SequentialLR.
    """

    schedule: Any
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.schedule):
            self.schedule = Constant(self.schedule)
        self._take_counts("steps")
        self._take_numbers("start")

    def __call__(self, t: int) -> float:
        if t >= self.steps:
            return self.schedule(t - self.steps)
        return self.start + (self.schedule(0) - self.start) * t / self.steps


@dataclass(repr=False)
class OneCycle(_Settings):
    """OneCycle(peak, steps, pct_start=0.3, anneal="cos", div_factor=25, final_div_factor=1e4, three_phase=False, ...)

    Up from ``peak / div_factor`` to ``peak`` in the first ``pct_start`` of the steps, down to
    ``peak / div_factor / final_div_factor`` in the rest; with ``three_phase`` down to the first value in as many steps
    as up, then to the last one. ``anneal``: half a cosine wave or ``"linear"``. It stays where it ends.

    ``momentum(t)`` goes the opposite way between ``max_momentum=0.95`` and ``base_momentum=0.85``:
    ``adjust(opt, s(t), momentum=s.momentum(t))``, or a second callback ``Schedule(s.momentum, name="momentum")``.
    Source: torch's OneCycleLR; Smith and Topin, "Super-convergence", 2017.
    """

    peak: float
    steps: int
    pct_start: float = 0.3
    anneal: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def __post_init__(self) -> None:
        self._take_numbers("peak")
        self._take_numbers("pct_start", "base_momentum", "max_momentum", high=1.0)
        self._take_numbers("div_factor", "final_div_factor", low=1e-300)
        self._take_counts("steps")
        self._choose("anneal", "cos", "linear")

    def _at(self, t: int, values: list[float]) -> float:
        """The values at the ends of the phases, and between them where t lies."""
        up = self.pct_start * self.steps - 1
        ends = [0.0, up, 2 * up, self.steps - 1.0] if self.three_phase else [0.0, up, self.steps - 1.0]
        t = min(t, self.steps - 1)
        i = next((i for i in range(1, len(ends) - 1) if t <= ends[i]), len(ends) - 1)
        length = ends[i] - ends[i - 1]
        part = (t - ends[i - 1]) / length if length > 0 else 1.0
        first, last = values[i - 1], values[i]
        if self.anneal == "linear":
            return first + (last - first) * part
        return last + (first - last) * (1 + math.cos(math.pi * part)) / 2

    def __call__(self, t: int) -> float:
        first = self.peak / self.div_factor
        middle = [first] if self.three_phase else []
        return self._at(t, [first, self.peak, *middle, first / self.final_div_factor])

    def momentum(self, t: int) -> float:
        """The momentum at t."""
        high, low = self.max_momentum, self.base_momentum
        return self._at(t, [high, low, high, high] if self.three_phase else [high, low, high])


@dataclass(repr=False, eq=False)
class Plateau(_Settings):
    """Plateau(start, factor=0.1, patience=10, mode="min", threshold=1e-4, threshold_mode="rel", cooldown=0, ...)

    ``plateau(metric)`` after every epoch gives the learning rate, multiplied by ``factor`` when the metric has not
    improved for more than ``patience`` epochs, not below ``lowest=0``. Better is: below ``best * (1 - threshold)``, or
    ``best - threshold`` with ``threshold_mode="abs"``; with ``mode="max"`` above, with a plus. For ``cooldown`` epochs
    after a cut bad ones do not count. A cut of no more than ``eps=1e-8`` is not made.

        train(..., callbacks=[Schedule(Plateau(0.1), metric="loss")])

    ``rate`` is the last value; ``state_dict`` and ``load_state_dict`` save where it is.
    Source: torch's ReduceLROnPlateau.
    """

    start: float
    factor: float = 0.1
    patience: int = 10
    mode: str = "min"
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    lowest: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        self._take_numbers("start", "threshold", "lowest", "eps")
        self._take_numbers("factor", high=math.nextafter(1, 0))
        self._take_counts("patience", "cooldown", low=0)
        self._choose("mode", "min", "max")
        self._choose("threshold_mode", "rel", "abs")
        self.rate = self.start
        self.best: float | None = None
        self.bad = self.resting = 0

    def _better(self, value: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.best is None:
            return sign * value > -math.inf
        margin = sign * self.threshold
        bound = self.best * (1 + margin) if self.threshold_mode == "rel" else self.best + margin
        return sign * value > sign * bound

    def __call__(self, metric: float) -> float:
        metric = float(metric)
        if self._better(metric):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.resting:
            self.resting, self.bad = self.resting - 1, 0
        if self.bad > self.patience:
            new = max(self.rate * self.factor, self.lowest)
            if self.rate - new > self.eps:
                self.rate = new
            self.resting, self.bad = self.cooldown, 0
        return self.rate

    def state_dict(self) -> dict[str, Any]:
        """Where it is, in plain numbers."""
        return {"rate": self.rate, "best": self.best, "bad": self.bad, "resting": self.resting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        expected = set(self.state_dict())
        if set(state) != expected:
            raise KeyError(f"Plateau: the state needs {sorted(expected)}, got {sorted(state)}")
        for name, value in state.items():
            setattr(self, name, value)
