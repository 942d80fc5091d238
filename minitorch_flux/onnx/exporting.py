"""The table of operations for writing: how each operation of this library is written as ONNX nodes.

A rule is a plain function ``rule(g, *inputs, **keywords)`` of the operation's own inputs and keywords. Its inputs are
``Value``s (numbers and None as they are), with arithmetic that writes nodes; ``g`` is the ``GraphWriter``, whose
``g.node("Relu", x)`` writes any node. It returns the value of the output, a tuple for several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .tracing import ExportError


class Rule(NamedTuple):
    """How an operation is written; ``varying``: it takes keywords that depend on dynamic lengths."""

    function: Callable[..., Any]
    varying: bool


RULES: dict[str, Rule] = {}


def register_export(*operations: str, varying: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that says how an operation is written, or replaces what was said, in every model saved from now on.

        @flux.onnx.register_export("clipped_exp")
        def clipped_exp(g, x, *, limit=10.0):
            return g.node("Exp", g.node("Min", x, g.constant(limit, x.dtype)))

    ``operations``: their names, as in ``operation("clipped_exp", ...)``. The function is called with the writer of the graph
    (``GraphWriter``), the inputs of the operation, as ``Value``s with a ``shape`` and a ``dtype`` (numbers and None as they
    are), and its keywords. It returns a Value, or a tuple of them for several outputs. Values know ``+ - * / **``,
    comparisons and ``array``, their numbers where these do not depend on the model's input.
    ``varying``: the function takes keywords that differ with the lengths of dynamic axes, as ``Varying``.
    """
    if not operations or not all(isinstance(name, str) and name for name in operations):
        raise TypeError(f"register_export takes names of operations, got {operations!r}; write @register_export('name')")

    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in operations:
            RULES[name] = Rule(function, varying)
        return function

    return keep


def rule_of(name: str, path: str) -> Rule:
    """The rule of an operation in the layer at ``path``. Raises ExportError that says how to supply it."""
    if name in RULES:
        return RULES[name]
    place = f"layer {path}" if path else "the model"
    raise ExportError(f"{place}: the operation {name!r} has no form in ONNX here; supply one before saving: "
                      f"@flux.onnx.register_export({name!r}) above a function of (g, *inputs, **keywords) that returns "
                      "g.node(...)")
