"""dense: a matrix product with bias and activation in one operation.

    z = x w^T + b       x (..., in), w (out, in), b (out,) or None
    y = act(z)          y (..., out)

    dz = dy act'(z)     from y where the activation permits it, so that z is not kept
    dx = dz w
    dw = dz^T x         summed over all leading axes
    db = sum dz
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor, operation
from ..backend import array_function, array_module, empty
from ..backend.threads import SMALL, one_blas_thread
from .elementwise import as_tensor
from .nonlinearities import Activation, activation_backward, bias_act_forward, bias_backward, identity
from .products import matmul, matmul_forward


def _rows(x: Any) -> Any:
    """All leading axes as one, also where there are no elements to count by."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _shaped(x: Any, shape: tuple[int, ...]) -> Any:
    return x if x.shape == shape else x.reshape(shape)


def _product(a: Any, b: Any) -> Any:
    """``a b`` for two matrices: the plain case quickly, the others (16-bit, mixed, with steps) by ``matmul_forward``."""
    (n, k), m = a.shape, b.shape[1]
    large = n * k * m > ALONE
    if a.dtype != b.dtype or a.itemsize < 4 or (large and not (_whole(a) and _whole(b))):
        return matmul_forward(a, b)
    out = empty((n, m), a.dtype, like=a)
    if large and n * k * m <= SMALL:
        with one_blas_thread:
            return array_module(a).matmul(a, b, out=out)
    return array_module(a).matmul(a, b, out=out)


ALONE = 1 << 18  # multiplications up to which BLAS takes one thread by itself, and steps in memory cost nothing


def _whole(a: Any) -> bool:
    return a.flags.c_contiguous or a.flags.f_contiguous


@array_function
def dense_forward(x: Any, w: Any, b: Any, activation: Activation = identity) -> tuple[Any, Any]:
    """``(y, z)``: the output, and the pre-activation where the gradient needs it (else None)."""
    z = _product(_rows(x), w.T)
    if activation.from_output:
        y, z = bias_act_forward(z, b, 1, activation, out=z), None
    else:
        if b is not None:
            z += b
        y = bias_act_forward(z, None, 1, activation)
    shape = (*x.shape[:-1], w.shape[0])
    return _shaped(y, shape), None if z is None else _shaped(z, shape)


@array_function
def dense_backward(dy: Any, x: Any, w: Any, out: Any, z: Any, activation: Any, needs: Any) -> Any:
    """``(dx, dw, db)``."""
    dz = _rows(dy if activation is identity else activation_backward(dy, out if z is None else z, activation))
    return (
        _shaped(_product(dz, w), x.shape) if needs[0] else None,
        _product(dz.T, _rows(x)) if needs[1] else None,
        bias_backward(dz, 1) if needs[2] else None,
    )


def _dense_rule(dy: Tensor, x: Any, w: Any, b: Any, activation: Any, needs: Any) -> Any:
    dz, x = dy, as_tensor(x)
    if activation is not identity:
        pre = matmul(x, w.T) if b is None else matmul(x, w.T) + b
        dz = activation.pull(dy, pre)
    leading = math.prod(dz.shape[:-1])
    rows = dz.reshape(leading, dz.shape[-1])
    return (
        matmul(dz, w) if needs[0] else None,
        matmul(rows.T, x.reshape(leading, x.shape[-1])) if needs[1] else None,
        rows.sum(axis=0) if needs[2] else None,
    )


dense = operation("dense", dense_forward, backward=dense_backward, rule=_dense_rule, residuals=("z",))
