"""Course: one way that a step goes, with all that must hold for it to be replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd.recording import state as modes
from ..backend import array_module, default_generator, device_of, is_array, kernels_enabled, tf32_allowed
from ..backend.tracers import CaptureError
from ..nn.recurrence import _Memory
from .cells import Cell, GradCell, StateCell
from .device_recorder import DeviceRecorder
from .forms import Form, settled, slots_in, template
from .graph_plans import GraphPlan
from .nested import mapped
from .plans import Plan
from .recorder import Recorder
from .states import State, close, same, same_bits
from .watching import Watch

Give = Callable[[], Any]
ARGUMENT = "an argument of a captured step"


def ambient() -> tuple[Any, ...]:
    """What a thread's settings have to do with how a step goes."""
    return modes.level, kernels_enabled(), tf32_allowed()


class Course:
    """A recorded step for inputs of one form, while what ``watch`` sees is unchanged."""

    def __init__(self, step: Callable[..., Any], form: Form, watch: Watch, cells: list[tuple[Cell, Form]]) -> None:
        self.step, self.form, self.watch, self.cells = step, form, watch, cells
        self.graded = [id(cell.tensor) for cell, _ in cells if type(cell) is GradCell]
        self.ambient = ambient()
        self.proven = False
        self.plan: Plan | GraphPlan
        self.result: Give
        self.left: list[tuple[Cell, Give]] = []  # what the step leaves in cells
        self.bumps: list[tuple[Tensor, int]] = []  # how far it raises versions

    def fit(self, args: Any, keywords: Any) -> Sequence[Any] | None:
        """The arrays of a call, those in cells too, if this course can be replayed for it."""
        if self.ambient != ambient() or not self.watch.unchanged():
            return None
        arrays = self.form.quick(args, keywords)
        if arrays is None and (arrays := self.form.arrays((args, keywords))) is None:
            return None
        if [id(t) for t in self.watch.tensors if t.grad is not None] != self.graded:
            return None
        for cell, form in self.cells:
            found = form.arrays(cell.get())
            if found is None:
                return None
            arrays = [*arrays, *found]
        return arrays

    def replay(self, arrays: Sequence[Any]) -> Any:
        """Run the plan: what the step would do and return. Where it raises Changed, nothing has changed."""
        self.plan.run(arrays)
        for t, by in self.bumps:
            t.version += by
        for cell, value in self.left:
            cell.set(value())
        return self.result()

    def prove(self, arrays: Sequence[Any], args: Any, keywords: Any) -> Any:
        """Replay, put everything back, run the step itself, and compare. Returns the step's own result.

        Raises CaptureError, with everything as it was before, where they differ in a bit.
        """
        state = self.state()
        before = state.save()
        cells = {id(cell): (cell, cell.get()) for cell, _ in [*self.cells, *self.left]}

        def restore() -> None:
            state.restore(before)
            for cell, value in cells.values():
                cell.set(value)

        replayed = self.replay(arrays)
        after, left = state.save(), [_leaves(cell.get()) for cell, _ in cells.values()]
        restore()
        result = self.step(*args, **keywords)
        now = state.save()
        if _drawn(before, after) != self.plan.draws or _drawn(before, now) != self.plan.draws:
            return result  # another thread has drawn from a generator of the step: the next call is to prove it
        alike = close if self.plan.products else same_bits
        leaves = partial(_same_leaves, alike=alike)
        differ = []
        if not leaves(_leaves(replayed), _leaves(result)):
            differ.append("what it returns")
        if not same(after, now, alike):
            differ.append("the parameters, running statistics or optimiser")
        if not all(map(leaves, left, [_leaves(cell.get()) for cell, _ in cells.values()])):
            differ.append("the recurrent state or .grad")
        if differ:
            restore()
            raise CaptureError(
                f"a replay of the captured step does not give what the step itself gives; what differs: {', '.join(differ)}. "
                "Something changes from call to call that is no array of the step: random numbers that do not come from a "
                "flux.Generator, the time, a counter, an array that NumPy makes of others than the step's arguments"
            )
        self.proven = True
        return result

    def state(self) -> State:
        """All that the step is known to change, and all tensors in its reach."""
        changed = self.plan.state
        keepers = {id(k): k for k in [*changed.keepers, *self.watch.keepers]}
        return State(changed.arrays, changed.generators, keepers.values(), self.watch.tensors)


