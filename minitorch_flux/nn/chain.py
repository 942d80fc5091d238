"""Chain: layers and functions called in sequence."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import is_array, is_number
from . import printing
from .module import Module


class Chain(Module):
    """Chain multiple layers / functions together, so that they are called in sequence on a given input.

    ``Chain(f, g)(x) == g(f(x))``; ``Chain()(x)`` is ``x``; ``Chain(f)(a, b)`` passes the tuple ``(a, b)``.
    ``m[i]`` is a layer, ``m[1:-1]`` (or a list of indices, or of bools) a new Chain that shares the layers. Layers may be
    named, ``Chain(enc=..., dec=...)``: then ``m["enc"]`` and ``m.enc`` work too, ``m.enc = ...`` exchanges a layer, and
    slices keep the names. What is not an array of numbers passes through untouched: ``Chain(lambda x: x**2, lambda x: x +
    1)(5) == 26``. An error in a layer names the path to it.
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
        self.names = None
        self.layers = tuple(layers or named.values())
        self.names = tuple(named) or None
        for i, layer in enumerate(self.layers):
            _check_layer(layer, i)

    def __call__(self, *inputs: Any) -> Any:
        x: Any = inputs[0] if len(inputs) == 1 else inputs
        if is_array(x) and is_number(x.dtype):
            x = Tensor(x)
        for i in range(len(self.layers)):
            x = self._step(i, x)
        return x

    def _step(self, i: int, x: Any) -> Any:
        """The output of layer ``i``; an error in it names the path to the layer."""
        try:
            return self.layers[i](x)
        except Exception as error:
            _add_path(error, f"Chain[{i if self.names is None else repr(self.names[i])}]", self.layers[i])
            raise

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
            if keys and all(isinstance(k, bool) or getattr(k, "dtype", None) == np.bool_ for k in keys):
                if len(keys) != len(self.layers):
                    raise IndexError(f"Chain: a mask of {len(keys)} for {len(self.layers)} layers")
                picked = [i for i, k in enumerate(keys) if k]
            else:
                picked = [self._place(k) for k in keys]
        else:
            return self.layers[self._place(key)]
        if self.names is None:
            return Chain(*(self.layers[i] for i in picked))
        return Chain(**{self.names[i]: self.layers[i] for i in picked})

    def _place(self, key: Any) -> int:
        n, i = len(self.layers), operator.index(key)
        if not -n <= i < n:
            raise IndexError(f"Chain has {n} layers, there is none at {i}")
        return i % n

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__.get("names") or ()
        if name in names:
            return self.layers[names.index(name)]
        raise AttributeError(f"Chain has no layer or attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        names = self.__dict__.get("names") or ()
        if name not in names:
            return super().__setattr__(name, value)
        i = names.index(name)
        _check_layer(value, i)
        return super().__setattr__("layers", (*self.layers[:i], value, *self.layers[i + 1 :]))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return ([], dict(self.children())) if self.names else (list(self.layers), {})


_RESERVED = {name for name in dir(Chain) if not name.startswith("__")} | {"layers", "names"}


def _check_layer(layer: Any, i: int) -> None:
    if isinstance(layer, type) and issubclass(layer, Module):
        raise TypeError(f"Chain: layer {i} is the class {layer.__name__}, not a layer: write {layer.__name__}(...)")
    if not callable(layer):
        hint = " (did you forget the * before a list of layers?)" if isinstance(layer, list | tuple) else ""
        raise TypeError(f"Chain: layer {i} is a {type(layer).__name__}, which cannot be called{hint}")


def _add_path(error: Exception, path: str, layer: Any) -> None:
    """Say where in the model an error arose: before the message of a size error, in a note on any other."""
    if type(error) not in (ValueError, TypeError) or not (error.args and isinstance(error.args[0], str)):
        error.add_note(f"in {path}, {printing.text(layer)}")
        return
    message = error.args[0]
    if not message.startswith("Chain["):
        joint = " "
    elif isinstance(layer, Chain):
        joint = "."
    else:  # a chain somewhere inside another layer
        joint = f".{type(layer).__name__}."
    error.args = (f"{path}{joint}{message}", *error.args[1:])


def activations(chain: Chain, x: Any) -> list[Any]:
    """The output of every layer of ``chain`` at ``x``, in order. Source: Flux's ``activations``."""
    outputs = []
    if is_array(x) and is_number(x.dtype):
        x = Tensor(x)
    for i in range(len(chain)):
        x = chain._step(i, x)
        outputs.append(x)
    return outputs
