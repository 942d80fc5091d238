"""From protos to graphs: which operator a node is, and which stored values train."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from ..autograd import Buffer, Param
from ..backend import is_float
from .graphs import Graph, Node
from .protos import array_of, attribute_value, check_sound, onnx_package
from .registry import OnnxError, Operator, UnsupportedOperator, advice, find, plain_domain

IGNORED = ("consumed_inputs",)
"""Attributes of the first opsets that mean nothing any more."""

SEQUENCES = ("SequenceMap",)
"""Operators whose definitions need sequences, too."""

Missing = dict[tuple[str, str], str]
"""Operators without a translator, each with the text about its first node."""


def opsets(model: Any) -> dict[str, int]:
    """The opset of each domain."""
    for o in model.opset_import:
        if not 0 <= o.version < 1 << 31:
            raise OnnxError(f"the opset of the domain {o.domain!r} is said to be {o.version}")
    return {plain_domain(o.domain): o.version for o in model.opset_import} or {"": 1}


def build(proto: Any, versions: dict[str, int], missing: Missing, known: Iterable[str] = ()) -> Graph:
    """The graph of a GraphProto. ``known``: names from the graph around it.

    Operators without a translator are put into ``missing``, and their nodes left out.
    """
    stored = {t.name: array_of(t, f"initializer {t.name!r}") for t in proto.initializer}
    if proto.sparse_initializer:
        raise UnsupportedOperator("sparse initializers are not supported")
    inputs = tuple(i.name for i in proto.input if i.name not in stored)
    outside, defined = set(known), {*inputs, *stored}
    free: dict[str, list[tuple[Node, int]]] = {}
    uses: dict[str, list[tuple[Node, int]]] = {}
    nodes: list[Node] = []
    numbers: set[str] = set()  # constants written as nodes: a single number among them is no weight

    def used(name: str, node: Node, position: int) -> None:
        (uses if name in defined else free).setdefault(name, []).append((node, position))

    for n in proto.node:
        title = f"node {n.name or n.output[0] if n.output else n.name!r} ({n.op_type})"
        for name in n.input:
            if name and name not in defined | outside and not missing:
                raise OnnxError(f"{title} uses the value {name!r}, which nothing before it makes")
        if n.op_type == "Constant" and plain_domain(n.domain) == "":
            stored[n.output[0]] = _constant(n, title)
            numbers.add(n.output[0])
        elif (node := _node(n, versions, missing, defined | outside)) is not None:
            nodes.append(node)
            for position, name in enumerate(node.inputs):
                if name:
                    used(name, node, position)
            for graph in node.graphs.values():
                for name, places in graph.free.items():
                    for place in places:
                        used(name, *place)
        defined.update(name for name in n.output if name)
    outputs = tuple(o.name for o in proto.output)
    for name in outputs:
        if name not in defined and not missing:
            if name not in outside:
                raise OnnxError(f"nothing makes the output {name!r}")
            free.setdefault(name, [])
    values = {name: _value(a, uses.get(name, []), name in numbers) for name, a in stored.items()}
    return Graph(inputs, outputs, nodes, values, free)


def _constant(node: Any, title: str) -> np.ndarray:
    """The value of a Constant node."""
    for attribute in node.attribute:
        value = attribute_value(attribute, title)
        if attribute.name == "value":
            return value
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        raise UnsupportedOperator(f"{title}: a constant given by {attribute.name!r} is not supported")
    raise OnnxError(f"{title} has no value")


def _value(a: np.ndarray, uses: list[tuple[Node, int]], from_node: bool) -> Any:
    """A stored array as a parameter where it trains, a buffer where it is data, else as it is: known on the host.

    Floats train unless every use of them is fixed or on the host. A single number without an axis is part of the
    formula, not a weight; likewise a single number that a Constant node holds.
    """
    roles = [(node.on_host[i], node.operator.parameter(i) in node.operator.fixed) for node, i in uses]
    if not is_float(a.dtype) or a.ndim == 0 or not a.size or (from_node and a.size == 1) or all(h for h, _ in roles):
        return a
    return Param(a) if any(not host and not fixed for host, fixed in roles) else Buffer(a)


def _node(n: Any, versions: dict[str, int], missing: Missing, known: set[str]) -> Node | None:
    domain = plain_domain(n.domain)
    name = n.name or next((o for o in n.output if o), n.op_type)
    if domain not in versions:
        raise OnnxError(f"node {name!r} ({n.op_type}) is of the domain {domain!r}, which the model does not import")
    opset = versions[domain]
    title = f"node {name!r} ({n.op_type}, {f'{domain}, ' if domain else ''}opset {opset})"
    graphs, attributes = {}, {}
    for a in n.attribute:
        if a.ref_attr_name:
            raise OnnxError(f"{title}: the attribute {a.name!r} refers to {a.ref_attr_name!r} of a function around it")
        value = attribute_value(a, title)
        if a.type == type(a).GRAPH:
            graphs[a.name] = build(value, versions, missing, known)
        elif a.name not in IGNORED:
            attributes[a.name] = value
    operator = find(domain, n.op_type, opset)
    if operator is None:
        missing.setdefault((domain, n.op_type), f"{title}: the operator is not supported; {advice(domain, n.op_type)}")
        return None
    inputs = list(n.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    _check(operator, title, len(inputs), {**attributes, **graphs})
    return Node(n.op_type, domain, name, tuple(inputs), tuple(n.output), attributes, graphs, opset, operator,
                "node" in operator.keywords)


def _check(operator: Operator, title: str, inputs: int, attributes: dict[str, Any]) -> None:
    """Raise unless the translator takes so many inputs and these attributes."""
    signature = inspect.signature(operator.function)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name, value in attributes.items():
        if name not in operator.keywords and not open_ended:
            raise UnsupportedOperator(f"{title}: the attribute {name}={value!r:.60} is not supported")
    if inputs > len(operator.names) and not operator.variadic:
        raise UnsupportedOperator(f"{title}: has {inputs} inputs, only the first {len(operator.names)} are supported")
    filled = {*operator.names[:inputs], *attributes, "node"}
    for p in signature.parameters.values():
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in filled:
            raise OnnxError(f"{title}: {p.name!r} is missing")


def inlined(model: Any, missing: Missing) -> Any:
    """The model with those missing operators that ONNX defines by others replaced by their definitions, or None."""
    onnx, versions = onnx_package(), opsets(model)
    schemas = {}
    for domain, op_type in missing:
        if op_type in SEQUENCES:
            continue
        with suppress(onnx.defs.SchemaError):
            schema = onnx.defs.get_schema(op_type, versions[domain], domain)
            if schema.has_function or schema.has_context_dependent_function:
                schemas[domain, op_type] = schema
    if not schemas:
        return None
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    _fill_in(whole.graph, schemas)
    check_sound(whole)
    inliner = importlib.import_module("onnx.inliner")
    try:
        return inliner.inline_selected_functions(whole, list(schemas), inline_schema_functions=True)
    except RuntimeError:  # a definition that depends on types which the file does not tell
        return None


def _fill_in(graph: Any, schemas: dict[tuple[str, str], Any]) -> None:
    """Give the nodes to be replaced the attributes that they leave to their defaults: definitions refer to them."""
    for node in graph.node:
        schema = schemas.get((plain_domain(node.domain), node.op_type))
        if schema is not None:
            given = {a.name for a in node.attribute}
            node.attribute.extend(
                a.default_value for name, a in schema.attributes.items() if name not in given and a.default_value.name
            )
        for attribute in node.attribute:
            _fill_in(attribute.g, schemas)
