"""A graph as nested boxes with coordinates: groups are laid out inside, then stand as boxes in what is around them.

Where an edge crosses the frame of a group there is a port, on both sides of the frame at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .followers import Place
from .graphs import Graph, Vertex
from .layers_layout import Item, Link, arrange
from .texts import cut, in_shape

ACROSS, DOWN = 28.0, 22.0  # gaps
MARGIN, HEAD = 12.0, 22.0  # inside the frame of a group, and for its name
CHARACTER, LINE = 6.8, 15.5  # of the text in a box
SMALL = 5.9  # character of the second line
BOLD = 1.2  # how much wider a bold one is
Points = list[tuple[float, float]]


@dataclass(eq=False)
class Box:
    """A vertex with its upper left corner."""

    vertex: Vertex
    x: float
    y: float
    width: float
    height: float


@dataclass(eq=False)
class Frame:
    """A group with its upper left corner and its depth."""

    place: Place
    x: float
    y: float
    width: float
    height: float
    depth: int


@dataclass(eq=False)
class Picture:
    """Boxes, frames (the outer ones first) and edges with their points."""

    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    edges: list[tuple[Vertex, Vertex, Points]] = field(default_factory=list)


def lines_of(vertex: Vertex) -> list[str]:
    """The text of a box: what it is, and below, the shape that comes out and what it holds."""
    second = " · ".join(text for text in (in_shape(vertex.shape), vertex.note) if text)
    return [cut(vertex.title, 58), *([cut(second, 64)] if second else [])]


def title_of(place: Place) -> str:
    """What stands at the frame of a group: its own part of the path, the frames around it have the others."""
    return cut(f"{place.path.rpartition('.')[2]}  {place.name}".strip(), 40)


def is_small(vertex: Vertex) -> bool:
    """Whether a vertex is drawn as a disc: a sum, a product."""
    return len(vertex.title) == 1


def size_of(vertex: Vertex) -> tuple[float, float]:
    """Width and height of a box."""
    if is_small(vertex):
        return 22.0, 22.0
    lines = lines_of(vertex)
    bold = len(lines[0].partition("  ")[2].partition("(")[0] or lines[0].partition("(")[0])
    width = max(CHARACTER * len(lines[0]) + BOLD * bold, SMALL * len(lines[1]) if len(lines) > 1 else 0)
    return max(width + 24, 74.0), 10 + LINE * len(lines)


class _Level:
    """The inside of one group while it is laid out."""

    def __init__(self, place: Place | None) -> None:
        self.place = place
        self.items: dict[Any, Item] = {}  # by vertex, group, or port
        self.links: dict[tuple[Any, Any, Vertex], Link] = {}  # from, to, and what flows
        self.width = self.height = 0.0


def place_all(graph: Graph) -> Picture:
    """The coordinates of a graph."""
    return _Placer(graph).picture


class _Placer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        inside = {id(p) for p in graph.root.walk()}
        if all(id(v.group) in inside or v.kind in ("input", "output") for v in graph.vertices):
            inside.remove(id(graph.root))  # the picture is the model: no frame round all of it
        self.chains = {v: self._chain(v, inside) for v in graph.vertices}
        self.levels: dict[int, _Level] = {id(None): _Level(None)}
        self.routes: dict[tuple[Vertex, Vertex], list[tuple[_Level, Link]]] = {}
        self._fill()
        order: list[_Level] = []
        self._inner_first(self.levels[id(None)], order)
        for level in order:
            self._arrange(level)
        self.picture = Picture(self.levels[id(None)].width, self.levels[id(None)].height)
        self.corners: dict[int, tuple[float, float]] = {}
        self._draw(self.levels[id(None)], 0.0, 0.0, 0)
        for edge, route in self.routes.items():
            self.picture.edges.append((*edge, self._points(route)))

    def _chain(self, v: Vertex, inside: set[int]) -> list[Place]:
        """The groups around a vertex, from the outermost."""
        chain: list[Place] = []
        place: Place | None = v.group
        while place is not None and id(place) in inside:
            chain.insert(0, place)
            place = place.parent
        return chain

    def _level(self, place: Place | None) -> _Level:
        return self.levels.setdefault(id(place), _Level(place))

    def _fill(self) -> None:
        """Items and links of every level, with ports where an edge crosses a frame."""
        for v in self.graph.vertices:
            around: Place | None = None
            for place in self.chains[v]:
                self._level(around).items.setdefault(place, Item())
                around = place
            width, height = size_of(v)
            self._level(around).items[v] = Item(width, height)
        for a, b in self.graph.edges:
            self.routes[a, b] = self._route(a, b)

    def _route(self, a: Vertex, b: Vertex) -> list[tuple[_Level, Link]]:
        """The links of an edge, level by level: out of the groups of ``a`` and into those of ``b``."""
        up, down = self.chains[a], self.chains[b]
        common = 0
        while common < min(len(up), len(down)) and up[common] is down[common]:
            common += 1
        route: list[tuple[_Level, Link]] = []
        here: Any = a
        for i in range(len(up) - 1, common - 1, -1):  # one way out for everything that reads a
            level = self._level(up[i])
            port = ("out", a, up[i])
            level.items.setdefault(port, Item(last=True))
            route.append((level, self._link(level, here, port, a)))
            here = up[i]
        target: Any = b if len(down) == common else down[common]
        level = self._level(up[common - 1] if common else None)
        route.append((level, self._link(level, here, target, a)))
        for i in range(common, len(down)):
            level = self._level(down[i])
            port = ("in", a, down[i])
            level.items.setdefault(port, Item(pinned=True))
            target = b if i == len(down) - 1 else down[i + 1]
            route.append((level, self._link(level, port, target, a)))
        return route

    def _link(self, level: _Level, source: Any, target: Any, what: Vertex) -> Link:
        key = (source, target, what)
        if key not in level.links:
            level.links[key] = Link(level.items[source], level.items[target])
        return level.links[key]

    def _inner_first(self, level: _Level, order: list[_Level]) -> None:
        for key in level.items:
            if isinstance(key, Place):
                self._inner_first(self._level(key), order)
        order.append(level)

    def _arrange(self, level: _Level) -> None:
        """Lay out a level, all of whose groups have been laid out."""
        for key, item in level.items.items():
            if isinstance(key, Place):
                inner = self._level(key)
                title = SMALL * len(title_of(key)) + 16  # beside the edge that comes in through the middle
                item.width = max(inner.width + 2 * MARGIN, 2 * title)
                item.height = inner.height + HEAD + MARGIN
        for (source, target, what), link in level.links.items():
            if isinstance(source, Place):
                link.out = self._port(source, ("out", what, source))
            if isinstance(target, Place):
                link.into = self._port(target, ("in", what, target))
        ordered = _topological(list(level.items.values()), list(level.links.values()))
        level.width, level.height = arrange(ordered, list(level.links.values()), ACROSS, DOWN)

    def _port(self, group: Place, port: Any) -> float:
        """How far right of the middle of its group a port is."""
        inner = self._level(group)
        found = inner.items.get(port)
        return 0.0 if found is None else found.x - inner.width / 2

    def _draw(self, level: _Level, x: float, y: float, depth: int) -> None:
        self.corners[id(level)] = (x, y)
        for key, item in level.items.items():
            left, top = x + item.x - item.width / 2, y + item.y
            if isinstance(key, Vertex):
                self.picture.boxes.append(Box(key, left, top, item.width, item.height))
            elif isinstance(key, Place):
                self.picture.frames.append(Frame(key, left, top, item.width, item.height, depth))
                inner = self._level(key)
                self._draw(inner, left + (item.width - inner.width) / 2, top + HEAD, depth + 1)

    def _points(self, route: list[tuple[_Level, Link]]) -> Points:
        points: Points = []
        for level, link in route:
            x, y = self.corners[id(level)]
            points += [(x + px, y + py) for px, py in link.points]
        return points


def _topological(items: list[Item], links: list[Link]) -> list[Item]:
    """Every item after those that it has links from."""
    waiting = {id(item): sum(link.target is item for link in links) for item in items}
    ready = [item for item in items if not waiting[id(item)]]
    order: list[Item] = []
    while ready:
        item = ready.pop(0)
        order.append(item)
        for link in links:
            if link.source is item:
                waiting[id(link.target)] -= 1
                if not waiting[id(link.target)]:
                    ready.append(link.target)
    return order + [item for item in items if item not in order]  # in circles, which groups of a tape may form
