"""Tracers: arrays and numbers that note what is done with them, so that it can be done again.

While a step is captured (``capturing/``), a ``Tracer`` stands in for every array and a ``Live`` for every number that was
read from an array or drawn from a generator. They hold the real values and compute with them; the *recorder* of the thread
writes down each call. What would freeze a value into the recording (``float(x)``, printing, ``numpy.asarray``) raises
``CaptureError``; ``bool(x)`` is allowed, and the recorder notes that the recording holds for this answer only.

``array_module(tracer)`` is the namespace ``traced``, which stands in for NumPy: its functions that make arrays make tracers.
"""

from __future__ import annotations

import functools
import operator
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class CaptureError(RuntimeError):
    """A step that cannot be captured, or does not do the same again when it is replayed."""


class _State(threading.local):
    recorder: Any = None
    launches: Any = None


state = _State()
"""``state.recorder``: what records in this thread, or None. ``state.launches``: what takes its launches of kernels."""


def refuse_capture(what: str, remedy: str) -> None:
    """Raise CaptureError where this thread captures a step: ``what`` would happen once and never again."""
    if state.recorder is not None:
        state.recorder.refuse(f"{what} inside a captured step would happen once and not at the replays: {remedy}")


@contextmanager
def unrecorded() -> Iterator[None]:
    """What is computed inside is the same at every replay, as the arithmetic of shapes is: it is not written down."""
    before, state.recorder = state.recorder, None
    try:
        yield
    finally:
        state.recorder = before


def _refusal(what: str, function: Callable[..., Any]) -> Any:
    """A method that raises CaptureError while the step is recorded; elsewhere (in another thread, or of a stand-in that was
    kept when the step had ended) it is ``function`` of the real value."""

    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        if state.recorder is self.recorder:
            self.recorder.refuse(
                f"{what} of a value inside a captured step would freeze this number into all replays. Return the value from "
                "the step and look at it there, or compute with tensors (flux.where, flux.clip, ...); .item() gives a number "
                "to compute with"
            )
        return function(self.now if type(self) is Live else self.array, *args, **keywords)

    return method


# -- arrays ------------------------------------------------------------------------------------------------------------


