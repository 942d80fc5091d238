"""profile: where the time goes, by operation and by layer, forward and backward."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

from ..autograd.recording import state
from ..backend import is_array
from ..backend.clocks import Timer, now
from ..readings import kernel as launches
from . import flames
from .flop_counts import backward_flops, flops
from .followers import Follower, Place, following
from .spans import BACKWARD, FORWARD, OTHER, LayerTotal, Span, Total, by_layer, by_operation
from .texts import cut, in_bytes, in_seconds, in_thousands, table
from .writing import write


class Profile(Follower):
    """What ``profile`` measures: a context manager; afterwards it prints as tables. ``save`` writes a trace or a picture.

    ``operations()`` and ``layers()`` are the rows of the tables, ``spans`` every single call. Times are in nanoseconds.
    ``wall`` is the time of the body, ``kernels`` that in compiled kernels, ``arrays`` that in operations otherwise (NumPy,
    BLAS, the launching of kernels), ``python`` the rest: layers, the tape, loops, and this measuring itself.
    """

    def __init__(self, model: Any = None) -> None:
        super().__init__(model)
        self.model = model
        self.here = self.outside = Place("", None, None)
        self.spans: list[Span] = []
        self.wall = 0
        self.devices: set[str] = set()
        self._timer = Timer()
        self._stack: list[Span] = []
        self._phase = OTHER
        self._calls: dict[int, tuple[Any, Place, str, int, int]] = {}
        self._undo: ExitStack | None = None
        self._begin = 0

    # -- measuring -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Profile:
        if self._undo is not None or self.wall:
            raise RuntimeError("profile: one of these measures once; make another: with flux.profile(model) as p: ...")
        self._undo = ExitStack()
        self._undo.enter_context(following(self.model, self))
        before = state.through, state.pulling, launches.watching
        self._undo.callback(self._restore, *before)
        state.through, state.pulling, launches.watching = self.through, self.pulling, self._watcher(launches.watching)
        self._timer = Timer()
        self._begin = now()
        return self

    def __exit__(self, *error: object) -> None:
        self._end_of_devices()
        self.wall = now() - self._begin
        if self._undo is not None:
            self._undo.close()
            self._undo = None
        for span in self.spans:
            span.start, span.length = self._timer.span(span.begin, span.end)
            span.host = span.end[0] - span.begin[0]
            span.gpu = span.begin[1] is not None
        self._calls.clear()

    def _restore(self, through: Any, pulling: Any, watching: Any) -> None:
        state.through, state.pulling, launches.watching = through, pulling, watching

    def _end_of_devices(self) -> None:
        """Wait for the last piece of work that was sent to a GPU."""
        for span in reversed(self.spans):
            if span.end is not None and span.end[1] is not None:
                span.end[1].synchronize()
                break

    def _open(self, kind: str, name: str, place: Place, phase: str, like: Any = None) -> Span:
        parent = self._stack[-1] if self._stack else None
        span = Span(kind, name, place, phase, parent, None)
        if parent is not None:
            parent.children.append(span)
        self.spans.append(span)
        self._stack.append(span)
        span.begin = self._timer.mark(like)
        return span

    def _close(self, span: Span, like: Any = None) -> None:
        span.end = self._timer.mark(like)
        while self._stack.pop() is not span:
            pass

    def enter(self, path: str, layer: Any) -> None:
        """A call of a layer begins; one that is called by itself stands in the model all the same."""
        if self.here is self.outside:
            self.here = self.root
        super().enter(path, layer)

    def called(self, path: str, layer: Any, call: Any, *args: Any, **keywords: Any) -> Any:
        """A call of a layer, measured."""
        before, output = self.here, None
        self.enter(path, layer)
        span = self._open("layer", path, self.here, FORWARD)
        try:
            output = call(*args, **keywords)
        finally:
            self._close(span)
            self.leave(before, output)
        return output

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """A call of an operation, measured."""
        like = next((a for a in arrays if is_array(a)), None)
        phase = BACKWARD if self._phase == BACKWARD else FORWARD
        span = self._open("operation", operation.name, self.here, phase, like)
        try:
            result = operation.forward(*arrays, **static)
        finally:
            self._close(span, like)
        outputs = [a for a in (result if isinstance(result, tuple | list) else [result]) if hasattr(a, "nbytes")]
        span.bytes = sum(a.nbytes for a in (*arrays, *outputs) if hasattr(a, "nbytes"))
        span.flops = flops(operation.name, arrays, static, outputs) if outputs else 0
        self._calls[id(static)] = (static, self.here, operation.name, span.flops, span.bytes)
        return arrays, result

    def pulling(self, node: Any, dy: Any, create_graph: bool) -> Any:
        """The backward pass of an operation, measured."""
        _, place, name, n, size = self._calls.get(id(node.static), (None, self.outside, node.op.name, 0, 0))
        needs = [parent is not None for parent in node.parents]
        before, self.here, phase, self._phase = self.here, place, self._phase, BACKWARD
        like = next((a for a in (dy if isinstance(dy, tuple) else (dy,)) if a is not None), None)
        like = getattr(like, "data", like) if not is_array(like) else like
        span = self._open("operation", name, place, BACKWARD, like)
        try:
            grads = node.op.pull(node, dy, create_graph)
        finally:
            self._close(span, like)
            self.here, self._phase = before, phase
        span.flops = backward_flops(name, n, needs)
        span.bytes = size + sum(g.nbytes for g in grads if g is not None)
        return grads

    def _watcher(self, others: Any) -> Any:
        """What sees the launches of kernels: of this thread alone."""

        def watch(name: str, like: Any, launch: Any) -> bool:
            if state.through != self.through:  # another thread, or shapes alone are followed
                return launch() if others is None else others(name, like, launch)
            inside = self._stack[-1].phase if self._stack else OTHER
            span = self._open("kernel", name, self.here, inside, like)
            try:
                return launch()
            finally:
                self._close(span, like)

        return watch

    # -- what was measured -----------------------------------------------------------------------------------------

    @property
    def kernels(self) -> int:
        """Nanoseconds in compiled kernels."""
        return sum(span.length for span in self.spans if span.kind == "kernel")

    @property
    def arrays(self) -> int:
        """Nanoseconds in operations, outside of our kernels: NumPy, BLAS, and what launching takes."""
        tops = [s for s in self.spans if s.kind == "operation" and (s.parent is None or s.parent.kind == "layer")]
        return sum(s.length - s.kernels for s in tops)

    @property
    def python(self) -> int:
        """Nanoseconds in neither."""
        return max(self.wall - self.kernels - self.arrays, 0)

    def operations(self) -> list[Total]:
        """Calls, time, kernels' time, bytes and FLOPs of every operation, forward and backward, the longest first."""
        return by_operation(self.spans)

    def layers(self) -> list[LayerTotal]:
        """The same of every layer of the model, in the order of the calls."""
        return by_layer(self.spans, self.root)

    def __repr__(self) -> str:
        return f"<profile of {in_seconds(self.wall / 1e9)}, {len(self.spans)} spans: print(p), p.save('trace.json')>"

    def __str__(self) -> str:
        wall = max(self.wall, 1)
        parts: tuple[tuple[str, int, str], ...] = (
            ("kernels", self.kernels, "compiled from kernels/*.cu"),
            ("NumPy", self.arrays, "operations outside of our kernels: NumPy, BLAS, the launching of kernels"),
            ("Python", self.python, "layers, tape, loops, what is outside of operations, and measuring itself"),
        )
        if any(span.gpu for span in self.spans):
            parts = (
                ("GPU", self.kernels + self.arrays, "kernels and CuPy, by events in the stream"),
                ("waiting", self.python, "the GPU waits for Python, or does what is no operation"),
            )
        lines = [f"wall time    {in_seconds(self.wall / 1e9)}"]
        lines += [f"  {name:<9}{in_seconds(t / 1e9):>10} {100 * t / wall:5.1f} %   {remark}" for name, t, remark in parts]
        return "\n".join([*lines, "", *self._operations_table(), *self._layers_table()])

    def _operations_table(self) -> list[str]:
        head = ("operation", "pass", "calls", "time", "share", "each", "kernels", "moved", "GB/s", "GFLOP/s")
        rows = []
        for total in self.operations():
            own = max(total.own, 1)
            rows.append((
                total.name, total.phase, f"{total.calls:,}", in_seconds(own / 1e9), f"{100 * own / max(self.wall, 1):.1f} %",
                in_seconds(own / total.calls / 1e9), f"{100 * min(total.kernels / own, 1):.0f} %",
                in_bytes(total.bytes) if total.bytes else "",
                f"{total.bytes / own:.1f}" if total.bytes else "", f"{total.flops / own:.1f}" if total.flops else "",
            ))  # fmt: skip
        return table(head, rows, 2) if rows else ["no operation ran"]

    def _layers_table(self) -> list[str]:
        layers = self.layers()
        if not layers:
            return []
        head = ("path", "layer", "calls", "forward", "of it Python", "backward", "share", "FLOPs", "GFLOP/s")
        rows = []
        for total in layers:
            time = total.forward + total.backward
            rows.append((
                total.place.path or ".", cut(total.place.name), f"{total.calls:,}", in_seconds(total.forward / 1e9),
                in_seconds(total.python / 1e9), in_seconds(total.backward / 1e9), f"{100 * time / max(self.wall, 1):.1f} %",
                in_thousands(total.flops) if total.flops else "", f"{total.flops / max(time, 1):.1f}" if total.flops else "",
            ))  # fmt: skip
        return ["", *table(head, rows, 2)]

    # -- files -----------------------------------------------------------------------------------------------------

    def trace(self) -> dict[str, Any]:
        """Every span as a Chrome trace: for chrome://tracing, edge://tracing or ui.perfetto.dev."""
        events: list[dict[str, Any]] = [
            {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}
            for tid, name in ((1, "Python and CPU"), (2, "GPU"))
        ]
        for span in self.spans:
            more = {"layer": span.place.path or ".", "bytes": span.bytes, "flops": span.flops}
            if span.kind == "operation" and span.length:
                more |= {"GB/s": round(span.bytes / span.length, 3), "GFLOP/s": round(span.flops / span.length, 3)}
            name = span.name if span.kind != "layer" else f"{span.name or '.'}  {span.place.name}"
            events.append({"ph": "X", "pid": 1, "tid": 2 if span.gpu else 1, "name": name, "cat": f"{span.kind},{span.phase}",
                           "ts": span.start / 1e3, "dur": span.length / 1e3, "args": more})
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def flame(self) -> str:
        """A picture, as SVG: wide is long; below a layer stands what it calls."""
        return flames.svg(self)

    def save(self, path: Any) -> None:
        """Write a file: .json a Chrome trace, .svg the picture, .txt the tables."""
        write(path, "profile", {".json": lambda: json.dumps(self.trace()), ".svg": self.flame, ".txt": lambda: f"{self}\n"})

    def _repr_svg_(self) -> str:
        return self.flame()


def profile(model: Any = None) -> Profile:
    """Measure what runs in the body, by operation and, of ``model``, by layer::

        with flux.profile(model) as p:
            loss, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), model)
        print(p)
        p.save("trace.json")                # for chrome://tracing or ui.perfetto.dev
        p.save("flame.svg")

    For each operation, forward and backward, and each layer: calls, time, the share that compiled kernels have of it, bytes
    read and written, and the rates that were reached. The wall time is told apart into kernels, NumPy, and Python. On a GPU
    operations and kernels are timed by events in the stream, so that nothing waits for them.

    Run the work once before, so that kernels are compiled. Measuring takes a few microseconds a call. Only this thread is
    measured. Replays of captured steps call no operations and count as Python: profile the step as it is.
    """
    return Profile(model)
