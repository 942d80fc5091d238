"""What all elementwise operations share: outputs from the pool, kernels, errors that name the axis.

Small arrays go to NumPy (or CuPy) directly. Large ones are written to memory from the pool, by the kernels of
kernels/elementwise.cu where they are quicker; these give no warnings of overflow and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import OPERATIONS, Operation, Tensor, operation
from ..backend import array_function, array_module, as_array, empty, empty_like, is_float
from ..backend.arrays import same_device
from ..readings import KernelFile

LARGE = 1 << 16
"""Outputs of about this many bytes and more come from the memory pool; below, NumPy's own allocation is as fast."""


def as_tensor(x: Any) -> Tensor:
    """``x``, a tensor, array, number or nested list, as a Tensor."""
    return x if isinstance(x, Tensor) else Tensor(as_array(x))


class _Either:
    """``either.exp(x)``, or ``either(exp)(x)``: the operation on tensors, its forward function on plain arrays.

    Gradients are written in these, and in operators, so that one text serves an ordinary backward pass (arrays) and a
    recorded one (tensors).
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in OPERATIONS:
            raise AttributeError(f"there is no operation {name!r}")
        setattr(self, name, self(OPERATIONS[name]))  # found without this detour from now on
        return self.__dict__[name]

    def __call__(self, op: Operation) -> Callable[..., Any]:
        forward = op.forward

        def apply(*inputs: Any, **static: Any) -> Any:
            for x in inputs:
                if isinstance(x, Tensor):
                    return op(*inputs, **static)
            return forward(*inputs, **static)

        return apply


either = _Either()


def raw(x: Any) -> Any:
    """The array of a tensor, for masks and other piecewise constant parts of a gradient."""
    return x.data if isinstance(x, Tensor) else x


def documented(op: Operation, doc: str) -> Operation:
    """``op`` with a docstring, and a name as functions have it."""
    op.__doc__, op.__name__ = doc, op.name  # type: ignore[attr-defined]
    return op


def zeros(dy: Any, shape: tuple[int, ...] | None = None) -> Any:
    """No gradient: an array or tensor like ``dy``, or of ``shape``."""
    if isinstance(dy, Tensor):
        return Tensor(zeros(dy.data, shape))
    return array_module(dy).zeros(dy.shape if shape is None else shape, dy.dtype)


def no_gradient(dy: Any) -> Any:
    """The gradient of a piecewise constant function: zero."""
    return zeros(dy)


# -- functions of one array --------------------------------------------------------------------------------------------


def unary_forward(name: str) -> Callable[[Any], Any]:
    """NumPy's (and CuPy's) elementwise function ``name`` of one array; large results are written to pool memory."""

    def reference(x: Any) -> Any:
        return getattr(array_module(x), name)(x, out=empty_like(x))

    reference.__name__ = f"{name}_forward"
    reference.__doc__ = f"``{name}`` of each element of a large array of floats."
    large = array_function(reference)
    if name in KERNELS:
        large.kernel(accepts=f"contiguous floats of at least {LARGE} bytes")(lambda x: _launch_unary(name, x))

    def forward(x: Any) -> Any:
        if getattr(x, "nbytes", 0) < LARGE or not is_float(x.dtype):
            return getattr(array_module(x), name)(x)
        return large(x)

    return forward


def unary(name: str, doc: str, gradient: Callable[..., Any]) -> Operation:
    """The operation that applies NumPy's function ``name`` to each element; ``doc`` begins with its formula."""
    text = f"{doc}\n\n    Elementwise; any shape, dtypes as in NumPy."
    return documented(operation(name, unary_forward(name), gradient=gradient), text)


# -- functions of two arrays -------------------------------------------------------------------------------------------


