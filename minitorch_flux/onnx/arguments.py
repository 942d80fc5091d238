"""What translators share: reading axes and sizes, and ONNX's rule that an operator keeps the dtype of its input."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..ops.elementwise import as_tensor


def ints(values: Any) -> tuple[int, ...] | None:
    """An attribute's list, or a host array, as a tuple of ints; None stays None."""
    return None if values is None else tuple([operator.index(v) for v in np.asarray(values).reshape(-1).tolist()])


def number(value: Any) -> Any:
    """The one element of a host array as a Python number; None stays None."""
    return value.reshape(()).item() if isinstance(value, np.ndarray) else value


def like(y: Tensor, x: Any) -> Tensor:
    """``y`` in the dtype of ``x``."""
    dtype = as_tensor(x).dtype
    return y if y.dtype == dtype else y.astype(dtype)


def axis_of(x: Any, axis: int) -> int:
    """``axis`` counted from the front."""
    n = as_tensor(x).ndim
    if not -n <= axis < max(n, 1):
        raise ValueError(f"there is no axis {axis} in an input of {n} axes")
    return axis % n if n else 0
