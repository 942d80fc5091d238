"""Operation: a differentiable function on tensors; Node: one recorded call of it.

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
import itertools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import ArrayFunction, as_array, is_array, is_float, refuse_complex
from .recording import state
from .tensor import Tensor

_order = itertools.count(1)

OPERATIONS: dict[str, Operation] = {}
"""Every differentiable operation of the library by name."""


class TapeError(RuntimeError):
    """The tape cannot be walked: freed, changed in place, or never recorded."""


class Node:
    """One recorded call: the operation, where its inputs came from, and what its gradient needs."""

    __slots__ = ("__weakref__", "checks", "dtype", "inputs", "n_outputs", "op", "order", "out", "parents", "residuals",
                 "shapes", "static", "versions")

    op: Operation
    parents: list[Any]  # per input: None, a leaf Tensor, a Node, or (Node, output)
    inputs: list[Any] | None  # the saved ones, None elsewhere; None altogether once freed
    out: Any
    residuals: tuple[Any, ...]
    shapes: list[Any] | None
    static: dict[str, Any]
    versions: list[tuple[Tensor, int]]
    checks: list[tuple[Any, int]] | None
    dtype: Any  # of the output, or a tuple of them
    n_outputs: int
    order: int  # later nodes have higher numbers

    def free(self) -> None:
        """Let go of everything saved, and of the tape behind this node."""
        self.inputs = self.shapes = self.checks = self.out = None
        self.residuals = ()
        self.parents = self.versions = []

    def check_saved(self) -> None:
        """Raise when the node is used up, or when a saved value has changed since it was saved."""
        if self.inputs is None:
            raise TapeError(
                f"the tape behind {self.op.name} has been used and freed; call backward(retain_graph=True) the first "
                "time to walk it again"
            )
        for t, version in self.versions:
            if t.version != version:
                raise TapeError(
                    f"{self.op.name} saved a value of shape {t.shape} for its gradient that was changed in place since "
                    f"(version {t.version}, saved at {version}); finish the backward pass before updating or loading"
                )
        if self.checks is not None:
            for a, checksum in self.checks:
                if _checksum(a) != checksum:
                    raise TapeError(
                        f"{self.op.name} saved an array of shape {a.shape} for its gradient that somebody wrote to "
                        "since; pass a copy, or finish the backward pass first"
                    )


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
        self._plain = outputs == 1 and not self.residuals
        plain = forward.reference if isinstance(forward, ArrayFunction) else forward
        self._signature = inspect.signature(plain).parameters
        self._positions = {n: i for i, (n, p) in enumerate(self._signature.items()) if p.kind is not p.KEYWORD_ONLY}
        backward, rule = backward or gradient, rule or gradient
        self.backward = _Rule(self, backward) if backward else None
        self.rule = _Rule(self, rule) if rule else None
        rules = [r for r in (self.backward, self.rule) if r]
        self.differentiable = bool(rules)
        self._saves = {i for r in rules for i in r.saves}
        self._saves_all = any(r.saves_all for r in rules)
        self._saves_out = any(r.saves_out for r in rules)
        self._saves_shapes = any(r.saves_shapes for r in rules)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

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
        result = self.forward(*arrays, **static)
        if self._plain:
            y = result if type(result) is np.ndarray else _as_output(result)
            t = Tensor.__new__(Tensor)
            t.data = y
            t.node = t.grad = t.base = None
            t.output = t.version = 0
            t.track = 0
            if self.view and isinstance(inputs[0], Tensor):
                x = inputs[0]
                t.base = _owner(x)
            if recorded and self.differentiable and is_float(y.dtype):
                t.track = 2
                t.node = self._record(inputs, arrays, static, (y,), (), level)
            return t
        n = len(result) if self.outputs is None else self.outputs
        outs = [_as_output(y) for y in result[:n]]
        tensors = tuple(Tensor(y) for y in outs)
        if self.view and isinstance(inputs[0], Tensor):
            for t in tensors:
                t.base = _owner(inputs[0])
        if recorded and self.differentiable and any(is_float(y.dtype) for y in outs):
            node = self._record(inputs, arrays, static, tuple(outs), tuple(result[n:]), level)
            for i, t in enumerate(tensors):
                if is_float(t.data.dtype):
                    t.track, t.node, t.output = 2, node, i
        return tensors[0] if self.outputs == 1 else tensors

    def _record(self, inputs: Any, arrays: Any, static: Any, outs: Any, residuals: Any, level: int) -> Node:
        node = Node()
        node.op = self
        node.order = next(_order)
        node.static = static
        kept: list[Any] = [None] * len(inputs)
        node.versions = versions = []
        for i in range(len(inputs)) if self._saves_all else self._saves:
            if i < len(kept):
                x = inputs[i]
                if isinstance(x, Tensor):
                    leaf = x if x.base is None else x.base
                    if leaf.node is None:
                        versions.append((leaf, leaf.version))
                    kept[i] = x
                else:
                    kept[i] = arrays[i]
        node.inputs = kept
        node.parents = [_source(x) if isinstance(x, Tensor) and x.track + level > 2 else None for x in inputs]
        node.checks = node.shapes = None
        if self._saves_shapes:
            node.shapes = [(getattr(a, "shape", ()), getattr(a, "dtype", None)) for a in arrays]
        node.n_outputs = len(outs)
        node.out = outs if self._saves_out else None
        node.dtype = outs[0].dtype if len(outs) == 1 else tuple(y.dtype for y in outs)
        node.residuals = residuals
        if state.debug:
            saved: list[Any] = [a for i, a in enumerate(arrays) if kept[i] is not None]
            saved += list(node.out or ()) + list(residuals)
            node.checks = [(a, _checksum(a)) for a in saved if is_array(a)]
        return node

    def pull(self, node: Node, dy: Any, create_graph: bool) -> tuple[Any, ...]:
        """The gradients of the node's inputs: arrays, or tensors when the backward pass is recorded."""
        node.check_saved()
        needs = tuple([p is not None for p in node.parents])
        if self.backward is not None and not create_graph:
            grads = self.backward.call(node, dy, needs, tensors=False)
        elif self.rule is not None:
            if not create_graph:
                dy = _wrap(dy)
            grads = self.rule.call(node, dy, needs, tensors=True)
            if not create_graph:
                grads = tuple(g.data if isinstance(g, Tensor) else g for g in _tuple(grads))
        else:
            raise TapeError(f"{self.name} has no second derivative: its backward pass cannot be recorded")
        grads = _tuple(grads)
        if len(grads) != len(needs):
            raise TapeError(f"the gradient of {self.name} returned {len(grads)} values for {len(needs)} inputs")
        return grads


