"""The Python array API standard (2024.12) on tensors: the same names with the standard's signatures, and gradients.

    xp = x.__array_namespace__()        # this module, for a flux.Tensor x
    xp.sum(xp.permute_dims(x, (1, 0)), axis=0)

Code that is written for the standard (``einops.array_api``, for instance) runs on tensors through it, and gradients flow
through all that is differentiable. Most names are the functions that ``minitorch_flux`` has under NumPy's names; this
package adds the standard's other spellings, creation, data types and the few functions that only the standard asks for.

Not here, and an AttributeError says so: complex numbers, which tensors do not hold; the optional extensions ``linalg`` and
``fft``. Tensors cannot be changed in place, which the standard allows: ``x[i] = v`` raises and names ``scatter``.

Source: https://data-apis.org/array-api/2024.12/
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..ops.arithmetic import absolute as abs
from ..ops.arithmetic import (
    add,
    ceil,
    divide,
    floor,
    floor_divide,
    multiply,
    negative,
    remainder,
    sign,
    subtract,
    trunc,
)
from ..ops.arithmetic import round as round
from ..ops.comparisons import (
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    not_equal,
    where,
)
from ..ops.comparisons import invert as bitwise_invert
from ..ops.diagonals import tril, triu
from ..ops.elementary import arccos as acos
from ..ops.elementary import arccosh as acosh
from ..ops.elementary import arcsin as asin
from ..ops.elementary import arcsinh as asinh
from ..ops.elementary import arctan as atan
from ..ops.elementary import arctan2 as atan2
from ..ops.elementary import arctanh as atanh
from ..ops.elementary import (
    cos,
    cosh,
    exp,
    expm1,
    hypot,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    reciprocal,
    sin,
    sinh,
    sqrt,
    square,
    tan,
)
from ..ops.elementary import power as pow
from ..ops.extremes import argmax, argmin
from ..ops.extremes import max as max
from ..ops.extremes import min as min
from ..ops.indexing import take
from ..ops.joining import concatenate as concat
from ..ops.joining import stack, unstack
from ..ops.nonlinearities import tanh
from ..ops.products import matmul, tensordot
from ..ops.reductions import all as all
from ..ops.reductions import any as any
from ..ops.reductions import broadcast_to, count_nonzero, mean
from ..ops.shapes import expand_dims, flip, moveaxis, repeat, roll, squeeze, tile
from ..ops.shapes import transpose as permute_dims
from ..ops.transfers import move_tensor
from .creation import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from .datatypes import (
    Information,
    astype,
    can_cast,
    finfo,
    iinfo,
    isdtype,
    result_type,
)
from .elements import bitwise_left_shift, bitwise_right_shift, clip, conj, copysign, nextafter, positive, real, signbit
from .manipulation import broadcast_arrays, broadcast_shapes, matrix_transpose, meshgrid, reshape, take_along_axis, vecdot
from .numbers import cumulative_prod, cumulative_sum, diff, prod, std, var
from .numbers import sum as sum
from .searching import (
    argsort,
    isin,
    nonzero,
    searchsorted,
    sort,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)

__array_api_version__ = "2024.12"
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")
"""The editions of the standard whose functions are here; each contains the one before."""

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None

int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
float16, float32, float64 = (np.dtype(f"float{n}") for n in (16, 32, 64))
bool = np.dtype("bool")

__all__ = [
    "abs", "acos", "acosh", "add", "all", "any", "arange", "argmax", "argmin", "argsort", "asarray", "asin", "asinh",
    "astype", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "bool", "broadcast_arrays", "broadcast_shapes", "broadcast_to", "can_cast",
    "ceil", "clip", "concat", "conj", "copysign", "cos", "cosh", "count_nonzero", "cumulative_prod", "cumulative_sum",
    "diff", "divide", "e", "empty", "empty_like", "equal", "exp", "expand_dims", "expm1", "eye", "finfo", "flip", "float16",
    "float32", "float64", "floor", "floor_divide", "from_dlpack", "full", "full_like", "greater", "greater_equal", "hypot",
    "iinfo", "inf", "int8", "int16", "int32", "int64", "isdtype", "isfinite", "isin", "isinf", "isnan", "less",
    "less_equal", "linspace", "log", "log1p", "log2", "log10", "logaddexp", "logical_and", "logical_not", "logical_or",
    "logical_xor", "matmul", "matrix_transpose", "max", "maximum", "mean", "meshgrid", "min", "minimum", "moveaxis",
    "multiply", "nan", "negative", "newaxis", "nextafter", "nonzero", "not_equal", "ones", "ones_like", "permute_dims",
    "pi", "positive", "pow", "prod", "real", "reciprocal", "remainder", "repeat", "reshape", "result_type", "roll", "round",
    "searchsorted", "sign", "signbit", "sin", "sinh", "sort", "sqrt", "square", "squeeze", "stack", "std", "subtract",
    "sum", "take", "take_along_axis", "tan", "tanh", "tensordot", "tile", "tril", "triu", "trunc", "uint8", "uint16",
    "uint32", "uint64", "unique_all", "unique_counts", "unique_inverse", "unique_values", "unstack", "var", "vecdot",
    "where", "zeros", "zeros_like",
]

NAMES = tuple(__all__)
"""Every name of the standard that is here."""

ABSENT = {
    "complex64": "tensors hold real numbers only",
    "complex128": "tensors hold real numbers only",
    "imag": "tensors hold real numbers only",
    "linalg": "the optional extension linalg is not provided; matmul, matrix_transpose, tensordot and vecdot are here",
    "fft": "the optional extension fft is not provided",
}
"""What the standard has and this namespace has not, and why."""

__all__ = list(NAMES)


def __array_namespace_info__() -> Information:
    """What this namespace can do: see ``Information``."""
    return Information()


def __getattr__(name: str) -> Any:
    why = ABSENT.get(name)
    if why is None:
        near = get_close_matches(name, NAMES, 3)
        why = f"near it are {', '.join(near)}" if near else "the list of all names is minitorch_flux.array_api.NAMES"
    raise AttributeError(f"the array API namespace of minitorch_flux has no {name!r}: {why}")


# -- what the standard asks of the array itself ------------------------------------------------------------------------


def _namespace(x: Tensor, /, *, api_version: str | None = None) -> Any:
    """The array API namespace for tensors. Raises ValueError for an edition of the standard that it does not follow."""
    if api_version not in (None, *VERSIONS):
        raise ValueError(f"Tensor.__array_namespace__: api_version is one of {', '.join(VERSIONS)}, got {api_version!r}")
    import sys

    return sys.modules[__name__]


def _to_device(x: Tensor, device: str, /, *, stream: Any = None) -> Tensor:
    """The tensor on ``device``, ``"cpu"`` or ``"cuda:N"``: itself when it lives there; gradients travel back."""
    if stream is not None:
        raise ValueError("Tensor.to_device: streams are CuPy's; enter one with cupy.cuda.Stream, and leave stream=None")
    return move_tensor(x, device)


Tensor.__array_namespace__ = _namespace  # type: ignore[attr-defined]
Tensor.to_device = _to_device  # type: ignore[attr-defined]
for _name, _f in (("lshift", bitwise_left_shift), ("rshift", bitwise_right_shift)):
    setattr(Tensor, f"__{_name}__", lambda self, other, f=_f: f(self, other))
    setattr(Tensor, f"__r{_name}__", lambda self, other, f=_f: f(other, self))
