"""If, Loop and Scan: graphs inside graphs, run by Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.elementwise import as_tensor
from ..ops.joining import stack
from ..ops.shapes import flip, moveaxis
from .graphs import Body
from .registry import register


@register("If", host=("cond",))
def if_(cond: Any, *, then_branch: Body, else_branch: Body) -> Any:
    return then_branch() if bool(cond.reshape(())) else else_branch()


@register("Loop", host=("m", "cond"))
def loop(m: Any = None, cond: Any = None, *state: Any, body: Body) -> Any:
    """``cond, *state, *scanned = body(i, cond, *state)``; what is scanned is stacked."""
    limit = None if m is None else int(m.reshape(()))
    go, i = True if cond is None else bool(cond.reshape(())), 0
    rows: list[tuple[Any, ...]] = []
    kept = tuple(state)
    while go and (limit is None or i < limit):
        more, *values = body(np.asarray(i, np.int64), np.asarray(go), *kept)
        kept, scanned = tuple(values[: len(state)]), tuple(values[len(state) :])
        rows.append(scanned)
        go, i = bool(as_tensor(more).item()), i + 1
    if not rows and len(body.graph.outputs) > len(state) + 1:
        raise ValueError("a loop that never runs leaves the shapes of its scanned outputs unknown")
    return *kept, *(stack(list(column)) for column in zip(*rows))


@register("Scan", since=9)
def scan(
    *inputs: Any, body: Body, num_scan_inputs: int, scan_input_axes: Any = None, scan_input_directions: Any = None,
    scan_output_axes: Any = None, scan_output_directions: Any = None,
) -> Any:
    """``*state, *scanned = body(*state, *slices)`` over slices of the last ``num_scan_inputs`` inputs."""
    n = len(inputs) - num_scan_inputs
    kept = tuple(inputs[:n])
    walked = [moveaxis(x, a, 0) for x, a in zip(inputs[n:], scan_input_axes or [0] * num_scan_inputs)]
    walked = [flip(x, 0) if d else x for x, d in zip(walked, scan_input_directions or [0] * num_scan_inputs)]
    rows: list[tuple[Any, ...]] = []
    for t in range(as_tensor(walked[0]).shape[0]):
        values = body(*kept, *(x[t] for x in walked))
        kept = tuple(values[:n])
        rows.append(tuple(values[n:]))
    columns = [stack(list(column)) for column in zip(*rows)]
    columns = [flip(x, 0) if d else x for x, d in zip(columns, scan_output_directions or [0] * len(columns))]
    return *kept, *(moveaxis(x, 0, a) for x, a in zip(columns, scan_output_axes or [0] * len(columns)))


@register("Scan", since=8)
def scan_8(
    sequence_lens: Any = None, *inputs: Any, body: Body, num_scan_inputs: int, directions: Any = None
) -> Any:
    """At first each sequence of a batch (axis 0) was scanned along axis 1 by itself, all of one length here."""
    if sequence_lens is not None:
        raise ValueError("sequences of several lengths are not supported")
    batches = [
        scan(*(as_tensor(x)[b] for x in inputs), body=body, num_scan_inputs=num_scan_inputs, scan_input_directions=directions)
        for b in range(as_tensor(inputs[0]).shape[0])
    ]
    return tuple(stack(list(column)) for column in zip(*batches, strict=True))
