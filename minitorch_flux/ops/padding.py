"""pad: an array with a border.

    constant           y = value, y[lo : lo + n] = x            dx = dy[lo : lo + n]
    the other modes    y[j] = x[source(j)] along each axis      dx[source(j)] += dy[j]

``source`` repeats the edge ("edge"), mirrors without or with the edge ("reflect", "symmetric"), or goes round ("wrap").
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import array_module, empty, is_float
from .indexing import take
from .shapes import as_tensor

MODES = ("constant", "edge", "reflect", "symmetric", "wrap")
_OTHER_NAMES = {"replicate": "edge", "circular": "wrap", "zeros": "constant", "border": "edge"}
Widths = tuple[tuple[int, int], ...]


def _inside(widths: Widths, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(lo, lo + n) for (lo, _), n in zip(widths, shape, strict=True))


def pad_forward(x: Any, widths: Widths, value: float = 0) -> Any:
    """``x`` with ``value`` around it."""
    y = empty(tuple(n + lo + hi for n, (lo, hi) in zip(x.shape, widths, strict=True)), x.dtype, like=x)
    y.fill(value)
    y[_inside(widths, x.shape)] = x
    return y


_pad = operation("pad", pad_forward, gradient=lambda dy, widths, x_shape: dy[_inside(widths, x_shape)])


def pad(x: Any, widths: Any, mode: str = "constant", value: float = 0) -> Tensor:
    """``x`` with a border, as ``numpy.pad``.

    ``widths``: an int, a pair ``(before, after)`` for every axis, or one pair for each axis. ``mode``: ``"constant"``
    (``value``), ``"edge"``, ``"reflect"``, ``"symmetric"`` or ``"wrap"``.
    Raises ValueError for widths that do not fit, an unknown mode, and an empty axis that has nothing to repeat.
    """
    x = as_tensor(x)
    pairs = _pairs(widths, x.shape)
    if mode not in MODES:
        hint = f"; it is {_OTHER_NAMES[mode]!r} here" if mode in _OTHER_NAMES else ""
        raise ValueError(f"pad: there is no mode {mode!r}{hint}; the modes are {', '.join(MODES)}")
    if mode == "constant":
        if not is_float(x.dtype) and isinstance(value, float) and not value.is_integer():
            raise ValueError(f"pad: an array of dtype {x.dtype} cannot hold the value {value}")
        return _pad(x, widths=pairs, value=value)
    if value != 0:
        raise ValueError(f"pad: value={value} is for mode='constant', not for mode={mode!r}")
    xp, shape = array_module(x.data), x.shape
    for axis, (n, (lo, hi)) in enumerate(zip(shape, pairs, strict=True)):
        if lo or hi:
            if n == 0:
                raise ValueError(
                    f"pad: axis {axis} of shape {shape} is empty, mode {mode!r} has nothing to repeat there; "
                    "use mode='constant'"
                )
            source = np.pad(np.arange(n), (lo, hi), mode=mode)  # type: ignore[call-overload]
            x = take(x, xp.asarray(source), axis)
    return x


def pad_constant(x: Any, widths: Any, value: float = 0) -> Tensor:
    """``pad`` with ``value``. Source: NNlib's ``pad_constant``."""
    return pad(x, widths, value=value)


def _pairs(widths: Any, shape: tuple[int, ...]) -> Widths:
    """``(before, after)`` for each axis."""
    ndim = len(shape)
    try:
        given = np.asarray(widths)
        flat = given.ndim == 1 and given.size == 2 * ndim and ndim > 1
        pairs = tuple((operator.index(lo), operator.index(hi)) for lo, hi in np.broadcast_to(given, (ndim, 2)))
    except (TypeError, ValueError):
        example = (
            ", ".join(f"({a}, {b})" for a, b in given.reshape(ndim, 2)) if flat else ", ".join(["(lo, hi)"] * ndim)
        )
        raise ValueError(
            f"pad: widths {widths} do not fit an array of shape {shape}: give an int, a pair, or a pair for "
            f"each of its {ndim} axes: ({example}{',' * (ndim == 1)})"
        ) from None
    if any(lo < 0 or hi < 0 for lo, hi in pairs):
        raise ValueError(f"pad: widths {widths} are negative somewhere; to take elements away use x[...]")
    return pairs
