"""setup, update, adjust: an optimiser's rule and the state that it keeps for every parameter of a model.

opt = setup(Adam(1e-3), model)
update(opt, model, grads)                 # in place; or update(opt, model), from the parameters' .grad
adjust(opt, 1e-4); adjust(opt[0], eta=0)  # the whole, or a part
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

import numpy as np

from ..backend import Array, device_of, parse_device, to_device
from ..backend.tracers import refuse_capture
from ..backend.tracers import state as tracing
from .banks import Bank, Clock, Leaf, bank_key, build_banks
from .leaves import ArrayLeaf, Leaves
from .parts import StatePart
from .plan import Plan
from .rule import Rule
from .saving import load_state, same_slots, saved_state
from .scaling import LossScale, scale_rule, scaling_for

STORED = object()


class OptimiserState(StatePart):
    """The state of an optimiser for a model, made whole by ``setup``.

    It follows the model's structure: ``opt[0].weight``. It belongs to parameters by their paths, so it fits a copy of
    the model too, and follows a parameter that changes device or dtype. ``state_dict``, ``load_state_dict`` save it.
    """

    def __init__(self, rule: Rule, model: Any, master_weights: bool) -> None:
        leaves = Leaves(model)
        if not leaves.targets:
            raise ValueError(
                f"setup: the {type(model).__name__} has no parameters; they are flux.Param attributes of layers, "
                "tensors with requires_grad=True, or floating-point arrays"
            )
        _check_writeable(leaves)
        clock = Clock([r.numbers() for r in rule.rules])
        self._root, self._node = self, leaves.root
        self._leaves = [Leaf(p, a, rule, clock) for p, a in zip(leaves.paths, leaves.arrays, strict=True)]
        self._by_path = {leaf.path: leaf for leaf in self._leaves}
        self._masters = master_weights
        self._scaling = scaling_for(rule, self._leaves)
        build_banks(rule, self._leaves, leaves.arrays, master_weights)
        self._bound: Leaves | None = leaves
        self._plan: Plan | None = None
        self._plans: dict[tuple[int, ...], Plan] = {}

    # -- the model -----------------------------------------------------------------------------------------------------

    def _bind(self, model: Any) -> Leaves:
        """Find the parameters of a model, or of this model anew; raises where it is not the one that was set up."""
        found = Leaves(model, known=self._by_path)
        before, self._bound = self._bound, None
        self._compare(found)
        if before is not None and _same_leaves(before, found):  # only something else in the model has changed
            self._bound = found
            return found
        _check_writeable(found)
        if any(leaf.bank.key != bank_key(a) for leaf, a in zip(self._leaves, found.arrays, strict=True)):
            build_banks(self._leaves[0].rule, self._leaves, found.arrays, self._masters)
        self._bound, self._node = found, found.root
        self._forget_plans()
        return found

    def _compare(self, found: Leaves) -> None:
        before = {leaf.path: leaf.shape for leaf in self._leaves}
        now = {p: tuple(a.shape) for p, a in zip(found.paths, found.arrays, strict=True)}
        if list(before.items()) == list(now.items()):
            return
        words = [f"{p} {s} is gone" for p, s in before.items() if p not in now]
        words += [f"{p} {s} is new" for p, s in now.items() if p not in before]
        words += [f"{p} has the shape {now[p]}, was {s}" for p, s in before.items() if p in now and now[p] != s]
        words = words or ["its parameters come in another order"]
        more = f", and {len(words) - 8} more" if len(words) > 8 else ""
        raise ValueError(
            f"this optimiser was set up for another structure: {', '.join(words[:8])}{more}; call "
            "flux.setup(rule, model) again"
        )

    def _forget_plans(self) -> None:
        self._plan = None
        self._plans = {}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_bound", "_plan", "_plans")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bound = None
        self._forget_plans()

    # -- the step ------------------------------------------------------------------------------------------------------

    def _update(self, model: Any, grads: Any) -> None:
        bound = self._bound
        if bound is None or bound.model is not model or not bound.unchanged():
            bound = self._bind(model)
        plan = self._plan
        if plan is not None and [t.track for t in bound.targets] == plan.tracks:
            gs = plan.quick_stored() if grads is STORED else plan.quick(grads)
            if gs is not None:
                plan.run(gs)
                if grads is STORED:
                    _clear(bound)
                return
        found: list[Array | None]
        if grads is STORED:
            stored = [t.grad for t in bound.targets]
            if all(g is None for g in stored) and any(
                t.track and not leaf.frozen for t, leaf in zip(bound.targets, self._leaves, strict=True)
            ):
                raise ValueError(
                    "update(opt, model): no parameter has a .grad; call loss.backward() inside `with "
                    "flux.record():` first, or pass the gradients: update(opt, model, grads)"
                )
            found = [bound.checked(i, g) for i, g in enumerate(stored)]
        else:
            found = bound.collect(grads)
        active = tuple(
            i
            for i, (g, t, leaf) in enumerate(zip(found, bound.targets, self._leaves, strict=True))
            if g is not None and t.track and not leaf.frozen
        )
        plan = self._plans.get(active)
        if plan is None or not plan.valid():
            if len(self._plans) > 8:
                self._plans.clear()
            plan = self._plans[active] = Plan(self._leaves, bound, active, self._scaling)
        plan.tracks = [t.track for t in bound.targets]
        self._plan = plan
        plan.run([found[i] for i in active])
        if grads is STORED:
            _clear(bound)

    def _stored_update(self, model: Any, grads: list[Any]) -> None:
        """``update(opt, model)`` with these gradients in the parameters' ``.grad``."""
        bound = self._bound if self._bound is not None and self._bound.model is model else self._bind(model)
        for t, g in zip(bound.targets, grads, strict=True):
            t.grad = g
        self._update(model, STORED)

    def _record_update(self, recorder: Any, model: Any, grads: Any) -> None:
        """Let a captured step take this update as one call, which looks at rules, clocks and gradients at every replay."""
        if grads is STORED:
            targets = Leaves(model, known=self._by_path).targets
            recorder.live(self._stored_update, (model, [t.grad for t in targets]), self)
        else:
            recorder.live(self._update, (model, grads), self)

    def _held(self) -> tuple[list[Any], list[Array], list[dict[str, Any]]]:
        """What an update changes: parameters, arrays and numbers."""
        banks = {id(leaf.bank): leaf.bank for leaf in self._leaves}
        clocks = {id(leaf.clock): leaf.clock for leaf in self._leaves}
        arrays = [a for bank in banks.values() for a in bank.arrays()]
        numbers = [numbers for clock in clocks.values() for numbers in clock.numbers]
        if self._scaling is not None:
            numbers.append(self._scaling.numbers)
        return [] if self._bound is None else list(self._bound.targets), arrays, numbers

    # -- the loss scale ------------------------------------------------------------------------------------------------

    @property
    def loss_scale(self) -> float:
        """What the loss is to be multiplied by before its gradient is taken: LossScale's number now, 1.0 without that rule."""
        if self._scaling is None:
            return 1.0
        if tracing.recorder is not None:
            return tracing.recorder.number(self._scaling.numbers.__getitem__, ("scale",))
        return self._scaling.scale

    def loss_scale_array(self, model: Any) -> Array:
        """``loss_scale`` as a float32 array without axes, where the last parameter is: an input for captured steps."""
        bound = self._bound if self._bound is not None and self._bound.model is model else self._bind(model)
        return to_device(np.array(self.loss_scale, np.float32), device_of(bound.targets[-1].data))

    @property
    def scales(self) -> bool:
        """Whether there is a LossScale, so that the loss is to be multiplied."""
        return self._scaling is not None

    @property
    def skipped(self) -> int:
        """How many steps LossScale has skipped, as gradients were infinite or NaN."""
        return 0 if self._scaling is None else self._scaling.numbers["skipped"]

    # -- moving and saving ---------------------------------------------------------------------------------------------

    def to(self, device: str) -> OptimiserState:
        """Move the state to ``"cpu"`` or ``"cuda:N"``, in place. (It also follows its parameters by itself.)"""
        index = parse_device(device)
        name = "cpu" if index is None else f"cuda:{index}"
        banks: dict[int, Bank] = {id(leaf.bank): leaf.bank for leaf in self._leaves}

        def move(a: Array | None) -> Array | None:
            return None if a is None else to_device(a, name)

        moved = [
            ([{k: move(a) for k, a in slots.items()} for slots in b.slots], move(b.master)) for b in banks.values()
        ]
        for bank, (slots, master) in zip(banks.values(), moved, strict=True):
            bank.slots, bank.master, bank.key = slots, master, (bank.key[0], name)
        self._bound = None
        self._forget_plans()
        return self

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as copied NumPy arrays and numbers; see ``saving.saved_state``."""
        return saved_state(self._leaves, self._scaling)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave, settings of the rules included; all of it or, with an error, nothing."""
        load_state(self._leaves, self._scaling, state)
        self._forget_plans()