class _Rule:
    """A gradient function and where each of its parameters comes from."""

    def __init__(self, op: Operation, function: Callable[..., Any]) -> None:
        self.function, self.op = function, op
        plain = function.reference if isinstance(function, ArrayFunction) else function
        self.saves: set[int] = set()
        self.saves_all = self.saves_out = self.saves_shapes = False
        self.plan: list[tuple[str, Any]] = []
        for name in inspect.signature(plain).parameters:
            stem, _, suffix = name.rpartition("_")
            if name in ("dy", "needs", "out", "inputs", "shapes"):
                self.plan.append((name, None))
                self.saves_out |= name == "out"
                self.saves_all |= name == "inputs"
                self.saves_shapes |= name == "shapes"
            elif name in op.residuals:
                self.plan.append(("residual", op.residuals.index(name)))
            elif name in op._positions:
                self.plan.append(("value", name))
                self.saves.add(op._positions[name])
            elif suffix in ("shape", "dtype") and stem in op._positions:
                self.plan.append((suffix, op._positions[stem]))
                self.saves_shapes = True
            else:
                self.plan.append(("static", name))

    def call(self, node: Node, dy: Any, needs: tuple[bool, ...], tensors: bool) -> Any:
        values: list[Any] = []
        inputs = node.inputs or ()
        for kind, key in self.plan:
            if kind == "dy":
                values.append(dy)
            elif kind == "value":
                i = self.op._positions[key]
                if i < len(inputs):
                    values.append(_saved(inputs[i], tensors))
                else:
                    values.append(self._static(node, key))
            elif kind == "out":
                assert node.out is not None
                outs = tuple(_out_tensor(node, i) for i in range(node.n_outputs)) if tensors else node.out
                values.append(outs[0] if len(outs) == 1 else outs)
            elif kind == "needs":
                values.append(needs)
            elif kind == "shape":
                values.append(node.shapes[key][0])  # type: ignore[index]
            elif kind == "dtype":
                values.append(node.shapes[key][1])  # type: ignore[index]
            elif kind == "residual":
                values.append(node.residuals[key])
            elif kind == "inputs":
                values.append(tuple(_saved(x, tensors) for x in inputs))
            elif kind == "shapes":
                values.append(tuple(shape for shape, _ in node.shapes))  # type: ignore[union-attr]
            else:
                values.append(self._static(node, key))
        return self.function(*values)

    def _static(self, node: Node, name: str) -> Any:
        if name in node.static:
            return node.static[name]
        parameter = self.op._signature.get(name)
        if parameter is None or parameter.default is parameter.empty:
            raise TapeError(f"the gradient of {self.op.name} asks for {name!r}, which its forward does not know")
        return parameter.default


def _source(x: Tensor) -> Any:
    """Where a recorded tensor comes from: itself for a leaf, its node, or its node and output."""
    node = x.node
    if node is None:
        return x
    return node if node.n_outputs == 1 else (node, x.output)


def operation(name: str, forward: Callable[..., Any], **keywords: Any) -> Operation:
    """Make a differentiable operation: ``operation("exp", exp_forward, rule=lambda dy, out: dy * out)``."""
    return Operation(name, forward, **keywords)


def _owner(x: Tensor) -> Tensor | None:
    """The leaf whose memory a view of ``x`` shares, if any."""
    return x.base if x.base is not None else x if x.node is None else None


def _plain_input(x: Any, name: str) -> Any:
    if x is None or type(x) in (float, int, bool):
        return x
    if isinstance(x, np.generic):  # a NumPy scalar counts as a Python scalar: it never widens a dtype
        return x.item()
    if not is_array(x):
        x = as_array(x)
    if x.dtype.kind == "c":
        refuse_complex(x.dtype, name)
    return x


def _as_output(y: Any) -> Any:
    return y if is_array(y) else np.asarray(y)


def _tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _wrap(dy: Any) -> Any:
    if isinstance(dy, tuple):
        return tuple(None if d is None else Tensor(d) for d in dy)
    return Tensor(dy)


def _saved(x: Any, tensors: bool) -> Any:
    if isinstance(x, Tensor):
        return x if tensors else x.data
    return Tensor(x) if tensors and is_array(x) else x


def _out_tensor(node: Node, i: int) -> Tensor:
    t = Tensor(node.out[i])
    if is_float(t.dtype):
        t.track, t.node, t.output = 2, node, i
    return t


def _checksum(a: Any) -> int:
    host = a if isinstance(a, np.ndarray) else a.get()
    return zlib.crc32(np.ascontiguousarray(host).view(np.uint8).reshape(-1).data) if host.size else 0
