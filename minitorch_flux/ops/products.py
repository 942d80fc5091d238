"""Products that add up: matmul, and NumPy's others (einsum: contractions.py).

    matmul    z = x y              z[.., i, j] = sum_k x[.., i, k] y[.., k, j]
              dx = S(dz y^T)       dy = S(x^T dz)                              S: broadcasting of leading axes undone
    contract  z[o] = sum x[a] y[b] over the letters that o does not have
              dx = contract(dz, y; o, b -> a)        dy = contract(x, dz; a, o -> b)

``contract`` is a product of two arrays whose axes have letters: those of a are in b or o, those of b in a or o. So are
its gradients, which therefore are contractions again. It is one batched matmul: letters of a, b and o are its batch, of
a and b are added up, of a and o its rows, of b and o its columns.
"""

from __future__ import annotations

import functools
import math
import string
from typing import Any

import numpy as np

from ..autograd import Tensor, operation
from ..backend import accumulator, array_function, array_module, empty, is_float, product_dtype
from .arithmetic import fit, multiply
from .axes import normalise_axes
from .casts import astype_forward
from .elementwise import LARGE, as_tensor, documented, either
from .shapes import ravel

# -- matmul ------------------------------------------------------------------------------------------------------------


@array_function
def matmul_forward(x: Any, y: Any) -> Any:
    """``x @ y`` for arrays of at least one axis each; leading axes broadcast."""
    _check_matmul(x, y)
    if x.nbytes + y.nbytes < LARGE and x.dtype == y.dtype and x.dtype.itemsize > 2:
        return x @ y
    if y.ndim == 2 < x.ndim and x.flags.c_contiguous and x.size:  # one large product instead of many
        return matmul_forward(x.reshape(-1, x.shape[-1]), y).reshape(*x.shape[:-1], y.shape[1])
    xp = array_module(x)
    dtype = xp.result_type(x, y)
    if is_float(dtype):
        x, y = (_for_blas(astype_forward(a, product_dtype(a, dtype))) for a in (x, y))
    if x.ndim == 1 or y.ndim == 1 or x.nbytes + y.nbytes < LARGE or not is_float(dtype):
        return astype_forward(xp.matmul(x, y), dtype)
    shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    return astype_forward(xp.matmul(x, y, out=empty(shape, x.dtype, like=x)), dtype)


def _for_blas(x: Any) -> Any:
    """``x``, copied when BLAS cannot read its matrices: a view with steps, or stretched by broadcasting.

    NumPy would multiply those element by element, some ten times as slowly.
    """
    if x.ndim < 2 or x.flags.c_contiguous:
        return x
    (n, m), (down, across), size = x.shape[-2:], x.strides[-2:], x.itemsize
    rows = across == size and (down >= m * size or n == 1)
    columns = down == size and (across >= n * size or m == 1)
    return x if rows or columns else array_module(x).ascontiguousarray(x)


def _check_matmul(x: Any, y: Any) -> None:
    if getattr(x, "ndim", 0) == 2 == getattr(y, "ndim", 0) and x.shape[1] == y.shape[0]:
        return
    if not getattr(x, "ndim", 0) or not getattr(y, "ndim", 0):
        raise ValueError("matmul: needs at least one axis on either side, got the shapes "
                         f"{getattr(x, 'shape', ())} and {getattr(y, 'shape', ())}; multiply by numbers with *")
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        axis = -2 if y.ndim > 1 else 0
        raise ValueError(f"matmul: the shapes {x.shape} and {y.shape} do not fit: axis -1 of the first has "
                         f"{x.shape[-1]} elements, axis {axis} of the second {y.shape[axis]}; they must be equal")
    for back in range(-3, -min(x.ndim, y.ndim) - 1, -1):
        if x.shape[back] != y.shape[back] and 1 not in (x.shape[back], y.shape[back]):
            raise ValueError(f"matmul: the leading axes of the shapes {x.shape} and {y.shape} do not broadcast: axis "
                             f"{back} has the sizes {x.shape[back]} and {y.shape[back]}; they must be equal, or one 1")


