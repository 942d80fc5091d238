"""The computation graph: which operation, in which layer, reads what. Made of a call on outlines, or of the tape of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..autograd import Param, Tensor, is_outlining, outlining
from ..autograd.node import Node
from ..autograd.recording import state, undoing
from ..backend import OutlineError, default_generator, is_array, outline_of
from ..nn.module import named_buffers, named_parameters
from .dry_steps import outline_input, stand_in
from .flop_counts import MOVES
from .followers import Follower, Place, following, shape_of
from .texts import in_shape


class Vertex:
    """A box of the drawing: an operation, a layer with all its operations, an input or the output.

    ``kind`` chooses its colour: input, output, or what the layer or operation does. ``group`` is the place around it.
    """

    def __init__(self, title: str, kind: str, group: Place, shape: Any = None, note: str = "") -> None:
        self.title, self.kind, self.group, self.shape, self.note = title, kind, group, shape, note

    def __repr__(self) -> str:
        return f"<{self.title} {in_shape(self.shape)}>"


class Graph:
    """Vertices, edges ``(from, to)`` each once, and the tree of places that groups them."""

    def __init__(self, root: Place) -> None:
        self.root = root
        self.vertices: list[Vertex] = []
        self.edges: dict[tuple[Vertex, Vertex], Any] = {}  # and the shape that flows

    def add(self, vertex: Vertex, sources: Sequence[tuple[Vertex, Any]] = ()) -> Vertex:
        """A vertex with the vertices that it reads, and the shapes of what comes from them."""
        self.vertices.append(vertex)
        for source, shape in sources:
            self.edges.setdefault((source, vertex), shape)
        return vertex

    def merged(self, whose: Callable[[Vertex], Vertex]) -> Graph:
        """The graph with every vertex replaced by ``whose`` of it; edges inside one vertex go."""
        graph = Graph(self.root)
        places: dict[Vertex, None] = {}
        for v in self.vertices:
            places.setdefault(whose(v))
        graph.vertices = list(places)
        for (a, b), shape in self.edges.items():
            if whose(a) is not whose(b):
                graph.edges[whose(a), whose(b)] = shape
        return graph


KINDS = {
    "convolution": ("Conv", "ConvTranspose", "CrossCor", "DepthwiseConv", "conv"),
    "product": ("Dense", "Bilinear", "Embedding", "EmbeddingBag", "Scale", "dense", "matmul", "contract", "embedding",
                "bag_sum"),
    "norm": ("BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "LayerNormV2", "RMSNorm", "WeightNorm", "batch_norm",
             "group_norm", "fixed_norm", "layer_norm", "rms_norm"),
    "pool": ("MaxPool", "MeanPool", "LpPool", "GlobalMaxPool", "GlobalMeanPool", "AdaptiveMaxPool", "AdaptiveMeanPool",
             "AdaptiveMeanMaxPool", "Upsample", "PixelShuffle", "max_pool", "mean_pool", "adaptive_max", "adaptive_mean",
             "lp_pool", "upsample", "mean", "sum", "max", "min"),
    "recurrence": ("RNN", "LSTM", "GRU", "GRUv3", "RNNCell", "LSTMCell", "GRUCell", "GRUv3Cell", "Recur", "rnn", "lstm", "gru"),
    "attention": ("MultiHeadAttention", "dot_product_attention", "self_attention", "softmax", "logsoftmax"),
    "drop": ("Dropout", "AlphaDropout", "DropBlock", "StochasticDepth", "dropout"),
}  # fmt: skip
"""What has the same colour: layers and operations by name."""
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
LAYERS_THAT_MOVE = {"flatten", "squeeze", "swapaxes", "ravel", "moveaxis", "swapdims"}
JOINS = {"add": "+", "multiply": "×", "subtract": "−", "divide": "÷", "concatenate": "concatenate", "matmul": "@"}


def kind_of(name: str) -> str:
    """The kind of a layer or operation by its name."""
    if name in _KIND_OF:
        return _KIND_OF[name]
    for part, kind in (("Norm", "norm"), ("Pool", "pool"), ("onv", "convolution"), ("Embedding", "product"),
                       ("Drop", "drop"), ("Attention", "attention")):  # fmt: skip
        if part in name:
            return kind
    return "join" if name in JOINS else "move" if name in MOVES or name in LAYERS_THAT_MOVE else "other"


class _Recorder(Follower):
    """Writes down what every operation of a call reads and makes."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.graph = Graph(self.root)
        self.makers: dict[int, tuple[Vertex, Any]] = {}  # by the outline, which is kept alive here
        self.names: dict[int, str] = {}
        for find in (named_parameters, named_buffers):
            for path, t in find(model):
                self.names[id(t)] = path.rpartition(".")[2]

    def enter(self, path: str, layer: Any) -> None:
        """Every call has a place of its own, so that what is called twice is drawn twice."""
        if path in self.places and path:
            del self.places[path]
        super().enter(path, layer)

    def made(self, vertex: Vertex, array: Any) -> None:
        """``vertex`` made ``array``."""
        self.makers[id(array)] = (vertex, array)

    def maker(self, array: Any) -> Vertex | None:
        """What made an array, or the one that it is a view of; None for parameters and constants."""
        found = self.makers.get(id(array)) or self.makers.get(id(getattr(array, "base", None)))
        if found is None and array.dtype.kind in "iu":  # indices that were brought into another dtype on the way
            same = [made for made in self.makers.values() if made[1].dtype.kind in "iu" and made[1].shape == array.shape]
            found = same[-1] if same else None
        return found[0] if found else None

    def through(self, operation: Any, inputs: Any, arrays: Any, static: dict[str, Any]) -> tuple[Any, Any]:
        """Run an operation on outlines and note it."""
        if is_outlining():
            arrays = [outline_of(a) for a in arrays]
        result = operation.forward(*arrays, **static)
        several = operation.residuals or operation.outputs != 1
        outputs = list(result[: operation.outputs] if several else [result])
        sources = [(vertex, tuple(a.shape)) for a in arrays if is_array(a) and (vertex := self.maker(a)) is not None]
        parameters = [f"{self.names[id(x)]} {in_shape(x.shape)}" for x in inputs if id(x) in self.names]
        name = _title(operation.name, static)
        shape = shape_of(outputs[0]) if operation.outputs == 1 else tuple(map(shape_of, outputs))
        vertex = Vertex(name, kind_of(operation.name), self.here, shape, ", ".join(parameters))
        if sources or not is_outlining() or parameters:
            self.graph.add(vertex, sources)
            for a in outputs:
                if is_array(a):
                    self.made(vertex, a)
        return arrays, result


