"""Layers that combine layers: Maxout, SkipConnection, Parallel, PairwiseFusion.

The layers of all but SkipConnection are numbered or named as a Chain's: ``m[0]``, slices, state-dict keys ``"0.weight"``,
gradients ``grads[0].weight``. A connection that is a layer itself has the path ``connection``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops.comparisons import maximum
from . import printing
from .containers import Container, add_path, as_tensors, check_connection, check_layer, connect
from .inputs import whole
from .module import Module


class Maxout(Container):
    """Maxout(f, n), Maxout((l1, l2, ...)) or Maxout(l1, l2, ...)

    The elementwise maximum of several layers at the same input: ``y = max(l1(x), l2(x), ...)``.

    ``Maxout(f, n)`` calls the function ``f`` n times for n layers, each with its own weights: ``Maxout(lambda: Dense(784,
    128), 4)``. All outputs must have one shape, the shape of ``y``. Of equal elements the first layer's has the gradient;
    NaN in any output gives NaN. Raises ValueError where the shapes differ, and without layers.
    Source: Goodfellow et al., Maxout networks, 2013 (https://arxiv.org/abs/1302.4389); Flux's ``Maxout``.
    """

    def __init__(self, *layers: Any) -> None:
        if len(layers) == 2 and not callable(layers[1]) and not isinstance(layers[1], tuple | list):
            f, n = layers[0], whole(layers[1], "Maxout(f, n): `n`")
            if not callable(f) or isinstance(f, Module):
                raise TypeError(f"Maxout(f, n): f is a function that makes a layer, such as lambda: Dense(4, 2); got {f!r}")
            layers = tuple(f() for _ in range(n))
            if n > 1 and layers[0] is layers[1] and isinstance(layers[0], Module):
                raise ValueError("Maxout(f, n): f gave the same layer twice; it must make a new one at every call")
        elif len(layers) == 1 and isinstance(layers[0], tuple | list):
            layers = tuple(layers[0])
        if not layers:
            raise ValueError("Maxout: needs at least one layer")
        self._hold(layers, {})

    def _again(self, layers: list[Any], named: dict[str, Any]) -> Maxout:
        return Maxout(*layers)

    def __call__(self, x: Any) -> Any:
        x = as_tensors(x)
        y = first = self._call(0, x)
        for i in range(1, len(self.layers)):
            z = self._call(i, x)
            if (a := getattr(first, "shape", ())) != (b := getattr(z, "shape", ())):
                raise ValueError(f"Maxout: all layers must give the same shape, but layer 0 gave {a} and layer {i}, "
                                 f"{printing.text(self.layers[i])}, gave {b}")
            y = maximum(y, z)
        return y


class SkipConnection(Module):
    """SkipConnection(layer, connection)

    A layer beside which the input goes on: ``y = connection(layer(x), x)``.

    ``SkipConnection(Dense(4, 4), flux.add)`` is a residual block. ``connection`` is any function of two values; one of a
    list, such as ``partial(flux.cat, axis=1)`` or ``tuple``, is given both in a list. A connection that fails raises its
    own error with both shapes. Source: Flux's ``SkipConnection``.
    """

    def __init__(self, layer: Callable[..., Any], connection: Callable[..., Any] | None = None) -> None:
        check_layer("SkipConnection", layer, 0)
        if connection is None:
            raise TypeError("SkipConnection(layer, connection): give the function that joins layer(x) and x, such as flux.add "
                            "or lambda fx, x: fx + x")
        self.layer, self.connection = layer, check_connection("SkipConnection", connection)

    def __call__(self, x: Any) -> Any:
        x = as_tensors(x)
        try:
            y = self.layer(x)
        except Exception as error:
            add_path(error, self, None, self.layer)
            raise
        return connect(self, [y, x])


class Parallel(Container):
    """Parallel(connection, l1, l2, ...) or Parallel(connection, a=l1, b=l2, ...)

    Layers side by side, whose outputs ``connection`` joins: ``p(x) = connection(l1(x), l2(x), ...)``.

    With one input every layer has it; with several, one for each layer: ``p(x, y) = connection(l1(x), l2(y))``, which is
    ``p((x, y))`` too; a single layer takes them all in turn: ``connection(l1(x), l1(y))``. ``connection`` is called with
    all outputs as its arguments; ``flux.add`` and ``multiply``, ``maximum``, ``minimum`` take any number of them; one of a
    list, such as ``partial(flux.cat, axis=1)``, is given them in a list, and ``tuple`` keeps them apart.

    Raises ValueError for another number of inputs. Source: Flux's ``Parallel``.
    """

    def __init__(self, connection: Any, /, *layers: Any, **named: Any) -> None:
        self.connection = check_connection("Parallel", connection)
        self._hold(layers, named)
        if not self.layers:
            raise ValueError("Parallel: needs at least one layer after the connection")

    def _again(self, layers: list[Any], named: dict[str, Any]) -> Parallel:
        return Parallel(self.connection, *layers, **named)

    def __call__(self, *inputs: Any) -> Any:
        xs = _inputs(self, inputs)
        n = len(self.layers)
        if len(xs) == 1:
            xs = xs * n
        places = [0] * len(xs) if n == 1 else range(n)
        return connect(self, [self._call(i, x) for i, x in zip(places, xs, strict=True)])


class PairwiseFusion(Container):
    """PairwiseFusion(connection, l1, l2, ...) or PairwiseFusion(connection, a=l1, b=l2, ...)

    Layers one after another, each fed with the output before and an input of its own: a tuple of all outputs,

        y1 = l1(x1);  y2 = l2(connection(y1, x2));  y3 = l3(connection(y2, x3)); ...

    Called ``p(x1, x2, x3)`` or ``p((x1, x2, x3))`` with one input for each layer, or ``p(x)`` with the same for all.
    ``connection`` is a function of two values (or of a list of two). Raises ValueError for another number of inputs.
    Source: Flux's ``PairwiseFusion``.
    """

    def __init__(self, connection: Any, /, *layers: Any, **named: Any) -> None:
        self.connection = check_connection("PairwiseFusion", connection)
        self._hold(layers, named)
        if not self.layers:
            raise ValueError("PairwiseFusion: needs at least one layer after the connection")

    def _again(self, layers: list[Any], named: dict[str, Any]) -> PairwiseFusion:
        return PairwiseFusion(self.connection, *layers, **named)

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        xs = _inputs(self, inputs)
        n = len(self.layers)
        if len(xs) == 1:
            xs = xs * n
        outputs = [self._call(0, xs[0])]
        for i in range(1, n):
            outputs.append(self._call(i, connect(self, [outputs[-1], xs[i]])))
        return tuple(outputs)


def _inputs(owner: Container, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """One input, or one for each layer of ``owner``; several may come in a tuple."""
    kind, n = type(owner).__name__, len(owner.layers)
    if len(inputs) == 1 and isinstance(inputs[0], tuple):
        inputs = inputs[0]
    one_for_many = n == 1 and isinstance(owner, Parallel) and inputs
    if len(inputs) not in (1, n) and not one_for_many:
        raise ValueError(f"{kind}: {n} layers take one input, or {n} inputs, got {len(inputs)}")
    return tuple(map(as_tensors, inputs))
