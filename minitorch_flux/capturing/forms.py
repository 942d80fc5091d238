"""Forms: nested values taken apart into arrays and the rest, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import partial
from types import FunctionType, GeneratorType, MethodType
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Gradients, Tensor
from ..autograd.tree import Structure, same_kind
from ..backend import PLAIN_DTYPES, empty, is_array, is_number
from ..backend.memory import SMALLEST
from ..backend.tracers import CaptureError, Live, Tracer
from ..optimisers.parts import StatePart
from .nested import mapped
from .recorder import Slot
from .spans import owner
from .watching import PLAIN

COMPARED = (*PLAIN, np.generic)


class _Layout(NamedTuple):
    """How an array lies in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]

    def fits(self, a: np.ndarray) -> bool:
        """Whether ``a`` lies like this (axes of one element, and arrays of none, may have any strides)."""
        if a.shape != self.shape or a.dtype != self.dtype:
            return False
        return all(n == 1 or s == t for n, s, t in zip(a.shape, a.strides, self.strides, strict=True)) or a.size == 0


class Form:
    """The form of a nested value: ``arrays(x)`` takes one like it apart, ``build(arrays)`` puts it together.

    Arrays and constant tensors are taken out; numbers and texts must be equal, everything else the same object.
    """

    def __init__(self, x: Any, what: str) -> None:
        self.what = what
        leaves: list[Any] = []
        self.structure = self._taken(x, leaves)
        plain = [type(v) for v in leaves if is_plain_array(v)]
        self.leaves = [_Layout(v.shape, v.dtype, v.strides) if is_plain_array(v) else v for v in leaves]
        self.layouts = [tuple(v) for v in self.leaves if type(v) is _Layout]
        self.flat = plain if self.structure == (tuple, (tuple, *plain), (dict, ())) else None

    def quick(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Sequence[np.ndarray] | None:
        """The arrays of a call that takes arrays only, laid out as before; None may also mean: look closely."""
        if keywords or [*map(type, args)] != self.flat:
            return None
        return args if [(a.shape, a.dtype, a.strides) for a in args] == self.layouts else None

    def arrays(self, x: Any) -> list[np.ndarray] | None:
        """The arrays of ``x``, or None where it is not of this form."""
        leaves: list[Any] = []
        if self._taken(x, leaves) != self.structure:
            return None
        found = []
        for a, like in zip(leaves, self.leaves, strict=True):
            if type(like) is _Layout:
                if not is_plain_array(a) or not like.fits(a):
                    return None
                found.append(a)
            elif not (a is like or (type(a) is type(like) and isinstance(a, COMPARED) and _equal(a, like))):
                return None
        return found

    def build(self, arrays: Sequence[Any]) -> Any:
        """The value with these arrays."""
        new = iter(arrays)
        return self._built(self.structure, iter([next(new) if type(v) is _Layout else v for v in self.leaves]))

    def statics(self) -> list[Any]:
        """What is no array."""
        return [v for v in self.leaves if type(v) is not _Layout]

    def _taken(self, x: Any, leaves: list[Any]) -> Any:
        kind = type(x)
        if is_plain_array(x) and (x.dtype in PLAIN_DTYPES or (is_number(x.dtype) and x.dtype.isnative)):
            leaves.append(x)
            return kind
        if kind is tuple or kind is list or (isinstance(x, tuple) and hasattr(x, "_fields")):
            return (kind, *[self._taken(v, leaves) for v in x])
        if kind is dict:
            return (kind, tuple(x), *[self._taken(v, leaves) for v in x.values()])
        if isinstance(x, Tensor) and x.node is not None:
            raise CaptureError(f"{self.what} is a recorded tensor (made by {x.node.op.name}): a replay has no tape to go on "
                               "from; pass x.detach()")
        if kind is Tensor and x.track == 0:
            self._taken(x.data, leaves)
            return kind
        leaves.append(x)
        return None

    def _built(self, structure: Any, leaves: Any) -> Any:
        if type(structure) is tuple:
            kind = structure[0]
            if kind is dict:
                return dict(zip(structure[1], [self._built(s, leaves) for s in structure[2:]], strict=True))
            values = [self._built(s, leaves) for s in structure[1:]]
            return values if kind is list else tuple(values) if kind is tuple else kind(*values)
        value = next(leaves)
        return Tensor(value) if structure is Tensor else value


def is_plain_array(x: Any) -> bool:
    """Whether ``x`` is an array of NumPy's or CuPy's own type."""
    return type(x) is np.ndarray or (type(x) is not Tracer and not isinstance(x, np.ndarray) and is_array(x))


def _equal(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)


# -- what comes out ----------------------------------------------------------------------------------------------------


def settled(x: Any) -> Any:
    """A result of the recording with the real arrays in it."""
    return _each(x, _real, lambda n: n.now, Tensor)


def _real(t: Tracer) -> Any:
    if t.scalar:
        return t.array[()]
    constant = t.slot.storage is None and not t.slot.lasts
    return t.array.copy() if constant else t.array  # the replays need it as it is


def slots_in(x: Any) -> list[Slot]:
    """The slots of the tracers in a result."""
    found: list[Slot] = []
    _each(x, lambda t: found.append(t.slot), lambda n: n, lambda a: None)
    return found


def template(x: Any, known: Container[int]) -> Callable[[], Any]:
    """A function that gives the result anew, with copies of what is in the slots then. It holds no tracer.

    ``known``: the owners of arrays that outlive the step, by id; these are given as they are.
    """
    if type(x) is Tracer:
        a = x.slot.array
        if x.scalar:
            return lambda: a[()]
        return (lambda: a) if x.slot.lasts else partial(copy_of, a)
    if type(x) is Live:
        return lambda: x.now
    if isinstance(x, Tensor) and type(x.data) is Tracer:
        inner = template(x.data, known)
        return lambda: Tensor(inner())
    if is_plain_array(x) and id(owner(x)) not in known:  # a constant of the step
        return x.copy().copy
    if isinstance(x, Gradients):
        parts, indexed, attributes = {k: template(v, known) for k, v in x._parts().items()}, x._indexed, x._attributes
        return lambda: Gradients({k: v() for k, v in parts.items()}, indexed, attributes)
    if type(x) is dict:
        entries = {k: template(v, known) for k, v in x.items()}
        return lambda: {k: v() for k, v in entries.items()}
    if isinstance(x, list | tuple):
        values, like = [template(v, known) for v in x], same_kind(x, [None] * len(x))
        return lambda: same_kind(like, [v() for v in values])
    _refuse_hidden(x)
    return lambda: x


def _refuse_hidden(x: Any) -> None:
    """Raise CaptureError for an object that may hold values of the step where nobody looks."""
    if isinstance(x, Structure | StatePart | Tensor | type):
        return
    held = list(getattr(x, "__dict__", {}).values()) + (list(x) if isinstance(x, set | frozenset) else [])
    if isinstance(x, FunctionType | MethodType | GeneratorType | partial) or any(
        type(v) in (Tracer, Live) or (isinstance(v, Tensor) and type(v.data) is Tracer) for v in held
    ):
        raise CaptureError(f"a captured step returns a {type(x).__name__}, in which values of this one call would stay: return "
                           "arrays, tensors and numbers, in tuples, lists and dicts")


def copy_of(a: Any) -> Any:
    """A copy with the same order of axes; a large one on the CPU in memory from the pool."""
    if not isinstance(a, np.ndarray) or a.nbytes < SMALLEST or not a.flags.c_contiguous:
        return a.copy("K")
    y = empty(a.shape, a.dtype)
    np.copyto(y, a)
    return y


def _each(x: Any, array: Any, number: Any, tensor: Any) -> Any:
    def one(v: Any) -> Any:
        if type(v) is Tracer:
            return array(v)
        if type(v) is Live:
            return number(v)
        if isinstance(v, Tensor) and type(v.data) is Tracer:
            return tensor(array(v.data))
        return v

    return mapped(x, one)
