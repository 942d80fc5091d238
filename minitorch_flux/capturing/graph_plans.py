"""GraphPlan: a step that was recorded on a GPU as one CUDA graph.

The calls of the recording run twice on a stream of their own, with memory of a private pool: once to load kernels and to take
the memory, once while the stream is captured. A replay fills the inputs, brings the numbers of the host (counters of
generators, what optimisers count with and their rates) to the device in one copy, and launches the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..backend import is_array, to_device
from ..backend.cublas import TYPES, Products
from ..backend.graphs import Graph
from ..backend.outlines import scopes as stand_ins
from ..backend.tracers import CaptureError
from ..backend.tracers import state as tracing
from .device_recorder import DeviceRecorder, _lives, assign
from .nested import mapped
from .plans import Plan
from .programs import Changed, Failed, _now, executable
from .recorder import Call, Slot, Storage, slots_of
from .spans import address, array_at, flat_bytes
from .states import State

JOINED = 8
"""CuPy joins more arrays than this by their addresses, which it would copy from the host."""


class LiveLaunch:
    """A launch whose numbers are written anew before every replay."""

    def __init__(self, key: Any, write: Callable[[Any], None]) -> None:
        self.key, self.write = key, write


class GraphPlan:
    """What ``DeviceRecorder`` wrote down, ready to be launched; ``build`` makes the graph.

    ``inputs``: the slots that a replay fills before it begins; ``kept``: those that must last to its end.
    """

    def __init__(self, recorder: DeviceRecorder, inputs: Sequence[Slot], kept: Sequence[Slot]) -> None:
        self.xp = recorder.xp
        self.state = State(*[[x for x, _ in found.values()] for found in (recorder.written, recorder.drawn, recorder.keepers)])
        self.draws = [sum(blocks for g, blocks in recorder.draws if g is drawn) for drawn, _ in recorder.drawn.values()]
        self.inputs: list[Any] = [s.array for s in inputs]
        self.recorded = [c for c in recorder.calls if not _is_constant(c)]
        self.calls = len(self.recorded)
        # Gradients must last, too: an update looks at them before every replay.
        self.kept = [*kept, *(s for c in self.recorded if c.number == () for s in slots_of(c.args))]
        Plan._live_from_to(self.recorded, inputs, self.kept)
        self.nbytes = self.products = self.used = 0
        self.capturing = False
        self.memory: Any = None  # the numbers of all launches that change, on the device, and in ``numbers`` on the host
        self.numbers = np.zeros(0, np.uint64)
        self.host: list[Callable[[], Any]] = []
        self._products: Any = None
        self._call: Any = None
        self._places: list[Any] = []
        self._ends: dict[int, list[tuple[Storage, Slot]]] = {}

    def build(self, state: State, device: Any) -> None:
        """Record the graph. ``state`` is all that the step changes; it is put back.

        Raises CaptureError, naming the call, for what cannot be part of a CUDA graph.
        """
        with device:
            self.graph = Graph(self.xp, device)
            self.device = f"cuda:{device.id}"
            saved = state.save()
            try:
                for record in (self.graph.rehearse, self.graph.capture):
                    self._start(record == self.graph.capture)
                    record(self._run)
                    state.restore(saved)
            except BaseException as error:
                state.restore(saved)
                if isinstance(error, CaptureError) or not isinstance(error, Exception):
                    raise
                raise CaptureError(f"{self._described()} cannot be part of a CUDA graph: {error}") from error
        external = [s.array for s in slots_of([(c.args, c.keywords) for c in self.recorded]) if s.storage is None]
        constants = [s.storage.array for s in slots_of([c.args for c in self.recorded]) if s.storage is not None]
        kept = [s.array for s in self.kept]
        self.graph.kept += [*self._places, *external, *constants, *kept]  # what lies in between belongs to the pool
        self.nbytes, self.products = self.graph.nbytes, self._products.count
        del self.recorded, self._products, self._ends, self._places, self._call

    # -- a replay ------------------------------------------------------------------------------------------------------

    def run(self, arrays: Sequence[Any]) -> None:
        """Replay the step with these inputs.

        Raises Changed where the step would go another way and Failed where the host's part raises; then nothing has changed.
        """
        saved = self.state.save(arrays=False)
        try:
            for step in self.host:
                step()
        except Exception as error:
            self.state.restore(saved)
            if isinstance(error, Changed):
                raise
            raise Failed from error
        with self.graph.device:
            for buffer, a in zip(self.inputs, arrays, strict=True):
                buffer[...] = a
            if self.numbers.size:
                self.memory.set(self.numbers.copy(), stream=self.xp.cuda.get_current_stream())
            self.graph.launch()

    def _collect(self, function: Any, args: Any, launches: Sequence[LiveLaunch]) -> None:
        """An update without its kernels: they are in the graph, and get the numbers that they are called with here."""
        expected = iter(launches)

        def take(kernels: Any, name: str, like: Any, rows: int, width: int, given: Any, constants: Any, types: Any) -> bool:
            entry = next(expected, None)
            if entry is None or entry.key != _key(kernels, name, rows, width, given):
                raise Changed
            entry.write(given)
            return True

        self._with_launches(take, function, args)
        if next(expected, None) is not None:
            raise Changed

    @staticmethod
    def _with_launches(take: Any, function: Any, args: Any) -> None:
        with stand_ins:
            before, tracing.launches = tracing.launches, take
            try:
                function(*args)
            finally:
                tracing.launches = before

    # -- the two passes ------------------------------------------------------------------------------------------------

    def _start(self, capturing: bool) -> None:
        if capturing:  # as many numbers as the rehearsal has counted
            self.memory, self.numbers = self.xp.zeros(self.used, np.uint64), np.zeros(self.used, np.uint64)
        self.capturing, self.used = capturing, 0
        self._products = None  # the rehearsal's workspace is free again
        self.host, self._places, self._ends = [], [], {}
        for slot in [*self.kept, *slots_of([(c.args, c.keywords, c.outs) for c in self.recorded])]:
            storage = slot.storage
            if storage is None or storage.given:
                continue
            constant = storage.constant is not None and not storage.written
            slot.array, storage.array = None, flat_bytes(storage.constant) if constant else None
            if not constant:
                self._ends.setdefault(storage.last, []).append((storage, slot))

    def _run(self) -> None:
        self._products = Products(self.xp, self.graph.device, self.graph.stream, self._places.append, self._place)
        for i, call in enumerate(self.recorded):
            self._call = call
            self._one(call)
            for storage, slot in self._ends.get(i, ()):  # from here on their memory may be another's
                storage.array = slot.array = None
        for slot in self.kept:
            self._array(slot)

    def _one(self, call: Call) -> None:
        if call.number == ():
            self._update(call)
        elif call.number is not None or call.answer is not None:
            self.host.append(executable(call))  # it computes with numbers of the host
        elif call.kernel is not None and _lives(call.args):
            rows, width, given = self._bound(call.args)
            kernels, name, like, constants, types = call.kernel
            entry = self._launch(kernels, name, like, rows, width, _now(given), constants, types)
            self.host.append(lambda: entry.write(_now(given)))
        else:
            y = self._called(call.function, self._bound(call.args), self._bound(call.keywords))
            if any(call.outs):
                self._store(call.outs, y)

    def _update(self, call: Call) -> None:
        args = mapped(call.args, lambda v: self.xp.ascontiguousarray(self._array(v)) if type(v) is Slot else v)
        entries: list[LiveLaunch] = []

        def take(*launch: Any) -> bool:
            entries.append(self._launch(*launch))
            self._places.append(launch[5])  # tables of addresses that nobody else may hold
            return True

        self._with_launches(take, call.function, args)
        if not entries:
            raise CaptureError("update ran without a kernel (kernels are switched off, or a parameter is not contiguous): its "
                               "numbers could not change from replay to replay of a CUDA graph; call update outside")
        self.host.append(partial(self._collect, call.function, args, entries))

    def _launch(self, kernels: Any, name: str, like: Any, rows: int, width: int, given: Any, constants: Any, types: Any) -> Any:
        numbers, launch = kernels.live_launch_of(name, like, constants, types)
        start, self.used = self.used, self.used + numbers.size
        if self.capturing:
            memory, views = self.memory[start : self.used], numbers.place(self.numbers[start : self.used])
        else:
            host = np.zeros(numbers.size, np.uint64)
            numbers.write(numbers.place(host), given)
            memory, views = self._place(host), []
        if not launch(rows, width, (*[given[i] for i in numbers.arrays], memory)):
            raise CaptureError(f"the kernel {name} has no reading for this device")
        return LiveLaunch(_key(kernels, name, rows, width, given), partial(numbers.write, views))

    def _called(self, function: Any, args: Any, keywords: Any) -> Any:
        name = getattr(function, "__name__", "")
        if name == "matmul" and np.promote_types(args[0].dtype, args[1].dtype).name in TYPES:
            return self._products.matmul(*args, **keywords)
        if name in ("concatenate", "stack") and len(args[0]) > JOINED:
            return self._joined(name, *args, **keywords)
        if name in ("getitem", "setitem"):
            args = (args[0], mapped(args[1], lambda k: self._place(k) if type(k) is np.ndarray else k), *args[2:])
        return function(*args, **keywords)

    def _joined(self, name: str, arrays: Sequence[Any], axis: int | None = 0, out: Any = None, **rest: Any) -> Any:
        xp = self.xp
        if name == "stack":
            arrays = [xp.expand_dims(a, axis) for a in arrays]
        elif axis is None:
            arrays, axis = [a.ravel() for a in arrays], 0
        axis = (axis or 0) % arrays[0].ndim
        shape = list(arrays[0].shape)
        shape[axis] = sum(a.shape[axis] for a in arrays)
        y = xp.empty(shape, rest.get("dtype") or np.result_type(*[a.dtype for a in arrays])) if out is None else out
        place = 0
        for a in arrays:
            y[(slice(None),) * axis + (slice(place, place + a.shape[axis]),)] = a
            place += a.shape[axis]
        return y

    # -- arrays --------------------------------------------------------------------------------------------------------

    def _place(self, a: np.ndarray) -> Any:
        """A host array on the device; inside the capture it is filled when that has ended."""
        y = to_device(a, self.device)
        self._places.append(y)
        return y

    def _bound(self, x: Any) -> Any:
        return mapped(x, lambda v: self._array(v) if type(v) is Slot else v)

    def _array(self, slot: Slot) -> Any:
        if slot.array is None:
            storage = slot.storage
            assert storage is not None
            if storage.array is None:
                storage.array = self.xp.empty(storage.nbytes, np.uint8)
            slot.array = array_at(storage.array, slot.offset, slot)
        return slot.array

    def _store(self, outs: Sequence[Slot | None], y: Any) -> None:
        """Let the slots of a call's new arrays be these: as they are, where they lie as they did when they were recorded."""
        for a, slot in zip(_each(y), outs, strict=True):
            if slot is None:
                continue
            if a.shape != slot.shape or a.dtype != slot.dtype:
                raise CaptureError(f"{self._described()} gave {slot.dtype} {slot.shape} while it was recorded, and gives "
                                   f"{a.dtype} {a.shape} now")
            memory = flat_bytes(a) if a.strides == slot.strides else None
            if memory is None:
                self._array(slot)[...] = a
            else:
                slot.storage.array, slot.array = memory, a  # type: ignore[union-attr]

    def _described(self) -> str:
        function = self._call.function
        return str(getattr(function, "__name__", None) or getattr(function, "__qualname__", repr(function)))


def _each(y: Any) -> list[Any]:
    return [v for part in y for v in _each(part)] if isinstance(y, tuple | list) else [y]


def _key(kernels: Any, name: str, rows: int, width: int, given: Any) -> Any:
    """What must be the same for a launch to be the one in the graph, whatever its numbers."""
    return kernels.file, name, rows, width, [address(a) for a in given if is_array(a)]


def _is_constant(call: Call) -> bool:
    """Whether a call only makes a constant that nobody writes to."""
    if call.function is not assign or not isinstance(call.args[0], Slot):
        return False
    storage = call.args[0].storage
    return storage is not None and storage.constant is not None and not storage.written
