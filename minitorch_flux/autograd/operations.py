"""Operation: a differentiable function on tensors.

An operation ties a forward function on plain arrays to its gradient. The gradient is written once or twice:

* ``backward`` works on plain arrays (a reference or a kernel): used by an ordinary backward pass;
* ``rule`` is the same mathematics in differentiable operations: used when the backward pass is itself recorded, and
  for the ordinary pass where there is no ``backward``;
* ``gradient`` stands for both where one text, in operators, serves arrays and tensors alike.

They say *by the names of their parameters* what the tape must keep, so nothing else is kept alive::

    dy              the gradient that comes in (a tuple for several outputs, with None where nothing comes in)
    x, w, ...       a positional parameter of ``forward``: that input is saved
    x_shape         only its shape;  x_dtype: only its dtype
    out             the output is saved
    axis, ...       a keyword of the call, or its default
    needs           a tuple of bools: which inputs want a gradient at all
    inputs, shapes  of a ``forward(*xs)``: all inputs, or only their shapes
    <residual>      a named extra value that ``forward`` returns after its output

They return one gradient, or a tuple with one per input (None where there is none).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import (
    PLAIN_DTYPES,
    ArrayFunction,
    array_module,
    as_array,
    is_array,
    is_float,
    is_number,
    is_view,
    read_only,
    refuse_complex,
)
from ..backend.tracers import is_traced
from .node import Node, TapeError, checksum_of, next_order
from .recording import state
from .tensors import Tensor

OPERATIONS: dict[str, Operation] = {}
"""Every differentiable operation of the library by name."""

__all__ = ["OPERATIONS", "Operation", "TapeError", "operation"]


class Operation:
    """A differentiable function on tensors; see the head of this file.

    ``op(*inputs, **static)``: the inputs are tensors, arrays, numbers or None; the result is a Tensor (a tuple of them
    for several outputs). The call is recorded where one of the inputs is.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        *,
        backward: Callable[..., Any] | None = None,
        rule: Callable[..., Any] | None = None,
        gradient: Callable[..., Any] | None = None,
        residuals: Sequence[str] = (),
        outputs: int | None = 1,
        view: bool = False,
    ) -> None:
        if name in OPERATIONS:
            raise ValueError(f"there are two operations called {name!r}")
        OPERATIONS[name] = self
        self.name, self.forward = name, forward
        self.residuals, self.outputs, self.view = tuple(residuals), outputs, view
        self.signature = _signature(forward)
        self.positions = {n: i for i, (n, p) in enumerate(self.signature.items()) if p.kind is not p.KEYWORD_ONLY}
        backward, rule = backward or gradient, rule or gradient
        self.backward = _Gradient(self, backward, tensors=False) if backward else None
        self.rule = _Gradient(self, rule, tensors=True) if rule else None
        gradients = [g for g in (self.backward, self.rule) if g]
        self.differentiable = bool(gradients)
        self._saves = sorted({i for g in gradients for i in g.saves})
        self._saves_all = any(g.saves_all for g in gradients)
        self._saves_out = any(g.saves_out for g in gradients)
        self._saves_shapes = any(g.saves_shapes for g in gradients)
        self._saves_types = any(g.saves_types for g in gradients)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

    def __reduce__(self) -> Any:  # a model that holds an operation can be copied and pickled: by its name
        return _called, (self.name,)

    def __call__(self, *inputs: Any, **static: Any) -> Any:
        level = state.level
        recorded = False
        arrays = []
        for x in inputs:
            if isinstance(x, Tensor):
                if x.track + level > 2:
                    recorded = True
                arrays.append(x.data)
            else:
                arrays.append(_plain_input(x, self.name))
        if (through := state.through) is None:
            result = self.forward(*arrays, **static)
        else:
            arrays, result = through(self, inputs, arrays, static)
        if self.outputs != 1:
            return self._outputs(result, inputs, arrays, static, recorded, level)
        residuals: Sequence[Any] = ()
        if self.residuals:
            result, *residuals = result
        t = Tensor.__new__(Tensor)  # without __init__: this is the quickest way, and results need no checks
        t.data = y = result if type(result) is np.ndarray else _as_output(result)
        t.node = t.grad = t.base = None
        t.output = t.version = t.track = 0
        if recorded and self.differentiable and (y.dtype.kind == "f" or is_float(y.dtype)):
            t.track = 2
            t.node = self._record(inputs, arrays, static, (y,), residuals, level)
        if self.view:
            _share(t, inputs[0])
        return t

    def _outputs(self, result: Any, inputs: Any, arrays: Any, static: Any, recorded: bool, level: int) -> Any:
        """The tensors of an operation with several outputs."""
        n = len(result) if self.outputs is None else self.outputs
        outs = tuple([_as_output(y) for y in result[:n]])
        tensors = tuple([Tensor(y) for y in outs])
        if recorded and self.differentiable and any(is_float(y.dtype) for y in outs):
            node = self._record(inputs, arrays, static, outs, result[n:], level)
            for i, t in enumerate(tensors):
                if is_float(t.data.dtype):
                    t.track, t.node, t.output = 2, node, i
        if self.view:
            for t in tensors:
                _share(t, inputs[0])
        return tensors

    def _record(self, inputs: Any, arrays: Any, static: Any, outs: Any, residuals: Any, level: int) -> Node:
        node = Node()
        node.op, node.order, node.static, node.residuals = self, next_order(), static, residuals
        node.dtypes = (outs[0].dtype,) if len(outs) == 1 else tuple([y.dtype for y in outs])
        node.out = outs if self._saves_out else None
        node.shapes = [getattr(a, "shape", ()) for a in arrays] if self._saves_shapes else None
        node.types = [getattr(a, "dtype", None) for a in arrays] if self._saves_types else None
        node.parents = [source(x) if isinstance(x, Tensor) and x.track + level > 2 else None for x in inputs]
        kept: list[Any] = [None] * len(inputs)
        versions = []
        for i in range(len(inputs)) if self._saves_all else self._saves:
            if i < len(inputs):
                x = kept[i] = inputs[i]
                if isinstance(x, Tensor):
                    leaf = x if x.base is None else x.base
                    if leaf.node is None:
                        versions.append((leaf, leaf.version))
                else:
                    kept[i] = arrays[i]
        node.inputs, node.versions = kept, versions
        node.checks = _checks(node, arrays) if state.debug else None
        return node

    def pull(self, node: Node, dy: Any, create_graph: bool) -> tuple[Any, ...]:
        """The gradients of the node's inputs: arrays, or tensors when the backward pass is recorded."""
        node.check_saved()
        if self.backward is not None and not create_graph:
            grads = self.backward(node, dy)
        elif self.rule is None:
            raise TapeError(f"{self.name} has no second derivative: its backward pass cannot be recorded")
        elif create_graph:
            grads = self.rule(node, dy)
        else:
            grads = self.rule(node, tuple(map(_wrap, dy)) if isinstance(dy, tuple) else _wrap(dy))
            grads = tuple([g.data if isinstance(g, Tensor) else g for g in as_tuple(grads)])
        if type(grads) is not tuple:
            grads = as_tuple(grads)
        if len(grads) != len(node.parents):
            raise TapeError(f"the gradient of {self.name} returned {len(grads)} values for {len(node.parents)} inputs")
        return grads


