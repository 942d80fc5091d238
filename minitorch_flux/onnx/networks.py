"""OnnxModel: an imported graph as an ordinary module."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import as_array, is_float
from ..nn.module import Module
from ..nn.printing import _arrays, _bytes, _marks, _sizes
from . import building
from .graphs import Graph
from .protos import ValueType, check_sound, read_model, value_type
from .registry import OnnxError, UnsupportedOperator


def load(source: Any) -> OnnxModel:
    """The model of an ONNX file: a path, the file's bytes, or an ``onnx.ModelProto``.

    Its float arrays are parameters under their ONNX names, so it differentiates, fine-tunes, saves and moves as any model.
    Running statistics and bounds of a clip do not train; single numbers and integers are constants. A normalisation or a
    dropout computes what the file says, inside a recording scope too.

    Raises UnsupportedOperator that names the operator, the node and the opset, and how to supply one (``register``),
    OnnxError for a damaged file, and ImportError where the package onnx is missing (the extra ``minitorch-flux[onnx]``).
    """
    return OnnxModel(source)


class OnnxModel(Module):
    """OnnxModel(source): an imported graph, called with its inputs by position or by name; see ``load``.

    One output as it is, several as a tuple in the order of the graph. ``inputs``, ``outputs``: what the graph says about
    them. ``nodes``: its operations in order. ``weights``: parameters and buffers by name, also in the state dict.
    """

    def __init__(self, source: Any) -> None:
        model = read_model(source)
        self.source = os.fspath(source) if isinstance(source, str | os.PathLike) else f"<{model.graph.name or 'graph'}>"
        try:
            if model.functions:
                check_sound(model)
                model = importlib.import_module("onnx.inliner").inline_local_functions(model)
            self.graph = _graph(model)
            stored = {t.name for t in model.graph.initializer}
            self.inputs = tuple(value_type(i) for i in model.graph.input if i.name not in stored)
            self.outputs = tuple(value_type(o) for o in model.graph.output)
        except (OnnxError, ImportError, MemoryError):
            raise
        except Exception as error:  # fields of the wrong kind, which the file alone is to blame for
            raise OnnxError(f"{self.source} is damaged: {type(error).__name__}: {str(error)[:500]}") from error
        self.weights: dict[str, Tensor] = {}
        for name, value in _tensors(self.graph):
            self.weights[_fitting(name, self.weights)] = value
        self.dtype = self._weights_dtype()

    @property
    def nodes(self) -> list[Any]:
        """The operations in order."""
        return self.graph.nodes

    def children(self) -> Iterator[tuple[str, Any]]:
        """The parameters and buffers, by name."""
        yield from self.weights.items()

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        names = [i.name for i in self.inputs]
        if len(inputs) > len(names):
            raise TypeError(f"{self._title()}: takes {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        given = dict(zip(names, inputs))
        for name, value in named.items():
            if name in given or name not in names:
                what = "is given twice" if name in given else f"is none of its inputs: {', '.join(names)}"
                raise TypeError(f"{self._title()}: {name!r} {what}")
            given[name] = value
        if missing := [name for name in names if name not in given]:
            raise TypeError(f"{self._title()}: the input {missing[0]!r} is missing; it takes {', '.join(names)}")
        scope = {i.name: self._input(i, given[i.name]) for i in self.inputs}
        with np.errstate(all="ignore"):  # infinities and NaN are values like others, as in other runtimes
            outputs = [x if isinstance(x, Tensor) else Tensor(x) for x in self.graph.run(scope)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _input(self, kind: ValueType, x: Any) -> Tensor:
        """An input as a tensor of the dtype that the graph asks for (or that its weights were converted to)."""
        like = next(iter(self.weights.values()), None)
        x = x if isinstance(x, Tensor) else Tensor(as_array(x, like=None if like is None else like.data))
        if kind.shape is not None and not _fits(x.shape, kind.shape):
            raise ValueError(f"{self._title()}: the input has shape {x.shape}, expected {kind}")
        if kind.dtype is None or x.dtype == kind.dtype:
            return x
        wanted = kind.dtype
        if is_float(wanted):
            now = self._weights_dtype()
            wanted = now if now is not None and self.dtype == wanted else wanted
        elif is_float(x.dtype) or (x.dtype.kind != "b") != (wanted.kind != "b"):
            raise TypeError(f"{self._title()}: the input has dtype {x.dtype}, expected {kind}")
        return x.astype(wanted)

    def _weights_dtype(self) -> np.dtype | None:
        """The one float dtype of the weights, None where there are several or none."""
        dtypes = {t.dtype for t in self.weights.values() if is_float(t.dtype)}
        return dtypes.pop() if len(dtypes) == 1 else None

    def _title(self) -> str:
        return f"OnnxModel({self.source!r})"

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.source], {}

    def __repr__(self) -> str:
        """The graph: inputs, one line a node, with the sizes of its parameters, and outputs."""
        shown: set[int] = set()
        lines = [(f"  input {i}", "") for i in self.inputs]
        for node in self.nodes:
            held = [self.graph.values[n] for n in node.inputs if isinstance(self.graph.values.get(n), Tensor)]
            new = [t for t in held if id(t) not in shown]
            shown.update(map(id, new))
            lines.append((f"  {node}", _sizes(new) + _marks([t.data for t in new]) if new else ""))
        lines += [(f"  output {o}", "") for o in self.outputs]
        width = max((len(code) for code, comment in lines if comment), default=0)
        arrays = _arrays(self)
        total = f"  # Total: {_sizes(arrays)}, {_bytes(sum(t.nbytes for t in arrays))}." if arrays else ""
        body = "\n".join(f"{code:<{width}}  # {comment}" if comment else code for code, comment in lines)
        return f"{self._title()}{total}\n{body}"


def _graph(model: Any) -> Graph:
    """The graph; what has no translator is replaced by ONNX's own definition where there is one."""
    tried: set[tuple[str, str]] = set()
    while True:
        missing: building.Missing = {}
        graph = building.build(model.graph, building.opsets(model), missing)
        if not missing:
            return graph
        expanded = None if tried.issuperset(missing) else building.inlined(model, missing)
        if expanded is None:
            first, *others = missing.values()
            names = [f"{op} ({domain})" if domain else op for domain, op in list(missing)[1:]]
            raise UnsupportedOperator(first + (f". Missing too: {', '.join(names)}" if others else ""))
        tried.update(missing)
        model = expanded


def _tensors(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a graph and of the graphs in it, by name."""
    for name, value in graph.values.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
    for node in graph.nodes:
        for part in node.graphs.values():
            yield from _tensors(part, f"{prefix}{node.name}.")


def _fitting(name: str, taken: dict[str, Any]) -> str:
    """An ONNX name as the path of a parameter: parts between dots, and unlike the others."""
    name = re.sub(r"\.+", ".", re.sub(r"[/:\s]+", ".", name)).strip(".") or "weight"
    n, unique = 1, name
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    return unique


def _fits(shape: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> bool:
    """Whether a shape is what a graph asks for: axes of equal number, and of the given lengths."""
    return len(shape) == len(wanted) and all(not isinstance(w, int) or n == w for n, w in zip(shape, wanted))

