"""Forms: nested values taken apart into arrays and the rest, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import Gradients, Tensor
from ..autograd.tree import same_kind
from ..backend import PLAIN_DTYPES, device_of, empty, is_array, is_number
from ..backend.memory import SMALLEST
from ..backend.tracers import CaptureError, Live, Tracer
from .nested import mapped
from .recorder import Slot
from .watching import PLAIN

COMPARED = (*PLAIN, np.generic)


class Form:
    """The form of a nested value: ``arrays(x)`` takes one like it apart, ``build(arrays)`` puts it together.

    Arrays and constant tensors are taken out; numbers and texts must be equal, everything else the same object.
    """

    def __init__(self, x: Any, what: str) -> None:
        self.what = what
        self.leaves: list[Any] = []
        self.structure = self._taken(x, self.leaves)
        arrays = [v for v in self.leaves if type(v) is np.ndarray]
        self.layouts = [(a.shape, a.dtype, a.strides) for a in arrays]
        self.flat = [np.ndarray] * len(arrays) if self.structure == (tuple, (tuple, *[np.ndarray] * len(arrays)), (dict, ())) else None

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
            if type(like) is np.ndarray:
                if a.shape != like.shape or a.dtype != like.dtype or (
                    a.strides != like.strides and not (a.flags.c_contiguous and like.flags.c_contiguous)
                ):
                    return None
                found.append(a)
            elif not (a is like or (type(a) is type(like) and isinstance(a, COMPARED) and _equal(a, like))):
                return None
        return found

    def build(self, arrays: Sequence[Any]) -> Any:
        """The value with these arrays."""
        new = iter(arrays)
        return self._built(self.structure, iter([next(new) if type(v) is np.ndarray else v for v in self.leaves]))

    def statics(self) -> list[Any]:
        """What is no array."""
        return [v for v in self.leaves if type(v) is not np.ndarray]

    def _taken(self, x: Any, leaves: list[Any]) -> Any:
        kind = type(x)
        if kind is np.ndarray and (x.dtype in PLAIN_DTYPES or (is_number(x.dtype) and x.dtype.isnative)):
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
        if is_array(x) and not isinstance(x, np.ndarray):
            raise CaptureError(f"{self.what} is on {device_of(x)}: capture replays steps on CPU arrays; on a GPU call the step "
                               "itself")
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


def _equal(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)


# -- what comes out ----------------------------------------------------------------------------------------------------


def settled(x: Any) -> Any:
    """A result of the recording with the real arrays in it."""
    return _each(x, lambda t: t.array[()] if t.scalar else t.array, lambda n: n.now, Tensor)


def slots_in(x: Any) -> list[Slot]:
    """The slots of the tracers in a result."""
    found: list[Slot] = []
    _each(x, lambda t: found.append(t.slot), lambda n: n, lambda a: None)
    return found


def template(x: Any) -> Callable[[], Any]:
    """A function that gives the result anew: with copies of what is in the slots then."""
    if type(x) is Tracer:
        a, external = x.slot.array, x.slot.storage is None
        if x.scalar:
            return lambda: a[()]
        return (lambda: a) if external else (lambda: copy_of(a))
    if type(x) is Live:
        return lambda: x.now
    if isinstance(x, Tensor) and type(x.data) is Tracer:
        inner = template(x.data)
        return lambda: Tensor(inner())
    if isinstance(x, Gradients):
        parts = {k: template(v) for k, v in x._parts().items()}
        return lambda: Gradients({k: v() for k, v in parts.items()}, x._indexed, x._attributes)
    if isinstance(x, list | tuple) and _holds_tracers(x):
        values = [template(v) for v in x]
        return lambda: same_kind(x, [v() for v in values])
    if type(x) is dict and _holds_tracers(x):
        entries = {k: template(v) for k, v in x.items()}
        return lambda: {k: v() for k, v in entries.items()}
    return lambda: x


def copy_of(a: np.ndarray) -> np.ndarray:
    """A copy with the same order of axes; a large one in memory from the pool."""
    if a.nbytes < SMALLEST or not a.flags.c_contiguous:
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


def _holds_tracers(x: Any) -> bool:
    found: list[Any] = []
    _each(x, found.append, found.append, lambda a: None)
    return bool(found)
