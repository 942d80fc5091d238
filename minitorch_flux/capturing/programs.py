"""Programs: the calls of a recording as functions without arguments, bound to planned memory.

A call writes its result straight to its place where NumPy has a way to (``out=``, ``copyto``); else the result is copied
there. Each way gives the same bits, which ``Captured`` checks on the first replay of every plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import getitem, pow
from typing import Any

import numpy as np

from ..backend.threads import one_blas_thread
from ..backend.tracers import Live
from .nested import mapped
from .recorder import Call, Slot, slots_of

Step = Callable[[], Any]


class Changed(Exception):
    """A replay came to a place where the step would go another way than when it was recorded."""


class Failed(Exception):
    """A call of a replay raised: ``__cause__`` says what."""


REDUCTIONS = {
    function: ufunc
    for name, ufunc in {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}.items()
    for function in (getattr(np, name), getattr(np.ndarray, name))
}
"""Python functions around a reduction, and the reduction itself."""
WITH_OUT = {getattr(np, n) for n in ("mean", "var", "std", "concatenate", "stack", "clip", "round", "cumsum", "cumprod",
                                     "argmax", "argmin", "take", "dot", "einsum")}
WITH_OUT |= {getattr(np.ndarray, n) for n in ("mean", "var", "std", "clip", "round", "cumsum", "cumprod", "argmax", "argmin",
                                              "take")}
"""Functions that write their result to ``out=``."""
COPIES = {np.copy, np.ascontiguousarray, np.asarray, np.array, np.reshape, np.ravel, np.ndarray.copy, np.ndarray.astype,
          np.ndarray.reshape, np.ndarray.flatten, np.ndarray.ravel}
"""Functions whose result has the elements of their first argument in the same order."""


SHAPED_BY_NUMBERS = {"nonzero", "flatnonzero", "argwhere", "compress", "extract", "repeat", "bincount", "unique", "delete",
                     "trim_zeros", "union1d", "intersect1d", "setdiff1d", "setxor1d", "histogram", "arange", "full", "zeros",
                     "ones", "empty", "linspace", "where", "insert", "ediff1d"}
"""Functions whose result may have another shape for other numbers."""


def may_change(call: Call) -> bool:
    """Whether a replay of the call may show that the step goes another way."""
    if call.answer is not None:
        return True
    if call.outs and getattr(call.function, "__name__", "").removeprefix("_") in SHAPED_BY_NUMBERS:
        return True
    return bool(call.outs) and call.function is getitem and any(s.dtype.kind == "b" for s in slots_of(call.args[1]))


def program(calls: Sequence[Call]) -> list[Step]:
    """The calls, those side by side in one context together."""
    steps: list[Step] = []
    context: Any = None
    for call in calls:
        step = executable(call)
        if call.context is None:
            steps.append(step)
        elif call.context == context:
            steps[-1].append(step)  # type: ignore[attr-defined]
        else:
            steps.append(_Surrounded(call.context, step))
        context = call.context
    return steps


class _Surrounded:
    """Calls inside the contexts that they were recorded in."""

    def __init__(self, context: Any, step: Step) -> None:
        self.errors, self.one_thread = context
        self.steps = [step]
        self.append = self.steps.append

    def __call__(self) -> None:
        with np.errstate(**self.errors):
            if self.one_thread:
                with one_blas_thread:
                    for step in self.steps:
                        step()
            else:
                for step in self.steps:
                    step()


def _bound(x: Any) -> Any:
    return mapped(x, lambda v: v.array if type(v) is Slot else v)


def _now(x: Any) -> Any:
    return mapped(x, lambda v: v.now if type(v) is Live else v)


def executable(call: Call) -> Step:
    """A call as a function without arguments."""
    args, keywords, outs = _bound(call.args), _bound(call.keywords), [s and s.array for s in call.outs]
    if call.answer is not None:
        return partial(_check, args[0], call.answer)
    found: list[Live] = []
    mapped((args, keywords), lambda v: found.append(v) if type(v) is Live else None)
    function = partial(_called_now, call.function, args, keywords) if found else None
    if call.number is not None:
        if call.number == ():
            return function or partial(call.function, *args, **keywords)
        return partial(_set, call.number, function or partial(call.function, *args, **keywords))
    if not outs:
        return function or _in_place(call.function, args, keywords)
    if function is None and len(outs) == 1 and (direct := _direct(call.function, args, keywords, outs[0])):
        return direct
    function = function or partial(call.function, *args, **keywords)
    return partial(_store, function, outs[0]) if len(outs) == 1 else partial(_store_all, function, outs)


def _in_place(function: Any, args: Any, keywords: Any) -> Step:
    out = keywords.get("out")
    if isinstance(function, np.ufunc) and out is not None:
        rest = {k: v for k, v in keywords.items() if k != "out"}
        return _ufunc(function, args, rest, out if isinstance(out, tuple) else (out,))
    return partial(function, *args, **keywords)


def _ufunc(function: np.ufunc, args: Any, keywords: Any, outs: Any) -> Step:
    if function is np.maximum or function is np.minimum:  # NumPy wants the name here
        return partial(function, *args, **keywords, out=outs)
    return partial(function, *args, *outs, **keywords)  # quicker without


def _direct(function: Any, args: Any, keywords: Any, out: Any) -> Step | None:
    """The call with its result written where it belongs, if there is a way."""
    if isinstance(function, np.ufunc):
        return _ufunc(function, args, keywords, (out,))
    if isinstance(getattr(function, "__self__", None), np.ufunc):  # add.reduce and its kin
        return partial(function, *args, **keywords, out=out)
    if function in REDUCTIONS and len(args) <= 2 and set(keywords) <= {"axis", "dtype", "keepdims"}:
        axis = args[1] if len(args) == 2 else keywords.get("axis")
        return partial(REDUCTIONS[function].reduce, args[0], axis, keywords.get("dtype"), out, keywords.get("keepdims", False))
    if function is pow and out.dtype.kind == "f" and type(args[1]) in (int, float) and args[1] == 2:
        return partial(np.square, args[0], out)
    if function in COPIES and isinstance(args[0], np.ndarray) and "order" not in keywords:
        return _copying(args[0], out)
    if function in WITH_OUT:
        return partial(function, *args, **keywords, out=out)
    return None


def _copying(x: np.ndarray, out: np.ndarray) -> Step | None:
    if x.shape != out.shape:
        if not out.flags.c_contiguous:
            return None
        out = out.reshape(x.shape)
    return partial(np.copyto, out, x, "unsafe")


def _called_now(function: Any, args: Any, keywords: Any) -> Any:
    """A call with numbers that are others at every replay."""
    return function(*_now(args), **_now(keywords))


def _check(x: Any, answer: bool) -> None:
    if bool(x.now if type(x) is Live else x) is not answer:
        raise Changed


def _set(numbers: Any, function: Step) -> None:
    if type(numbers) is tuple:
        for live, value in zip(numbers, function(), strict=True):
            live.now = value
    else:
        numbers.now = function()


def _store(function: Step, out: np.ndarray) -> None:
    y = function()
    if np.shape(y) != out.shape:
        raise Changed
    out[...] = y


def _store_all(function: Step, outs: list[Any]) -> None:
    for y, out in zip(_flat(function()), outs, strict=True):
        if out is not None:
            if np.shape(y) != out.shape:
                raise Changed
            out[...] = y


def _flat(x: Any) -> list[Any]:
    return [v for y in x for v in _flat(y)] if isinstance(x, tuple | list) else [x]