def _drawn(before: Any, after: Any) -> list[int]:
    """How many blocks each generator has moved on."""
    return [b["counter"] - a["counter"] for a, b in zip(before[2], after[2], strict=True)]


def record(step: Callable[..., Any], args: Any, keywords: Any) -> tuple[Course, Any]:
    """Run the step and write down what it does: the course, and the step's result.

    Where the step cannot be captured, CaptureError is raised with everything as it was.
    """
    form = Form((args, keywords), ARGUMENT)
    watch = Watch(step, *form.statics())
    cells: list[Cell] = [StateCell(layer) for layer in watch.recurrent]
    cells += [GradCell(t) for t in watch.tensors if t.grad is not None]
    before = {id(c): c.get() for c in cells}
    state = State([], [default_generator(), *watch.generators], watch.keepers, watch.tensors)
    home = _home(form.arrays((args, keywords)) or (), watch.tensors)
    saved = state.save()

    def restore() -> None:
        state.restore(saved)
        for cell in cells:
            cell.set(before[id(cell)])

    course = Course(step, form, watch, [(c, Form(c.get(), "a state")) for c in cells])
    try:
        return course, _recorded(course, home, args, keywords)
    except Frozen as error:  # where the step itself raises, that is the error to see
        restore()
        step(*args, **keywords)
        restore()
        raise error.__cause__ from None  # type: ignore[misc]
    except CaptureError:
        restore()
        raise


class Frozen(Exception):
    """The step has done what cannot be recorded: ``__cause__`` says what."""


def _home(arrays: Sequence[Any], tensors: Sequence[Tensor]) -> Any:
    """One of the arrays of the step: they are all on one device; CaptureError where they are not."""
    found: dict[str, Any] = {}
    for what, a in [*[(ARGUMENT, a) for a in arrays], *[("a tensor of the step", t.data) for t in tensors]]:
        found.setdefault(device_of(a), (what, a))
    if len(found) > 1:
        (one, (what, a)), (other, (that, b)) = list(found.items())[:2]
        raise CaptureError(f"{what} (shape {a.shape}) is on {one}, but {that} (shape {b.shape}) on {other}: a captured step "
                           "has all arrays on one device; move them outside and pass them")
    return next(iter(found.values()))[1] if found else None


def _recorder(known: dict[int, Any], home: Any) -> Recorder:
    xp = np if home is None else array_module(home)
    return Recorder(known) if isinstance(home, np.ndarray | None) else DeviceRecorder(known, xp)


def _recorded(course: Course, home: Any, args: Any, keywords: Any) -> Any:
    watch = course.watch
    recorder = _recorder(watch.known, home)
    versions = [(t, t.version) for t in watch.tensors]
    entered: dict[int, Any] = {}
    try:
        with recorder.recording():
            for t in watch.tensors:
                recorder.adopt_tensor(t)
            inputs = [recorder.enter(a) for a in course.form.arrays((args, keywords)) or ()]
            given, named = course.form.build(inputs)
            for cell, form in course.cells:
                arrays = [recorder.enter(a) for a in form.arrays(cell.get()) or ()]
                inputs += arrays
                entered[id(cell)] = form.build(arrays)
                cell.set(entered[id(cell)])
            result = course.step(*given, **named)
    except CaptureError as error:
        raise Frozen from error
    finally:
        left, hidden = _settled_cells(course, recorder, entered), _undo_hidden(watch, recorder)
    if hidden:
        raise CaptureError("the step uses a recurrent layer that cannot be found from its function: let a variable of the "
                           "function, or its object, hold the model")
    if recorder.refused:
        raise CaptureError(recorder.refused)
    _refuse_changes(watch, recorder)
    _refuse_tapes(result)
    slots = [t.slot for t in inputs], slots_in((result, [value for _, value in left]))
    if isinstance(recorder, DeviceRecorder):
        course.plan = GraphPlan(recorder, *slots)
        course.plan.build(course.state(), home.device)
    else:
        course.plan = Plan(recorder, *slots)
    course.result = template(result, recorder.known)
    course.left = [(cell, template(value, recorder.known)) for cell, value in left]
    course.bumps = [(t, by) for t, before in versions if (by := t.version - before - recorder.bumped.get(id(t), 0))]
    return settled(result)