class Tracer(NDArrayOperatorsMixin):
    """An array in a captured step: the real one of this first time, and its place in the recording.

    ``slot`` is the recorder's note of it; ``scalar`` says that NumPy would have given a scalar here.
    """

    __slots__ = ("__weakref__", "array", "recorder", "scalar", "slot")
    __hash__ = object.__hash__  # by identity: == compares elementwise
    __array_priority__ = 1000  # before an array's own operators

    def __init__(self, array: Any, recorder: Any, slot: Any, scalar: bool = False) -> None:
        self.array, self.recorder, self.slot, self.scalar = array, recorder, slot, scalar

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    itemsize = property(lambda self: self.array.itemsize)
    nbytes = property(lambda self: self.array.nbytes)
    strides = property(lambda self: self.array.strides)
    device = property(lambda self: self.array.device)
    flags = property(lambda self: self.array.flags)
    base = property(lambda self: self.array.base)
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    data = property(_refusal("the address", lambda a: a.data))
    ctypes = property(_refusal("the address", lambda a: a.ctypes))
    real = property(lambda self: self.recorder.run(np.real, (self,)))
    imag = property(lambda self: self.recorder.run(np.imag, (self,)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        return self.recorder.ufunc(ufunc, method, inputs, out, keywords)

    def __array_function__(self, func: Any, types: Any, args: Any, keywords: Any) -> Any:
        return self.recorder.function(func, args, keywords)

    def __getitem__(self, index: Any) -> Any:
        return self.recorder.run(operator.getitem, (self, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.recorder.run(operator.setitem, (self, index, value), written=(self,))

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self.array)))

    def __bool__(self) -> bool:
        return self.recorder.decide(self)

    def item(self, *index: int) -> Any:
        """The element as a number that is read anew at every replay."""
        return self.recorder.number(np.ndarray.item, (self, *index))

    def __repr__(self) -> str:
        return f"<array of a captured step: {self.shape} {self.dtype}>"

    # NumPy's operators have shortcuts (x ** 2 is a square) that its functions of the same name have not.
    def __pow__(self, other: Any) -> Any:
        return self.recorder.run(operator.pow, (self, other))

    def __ipow__(self, other: Any) -> Any:
        return self.recorder.run(operator.ipow, (self, other), written=(self,))

    __float__, __int__, __complex__ = _refusal("float()", float), _refusal("int()", int), _refusal("complex()", complex)
    __index__ = _refusal("an index", operator.index)
    __format__, __str__ = _refusal("printing", format), _refusal("printing", str)
    tolist = _refusal("tolist()", np.ndarray.tolist)
    __array__ = _refusal("numpy.asarray, or NumPy's writing to an array of its own,", np.array)
    __reduce__ = _refusal("a copy outside the step", np.ndarray.__reduce__)
    __copy__ = __deepcopy__ = _refusal("a copy outside the step", lambda a, *_: a.copy())


class Method:
    """A method of arrays by its name, as a function of the array, wherever that lives."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, x: Any, *args: Any, **keywords: Any) -> Any:
        return getattr(x, self.__name__)(*args, **keywords)


def _method(name: str, in_place: bool) -> Any:
    function, anywhere = getattr(np.ndarray, name), Method(name)

    def method(self: Tracer, *args: Any, **keywords: Any) -> Any:
        called = function if isinstance(self.array, np.ndarray) else anywhere
        result = self.recorder.run(called, (self, *args), keywords, written=(self,) if in_place else ())
        return None if in_place else result

    method.__name__, method.__doc__ = name, f"As numpy.ndarray's ``{name}``."
    return method


for _name in ("all", "any", "argmax", "argmin", "argpartition", "argsort", "astype", "choose", "clip", "compress", "conj",
              "conjugate", "copy", "cumprod", "cumsum", "diagonal", "dot", "flatten", "max", "mean", "min", "nonzero", "prod",
              "ravel", "repeat", "reshape", "round", "searchsorted", "squeeze", "std", "sum", "swapaxes", "take", "trace",
              "transpose", "var", "view"):
    setattr(Tracer, _name, _method(_name, in_place=False))
for _name in ("fill", "partition", "put", "sort"):
    setattr(Tracer, _name, _method(_name, in_place=True))


# -- numbers -----------------------------------------------------------------------------------------------------------


class Live:
    """A number in a captured step that is another one at every replay; arithmetic gives further ones.

    ``now`` is its value; the recorder sets it again whenever the step is replayed.
    """

    __slots__ = ("now", "recorder")
    __hash__ = object.__hash__

    def __init__(self, now: Any, recorder: Any) -> None:
        self.now, self.recorder = now, recorder

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        return self.recorder.ufunc(ufunc, method, inputs, out, keywords)

    def __bool__(self) -> bool:
        return self.recorder.decide(self)

    def item(self) -> Live:
        """Itself."""
        return self

    def __repr__(self) -> str:
        return "<number of a captured step>"

    __float__, __int__, __index__ = _refusal("float()", float), _refusal("int()", int), _refusal("an index", operator.index)
    __format__, __str__ = _refusal("printing", format), _refusal("printing", str)
    __array__ = _refusal("an array of NumPy's own making", np.array)
    __reduce__ = _refusal("a copy outside the step", lambda n: n.__reduce__())
    __copy__ = __deepcopy__ = _refusal("a copy outside the step", lambda n, *_: n)


def _arithmetic(symbol: Any, swapped: bool) -> Any:
    def apply(self: Live, other: Any) -> Any:
        if isinstance(other, np.ndarray | np.generic | Tracer):
            return NotImplemented  # arrays know what to do with a number
        return self.recorder.number(symbol, (other, self) if swapped else (self, other))

    return apply


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift"):
    _stem = _name.rstrip("_")
    setattr(Live, f"__{_stem}__", _arithmetic(getattr(operator, _name), swapped=False))
    setattr(Live, f"__r{_stem}__", _arithmetic(getattr(operator, _name), swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Live, f"__{_name}__", _arithmetic(getattr(operator, _name), swapped=False))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(Live, f"__{_name}__", functools.partialmethod(
        lambda self, symbol: self.recorder.number(symbol, (self,)), getattr(operator, _name)))


# -- NumPy's place -----------------------------------------------------------------------------------------------------

MAKERS = {"empty", "zeros", "ones", "full", "arange", "eye", "identity", "linspace", "tri", "empty_like", "zeros_like",
          "ones_like", "full_like"}
"""Functions whose result depends on no array's numbers."""
CONVERTERS = {"asarray", "array", "ascontiguousarray", "asanyarray", "asfortranarray"}
"""Functions that NumPy does not ask its array-likes about."""


class _Traced:
    """The namespace that stands in for NumPy while a step is captured: ``xp`` of a tracer."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        if name in MAKERS:
            value = functools.partial(_made, value)
        elif name in CONVERTERS:
            value = functools.partial(_converted, value)
        setattr(self, name, value)
        return value


class TracedFunction:
    """A function of CuPy's that takes tracers, too; it has the attributes of the function, such as a ufunc's ``at``."""

    def __init__(self, function: Any, name: str) -> None:
        self.function, self.__name__ = function, name

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        recorder = state.recorder
        if recorder is None or not (self.__name__ in MAKERS or recorder.concerns((args, keywords))):
            return self.function(*args, **keywords)
        return recorder.function(self, args, keywords)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.function, name)
        return TracedFunction(value, name) if callable(value) else value


class TracedModule:
    """The same as ``traced`` for CuPy, whose functions do not ask their arguments who they are."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if isinstance(value, types.ModuleType):
            value = TracedModule(value)
        elif name in CONVERTERS:
            value = functools.partial(_converted, value)
        elif callable(value) and not isinstance(value, type):
            value = TracedFunction(value, name)
        setattr(self, name, value)
        return value


def _made(function: Any, *args: Any, **keywords: Any) -> Any:
    recorder = state.recorder
    return function(*args, **keywords) if recorder is None else recorder.made(function, args, keywords)


def _converted(function: Any, x: Any, *args: Any, **keywords: Any) -> Any:
    if isinstance(x, Tracer):
        return x.recorder.converted(function, x, args, keywords)
    a = function(x, *args, **keywords)
    recorder = state.recorder
    return recorder.lift(a) if recorder is not None and isinstance(a, recorder.kind) else a


traced = _Traced()


def is_live(x: Any) -> bool:
    """Whether ``x`` is a number of a captured step, or a tuple that holds one."""
    return type(x) is Live or (type(x) is tuple and any(map(is_live, x)))


def is_unseen(x: Any) -> bool:
    """Whether ``x`` is an array of a captured step on a GPU: nothing can look at its numbers, checks of indices go without."""
    return type(x) is Tracer and not isinstance(x.array, np.ndarray)


def is_traced(x: Any) -> bool:
    """Whether ``x`` is an array or a number of a captured step."""
    return type(x) is Tracer or type(x) is Live
