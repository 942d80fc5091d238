"""Diagonals and triangles of matrices: tril, triu, diagonal and diag.

tril, triu   y = x on one side of a diagonal, 0 on the other       dx = dy on that side, 0 on the other
diagonal     y[.., i] = x[.., i, i + offset]                       dx[.., i, i + offset] = dy[.., i]
"""

from __future__ import annotations

from typing import Any

from ..autograd import Operation, Tensor, operation
from ..backend import array_module, as_array
from .axes import normalise_axis
from .indexing import add_up_at, read_at
from .positions import Index


def tril_forward(x: Any, k: int) -> Any:
    """Zeros above the ``k``-th diagonal."""
    return array_module(x).tril(x, k)


def triu_forward(x: Any, k: int) -> Any:
    """Zeros below the ``k``-th diagonal."""
    return array_module(x).triu(x, k)


_tril: Operation = operation(
    "tril", tril_forward, backward=lambda dy, k: tril_forward(dy, k), rule=lambda dy, k: _tril(dy, k=k)
)
_triu: Operation = operation(
    "triu", triu_forward, backward=lambda dy, k: triu_forward(dy, k), rule=lambda dy, k: _triu(dy, k=k)
)


def _matrices(op: str, x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else Tensor(as_array(x))
    if x.ndim < 2:
        raise ValueError(f"{op}: needs an array with at least two axes, got shape {x.shape}")
    return x


def tril(x: Any, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes: zeros above the ``k``-th diagonal (0 the main one, 1 the one above)."""
    return _tril(_matrices("tril", x), k=k)


def triu(x: Any, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes: zeros below the ``k``-th diagonal (0 the main one, 1 the one above)."""
    return _triu(_matrices("triu", x), k=k)


def _along(rows: int, columns: int, offset: int, like: Any) -> tuple[Any, Any]:
    """The row and column numbers of the ``offset``-th diagonal of a matrix."""
    below, above = max(-offset, 0), max(offset, 0)
    i = array_module(like).arange(max(min(rows - below, columns - above), 0))
    return i + below, i + above


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The ``offset``-th diagonal of the matrices along ``axis1`` and ``axis2``, as last axis: ``numpy.diagonal``."""
    x = _matrices("diagonal", x)
    first = normalise_axis("diagonal", axis1, x.ndim, x.shape)
    second = normalise_axis("diagonal", axis2, x.ndim, x.shape)
    if first == second:
        raise ValueError(f"diagonal: axis1 and axis2 are both axis {first} of an array of shape {x.shape}")
    rest = [axis for axis in range(x.ndim) if axis not in (first, second)]
    i, j = _along(x.shape[first], x.shape[second], offset, x.data)
    return read_at(x.transpose((*rest, first, second)), Index((..., i, j), has_arrays=True))


def diag(x: Any, k: int = 0) -> Tensor:
    """The ``k``-th diagonal of a matrix; of a vector, the square matrix with the vector on it: ``numpy.diag``."""
    x = x if isinstance(x, Tensor) else Tensor(as_array(x))
    if x.ndim not in (1, 2):
        raise ValueError(f"diag: takes a vector or a matrix, got shape {x.shape}; for stacks of matrices use diagonal")
    if x.ndim == 2:
        return diagonal(x, k)
    n = x.shape[0] + abs(k)
    return add_up_at(x, Index(_along(n, n, k, x.data), has_arrays=True), (n, n))
