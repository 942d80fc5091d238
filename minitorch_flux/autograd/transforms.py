"""gradient, withgradient, vjp, jacobian, hessian: functions of functions.

Inside another recording scope the results are themselves recorded tensors, so the transforms nest to any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import array_module, as_array, is_array, is_float, read_only
from .node import next_order
from .operations import operation
from .recording import OFF, RECORDING, at_level, state, undoing
from .tensors import Param, Tensor
from .tree import Structure, lift, mirror, same_kind
from .walk import own, pull_back, seed_gradient

alias = operation("alias", lambda x: x, gradient=lambda dy: dy, view=True)
"""The same numbers as a new place in the tape: where a gradient with respect to a recorded tensor stops."""


class _Scope:
    """One evaluation of a function whose arguments are to be differentiated."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.level = name, state.level
        self.nested = self.level == RECORDING  # an outer scope records: so must our backward pass
        # What was computed before this call is a constant here, and its tape is not ours to free.
        self.since = next_order()
        self.targets: dict[Tensor, Callable[[Any], Any] | None] = {}  # and, for numbers, their type
        with at_level(RECORDING):
            self.arguments = tuple([self._lift(a) for a in arguments])
        self.stops = frozenset([t.node for t in self.targets if t.node is not None])

    def _lift(self, argument: Any) -> Any:
        if not _has_leaf(argument):
            raise TypeError(f"{self.name}: an argument of type {type(argument).__name__} holds nothing to differentiate; "
                            "arguments are models, parameters, floating-point arrays, tensors, floats, or dicts, "
                            "lists and tuples of them")
        return lift(argument, self._target)

    def _target(self, x: Any) -> Tensor:
        number = None
        if isinstance(x, Tensor) and (x.node is not None or x.recorded):
            self.nested = self.nested or (self.level != OFF and x.track == 2)
            t = alias(x)
        elif isinstance(x, Tensor) or is_array(x):
            t = Tensor(x)
        else:
            t, number = Tensor(np.asarray(x)), type(x)
        t.track = 2
        self.targets[t] = number
        return t

    def run(self, f: Callable[..., Any]) -> Any:
        with at_level(RECORDING):
            return f(*self.arguments)

    def pull(self, y: Tensor, dy: Any, retain: bool) -> tuple[Any, ...]:
        """The gradients of all arguments, in their structure, for the gradient ``dy`` of ``y``."""
        nested = self.nested or (isinstance(dy, Tensor) and dy.recorded)
        g = dy
        if nested and not isinstance(g, Tensor):
            g = Tensor(g)
        elif not nested and isinstance(g, Tensor):
            g = g.data
        found = {}
        if y.track:
            found = pull_back(y, g, create_graph=nested, retain_graph=retain, stops=self.stops, since=self.since)
        if not nested:
            found = own(found, [g])

        def gradient_of(t: Tensor) -> Any:
            grad = found.get(t if t.node is None else t.node)
            if t not in self.targets:  # a parameter; None where the value does not depend on it
                return grad
            if grad is None:
                grad = array_module(t.data).zeros(t.shape, t.dtype)
                grad = Tensor(grad) if nested else grad
            number = self.targets[t]
            return grad if number is None or nested else number(grad)

        return tuple([mirror(a, gradient_of) for a in self.arguments])

    def plain(self, y: Any, keep: bool = False) -> Any:
        """The value as the caller wants it: tensors inside an outer scope, arrays and numbers otherwise.

        ``keep``: the tape is still needed, so that the arrays must not be written to.
        """
        if isinstance(y, Tensor):
            if self.nested:
                return y
            return y.data[()] if y.ndim == 0 else read_only(y.data) if keep else y.data
        if isinstance(y, dict):
            return {k: self.plain(v, keep) for k, v in y.items()}
        if isinstance(y, tuple | list):
            return same_kind(y, [self.plain(v, keep) for v in y])
        return y


def _has_leaf(x: Any) -> bool:
    if isinstance(x, Structure | Param | float | np.floating):
        return True
    if isinstance(x, Tensor) or is_array(x):
        return is_float(x.dtype)
    if isinstance(x, dict):
        return any(_has_leaf(v) for v in x.values())
    return isinstance(x, list | tuple) and any(_has_leaf(v) for v in x)


def _one_value(y: Any, name: str) -> Tensor:
    if isinstance(y, Tensor):
        if not is_float(y.dtype):
            raise TypeError(f"{name} needs a floating-point value, got dtype {y.dtype}: no gradient flows through integers "
                            "and booleans (comparisons, argmax, counts)")
        return y
    if is_array(y) or isinstance(y, int | float | np.number):
        return Tensor(as_array(y))
    hint = "; did it forget to return?" if y is None else ""
    raise TypeError(f"{name} needs a function with one array or number as its value, got {type(y).__name__}{hint}")