def _same_leaves(a: Leaves, b: Leaves) -> bool:
    same = all(s is t or type(s) is type(t) is ArrayLeaf for s, t in zip(a.targets, b.targets, strict=True))
    return same and all(map(is_, a.arrays, b.arrays))


def _check_writeable(leaves: Leaves) -> None:
    for path, a in zip(leaves.paths, leaves.arrays, strict=True):
        if not getattr(a.flags, "writeable", True):
            raise ValueError(
                f"the array of {path or 'the parameter'} is read-only and cannot be updated in place; copy it"
            )


def _clear(bound: Leaves) -> None:
    for t in bound.targets:
        t.grad = None


def setup(rule: Rule, model: Any, master_weights: bool = True) -> OptimiserState:
    """The state of the optimiser ``rule`` for ``model``, created whole and before the first step.

    ``model``: a layer, or parameters in any nesting of dicts, lists and tuples: ``Param``, tensors with
    ``requires_grad``, floating-point arrays. A parameter reached by two paths is one. State arrays have the parameter's
    dtype, float32 for 16-bit ones. Raises ValueError where there is nothing to train or an array is read-only.

    ``master_weights=True``: every 16-bit parameter gets a float32 master copy. The steps are taken there and the parameter is
    its rounding, as an update of a thousandth of a weight is lost in 8 or 11 bits. A number of the parameter that somebody else
    has changed since is taken over by the master at the next step.
    Source: Micikevicius et al., "Mixed precision training", ICLR 2018.
    """
    if not isinstance(rule, Rule):
        hint = ""
        if isinstance(model, Rule):
            hint = "; the rule comes first: setup(rule, model)"
        elif isinstance(rule, type) and issubclass(rule, Rule):
            hint = f"; make one: {rule.__name__}()"
        raise TypeError(f"setup needs a rule such as flux.Adam(1e-3), got {type(rule).__name__}{hint}")
    refuse_capture("setup", "set the optimiser up outside")
    return OptimiserState(rule, model, bool(master_weights))


