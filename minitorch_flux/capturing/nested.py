"""Nested values: arguments and results with arrays somewhere inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd.tree import same_kind


def mapped(x: Any, f: Callable[[Any], Any]) -> Any:
    """``x`` with ``f`` of everything that is no tuple, list, dict, slice, or other object with a method ``_mapped``."""
    kind = type(x)
    if kind is tuple or kind is list or isinstance(x, tuple):
        return same_kind(x, [mapped(v, f) for v in x])
    if kind is dict:
        return {k: mapped(v, f) for k, v in x.items()}
    if kind is slice:
        return slice(mapped(x.start, f), mapped(x.stop, f), mapped(x.step, f))
    return x._mapped(lambda v: mapped(v, f)) if hasattr(x, "_mapped") else f(x)
