"""Outlines: arrays of which only the shape and the dtype are known.

A model that is called with an outline goes through the same code as with numbers, and the result has the shape and the
dtype that numbers would have given; nothing is computed and nothing is allocated. ``array_module(outline)`` is the
namespace ``outlines``, which stands in for NumPy: functions that make or combine arrays give outlines, writing into one
does nothing. What depends on the numbers themselves raises ``OutlineError``.

The parameters of a model that was made inside ``shapes_only`` are outlines, too. Nothing can be computed with those where
no scope of outlines is open: that raises, so that no result is mistaken for numbers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided


class _Own(threading.local):
    """What each thread has of its own: how many scopes are open in it, and whether parameters are made without arrays."""

    scopes = 0
    only_shapes = False
    account: Account | None = None  # where the bytes of new outlines are booked
    told: Callable[[Any, Any], None] | None = None  # of an outline, and of one with the same numbers in the same order


own = _Own()


class Account:
    """The bytes that the outlines of living arrays would take, booked under a name; ``ledger`` adds up all accounts.

    While ``own.account`` is one, every new outline is booked there until it dies. Views take nothing: they hold the outline
    whose memory they are.
    """

    __slots__ = ("ledger", "live", "name")

    def __init__(self, name: Any, ledger: Ledger) -> None:
        self.name, self.ledger, self.live = name, ledger, 0

    def book(self, nbytes: int) -> None:
        """An array of ``nbytes`` is there, or, with a minus sign, has died."""
        ledger = self.ledger
        self.live += nbytes
        ledger.live += nbytes
        if ledger.live > ledger.peak:
            ledger.peak, ledger.where = ledger.live, self.name


class Ledger:
    """What arrays take together: now (``live``), and at the worst moment so far (``peak``, in the account ``where``)."""

    def __init__(self) -> None:
        self.live = self.peak = 0
        self.where: Any = None


class _Scopes:
    """How many scopes of outlines are open in all threads: while there is none, nobody needs to look for one."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        own.scopes += 1
        with self.lock:
            self.count += 1

    def __exit__(self, *error: object) -> None:
        own.scopes -= 1
        with self.lock:
            self.count -= 1


scopes = _Scopes()

MAKE_REAL = "build it outside of that, or load weights into it (load_state_dict, flux.load)"


class OutlineError(TypeError):
    """Numbers were asked of an array of which only the shape is known."""


def _check_open() -> None:
    """Raise OutlineError where no scope of outlines is open in this thread."""
    if not own.scopes:
        raise OutlineError("a parameter has a shape, but no numbers: the model was made inside flux.shapes_only(); "
                           f"{MAKE_REAL}")


class _Flags:
    """How an outline lies in memory."""

    __slots__ = ("c_contiguous",)
    writeable = aligned = True
    f_contiguous = owndata = False

    def __init__(self, c_contiguous: bool) -> None:
        self.c_contiguous = c_contiguous


_CONTIGUOUS, _APART = _Flags(True), _Flags(False)


