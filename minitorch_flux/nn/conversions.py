"""f16, bf16, f32 and f64: copies of arrays, tensors and models in another floating-point dtype; mixed: of models, in two."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Structure, Tensor
from ..autograd.tree import same_kind
from ..backend import is_array, is_float
from .module import Module, _named, walk


def f16(x: Any) -> Any:
    """A copy of ``x`` in float16: its range ends at 65504. Sums are formed in float32. See ``f32``."""
    return _convert(x, np.dtype(np.float16), {})


def bf16(x: Any) -> Any:
    """A copy of ``x`` in bfloat16: the range of float32 with 8 bits of precision. See ``f32``.

    Raises ImportError, with what to install, where ml_dtypes, which gives NumPy this dtype, is missing.
    """
    return _convert(x, _bfloat16(), {})


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


def mixed(model: Any, dtype: Any = "bfloat16", keep: Any = ()) -> Any:
    """mixed(model, dtype="bfloat16", keep=())

    A copy of ``model`` for mixed precision: weights and activations in 16 bits, the norms in float32.

    ``dtype``: ``"bfloat16"`` or ``"float16"``. Weights, biases and running statistics of the layers whose class says
    ``stays_float32 = True`` (BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LayerNormV2, RMSNorm, ChannelLayerNorm) are
    float32: such a layer takes 16-bit inputs as they are, computes in float32 and gives the dtype of its input. All other
    floating-point parameters, buffers and recurrent states are in ``dtype``, and an input is converted where it meets the
    first of them. Sums, softmax and losses are formed in float32 anyway.

    ``keep`` names more layers that stay in float32, with all inside them: a class of layers, several, or a function
    ``keep(path, layer)`` of the dotted path (``"3.attention"``) and the layer. A kept layer that is no norm computes in
    float32 and gives float32; the next layer of 16 bits converts back. Of a parameter that two layers share, one of them
    kept, there is still one, in float32.

    ``flux.setup`` keeps float32 masters of the 16-bit parameters; with float16 put ``LossScale()`` before the rule.
    Nested lists, tuples and dicts of models are walked. ``f32(model)`` leads back. Raises TypeError for another model, dtype
    or keep, ValueError where a layer does not know its size yet, ImportError for bfloat16 where ml_dtypes is missing.
    Source: Micikevicius and others, "Mixed precision training", 2018.
    """
    short, kept = _sixteen_bits(dtype), _keeper(keep)
    if not isinstance(model, Structure | list | tuple | dict):
        raise TypeError(f"mixed(model): takes a model, got a {type(model).__name__}; arrays are converted by flux.f16 and "
                        "flux.bf16")
    model = copy.deepcopy(model)
    wide: set[int] = set()  # kept layers, all inside them, and their tensors
    for path, layer in walk(model):
        if layer.stays_float32 or kept(path, layer):
            wide.update(id(m) for _, m in walk(layer))
            wide.update(id(t) for _, t in _named(layer, Tensor))
    high = np.dtype(np.float32)
    for _, t in _named(model, Tensor):
        if t.node is None and is_float(t.dtype):
            t.data, t.grad = t.data.astype(high if id(t) in wide else short), None
    for _, m in walk(model):
        m._carry(_converter(high if id(m) in wide else short))
    return model


def _bfloat16() -> np.dtype:
    if importlib.util.find_spec("ml_dtypes") is None:
        raise ImportError("NumPy has no bfloat16 of its own: pip install ml_dtypes")
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def _sixteen_bits(dtype: Any) -> np.dtype:
    """The dtype that is meant by ``"float16"``, ``"bfloat16"`` or one of the two themselves."""
    try:
        found = _bfloat16() if isinstance(dtype, str) and dtype == "bfloat16" else np.dtype(dtype)
    except TypeError:  # NumPy knows no such dtype
        found = None
    if found is None or found.name not in ("float16", "bfloat16"):
        raise TypeError(f"mixed(model, dtype): the dtype is 'float16' or 'bfloat16', got {dtype!r}")
    return found


def _keeper(keep: Any) -> Callable[[str, Module], Any]:
    """``keep`` as a function of the path and the layer."""
    classes = tuple(keep) if isinstance(keep, list | tuple) else (keep,)
    if all(isinstance(cls, type) and issubclass(cls, Module) for cls in classes):
        return lambda _, layer: isinstance(layer, classes)
    if isinstance(keep, type) or not callable(keep):
        raise TypeError("mixed(model, dtype, keep): keep is a class of layers, several of them, or a function "
                        f"keep(path, layer), got {keep!r}")
    return keep


def _converter(dtype: np.dtype) -> Callable[[Tensor], Tensor]:
    return lambda t: t.astype(dtype) if is_float(t.dtype) else t


def _convert(x: Any, dtype: np.dtype, copies: dict[int, Any]) -> Any:
    if isinstance(x, Structure):
        model = copy.deepcopy(x, copies)
        for _, t in _named(model, Tensor):
            if t.node is None and is_float(t.dtype):
                t.data, t.grad = t.data.astype(dtype), None
        for _, m in walk(model):
            m._carry(_converter(dtype))
        return model
    if isinstance(x, Tensor) or is_array(x):
        return x.astype(dtype) if is_float(x.dtype) and x.dtype != dtype else x
    if isinstance(x, dict):
        return {k: _convert(v, dtype, copies) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return same_kind(x, [_convert(v, dtype, copies) for v in x])
    return x
