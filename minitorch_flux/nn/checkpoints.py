"""Activation checkpointing: memory for time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..autograd import Structure, Tensor
from ..autograd.checkpoints import again_later
from .containers import add_path, as_tensors, check_layer
from .module import Module


class Checkpointed(Module):
    """Checkpointed(layer)

    ``layer`` whose inside is not kept for the backward pass: what the gradients need is computed again on the way back.

    Of its activations only the input stays, so that a model cut into k checkpoints of equal size keeps k inputs and the inside
    of one checkpoint at a time, for one more forward pass (a third of a step's time). With about sqrt(n) checkpoints of n equal
    layers, memory grows like sqrt(n). ``flux.summary`` predicts it.

    Outputs and gradients are the same, bit for bit (second derivatives up to rounding: their sums are added up in another
    order): dropout's masks are those of the first run, and running statistics move once. ``layer`` is a layer or any function,
    of any number of inputs, that gives tensors, or tuples, lists and dicts of them; it must do the same both times: TapeError
    where the second run gives other shapes. Checkpoints nest.

    Parameters keep their names: state dict, gradients, attributes, indices and modes are those of the layer inside,
    ``Checkpointed(Dense(3, 4)).weight``, so that files fit a model with and without checkpoints.

    Recurrent layers, which remember a state, raise ValueError inside. Source: Chen et al., "Training deep nets with sublinear
    memory cost", 2016 (https://arxiv.org/abs/1604.06174); Zygote's ``checkpointed``.
    """

    layer: Callable[..., Any]

    def __init__(self, layer: Callable[..., Any]) -> None:
        check_layer("Checkpointed", layer, 0)
        vars(self)["layer"] = layer

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        try:
            return again_later(self.layer, as_tensors(inputs), keywords)
        except Exception as error:
            add_path(error, self, None, self.layer)
            raise

    # What the layer is to others: its parts are its own, under their own names.

    def children(self) -> Iterator[tuple[str, Any]]:
        """Those of the layer inside."""
        return self.layer.children() if isinstance(self.layer, Structure) else iter(())

    @property
    def _indexed(self) -> bool:  # type: ignore[override]
        return getattr(self.layer, "_indexed", False)

    @property
    def _open(self) -> bool:  # type: ignore[override]
        return getattr(self.layer, "_open", False)

    def _carry(self, convert: Callable[[Tensor], Tensor]) -> None:
        if isinstance(self.layer, Structure):
            self.layer._carry(convert)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "layer" not in vars(self):
            raise AttributeError(name)
        return getattr(self.layer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__") or name == "layer" or not isinstance(self.layer, Module):
            super().__setattr__(name, value)
        else:
            setattr(self.layer, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self.layer[key]  # type: ignore[index]

    @property
    def active(self) -> bool | None:
        """The mode of the layer inside."""
        return getattr(self.layer, "active", None)

    @active.setter
    def active(self, mode: bool | None) -> None:
        """Of a layer it is set there, a function has none."""

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.layer], {}


def checkpoint(layer: Callable[..., Any]) -> Checkpointed:
    """``layer`` (or any function) as one that trades time for memory: ``Chain(checkpoint(block1), checkpoint(block2), head)``.

    See ``Checkpointed``, which it gives.
    """
    return Checkpointed(layer)
