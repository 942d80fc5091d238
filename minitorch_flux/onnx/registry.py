"""The table of operators: which function computes which ONNX operator, from which opset on.

A translator is a plain function: the node's inputs are its positional arguments (a missing one is None), its attributes
are keywords under their ONNX names, with the specification's defaults. What ONNX turned from an attribute into an input
of the same name (``axes``, ``split``, ``pads``, ...) is one parameter that takes either. A keyword-only parameter
``node`` receives the node itself. Several outputs are a tuple.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..files import FileError


class OnnxError(FileError):
    """An ONNX file or model that cannot be read."""


class UnsupportedOperator(OnnxError):
    """A node whose operator, or one of whose attributes, this library does not know: says how to supply it."""


@dataclass(frozen=True)
class Operator:
    """A translator and what it says about its inputs."""

    function: Callable[..., Any]
    since: int
    names: tuple[str, ...]  # of the positional parameters
    variadic: str  # the name of *inputs, if it has them
    keywords: frozenset[str]  # what may be given by name
    host: frozenset[str]
    fixed: frozenset[str]

    def parameter(self, position: int) -> str:
        """The name of the parameter that an input goes to."""
        return self.names[position] if position < len(self.names) else self.variadic


TABLE: dict[tuple[str, str], dict[int, Operator]] = {}
"""``{(domain, op_type): {since: operator}}``; the default domain is ``""``."""


def register(
    op_type: str, domain: str = "", *, since: int = 1, host: Iterable[str] = (), fixed: Iterable[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that supplies an operator, or replaces one, for every model that is loaded from now on.

        @flux.onnx.register("Twice", domain="my.domain")
        def twice(x, *, offset=0.0):
            return x * 2 + offset

    The inputs of the node are positional (None where missing), its attributes keywords, strings as ``str``; several
    outputs are a tuple. Inputs are tensors or, as far as they are known on the host, NumPy arrays: this library's
    functions take both. ``since``: the first opset of the domain with this meaning; of several the newest that is not
    newer than the model's holds. ``host``: parameters that are always NumPy arrays, such as shapes. ``fixed``: parameters
    whose stored values do not train, such as running statistics.
    """
    if not isinstance(op_type, str) or not op_type:
        raise TypeError(f"register takes the name of an operator, got {op_type!r}; write @register('Name')")

    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        names = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        variadic = "".join(p.name for p in parameters if p.kind is p.VAR_POSITIONAL)
        keywords = frozenset(p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))
        unknown = {*host, *fixed} - {*names, variadic}
        if unknown:
            raise TypeError(f"register({op_type!r}): the function has no parameter {sorted(unknown)[0]!r}")
        operator = Operator(function, since, names, variadic, keywords, frozenset(host), frozenset(fixed))
        TABLE.setdefault((plain_domain(domain), op_type), {})[since] = operator
        return function

    return keep


def plain_domain(domain: str) -> str:
    """The domain; ``"ai.onnx"`` is the default domain's other name."""
    return "" if domain == "ai.onnx" else domain


def find(domain: str, op_type: str, opset: int) -> Operator | None:
    """The operator for a model of this opset, None where there is none."""
    versions = TABLE.get((domain, op_type), {})
    fitting = [since for since in versions if since <= opset]
    return versions[max(fitting)] if fitting else None


def advice(domain: str, op_type: str) -> str:
    """How to supply an operator."""
    place = f"{op_type!r}, domain={domain!r}" if domain else f"{op_type!r}"
    return (f"supply it before loading: @flux.onnx.register({place}) above a function of the node's inputs, with its "
            "attributes as keywords")
