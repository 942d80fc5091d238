"""WeightNorm: a layer whose weight is given by its length and its direction.

The weight is no parameter any more but is computed from two, ``weight_g`` and ``weight_v``, whenever the layer is called.
So that the layer notices nothing of it, a ``WeightNorm`` is an instance of a class made from ``WeightNorm`` and the class
of the layer, in which the name ``weight`` is a property. It has all attributes and methods of the layer: its state and its
mode are its own, and whoever asks finds a ``Dense``. A call computes the weight once and keeps it for its duration, in its
own thread: nothing in the layer changes that another thread could see, or that an exception could leave behind.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

from ..autograd import Param, Tensor
from ..ops.axes import normalise_axis
from ..ops.comparisons import where
from ..ops.elementwise import raw
from ..ops.statistics import norm
from .inputs import check_numbers, layer_name
from .module import Module


class WeightNorm(Module):
    """WeightNorm(layer, name="weight", axis=0)

    ``layer`` with a reparametrised weight: ``w = g v / |v|``, so that its length and its direction are trained apart.

    ``name``: the parameter of the layer to replace; any one will do, ``"weight_hh_l0"`` of an LSTM too. ``|v|`` is the
    root of the sum of squares over all axes but ``axis``, one for each output of a Dense or Conv; ``axis=None``: over all.
    The parameters are ``weight_g``, with size 1 on the other axes (no axes for None), and ``weight_v``, like the weight,
    beside the layer's others under the same names as in PyTorch's ``weight_norm``. They start at the layer's weight.
    Everything else of the layer is there under its own name; ``m.weight`` is the weight as computed, and ``m.remove()``
    the plain layer again. Where v is 0, so are the weight and its derivatives.

    ``layer`` itself keeps its weight and shares its other parameters. Raises TypeError where it has no such parameter.
    Source: Salimans, Kingma, "Weight normalization", 2016.
    """

    _norm: tuple[type, str, int | None]  # of the layer's class with this name: the layer's own class, name, axis

    def __init__(self, layer: Any, name: str = "weight", axis: int | None = 0) -> None:
        if not isinstance(layer, Module):
            raise TypeError(f"WeightNorm(layer): a layer comes first, got a {type(layer).__name__}")
        weight = vars(layer).get(name)
        if not isinstance(weight, Param):
            names = ", ".join(key for key, value in vars(layer).items() if isinstance(value, Param)) or "none"
            hint = "; its size is open: give it, or call the layer first" if layer._open else ""
            raise TypeError(f"WeightNorm: {layer_name(layer)} has no parameter {name!r} of its own; it has {names}{hint}")
        if axis is not None:
            axis = normalise_axis("WeightNorm", axis, weight.ndim, weight.shape)
        v = Param(weight.data.copy())
        g = Param(_length(v, axis).data)
        g.track = v.track = weight.track
        parts = {f"{name}_g": g, f"{name}_v": v}
        for key, value in _attributes(layer):
            vars(self).update(parts if key == name else {key: value})
        self.__class__ = _normed(type(layer), name, axis)  # type: ignore[arg-type]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if id(self) in _computed.of:
            return super().__call__(*args, **keywords)  # type: ignore[misc]  # of the layer's class
        for value in vars(self).values():
            if isinstance(value, Param):
                check_numbers(value, self)
        _computed.of[id(self)] = {name: getattr(self, name) for _, name, _ in _norms(self)}
        try:
            return super().__call__(*args, **keywords)  # type: ignore[misc]
        finally:
            del _computed.of[id(self)]

    def remove(self) -> Any:
        """The plain layer, with the weight as it is now for a parameter; the others are shared."""
        _, name, _ = self._norm
        weight = Param(getattr(self, name).data.copy())
        weight.track = vars(self)[f"{name}_v"].track
        return self._plain(weight)

    def _plain(self, weight: Param) -> Any:
        """A layer of the layer's own class, with all that is here and ``weight``."""
        kind, name, _ = self._norm
        plain: Any = object.__new__(kind)
        for key, value in _attributes(self):
            if key != f"{name}_g":
                vars(plain)[name if key == f"{name}_v" else key] = weight if key == f"{name}_v" else value
        return plain

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        _, name, axis = self._norm
        given = {"name": (name, "weight"), "axis": (axis, 0)}
        layer = self._plain(vars(self)[f"{name}_v"])
        return [layer], {key: value for key, (value, default) in given.items() if value != default}

    def __reduce__(self) -> Any:
        norms = _norms(self)
        return _rebuilt, (norms[-1][0], [(name, axis) for _, name, axis in reversed(norms)]), self.__getstate__()


def _attributes(layer: Any) -> list[tuple[str, Any]]:
    """The attributes of a layer as a copy of it would have them: two layers share no recurrent state."""
    return list(layer.__getstate__().items())


class _Computed(threading.local):
    """The weights of the layers that are being called in this thread, by the layer's id and the weight's name."""

    def __init__(self) -> None:
        self.of: dict[int, dict[str, Tensor]] = {}


_computed = _Computed()


def _norms(layer: WeightNorm) -> list[tuple[type, str, int | None]]:
    """What is computed in a layer, the last one first: a WeightNorm of a WeightNorm has two weights."""
    return [cls._norm for cls in type(layer).__mro__ if "_norm" in vars(cls)]  # type: ignore[attr-defined]


def _length(v: Tensor, axis: int | None) -> Tensor:
    """|v| over all axes but one, which are kept; over all axes for None, which are not."""
    return norm(v, axis=tuple(i for i in range(v.ndim) if i != axis), keepdims=axis is not None)


@functools.cache
def _normed(kind: type, name: str, axis: int | None) -> type:
    """The class of a ``kind`` of layer whose ``name`` is computed."""

    def weight(self: Any) -> Tensor:
        found = _computed.of.get(id(self))
        if found is not None and name in found:
            return found[name]
        g, v = vars(self)[f"{name}_g"], vars(self)[f"{name}_v"]
        length = _length(v, axis)
        flat = raw(length) == 0
        return v * where(flat, 0.0, g / where(flat, 1.0, length))

    weight.__doc__ = f"{name}_g {name}_v / |{name}_v|."
    bases = (kind,) if issubclass(kind, WeightNorm) else (WeightNorm, kind)
    return type("WeightNorm", bases, {"_norm": (kind, name, axis), name: property(weight), "__module__": __name__})


def _rebuilt(kind: type, norms: list[tuple[str, int | None]]) -> Any:
    """An empty layer, for copies and pickles: classes that are made here cannot be found by their names."""
    for name, axis in norms:
        kind = _normed(kind, name, axis)
    return object.__new__(kind)