def _title(name: str, static: dict[str, Any]) -> str:
    activation = getattr(static.get("activation"), "name", "identity")
    title = JOINS.get(name, name.removesuffix("_bias_act"))
    return title if activation == "identity" else f"{title}, {activation}"


def graph_of_call(model: Any, inputs: Sequence[Any], loss: Callable[[Any], Any] | None) -> Graph:
    """The operations of ``loss(model(*inputs))``, of a call on outlines in test mode."""
    xs = [outline_input(x) for x in inputs]
    copy = stand_in(model, xs)
    recorder = _Recorder(copy)
    outside = Place("", None, None)
    for i, x in enumerate(_tensors(xs)):
        title = "input" if len(_tensors(xs)) == 1 else f"input {i}"
        recorder.made(recorder.graph.add(Vertex(title, "input", outside, shape_of(x))), x.data)
    generator = default_generator()
    before, through = generator.state_dict(), state.through
    try:
        with outlining(), undoing(), following(copy, recorder):
            state.through = recorder.through
            y = copy(*xs)
            recorder.here = outside
            y = y if loss is None else loss(y)
    except OutlineError as error:
        raise OutlineError(f"draw: the graph cannot be told from shapes: {error}") from None
    finally:
        state.through = through
        generator.load_state_dict(before)
    for i, t in enumerate(ends := [t for t in _tensors(y) if isinstance(t, Tensor)]):
        vertex = recorder.maker(t.data)
        title = "loss" if loss is not None else "output" if len(ends) == 1 else f"output {i}"
        recorder.graph.add(Vertex(title, "output", outside, shape_of(t)), [] if vertex is None else [(vertex, shape_of(t))])
    return recorder.graph