def binary_forward(name: str, symbol: Callable[[Any, Any], Any] | None = None) -> Callable[[Any, Any], Any]:
    """NumPy's elementwise function ``name`` of two arrays or numbers, with an error that names the axis.

    ``symbol`` is Python's operator for it, the quicker way for small arrays.
    """

    def reference(x: Any, y: Any) -> Any:
        x, y = settled(x, y)
        xp = array_module(x, y)
        dtype = xp.result_type(x, y)
        if not is_float(dtype):
            return getattr(xp, name)(x, y)
        shape = np.broadcast_shapes(getattr(x, "shape", ()), getattr(y, "shape", ()))
        return getattr(xp, name)(x, y, out=empty(shape, dtype, like=x if hasattr(x, "shape") else y))

    reference.__name__ = f"{name}_forward"
    reference.__doc__ = f"``{name}`` of two arrays, one of them large."
    large = array_function(reference)
    if name in KERNELS:
        large.kernel(accepts="contiguous floats of one shape and dtype, or one of them and a number, at least "
                     f"{PARALLEL} elements ({LARGE} bytes of 16-bit floats)")(lambda x, y: _launch_binary(name, x, y))

    def forward(x: Any, y: Any) -> Any:
        try:
            if getattr(x, "nbytes", 0) < LARGE and getattr(y, "nbytes", 0) < LARGE:
                if type(x) is float or type(y) is float:
                    x, y = settled(x, y)
                return symbol(x, y) if symbol else getattr(array_module(x, y), name)(x, y)
            return large(x, y)
        except (TypeError, ValueError) as error:
            same_device(name, (x, y))
            refuse_shapes(name, error, x, y)
            raise

    return forward


def settled(x: Any, y: Any) -> tuple[Any, Any]:
    """The two, where one is a bfloat16 array and the other a Python float that in its dtype: NumPy, which knows no bfloat16,
    would go on in float32 or float64."""
    if type(y) is float and _is_bfloat16(x):
        return x, x.dtype.type(y)
    if type(x) is float and _is_bfloat16(y):
        return y.dtype.type(x), y
    return x, y


def _is_bfloat16(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    return dtype is not None and dtype.kind == "V" and dtype.name == "bfloat16"


def refuse_shapes(name: str, error: Exception, *arrays: Any) -> None:
    """Raise ValueError, naming the axis and both sizes, when the shapes of the arrays do not broadcast."""
    shapes = [a.shape for a in arrays if hasattr(a, "shape")]
    for back in range(1, max(map(len, shapes), default=0) + 1):
        sizes = list(dict.fromkeys(shape[-back] for shape in shapes if len(shape) >= back and shape[-back] != 1))
        if len(sizes) > 1:
            raise ValueError(
                f"{name}: the shapes {' and '.join(map(str, shapes))} do not broadcast: axis {-back} has the sizes "
                f"{sizes[0]} and {sizes[1]}; they must be equal, or one of them 1"
            ) from error


def predicate_forward(name: str, symbol: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """NumPy's function ``name`` whose result is no float: booleans, or integers of integers."""

    def forward(*xs: Any) -> Any:
        try:
            return symbol(*xs) if symbol else getattr(array_module(*xs), name)(*xs)
        except (TypeError, ValueError) as error:
            same_device(name, xs)
            refuse_shapes(name, error, *xs)
            raise

    return forward


# -- kernels -----------------------------------------------------------------------------------------------------------

elementwise = KernelFile("elementwise.cu")

KERNELS = {"add", "subtract", "multiply", "divide", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos"}

PARALLEL = 500_000
"""From here on several threads are quicker than NumPy's one."""


def numbers_fit(array: Any, *others: Any) -> bool:
    """Whether the others are numbers that leave the dtype alone, or contiguous arrays of the same shape and dtype."""
    return all(
        (o.shape == array.shape and o.dtype == array.dtype and o.flags.c_contiguous)
        if hasattr(o, "dtype")
        else (type(o) is float and _is_bfloat16(array)) or array_module(array).result_type(array, o) == array.dtype
        for o in others
    )


def _launch_unary(name: str, x: Any) -> Any:
    if not x.flags.c_contiguous:
        return NotImplemented
    y = empty_like(x)
    return y if elementwise(f"{name}_forward", x, 1, x.size, x, y, x.size) else NotImplemented


def _launch_binary(name: str, x: Any, y: Any) -> Any:
    like = x if hasattr(x, "dtype") else y
    enough = like.nbytes >= LARGE if like.dtype.itemsize == 2 else like.size >= PARALLEL
    if not (enough and is_float(like.dtype) and like.flags.c_contiguous and numbers_fit(like, x, y)):
        return NotImplemented
    z = empty_like(like)
    arrays = [v if hasattr(v, "dtype") else None for v in (x, y)]
    numbers = [0.0 if hasattr(v, "dtype") else v * 1.0 for v in (x, y)]
    n = like.size
    return z if elementwise(f"{name}_forward", like, 1, n, *arrays, *numbers, z, n) else NotImplemented