def _matmul_gradient(dy: Any, x: Any, y: Any, needs: Any) -> Any:
    rows, columns = (1, *x.shape) if x.ndim == 1 else x.shape, (*y.shape, 1) if y.ndim == 1 else y.shape
    dz = dy.reshape(*np.broadcast_shapes(rows[:-2], columns[:-2]), rows[-2], columns[-1])
    dx = dw = None
    if needs[0]:
        dx = either.matmul(dz, y.reshape(columns).swapaxes(-1, -2))
        dx = fit(dx, rows).reshape(x.shape)
    if needs[1]:
        a = x.reshape(rows)
        if len(columns) == 2 < len(rows):  # the sum over the leading axes is part of the product
            n = math.prod(rows[:-1])
            a, dz = a.reshape(n, rows[-1]), dz.reshape(n, columns[-1])
        dw = fit(either.matmul(a.swapaxes(-1, -2), dz), columns).reshape(y.shape)
    return dx, dw


matmul = documented(
    operation("matmul", matmul_forward, gradient=_matmul_gradient),
    """The matrix product ``x @ y``: ``z[.., i, j] = sum_k x[.., i, k] y[.., k, j]``.

    x (..., I, K), y (..., K, J): leading axes broadcast. A vector x is a row, a vector y a column, and the axis that
    they lack is missing in the result: (K,) and (K,) give a number. 16-bit floats are multiplied in float32.
    Raises ValueError, naming both shapes and the axis, when they do not fit.""",
)


# -- contract: two operands with letters -------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _plan(a: str, b: str, to: str) -> tuple[str, str, str, str]:
    """The letters of the batch, the rows, the columns and the sum, each in the order of the output or of ``a``."""
    batch = "".join(i for i in to if i in a and i in b)
    rows = "".join(i for i in to if i in a and i not in b)
    columns = "".join(i for i in to if i in b and i not in a)
    return batch, rows, columns, "".join(i for i in a if i not in to)


def contract_forward(x: Any, y: Any, a: str, b: str, to: str) -> Any:
    """``z[to] = sum x[a] y[b]``: one batched matrix product."""
    batch, rows, columns, added = _plan(a, b, to)
    if to[len(batch) :].startswith(tuple(columns)) and rows:  # the columns come first
        return contract_forward(y, x, b, a, to)
    if not rows and not columns and added:  # sums of products, for which NumPy has its own loop
        xp = array_module(x)
        return xp.einsum(f"{a},{b}->{to}", *(_accumulated(v, x, y) for v in (x, y))).astype(
            xp.result_type(x, y), copy=False
        )
    sizes = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}
    n = [[sizes[i] for i in letters] for letters in (batch, rows, columns, added)]
    x = x.transpose([a.index(i) for i in batch + rows + added]).reshape(*n[0], math.prod(n[1]), math.prod(n[3]))
    y = y.transpose([b.index(i) for i in batch + added + columns]).reshape(*n[0], math.prod(n[3]), math.prod(n[2]))
    z = matmul_forward(x, y) if added else multiply.forward(x, y)
    z = z.reshape([*n[0], *n[1], *n[2]])
    return z.transpose([(batch + rows + columns).index(i) for i in to])


def _accumulated(v: Any, x: Any, y: Any) -> Any:
    dtype = array_module(x).result_type(x, y)
    return v.astype(accumulator(dtype), copy=False)


def _contract_gradient(dy: Any, x: Any, y: Any, a: str, b: str, to: str, needs: Any) -> Any:
    return (
        either.contract(dy, y, a=to, b=b, to=a) if needs[0] else None,
        either.contract(x, dy, a=a, b=to, to=b) if needs[1] else None,
    )


contract = operation("contract", contract_forward, gradient=_contract_gradient)


