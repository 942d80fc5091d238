"""f16, bf16, f32 and f64: copies of arrays, tensors and models in another floating-point dtype."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import numpy as np

from ..autograd import Structure, Tensor
from ..autograd.tree import same_kind
from ..backend import is_array, is_float
from .module import _named, walk


def f16(x: Any) -> Any:
    """A copy of ``x`` in float16: its range ends at 65504. Sums are formed in float32. See ``f32``."""
    return _convert(x, np.dtype(np.float16), {})


def bf16(x: Any) -> Any:
    """A copy of ``x`` in bfloat16: the range of float32 with 8 bits of precision. See ``f32``.

    Raises ImportError, with what to install, where ml_dtypes, which gives NumPy this dtype, is missing.
    """
    if importlib.util.find_spec("ml_dtypes") is None:
        raise ImportError("NumPy has no bfloat16 of its own: pip install ml_dtypes")
    import ml_dtypes

    return _convert(x, np.dtype(ml_dtypes.bfloat16), {})


def f32(x: Any) -> Any:
    """A copy of ``x`` in float32.

    Of a model all floating-point parameters, buffers and recurrent states are converted; whole numbers and booleans stay as
    they are. An array of floats that has the dtype already is returned as it is; gradients flow through the conversion
    of a tensor. Nested lists, tuples and dicts are walked; what two models in them share, their copies share.
    Source: Flux's ``f32``.
    """
    return _convert(x, np.dtype(np.float32), {})


def f64(x: Any) -> Any:
    """A copy of ``x`` in float64. See ``f32``."""
    return _convert(x, np.dtype(np.float64), {})


def _convert(x: Any, dtype: np.dtype, copies: dict[int, Any]) -> Any:
    if isinstance(x, Structure):
        model = copy.deepcopy(x, copies)
        for _, t in _named(model, Tensor):
            if t.node is None and is_float(t.dtype):
                t.data, t.grad = t.data.astype(dtype), None
        for _, m in walk(model):
            m._carry(lambda t: t.astype(dtype) if is_float(t.dtype) else t)
        return model
    if isinstance(x, Tensor) or is_array(x):
        return x.astype(dtype) if is_float(x.dtype) and x.dtype != dtype else x
    if isinstance(x, dict):
        return {k: _convert(v, dtype, copies) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return same_kind(x, [_convert(v, dtype, copies) for v in x])
    return x
