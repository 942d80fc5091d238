"""outputsize: what comes out of a model, told from shapes alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, outlining
from ..autograd.recording import undoing
from ..backend import Outline, OutlineError


def outputsize(model: Any, *shapes: Any, dtype: Any = np.float32) -> Any:
    """The shape of ``model(x)`` for an input of a given shape, batch axis included: nothing is computed or allocated.

    ``outputsize(Chain(Conv((3, 3), 1, 8), flatten, Dense(8 * 26 * 26, 10)), (32, 1, 28, 28))`` is ``(32, 10)``.

    Several shapes stand for several inputs, a tuple or list of shapes for an input that is a tuple, an array for its own
    shape and dtype. ``dtype``: of the inputs; an integer one for layers of indices: ``outputsize(Embedding(96, 64),
    (32, 10), dtype=int)`` is ``(32, 10, 64)``. A model with several outputs gives a tuple of shapes.

    Layers run in test mode, and the model is left as it was, running statistics and recurrent states included; but sizes
    that were left open (``Dense(None, 10)``) are filled in.
    Raises what the model itself raises for such an input, and OutlineError, a TypeError, where the shape would depend on
    the numbers. Source: Flux's ``outputsize``.
    """
    inputs = [_outline(shape, dtype) for shape in shapes]
    with undoing(), outlining():
        try:
            y = model(*inputs)
        except OutlineError as error:
            raise OutlineError(f"outputsize: the shape of the output cannot be told from that of the input: {error}") from None
    return _shape(y)


def _outline(shape: Any, dtype: Any) -> Any:
    if hasattr(shape, "shape") and hasattr(shape, "dtype"):
        return Tensor(Outline(shape.shape, shape.dtype))
    if isinstance(shape, tuple | list):
        if all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in shape):
            if any(n < 0 for n in shape):
                raise ValueError(f"outputsize: a shape has no negative sizes, got {tuple(shape)}")
            return Tensor(Outline(shape, dtype))
        return type(shape)(_outline(s, dtype) for s in shape)
    raise TypeError(f"outputsize takes shapes such as (32, 1, 28, 28), or arrays, got {shape!r}")


def _shape(y: Any) -> Any:
    if isinstance(y, tuple | list):
        return tuple(_shape(part) for part in y)
    if isinstance(y, dict):
        return {name: _shape(part) for name, part in y.items()}
    return y.shape if hasattr(y, "shape") else ()
