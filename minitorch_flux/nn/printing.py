"""How layers print: as the Python that rebuilds them, with sizes beside.

    Chain(
      Conv((3, 3), 1, 8, relu, pad=1),   # 80 parameters
      MaxPool((2, 2)),
      flatten,
      Dense(1568, 10),                   # 15_690 parameters
    )  # Total: 4 arrays, 15_770 parameters, 61.602 KiB.

The arguments come from the signature of ``__init__``: a layer keeps each argument as the attribute of the same name, and
an argument that has its default is left out. A layer for which this is not the whole story defines ``_arguments``.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import array_module, is_array, is_outline
from .initialisers import Initialiser
from .module import Module, _named
from .state_dicts import is_saved


class _Unknown:
    """An argument that a module did not keep: prints as ``...``."""

    def __repr__(self) -> str:
        return "..."


def arguments(module: Module) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments that rebuild ``module``, without those that have their default."""
    own = getattr(module, "_arguments", None)
    if own is not None:
        return own()
    parameters = inspect.signature(type(module).__init__).parameters.values()
    more = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL and _kept(module, p)]  # so all before it are needed
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    by_name = False  # once a default is left out, what follows needs its name
    for p in list(parameters)[1:]:
        value = _kept(module, p)
        if p.kind is p.VAR_POSITIONAL:
            positional += value
        elif p.kind is p.VAR_KEYWORD:
            keywords.update(value)
        elif p.default is not p.empty and _same(value, p.default) and (p.kind is p.KEYWORD_ONLY or not more):
            by_name = True
        elif p.kind is p.KEYWORD_ONLY or (by_name and not more):
            keywords[p.name] = value
        else:
            positional.append(value)
    return positional, keywords


def _kept(module: Module, p: inspect.Parameter) -> Any:
    """The argument for the parameter ``p`` of a module's ``__init__``, from the attribute of the same name."""
    attributes = vars(module)
    if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
        kind: Any = list | tuple if p.kind is p.VAR_POSITIONAL else dict
        value = attributes.get(p.name, ())
        return value if isinstance(value, kind) else kind()
    if p.name in attributes:
        value = attributes[p.name]
        if isinstance(p.default, bool) and (value is None or isinstance(value, Tensor)):
            return value is not None  # bias=True is kept as the parameter itself, bias=False as None
        return value
    if isinstance(getattr(type(module), p.name, None), property):
        return getattr(module, p.name)
    return _Unknown() if p.default is p.empty else p.default


def _same(a: Any, b: Any) -> bool:
    """Whether two arguments are equal; arrays and layers only where they are the same."""
    if a is b:
        return True
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Module | Tensor | dict) or is_array(a):
        return False
    return type(a) is type(b) and ((a == b) is True or ((a != a) is True and (b != b) is True))


def text(value: Any) -> str:
    """An argument as Python text: a function by its name, a module in its own form without comments."""
    if isinstance(value, Module):
        return _call(value)
    if isinstance(value, list | tuple):
        body = ", ".join(map(text, value))
        if isinstance(value, list):
            return f"[{body}]"
        return f"({body},)" if len(value) == 1 else f"({body})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {text(v)}" for k, v in value.items()) + "}"
    if is_array(value) or isinstance(value, Tensor):
        return f"<array {value.shape}>"
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, functools.partial):
        given = [text(v) for v in value.args] + [f"{k}={text(v)}" for k, v in value.keywords.items()]
        return f"partial({', '.join([text(value.func), *given])})"
    if isinstance(value, Initialiser):
        return repr(value)  # its settings, too
    name = getattr(value, "__name__", None) or getattr(value, "name", None)
    return name if callable(value) and isinstance(name, str) else repr(value)


@reprlib.recursive_repr("...")
def _call(module: Module) -> str:
    positional, keywords = arguments(module)
    parts = [text(v) for v in positional] + [f"{k}={text(v)}" for k, v in keywords.items()]
    return f"{type(module).__name__}({', '.join(parts)})"