def _tensors(x: Any) -> list[Any]:
    if isinstance(x, dict):
        x = list(x.values())
    return [t for part in x for t in _tensors(part)] if isinstance(x, tuple | list) else [x]


def graph_of_tape(loss: Tensor, model: Any) -> Graph:
    """The operations that a recorded tensor was made by; what parameters of ``model`` take part in stands in their layers."""
    names: dict[int, tuple[str, str]] = {}
    follower = Follower(model)
    for path, t in named_parameters(model):
        names[id(t)] = (path.rpartition(".")[0], path.rpartition(".")[2])
    graph, done = Graph(follower.root), dict[Node, Vertex]()
    outside = Place("", None, None)
    leaves: dict[int, Vertex] = {}
    for node in _in_order(loss):
        sources, notes, here = [], [], follower.root
        for i, parent in enumerate(node.parents):
            if isinstance(parent, Tensor):
                layer, name = names.get(id(parent), (None, ""))
                if layer is not None:
                    here = _place(follower, model, layer)
                if name or isinstance(parent, Param):
                    notes.append(f"{name or 'parameter'} {in_shape(parent.shape)}")
                else:
                    if id(parent) not in leaves:
                        leaves[id(parent)] = graph.add(Vertex("tensor", "input", outside, tuple(parent.shape)))
                    sources.append((leaves[id(parent)], tuple(parent.shape)))
            elif parent is not None:
                source = done[parent if isinstance(parent, Node) else parent[0]]
                if source.shape is None:
                    source.shape = _shape_of_input(node, i)
                sources.append((source, source.shape))
        shape = tuple(node.out[0].shape) if node.out else tuple(loss.shape) if node is loss.node else None
        title = _title(node.op.name, node.static)
        done[node] = graph.add(Vertex(title, kind_of(node.op.name), here, shape, ", ".join(notes)), sources)
    last = [(done[loss.node], tuple(loss.shape))] if loss.node is not None else []
    graph.add(Vertex("loss" if loss.size == 1 else "output", "output", outside, tuple(loss.shape)), last)
    for (a, b), known in graph.edges.items():
        graph.edges[a, b] = a.shape if known is None else known
    return graph


def _in_order(y: Tensor) -> Iterator[Node]:
    """The nodes behind ``y``, each after all that it reads."""
    seen: set[Node] = set()
    stack = [y.node] if y.node is not None else []
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for parent in node.parents:
            if parent is not None and not isinstance(parent, Tensor):
                stack.append(parent if isinstance(parent, Node) else parent[0])
    return iter(sorted(seen, key=lambda node: node.order))


def _shape_of_input(node: Node, i: int) -> Any:
    saved: Any = node.inputs[i] if node.inputs else None
    if hasattr(saved, "shape"):
        return tuple(saved.shape)
    return tuple(node.shapes[i]) if node.shapes else None


def _place(follower: Follower, model: Any, path: str) -> Place:
    """The place of the layer at ``path``, and those around it."""
    if path not in follower.places:
        parent = _place(follower, model, path.rpartition(".")[0])
        layer = model
        for key in path.split("."):
            layer = layer[int(key)] if key.isdigit() else getattr(layer, key)
        follower.places[path] = Place(path, layer, parent)
    return follower.places[path]
