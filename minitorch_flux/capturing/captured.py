"""capture: a training step recorded once and replayed."""

from __future__ import annotations

import functools
import inspect
import operator
import threading
import types
from collections.abc import Callable
from typing import Any

from ..autograd.recording import OFF, RECORDING
from ..autograd.recording import state as modes
from ..backend.tracers import CaptureError
from ..backend.tracers import state as tracing
from .courses import ARGUMENT, Course, ambient, record
from .forms import Form
from .programs import Changed, Failed

PATIENCE = 8
"""How often in a row a step may be recorded anew for inputs of a form that was recorded before."""


class Captured:
    """What ``capture`` gives: called like the step itself. ``replays`` counts the calls that were replayed."""

    def __init__(self, step: Callable[..., Any], plans: int) -> None:
        functools.update_wrapper(self, step)
        self.name = getattr(step, "__name__", type(step).__name__)
        self.step, self.plans = step, plans
        self._lock = threading.RLock()
        self._courses: list[Course] = []  # the one used last comes first
        self.replays = 0
        self._warm = False
        self._again = 0  # recordings since the last replay of forms that were known

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if tracing.recorder is not None or modes.level < OFF or modes.debug:
            return self.step(*args, **keywords)  # part of another captured step, shapes only, or everything checked
        if modes.level == RECORDING:
            raise CaptureError("a captured step was called inside a recording scope: its replay leaves no tape; call the step "
                               "itself there")
        with self._lock:
            for i, course in enumerate(self._courses):
                arrays = course.fit(args, keywords)
                if arrays is None:
                    continue
                if i:
                    self._courses.insert(0, self._courses.pop(i))
                try:
                    if not course.proven:
                        return course.prove(arrays, args, keywords)
                    result = course.replay(arrays)
                except Changed:
                    continue
                except Failed:  # nothing has changed: let the step itself say what is wrong
                    return self.step(*args, **keywords)
                self._again = 0
                self.replays += 1
                return result
            if not self._warm:
                Form((args, keywords), ARGUMENT)  # refuses what it would refuse later
                result = self.step(*args, **keywords)
                self._warm = True
                return result
            return self._record(args, keywords)

    def _record(self, args: Any, keywords: Any) -> Any:
        known = [c for c in self._courses if c.form.arrays((args, keywords)) is not None and c.ambient == ambient()]
        self._again += bool(known)
        if self._again > PATIENCE:
            names = known[0].watch.changes() or ["numbers that the step looks at (an `if` on a tensor)"]
            raise CaptureError(
                f"the captured step {self.name!r} has gone another way {PATIENCE} times in a row and was recorded anew each "
                f"time; what changes: {', '.join(names[:4])}. Pass numbers that change as arrays, or call the step itself"
            )
        course, result = record(self.step, args, keywords)
        self._courses = [course, *self._courses[: self.plans - 1]]
        return result

    def forget(self) -> None:
        """Let all recordings go: the next call runs the step itself, the one after it records."""
        with self._lock:
            self._courses, self._warm, self._again = [], False, 0

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        found = ", ".join(f"{c.plan.calls} calls in {c.plan.nbytes} bytes" for c in self._courses)
        return f"<captured {self.name}: {found or 'nothing recorded yet'}>"


def capture(step: Callable[..., Any], *, plans: int = 8) -> Captured:
    """A training step that is recorded once and then replayed: the same bits, without the work of Python and the tape.

        fast = flux.capture(step)         # or @flux.capture above `def step(x, y):`
        for x, y in loader:
            loss = fast(x, y)

    ``step`` is any function of arrays, such as one that calls ``withgradient`` and ``update`` and returns the loss. The first
    call runs it as it is; the second runs it and writes down every call of a kernel or of NumPy, with its arrays; the third
    runs the recording and the step, and compares all that they return and change, bit for bit. From then on the recording
    is replayed, in memory of its own: no tensor is recorded, and nothing large is allocated.

    Inputs of another shape or dtype, a layer whose settings have changed, parameters that were frozen, moved or converted,
    another value of a variable that the function uses: each is noticed, and recorded anew. ``plans`` recordings are kept.
    Dropout draws new masks; optimisers count on, and follow ``adjust``; recurrent layers go on from their state. An ``if`` on
    a tensor is noted, and another answer recorded as another way to go; ``x.item()`` gives a number to compute with.

    What a replay would do otherwise raises CaptureError, with everything as it was: ``float()``, ``int()``, printing or NumPy's
    ``asarray`` of a value; changes of variables, lists or attributes (return the values); ``adjust``, ``setup`` or draws from
    NumPy's generators inside the step; a replay that differs in a bit. Other effects of the step (a file, a message) happen
    in the first three calls only.

    On a GPU a recording becomes one CUDA graph, with memory of its own, and a replay its launch: numbers of the host that
    change (the counters of generators, learning rates, what optimisers count with) go to the device in one copy before it.
    There is no host inside a graph, so that more raises CaptureError: ``if`` and ``item()`` of a value, results whose shape
    depends on numbers, optimisers that are no single kernel (chains, clipping: update outside). Indices and labels are not
    checked there: a label that is no class gives NaN. Matrix products are cuBLAS's as outside; should it round one
    differently inside a graph, the replay is held to ``states.CLOSE`` instead of to the bit.
    """
    if not callable(step):
        raise TypeError(f"capture(step): the step is a function, got {type(step).__name__}")
    if inspect.isgeneratorfunction(step) or inspect.iscoroutinefunction(step):
        raise TypeError(f"capture(step): {step.__name__} is a generator or coroutine, which runs after its call, not in it")
    plans = operator.index(plans)
    if plans < 1:
        raise ValueError(f"capture: plans must be at least 1, got {plans}")
    return Captured(step, plans)
