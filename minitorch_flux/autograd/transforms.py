"""gradient, withgradient, vjp, jacobian, hessian: functions of functions.

Inside another recording scope the results are themselves recorded tensors, so the transforms nest to any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import array_module, as_array, is_array, is_float
from .operation import _order, operation
from .recording import OFF, RECORDING, at_level, state
from .tensor import Param, Tensor
from .tree import Structure, lift, mirror
from .walk import pull_back, seed_gradient

alias = operation("alias", lambda x: x, rule=lambda dy: dy, view=True)
"""The same numbers as a new place in the tape: where a gradient with respect to a recorded tensor stops."""


class _Scope:
    """One evaluation of a function whose arguments are to be differentiated."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.level = state.level
        self.nested = self.level == RECORDING  # an outer scope records: so must our backward pass
        # What was computed before this call is a constant here, and its tape is not ours to free.
        self.since = next(_order)
        self.targets: list[Tensor] = []
        self.floats: set[int] = set()
        with at_level(RECORDING):
            self.arguments = tuple(self._lift(a) for a in arguments)
        self.stops = frozenset(t.node for t in self.targets if t.node is not None)

    def _lift(self, argument: Any) -> Any:
        if not _has_leaf(argument):
            raise TypeError(f"gradient: an argument of type {type(argument).__name__} holds nothing to differentiate; "
                            "arguments are models, parameters, floating-point arrays, tensors, floats, or dicts, "
                            "lists and tuples of them")
        return lift(argument, self._target)

    def _target(self, x: Any) -> Tensor:
        if isinstance(x, Tensor) and (x.node is not None or x.recorded):
            self.nested = self.nested or (self.level != OFF and x.track == 2)
            t = alias(x)
        elif isinstance(x, Tensor):
            t = Tensor(x.data, track=2)
        elif is_array(x):
            t = Tensor(x, track=2)
        else:
            t = Tensor(np.asarray(x, np.float64), track=2)
            self.floats.add(id(t))
        self.targets.append(t)
        return t

    def run(self, f: Callable[..., Any]) -> Any:
        with at_level(RECORDING):
            return f(*self.arguments)

    def pull(self, y: Tensor, dy: Any, retain: bool) -> tuple[Any, ...]:
        g = dy
        if self.nested and not isinstance(g, Tensor):
            g = Tensor(g)
        elif not self.nested and isinstance(g, Tensor):
            g = g.data
        if y.track == 0:
            found: dict[int, tuple[Any, Any]] = {}
        else:
            found = pull_back(y, g, create_graph=self.nested, retain_graph=retain, stops=self.stops, since=self.since)
        xp = array_module(y.data)

        def gradient_of(t: Tensor) -> Any:
            key = id(t.node) if t.node is not None else id(t)
            if key in found:
                grad = found[key][1]
                return float(grad) if id(t) in self.floats and not self.nested else grad
            if isinstance(t, Param) or t.track == 0:
                return None  # the value does not depend on this parameter, or it is not trainable
            zeros = xp.zeros(t.shape, t.dtype)
            return Tensor(zeros) if self.nested else zeros

        return tuple(mirror(a, gradient_of) for a in self.arguments)

    def plain(self, y: Any) -> Any:
        """The value as the caller wants it: a tensor inside an outer scope, an array or number otherwise."""
        if isinstance(y, Tensor):
            return y if self.nested else (y.data[()] if y.ndim == 0 else y.data)
        if isinstance(y, tuple | list):
            return type(y)(self.plain(v) for v in y)
        return y


def _has_leaf(x: Any) -> bool:
    if isinstance(x, Structure | Param) or type(x) is float:
        return True
    if isinstance(x, Tensor) or is_array(x):
        return is_float(x.dtype)
    if isinstance(x, dict):
        return any(_has_leaf(v) for v in x.values())
    return isinstance(x, list | tuple) and any(_has_leaf(v) for v in x)


def _scalar_loss(y: Any, name: str) -> Tensor:
    loss = y[0] if isinstance(y, tuple) else y
    if not isinstance(loss, Tensor):
        loss = Tensor(as_array(loss))
    if loss.size != 1:
        raise ValueError(f"{name} needs a function with one number as its value, got shape {loss.shape}: reduce it "
                         "(.sum(), .mean()), or use flux.jacobian or flux.vjp")
    return loss


def withgradient(f: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """The value of ``f(*arguments)`` and its gradient: ``(value, gradient)``.

    Arguments: models, parameters, floating-point arrays, tensors, Python floats, and dicts, lists and tuples of them.
    The gradient has the structure of the argument (with several arguments: a tuple of gradients) and its arrays have
    the same dtype. ``f`` may return a tuple: its first entry is differentiated, the whole is the value.
    Raises ValueError when the value has more than one element.
    """
    return _withgradient("withgradient", f, arguments)


def _withgradient(name: str, f: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    if not callable(f):
        raise TypeError(f"{name}(f, *arguments): the function comes first, got {type(f).__name__}")
    if not arguments:
        raise TypeError(f"{name}(f, *arguments): give at least one argument to differentiate with respect to")
    scope = _Scope(arguments)
    y = scope.run(f)
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

    ``back(dy)`` is the vector-Jacobian product, with the structure of ``gradient``; it may be called again.
    """
    scope = _Scope(arguments)
    y = scope.run(f)
    if not isinstance(y, Tensor):
        y = Tensor(as_array(y))

    def back(dy: Any = None) -> Any:
        grads = scope.pull(y, seed_gradient(y, dy, "vjp"), retain=True)
        return grads[0] if len(grads) == 1 else grads

    return scope.plain(y), back


def jacobian(f: Callable[..., Any], x: Any) -> Any:
    """The Jacobian of ``f`` at the array ``x``: ``J[i..., j...] = d f(x)[i...] / d x[j...]``, shape ``f(x).shape + x.shape``.

    One backward pass per element of the value.
    """
    scope = _Scope((x,))
    if len(scope.targets) != 1 or not isinstance(scope.arguments[0], Tensor):
        raise TypeError("jacobian(f, x): x must be one floating-point array or tensor; for a model use "
                        "flux.vjp, or a function of one of its arrays")
    y = scope.run(f)
    if not isinstance(y, Tensor):
        y = Tensor(as_array(y))
    xp = array_module(y.data)
    basis = xp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
    rows = [scope.pull(y, dy, retain=True)[0] for dy in basis]
    shape = y.shape + scope.targets[0].shape
    if scope.nested:
        return _jacobian_rows(*rows, shape=shape)
    return xp.stack(rows).reshape(shape) if rows else xp.zeros(shape, scope.targets[0].dtype)


def _stack_rows(*rows: Any, shape: tuple[int, ...]) -> Any:
    return array_module(*rows).stack(rows).reshape(shape)


def _stack_rows_rule(dy: Tensor, shapes: Any) -> tuple[Tensor, ...]:
    rows = dy.reshape(len(shapes), *shapes[0])
    return tuple(rows[i] for i in range(len(shapes)))


_jacobian_rows = operation("jacobian_rows", _stack_rows, rule=_stack_rows_rule)


def hessian(f: Callable[..., Any], x: Any) -> Any:
    """The Hessian of ``f``, a single number, at the array ``x``: ``H[i..., j...]``, shape ``x.shape + x.shape``."""
    return jacobian(lambda t: gradient(f, t), x)
