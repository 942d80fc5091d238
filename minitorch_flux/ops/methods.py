"""Tensor's operators and NumPy's methods, attached here because a tensor is defined below the ops.

One row a name; every method is the function of the same name with the tensor as its first argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from ..foreign_attributes import TENSOR, attach
from ..spelling import KEYWORDS, check_keywords
from . import (
    arithmetic,
    comparisons,
    diagonals,
    elementary,
    extremes,
    indexing,
    joining,
    products,
    reductions,
    scans,
    scattering,
    shapes,
    sorting,
    statistics,
)

# __add__ and __radd__, and so on: forward and reflected operators
BINARY: dict[str, Callable[..., Any]] = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "floordiv": arithmetic.floor_divide,
    "mod": arithmetic.remainder,
    "pow": elementary.power,
    "matmul": products.matmul,
    "and": comparisons.bitwise_and,
    "or": comparisons.bitwise_or,
    "xor": comparisons.bitwise_xor,
    "divmod": lambda x, y: (arithmetic.floor_divide(x, y), arithmetic.remainder(x, y)),
}

METHODS: dict[str, Callable[..., Any]] = {
    # operators of one argument
    "__neg__": arithmetic.negative,
    "__abs__": arithmetic.absolute,
    "__pos__": lambda x: x,
    "__invert__": comparisons.invert,
    "__round__": lambda x, decimals=None: arithmetic.round(x, decimals or 0),
    # comparisons, which Python reflects by itself
    "__eq__": comparisons.equal,
    "__ne__": comparisons.not_equal,
    "__lt__": comparisons.less,
    "__le__": comparisons.less_equal,
    "__gt__": comparisons.greater,
    "__ge__": comparisons.greater_equal,
    # elementwise
    "round": arithmetic.round,
    "clip": comparisons.clip,
    "abs": arithmetic.absolute,
    "exp": elementary.exp,
    "log": elementary.log,
    "sqrt": elementary.sqrt,
    "square": elementary.square,
    # products
    "dot": products.dot,
    # reductions
    "sum": reductions.sum,
    "mean": reductions.mean,
    "prod": reductions.prod,
    "max": extremes.max,
    "min": extremes.min,
    "argmax": extremes.argmax,
    "argmin": extremes.argmin,
    "any": reductions.any,
    "all": reductions.all,
    "var": statistics.var,
    "std": statistics.std,
    "norm": statistics.norm,
    # scans
    "cumsum": scans.cumsum,
    "cumprod": scans.cumprod,
    # shapes
    "reshape": lambda x, *shape: shapes.reshape(x, _sequence(shape)),
    "transpose": lambda x, *axes: shapes.transpose(x, _sequence(axes) if axes else None),
    "permute": lambda x, *axes: shapes.transpose(x, _sequence(axes)),
    "swapaxes": shapes.swapaxes,
    "ravel": shapes.ravel,
    "flatten": shapes.ravel,
    "squeeze": shapes.squeeze,
    "repeat": shapes.repeat,
    "astype": shapes.astype,
    "copy": shapes.copy,
    # positions and order
    "__getitem__": indexing.getitem,
    "__iter__": lambda x: iter(joining.unstack(x)),
    "take": indexing.take,
    "scatter": scattering.scatter,
    "scatter_add": scattering.scatter_add,
    "diagonal": diagonals.diagonal,
    "sort": sorting.sort,
    "argsort": sorting.argsort,
}


def _sequence(values: tuple[Any, ...]) -> Any:
    """NumPy's two spellings: ``x.reshape(2, 3)`` and ``x.reshape((2, 3))``."""
    return values[0] if len(values) == 1 and (values[0] is None or isinstance(values[0], tuple | list)) else values


def _method(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` as a method: a plain function, so that Python binds the tensor, and keeps its docstring."""

    def method(self: Tensor, *args: Any, **keywords: Any) -> Any:
        if not KEYWORDS.keys().isdisjoint(keywords):  # another framework's: the error gives our name
            check_keywords(f"Tensor.{name}", keywords, inspect.signature(f).parameters)
        return f(self, *args, **keywords)

    method.__name__, method.__doc__ = getattr(f, "__name__", "method"), f.__doc__
    return method


def _attach() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, _method(name, f))
    Tensor.T = property(lambda x: shapes.transpose(x), doc="The axes in reversed order: a view.")  # type: ignore[attr-defined]
    Tensor.mT = property(  # type: ignore[attr-defined]
        lambda x: shapes.swapaxes(x, -2, -1), doc="The last two axes exchanged: a view."
    )
    for name, f in BINARY.items():
        setattr(Tensor, f"__{name}__", lambda self, other, f=f: f(self, other))
        setattr(Tensor, f"__r{name}__", lambda self, other, f=f: f(other, self))
    attach(Tensor, TENSOR)


_attach()
