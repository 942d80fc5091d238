"""Chain: layers and functions called in sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..autograd import Tensor
from ..backend import is_array
from .module import Module


class Chain(Module):
    """Chain multiple layers / functions together, so that they are called in sequence on a given input.

    ``Chain(f, g)(x) == g(f(x))``; ``Chain()(x)`` is ``x``; ``Chain(f)(a, b)`` passes the tuple ``(a, b)``.
    ``m[i]`` is a layer, ``m[1:-1]`` (or a list of indices, or of bools) a new Chain that shares the layers. Layers may be
    named, ``Chain(enc=..., dec=...)``: then ``m["enc"]`` and ``m.enc`` work too, and slices keep the names. What is not an
    array passes through untouched: ``Chain(lambda x: x**2, lambda x: x + 1)(5) == 26``.
    Source: Flux's ``Chain``.
    """

    _indexed = True
    layers: tuple[Callable[..., Any], ...]
    names: tuple[str, ...] | None

    def __init__(self, *layers: Any, **named: Any) -> None:
        if layers and named:
            raise TypeError("Chain: give either layers or named layers, not both")
        for name in named:
            if name in _RESERVED:
                raise ValueError(f"Chain: a layer may not be called {name!r}, which is an attribute of Chain")
        self.layers = tuple(layers or named.values())
        self.names = tuple(named) or None
        for i, layer in enumerate(self.layers):
            if not callable(layer):
                hint = " (did you forget the * before a list of layers?)" if isinstance(layer, list | tuple) else ""
                raise TypeError(f"Chain: layer {i} is a {type(layer).__name__}, which cannot be called{hint}")

    def __call__(self, *inputs: Any) -> Any:
        x = inputs[0] if len(inputs) == 1 else inputs
        if is_array(x):
            x = Tensor(x)
        for i, layer in enumerate(self.layers):
            try:
                x = layer(x)
            except Exception as error:
                _add_path(error, f"Chain[{i if self.names is None else repr(self.names[i])}]")
                raise
        return x

    def children(self) -> Iterator[tuple[str, Any]]:
        """The layers, by index or by name."""
        yield from zip(self.names or map(str, range(len(self.layers))), self.layers, strict=True)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if self.names is None or key not in self.names:
                raise KeyError(f"Chain has no layer called {key!r}; it has {list(self.names or ())}")
            return self.layers[self.names.index(key)]
        if isinstance(key, slice):
            picked = list(range(len(self.layers)))[key]
        elif isinstance(key, list | tuple) or (is_array(key) and key.ndim == 1):
            keys = list(key)
            if keys and all(isinstance(k, bool) or getattr(k, "dtype", None) == bool for k in keys):
                if len(keys) != len(self.layers):
                    raise IndexError(f"Chain: a mask of {len(keys)} for {len(self.layers)} layers")
                picked = [i for i, k in enumerate(keys) if k]
            else:
                picked = [range(len(self.layers))[int(k)] for k in keys]
        else:
            return self.layers[key]
        if self.names is None:
            return Chain(*(self.layers[i] for i in picked))
        return Chain(**{self.names[i]: self.layers[i] for i in picked})

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__.get("names") or ()
        if name in names:
            return self.layers[names.index(name)]
        raise AttributeError(f"Chain has no layer or attribute {name!r}", name=name, obj=self)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return ([], dict(self.children())) if self.names else (list(self.layers), {})


_RESERVED = {name for name in dir(Chain) if not name.startswith("__")} | {"layers", "names"}


def _add_path(error: BaseException, path: str) -> None:
    """Put the layer's path before the message of a size error, once per level of nesting."""
    if type(error) in (ValueError, TypeError) and error.args and isinstance(error.args[0], str):
        message = error.args[0]
        joint = "" if message.startswith("Chain[") else " "
        error.args = (f"{path}{'.' if not joint else joint}{message}", *error.args[1:])


def activations(chain: Chain, x: Any) -> list[Any]:
    """The output of every layer of ``chain`` at ``x``, in order. Source: Flux's ``activations``."""
    outputs = []
    for layer in chain:
        x = layer(x)
        outputs.append(x)
    return outputs