def update(opt: OptimiserState, model: Any, grads: Any = STORED) -> None:
    """One step of the optimiser: the parameters of ``model`` and the state ``opt`` change in place.

    ``grads`` has the model's structure, as ``gradient`` gives it; parts that are None stay as they are, and so do
    frozen ones. Without ``grads`` the parameters' ``.grad`` are used, and cleared. Every updated parameter's
    ``version`` rises by one. ``LossScale`` skips steps whose gradients are not finite. Raises, before anything has
    changed, for a gradient of the wrong shape (ValueError with the path) or structure, and where the model's
    structure is not that of ``setup``.
    """
    if not isinstance(opt, OptimiserState):
        hint = "; call opt = flux.setup(rule, model) once, before the first step" if isinstance(opt, Rule) else ""
        raise TypeError(f"update(opt, model, grads) needs the state that setup gave, got {type(opt).__name__}{hint}")
    if tracing.recorder is None:
        opt._update(model, grads)
    else:
        opt._record_update(tracing.recorder, model, grads)


def adjust(opt: StatePart, eta: float | None = None, **settings: Any) -> None:
    """Change settings of the rule from now on: ``adjust(opt, 1e-4)``, ``adjust(opt, beta=(0.9, 0.99))``.

    ``opt``: an optimiser state or a part of it, ``opt[0]``, ``opt["0.weight"]``. The state stays. ``momentum`` sets
    ``beta[0]`` of rules that have ``beta``. In a chain every member that has the setting is changed. Raises TypeError
    for a setting that the rule has not, ValueError for one that needs other state arrays (``amsgrad``, ``centred``).
    """
    if not isinstance(opt, StatePart):
        raise TypeError(f"adjust needs an optimiser state (from setup) or a part of it, got {type(opt).__name__}")
    if eta is not None:
        settings["eta"] = eta
    if not settings:
        raise TypeError("adjust(opt, eta) or adjust(opt, name=value): nothing to change was given")
    refuse_capture("adjust", "adjust the optimiser between the calls, which the next replay follows")
    new: dict[int, Rule] = {}
    for leaf in opt._leaves:
        old = leaf.rule
        if id(old) not in new:
            new[id(old)] = old.replace(**settings)
            if not same_slots(old, new[id(old)]):
                raise ValueError(
                    f"adjust: {', '.join(settings)} cannot change for {old!r}, whose state has not the arrays "
                    "for it; call setup with the new rule"
                )
    root = opt._root
    scaling = root._scaling
    if scaling is not None:
        changed = set(map(id, opt._leaves))
        rules = {id(leaf.rule): leaf.rule for leaf in root._leaves if id(leaf) not in changed}
        if len({scale_rule(rule, scaling.place) for rule in [*rules.values(), *new.values()]}) > 1:
            raise ValueError("adjust: there is one loss scale for all parameters; adjust the whole state, not a part of it")
    for leaf in opt._leaves:
        leaf.rule = new[id(leaf.rule)]
    if scaling is not None and any(LossScale.field_of(key) == "initial" for key in settings):
        scaling.begin()
    if opt is root:
        for plan in root._plans.values():
            plan.adjust(new)
    else:
        root._forget_plans()
