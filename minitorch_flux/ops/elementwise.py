"""What all elementwise operations share: outputs from the pool, errors that name the axis, one text for a gradient.

"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import OPERATIONS, Operation, Tensor, operation
from ..backend import array_module, as_array, empty, empty_like, is_float

LARGE = 1 << 16
"""Outputs of about this many bytes and more come from the memory pool; below, NumPy's own allocation is as fast."""


def as_tensor(x: Any) -> Tensor:
    """``x``, a tensor, array, number or nested list, as a Tensor."""
    return x if isinstance(x, Tensor) else Tensor(as_array(x))


class _Either:
    """``either.exp(x)``, or ``either(exp)(x)``: the operation on tensors, its forward function on plain arrays.

    Gradients are written in these, and in operators, so that one text serves an ordinary backward pass (arrays) and a
    recorded one (tensors).
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in OPERATIONS:
            raise AttributeError(f"there is no operation {name!r}")
        setattr(self, name, self(OPERATIONS[name]))  # found without this detour from now on
        return self.__dict__[name]

    def __call__(self, op: Operation) -> Callable[..., Any]:
        forward = op.forward

        def apply(*inputs: Any, **static: Any) -> Any:
            for x in inputs:
                if isinstance(x, Tensor):
                    return op(*inputs, **static)
            return forward(*inputs, **static)

        return apply


either = _Either()


def raw(x: Any) -> Any:
    """The array of a tensor, for masks and other piecewise constant parts of a gradient."""
    return x.data if isinstance(x, Tensor) else x


def documented(op: Operation, doc: str) -> Operation:
    """``op`` with a docstring, and a name as functions have it."""
    op.__doc__, op.__name__ = doc, op.name  # type: ignore[attr-defined]
    return op


def zeros(dy: Any, shape: tuple[int, ...] | None = None) -> Any:
    """No gradient: an array or tensor like ``dy``, or of ``shape``."""
    if isinstance(dy, Tensor):
        return Tensor(zeros(dy.data, shape))
    return array_module(dy).zeros(dy.shape if shape is None else shape, dy.dtype)


def no_gradient(dy: Any) -> Any:
    """The gradient of a piecewise constant function: zero."""
    return zeros(dy)


def unary_forward(name: str) -> Callable[[Any], Any]:
    """NumPy's (and CuPy's) elementwise function ``name`` of one array; large results are written to pool memory."""

    def forward(x: Any) -> Any:
        f = getattr(array_module(x), name)
        if getattr(x, "nbytes", 0) < LARGE or not is_float(x.dtype):
            return f(x)
        return f(x, out=empty_like(x))

    forward.__name__ = f"{name}_forward"
    return forward


def unary(name: str, doc: str, gradient: Callable[..., Any]) -> Operation:
    """The operation that applies NumPy's function ``name`` to each element; ``doc`` begins with its formula."""
    text = f"{doc}\n\n    Elementwise; any shape, dtypes as in NumPy."
    return documented(operation(name, unary_forward(name), gradient=gradient), text)


def binary_forward(name: str, symbol: Callable[[Any, Any], Any] | None = None) -> Callable[[Any, Any], Any]:
    """NumPy's elementwise function ``name`` of two arrays or numbers, with an error that names the axis.

    ``symbol`` is Python's operator for it, the quicker way for small arrays.
    """

    def forward(x: Any, y: Any) -> Any:
        try:
            if getattr(x, "nbytes", 0) < LARGE and getattr(y, "nbytes", 0) < LARGE:
                return symbol(x, y) if symbol else getattr(array_module(x, y), name)(x, y)
            xp = array_module(x, y)
            dtype = xp.result_type(x, y)
            if not is_float(dtype):
                return getattr(xp, name)(x, y)
            shape = np.broadcast_shapes(getattr(x, "shape", ()), getattr(y, "shape", ()))
            return getattr(xp, name)(x, y, out=empty(shape, dtype, like=x if hasattr(x, "shape") else y))
        except ValueError as error:
            refuse_shapes(name, error, x, y)
            raise

    forward.__name__ = f"{name}_forward"
    return forward


def refuse_shapes(name: str, error: Exception, *arrays: Any) -> None:
    """Raise ValueError, naming the axis and both sizes, when the shapes of the arrays do not broadcast."""
    shapes = [a.shape for a in arrays if hasattr(a, "shape")]
    for back in range(1, max(map(len, shapes), default=0) + 1):
        sizes = list(dict.fromkeys(shape[-back] for shape in shapes if len(shape) >= back and shape[-back] != 1))
        if len(sizes) > 1:
            raise ValueError(
                f"{name}: the shapes {' and '.join(map(str, shapes))} do not broadcast: axis {-back} has the sizes "
                f"{sizes[0]} and {sizes[1]}; they must be equal, or one of them 1"
            ) from error
