"""Axis arguments as the ops read them: one place for their rules and their error."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def normalise_axis(op: str, axis: Any, ndim: int, shape: Any = None) -> int:
    """``axis`` counted from the front. Raises AxisError (a ValueError and an IndexError) that names ``op``."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{op}: an axis is an integer, got {axis!r}") from None
    if -ndim <= number < ndim:
        return number + ndim if number < 0 else number
    of = f"an array of shape {tuple(shape)}" if shape is not None else f"a result with {ndim} axes"
    has = f"whose axes are {-ndim} to {ndim - 1}" if ndim else "which has no axes"
    raise np.exceptions.AxisError(f"{op}: there is no axis {number} in {of}, {has}")


def normalise_axes(op: str, axes: Any, ndim: int, shape: Any = None) -> tuple[int, ...]:
    """``axes``, None (all), an int or a sequence, counted from the front, in the order given; each at most once."""
    if axes is None:
        return tuple(range(ndim))
    given = tuple(axes) if isinstance(axes, tuple | list) else (axes,)
    found = tuple(normalise_axis(op, axis, ndim, shape) for axis in given)
    if len(set(found)) != len(found):
        raise ValueError(f"{op}: axes {given} name an axis twice")
    return found
