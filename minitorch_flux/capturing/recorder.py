"""Recorder: what a step does to arrays, written down call by call.

Every array of the step is a ``Slot``: a shape at a place in a ``Storage``, a piece of memory that the plan will provide.
Views are slots of the same storage and cost no call. Arrays that live on when the step ends (weights, running statistics,
optimiser states, what the user holds) are *external*: their slots are the arrays themselves, so that a replay reads and
writes what is in them then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from ..autograd import Tensor
from ..autograd.recording import state as modes
from ..backend.outlines import scopes as stand_ins
from ..backend.threads import one_blas_thread
from ..backend.tracers import MAKERS, CaptureError, Live, Tracer, traced
from ..backend.tracers import state as tracing
from ..readings import kernel
from .nested import mapped
from .spans import address, extent, owner

SHAPES = {"shape", "ndim", "size", "result_type", "can_cast", "iscomplexobj", "isrealobj", "may_share_memory", "einsum_path",
          "shares_memory", "common_type", "issubdtype"}
"""NumPy's functions that look at shapes and dtypes only."""
IN_PLACE = {"at", "copyto", "put", "place", "putmask", "fill_diagonal", "put_along_axis"}
"""NumPy's functions that write to their first argument."""

SPARSE = 4
"""An input with longer gaps than this gets a place without any."""


class Storage:
    """A piece of memory: ``start`` is where it was while the step was recorded, ``array`` where the replays have it.

    ``constant``: what is in it from the beginning. ``given``: whether it is an input. ``written``: whether a call writes to
    it later.
    """

    __slots__ = ("array", "constant", "first", "given", "last", "nbytes", "start", "written")

    def __init__(self, start: int, nbytes: int) -> None:
        self.start, self.nbytes = start, nbytes
        self.array: Any = None
        self.constant: Any = None
        self.written = self.given = False
        self.first = self.last = -1


class Slot:
    """An array of the step: its form and its storage (None: external). ``array`` is the array that replays work with.

    ``lasts``: whether it is an external array that was there before the step, and is not just a constant of it.
    """

    __slots__ = ("array", "dtype", "lasts", "offset", "shape", "storage", "strides")

    def __init__(self, a: Any, storage: Storage | None, lasts: bool = False) -> None:
        self.lasts = lasts
        self.shape, self.dtype, self.strides, self.storage = a.shape, a.dtype, a.strides, storage
        self.array: Any = a if storage is None else None
        self.offset = 0 if storage is None else address(a) - storage.start


class Call:
    """One call of the recording. ``outs``: the slots that its new arrays go to (None for what needs none), ``number`` the
    Live (or several) that it sets, ``answer`` what the truth of its argument must be; ``kernel`` what a launch on a GPU is made
    of."""

    __slots__ = ("answer", "args", "context", "function", "kernel", "keywords", "number", "outs")

    def __init__(self, function: Any, args: Any, keywords: Any = None, outs: Any = (), number: Any = None,
                 answer: bool | None = None, context: Any = None) -> None:
        self.function, self.args, self.keywords, self.outs = function, args, keywords or {}, outs
        self.number, self.answer, self.context = number, answer, context
        self.kernel: Any = None


def slots_of(x: Any) -> list[Slot]:
    """The slots in a nested value."""
    found: list[Slot] = []
    mapped(x, lambda v: found.append(v) if type(v) is Slot else None)
    return found


def _plain(x: Any) -> Any:
    return mapped(x, lambda v: v.array if type(v) is Tracer else v.now if type(v) is Live else v)


