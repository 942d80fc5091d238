"""freeze and thaw: parts of a model that do not train."""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

from ..autograd import Param, Tensor
from ..autograd.tree import Structure, items
from .optimiser_states import StatePart

M = TypeVar("M")

# By id, tensors that are no Param: what thaw may make trainable again.
_frozen: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()


def freeze(part: M) -> M:
    """Stop training ``part``: a model, ``m.layers[:3]``, a parameter, or a part of an optimiser state. Returns it.

    Frozen parameters are constants: no gradient is computed for them, it is None, and an optimiser passes them by and
    keeps their state. Running statistics of norms are no parameters: ``testmode`` stops those. Of an optimiser state
    (``freeze(opt[0])``) only the updates stop, the gradients are computed. Source: Flux's ``freeze!``.
    """
    _set(part, True)
    return part


def thaw(part: M) -> M:
    """Train ``part`` again after ``freeze``; returns it. Source: Flux's ``thaw!``."""
    _set(part, False)
    return part


def _set(part: Any, frozen: bool) -> None:
    if isinstance(part, StatePart):
        for leaf in part._leaves:
            leaf.frozen = frozen
        part._root._forget_plans()
        return
    name = "freeze" if frozen else "thaw"
    if not isinstance(part, Tensor | Structure | list | tuple | dict):
        if callable(part):
            return  # a function as a layer has no parameters
        raise TypeError(
            f"{name} takes a model, a part of one, parameters or an optimiser state, got {type(part).__name__}"
        )
    for t in _tensors(part):
        if isinstance(t, Param):
            t.requires_grad = not frozen
        elif frozen and t.track == 2 and t.node is None:
            t.requires_grad = False
            _frozen[id(t)] = t
        elif not frozen and _frozen.get(id(t)) is t:
            t.requires_grad = True
            del _frozen[id(t)]


def _tensors(part: Any) -> list[Tensor]:
    found: list[Tensor] = []
    seen: set[int] = set()
    stack = [part]
    while stack:
        x = stack.pop()
        if isinstance(x, Tensor):
            found.append(x)
        elif id(x) not in seen:
            seen.add(id(x))
            stack.extend(v for _, v in items(x))
    return found