def _lines(value: Any, prefix: str, depth: int, comma: str) -> list[tuple[str, str]]:
    """``(code, comment)`` per line: containers, and what holds layers and is long, are unfolded."""
    indent = "  " * depth
    line = f"{indent}{prefix}{text(value)}{comma}"
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Module):
        positional, keywords = arguments(value)
        parts = [("", v) for v in positional] + [(f"{k}=", v) for k, v in keywords.items()]
    elif isinstance(value, list | tuple):
        parts = [("", v) for v in value]
    unfold = (isinstance(value, Module) and value._indexed) or (len(line) > LONG and any(_holds(v) for _, v in parts))
    if not unfold:
        return [(line, _comment(value) if isinstance(value, Module) else "")]
    start, end = "[]" if isinstance(value, list) else "()"
    lines = [(f"{indent}{prefix}{type(value).__name__ if isinstance(value, Module) else ''}{start}", "")]
    for name, part in parts:
        lines += _lines(part, name, depth + 1, ",")
    return [*lines, (f"{indent}{end}{comma}", "")]


LONG = 88
"""Longer lines are unfolded."""


def _holds(x: Any) -> bool:
    return isinstance(x, Module) or (isinstance(x, list | tuple) and any(map(_holds, x)))


def _arrays(module: Any) -> list[Tensor]:
    """The parameters and buffers of a module, each once."""
    return [t for _, t in _named(module, Tensor, open_too=True) if is_saved(t)]


def _count(tensors: list[Any]) -> int:
    return sum(t.size for t in tensors)


def _comment(module: Any) -> str:
    if module._open:
        return "size not known yet"
    arrays = _arrays(module)
    return _sizes(arrays) + _marks([t.data for t in arrays]) if arrays else ""


def _sizes(arrays: list[Tensor]) -> str:
    n = _count([t for t in arrays if t.track])
    words, rest = f"{n:_} parameter{'' if n == 1 else 's'}", _count(arrays) - n
    return f"{words}, plus {rest:_} non-trainable" if rest else words


def _marks(arrays: list[Any]) -> str:
    """A warning beside a layer whose numbers cannot be right: all zero, or some not finite."""
    arrays = [a for a in arrays if a.size and not is_outline(a)]
    if not arrays:
        return ""
    if all(not bool(a.any()) for a in arrays):
        return "  (all zero)"
    xp = array_module(arrays[0])
    for test, mark in ((xp.isnan, "  (some NaN)"), (xp.isinf, "  (some Inf)")):
        if any(bool(test(a).any()) for a in arrays):
            return mark
    return ""


def _bytes(n: int) -> str:
    if n < 1024:
        return f"{n} byte{'' if n == 1 else 's'}"
    size, units = float(n), iter(("KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    size /= 1024
    while size >= 1024:
        size, unit = size / 1024, next(units)
    return f"{size:.3f} {unit}"


def show(module: Module) -> str:
    """The whole print of a module, with sizes as comments and, for a container, the totals."""
    lines = _lines(module, "", 0, "")
    if len(lines) == 1:
        code, comment = lines[0]
        return f"{code}  # {comment}" if comment else code
    width = max((len(code) for code, comment in lines if comment), default=0)
    out = [f"{code:<{width}}  # {comment}" if comment else code for code, comment in lines]
    arrays, total = _arrays(module), []
    if arrays:
        n = len([t for t in arrays if t.track])
        total.append(f"{n} array{'' if n == 1 else 's'}, {_sizes(arrays)}, {_bytes(sum(t.nbytes for t in arrays))}")
    if n := sum(m._open for m in module.modules()):
        total.append(f"{n} layer{'' if n == 1 else 's'} of a size not known yet")
    if total:
        out[-1] += f"  # Total: {', '.join(total)}."
    return "\n".join(out)


Module.__repr__ = show  # type: ignore[method-assign,assignment]