class Recorder:
    """Writes down what one thread does to tracers. ``known``: the owners of arrays that outlive the step, by id.

    ``kind`` is the type of the arrays, ``namespace`` the ``xp`` of tracers.
    """

    kind: Any = np.ndarray
    namespace: Any = traced

    def __init__(self, known: dict[int, Any]) -> None:
        self.known = known
        self.calls: list[Call] = []
        self.external: dict[int, Tracer] = {}
        self.adopted: dict[int, tuple[Tensor, Any]] = {}  # tensors whose data is a tracer for the time being
        # What outlives the step and is changed by it, with the number of the first call that does so: external arrays,
        # generators, and the keepers of live calls.
        self.written: dict[int, tuple[Any, int]] = {}
        self.drawn: dict[int, tuple[Any, int]] = {}
        self.keepers: dict[int, tuple[Any, int]] = {}
        self.bumped: dict[int, int] = {}  # how far live calls have raised the versions of tensors
        self.draws: list[tuple[Any, int]] = []
        self.notes: list[Callable[[], None]] = []  # how to undo what layers have changed
        self.refused = ""
        self.errors = np.geterr()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """In the body this thread's calls are written down."""
        with stand_ins:
            journal, modes.journal = modes.journal, self.notes
            through, tracing.recorder, modes.through = modes.through, self, self.through
            try:
                yield
            finally:
                tracing.recorder, modes.through = None, through
                modes.journal = journal
                for t, a in self.adopted.values():
                    if type(t.data) is Tracer:
                        t.data = t.data.array if t.data.array is not a else a

    def refuse(self, text: str) -> NoReturn:
        """Raise CaptureError, and remember it: the step may swallow it, but is not captured."""
        self.refused = text
        raise CaptureError(text)

    # -- arrays that come in -------------------------------------------------------------------------------------------

    def lift(self, a: Any) -> Tracer:
        """The tracer of an external array."""
        t = self.external.get(id(a))
        if t is None:
            t = self.external[id(a)] = Tracer(a, self, Slot(a, None, id(owner(a)) in self.known))
        return t

    def enter(self, a: np.ndarray) -> Tracer:
        """A tracer of a copy of ``a``: an input, whose place every replay fills anew."""
        low, high = extent(a)
        if high - low <= SPARSE * a.nbytes:  # in the same layout, on which the choice of a kernel may depend
            copy = np.ndarray(a.shape, a.dtype, np.empty(high - low, np.uint8), address(a) - low, a.strides)
        else:
            copy = np.empty(a.shape, a.dtype)
        np.copyto(copy, a)
        t = self._fresh(copy)
        t.slot.storage.given = True
        return t

    def through(self, operation: Any, inputs: Sequence[Any], arrays: Sequence[Any], static: Any) -> tuple[list[Any], Any]:
        """Run an operation with the arrays of its inputs as tracers; tensors that have come so far keep theirs."""
        found = list(arrays)
        for i, (x, a) in enumerate(zip(inputs, arrays, strict=True)):
            if isinstance(a, self.kind):
                found[i] = self.adopt_tensor(x) if isinstance(x, Tensor) else self.lift(a)
        return found, operation.forward(*found, **static)

    def adopt_tensor(self, x: Tensor) -> Tracer:
        """Let the data of a tensor be a tracer until the recording ends."""
        if id(x) not in self.adopted:
            self.adopted[id(x)] = (x, x.data)
            if x.track or type(x) is not Tensor:  # a parameter or buffer that nobody has found
                self.known[id(owner(x.data))] = x.data
        x.data = self.lift(x.data)
        return x.data

    # -- calls ---------------------------------------------------------------------------------------------------------

    def run(self, function: Callable[..., Any], args: Any, keywords: Any = None, written: Sequence[Any] = ()) -> Any:
        """Call ``function`` with the real arrays and write it down. ``written``: the arguments that it writes to."""
        keywords = keywords or {}
        if tracing.recorder is not self:  # another thread that shares a model with this one, or a tracer that was kept
            return function(*_plain(args), **_plain(keywords))
        tracing.recorder = None
        try:
            result = function(*_plain(args), **_plain(keywords))
        finally:
            tracing.recorder = self
        noted, named = self._noted((args, keywords))
        call = Call(function, noted, named, context=self._context())
        operands = self._tracers(args, keywords)
        if not written and keywords.get("out") is not None:
            written = (keywords["out"],)
        elif not written:
            written = [t for t in operands[1:] if t.array is result]  # ``out`` without its name
        if written:
            for x in written:
                self._write(x)
            self.calls.append(call)
            return written[0] if len(written) == 1 else tuple(written)
        outs: list[Slot | None] = []
        tracers = self._results(function, result, operands, outs)
        if any(outs):
            call.outs = tuple(outs)
            self.calls.append(call)
        return tracers

    def plain(self, x: Any) -> Any:
        """``x`` with arrays and numbers for what stands in for them, for functions that look at shapes."""
        return _plain(x)

    def ufunc(self, ufunc: Any, method: str, inputs: Any, out: Any, keywords: Any) -> Any:
        """A call of a NumPy ufunc."""
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        if method == "at":
            return self.function(function, inputs, keywords)
        if out is None:
            return self.run(function, inputs, keywords)
        return self.run(function, inputs, {**keywords, "out": out}, written=out)

    def function(self, function: Any, args: Any, keywords: Any) -> Any:
        """A call of any other function of the arrays' module."""
        name = function.__name__
        if name in MAKERS:
            return self.made(function, args, keywords)
        if name in SHAPES:
            return function(*self.plain(args), **self.plain(keywords))
        if name in IN_PLACE:
            self.run(function, args, keywords, written=(args[0],))
            return None
        return self.run(function, args, keywords)

    def made(self, function: Any, args: Any, keywords: Any) -> Any:
        """A call of a function that makes an array out of a shape."""
        like = function.__name__.endswith("_like")
        rest = args[1:] if like else args
        if _holds_tracers((rest, keywords)):  # numpy.full(shape, tracer)
            return self.run(function, args, keywords)
        a = function(*_plain(args), **_plain(keywords))
        if tracing.recorder is not self:
            return a
        t = self._fresh(a)
        if not function.__name__.startswith("empty"):
            storage = t.slot.storage
            storage.constant = np.empty(storage.nbytes, np.uint8)
            content = np.ndarray(a.shape, a.dtype, storage.constant, t.slot.offset, a.strides)
            content[...] = a
            self.calls.append(Call(np.copyto, (t.slot, content)))
        return t

    def converted(self, function: Any, x: Tracer, args: Any, keywords: Any) -> Any:
        """numpy.asarray and its kin."""
        t = self.run(function, (x, *args), keywords)
        return Tracer(t.array, self, t.slot) if type(t) is Tracer and t.scalar else t

    def number(self, function: Any, args: Any, keywords: Any = None) -> Any:
        """A call whose result is a number."""
        value = function(*_plain(args), **_plain(keywords or {}))
        if tracing.recorder is not self:
            return value
        live = Live(value, self)
        noted, named = self._noted((args, keywords or {}))
        self.calls.append(Call(function, noted, named, number=live))
        return live

    def decide(self, x: Any) -> bool:
        """The truth of a tracer or a number: the recording holds for this answer."""
        answer = bool(_plain(x))
        if tracing.recorder is self:
            self.calls.append(Call(bool, self._noted((x,)), answer=answer))
        return answer

    def reserve(self, generator: Any, blocks: int) -> tuple[Any, Any]:
        """A range of a generator's counters, another one at every replay."""
        draw = generator._take(blocks)
        self.drawn.setdefault(id(generator), (generator, len(self.calls)))
        self.draws.append((generator, blocks))
        numbers = Live(draw[0], self), Live(draw[1], self)
        self.calls.append(Call(generator._take, (blocks,), number=numbers))
        return numbers

    def launch(self, kernels: Any, name: str, like: Any, rows: int, width: int, args: Any, constants: Any, types: Any) -> bool:
        """A launch of a kernel; whether it ran."""
        if kernel.instead is not None:
            self.refuse("a captured step cannot record kernels that run in the emulator: call the step itself")
        like = _plain(like)
        if not kernels(name, like, rows, width, *_plain(args), constants=constants, **types):
            return False
        if tracing.recorder is self:
            parameters = kernels.source.signature(name).parameters
            for p, a in zip(parameters, args, strict=True):
                if p.pointer and not p.const and a is not None:
                    self._write(a)
            launch = kernels.launch_of(name, like, constants, types)
            self.calls.append(Call(launch, self._noted((rows, width, tuple(args)))))
        return True

    def live(self, function: Callable[..., Any], args: Any, keeper: Any) -> Any:
        """A call that happens as it is at every replay: what it reads and writes in Python is not recorded.

        ``keeper._held()`` gives the arrays and the dicts of numbers that it changes.
        """
        args = mapped(args, lambda v: v.data if type(v) is Tensor and type(v.data) is Tracer else v)
        before = {key: t.version for key, (t, _) in self.adopted.items()}
        tracers = [(t, t.data) for t, _ in self.adopted.values()]
        for t, a in self.adopted.values():
            t.data = a
        tracing.recorder = modes.through = None
        try:
            result = function(*_plain(args))
        finally:
            tracing.recorder, modes.through = self, self.through
            for t, data in tracers:
                t.data = data
        for key, (t, _) in self.adopted.items():
            self.bumped[key] = self.bumped.get(key, 0) + t.version - before[key]
        self.keepers.setdefault(id(keeper), (keeper, len(self.calls)))
        self.calls.append(Call(function, self._noted(args), number=()))
        return result

    # -- how they are noted --------------------------------------------------------------------------------------------

    def _noted(self, x: Any) -> Any:
        """Arguments with slots in the places of arrays."""
        return mapped(x, lambda v: v.slot if type(v) is Tracer else self.lift(v).slot if type(v) is self.kind else v)

    def _tracers(self, *args: Any) -> list[Tracer]:
        """The tracers among arguments, those of external arrays too."""
        found: list[Tracer] = []
        mapped(args, lambda v: found.append(v if type(v) is Tracer else self.lift(v))
               if isinstance(v, Tracer | self.kind) else None)
        return found

    def concerns(self, args: Any) -> bool:
        """Whether there are tracers or live numbers among arguments."""
        return _holds_tracers(args)

    def _context(self) -> Any:
        """What surrounds a call: how NumPy treats floating-point errors, and whether BLAS is to keep to one thread."""
        errors = np.geterr()
        return None if errors == self.errors and not one_blas_thread.depth else (errors, one_blas_thread.depth > 0)

    def _write(self, x: Any) -> None:
        a = x.array if type(x) is Tracer else x
        slot = x.slot if type(x) is Tracer else self.lift(x).slot
        if slot.storage is not None:
            if slot.storage.given:
                self.refuse(f"a captured step writes to an array (shape {a.shape}) that it was given: a replay could not do "
                            "that to the caller's array; write to a copy")
            slot.storage.written = True
        elif id(owner(a)) in self.known:
            self.written.setdefault(id(a), (a, len(self.calls)))
        else:
            self.refuse(
                f"a captured step writes to an array (shape {a.shape}) that NumPy made inside the step: make it from an array "
                "of the step (numpy.zeros_like(x), x.copy()), or outside"
            )

    def _fresh(self, a: Any, scalar: bool = False) -> Tracer:
        low, high = extent(a)
        return Tracer(a, self, Slot(a, Storage(low, high - low)), scalar)

    def _results(self, function: Any, result: Any, operands: list[Tracer], outs: list[Slot | None]) -> Any:
        """The result with tracers in the places of arrays; ``outs`` gets the slots of the new ones."""
        if isinstance(result, self.kind):
            if result.dtype.hasobject:
                self.refuse(f"a captured step cannot hold an array of Python objects ({_name(function)})")
            t = self._view(result, operands)
            if t is None:
                t = self._fresh(result)
                outs.append(t.slot)
            else:
                outs.append(None)
            return t
        if isinstance(result, np.generic):
            t = self._fresh(np.array(result), scalar=True)
            outs.append(t.slot)
            return t
        if isinstance(result, tuple | list):
            values = [self._results(function, r, operands, outs) for r in result]
            return type(result)(*values) if hasattr(result, "_fields") else type(result)(values)
        return self.refuse(
            f"{_name(function)} gives a {type(result).__name__}, which would be frozen into all replays of a captured step"
        )

    def _view(self, a: Any, operands: list[Tracer]) -> Tracer | None:
        """The tracer of a result that is one of the operands, or a view of one."""
        low, high = extent(a)
        for t in operands:
            if a is t.array:
                return t
            storage = t.slot.storage
            inside = storage is None or storage.start <= low <= high <= storage.start + storage.nbytes
            if inside and owner(a) is owner(t.array):
                return Tracer(a, self, Slot(a, storage, t.slot.lasts))
        return None


def _holds_tracers(x: Any) -> bool:
    found: list[Any] = []
    mapped(x, lambda v: found.append(v) if type(v) in (Tracer, Live) else None)
    return bool(found)


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))
