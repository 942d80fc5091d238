"""Numbers in another dtype (kernels: kernels/casts.cu).

    astype   y = x, rounded to the nearest number of the other dtype, of two equally near ones to the even one

The operation is in shapes.py. The kernel serves 16-bit floats, which NumPy converts one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import array_function, contiguous, empty, is_float
from ..readings import KernelFile


@array_function
def astype_forward(x: Any, dtype: Any) -> Any:
    """``x`` in ``dtype``: itself when it has it. What is beyond its range becomes infinite."""
    if x.dtype == dtype:
        return x
    with np.errstate(over="ignore"):
        return x.astype(dtype)


casts = KernelFile("casts.cu")

FEW = 1024
"""Fewer elements are converted by NumPy as quickly."""
CHUNK = 4096  # elements of a row, as in casts.cu


@astype_forward.kernel(
    accepts=f"float16, bfloat16 and float32 to another one of them, at least {FEW} elements; copied where not contiguous"
)
def _(x: Any, dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    if (
        x.size < FEW or x.dtype == dtype or not (is_float(x.dtype) and is_float(dtype))
        or x.dtype.itemsize > 4 or dtype.itemsize > 4
    ):
        return NotImplemented
    x = contiguous(x)
    y = empty(x.shape, dtype, like=x)
    rows = -(-x.size // CHUNK)
    ran = casts("astype_forward", x, rows, CHUNK, x, y, x.size, FROM=x.dtype, T=dtype, ACC=np.dtype(np.float32))
    return y if ran else NotImplemented
