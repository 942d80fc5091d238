"""Tensor's operators and NumPy's methods, attached here because a tensor is defined below the ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from .arithmetic import add, divide, multiply, negative, subtract


def _operator(op: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The forward and the reflected method of a binary operator."""
    return (lambda self, other: op(self, other)), (lambda self, other: op(other, self))


for _name, _op in {"add": add, "sub": subtract, "mul": multiply, "truediv": divide}.items():
    _forward, _reflected = _operator(_op)
    setattr(Tensor, f"__{_name}__", _forward)
    setattr(Tensor, f"__r{_name}__", _reflected)

Tensor.__neg__ = lambda self: negative(self)  # type: ignore[method-assign]
