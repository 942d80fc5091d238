"""norm_layer: how a builder makes its normalisation layers from what the user gives as ``norm_layer=``."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from ...nn import printing
from ...nn.module import Module
from ...nn.norms import GroupNorm
from ...ops.nonlinearities import identity


def norm_layers(norm_layer: Callable[..., Any], planes: int, activation: Callable[..., Any] = identity) -> list[Any]:
    """The layers that normalise ``planes`` channels and then apply ``activation``: one, or two where the norm takes none.

    ``norm_layer``: a class such as ``BatchNorm``, or a function of ``planes`` or of ``(planes, activation)`` that gives a
    layer. The activation is handed to a parameter of this name, or to the second of two parameters that has no default or
    a function as its default; otherwise it follows as a layer of its own. ``GroupNorm`` alone means ``GroupNorm(planes,
    gcd(planes, 32))``, and ``identity`` no normalisation.

    Raises TypeError for what makes no layer.
    """
    if norm_layer is identity:
        return [identity] if activation is identity else [activation]
    if isinstance(norm_layer, Module) or not callable(norm_layer):
        got = f"the layer {printing.text(norm_layer)}" if isinstance(norm_layer, Module) else repr(norm_layer)
        raise TypeError("norm_layer is what makes a layer from the number of planes, such as BatchNorm or lambda planes: "
                        f"GroupNorm(planes, 4), or identity for no normalisation; got {got}")
    keywords: dict[str, Any] = {}
    if _without_groups(norm_layer):
        keywords["groups"] = math.gcd(planes, 32)
    how = _way_of_activation(norm_layer)
    if how == "name":
        layers = [norm_layer(planes, activation=activation, **keywords)]
    elif how == "second":
        layers = [norm_layer(planes, activation)]
    else:
        layers = [norm_layer(planes)] + ([] if activation is identity else [activation])
    if not callable(layers[0]):
        raise TypeError(f"norm_layer {printing.text(norm_layer)} gave {layers[0]!r} for {planes} planes, expected a layer")
    return layers


def _without_groups(f: Any) -> bool:
    """Whether ``f`` is GroupNorm, perhaps with some arguments, but without its number of groups."""
    while isinstance(f, functools.partial):
        if "groups" in f.keywords or f.args:
            return False
        f = f.func
    return f is GroupNorm


def _way_of_activation(f: Callable[..., Any]) -> str:
    """How ``f`` takes the activation: by its "name", as the "second" argument, or not at all ("")."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return ""
    if any(p.name == "activation" and p.kind is not p.VAR_KEYWORD and p.kind is not p.POSITIONAL_ONLY for p in parameters):
        return "name"
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return "second"
    two = len(positional) == 2 and (positional[1].default is inspect.Parameter.empty or callable(positional[1].default))
    return "second" if two else ""
