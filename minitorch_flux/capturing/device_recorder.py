"""DeviceRecorder: what a step does on a GPU, written down call by call, to be made a CUDA graph of.

A graph has no place for the host: what reads a number from the device, or whose shape depends on one, is refused here, while
the step is recorded, with the reason. Numbers of the host that are others at every replay (the counters of generators, what an
optimiser counts with) may go to kernels only, which read them from memory.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..backend import kernels_enabled
from ..backend.tracers import Live, TracedModule, Tracer
from ..optimisers import OptimiserState
from .nested import mapped
from .programs import SHAPED_BY_NUMBERS
from .recorder import Call, Recorder, Slot
from .spans import extent, flat_bytes, owner

READS = "in a captured step on a GPU would wait for the device, which a CUDA graph cannot"
LIBRARIES = {"dot", "tensordot", "einsum", "inner", "vdot", "solve", "inv", "cholesky", "svd", "qr", "eigh", "eigvalsh", "det",
             "slogdet", "lstsq", "pinv", "matrix_rank", "matrix_power"}
"""What CuPy calls cuBLAS or cuSOLVER for, which it refuses inside a graph; matmul is ours (backend/cublas.py)."""
FIXED = {"where", "full", "zeros", "ones", "empty", "arange", "linspace", "repeat"}
"""Of the functions that may have a shape that depends on numbers, those that have none here: see ``_refuse_shapes``."""


@functools.cache
def namespace_of(xp: Any) -> TracedModule:
    """What stands in for CuPy."""
    return TracedModule(xp)


def assign(x: Any, y: Any) -> None:
    """``x[...] = y``."""
    x[...] = y


class DeviceRecorder(Recorder):
    """Writes down what one thread does to tracers of arrays on a GPU. ``xp`` is CuPy."""

    def __init__(self, known: dict[int, Any], xp: Any) -> None:
        super().__init__(known)
        self.xp, self.kind, self.namespace = xp, xp.ndarray, namespace_of(xp)

    def enter(self, a: Any) -> Tracer:
        """A tracer of a copy of ``a``: an input, whose buffer (another copy) every replay fills anew."""
        t, buffer = self._fresh(a.copy("K")), a.copy("K")
        t.slot.array, t.slot.storage.array, t.slot.storage.given = buffer, flat_bytes(buffer), True
        return t

    def run(self, function: Any, args: Any, keywords: Any = None, written: Any = ()) -> Any:
        """Call ``function`` with the real arrays and write it down."""
        name = getattr(function, "__name__", "")
        if _lives((args, keywords)):
            self.refuse(f"{name or function!r} computes with a number of the host that is another one at every call, which a "
                        "CUDA graph cannot ask for: only kernels can"
                        + ("" if kernels_enabled() else "; they are switched off (use_kernels)"))
        if name in LIBRARIES:
            self.refuse(f"{name} calls a library that CuPy does not allow inside a CUDA graph: use matmul, or sums of products")
        self._refuse_shapes(name, args, keywords)
        return super().run(function, args, keywords, written)

    def _refuse_shapes(self, name: str, args: Any, keywords: Any) -> None:
        masked = name == "getitem" and any(getattr(k, "dtype", None) == np.bool_ for k in _flat(args[1]))
        if name == "where":
            masked = len(args) + len(keywords or ()) == 1
        elif name == "repeat":
            masked = len(args) > 1 and hasattr(args[1], "dtype")
        elif name in SHAPED_BY_NUMBERS - FIXED:
            masked = True
        if masked:
            what = "an index of truth values" if name == "getitem" else name
            self.refuse(f"{what} gives an array whose shape depends on numbers: looking at them {READS}; use flux.where, or "
                        "multiply by a mask")

    def ufunc(self, ufunc: Any, method: str, inputs: Any, out: Any, keywords: Any) -> Any:
        """A call of a NumPy ufunc: CuPy's of the same name."""
        function = getattr(self.namespace, ufunc.__name__)
        if method != "__call__":
            function = getattr(function, method)
        if out is not None:
            keywords = {**keywords, "out": out[0]}
        return self.function(function, inputs, keywords)

    def plain(self, x: Any) -> Any:
        """``x`` with arrays for tracers; numbers that are others at every replay stay what they are."""
        return mapped(x, lambda v: v.array if type(v) is Tracer else v)

    def made(self, function: Any, args: Any, keywords: Any) -> Any:
        """A call of a function that makes an array out of a shape."""
        name = function.__name__
        rest = args[1:] if name.endswith("_like") else args
        if self.concerns((rest, keywords)):
            return self.run(function, args, keywords)
        a = function.function(*self.plain(args), **self.plain(keywords))
        t = self._fresh(a)
        if not name.startswith("empty"):
            content = t.slot.storage.constant = a.copy()
            self.calls.append(Call(assign, (t.slot, content)))
        return t

    def number(self, function: Any, args: Any, keywords: Any = None) -> Any:
        """A number of the host; one of the device is refused."""
        if not all(type(a) is not Tracer for a in args):
            self.refuse(f".item() {READS}: compute with the array, which may have no axes, or read it outside")
        return super().number(function, args, keywords)

    def decide(self, x: Any) -> bool:
        """The truth of a number of the host; that of an array is refused."""
        if type(x) is Tracer:
            self.refuse(f"an `if` on a value {READS}: use flux.where, or decide outside")
        return super().decide(x)

    def launch(self, kernels: Any, name: str, like: Any, rows: int, width: int, args: Any, constants: Any, types: Any) -> bool:
        """A launch of a kernel; whether it ran."""
        if _lives((rows, width)):
            self.refuse(f"{name} is launched for a number of rows that changes from call to call")
        ran = super().launch(kernels, name, like, rows, width, args, constants, types)
        if ran:
            self.calls[-1].kernel = (kernels, name, self.xp.empty(0, like.dtype), constants, types)
        return ran

    def live(self, function: Any, args: Any, keeper: Any) -> Any:
        """A call that happens as it is at every replay, but for its kernels: an optimiser's update."""
        rules = {rule for leaf in keeper._leaves for rule in leaf.rule.rules} if isinstance(keeper, OptimiserState) else {None}
        for rule in rules:
            if not (getattr(rule, "updates", False) and type(rule).__module__.startswith("minitorch_flux.")):
                self.refuse(f"{rule!r} is no single kernel, and what it computes on the host could not change from replay to "
                            "replay of a CUDA graph: capture the gradient alone and call update outside")
        if any(len(leaf.rule.rules) != 1 for leaf in keeper._leaves):
            self.refuse("an OptimiserChain is no single kernel: capture the gradient alone and call update outside")
        return super().live(function, args, keeper)

    def _context(self) -> Any:
        return None

    def _view(self, a: Any, operands: list[Tracer]) -> Tracer | None:
        """The tracer of a result that lies in the memory of an operand."""
        low, high = extent(a)
        for t in operands:
            if a is t.array:
                return t
            storage = t.slot.storage
            start, end = extent(owner(t.array)) if storage is None else (storage.start, storage.start + storage.nbytes)
            if start <= low < high <= end:
                return Tracer(a, self, Slot(a, storage, t.slot.lasts))
        return None


def _lives(x: Any) -> bool:
    found: list[Any] = []
    mapped(x, lambda v: found.append(v) if type(v) is Live else None)
    return bool(found)


def _flat(x: Any) -> list[Any]:
    return [v for y in x for v in _flat(y)] if isinstance(x, tuple | list) else [x]
