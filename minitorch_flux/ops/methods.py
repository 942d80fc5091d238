"""Tensor's operators and NumPy's methods, attached here because a tensor is defined below the ops.

One row a name; every method is the function of the same name with the tensor as its first argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from . import arithmetic, reductions, scans

# __add__ and __radd__, and so on: forward and reflected operators
BINARY: dict[str, Callable[..., Tensor]] = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "floordiv": arithmetic.floor_divide,
    "mod": arithmetic.remainder,
}

METHODS: dict[str, Callable[..., Any]] = {
    # operators of one argument
    "__neg__": arithmetic.negative,
    "__abs__": arithmetic.absolute,
    "__round__": arithmetic.round,
    # rounding
    "round": arithmetic.round,
    # reductions
    "sum": reductions.sum,
    "mean": reductions.mean,
    "prod": reductions.prod,
    "max": reductions.max,
    "min": reductions.min,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "any": reductions.any,
    "all": reductions.all,
    # scans
    "cumsum": scans.cumsum,
    "cumprod": scans.cumprod,
}


def _method(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` as a method: a plain function, so that Python binds the tensor, and keeps its docstring."""

    def method(self: Tensor, *args: Any, **keywords: Any) -> Any:
        return f(self, *args, **keywords)

    method.__name__, method.__doc__ = getattr(f, "__name__", "method"), f.__doc__
    return method


def _attach() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, _method(f))
    for name, f in BINARY.items():
        setattr(Tensor, f"__{name}__", lambda self, other, f=f: f(self, other))
        setattr(Tensor, f"__r{name}__", lambda self, other, f=f: f(other, self))


_attach()
