"""Outlines: arrays of which only the shape and the dtype are known.

A model that is called with an outline goes through the same code as with numbers, and the result has the shape and the
dtype that numbers would have given; nothing is computed and nothing is allocated. ``array_module(outline)`` is the
namespace ``outlines``, which stands in for NumPy: functions that make or combine arrays give outlines, writing into one
does nothing. What depends on the numbers themselves raises ``OutlineError``.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class _Scopes:
    """How many scopes of outlines are open in all threads: while there is none, nobody needs to look for one."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            self.count += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.count -= 1


scopes = _Scopes()


class OutlineError(TypeError):
    """Numbers were asked of an array of which only the shape is known."""


class _Flags:
    c_contiguous = writeable = aligned = True
    f_contiguous = owndata = False


class Outline(NDArrayOperatorsMixin):
    """An array without numbers: a shape and a dtype."""

    __slots__ = ("dtype", "shape")
    flags = _Flags
    base = None
    __hash__ = object.__hash__  # by identity: == compares elementwise

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    T = property(lambda self: Outline(self.shape[::-1], self.dtype))

    @property
    def strides(self) -> tuple[int, ...]:
        """Those of a C-contiguous array."""
        return tuple(self.itemsize * math.prod(self.shape[i + 1 :]) for i in range(self.ndim))

    def __repr__(self) -> str:
        return f"Outline({self.shape}, {self.dtype})"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Outline:
        if isinstance(index, Outline) or (isinstance(index, tuple) and any(isinstance(i, Outline) for i in index)):
            index = tuple(_stand_in_index(i) for i in (index if isinstance(index, tuple) else (index,)))
        return Outline(_stand_in(self.shape, _NOTHING)[index].shape, self.dtype)

    def __setitem__(self, index: Any, value: Any) -> None:
        np.broadcast_shapes(self[index].shape, np.shape(value))  # an error where the shapes do not fit, as with numbers

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        keywords.pop("where", None)
        if method == "at":
            return None
        if method in ("reduce", "accumulate"):
            result = Outline(_reduced(self.shape, keywords) if method == "reduce" else self.shape, keywords.get("dtype") or
                             getattr(ufunc, method)(_tiny(self), **keywords).dtype)
            return _written(out, result)
        if method != "__call__":
            raise OutlineError(f"numpy.{ufunc.__name__}.{method} of an array of which only the shape is known")
        shapes = [np.shape(x) for x in inputs]
        shape = np.broadcast_shapes(*shapes) if ufunc.signature is None else _contracted(ufunc, shapes)
        types = [type(x) if type(x) in (int, float) else outlines.result_type(x) for x in inputs]
        dtypes = ufunc.resolve_dtypes((*types, *[None] * ufunc.nout))[ufunc.nin :]
        results = [Outline(shape, keywords.get("dtype") or dtype) for dtype in dtypes]
        return _written(out, results[0]) if ufunc.nout == 1 else tuple(results)

    def __array_function__(self, func: Any, types: Any, args: Any, keywords: Any) -> Any:
        return getattr(outlines, func.__name__)(*args, **keywords)

    def _unknown(self, *_: Any, **__: Any) -> Any:
        raise OutlineError(f"the numbers of an array were asked for, but only its shape {self.shape} is known")

    __bool__ = __int__ = __float__ = __index__ = __complex__ = __array__ = item = tolist = tobytes = _unknown

    def astype(self, dtype: Any, *_: Any, **__: Any) -> Outline:
        """The outline of another dtype."""
        return Outline(self.shape, dtype)

    def reshape(self, *shape: Any, **_: Any) -> Outline:
        """The outline of another shape; one size may be -1."""
        sizes = list(shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape)
        if sizes.count(-1) == 1:
            known = -math.prod(sizes)
            sizes[sizes.index(-1)] = self.size // known if known else 0
        if math.prod(sizes) != self.size or min(sizes, default=0) < 0:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {shape}")
        return Outline(sizes, self.dtype)

    def copy(self, *_: Any, **__: Any) -> Outline:
        """Itself: nothing can be written to it."""
        return self

    def ravel(self, *_: Any) -> Outline:
        """The outline with all axes made one."""
        return Outline(self.size, self.dtype)

    flatten = ravel

    def fill(self, value: Any) -> None:
        """Does nothing."""

    def transpose(self, *axes: Any) -> Outline:
        """The outline with its axes in another order."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return outlines.transpose(self, order)

    def view(self, *dtype: Any) -> Outline:
        """Itself, or with a dtype of the same size."""
        if dtype and np.dtype(dtype[0]).itemsize != self.itemsize:
            raise OutlineError("a view with a dtype of another size")
        return Outline(self.shape, dtype[0]) if dtype else self


def is_outline(x: Any) -> bool:
    """Whether only the shape of ``x`` is known."""
    return type(x) is Outline


def outline_of(x: Any) -> Any:
    """The outline of an array; anything else as it is."""
    return Outline(x.shape, x.dtype) if hasattr(x, "dtype") and hasattr(x, "shape") else x


# -- how the results come out ------------------------------------------------------------------------------------------

_NOTHING = np.empty((), np.dtype((np.void, 0)))  # an element of no bytes: arrays of it take no memory


def _stand_in(shape: tuple[int, ...], element: Any) -> Any:
    """A real array of a shape, all of whose elements are one: of which NumPy makes views for nothing."""
    return np.broadcast_to(element, shape)


def _stand_in_index(i: Any) -> Any:
    if not isinstance(i, Outline):
        return i
    if i.dtype == np.bool_:
        raise OutlineError("the shape of what a mask picks depends on the mask, of which only the shape is known")
    return _stand_in(i.shape, np.zeros((), i.dtype))


def _tiny(x: Any) -> Any:
    """One element with the dtype and the number of axes of ``x``."""
    return np.zeros((1,) * len(x.shape), x.dtype)


def _reduced(shape: tuple[int, ...], keywords: dict[str, Any]) -> tuple[int, ...]:
    axis, n = keywords.get("axis"), len(shape)
    axes = range(n) if axis is None else [operand % n for operand in (axis if isinstance(axis, tuple) else (axis,))]
    return tuple(1 if i in axes else m for i, m in enumerate(shape) if keywords.get("keepdims") or i not in axes)


def _contracted(ufunc: Any, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of a matrix product."""
    if ufunc is not np.matmul:
        raise OutlineError(f"numpy.{ufunc.__name__} of an array of which only the shape is known")
    a, b = shapes
    if not a or not b or a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ValueError(f"matmul: shapes {a} and {b} do not fit")
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    return (*batch, *(a[-2:-1]), *(b[-1:] if len(b) > 1 else ()))


def _written(out: Any, result: Outline) -> Any:
    """``out``, into which ``result`` was to be written, or ``result``."""
    if isinstance(out, tuple):
        out = out[0]
    if out is None:
        return result
    if np.shape(out) != result.shape:
        raise ValueError(f"a result of shape {result.shape} does not fit into an array of shape {np.shape(out)}")
    return out


def _method(name: str) -> Any:
    def method(self: Outline, *args: Any, **keywords: Any) -> Any:
        return getattr(outlines, name)(self, *args, **keywords)

    method.__name__, method.__doc__ = name, f"As numpy's ``{name}``."
    return method


from .outline_functions import outlines  # noqa: E402  the rules need the class, the class asks for a rule when called

for _name in ("sum", "prod", "max", "min", "mean", "std", "var", "any", "all", "argmax", "argmin", "cumsum", "cumprod",
              "swapaxes", "squeeze", "take", "repeat", "argsort", "clip", "dot", "round"):
    setattr(Outline, _name, _method(_name))
