"""watch: activations, gradients and updates of every layer while it trains: dead units and vanishing gradients show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from ..autograd import Param, Tensor, is_outlining, is_recording
from ..autograd.recording import state
from ..backend import array_module, is_array, is_float
from ..nn.module import Module, named_parameters, walk
from . import charts
from .followers import Follower, Place, following
from .texts import cut, table
from .writing import write

MEASURES = {
    "mean": "mean of the activations",
    "std": "standard deviation of the activations",
    "dead": "share of units that are 0 for the whole batch",
    "gradient": "root mean square of the gradient of the output",
    "weight_gradient": "root mean square of the gradient of the parameters",
    "update": "size of the update, relative to the parameters",
}
"""What is noted for each layer at each step that is watched."""
DEAD, SMALL, LARGE = 0.5, 1e-3, 1e3


class Watch(Follower):
    """What ``watch`` notes: a context manager. ``records`` has a dict for each watched step: ``{"step": 0, "0": {...}}``.

    Prints as a table of the last step with what looks wrong; ``save`` writes .svg (curves), .json or .csv.
    """

    def __init__(self, model: Any, every: int = 1) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"watch: every is the number of steps from one look to the next, at least 1, got {every!r}")
        if not isinstance(model, Module):
            raise TypeError(f"watch takes a model, got {type(model).__name__}")
        super().__init__(model)
        self.model, self.every = model, every
        self.records: list[dict[str, Any]] = []
        self.step = -1
        self._now: dict[str, Any] | None = None
        self._depth = 0
        self._calls: dict[int, tuple[Any, Place]] = {}
        self._weights: dict[str, Any] = {}
        self._sums: dict[int, Any] = {}
        self._owners: dict[int, str] = {}
        self._undo: ExitStack | None = None

    def __enter__(self) -> Watch:
        if self._undo is not None:
            raise RuntimeError("watch: this one is at work already; make another for another model")
        self._undo = ExitStack()
        self._undo.enter_context(following(self.model, self))
        self._undo.callback(self._restore, state.through, state.pulling)
        state.through, state.pulling = self.through, self.pulling
        return self

    def __exit__(self, *error: object) -> None:
        self._finish()
        if self._undo is not None:
            self._undo.close()
            self._undo = None

    def _restore(self, through: Any, pulling: Any) -> None:
        state.through, state.pulling = through, pulling

    # -- what happens in a step ------------------------------------------------------------------------------------

    def enter(self, path: str, layer: Any) -> None:
        """A call begins; a recorded one of the whole model begins a step."""
        if not path and not self._depth and is_recording() and not is_outlining():
            self._finish()
            self.step += 1
            if self.step % self.every == 0:
                self._begin()
        self._depth += 1
        super().enter(path, layer)

    def leave(self, before: Place, output: Any) -> None:
        """It has ended: note what came out."""
        place = self.here
        super().leave(before, output)
        self._depth -= 1
        if self._now is not None and is_recording() and isinstance(output, Tensor) and is_float(output.dtype) and output.size:
            self._of(place.path).update(_activations(output.data))

    def _begin(self) -> None:
        self._now = {"step": self.step}
        self.records.append(self._now)
        self._calls.clear()
        self._sums.clear()
        self._weights = {path: p.data.copy() for path, p in named_parameters(self.model)}
        self._owners = {id(p): path for path, p in named_parameters(self.model)}

    def _of(self, path: str) -> dict[str, Any]:
        now: Any = self._now
        return now.setdefault(path or ".", {})

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """An operation: note in which layer it ran."""
        result = operation.forward(*arrays, **static)
        if self._now is not None and is_recording():
            self._calls[id(static)] = (static, self.here)
        return arrays, result

    def pulling(self, node: Any, dy: Any, create_graph: bool) -> Any:
        """Its backward pass: note the gradients."""
        grads = node.op.pull(node, dy, create_graph)
        if self._now is None or create_graph:
            return grads
        found = self._calls.get(id(node.static))
        first = next((g for g in (dy if isinstance(dy, tuple) else (dy,)) if g is not None), None)
        if found is not None and first is not None:
            place: Place | None = found[1]
            while place is not None and place.parent is not None:  # the last operation of a layer is the first on the way back
                self._of(place.path).setdefault("gradient", _rms(first))
                place = place.parent
        for parent, g in zip(node.parents, grads, strict=False):
            if isinstance(parent, Param) and g is not None:
                seen = self._sums.get(id(parent))
                self._sums[id(parent)] = g if seen is None else seen + g
        return grads

    def _finish(self) -> None:
        """The step is over: sizes of gradients and of what the optimiser has changed."""
        if self._now is None:
            return
        for owner, measures in self._by_layer():
            gradients = [g for p, g in ((p, self._sums.get(id(p))) for p in measures) if g is not None]
            if gradients:
                self._of(owner)["weight_gradient"] = _rms(*gradients)
            before = [self._weights[self._owners[id(p)]] for p in measures]
            size = _rms(*before)
            change = _rms(*(p.data - b for p, b in zip(measures, before, strict=True)))
            if size and change:
                self._of(owner)["update"] = change / size
        self._now = None
        self._weights = {}
        self._sums.clear()
        self._calls.clear()

    def _by_layer(self) -> Iterator[tuple[str, list[Param]]]:
        """The parameters of every layer that has some of its own."""
        for path, layer in walk(self.model):
            own = [v for v in vars(layer).values() if isinstance(v, Param) and id(v) in self._owners]
            if own:
                yield path, own

    # -- what was seen ---------------------------------------------------------------------------------------------

    def series(self, measure: str) -> dict[str, list[tuple[int, float]]]:
        """``(step, value)`` of a measure (see ``MEASURES``) for every layer that is no container of others."""
        if measure not in MEASURES:
            raise ValueError(f"watch: the measures are {', '.join(MEASURES)}, got {measure!r}")
        out: dict[str, list[tuple[int, float]]] = {}
        for path in self._leaves():
            points = [(r["step"], r[path][measure]) for r in self.records if measure in r.get(path, {})]
            if points:
                out[path] = points
        return out

    def _leaves(self) -> list[str]:
        """The layers that call no others, and those that call others but have parameters themselves."""
        with_parameters = {path or "." for path, _ in self._by_layer()}
        places = list(self.root.walk())
        return [p.path or "." for p in places if not p.children or (p.path or ".") in with_parameters]

    def warnings(self) -> list[str]:
        """What looks wrong at the last step: one sentence each."""
        if not self.records:
            return []
        last, out = self.records[-1], []
        gradients = {path: last[path]["gradient"] for path in self._leaves() if "gradient" in last.get(path, {})}
        for path in self._leaves():
            here = last.get(path, {})
            name = f"{path}, {self._place(path).name}"
            if here.get("dead", 0) > DEAD:
                out.append(f"{name}: {100 * here['dead']:.0f} % of its units are 0 for the whole batch (dead)")
            if any(isinstance(v, float) and not math.isfinite(v) for v in here.values()):
                out.append(f"{name}: there are NaN or infinite numbers; flux.find_nonfinite says where they are made")
            if here.get("update", 0) > 0.1:
                out.append(f"{name}: an update changes its parameters by {100 * here['update']:.0f} %: the step is too long")
        if len(gradients) > 1:
            first, *_, end = gradients.values()
            if 0 < first < SMALL * end:
                out.append(f"the gradient vanishes: {first:.1e} at {next(iter(gradients))}, {end:.1e} at the end")
            if first > LARGE * end > 0:
                out.append(f"the gradient explodes: {first:.1e} at {next(iter(gradients))}, {end:.1e} at the end")
        return out

    def _place(self, path: str) -> Place:
        return self.places["" if path == "." else path]

    def __repr__(self) -> str:
        return f"<watch of {len(self.records)} steps: print(w), w.save('watch.svg')>"

    def __str__(self) -> str:
        if not self.records:
            return "nothing was watched: no recorded call of the model inside the block"
        last = self.records[-1]
        head = ("path", "layer", "mean", "std", "dead", "gradient", "of weights", "update")
        rows = []
        for path in self._leaves():
            here = last.get(path, {})
            cells = [f"{here[m]:.3g}" if m in here else "" for m in ("mean", "std", "gradient", "weight_gradient", "update")]
            dead = f"{100 * here['dead']:.0f} %" if "dead" in here else ""
            rows.append((path, cut(self._place(path).name), *cells[:2], dead, *cells[2:]))
        return "\n".join([f"step {last['step']}, the last of {len(self.records)} that were watched", "", *table(head, rows, 2),
                          *([""] if self.warnings() else []), *self.warnings()])

    def svg(self) -> str:
        """The curves as a picture: a panel for each measure, a line for each layer."""
        panels = [(MEASURES[m], self.series(m), m not in ("mean", "dead")) for m in MEASURES]
        return charts.svg([panel for panel in panels if panel[1]], f"{type(self.model).__name__}, {len(self.records)} steps")

    def save(self, path: Any) -> None:
        """Write a file: .svg the curves, .json all records, .csv a line for each step and layer."""
        write(path, "watch", {".svg": self.svg, ".json": lambda: json.dumps(self.records), ".csv": self._csv})

    def _csv(self) -> str:
        lines = [",".join(["step", "layer", *MEASURES])]
        for record in self.records:
            lines += [",".join([str(record["step"]), layer, *(f"{values[m]:.9g}" if m in values else "" for m in MEASURES)])
                      for layer, values in record.items() if layer != "step"]
        return "\n".join(lines) + "\n"

    def _repr_svg_(self) -> str:
        return self.svg()


def watch(model: Any, every: int = 1) -> Watch:
    """Note what every layer of ``model`` does while it trains in the body::

        with flux.watch(model, every=10) as w:
            flux.train(loss, model, data, opt, epochs=3)
        print(w)                    # the last step, and what looks wrong
        w.save("watch.svg")         # all steps as curves

    A step is a recorded call of the model; every ``every``-th is looked at. Noted are, for each layer: mean and standard
    deviation of its output, the share of its units (channels, features) that are 0 for the whole batch; the root mean square
    of the gradient of its output, and of its parameters; and how far the update moved the parameters, relative to their size.

    A step that is looked at costs a copy of the parameters and two passes over each output; the others cost next to nothing.
    Replays of captured steps are not seen.
    """
    return Watch(model, every)


def _activations(y: Any) -> dict[str, float]:
    xp = array_module(y)
    high = y.astype(xp.float64) if y.dtype.itemsize < 8 else y
    axis = 1 if y.ndim > 2 else y.ndim - 1  # channels of images, features
    others = tuple(i for i in range(y.ndim) if i != axis)
    zero = ~(y != 0).any(axis=others) if y.ndim > 1 else y == 0
    return {"mean": float(high.mean()), "std": float(high.std()), "dead": float(zero.mean())}


def _rms(*arrays: Any) -> float:
    """The root mean square of all elements."""
    data = [a.data if isinstance(a, Tensor) else a for a in arrays]
    n = sum(a.size for a in data if is_array(a))
    total = sum(float((a.astype("float64") ** 2).sum()) for a in data if is_array(a))
    return math.sqrt(total / n) if n else 0.0