class _Gradient:
    """A gradient function, called with what the names of its parameters ask of the node.

    ``tensors``: whether it works on tensors (a ``rule``) or on plain arrays (a ``backward``).
    """

    def __init__(self, op: Operation, function: Callable[..., Any], tensors: bool) -> None:
        self.op, self.function = op, function
        self.value = _as_tensor if tensors else _as_array
        self.saves: set[int] = set()
        self.saves_all = self.saves_out = self.saves_shapes = self.saves_types = False
        self.getters = [self._getter(name) for name in _signature(function)]

    def __call__(self, node: Node, dy: Any) -> Any:
        return self.function(*[get(node, dy) for get in self.getters])

    def _getter(self, name: str) -> Callable[[Node, Any], Any]:
        """Where the parameter ``name`` comes from: a function of the node and the incoming gradient."""
        stem, _, suffix = name.rpartition("_")
        positions, value = self.op.positions, self.value
        if name == "dy":
            return lambda node, dy: dy
        if name == "needs":
            return lambda node, dy: tuple([p is not None for p in node.parents])
        if name == "out":
            self.saves_out = True
            return self._out
        if name == "inputs":
            self.saves_all = True
            return lambda node, dy: tuple([value(x) for x in node.inputs or ()])
        if name == "shapes":
            self.saves_shapes = True
            return lambda node, dy: tuple(node.shapes or ())
        if name in self.op.residuals:
            k = self.op.residuals.index(name)
            return lambda node, dy: node.residuals[k]
        if name in positions:
            i = positions[name]
            self.saves.add(i)
            return lambda node, dy: value(node.inputs[i]) if i < len(node.inputs) else self._static(node, name)  # type: ignore
        if stem in positions and suffix == "shape":
            i = positions[stem]
            if stem != "dy" and stem in _signature(self.function):  # the input is saved anyway
                return lambda node, dy: getattr(node.inputs[i], "shape", ())  # type: ignore[index]
            self.saves_shapes = True
            return lambda node, dy: node.shapes[i]  # type: ignore[index]
        if stem in positions and suffix == "dtype":
            i, self.saves_types = positions[stem], True
            return lambda node, dy: node.types[i]  # type: ignore[index]
        return lambda node, dy: self._static(node, name)

    def _out(self, node: Node, dy: Any) -> Any:
        outs: tuple[Any, ...] = node.out or ()
        if self.value is _as_tensor:
            outs = tuple([_output_tensor(node, i) for i in range(len(outs))])
        return outs[0] if len(outs) == 1 else outs

    def _static(self, node: Node, name: str) -> Any:
        """A keyword of the call, or its default."""
        if name in node.static:
            return node.static[name]
        parameter = self.op.signature.get(name)
        if parameter is None or parameter.default is parameter.empty:
            raise TapeError(f"the gradient of {self.op.name} asks for {name!r}, which its forward does not know")
        return parameter.default


