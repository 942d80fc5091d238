"""explain: what a layer or a function computes, its gradient, where both are written, and what a call costs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autograd import OPERATIONS, Operation, Tensor
from ..backend import is_float
from ..backend.tracers import state as tracing
from ..nn import printing
from ..nn.module import Module, named_buffers, named_parameters
from ..optimisers import Rule
from . import explanation_pages
from .dry_steps import DryStep
from .flop_counts import MOVES, flops
from .followers import shape_of
from .formulas import formulas_of
from .sources import Function, Where, functions_of, operations_of, page_of, plain, where_of
from .summaries import inputs_of
from .writing import write


class Part(NamedTuple):
    """An operation that the explained thing is made of."""

    name: str
    where: Where
    formulas: list[str]
    forward: list[Function]
    backward: list[Function]
    gradient: Where | None  # of the function that makes the gradient


class Call(NamedTuple):
    """A call of an operation at the given shapes: how often, and what all of them take."""

    name: str
    output: Any
    calls: int
    flops: int
    bytes: int
    kernels: tuple[str, ...] = ()  # that run on the CPU at these shapes


class Cost(NamedTuple):
    """What a call takes. ``bytes``: what its operations read and write; ``kept``: what stays for the backward pass."""

    inputs: str
    output: Any
    calls: list[Call]
    flops: int
    backward_flops: int
    bytes: int
    kept: int
    parameters: int

    @property
    def intensity(self) -> float:
        """FLOPs for each byte that is moved: below about 10 the memory is the limit, not the arithmetic."""
        return self.flops / max(self.bytes, 1)


class Explanation:
    """What ``explain`` found: prints as text, and as HTML in a notebook. Its parts are attributes.

    ``title``, ``where``, ``about`` (the docstring), ``formulas`` (of the page of the function itself), ``parts`` (the
    operations, with their formulas and places), ``keywords`` (name, default, value), ``arrays`` (parameters and buffers),
    ``cost`` (None where no shape was given).
    """

    def __init__(self, thing: Any, cost: Cost | None) -> None:
        kind = _kind(thing)
        self.title = _title(thing)
        self.where = _place_of(thing) or where_of(kind)
        self.about = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
        self.cost = cost
        self.keywords = _keywords(thing)
        self.arrays = [(path, tuple(t.shape), t.size) for find in (named_parameters, named_buffers) for path, t in find(thing)
                       ] if isinstance(thing, Module) else []  # fmt: skip
        self.parts = _parts(thing, cost)
        own = plain(thing)
        doc = inspect.getmodule(own).__doc__ if inspect.isfunction(own) else None
        pages = {line for part in self.parts for line in part.formulas}
        self.formulas = [line for line in formulas_of(doc, [own.__name__]) if line not in pages] if doc else []

    def __str__(self) -> str:
        return explanation_pages.text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return explanation_pages.html(self)

    def save(self, path: Any) -> None:
        """Write a file: .html a page, .txt the text."""
        write(path, "explain", {".html": self._repr_html_, ".txt": lambda: f"{self}\n"})


def explain(thing: Any, *shapes: Any, batchsize: int | None = 1, axis: int = 0, dtype: Any = np.float32) -> Explanation:
    """What a layer, a function or an optimiser computes: formula, gradient, keywords, where it is written, what it costs.

    ``print(flux.explain(flux.softmax))``, ``flux.explain(flux.Conv)`` for a class, ``flux.explain(model[0])`` for a layer. With
    the ``shapes`` of a sample, ``batchsize``, ``axis`` and ``dtype`` as for ``flux.summary``, also the operations of a call,
    their FLOPs and bytes: ``flux.explain(model[0], (1, 28, 28))``. Shapes for a function are whole:
    ``flux.explain(flux.matmul, (64, 32), (32, 10))``. Nothing is computed.

    Formulas come from the docstrings of the pages, places from the code itself.

    Raises TypeError for what is no layer, function or optimiser of this library.
    """
    if not callable(thing) and not isinstance(thing, Rule):
        raise TypeError(f"explain takes a layer, a function or an optimiser, got {type(thing).__name__}; print an array to see "
                        "its numbers")
    kind = _kind(thing)
    if not getattr(kind, "__module__", "").startswith("minitorch_flux") and not isinstance(thing, Module):
        raise TypeError("explain knows what this library is made of, and this is not of it: "
                        f"{getattr(thing, '__name__', thing)!r:.60}")
    if not shapes:
        return Explanation(thing, None)
    if inspect.isclass(thing) or isinstance(thing, Rule):
        raise TypeError(f"explain({_title(thing)}, shape): a call has a cost, a class or an optimiser has none; give a layer: "
                        "flux.explain(flux.Dense(64, 10), (64,))")
    inputs = inputs_of("explain", shapes, batchsize if isinstance(thing, Module) else None, axis, dtype)
    return Explanation(thing, _cost(thing, inputs))


def _kind(thing: Any) -> Any:
    """What has the source: the class of a layer, the function behind a wrapper."""
    if inspect.isclass(thing):
        return thing
    own = plain(thing)
    return own if inspect.isfunction(own) else type(thing)


def _title(thing: Any) -> str:
    if isinstance(thing, Module):
        return printing.text(thing)
    if isinstance(thing, Rule):
        return repr(thing)
    return getattr(plain(thing), "__name__", None) or getattr(thing, "name", None) or str(thing)


def _place_of(thing: Any) -> Where | None:
    """Where an operation is made, or the row of an activation is written; None of other things."""
    if hasattr(thing, "_operation"):
        return where_of(thing._f)
    page = page_of(thing) if isinstance(thing, Operation) else None
    return page[1] if page else None


def _keywords(thing: Any) -> list[tuple[str, str, str]]:
    """``(name, default, value)``, the value only where a layer or optimiser has another one than the default."""
    kind = _kind(thing)
    target = kind if inspect.isclass(kind) and kind.__module__.startswith("minitorch_flux.nn") else thing
    if isinstance(thing, Operation) or hasattr(thing, "_operation"):
        return []
    if isinstance(thing, Rule) or (inspect.isclass(thing) and issubclass(thing, Rule)):
        names = [name for name in inspect.get_annotations(kind) if name != "aliases" and hasattr(kind, name)]
        fields = [(name, getattr(kind, name)) for name in names]
        return [(name, repr(default), _other(thing, name, default)) for name, default in fields]
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return []
    return [(p.name, "" if p.default is p.empty else printing.text(p.default), _other(thing, p.name, p.default))
            for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"]  # fmt: skip


def _other(thing: Any, name: str, default: Any) -> str:
    value = getattr(thing, name, default) if isinstance(thing, Module | Rule) else default
    same = value is default or (type(value) is type(default) and bool(np.all(value == default)))
    return "" if same or inspect.isroutine(value) or isinstance(value, Tensor) else printing.text(value)


def _parts(thing: Any, cost: Cost | None) -> list[Part]:
    kind = _kind(thing)
    if isinstance(thing, Rule) or inspect.isclass(kind) and issubclass(kind, Rule):
        return []
    if cost is not None:
        names = {call.name for call in cost.calls if call.name not in MOVES}
        found = [OPERATIONS[name] for name in dict.fromkeys(c.name for c in cost.calls) if name in names]
    else:
        owner = kind if inspect.isclass(kind) else None
        start: Any = kind.__call__ if owner is not None and issubclass(owner, Module) else thing
        found = [op for op in operations_of(start, owner) if op.name not in MOVES or op is start]
    return [part for op in found if (part := _part(op)) is not None]


def _part(op: Operation) -> Part | None:
    page = page_of(op)
    if page is None:
        return None
    doc, where = page
    gradient = op.backward or op.rule
    function = None if gradient is None else gradient.function
    backward = [] if function is None else functions_of(function)
    return Part(op.name, where, formulas_of(doc, [op.name]), functions_of(op.forward), backward,
                None if function is None else where_of(function))


class _Calls(DryStep):
    """A training step on outlines that writes down every call of an operation on the way forward."""

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """Run an operation on outlines, and note it with the kernels that it would launch."""
        launched: dict[str, None] = {}

        def launch(file: Any, name: str, *more: Any) -> bool:
            launched[name] = None
            return True

        before, tracing.launches = tracing.launches, launch
        try:
            arrays, result = super().through(operation, inputs, arrays, static)
        finally:
            tracing.launches = before
        outputs = [a for a in (result if isinstance(result, tuple | list) else [result]) if hasattr(a, "nbytes")]
        if self.here.path != "(loss)" and outputs:
            seen = [a for a in (*arrays, *outputs) if hasattr(a, "nbytes")]
            self.log.append(Call(operation.name, shape_of(outputs[0]), 1, flops(operation.name, arrays, static, outputs),
                                 0 if operation.view else sum(a.nbytes for a in seen), tuple(launched)))
        return arrays, result

    def __init__(self, model: Any, inputs: Sequence[Any]) -> None:
        self.log: list[Call] = []
        super().__init__(model, inputs, None)


def _cost(thing: Any, inputs: Sequence[Any]) -> Cost:
    step = _Calls(thing if isinstance(thing, Module) else _Called(thing), inputs)
    together: dict[tuple[str, Any], Call] = {}
    for call in step.log:
        before = together.get(call[:2], call._replace(calls=0, flops=0, bytes=0))
        together[call[:2]] = before._replace(calls=before.calls + 1, flops=before.flops + call.flops,
                                             bytes=before.bytes + call.bytes)
    calls = list(together.values())
    sizes = step.sizes.values()
    given = ", ".join(f"{tuple(x.shape) if hasattr(x, 'shape') else x[0]}" for x in inputs)
    return Cost(given, step.root.output, calls, sum(c.flops for c in calls), sum(s.backward_flops for s in sizes),
                sum(c.bytes for c in calls), sum(s.activations for s in sizes), sum(s.parameters for s in sizes))


class _Called(Module):
    """A function in the place of a layer."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *xs: Any) -> Any:
        return self.function(*(Tensor(x.data, 2) if is_float(x.dtype) else x for x in xs))  # with gradients for all of them
