"""draw: the computation graph of a model or of a loss, as a picture and as text."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Structure, Tensor
from ..nn import printing
from ..nn.module import named_parameters
from . import graph_texts, svgs
from .followers import Place
from .graphs import Graph, Vertex, graph_of_call, graph_of_tape, kind_of
from .summaries import inputs_of
from .writing import write

ENGINES = ("auto", "own", "graphviz")


class Drawing:
    """A computation graph: shows itself in a notebook; ``svg()``, ``dot()``, ``mermaid()`` are texts, ``save(path)`` a file.

    ``unfolded()`` has every operation, ``folded(depth)`` whole parts of the model as one box each.
    """

    def __init__(self, graph: Graph, depth: int | None, unfolded: bool) -> None:
        self._whole = graph
        self.graph = _folded(graph, depth, unfolded)

    def __repr__(self) -> str:
        return f"<drawing of {len(self.graph.vertices)} boxes and {len(self.graph.edges)} edges: .save('graph.svg')>"

    def folded(self, depth: int | None = None) -> Drawing:
        """The same graph with one box for each layer, or for each part of the model at this depth."""
        return Drawing(self._whole, depth, False)

    def unfolded(self) -> Drawing:
        """The same graph with one box for each operation."""
        return Drawing(self._whole, None, True)

    def svg(self, engine: str = "own") -> str:
        """The picture. ``engine``: ``"own"`` lays it out here, ``"graphviz"`` with the program dot, ``"auto"`` with dot where
        it is installed."""
        if engine not in ENGINES:
            raise ValueError(f"draw: the engine is one of {', '.join(ENGINES)}, got {engine!r}")
        program = shutil.which("dot")
        if engine == "graphviz" and program is None:
            raise RuntimeError("draw: Graphviz's program dot is not installed (apt install graphviz); engine='own' needs none")
        if engine == "own" or program is None:
            return svgs.svg(self.graph)
        done = subprocess.run([program, "-Tsvg"], input=self.dot(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"draw: dot could not draw it: {done.stderr.strip()}")
        return done.stdout

    def dot(self) -> str:
        """The graph in Graphviz's language."""
        return graph_texts.dot(self.graph)

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart, which Markdown pages show between ```` ```mermaid ```` and ```` ``` ````."""
        return graph_texts.mermaid(self.graph)

    def save(self, path: Any, engine: str = "own") -> None:
        """Write a file: .svg a picture, .dot or .gv Graphviz's language, .mmd or .md Mermaid."""
        write(path, "draw", {
            ".svg": lambda: self.svg(engine), ".dot": self.dot, ".gv": self.dot, ".mmd": self.mermaid,
            ".md": lambda: f"```mermaid\n{self.mermaid()}\n```\n",
        })  # fmt: skip

    def _repr_svg_(self) -> str:
        return self.svg()


def draw(
    model: Any,
    *shapes: Any,
    batchsize: int | None = 1,
    axis: int = 0,
    dtype: Any = np.float32,
    loss: Callable[[Any], Any] | None = None,
    depth: int | None = None,
    unfolded: bool = False,
) -> Drawing:
    """The computation graph of a model, or of a loss, grouped by layer, with the shape of everything that flows.

    ``flux.draw(model, (1, 28, 28)).save("lenet.svg")``: shapes, ``batchsize``, ``axis`` and ``dtype`` as for ``flux.summary``;
    ``loss``, a function of the output, is drawn along. Nothing is computed. A box is a layer, with its output's shape and
    its parameters; ``depth`` draws whole parts of the model as one box, ``unfolded=True`` every operation.

    ``flux.draw(loss)`` of a recorded tensor, ``flux.draw(loss, model)``: what its tape holds, every operation that a gradient
    flows through, in the layers of ``model`` whose parameters it reads; a shape that the tape has not kept is left out.

    Raises OutlineError, a TypeError, where a shape depends on the numbers.
    """
    if isinstance(model, Tensor):
        if len(shapes) > 1 or (shapes and not isinstance(shapes[0], Structure)):
            raise TypeError("draw(loss, model): a recorded tensor, and the model whose layers are to be drawn")
        if model.node is None:
            raise TypeError("draw(loss): this tensor was not recorded; compute it inside `with flux.record():`, or draw the "
                            "model: flux.draw(model, shape)")
        return Drawing(graph_of_tape(model, shapes[0] if shapes else None), depth, True)
    graph = graph_of_call(model, inputs_of("draw", shapes, batchsize, axis, dtype), loss)
    return Drawing(graph, depth, unfolded)


def _folded(graph: Graph, depth: int | None, unfolded: bool) -> Graph:
    """The graph with one vertex for each layer, and for what lies at ``depth``."""
    inside = {id(place) for place in graph.root.walk()}
    layers: dict[int, Vertex] = {}
    crowd = Counter(id(v.group) for v in graph.vertices)
    alone = {id(v.group) for v in graph.vertices if crowd[id(v.group)] == 1 and not v.group.children and v.group.parent}

    def whose(v: Vertex) -> Vertex:
        if id(v.group) not in inside:
            return v
        chain: list[Place] = []
        place: Place | None = v.group
        while place is not None:
            chain.insert(0, place)
            place = place.parent
        fold = None
        if depth is not None and len(chain) > depth:
            fold = chain[depth]
        elif not unfolded and not v.group.children and (v.group.parent is not None or v.group.layer is not None):
            fold = v.group
        if fold is None and id(v.group) in alone:
            return layers.setdefault(id(v.group), _outside(v))
        if fold is None:
            return v
        if id(fold) not in layers:
            layers[id(fold)] = _as_vertex(fold)
        return layers[id(fold)]

    return graph.merged(whose)


def _outside(v: Vertex) -> Vertex:
    """The only operation of a layer, without a frame round it: it bears the layer's name itself."""
    name = v.group.path.rpartition(".")[2]
    return Vertex(f"{name}  {v.title}".strip(), v.kind, v.group.parent or v.group, v.shape, v.note)


def _as_vertex(place: Place) -> Vertex:
    layer = place.layer
    n = sum(p.size for _, p in named_parameters(layer)) if isinstance(layer, Structure) else 0
    title = f"{place.path.rpartition('.')[2]}  {place.name}".strip() if place.children else place.name
    name = type(layer).__name__ if isinstance(layer, Structure) else printing.text(layer)
    kind = "group" if place.children else kind_of(name)
    return Vertex(title, kind, place.parent or Place("", None, None), place.output, f"{n:,} parameters" if n else "")
