"""dense: a matrix product with bias and activation in one operation.

    z = x w^T + b       x (..., in), w (out, in), b (out,) or None
    y = act(z)          y (..., out)

    dz = dy act'(z)     from y where the activation permits it, so that z is not kept
    dx = dz w
    dw = dz^T x         summed over all leading axes
    db = sum dz
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor, operation
from ..backend import array_function, array_module, empty
from .nonlinearities import Activation, activation_backward, bias_act_forward, identity
from .products import matmul


def _rows(x: Any) -> Any:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


@array_function
def dense_forward(x: Any, w: Any, b: Any, activation: Activation = identity) -> tuple[Any, Any]:
    """``(y, z)``: the output, and the pre-activation where the gradient needs it (else None)."""
    rows = _rows(x)
    xp = array_module(x)
    z = xp.matmul(rows, w.T, out=empty((rows.shape[0], w.shape[0]), xp.result_type(x.dtype, w.dtype), like=x))
    if activation.from_output:
        y, z = bias_act_forward(z, b, 1, activation, out=z), None
    else:
        if b is not None:
            z += b
        y = bias_act_forward(z, None, 1, activation)
    if x.ndim != 2:
        shape = (*x.shape[:-1], w.shape[0])
        return y.reshape(shape), None if z is None else z.reshape(shape)
    return y, z


@array_function
def dense_backward(dy: Any, x: Any, w: Any, out: Any, z: Any, activation: Any, needs: Any) -> Any:
    """``(dx, dw, db)``."""
    dz = dy if activation is identity else activation_backward(dy, out if z is None else z, activation)
    rows = _rows(dz)
    xp = array_module(dz)
    dx = dw = db = None
    if needs[0]:
        dx = xp.matmul(rows, w, out=empty((rows.shape[0], w.shape[1]), dz.dtype, like=dz)).reshape(x.shape)
    if needs[1]:
        dw = xp.matmul(rows.T, _rows(x), out=empty(w.shape, dz.dtype, like=dz))
    if needs[2]:
        db = rows.sum(axis=0)
    return dx, dw, db


def _dense_rule(dy: Tensor, x: Any, w: Any, b: Any, activation: Any, needs: Any) -> Any:
    dz = dy
    if activation is not identity:
        pre = matmul(x, w.T) if b is None else matmul(x, w.T) + b
        dz = activation.pull(dy, pre)
    rows = dz.reshape(-1, dz.shape[-1])
    return (
        matmul(dz, w) if needs[0] else None,
        matmul(rows.T, x.reshape(-1, x.shape[-1])) if needs[1] else None,
        rows.sum(axis=0) if needs[2] else None,
    )


dense = operation("dense", dense_forward, backward=dense_backward, rule=_dense_rule, residuals=("z",))
