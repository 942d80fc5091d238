"""save: a model of this library as an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import is_array, is_float, is_outline
from ..nn.dropouts import Dropout
from ..nn.embeddings import Embedding, EmbeddingBag
from ..nn.inputs import layer_name
from ..nn.layouts import WHCN
from ..nn.module import _named, walk
from ..nn.moving import cpu
from ..nn.recurrent_layers import _Layers
from .dimensions import Dim, Merged, Program
from .external_data import INLINE_LIMIT, write_model
from .graph_writing import GraphWriter
from .protos import onnx_package
from .tracing import ExportError, Shape, follow, twin

DEFAULT_OPSET, MINIMUM_OPSET = 21, 17
Axes = Mapping[Any, Any] | None


def save(
    model: Any,
    path: str | Path,
    *examples: Any,
    axes: Axes = None,
    opset: int = DEFAULT_OPSET,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    inline_limit: int = INLINE_LIMIT,
) -> None:
    """Write ``model``, or any function of this library's operations, as an ONNX file.

        flux.onnx.save(model, "model.onnx", x)
        flux.onnx.save(model, "model.onnx", (1, 3, 224, 224), axes={0: "batch", 2: "height", 3: "width"})

    ``examples``: what the model is called with, arrays or only their shapes, tuples of ints; floats are taken to be of
    the model's dtype. Nothing is computed with them: the model is followed by shapes, in test mode, and recurrent
    layers begin from their initial states. Each operation becomes nodes with the path of the layer in their names, the
    parameters keep their names of the state dict; those of recurrent layers, whose gates ONNX orders otherwise, are
    called ``W``, ``R`` and ``B`` there.

    ``axes``: the axes whose lengths are free, by name, for all inputs ``{0: "batch"}`` or for each
    ``{"x": {0: "batch"}}``. By default axis 0 is ``"batch"``; where the model begins with a recurrent layer its sequences
    have ``"time"``, too. ``axes={}`` fixes all lengths to those of the examples. ``opset``: from 17 on, 21 by default.
    ``inputs``, ``outputs``: names in the graph, ``x``, ``y`` by default, with numbers where there are several. Files are
    one piece up to ``inline_limit`` bytes of parameters (1.5 GB; ONNX ends at 2 GB), beyond they lie in a file beside it.
    An interrupted save leaves the old file as it was.

    Raises ExportError that names the layer and the operation that ONNX cannot express, and ``register_export``, which
    supplies it; ImportError where the package onnx is missing (``pip install "minitorch-flux[onnx]"``).
    Source: the ONNX specification, https://onnx.ai/onnx/operators.
    """
    onnx = onnx_package()
    _check_opset(onnx, opset)
    if not examples:
        raise TypeError("onnx.save(model, path, *examples): give what the model is called with, or its shape, (1, 3, 224, 224)")
    model = on_host(model)
    given = [_described(x, model) for x in examples]
    leaves = _leaves(given)
    names = _names("inputs", inputs, "x", len(leaves))
    free = _free_axes(axes, names, leaves, model)
    traces = [follow(twin(model), tree, names) for tree in _variants(given, free)]
    program = Program(traces, " or ".join(sorted({n for a in free for n in a.values()})))
    results = [x for x in _leaves(program.results) if isinstance(x, Merged)]
    if not results:
        raise ExportError("the model gives no tensor, there is nothing to write")
    ends = _names("outputs", outputs, "y", len(results))
    if both := set(names) & set(ends):
        raise ValueError(f"onnx.save: {both.pop()!r} cannot be the name of an input and of an output")
    g = GraphWriter(program, opset, len(traces))
    g.taken.update(names, ends)
    g.run()
    proto = _model_proto(g, results, ends, free)
    write_model(proto, g.stored, Path(path), inline_limit)


def on_host(model: Any) -> Any:
    """The model, or a copy on the CPU where it is elsewhere. Raises ValueError where its sizes are still open."""
    for name, layer in walk(model):
        if layer._open:
            raise ValueError(f"onnx.save: {_place(name)} {layer_name(layer)} does not know its size yet: call the model once")
        if isinstance(layer, EmbeddingBag) and layer.padding_idx is not None:
            raise ExportError(f"{_place(name)} {layer_name(layer)}: bags without their padding_idx have no form in ONNX, they "
                              "are of different lengths; leave padding_idx out")
    if any(is_outline(t.data) for _, t in _named(model, Tensor)):
        raise ExportError("the model has shapes, but no numbers: it was made inside flux.shapes_only(); load weights into it "
                          "(load_state_dict, flux.load)")
    return cpu(model) if any(t.device != "cpu" for _, t in _named(model, Tensor)) else model


def _place(path: str) -> str:
    return f"layer {path}," if path else "the model"


def _check_opset(onnx: Any, opset: int) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not isinstance(opset, int) or not MINIMUM_OPSET <= opset <= newest:
        raise ValueError(f"onnx.save: opset must be from {MINIMUM_OPSET} to {newest} (of the installed onnx), got {opset!r}")


def _described(x: Any, model: Any) -> Any:
    """An example as a Shape, or a tuple or list of them."""
    dtype = next((t.dtype for _, t in _named(model, Tensor) if is_float(t.dtype)), None)
    if isinstance(x, tuple | list) and x and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in x):
        return Shape([int(n) for n in x], dtype or np.float32)
    if isinstance(x, tuple | list):
        return type(x)(_described(part, model) for part in x)
    if not (isinstance(x, Tensor) or is_array(x)):
        raise TypeError(f"onnx.save: an example is an array or a shape, a tuple of ints, got {x!r}")
    return Shape(x.shape, dtype or x.dtype if is_float(x.dtype) else x.dtype)


def _leaves(x: Any) -> list[Any]:
    if isinstance(x, dict):
        x = tuple(x.values())
    return [leaf for part in x for leaf in _leaves(part)] if isinstance(x, tuple | list) else [x]


def _names(what: str, given: Sequence[str] | None, letter: str, n: int) -> list[str]:
    if given is None:
        return [letter] if n == 1 else [f"{letter}{i}" for i in range(n)]
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != n or len(set(names)) != n or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"onnx.save: {what}={given!r} must be {n} different names, one for each of the {n} {what}")
    return names


# -- which axes are free -----------------------------------------------------------------------------------------------


def _free_axes(axes: Axes, names: list[str], leaves: list[Shape], model: Any) -> list[dict[int, str]]:
    """For each input the names of its free axes."""
    if axes is None:
        usual = _usual_axes(model)
        return [{a: n for a, n in usual(len(leaf.sizes)).items() if a < len(leaf.sizes)} for leaf in leaves]
    if not isinstance(axes, Mapping):
        raise TypeError(f"onnx.save: axes is a dict such as {{0: 'batch'}}, got {axes!r}")
    if all(isinstance(v, Mapping) for v in axes.values()) and axes:
        if unknown := set(axes) - set(names):
            raise ValueError(f"onnx.save: axes names the input {sorted(unknown)[0]!r}; the inputs are {', '.join(names)}")
        each = [dict(axes.get(name, {})) for name in names]
    else:
        each = [dict(axes) for _ in names]
    for name, free, leaf in zip(names, each, leaves, strict=True):
        for axis, title in free.items():
            if not isinstance(axis, int) or not 0 <= axis < len(leaf.sizes) or not isinstance(title, str):
                raise ValueError(f"onnx.save: axes={axes!r}: {axis!r}: {title!r} is not the number and the name of an axis of "
                                 f"the input {name!r} {leaf}")
    return each


def _usual_axes(model: Any) -> Any:
    """A function from a number of axes to the names of the free ones."""
    layers = [m for _, m in walk(model) if len(list(walk(m))) == 1 and not isinstance(m, Dropout)]
    table = bool(layers) and isinstance(layers[0], Embedding)
    first = layers[int(table)] if len(layers) > int(table) else None
    if isinstance(model, WHCN):
        return lambda n: {n - 1: "batch"}
    if not isinstance(first, _Layers):
        return lambda n: {0: "batch"}
    titles = ("batch", "time") if first.batch_first else ("time", "batch")
    return lambda n: dict(enumerate(titles)) if n > 2 or table else {0: "batch"}


PRIMES = (61, 67, 71)


def _variants(given: Any, free: list[dict[int, str]]) -> list[Any]:
    """The shapes that the model is followed with: once, with each free axis longer, and with all of them longer yet."""
    titles = list(dict.fromkeys(title for axes in free for title in axes.values()))
    if not titles:
        return [given]
    plans = [dict.fromkeys(titles, 0), *({t: int(t == title) for t in titles} for title in titles), dict.fromkeys(titles, 2)]
    return [_stretched(given, iter(free), plan) for plan in plans]


def _stretched(x: Any, free: Any, plan: dict[str, int]) -> Any:
    """Batches are long, so that no choice by cost falls otherwise; sequences are a few steps longer, images so many times."""
    if not isinstance(x, Shape):
        return type(x)(_stretched(part, free, plan) for part in x)
    axes, sizes = next(free), list(x.sizes)
    for axis, title in axes.items():
        n = plan[title]
        if title == "batch" or (axis == 0 and title != "time"):
            sizes[axis] = PRIMES[n]
        else:
            sizes[axis] = max(sizes[axis], 2) + n if axis < 2 else sizes[axis] * (n + 1)
    return Shape(sizes, x.dtype)


# -- the proto ---------------------------------------------------------------------------------------------------------


def _model_proto(g: GraphWriter, results: list[Merged], ends: list[str], free: list[dict[int, str]]) -> Any:
    """The model without its stored arrays, with only the nodes that its outputs need."""
    helper = g.onnx.helper
    titles: dict[Any, str] = {}
    for m, axes in zip(g.program.inputs, free, strict=True):
        titles.update({m.shape[axis]: title for axis, title in axes.items()})
    _finish(g, results, ends)
    kind = helper.np_dtype_to_tensor_dtype

    def info(name: str, m: Merged) -> Any:
        shape = [titles.get(n) if isinstance(n, Dim) else n for n in m.shape]
        return helper.make_tensor_value_info(name, kind(np.dtype(m.dtype)), shape)

    inputs = [info(m.name, m) for m in g.program.inputs]
    outputs = [info(name, m) for name, m in zip(ends, results, strict=True)]
    graph = helper.make_graph(g.nodes, "minitorch_flux", inputs, outputs)
    domains = sorted({n.domain for n in g.nodes} - {""})
    opsets = [helper.make_opsetid("", g.opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(
        graph, opset_imports=opsets, producer_name="minitorch_flux", ir_version=helper.find_min_ir_version_for(opsets, True)
    )


def _finish(g: GraphWriter, results: list[Merged], ends: list[str]) -> None:
    """Give the outputs their names, and drop nodes and arrays that nobody needs."""
    made = {name for n in g.nodes for name in n.output}
    renamed: dict[str, str] = {}
    for m, end in zip(results, ends, strict=True):
        name = g.value(m).name
        made.update(g.nodes[-1].output if g.nodes else ())
        if name in made and name not in renamed:
            renamed[name] = end
        else:
            g.nodes.append(g.onnx.helper.make_node("Identity", [name], [end], name=g.fresh(f"{end}/Identity")))
    needed, kept = set(ends), []
    for n in reversed(g.nodes):
        n.input[:] = [renamed.get(name, name) for name in n.input]
        n.output[:] = [renamed.get(name, name) for name in n.output]
        if needed.intersection(n.output):
            needed.update(n.input)
            kept.append(n)
    g.nodes = kept[::-1]
    g.stored = {name: a for name, a in g.stored.items() if name in needed}