# -- NumPy's other products, made of the two ---------------------------------------------------------------------------

LETTERS = string.ascii_letters


def tensordot(x: Any, y: Any, axes: Any = 2) -> Tensor:
    """The sum of products over pairs of axes; the result has the other axes of x, then those of y.

    axes: how many of the last axes of x and the first of y; or two axes, or two tuples of them, one for each.
    Raises ValueError, naming both shapes and the axes, when sizes differ.
    """
    x, y = as_tensor(x), as_tensor(y)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ValueError(f"tensordot: cannot add up over {axes} axes of the shapes {x.shape} and {y.shape}")
        first, second = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    else:
        first, second = axes
        first = normalise_axes("tensordot", first, x.ndim, x.shape)
        second = normalise_axes("tensordot", second, y.ndim, y.shape)
        if len(first) != len(second):
            raise ValueError(f"tensordot: axes {axes} name {len(first)} axes of the first and {len(second)} of the "
                             "second; they are added up in pairs")
    return _along(x, y, first, second, "tensordot")


def _along(x: Tensor, y: Tensor, first: tuple[int, ...], second: tuple[int, ...], name: str) -> Tensor:
    """``tensordot`` for axes counted from the front."""
    for i, j in zip(first, second, strict=True):
        if x.shape[i] != y.shape[j]:
            raise ValueError(f"{name}: the shapes {x.shape} and {y.shape} do not fit: axis {i} of the first has "
                             f"{x.shape[i]} elements, axis {j} of the second {y.shape[j]}; they are added up together")
    a, b = LETTERS[: x.ndim], list(LETTERS[x.ndim : x.ndim + y.ndim])
    for i, j in zip(first, second, strict=True):
        b[j] = a[i]
    out = [c for i, c in enumerate(a) if i not in first] + [c for j, c in enumerate(b) if j not in second]
    return contract(x, y, a=a, b="".join(b), to="".join(out))


def dot(x: Any, y: Any) -> Tensor:
    """``numpy.dot``: the sum over the last axis of x and the second to last (or only) axis of y.

    Two vectors give a number, two matrices their product; with a number it is ``x * y``.
    """
    x, y = as_tensor(x), as_tensor(y)
    if not x.ndim or not y.ndim:
        return multiply(x, y)
    return _along(x, y, (x.ndim - 1,), (max(y.ndim - 2, 0),), "dot")


def inner(x: Any, y: Any) -> Tensor:
    """``numpy.inner``: the sum of products over the last axes; with a number it is ``x * y``."""
    x, y = as_tensor(x), as_tensor(y)
    if not x.ndim or not y.ndim:
        return multiply(x, y)
    return _along(x, y, (x.ndim - 1,), (y.ndim - 1,), "inner")


def vdot(x: Any, y: Any) -> Tensor:
    """The sum of the products of all elements, in row-major order: a number."""
    return _along(ravel(x), ravel(y), (0,), (0,), "vdot")


def outer(x: Any, y: Any) -> Tensor:
    """Every element of x times every element of y: shape ``(x.size, y.size)``."""
    return multiply(as_tensor(x).reshape(-1, 1), as_tensor(y).reshape(1, -1))


def kron(x: Any, y: Any) -> Tensor:
    """The Kronecker product: blocks ``x[i] y``, of shape ``x.shape * y.shape`` (missing axes count as size one)."""
    x, y = as_tensor(x), as_tensor(y)
    n = max(x.ndim, y.ndim)
    sizes = [(1,) * (n - t.ndim) + t.shape for t in (x, y)]
    blocks = [m for pair in zip(sizes[0], (1,) * n, strict=True) for m in pair]
    inside = [m for pair in zip((1,) * n, sizes[1], strict=True) for m in pair]
    return multiply(x.reshape(blocks), y.reshape(inside)).reshape([m * k for m, k in zip(*sizes, strict=True)])
