"""Chain: layers and functions called in sequence."""

from __future__ import annotations

from typing import Any

from .containers import Container, as_tensor


class Chain(Container):
    """Chain multiple layers / functions together, so that they are called in sequence on a given input.

    ``Chain(f, g)(x) == g(f(x))``; ``Chain()(x)`` is ``x``; ``Chain(f)(a, b)`` passes the tuple ``(a, b)``.
    ``m[i]`` is a layer, ``m[1:-1]`` (or a list of indices, or of bools) a new Chain that shares the layers. Layers may be
    named, ``Chain(enc=..., dec=...)``: then ``m["enc"]`` and ``m.enc`` work too, ``m.enc = ...`` exchanges a layer, and
    slices keep the names. What is not an array of numbers passes through untouched: ``Chain(lambda x: x**2, lambda x: x +
    1)(5) == 26``. An error in a layer names the path to it.
    Source: Flux's ``Chain``.
    """

    def __init__(self, *layers: Any, **named: Any) -> None:
        self._hold(layers, named)

    def _again(self, layers: list[Any], named: dict[str, Any]) -> Chain:
        return Chain(*layers, **named)

    def __call__(self, *inputs: Any) -> Any:
        x: Any = inputs[0] if len(inputs) == 1 else inputs
        x = as_tensor(x)
        for i in range(len(self.layers)):
            x = self._call(i, x)
        return x


def activations(chain: Chain, x: Any) -> list[Any]:
    """The output of every layer of ``chain`` at ``x``, in order. Source: Flux's ``activations``."""
    if not isinstance(chain, Chain):
        raise TypeError(f"activations takes a Chain, got {type(chain).__name__}")
    outputs, x = [], as_tensor(x)
    for i in range(len(chain)):
        x = chain._call(i, x)
        outputs.append(x)
    return outputs
