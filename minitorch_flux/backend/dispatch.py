"""The one dispatch of the library: reference or kernel, CPU or GPU.

An op is written once as a *reference* in ``xp`` (NumPy or CuPy) and may have a *kernel launcher* that serves both
devices, because a kernel is one text with several readings. ``ArrayFunction.__call__`` is the only place that
chooses between them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .arrays import _loaded_cupy, same_device
from .outlines import is_outline
from .outlines import scopes as stand_ins
from .tracers import is_live
from .tracers import state as tracing

FUNCTIONS: dict[str, ArrayFunction] = {}
"""Every array function of the library by name."""


class _State(threading.local):
    use_kernels = True


_state = _State()


class ArrayFunction:
    """A function on arrays with a reference and, perhaps, a kernel.

    ``reference`` is the readable definition in ``xp``. ``launches`` counts the calls that a kernel served;
    ``accepts`` says in words which arguments the kernel must serve. None need serve an axis of 2**31 - 1024 elements or
    more: where a kernel counts it with an int, the reference runs.
    """

    def __init__(self, reference: Callable[..., Any]) -> None:
        functools.update_wrapper(self, reference)
        self.name = reference.__name__
        self.reference = reference
        self.launcher: Callable[..., Any] | None = None
        self.accepts = ""
        self.outline: Callable[..., Any] | None = None
        self.launches = 0
        self.whole = False  # a captured step takes the reference as one call: which way it goes depends on numbers
        if self.name in FUNCTIONS:
            raise ValueError(f"there are two array functions called {self.name!r}")
        FUNCTIONS[self.name] = self

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if _loaded_cupy() is not None:
            same_device(self.name, args)
        if self.launcher is not None and _state.use_kernels:
            try:
                y = self.launcher(*args, **keywords)
            except OverflowError:  # an axis of 2**31 elements, which a kernel counts with an int
                y = NotImplemented
            if y is not NotImplemented:
                self.launches += 1
                return y
        if self.outline is not None and any(is_outline(a) for a in args):
            return self.outline(*args, **keywords)
        if stand_ins.count and tracing.recorder is not None and (self.whole or any(map(is_live, args))):
            return tracing.recorder.run(self.reference, args, keywords)
        return self.reference(*args, **keywords)

    def kernel(self, accepts: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: the launcher of this function's kernel, which may decline with ``NotImplemented``."""

        def register(launcher: Callable[..., Any]) -> Callable[..., Any]:
            self.launcher, self.accepts = launcher, accepts
            return launcher

        return register

    def outlined(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: what this function makes of outlines, where its reference looks at numbers (or is slow)."""
        self.outline = rule
        return rule

    def __repr__(self) -> str:
        kernel = f", kernel: {self.accepts}" if self.launcher else ""
        return f"<array function {self.name}{kernel}>"


def array_function(reference: Callable[..., Any]) -> ArrayFunction:
    """Decorator: make the reference of an op callable through the dispatch."""
    return ArrayFunction(reference)


@contextmanager
def use_kernels(on: bool = True) -> Iterator[None]:
    """Switch hand-written kernels on or off in this thread: ``with use_kernels(False):`` runs the references."""
    before, _state.use_kernels = _state.use_kernels, bool(on)
    try:
        yield
    finally:
        _state.use_kernels = before


def kernels_enabled() -> bool:
    """Whether kernels may run in this thread."""
    return _state.use_kernels
