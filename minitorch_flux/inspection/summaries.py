"""summary: what a model is made of and what it takes, told from shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..nn import printing
from ..nn.module import walk
from ..optimisers import Rule
from . import summary_pages
from .dry_steps import DryStep, Sizes
from .followers import Place
from .texts import cut, in_bytes, in_thousands, table


class Row(NamedTuple):
    """One line of a summary: a layer, with all inside it where it is folded."""

    path: str
    name: str
    depth: int
    output: Any
    calls: int
    parameters: int
    flops: int
    activations: int
    gradients: int


class Summary:
    """What ``summary`` found: prints as a table, and as HTML in a notebook. ``rows`` and the numbers are attributes.

    ``parameters``, ``trained`` (numbers); ``flops`` of a forward pass, ``backward_flops``; ``parameter_bytes`` (with
    buffers), ``gradient_bytes``, ``optimiser_bytes``, ``input_bytes``, ``activation_bytes`` (kept for the backward pass),
    ``peak_bytes`` (all together at the worst moment of a training step), ``moment`` (which one that is).
    """

    def __init__(self, step: DryStep, title: str, optimiser: Rule | None, depth: int | None) -> None:
        self.title, self.optimiser = title, optimiser
        self.depth = depth
        self._step = step
        sizes = list(step.sizes.values())

        def total(name: str) -> int:
            return sum(getattr(s, name) for s in sizes)

        self.parameters, self.trained = total("parameters"), total("trained")
        self.flops, self.backward_flops = total("flops"), total("backward_flops")
        self.parameter_bytes, self.gradient_bytes = total("parameter_bytes"), total("gradients")
        self.activation_bytes, self.input_bytes = total("activations"), step.input_bytes
        self.optimiser_bytes = step.state_bytes
        self.peak_bytes = self.parameter_bytes + self.input_bytes + step.peak
        self.moment = "" if step.moment is None else str(step.moment)
        self.output = step.root.output
        self.rows = list(_rows(step, step.root, depth))
        reached = {place.path for place in step.root.walk()}
        self.not_called = [path for path, _ in walk(step.stand_in) if path not in reached]

    def __str__(self) -> str:
        head = ("path", "layer", "output", "parameters", "FLOPs", "activations", "gradients")
        rows = [(row.path or ".", cut(row.name), _shape(row), *_numbers(row)) for row in self.rows]
        total = ("total", "", _text(self.output), f"{self.parameters:,}", in_thousands(self.flops),
                 in_bytes(self.activation_bytes), in_bytes(self.gradient_bytes))
        lines = [self.title, "", *table(head, rows, 3, [total]), ""]
        lines += [f"{name:<24}{value:>12}{f'   {note}' if note else ''}" for name, value, note in self.notes()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return summary_pages.html(self)

    def notes(self) -> list[tuple[str, str, str]]:
        """What stands below the table: ``(name, value, remark)``."""
        frozen = self.parameters - self.trained
        notes = [
            ("parameters", in_bytes(self.parameter_bytes), f"{frozen:,} of them do not train" if frozen else ""),
            ("their gradients", in_bytes(self.gradient_bytes), ""),
        ]
        if self.optimiser is not None:
            notes.append(("state of the optimiser", in_bytes(self.optimiser_bytes), repr(self.optimiser)))
        notes += [
            ("input", in_bytes(self.input_bytes), ""),
            ("kept for the way back", in_bytes(self.activation_bytes), "activations and what else the gradients need"),
            ("memory of a step", in_bytes(self.peak_bytes), f"at the worst moment, {self.moment}" if self.moment else ""),
            ("FLOPs of a step", in_thousands(self.flops + self.backward_flops),
             f"{in_thousands(self.flops)} forward, {in_thousands(self.backward_flops)} backward; a multiply-add is 2"),
        ]
        if self.not_called:
            paths = ", ".join(self.not_called[:5]) + (", ..." if len(self.not_called) > 5 else "")
            notes.append(("not called", str(len(self.not_called)), paths))
        return notes


def summary(
    model: Any,
    *shapes: Any,
    batchsize: int | None = 1,
    axis: int = 0,
    dtype: Any = np.float32,
    loss: Callable[[Any], Any] | None = None,
    optimiser: Rule | None = None,
    depth: int | None = None,
    kernels: bool = True,
) -> Summary:
    """What ``model`` is made of and what it takes, layer by layer: nothing is computed and nothing allocated.

    ``print(flux.summary(model, (1, 28, 28)))`` for one sample's shape; several shapes stand for several inputs, an array for
    its own shape and dtype, batch axis included. ``batchsize``: how many samples; None where the shapes are whole already.
    ``axis``: where the batch axis goes, 1 for recurrent layers: ``summary(LSTM(4, 8), (5, 4), axis=1)``. ``dtype``: of the
    inputs, an integer one for indices.

    For each layer: the shape of its output, its parameters, the FLOPs of a forward pass (a multiplication and an addition
    are 2: see ``inspection/flop_counts.py`` for each operation), the bytes of what is kept for the backward pass, and of
    its parameters' gradients. ``depth``: deeper layers are added up in those that hold them.

    Below the table: what a training step takes, the most memory at any moment included. A step is a forward pass in train
    mode, ``loss`` (a function of the output; its mean by default), a backward pass, and an update by ``optimiser``, a rule
    such as ``flux.Adam(1e-3)`` whose state counts then. It is predicted by walking through the step with arrays that have
    a shape, but no numbers, along the ways of the CPU's kernels with their work space (``kernels=False``: of the references).
    NumPy's objects themselves, 100 bytes for an array, are not counted; an optimiser's work space is counted up to where a rule
    asks for numbers.

    The model is left as it was. Raises what the model raises for such an input, and OutlineError, a TypeError, where a shape
    depends on the numbers. See also ``flux.outputsize``, ``flux.draw``, ``flux.profile``.
    """
    if optimiser is not None and not isinstance(optimiser, Rule):
        raise TypeError(f"summary: the optimiser is a rule such as flux.Adam(1e-3), got {type(optimiser).__name__}")
    inputs = inputs_of("summary", shapes, batchsize, axis, dtype)
    step = DryStep(model, inputs, loss, optimiser, kernels)
    name = type(model).__name__ if hasattr(model, "children") else printing.text(model)
    given = ", ".join(_described(x) for x in inputs)
    return Summary(step, f"{cut(name)} for {given}", optimiser, depth)


def inputs_of(name: str, shapes: Sequence[Any], batchsize: int | None, axis: int, dtype: Any) -> list[Any]:
    """The inputs that shapes stand for: arrays as they are, else ``(shape, dtype)`` with the batch axis put in."""
    if not shapes:
        raise TypeError(f"{name}(model, shape): give the shape of one sample, such as (3, 224, 224)")
    return [_input(name, shape, batchsize, axis, np.dtype(dtype)) for shape in shapes]


def _input(name: str, shape: Any, batchsize: int | None, axis: int, dtype: np.dtype[Any]) -> Any:
    if hasattr(shape, "shape") and hasattr(shape, "dtype"):
        return shape
    if isinstance(shape, int | np.integer) and not isinstance(shape, bool):
        shape = (shape,)
    if not isinstance(shape, tuple | list):
        raise TypeError(f"{name} takes shapes such as (3, 224, 224), or arrays, got {shape!r}")
    if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in shape):
        return tuple(_input(name, s, batchsize, axis, dtype) for s in shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"{name}: a shape has no negative sizes, got {tuple(shape)}")
    sizes = list(shape)
    if batchsize is not None:
        if not 0 <= axis <= len(sizes):
            raise ValueError(f"{name}: the batch axis of a sample of shape {tuple(shape)} is one of 0 to {len(sizes)}, got "
                             f"axis={axis}")
        sizes.insert(axis, batchsize)
    return (tuple(sizes), dtype)


def _described(x: Any) -> str:
    if hasattr(x, "dtype"):
        return f"{tuple(x.shape)} {x.dtype.name}"
    if len(x) == 2 and isinstance(x[1], np.dtype):
        return f"{x[0]} {x[1].name}"
    return "(" + ", ".join(map(_described, x)) + ")"


def _rows(step: DryStep, place: Place, depth: int | None) -> Any:
    folded = depth is not None and place.depth >= depth
    parts = list(place.walk()) if folded else [place]
    sizes = [step.sizes.get(part.path, Sizes()) for part in parts]
    yield Row(place.path, place.name, place.depth, place.output, place.calls,
              *(sum(getattr(s, name) for s in sizes) for name in ("parameters", "flops", "activations", "gradients")))
    if not folded:
        for child in place.children:
            yield from _rows(step, child, depth)


def _numbers(row: Row) -> Sequence[str]:
    return (
        f"{row.parameters:,}" if row.parameters else "",
        in_thousands(row.flops) if row.flops else "",
        in_bytes(row.activations) if row.activations else "",
        in_bytes(row.gradients) if row.gradients else "",
    )


def _shape(row: Row) -> str:
    return _text(row.output) + (f" x {row.calls}" if row.calls > 1 else "")


def _text(shape: Any) -> str:
    if shape is None:
        return ""
    return str(shape) if not any(s is None for s in shape) else "(" + ", ".join(map(_text, shape)) + ")"
