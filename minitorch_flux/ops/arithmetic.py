"""Arithmetic with broadcasting: add, subtract, multiply, divide, negative, power, remainder and absolute.

    add       z = x + y          dx = S(dz)              dy = S(dz)
    subtract  z = x - y          dx = S(dz)              dy = -S(dz)
    multiply  z = x y            dx = S(dz y)            dy = S(dz x)
    divide    z = x / y          dx = S(dz / y)          dy = S(-dz z / y)
    power     z = x^y            dx = S(dz y x^(y-1))    dy = S(dz z log x)

``S`` is ``sum_to``: it adds up the axes along which NumPy stretched the input. Shapes and dtypes follow NumPy 2; Python
numbers and NumPy scalars never widen a dtype.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, operation
from ..backend import array_function, array_module

# -- sum_to: the adjoint of broadcasting -------------------------------------------------------------------------------


@array_function
def sum_to_forward(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``x`` over the axes that broadcasting ``shape`` to ``x.shape`` has added or stretched."""
    extra = x.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1
    )
    return x.sum(axis=axes, keepdims=True).reshape(shape) if axes else x.reshape(shape)


@array_function
def broadcast_to_forward(x: Any, shape: tuple[int, ...]) -> Any:
    """``x`` stretched to ``shape``: a read-only view without a copy."""
    return array_module(x).broadcast_to(x, shape)


_sum_to = operation(
    "sum_to",
    sum_to_forward,
    backward=lambda dy, x_shape: broadcast_to_forward(dy, x_shape),
    rule=lambda dy, x_shape: _broadcast_to(dy, shape=x_shape),
)
_broadcast_to = operation(
    "broadcast_to",
    broadcast_to_forward,
    backward=lambda dy, x_shape: sum_to_forward(dy, x_shape),
    rule=lambda dy, x_shape: _sum_to(dy, shape=x_shape),
    view=True,
)


def sum_to(x: Any, shape: tuple[int, ...]) -> Tensor:
    """Sum ``x`` down to ``shape``, a shape that broadcasts to ``x.shape``: the adjoint of ``broadcast_to``."""
    return x if isinstance(x, Tensor) and x.shape == tuple(shape) else _sum_to(x, shape=tuple(shape))


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """``x`` stretched to ``shape`` by NumPy's rules."""
    return _broadcast_to(x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


def _fit(dz: Any, shape: tuple[int, ...]) -> Any:
    """``sum_to`` for a gradient that is an array in an ordinary backward pass and a tensor in a recorded one."""
    if dz.shape == shape:
        return dz
    return _sum_to(dz, shape=shape) if isinstance(dz, Tensor) else sum_to_forward(dz, shape)


# -- the operations ----------------------------------------------------------------------------------------------------


def _add_gradient(dy: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return _fit(dy, x_shape) if needs[0] else None, _fit(dy, y_shape) if needs[1] else None


def _subtract_gradient(dy: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return _fit(dy, x_shape) if needs[0] else None, _fit(-dy, y_shape) if needs[1] else None


def _multiply_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return _fit(dy * y, x_shape) if needs[0] else None, _fit(dy * x, y_shape) if needs[1] else None


def _divide_gradient(dy: Any, out: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    dx = dy / y
    return _fit(dx, x_shape) if needs[0] else None, _fit(-dx * out, y_shape) if needs[1] else None


add = operation("add", lambda x, y: x + y, gradient=_add_gradient)
subtract = operation("subtract", lambda x, y: x - y, gradient=_subtract_gradient)
multiply = operation("multiply", lambda x, y: x * y, gradient=_multiply_gradient)
divide = operation("divide", lambda x, y: x / y, gradient=_divide_gradient)
negative = operation("negative", lambda x: -x, gradient=lambda dy: -dy)