def _settled_cells(course: Course, recorder: Recorder, entered: dict[int, Any]) -> list[tuple[Cell, Any]]:
    """The cells that the step has left something in, and what, with tracers; they get the real arrays."""
    found: list[tuple[Cell, Any]] = []
    tensors = {id(t): t for t in [*course.watch.tensors, *[t for t, _ in recorder.adopted.values()]]}
    graded = {id(cell.tensor): cell for cell, _ in course.cells if type(cell) is GradCell}
    cells: list[Cell] = [cell for cell, _ in course.cells if type(cell) is StateCell]
    cells += [graded.get(id(t)) or GradCell(t) for t in tensors.values() if id(t) in graded or t.grad is not None]
    for cell in cells:
        value = cell.layer._memory.left if type(cell) is StateCell else cell.get()
        if value is not entered.get(id(cell), cell):
            found.append((cell, value))
        cell.set(settled(value))
    return found


def _undo_hidden(watch: Watch, recorder: Recorder) -> bool:
    """Undo what layers have noted about states that no cell knows; whether there was any."""
    known = [layer._memory for layer in watch.recurrent]
    memories = [(n.args[0], n) for n in recorder.notes if isinstance(n, partial) and isinstance(n.args[0], _Memory)]
    hidden = [undo for memory, undo in memories if all(memory is not k for k in known)]
    for undo in reversed(hidden):
        undo()
    recorder.notes.clear()
    return bool(hidden)


def _refuse_changes(watch: Watch, recorder: Recorder) -> None:
    """What a replay would not do must not be part of the step."""
    exchanged = [t for t, a in recorder.adopted.values() if t.data is not a]
    if exchanged:
        raise CaptureError(f"the step exchanges the array of a tensor of shape {exchanged[0].shape} for another one: do that "
                           "outside (a captured step may write to it in place)")
    if [t.track for t in watch.tensors] != watch.tracks:
        raise CaptureError("the step freezes or thaws parameters: a replay would not; do it between the calls")
    if changes := watch.changes():
        raise CaptureError(
            f"the step changes what a replay would leave as it is: {', '.join(changes[:4])}. Return the value from the step "
            "and use it there"
        )
    for t, a in recorder.adopted.values():
        if t.track or type(t) is not Tensor:
            watch.add(t, a)


def _refuse_tapes(result: Any) -> None:
    def look(x: Any) -> None:
        node = x.node if isinstance(x, Tensor) else None
        if node is not None and node.inputs is not None:
            raise CaptureError(f"the step returns a recorded tensor (made by {node.op.name}), whose tape a replay does not "
                               "have: return x.detach()")

    mapped(result, look)


# -- comparing ---------------------------------------------------------------------------------------------------------


def _leaves(x: Any) -> list[Any]:
    found: list[Any] = []
    mapped(x, lambda v: found.append(v.data if isinstance(v, Tensor) else v))
    return found


def _same_leaves(a: list[Any], b: list[Any], alike: Any = same_bits) -> bool:
    return len(a) == len(b) and all(map(partial(_same_leaf, alike), a, b))


def _same_leaf(alike: Any, a: Any, b: Any) -> bool:
    if (isinstance(a, np.generic) or is_array(a)) and type(a) is type(b):
        return alike(a, b)
    return a is b or (type(a) is type(b) and bool(a == b or (a != a and b != b)))