def _called(name: str) -> Operation:
    return OPERATIONS[name]


def operation(name: str, forward: Callable[..., Any], **keywords: Any) -> Operation:
    """Make a differentiable operation: ``operation("exp", exp_forward, rule=lambda dy, out: dy * out)``."""
    return Operation(name, forward, **keywords)


def source(x: Tensor) -> Any:
    """Where a recorded tensor comes from: itself for a leaf, its node, or its node and output."""
    node = x.node
    if node is None:
        return x
    return (node, x.output) if x.output else node


def as_tuple(x: Any) -> tuple[Any, ...]:
    """What a gradient function returned, one value per input."""
    return x if isinstance(x, tuple) else (x,)


def _signature(function: Callable[..., Any]) -> Any:
    return inspect.signature(function.reference if isinstance(function, ArrayFunction) else function).parameters


def _share(t: Tensor, x: Any) -> None:
    """Remember whose memory a view of ``x`` is, so that writes to that leaf are noticed.

    A view that leaves the tape must not be written to when the tape may still need its memory.
    """
    if isinstance(x, Tensor) and is_view(t.data, x.data):
        t.base = x.base if x.base is not None else x if x.node is None else None
        if t.base is None and t.node is None:
            t.data = read_only(t.data)


def _plain_input(x: Any, name: str) -> Any:
    if type(x) is np.ndarray and x.dtype in PLAIN_DTYPES:
        return x
    if x is None or type(x) in (float, int, bool):
        return x
    if isinstance(x, np.generic) and is_number(x.dtype) and x.dtype.kind != "c":
        return x.item()  # a NumPy scalar counts as a Python scalar: it never widens a dtype
    if is_traced(x) and not is_array(x):  # the same of a captured step
        return x.item()
    x = as_array(x)
    refuse_complex(x.dtype, name)
    return x


def _as_output(y: Any) -> Any:
    return y if is_array(y) else array_module(y).asarray(y)


def _as_array(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _as_tensor(x: Any) -> Any:
    return Tensor(x) if is_array(x) else x


def _wrap(dy: Any) -> Any:
    return None if dy is None else Tensor(dy)


def _output_tensor(node: Node, i: int) -> Tensor:
    t = Tensor(node.out[i])  # type: ignore[index]
    if is_float(t.dtype):
        t.track, t.node, t.output = 2, node, i
    return t


def _checks(node: Node, arrays: Any) -> list[tuple[Any, Any, int]]:
    """Checksums of everything that a node saves; see ``debug``."""
    saved = [(x, a) for x, a in zip(node.inputs or (), arrays, strict=True) if x is not None]
    saved += [(None, a) for a in (*(node.out or ()), *node.residuals)]
    return [(holder, a, checksum_of(a)) for holder, a in saved if is_array(a)]
