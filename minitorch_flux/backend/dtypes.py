"""dtypes: what counts as a number, and what may carry a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

DEFAULT = np.dtype(np.float32)
"""The dtype of new weights."""


def is_float(dtype: Any) -> bool:
    """True for float16, float32, float64 and ml_dtypes' bfloat16: the dtypes that carry gradients."""
    dtype = np.dtype(dtype)
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_number(dtype: Any) -> bool:
    """True for booleans, integers, floats of any width and complex numbers; False for text, objects, dates, records."""
    dtype = np.dtype(dtype)
    return dtype.kind in "fiubc" or dtype.name == "bfloat16"


def refuse_complex(dtype: Any, where: str) -> None:
    """Raise TypeError for complex numbers, which no op of this library supports."""
    if np.dtype(dtype).kind == "c":
        raise TypeError(f"{where}: complex numbers are not supported (dtype {np.dtype(dtype)}); "
                        "split them into real and imaginary parts")


def accumulator(dtype: Any) -> np.dtype:
    """The dtype in which sums of ``dtype`` are formed: 16-bit floats accumulate in float32."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if is_float(dtype) and dtype.itemsize == 2 else dtype
