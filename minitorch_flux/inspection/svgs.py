"""A computation graph as an SVG picture, laid out and drawn here: no other program is needed."""

from __future__ import annotations

from html import escape

from .boxes import LINE, Box, Frame, Picture, Points, is_small, lines_of, place_all, title_of
from .graphs import Graph

EDGE = 20.0  # around everything
COLOURS = {
    "input": ("#ffffff", "#1f2933"),
    "output": ("#ffffff", "#1f2933"),
    "convolution": ("#d6e9f8", "#2f7fb8"),
    "product": ("#e6ddf3", "#7b57b2"),
    "norm": ("#d9f0e3", "#2f8f63"),
    "pool": ("#fde6cc", "#cf7a1c"),
    "recurrence": ("#fbdce4", "#c04a6b"),
    "attention": ("#fbdce4", "#c04a6b"),
    "drop": ("#eef0f2", "#8a949e"),
    "join": ("#fff3b8", "#b59a10"),
    "move": ("#f4f5f6", "#a5adb5"),
    "group": ("#e3e9ef", "#5c6b7a"),
    "other": ("#fff3b8", "#b59a10"),
}
"""Of each kind: the fill and the line."""
STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:#1f2933}
.t{font-size:12px}.b{font-weight:600}.s{font-size:10.5px;fill:#5c6773}
.f{font-size:10.5px;fill:#5c6773;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}
.e{fill:none;stroke:#7b8794;stroke-width:1.4}
"""


def svg(graph: Graph) -> str:
    """The picture of a graph."""
    picture = place_all(graph)
    width, height = picture.width + 2 * EDGE, picture.height + 2 * EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{-EDGE:.0f} {-EDGE:.0f} {width:.0f} {height:.0f}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0.8 L7.4,4 L0,7.2 z" fill="#7b8794"/></marker></defs>',
        f'<rect x="{-EDGE:.0f}" y="{-EDGE:.0f}" width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
        *map(_frame, picture.frames),
        *_edges(picture),
        *map(_box, picture.boxes),
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(frame: Frame) -> str:
    fill = "#f7f9fb" if frame.depth % 2 == 0 else "#ffffff"
    return (
        f'<rect x="{frame.x:.1f}" y="{frame.y:.1f}" width="{frame.width:.1f}" height="{frame.height:.1f}" rx="9" '
        f'fill="{fill}" stroke="#cfd6dd"/>'
        f'<text class="f" x="{frame.x + 9:.1f}" y="{frame.y + 15:.1f}">{escape(title_of(frame.place))}</text>'
    )


def _edges(picture: Picture) -> list[str]:
    return [f'<path class="e" d="{_curve(points)}" marker-end="url(#a)"/>' for _, _, points in picture.edges]


def _curve(points: Points) -> str:
    """Through all points, downwards at each of them."""
    x, y = points[0]
    text = f"M{x:.1f},{y:.1f}"
    for px, py in points[1:]:
        if abs(px - x) < 0.5 and abs(py - y) < 0.5:
            continue  # an edge without length would turn the arrow
        if abs(px - x) < 0.5:
            text += f" L{px:.1f},{py:.1f}"
        else:
            text += f" C{x:.1f},{(y + py) / 2:.1f} {px:.1f},{(y + py) / 2:.1f} {px:.1f},{py:.1f}"
        x, y = px, py
    return text


def _box(box: Box) -> str:
    vertex = box.vertex
    fill, line = COLOURS[vertex.kind]
    x, y, r = box.x + box.width / 2, box.y, box.height / 2
    if is_small(vertex):
        return (
            f'<circle cx="{x:.1f}" cy="{y + r:.1f}" r="{r:.1f}" fill="{fill}" stroke="{line}"/>'
            f'<text class="t b" x="{x:.1f}" y="{y + r + 4.3:.1f}" text-anchor="middle">{escape(vertex.title)}</text>'
        )
    lines = lines_of(vertex)
    round_ = box.height / 2 if vertex.kind in ("input", "output") else 6
    name, gap, rest = lines[0].partition("  ")  # the name that a part has in the model stands before what it is
    head, bracket, rest = (rest if gap else name).partition("(")
    text = f'<tspan fill="{line}">{escape(name)}&#160;&#160;</tspan>' if gap else ""
    text += f'<tspan class="b">{escape(head)}</tspan>{escape(bracket + rest)}'
    out = (
        f'<rect x="{box.x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{round_:.1f}" fill="{fill}" '
        f'stroke="{line}"/><text class="t" x="{x:.1f}" y="{y + LINE + 1:.1f}" text-anchor="middle">{text}</text>'
    )
    if len(lines) > 1:
        out += f'<text class="s" x="{x:.1f}" y="{y + 2 * LINE + 0.5:.1f}" text-anchor="middle">{escape(lines[1])}</text>'
    return out
