"""Comparing and choosing, element by element and with broadcasting.

    where     z = x where c, else y            dx = dz where c, else 0;    dy = 0 where c, else dz
    maximum   z = x where x >= y, else y       as where: of two equal elements the first has the gradient
    minimum   z = x where x <= y, else y       likewise
    clip      z = minimum(maximum(x, min), max)                            at a bound x has the gradient

    equal, not_equal, less, less_equal, greater, greater_equal, isclose    x == y ...: booleans, no gradient
    logical_and, logical_or, logical_xor, logical_not                      of truth values: booleans
    bitwise_and, bitwise_or, bitwise_xor, invert                           of booleans or integers: Python's & | ^ ~
    isnan, isinf, isfinite                                                 booleans

NaN: maximum, minimum and clip give NaN where an argument is NaN, and its gradient goes to that argument.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..autograd import Operation, Tensor, operation
from ..backend import array_function, array_module, empty_like, is_float
from ..readings import KernelFile
from .arithmetic import fit
from .elementwise import (
    LARGE,
    as_tensor,
    binary_forward,
    documented,
    either,
    numbers_fit,
    predicate_forward,
    raw,
    refuse_shapes,
    settled,
)

# -- choosing ----------------------------------------------------------------------------------------------------------


@array_function
def where_forward(condition: Any, x: Any, y: Any) -> Any:
    """``x`` where ``condition`` is true, ``y`` elsewhere."""
    try:
        return array_module(condition, x, y).where(condition, *settled(x, y))
    except ValueError as error:
        refuse_shapes("where", error, condition, x, y)
        raise


def _chosen(dy: Any, mask: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    """The gradients of x and y when z was x where the array ``mask`` is true, and y elsewhere."""
    return (
        fit(either.where(mask, dy, 0), x_shape) if needs[0] else None,
        fit(either.where(mask, 0, dy), y_shape) if needs[1] else None,
    )


def _where_gradient(dy: Any, condition: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return None, *_chosen(dy, raw(condition), x_shape, y_shape, needs[1:])


def _maximum_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    x, y = raw(x), raw(y)
    return _chosen(dy, (x >= y) | (x != x), x_shape, y_shape, needs)


def _minimum_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    x, y = raw(x), raw(y)
    return _chosen(dy, (x <= y) | (x != x), x_shape, y_shape, needs)


where = documented(
    operation("where", where_forward, gradient=_where_gradient),
    """``x`` where ``condition`` is true, ``y`` elsewhere.

    condition, x, y: arrays, tensors or numbers whose shapes broadcast (else ValueError). The gradient with respect to
    the one that was not chosen is zero, whatever its value (so NaN and infinity there do no harm).""",
)
maximum = documented(
    operation("maximum", binary_forward("maximum"), gradient=_maximum_gradient),
    """The larger of x and y; NaN where one is NaN.

    x, y: arrays, tensors or numbers whose shapes broadcast (else ValueError). Where they are equal the gradient goes to
    the first argument wholly.""",
)
minimum = documented(
    operation("minimum", binary_forward("minimum"), gradient=_minimum_gradient),
    """The smaller of x and y; NaN where one is NaN.

    x, y: arrays, tensors or numbers whose shapes broadcast (else ValueError). Where they are equal the gradient goes to
    the first argument wholly.""",
)


def clip_forward(x: Any, low: Any, high: Any) -> Any:
    """``minimum(maximum(x, low), high)``; None is no bound."""
    xp = array_module(x, low, high)
    try:
        numbers = not hasattr(low, "dtype") and not hasattr(high, "dtype")
        if numbers and getattr(x, "nbytes", 0) >= LARGE and is_float(x.dtype):
            return xp.clip(x, low, high, out=empty_like(x))
        return xp.clip(x, low, high)
    except ValueError as error:
        refuse_shapes("clip", error, x, low, high)
        raise


def _clip_gradient(
    dy: Any, x: Any, low: Any, high: Any, x_shape: Any, low_shape: Any, high_shape: Any, needs: Any
) -> Any:
    x, low, high = raw(x), raw(low), raw(high)
    under = False if low is None else x < low
    over = False if high is None else (x > high) if low is None else array_module(x, low).maximum(x, low) > high
    inside, under = ~(under | over), under & ~over if low is not None else False
    return (
        fit(either.where(inside, dy, 0), x_shape) if needs[0] else None,
        fit(either.where(under, dy, 0), low_shape) if needs[1] else None,
        fit(either.where(over, dy, 0), high_shape) if needs[2] else None,
    )


_clip = operation("clip", clip_forward, gradient=_clip_gradient)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """``minimum(maximum(x, min), max)``: x between the bounds, which are numbers, arrays or tensors, or None.

    Inside and at the bounds the gradient goes to x, outside to the bound. Shapes broadcast (else ValueError).
    Raises TypeError without any bound.
    """
    if min is None and max is None:
        raise TypeError("clip: give at least one bound: clip(x, min, max), clip(x, min) or clip(x, max=...)")
    return _clip(x, min, max)


# -- comparing ---------------------------------------------------------------------------------------------------------


def _predicate(name: str, doc: str, symbol: Any = None) -> Operation:
    """An operation with a boolean (or integer) result and no gradient."""
    return documented(operation(name, predicate_forward(name, symbol)), doc)


equal = _predicate("equal", "x == y, elementwise.", operator.eq)
not_equal = _predicate("not_equal", "x != y, elementwise.", operator.ne)
less = _predicate("less", "x < y, elementwise.", operator.lt)
less_equal = _predicate("less_equal", "x <= y, elementwise.", operator.le)
greater = _predicate("greater", "x > y, elementwise.", operator.gt)
greater_equal = _predicate("greater_equal", "x >= y, elementwise.", operator.ge)
logical_and = _predicate("logical_and", "Whether both x and y are true (not zero).")
logical_or = _predicate("logical_or", "Whether x or y is true (not zero).")
logical_xor = _predicate("logical_xor", "Whether exactly one of x and y is true (not zero).")
logical_not = _predicate("logical_not", "Whether x is false (zero).")
bitwise_and = _predicate("bitwise_and", "x & y of booleans or integers.")
bitwise_or = _predicate("bitwise_or", "x | y of booleans or integers.")
bitwise_xor = _predicate("bitwise_xor", "x ^ y of booleans or integers.")
invert = _predicate("invert", "~x of booleans or integers.")
isnan = _predicate("isnan", "Whether x is not a number.")
isinf = _predicate("isinf", "Whether x is infinite.")
isfinite = _predicate("isfinite", "Whether x is a finite number.")


def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether ``|x - y| <= atol + rtol |y|``, elementwise; ``equal_nan``: NaN is close to NaN."""
    a, b = raw(as_tensor(x)), raw(as_tensor(y))
    return Tensor(array_module(a, b).isclose(a, b, rtol, atol, equal_nan))


def allclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close: see ``isclose``. A Python bool."""
    return bool(isclose(x, y, rtol, atol, equal_nan).data.all())


def array_equal(x: Any, y: Any) -> bool:
    """Whether x and y have the same shape and equal elements. A Python bool."""
    a, b = raw(as_tensor(x)), raw(as_tensor(y))
    return a.shape == b.shape and bool((a == b).all())


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """``x`` with NaN replaced by ``nan``, infinities by ``posinf`` and ``neginf`` (None: the dtype's extremes).

    No gradient flows to the elements that are replaced.
    """
    x = as_tensor(x)
    if not is_float(x.dtype):
        return x
    xp = array_module(x.data)
    limits = xp.finfo(x.dtype)
    x = where(isnan(x), nan, x)
    x = where(equal(x, xp.inf), float(limits.max) if posinf is None else posinf, x)
    return where(equal(x, -xp.inf), float(limits.min) if neginf is None else neginf, x)


# -- kernels -----------------------------------------------------------------------------------------------------------

comparisons = KernelFile("comparisons.cu")


@where_forward.kernel(accepts="contiguous, of one shape and dtype, or one of them and a number; at least 4096 elements")
def _(condition: Any, x: Any, y: Any) -> Any:
    like = x if hasattr(x, "dtype") else y
    if getattr(like, "size", 0) < 4096 or getattr(condition, "dtype", None) != np.bool_:
        return NotImplemented
    contiguous = like.flags.c_contiguous and condition.flags.c_contiguous and condition.shape == like.shape
    if not contiguous or like.dtype.itemsize not in (1, 2, 4, 8) or not numbers_fit(like, x, y):
        return NotImplemented
    bits = np.dtype(f"uint{8 * like.dtype.itemsize}")
    arrays = [v.view(bits) if hasattr(v, "dtype") else None for v in (x, y)]
    numbers = [0 if hasattr(v, "dtype") else np.asarray(v, like.dtype).view(bits).item() for v in (x, y)]
    z = empty_like(like)
    ran = comparisons("where_forward", like, 1, like.size, condition.view(np.uint8), *arrays, *numbers, z.view(bits),
                      like.size, BITS=bits)
    return z if ran else NotImplemented
