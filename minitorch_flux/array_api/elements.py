"""Functions of each element that only the array API asks for.

    copysign      z = |x| with the sign of y       dx = dz where the signs agree, else -dz;   dy = 0
    nextafter     z = the float next to x on the way to y       dx = dz;   dy = 0
    signbit       whether the sign is negative, of -0.0 and -NaN too: no gradient
    left_shift    z = x 2^y, of integers;   right_shift   z = floor(x / 2^y)
"""

from __future__ import annotations

import operator
from typing import Any

from ..autograd import Tensor, operation
from ..backend import array_module
from ..ops import comparisons
from ..ops.arithmetic import fit
from ..ops.elementwise import as_tensor, binary_forward, documented, either, predicate_forward, raw, zeros


def _copysign_gradient(dy: Any, x: Any, y: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    a, b = raw(x), raw(y)
    xp = array_module(a, b)
    same = xp.signbit(xp.asarray(a)) == xp.signbit(xp.asarray(b))
    dx = fit(either.where(same, dy, -dy), x_shape) if needs[0] else None
    return dx, zeros(dy, y_shape) if needs[1] else None


def _nextafter_gradient(dy: Any, x_shape: Any, y_shape: Any, needs: Any) -> Any:
    return fit(dy, x_shape) if needs[0] else None, zeros(dy, y_shape) if needs[1] else None


copysign = documented(
    operation("copysign", binary_forward("copysign"), gradient=_copysign_gradient),
    """|x| with the sign of y, that of -0.0 and of NaN too.

    x, y: arrays, tensors or numbers whose shapes broadcast (else ValueError).""",
)
nextafter = documented(
    operation("nextafter", binary_forward("nextafter"), gradient=_nextafter_gradient),
    """The next float after x on the way to y, in their dtype. A step that small does not change the slope: dx = dz.

    x, y: arrays, tensors or numbers whose shapes broadcast (else ValueError).""",
)
signbit = documented(
    operation("signbit", predicate_forward("signbit")), "Whether the sign of x is negative; so it is of -0.0, elementwise."
)
bitwise_left_shift = documented(
    operation("left_shift", predicate_forward("left_shift", operator.lshift)), "x << y of integers, elementwise."
)
bitwise_right_shift = documented(
    operation("right_shift", predicate_forward("right_shift", operator.rshift)), "x >> y of integers, elementwise."
)


def positive(x: Any) -> Tensor:
    """``+x``: the tensor itself."""
    return as_tensor(x)


def conj(x: Any) -> Tensor:
    """The complex conjugate of real numbers: the tensor itself."""
    return as_tensor(x)


def real(x: Any) -> Tensor:
    """The real part of real numbers: the tensor itself."""
    return as_tensor(x)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """``x`` between ``min`` and ``max``; None is no bound, and without any ``x`` itself. In the dtype of ``x``."""
    x = as_tensor(x)
    if min is None and max is None:
        return x
    y = comparisons.clip(x, min, max)
    return y if y.dtype == x.dtype else y.astype(x.dtype)
