"""Rule: what turns a gradient into a step. Its settings, their spelling, their bounds, its print."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..ops.batches import Batch
from ..spelling import KEYWORDS


def _number(value: Any) -> float:
    if isinstance(value, str | bool):
        raise TypeError
    return float(value)


def _real(
    low: float, high: float, what: str, open_low: bool = False, closed_high: bool = False
) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        number = _number(value)
        above = number > low if open_low else number >= low
        if not (above and (number < high or (closed_high and number == high))):
            raise ValueError(what)
        return number

    return check


LOWEST, HIGHEST = 1.0, 2.0**32
"""The bounds of a loss scale: 1 is none at all, and at 2^32 even 1e-17 is a number of float16."""

_SIZE = _real(0, math.inf, "a finite number, at least 0")
_FRACTION = _real(0, 1, "in [0, 1)")
_THRESHOLD = _real(0, math.inf, "above 0", open_low=True, closed_high=True)


def _pair(value: Any) -> tuple[float, float]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ValueError("a pair of numbers in [0, 1)") from None
    return _FRACTION(first), _FRACTION(second)


def _count(value: Any) -> int:
    number = operator.index(value)
    if isinstance(value, bool) or number < 1:
        raise ValueError("a whole number, at least 1")
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool) and value not in (0, 1):
        raise ValueError("True or False")
    return bool(value)


CHECKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    **dict.fromkeys(
        ("eta", "eps", "weight_decay", "lambda_", "lr_decay", "momentum_decay", "initial_accumulator_value"),
        (_SIZE, "a finite number, at least 0"),
    ),
    **dict.fromkeys(("rho", "momentum"), (_FRACTION, "a number in [0, 1)")),
    "dampening": (_real(0, 1, "", closed_high=True), "a number in [0, 1]"),
    "beta": (_pair, "a pair of numbers in [0, 1)"),
    **dict.fromkeys(("delta", "omega", "p"), (_THRESHOLD, "a number above 0")),
    "initial": (_real(LOWEST, HIGHEST, "", closed_high=True), "a number from 1 to 2**32"),
    "growth_factor": (_real(1, math.inf, "", open_low=True), "a finite number above 1"),
    "backoff_factor": (_real(0, 1, "", open_low=True), "a number between 0 and 1"),
    **dict.fromkeys(("n", "growth_interval"), (_count, "a whole number, at least 1")),
    **dict.fromkeys(("amsgrad", "maximize", "centred", "decoupled", "throw", "total"), (_flag, "True or False")),
}
"""For each setting the function that checks and converts it, and what it must be."""

ALIASES = {"lr": "eta", "betas": "beta", "epsilon": "eps"}
"""What PyTorch and Optimisers.jl call settings of all rules."""

NEEDLESS = ("foreach", "fused", "capturable", "differentiable")
"""Keywords of PyTorch that choose how a step is run; here every step is fused."""


class Rule:
    """The base of optimisers. A subclass lists its settings with their defaults, and says what a step does::

        class SignDescent(flux.optimisers.Rule):
            eta: float = 1e-3
            rho: float = 0.9

            def slots(self):
                return {"m": 0.0}

            def apply(self, batch, slots, numbers):
                for piece in batch.pieces:
                    x, dx, m = piece.read(*slots)
                    m[...] = self.rho * m + dx
                    piece.step(self.eta * batch.xp.sign(m))

    Settings are positional in this order, or keywords; ``aliases`` gives further spellings. A rule does not change:
    ``adjust`` gives the optimiser state a new one. It prints as Python that rebuilds it.

    ``slots`` names its state arrays (not ``master``) and their first values (None: this variant has none), ``numbers``
    the numbers that it counts with. ``apply(batch, slots, numbers)`` takes one step for all parameters of a batch;
    False ends the step.
    ``updates``: whether ``apply`` subtracts the step itself where ``batch.final``; the others only change ``batch.dx``.
    """

    aliases: ClassVar[dict[str, str]] = {}
    hints: ClassVar[dict[str, str]] = {}
    fields: ClassVar[dict[str, Any]] = {}
    updates: ClassVar[bool] = True
    meets: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        own = [name for name, kind in inspect.get_annotations(cls).items() if "ClassVar" not in str(kind)]
        if "__init__" in vars(cls):
            return
        if own:
            cls.fields = {name: vars(cls).get(name, inspect.Parameter.empty) for name in own}
        cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=v) for k, v in cls.fields.items()]
        )

    def __init__(self, *args: Any, **keywords: Any) -> None:
        for name, value in self._bind(args, keywords).items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        """What one setting says about another."""

    @classmethod
    def _bind(cls, args: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
        name = cls.__name__
        if len(args) > len(cls.fields):
            raise TypeError(f"{name} takes {len(cls.fields)} values ({', '.join(cls.fields)}), got {len(args)}")
        values = dict(zip(cls.fields, args, strict=False))
        for key, value in keywords.items():
            field = cls.field_of(key)
            if field is None:
                raise TypeError(f"{name}: {cls._no_such(key)}")
            if field in values:
                raise TypeError(f"{name}: {field} is given twice" + (f", also as {key}" if key != field else ""))
            values[field] = value
        for field, default in cls.fields.items():
            if field not in values:
                if default is inspect.Parameter.empty:
                    raise TypeError(f"{name}: give {field}" + (f", {CHECKS[field][1]}" if field in CHECKS else ""))
                values[field] = default
        return {field: cls._checked(field, values[field]) for field in cls.fields}

    @classmethod
    def field_of(cls, keyword: str) -> str | None:
        """The setting that a keyword means, or None."""
        if keyword in cls.fields:
            return keyword
        field = cls.aliases.get(keyword, ALIASES.get(keyword, ""))
        return field if field in cls.fields else None

    @classmethod
    def _no_such(cls, keyword: str) -> str:
        spellings = {v: k for k, v in (ALIASES | cls.aliases).items()}
        known = ", ".join(f"{f} ({spellings[f]})" if f in spellings else f for f in cls.fields)
        if keyword in NEEDLESS:
            hint = "; every step is fused here, leave it out"
        else:
            hint = cls.hints.get(keyword) or (
                f"; it is spelled {KEYWORDS[keyword]} here" if keyword in KEYWORDS else ""
            )
        return f"no setting {keyword!r}{hint}. It takes {known}"

    @classmethod
    def _checked(cls, field: str, value: Any) -> Any:
        if field not in CHECKS:
            return value
        check, what = CHECKS[field]
        try:
            return check(value)
        except (TypeError, ValueError):
            raise ValueError(f"{cls.__name__}: {field} must be {what}, got {value!r}") from None

    def replace(self, **changes: Any) -> Rule:
        """The same rule with other settings. ``momentum`` means ``beta[0]`` where a rule has ``beta``."""
        fields = {f: getattr(self, f) for f in self.fields}
        for key, value in changes.items():
            field = self.field_of(key)
            if field is None and key == "momentum" and "beta" in fields:
                field, value = "beta", (value, fields["beta"][1])
            if field is None:
                raise TypeError(f"{type(self).__name__}: {self._no_such(key)}")
            fields[field] = value
        return type(self)(**fields)

    def knows(self, keyword: str) -> bool:
        """Whether ``replace`` takes this keyword."""
        return self.field_of(keyword) is not None or (keyword == "momentum" and "beta" in self.fields)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that are applied one after the other: this one, or a chain's members."""
        return (self,)

    def slots(self) -> dict[str, float | None]:
        """The names of the state arrays and their first values; None for an array that this variant does without."""
        return {}

    def numbers(self) -> dict[str, Any]:
        """The numbers that the rule counts with and their first values."""
        return {}

    def meet(self, batches: Sequence[Batch]) -> bool | None:
        """See all batches of a step before ``apply`` is called for each; only where ``meets``. False ends the step for all."""
        return None

    def apply(self, batch: Batch, slots: Sequence[Any], numbers: dict[str, Any]) -> bool | None:
        """Take one step; see the class."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"a rule does not change: use flux.adjust(opt, {name}=...), or {type(self).__name__}(...) anew"
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        shown = [
            f"{name}={_text(getattr(self, name))}"
            for i, (name, default) in enumerate(self.fields.items())
            if i == 0 or getattr(self, name) != default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _text(value: Any) -> str:
    return "float('inf')" if value == math.inf else repr(value)
