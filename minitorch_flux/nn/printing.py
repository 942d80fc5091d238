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

import inspect
from typing import Any

from ..autograd import Buffer, Param, Tensor
from ..backend import array_module, is_array
from .module import Module, _named


def arguments(module: Module) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments that rebuild ``module``, without those that have their default."""
    own = getattr(module, "_arguments", None)
    if own is not None:
        return own()
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    by_name = False  # once a default is left out, what follows needs its name
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = getattr(module, name, parameter.default)
        if isinstance(value, Tensor) or (value is None and parameter.default is True):
            value = value is not None  # bias=True is kept as the parameter itself, bias=False as None
        if parameter.default is not parameter.empty and _same(value, parameter.default):
            by_name = True
        elif parameter.kind is parameter.KEYWORD_ONLY or by_name:
            keywords[name] = value
        else:
            positional.append(value)
    return positional, keywords


def _same(a: Any, b: Any) -> bool:
    return a is b or (not is_array(a) and type(a) is type(b) and bool(a == b))


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
    if is_array(value):
        return f"<array {value.shape}>"
    name = getattr(value, "__name__", None) or getattr(value, "name", None)
    return name if callable(value) and isinstance(name, str) else repr(value)


def _call(module: Module) -> str:
    positional, keywords = arguments(module)
    parts = [text(v) for v in positional] + [f"{k}={text(v)}" for k, v in keywords.items()]
    return f"{type(module).__name__}({', '.join(parts)})"


def _lines(value: Any, prefix: str, depth: int, comma: str) -> list[tuple[str, str]]:
    """``(code, comment)`` per line: containers are unfolded, everything else takes one line."""
    indent = "  " * depth
    if isinstance(value, Module) and value._indexed:
        lines = [(f"{indent}{prefix}{type(value).__name__}(", "")]
        positional, keywords = arguments(value)
        for child in positional:
            lines += _lines(child, "", depth + 1, ",")
        for name, child in keywords.items():
            lines += _lines(child, f"{name}=", depth + 1, ",")
        return [*lines, (f"{indent}){comma}", "")]
    return [(f"{indent}{prefix}{text(value)}{comma}", _comment(value) if isinstance(value, Module) else "")]


def _count(tensors: list[Any]) -> int:
    return sum(t.size for t in tensors)


def _comment(module: Any) -> str:
    trained = [t for _, t in _named(module, Param) if t.track]
    fixed = [t for _, t in _named(module, Param) if not t.track] + [t for _, t in _named(module, Buffer)]
    if not trained and not fixed:
        return ""
    n = _count(trained)
    words = f"{n:_} parameter{'' if n == 1 else 's'}"
    if fixed:
        words += f", plus {_count(fixed):_} non-trainable"
    return words + _marks([t.data for t in trained + fixed])


def _marks(arrays: list[Any]) -> str:
    """A warning beside a layer whose numbers cannot be right: all zero, or some not finite."""
    arrays = [a for a in arrays if a.size]
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
    arrays = [t for _, t in _named(module, Tensor)]
    trained = [t for t in arrays if isinstance(t, Param) and t.track]
    if arrays:
        n = _count(trained)
        total = f"{len(trained)} array{'' if len(trained) == 1 else 's'}, {n:_} parameter{'' if n == 1 else 's'}"
        rest = _count(arrays) - n
        if rest:
            total += f", plus {rest:_} non-trainable"
        out[-1] += f"  # Total: {total}, {_bytes(sum(t.nbytes for t in arrays))}."
    return "\n".join(out)


Module.__repr__ = show  # type: ignore[method-assign]
