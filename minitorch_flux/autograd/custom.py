"""custom_gradient: a user's own function with a gradient written by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..backend import as_array, is_float
from .operation import Node, TapeError, _order, _source, _tuple
from .recording import state
from .tensor import Tensor


class _Custom:
    """The operation behind one call of a decorated function."""

    def __init__(self, name: str, back: Callable[..., Any], shapes: tuple[Any, ...]) -> None:
        self.name, self.back, self.shapes = name, back, shapes

    def pull(self, node: Node, dy: Any, create_graph: bool) -> tuple[Any, ...]:
        node.check_saved()
        grads = _tuple(self.back(dy if create_graph else Tensor(dy)))
        if len(grads) != len(self.shapes):
            raise TapeError(f"custom_gradient {self.name}: backward returned {len(grads)} gradients for "
                            f"{len(self.shapes)} inputs; return one per input, None where there is none")
        checked = []
        for i, (g, shape) in enumerate(zip(grads, self.shapes, strict=True)):
            if g is None:
                checked.append(None)
                continue
            if create_graph and not (isinstance(g, Tensor) and g.track):
                raise TapeError(f"custom_gradient {self.name}: a second derivative needs a backward written in "
                                f"minitorch_flux functions of dy; gradient {i} is not recorded")
            a = g.data if isinstance(g, Tensor) else as_array(g)
            if a.shape != shape:
                raise TapeError(f"custom_gradient {self.name}: gradient {i} has shape {a.shape}, its input {shape}")
            checked.append(g if create_graph else a)
        return tuple(checked)


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for a function that returns ``(value, backward)``: the value and its own gradient.

    ``backward(dy)`` gives the gradient with respect to the input, a tuple with several inputs (None: no gradient).
    Written in functions of this library it is itself differentiable::

        @flux.custom_gradient
        def clipped_exp(x):
            y = flux.exp(flux.clip(x, -10, 10))
            return y, lambda dy: dy * y

    Positional arguments are the differentiable inputs, keywords pass through.
    Raises TapeError when the number or the shapes of the gradients do not fit the inputs.
    """

    @functools.wraps(f)
    def wrapper(*inputs: Any, **keywords: Any) -> Tensor:
        tensors = tuple(x if isinstance(x, Tensor) else Tensor(as_array(x)) for x in inputs)
        value, back = f(*tensors, **keywords)
        y = Tensor(value.data if isinstance(value, Tensor) else as_array(value))
        level = state.level
        if not (any(t.track + level > 2 for t in tensors) and is_float(y.dtype)):
            return y
        node = Node()
        node.op = _Custom(f.__name__, back, tuple(t.shape for t in tensors))  # type: ignore[assignment]
        node.order = next(_order)
        node.static, node.residuals, node.versions, node.checks = {}, (), [], None
        node.shapes = node.out = None
        node.inputs = []
        node.parents = [_source(t) if t.track + level > 2 else None for t in tensors]
        node.n_outputs, node.dtype = 1, y.dtype
        y.track, y.node = 2, node
        return y

    return wrapper
