"""The error function, and x log y (kernel: kernels/special.cu).

    erf    y = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x          dx = dy 2 / sqrt(pi) exp(-x^2)
    xlogy  z = x log y, and 0 where x = 0, whatever y is                 dx = dz log y, dy = dz x / y

The reference of erf is W. J. Cody's rational approximation, "Rational Chebyshev approximations for the error function",
Mathematics of Computation 23 (1969), in three pieces of |x|; its error in float64 is below 4e-16.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import operation
from ..backend import accumulator, array_function, array_module, as_array, contiguous, empty_like, is_array, is_float
from ..readings import KernelFile
from .arithmetic import fit
from .elementwise import documented, either, raw

special = KernelFile("special.cu")

SMALL = 0.46875
"""Up to here erf(x) = x R(x^2); from here to 4 erfc(x) = exp(-x^2) R(x), beyond exp(-x^2) / x R(1 / x^2)."""

# Numerators and denominators, highest power first.
NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
     8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)
FAR = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Any) -> Any:
    """The rational function of ``x``, by Horner's rule."""
    values = []
    for first, *rest in coefficients:
        value = first
        for c in rest:
            value = value * x + c
        values.append(value)
    return values[0] / values[1]


@array_function
def erf_forward(x: Any) -> Any:
    """erf(x) for floats; integers become float64."""
    xp, x = array_module(x), as_array(x)
    if not is_float(x.dtype):
        return erf_forward(x.astype(np.float64))
    v = x.astype(accumulator(x.dtype), copy=False)
    size = xp.clip(xp.abs(v), SMALL, 6)  # beyond 6 erf is 1
    inverse = 1 / (size * size)
    tail = xp.where(
        size <= 4,
        _ratio(MIDDLE, size),
        (1 / math.sqrt(math.pi) - inverse * _ratio(FAR, inverse)) / size,
    )
    small = xp.clip(v, -SMALL, SMALL)
    y = xp.where(
        xp.abs(v) <= SMALL,
        small * _ratio(NEAR, small * small),
        xp.sign(v) * (1 - xp.exp(-size * size) * tail),
    )
    return y.astype(x.dtype, copy=False)


def _erf_gradient(dy: Any, x: Any) -> Any:
    size = either.clip(x, -40, 40)
    return dy * (2 / math.sqrt(math.pi) * either.exp(-size * size))


erf = documented(
    operation("erf", erf_forward, gradient=_erf_gradient),
    "The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.\n\n"
    "    Elementwise: any shape; integers give float64.",
)


def xlogy_forward(x: Any, y: Any) -> Any:
    """x log y; 0 where x is 0."""
    xp = array_module(x, y)
    return x * xp.log(xp.where(x == 0, 1, y))


def _xlogy_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    # at x = y = 0 the slope along x is minus infinity; 0, the value's limit from there, is taken
    slope = either.log(either.where((raw(x) == 0) & (raw(y) == 0), 1, y)) if needs[0] else None
    ratio = x / either.where(raw(x) == 0, 1, y) if needs[1] else None
    return fit(dy * slope, x_shape) if needs[0] else None, fit(dy * ratio, y_shape) if needs[1] else None


xlogy = documented(
    operation("xlogy", xlogy_forward, gradient=_xlogy_gradient),
    "x log y elementwise, and 0 where x is 0, whatever y is: the term of an entropy. Shapes broadcast.",
)


@erf_forward.outlined
def _(x: Any) -> Any:
    return array_module(x).empty(x.shape, x.dtype if is_float(x.dtype) else np.float64)


@erf_forward.kernel(accepts="arrays of floats; copied where they are not contiguous")
def _(x: Any) -> Any:
    if not (is_array(x) and is_float(x.dtype)):
        return NotImplemented
    x, y = contiguous(x), empty_like(x)
    return y if special("erf_forward", x, 1, x.size, x, y, x.size) else NotImplemented
