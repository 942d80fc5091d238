"""Products: Gemm, MatMul, Einsum."""

from __future__ import annotations

from typing import Any

from ..ops import contractions, products
from ..ops.elementwise import as_tensor
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