class Outline(NDArrayOperatorsMixin):
    """An array without numbers: a shape and a dtype."""

    __slots__ = ("account", "base", "dtype", "shape", "steps")
    __hash__ = object.__hash__  # by identity: == compares elementwise

    def __init__(self, shape: Any, dtype: Any, base: Any = None) -> None:
        self.account = None
        self.shape = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self.steps: tuple[int, ...] | None = None  # along its axes, in elements; None where it is C-contiguous
        self.base = base  # the array whose memory it is a view of
        if base is None and (account := own.account) is not None:
            self.account = account
            account.book(self.nbytes)

    def __del__(self) -> None:
        if self.account is not None:
            self.account.book(-self.nbytes)

    def _view(self, shape: Any, dtype: Any = None, steps: tuple[int, ...] | None = None) -> Outline:
        """The same memory with another shape."""
        view = Outline(shape, self.dtype if dtype is None else dtype, self if self.base is None else self.base)
        view.steps = steps
        return view

    def _seen(self, function: Callable[[Any], Any]) -> Outline:
        """What ``function``, which makes views, makes of an array that lies in memory as this one."""
        y = function(_strided(self))
        return self._view(y.shape, None, None if y.flags.c_contiguous else y.strides)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    T = property(lambda self: self._seen(lambda a: a.T))
    flags = property(lambda self: _CONTIGUOUS if self.steps is None else _APART)

    @property
    def strides(self) -> tuple[int, ...]:
        """In bytes, as NumPy's."""
        return tuple(self.itemsize * step for step in (_steps(self.shape) if self.steps is None else self.steps))

    def __repr__(self) -> str:
        return f"Outline({self.shape}, {self.dtype})"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Outline:
        _check_open()
        if isinstance(index, Outline) or (isinstance(index, tuple) and any(isinstance(i, Outline) for i in index)):
            index = tuple(_stand_in_index(i) for i in (index if isinstance(index, tuple) else (index,)))
        parts = index if isinstance(index, tuple) else (index,)
        if all(i is None or i is ... or isinstance(i, slice | int | np.integer) and not isinstance(i, bool) for i in parts):
            whole = parts if any(i is ... for i in parts) else (*parts, ...)  # an array without axes, not an element
            return self._seen(lambda a: a[whole])
        return Outline(_stand_in(self.shape, _NOTHING)[index].shape, self.dtype)

    def __setitem__(self, index: Any, value: Any) -> None:
        np.broadcast_shapes(self[index].shape, np.shape(value))  # an error where the shapes do not fit, as with numbers

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        _check_open()
        keywords.pop("where", None)
        if method == "at":
            return None
        if method in ("reduce", "accumulate"):
            dtype = keywords.get("dtype") or getattr(ufunc, method)(_tiny(self), **keywords).dtype
            return _written(out, _reduced(self.shape, keywords) if method == "reduce" else self.shape, dtype)
        if method != "__call__":
            raise OutlineError(f"numpy.{ufunc.__name__}.{method} of an array of which only the shape is known")
        shapes = [np.shape(x) for x in inputs]
        shape = np.broadcast_shapes(*shapes) if ufunc.signature is None else _contracted(ufunc, shapes)
        types = [type(x) if type(x) in (int, float) else outlines.result_type(x) for x in inputs]
        dtypes = ufunc.resolve_dtypes((*types, *[None] * ufunc.nout))[ufunc.nin :]
        if ufunc.nout == 1:
            return _written(out, shape, keywords.get("dtype") or dtypes[0])
        return tuple(Outline(shape, keywords.get("dtype") or dtype) for dtype in dtypes)

    def __array_function__(self, func: Any, types: Any, args: Any, keywords: Any) -> Any:
        _check_open()
        return getattr(outlines, func.__name__)(*args, **keywords)

    def _unknown(self, *_: Any, **__: Any) -> Any:
        _check_open()
        raise OutlineError(f"the numbers of an array were asked for, but only its shape {self.shape} is known")

    __bool__ = __int__ = __float__ = __index__ = __complex__ = __array__ = item = tolist = tobytes = _unknown
    data = ctypes = device = property(_unknown)  # what a kernel asks for

    def astype(self, dtype: Any, *_: Any, copy: bool = True, **__: Any) -> Outline:
        """The outline of another dtype."""
        return _told(self, Outline(self.shape, dtype)) if copy or self.dtype != dtype else self

    def reshape(self, *shape: Any, **_: Any) -> Outline:
        """The outline of another shape; one size may be -1."""
        _check_open()
        sizes = list(shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape)
        if sizes.count(-1) == 1:
            known = -math.prod(sizes)
            sizes[sizes.index(-1)] = self.size // known if known else 0
        if math.prod(sizes) != self.size or min(sizes, default=0) < 0:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {shape}")
        if self.steps is None:
            return _told(self, self._view(sizes))
        if [n for n in sizes if n != 1] != [n for n in self.shape if n != 1]:
            return _told(self, Outline(sizes, self.dtype))  # a copy; NumPy finds a view for some more
        steps = iter([step for step, n in zip(self.steps, self.shape, strict=True) if n != 1])
        return _told(self, self._view(sizes, None, tuple(0 if n == 1 else next(steps) for n in sizes)))

    def copy(self, *_: Any, **__: Any) -> Outline:
        """Another outline of the same shape and dtype."""
        return _told(self, Outline(self.shape, self.dtype))

    def ravel(self, *_: Any) -> Outline:
        """The outline with all axes made one."""
        return self.reshape(-1)

    def flatten(self, *_: Any) -> Outline:
        """A copy with all axes made one."""
        return _told(self, Outline(self.size, self.dtype))

    def fill(self, value: Any) -> None:
        """Does nothing."""

    def transpose(self, *axes: Any) -> Outline:
        """The outline with its axes in another order."""
        _check_open()
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return outlines.transpose(self, order)

    def view(self, *dtype: Any) -> Outline:
        """Itself, or with a dtype of the same size."""
        if dtype and np.dtype(dtype[0]).itemsize != self.itemsize:
            raise OutlineError("a view with a dtype of another size")
        return self._view(self.shape, dtype[0] if dtype else None, self.steps)


def _told(x: Outline, y: Outline) -> Outline:
    """``y``, which has the numbers of ``x``; who wants to know is told so."""
    if own.told is not None:
        own.told(x, y)
    return y


def is_outline(x: Any) -> bool:
    """Whether only the shape of ``x`` is known."""
    return type(x) is Outline


def outline_of(x: Any) -> Any:
    """The outline of an array; anything else as it is."""
    return Outline(x.shape, x.dtype, base=x) if hasattr(x, "dtype") and hasattr(x, "shape") else x


# -- how the results come out ------------------------------------------------------------------------------------------

_NOTHING = np.empty((), np.dtype((np.void, 0)))  # an element of no bytes: arrays of it take no memory


def _stand_in(shape: tuple[int, ...], element: Any) -> Any:
    """A real array of a shape, all of whose elements are one: of which NumPy makes views for nothing."""
    return np.broadcast_to(element, shape)


def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a C-contiguous array."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


_BYTE = np.zeros(1, np.int8)


def _strided(x: Outline) -> Any:
    """A real array that lies in memory as ``x``, in elements of a byte: to make views of, never to be read."""
    return as_strided(_BYTE, x.shape, _steps(x.shape) if x.steps is None else x.steps, writeable=False)


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


def _written(out: Any, shape: Any, dtype: Any) -> Any:
    """``out``, into which a result of this shape was to be written, or an outline of the result."""
    if isinstance(out, tuple):
        out = out[0]
    if out is None:
        return Outline(shape, dtype)
    if np.shape(out) != tuple(shape):
        raise ValueError(f"a result of shape {tuple(shape)} does not fit into an array of shape {np.shape(out)}")
    return out


def _method(name: str) -> Any:
    def method(self: Outline, *args: Any, **keywords: Any) -> Any:
        _check_open()
        return getattr(outlines, name)(self, *args, **keywords)

    method.__name__, method.__doc__ = name, f"As numpy's ``{name}``."
    return method


from .outline_functions import outlines  # noqa: E402  the rules need the class, the class asks for a rule when called

for _name in ("sum", "prod", "max", "min", "mean", "std", "var", "any", "all", "argmax", "argmin", "cumsum", "cumprod",
              "swapaxes", "squeeze", "take", "repeat", "argsort", "clip", "dot", "round"):
    setattr(Outline, _name, _method(_name))
