"""custom_gradient: a user's own function with a gradient written by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..backend import as_array, is_float
from .node import Node, TapeError, next_order
from .operations import as_tuple, source
from .recording import state
from .tensors import Tensor


class _Custom:
    """The operation behind a decorated function. The backward of each call is what its node saves."""

    def __init__(self, name: str) -> None:
        self.name = name

    def pull(self, node: Node, dy: Any, create_graph: bool) -> tuple[Any, ...]:
        """The gradients of the inputs, checked."""
        node.check_saved()
        shapes = node.shapes or ()
        grads = as_tuple(node.residuals[0](dy if create_graph else Tensor(dy)))
        if len(grads) != len(shapes):
            raise TapeError(f"custom_gradient {self.name}: backward returned {len(grads)} gradients for "
                            f"{len(shapes)} inputs; return one per input, None where there is none")
        return tuple([self._checked(i, g, shape, create_graph) for i, (g, shape) in enumerate(zip(grads, shapes, strict=True))])

    def _checked(self, i: int, g: Any, shape: Any, create_graph: bool) -> Any:
        if g is None:
            return None
        if create_graph and not isinstance(g, Tensor):
            raise TapeError(f"custom_gradient {self.name}: a second derivative needs a backward written in "
                            f"minitorch_flux functions of dy; gradient {i} is not a Tensor but a {type(g).__name__}")
        a = g.data if isinstance(g, Tensor) else as_array(g)
        if a.shape != shape:
            raise TapeError(f"custom_gradient {self.name}: gradient {i} has shape {a.shape}, its input {shape}")
        return g if create_graph else a.copy()  # the function may keep what it returned


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for a function that returns ``(value, backward)``: the value and its own gradient.

    ``backward(dy)`` gives the gradient with respect to the input, a tuple with several inputs (None: no gradient).
    Written in functions of this library it is itself differentiable::

        @flux.custom_gradient
        def clipped_exp(x):
            y = flux.exp(flux.clip(x, -10, 10))
            return y, lambda dy: dy * y

    Positional arguments are the differentiable inputs, keywords pass through; what else the function uses is a constant.
    Raises TypeError where the function does not return such a pair, and TapeError when the number or the shapes of the
    gradients do not fit the inputs.
    """

    op = _Custom(f.__name__)

    @functools.wraps(f)
    def wrapper(*inputs: Any, **keywords: Any) -> Tensor:
        tensors = tuple(x if isinstance(x, Tensor) else Tensor(as_array(x)) for x in inputs)
        pair = f(*tensors, **keywords)
        if not (isinstance(pair, tuple) and len(pair) == 2 and callable(pair[1])):
            raise TypeError(f"custom_gradient {f.__name__}: the function must return a pair (value, backward), where "
                            f"backward(dy) gives the gradient; it returned {_described(pair)}")
        value, back = pair
        y = Tensor(value.data if isinstance(value, Tensor) else as_array(value))
        level = state.level
        if not (any(t.track + level > 2 for t in tensors) and is_float(y.dtype)):
            return y
        node = Node()
        node.op, node.order, node.static, node.residuals = op, next_order(), {}, (back,)
        node.dtypes, node.shapes = (y.dtype,), [t.shape for t in tensors]
        node.parents = [source(t) if t.track + level > 2 else None for t in tensors]
        node.inputs = node.versions = ()
        node.types = node.out = node.checks = None
        y.track, y.node = 2, node
        return y

    return wrapper


def _described(x: Any) -> str:
    kind = type(x).__name__
    return f"a tuple of {len(x)}" if isinstance(x, tuple) and len(x) != 2 else f"a {kind}"