def _scalar_loss(y: Any, name: str) -> Tensor:
    loss = _one_value(y[0] if isinstance(y, tuple) and y else y, name)
    if loss.size != 1:
        raise ValueError(f"{name} needs a function with one number as its value, got shape {loss.shape}: reduce it "
                         "(.sum(), .mean()), or use flux.jacobian or flux.vjp")
    return loss


def _evaluated(name: str, f: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[_Scope, Any]:
    if not callable(f):
        raise TypeError(f"{name}(f, *arguments): the function comes first, got {type(f).__name__}")
    if not arguments:
        raise TypeError(f"{name}(f, *arguments): give at least one argument to differentiate with respect to")
    scope = _Scope(name, arguments)
    return scope, scope.run(f)


def withgradient(f: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """The value of ``f(*arguments)`` and its gradient: ``(value, gradient)``.

    Arguments: models, parameters, floating-point arrays, tensors, floats, and dicts, lists and tuples of them.
    The gradient has the structure of the argument (with several arguments: a tuple of gradients) and its arrays have
    the same dtype. ``f`` may return a tuple: its first entry is differentiated, the whole is the value.
    Raises ValueError when the value has more than one element.
    """
    return _withgradient("withgradient", f, arguments)


def _withgradient(name: str, f: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    scope, y = _evaluated(name, f, arguments)
    loss = _scalar_loss(y, name)
    grads = scope.pull(loss, seed_gradient(loss, None, name), retain=False)
    return scope.plain(y), grads[0] if len(grads) == 1 else grads


def gradient(f: Callable[..., Any], *arguments: Any) -> Any:
    """The gradient of ``f(*arguments)``, a single number: with one argument its gradient, with several a tuple.

    ``gradient(lambda w, b: ((w * 3 + b) ** 2).sum(), np.ones(4), np.zeros(4))`` is a tuple of two arrays;
    ``gradient(lambda m: loss(m(x), y), model)`` has the model's structure: ``g[0].weight``. See ``withgradient``.
    """
    return _withgradient("gradient", f, arguments)[1]


def vjp(f: Callable[..., Any], *arguments: Any) -> tuple[Any, Callable[..., Any]]:
    """``(y, back)``: the value of ``f(*arguments)`` and the function that pulls a gradient of y back.

    ``back(dy)`` is the vector-Jacobian product, with the structure of ``gradient``; it may be called again. With a
    recorded ``dy`` its result is recorded: ``gradient(lambda dy: (back(dy) * v).sum(), dy)`` is the Jacobian times v.
    """
    scope, value = _evaluated("vjp", f, arguments)
    y = _one_value(value, "vjp")

    def back(dy: Any = None) -> Any:
        grads = scope.pull(y, seed_gradient(y, dy, "vjp"), retain=True)
        return grads[0] if len(grads) == 1 else grads

    return scope.plain(y, keep=True), back


def jacobian(f: Callable[..., Any], x: Any) -> Any:
    """The Jacobian of ``f`` at the array ``x``: ``J[i..., j...] = d f(x)[i...] / d x[j...]``, shape ``f(x).shape + x.shape``.

    One backward pass per element of the value.
    """
    return _jacobian("jacobian", f, x)


def hessian(f: Callable[..., Any], x: Any) -> Any:
    """The Hessian of ``f``, a single number, at the array ``x``: ``H[i..., j...]``, shape ``x.shape + x.shape``.

    Recurrent layers are left in the state in which they were.
    """

    def first(t: Any) -> Any:
        g = _withgradient("hessian", f, (t,))[1]
        return t * 0.0 if g is None else g  # None: of a parameter that the value does not depend on

    with undoing():
        return _jacobian("hessian", first, x)


def _jacobian(name: str, f: Callable[..., Any], x: Any) -> Any:
    scope, value = _evaluated(name, f, (x,))
    t = scope.arguments[0]
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}(f, x): x must be one floating-point array, tensor or parameter; for a model use "
                        "flux.vjp, or a function of one of its arrays")
    y = _one_value(value, name)
    xp = array_module(y.data)
    zeros, shape = xp.zeros(t.shape, t.dtype), y.shape + t.shape
    rows = [scope.pull(y, dy, retain=True)[0] for dy in xp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)]
    rows = [zeros if row is None else row for row in rows]  # None: of a parameter that y does not depend on
    if scope.nested:
        return _jacobian_rows(*rows, shape=shape) if rows else Tensor(xp.zeros(shape, t.dtype))
    return xp.stack(rows).reshape(shape) if rows else xp.zeros(shape, t.dtype)


def _stack_rows(*rows: Any, shape: tuple[int, ...]) -> Any:
    return array_module(*rows).stack(rows).reshape(shape)


def _stack_rows_rule(dy: Tensor, shapes: Any) -> tuple[Tensor, ...]:
    rows = dy.reshape(len(shapes), *shapes[0])
    return tuple([rows[i] for i in range(len(shapes))])


_jacobian_rows = operation("jacobian_rows", _stack_rows, rule=_stack_rows_rule)
