"""A computation graph as text for other programs: DOT for Graphviz, and Mermaid for Markdown pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .boxes import is_small, lines_of, title_of
from .followers import Place
from .graphs import Graph, Vertex
from .svgs import COLOURS
from .texts import in_shape


def dot(graph: Graph) -> str:
    """The graph in Graphviz's language; groups are clusters."""
    names = {v: f"v{i}" for i, v in enumerate(graph.vertices)}
    lines = [
        "digraph {",
        '  graph [fontname="Helvetica", fontsize=10, style="rounded,filled", color="#cfd6dd", fillcolor="#f7f9fb",',
        "         labeljust=l]",
        '  node [fontname="Helvetica", fontsize=11, shape=box, style="rounded,filled", margin="0.15,0.06"]',
        '  edge [color="#7b8794", arrowsize=0.6, fontname="Helvetica", fontsize=9, fontcolor="#5c6773"]',
    ]

    def vertex(v: Vertex, indent: str) -> str:
        fill, line = COLOURS[v.kind]
        shape = ', shape=circle, margin="0.02"' if is_small(v) else ""
        label = "\\n".join(map(_quoted, lines_of(v)[: 1 if is_small(v) else 2]))
        return f'{indent}{names[v]} [label="{label}", fillcolor="{fill}", color="{line}"{shape}]'

    def group(place: Place, i: int, indent: str) -> tuple[str, str]:
        return f'{indent}subgraph cluster_{i} {{\n{indent}  label="{_quoted(_title(place))}"', f"{indent}}}"

    lines += _nested(graph, vertex, group)
    lines += [f"  {names[a]} -> {names[b]}" for a, b in graph.edges]
    return "\n".join([*lines, "}"])


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart; groups are subgraphs."""
    names = {v: f"v{i}" for i, v in enumerate(graph.vertices)}
    lines = ["flowchart TD"]

    def vertex(v: Vertex, indent: str) -> str:
        if is_small(v):
            return f'{indent}{names[v]}(("{_entities(v.title)}")):::{v.kind}'
        open_, close = ("([", "])") if v.kind in ("input", "output") else ("[", "]")
        return f'{indent}{names[v]}{open_}"{"<br>".join(map(_entities, lines_of(v)))}"{close}:::{v.kind}'

    def group(place: Place, i: int, indent: str) -> tuple[str, str]:
        return f'{indent}subgraph g{i} ["{_entities(_title(place))}"]', f"{indent}end"

    lines += _nested(graph, vertex, group)
    for (a, b), shape in graph.edges.items():
        joint = f'-- "{in_shape(shape)}" -->' if is_small(a) else "-->"
        lines.append(f"  {names[a]} {joint} {names[b]}")
    for kind in dict.fromkeys(v.kind for v in graph.vertices):
        fill, line = COLOURS[kind]
        lines.append(f"  classDef {kind} fill:{fill},stroke:{line},color:#1f2933")
    return "\n".join(lines)


def _nested(graph: Graph, vertex: Callable[..., str], group: Callable[..., tuple[str, str]]) -> list[str]:
    """The vertices of every group between its beginning and its end."""
    inside = {id(p) for p in graph.root.walk()}
    members: dict[int, list[Any]] = {}
    known: set[int] = set()
    for v in graph.vertices:
        what: Any = v
        place: Place | None = v.group if id(v.group) in inside else None
        while True:
            members.setdefault(id(place), []).append(what)
            if place is None or id(place) in known:
                break
            known.add(id(place))
            what, place = place, place.parent
    numbers = iter(range(1 << 30))

    def lines(place: Place | None, indent: str) -> list[str]:
        out: list[str] = []
        for what in members.get(id(place), ()):
            if isinstance(what, Vertex):
                out.append(vertex(what, indent))
            else:
                begin, end = group(what, next(numbers), indent)
                out += [begin, *lines(what, indent + "  "), end]
        return out

    return lines(None, "  ")


def _title(place: Place) -> str:
    return title_of(place)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _entities(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
