"""Products: Gemm, MatMul, Einsum; determinants."""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..backend import array_module
from ..ops import contractions, products
from ..ops.arithmetic import absolute
from ..ops.comparisons import where
from ..ops.elementwise import as_tensor
from ..ops.extremes import argmax
from ..ops.indexing import take_along_axis
from .arguments import like
from .registry import register


@register("MatMul")
def matmul(a: Any, b: Any) -> Any:
    return products.matmul(a, b)


@register("Gemm")
def gemm(
    a: Any, b: Any, c: Any = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0,
    broadcast: int = 0,
) -> Any:
    a, b = as_tensor(a), as_tensor(b)
    y = products.matmul(a.T if transA else a, b.T if transB else b)
    y = y if alpha == 1 else like(y * alpha, a)
    if c is None or beta == 0:
        return y
    return y + (c if beta == 1 else like(as_tensor(c) * beta, a))


@register("Einsum")
def einsum(*inputs: Any, equation: str) -> Any:
    return contractions.einsum(equation.replace(" ", ""), *inputs)


@register("Det")
def det(x: Any) -> Any:
    """The determinant of each matrix (..., n, n): the product of the pivots of its elimination, the greatest one first."""
    x = as_tensor(x)
    n = x.shape[-1]
    if x.ndim < 2 or x.shape[-2] != n:
        raise ValueError(f"determinants are of square matrices, got shape {x.shape}")
    xp = array_module(x.data)
    y: Any = Tensor(xp.ones(x.shape[:-2], x.dtype))
    for left in range(n, 0, -1):
        at = argmax(absolute(x[..., 0]), -1, keepdims=True).data  # which row has the pivot: a constant
        pivot_row = take_along_axis(x, at[..., None], axis=-2)
        pivot = pivot_row[..., 0, 0]
        y = y * where(at[..., 0] % 2 == 0, pivot, -pivot)  # taking the row out and moving the others down
        order = xp.arange(left - 1)
        others = take_along_axis(x, (order + (order >= at))[..., None], axis=-2)
        shares = others[..., :1] / where(pivot == 0, 1.0, pivot)[..., None, None]
        x = (others - shares * pivot_row)[..., 1:]
    return y
