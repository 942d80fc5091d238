"""What a network makes of an input: feature maps, filters and attention maps, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd import Tensor, no_grad
from ..autograd.recording import state
from ..backend import is_array, to_device
from ..nn.module import Module, walk
from ..ops.attention import dot_product_attention
from .followers import Follower, Place, following


@contextmanager
def in_test_mode(model: Any) -> Iterator[None]:
    """Test mode, for layers that were put into train mode too; afterwards all is as before."""
    training = [layer for _, layer in walk(model) if layer.active]
    for layer in training:
        layer.active = False
    try:
        yield
    finally:
        for layer in training:
            layer.active = True


def on_host(y: Any) -> np.ndarray:
    """A tensor or an array as NumPy's."""
    return to_device(y.data if isinstance(y, Tensor) else y, "cpu")


class _Outputs(Follower):
    """Keeps the outputs of the layers, and the weights of every attention."""

    def __init__(self, model: Any, attention: bool = False) -> None:
        super().__init__(model)
        self.outputs: dict[str, Any] = {}
        self.weights: dict[str, np.ndarray] = {}
        self.attention = attention

    def leave(self, before: Place, output: Any) -> None:
        """A call has ended: keep what came out, of the last call."""
        path = self.here.path
        super().leave(before, output)
        if not self.attention and (isinstance(output, Tensor) or is_array(output)):
            self.outputs[path] = on_host(output)

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """An operation: where it is an attention, form its weights, which it does not keep."""
        if operation.name in ("self_attention", "dot_product_attention"):
            given = dict(zip(operation.signature, arrays, strict=False)) | static
            if operation.name == "self_attention":
                x, heads, kvheads = given["x"], given["heads"], given["kvheads"]
                n, length, width = x.shape
                every = x.reshape(n, length, heads + 2 * kvheads, width // (heads + 2 * kvheads)).swapaxes(1, 2)
                q, k = every[:, :heads], every[:, heads : heads + kvheads]
            else:
                q, k = given["q"], given["k"]
            _, weights = dot_product_attention(q, k, k, mask=given.get("mask"), causal=given["causal"], scale=given["scale"],
                                               return_weights=True)
            self.weights[self.here.path] = on_host(weights)
        return arrays, operation.forward(*arrays, **static)


def _run(model: Any, inputs: Sequence[Any], follower: _Outputs) -> None:
    before = state.through
    try:
        with no_grad(), in_test_mode(model), following(model, follower):
            if follower.attention:
                state.through = follower.through
            model(*inputs)
    finally:
        state.through = before


def path_of(name: str, model: Any, layer: Any) -> str:
    """The path of ``layer``, which is one already or a layer of ``model``. Raises ValueError where there is none."""
    paths = dict(walk(model))
    if isinstance(layer, str):
        if layer in paths:
            return layer
        raise ValueError(f"{name}: the model has no layer {layer!r}; the first are "
                         f"{', '.join(repr(p) for p in list(paths)[1:7])}")
    for path, found in paths.items():
        if found is layer:
            return path
    raise ValueError(f"{name}: the layer is a path such as '0', or a layer of the model, got {type(layer).__name__}")


def feature_maps(model: Any, x: Any, layer: Any = None) -> Any:
    """What the layers of ``model`` make of an input, in test mode: arrays (N, C, H, W), or (N, C, L), by path.

    ``flux.feature_maps(model, images)`` gives a dict of every layer's output that has channels and at least one axis more;
    ``layer="0"``, or a layer itself, its output alone, of any shape. ``x`` is a tuple for a model of several inputs. Draw
    maps with ``flux.show_maps(maps["0"][0])``.

    Raises ValueError for a layer that is not in the model, or that the call does not reach.
    """
    path = None if layer is None else path_of("feature_maps", model, layer)
    follower = _Outputs(model)
    _run(model, x if isinstance(x, tuple) else (x,), follower)
    if path is None:
        return {found: y for found, y in follower.outputs.items() if y.ndim >= 3}
    if path not in follower.outputs:
        raise ValueError(f"feature_maps: the call does not reach the layer {path!r}")
    return follower.outputs[path]


def filters(model: Any, layer: Any = None) -> np.ndarray:
    """The kernels of a convolution, (out, in, kh, kw): of ``layer``, a path or a layer, by default the first in ``model``.

    ``flux.show_maps(flux.filters(model))`` draws those that see one channel or red, green and blue.

    Raises ValueError where there is no convolution.
    """
    if layer is None:
        found: Any = next((part for _, part in walk(model) if _convolves(part)), None)
        if found is None:
            raise ValueError(f"filters: there is no convolution in this {type(model).__name__}")
    else:
        found = dict(walk(model))[path_of("filters", model, layer)]
        if not _convolves(found):
            raise ValueError(f"filters: {type(found).__name__} is no convolution")
    return on_host(found.weight)


def _convolves(layer: Any) -> bool:
    return isinstance(layer, Module) and getattr(getattr(layer, "weight", None), "ndim", 0) >= 3


def attention_maps(model: Any, *inputs: Any) -> dict[str, np.ndarray]:
    """The weights of every attention in ``model`` for an input, in test mode: by path, (N, heads, queries, keys).

    Each row adds up to 1: how much a token, the query, takes from every other. Attention forms and forgets them; here they
    are formed once more. Raises ValueError where nothing attends.
    """
    follower = _Outputs(model, attention=True)
    _run(model, inputs, follower)
    if not follower.weights:
        raise ValueError(f"attention_maps: nothing in this {type(model).__name__} attends")
    return follower.weights
