"""Network: a model of two parts, and what is asked of one: backbone, classifier, num_parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..nn import printing
from ..nn.chain import Chain
from ..nn.convolutions import Conv
from ..nn.module import named_buffers, named_parameters


class Network(Chain):
    """Network(backbone, classifier, *, imsize=None, inchannels=3, nclasses=1000)

    A Chain of two parts: ``backbone`` makes features of images, ``classifier`` makes scores of them. Both are layers of
    their own, ``m.backbone(x)``, and begin the keys of the state dict.

    ``imsize`` (height, width): of the images that it was made for, or None where any will do; ``inchannels`` and
    ``nclasses``: how many channels come in and how many scores go out.
    """

    def __init__(
        self, backbone: Any, classifier: Any, *, imsize: Any = None, inchannels: int = 3, nclasses: int = 1000
    ) -> None:
        super().__init__(backbone=backbone, classifier=classifier)
        self.imsize = None if imsize is None else tuple(imsize)
        self.inchannels, self.nclasses = inchannels, nclasses

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super()._arguments()
        given = {"imsize": (self.imsize, None), "inchannels": (self.inchannels, 3), "nclasses": (self.nclasses, 1000)}
        return positional, keywords | {name: value for name, (value, default) in given.items() if value != default}


def named_layers(layers: Sequence[Any], activation: Any, number: Any = "") -> dict[str, Any]:
    """The layers of a ``conv_norm`` by name: conv1, norm1, and act1 where the activation is a layer of its own.

    In a Chain with these names the keys of a state dict do not depend on which options are on.
    """
    def name(layer: Any) -> str:
        return "conv" if isinstance(layer, Conv) else "act" if layer is activation else "norm"

    return {f"{name(layer)}{number}": layer for layer in layers}


def row(name: str, config: Any, table: Mapping[str, Any]) -> Any:
    """The row of ``table`` for ``config``; ValueError, which lists what there is, if there is none."""
    if isinstance(config, str) and config in table:
        return table[config]
    raise ValueError(f"{name}: the configuration is one of {', '.join(map(repr, table))}, got {config!r}")


def _part(m: Any, name: str) -> Any:
    if isinstance(m, Chain) and m.names is not None and name in m.names:
        return m[name]
    raise TypeError(f"{name} takes a model of the zoo, a Network of backbone and classifier, got {printing.text(m)}")


def backbone(m: Any) -> Any:
    """The part of a model of the zoo that makes features of images; it shares its layers with ``m``."""
    return _part(m, "backbone")


def classifier(m: Any) -> Any:
    """The part of a model of the zoo that makes scores of features; it shares its layers with ``m``."""
    return _part(m, "classifier")


def num_parameters(m: Any, *, buffers: bool = False) -> int:
    """How many numbers of ``m`` train; with ``buffers=True`` also those that are saved, but don't, such as running
    statistics and what is frozen.
    """
    trained = sum(p.size for _, p in named_parameters(m) if buffers or p.requires_grad)
    return trained + (sum(b.size for _, b in named_buffers(m)) if buffers else 0)
