"""Curves as an SVG picture: small panels side by side, a line for each series, named at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .layers_layout import spread

Points = Sequence[tuple[int, float]]
Panel = tuple[str, Mapping[str, Points], bool]  # the title, the lines, whether the axis is logarithmic

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, EDGE, HEAD = 420.0, 230.0, 50.0, 70.0, 34.0, 30.0, 14.0, 40.0
COLUMNS, APART = 2, 11.0
STYLE = """
text{font:11px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:#1f2933}
.h{font-size:15px;font-weight:600}.p{font-size:12px;font-weight:600}.a{fill:#6b7785;font-size:10px}
.l{fill:none;stroke-width:1.7;stroke-linejoin:round}.g{stroke:#e4e7eb;stroke-width:1}
"""
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (80, 180, 90), (214, 176, 20))
"""The first layer is dark, the last is light."""


def svg(panels: Sequence[Panel], title: str) -> str:
    """The picture: ``panels`` of curves, each ``{name: [(x, y), ...]}``."""
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH + 2 * EDGE, HEAD + rows * HEIGHT + EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><style>{STYLE}</style>'
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>'
        f'<text class="h" x="{EDGE}" y="27">{escape(title)}</text>'
    ]
    names = list(dict.fromkeys(name for _, lines, _ in panels for name in lines))
    colours = {name: _colour(i / max(len(names) - 1, 1)) for i, name in enumerate(names)}
    for i, panel in enumerate(panels):
        parts += _panel(panel, colours, EDGE + i % COLUMNS * WIDTH, HEAD + i // COLUMNS * HEIGHT)
    return "\n".join([*parts, "</svg>"])


def _panel(panel: Panel, colours: Mapping[str, str], left: float, top: float) -> list[str]:
    title, lines, logarithmic = panel
    finite = {name: [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not logarithmic)]
              for name, points in lines.items()}
    finite = {name: points for name, points in finite.items() if points}
    parts = [f'<text class="p" x="{left + LEFT:.1f}" y="{top + 18:.1f}">{escape(title)}</text>']
    if not finite:
        return [*parts, f'<text class="a" x="{left + LEFT:.1f}" y="{top + 40:.1f}">nothing finite</text>']
    scale = math.log10 if logarithmic else float
    values = [scale(y) for points in finite.values() for _, y in points]
    steps = [x for points in finite.values() for x, _ in points]
    ticks = _decades(min(values), max(values)) if logarithmic else _ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)
    first, last = min(steps), max(max(steps), min(steps) + 1)
    x0, x1, y0, y1 = left + LEFT, left + WIDTH - RIGHT, top + HEIGHT - BOTTOM, top + TOP

    def place(x: float, y: float) -> tuple[float, float]:
        return x0 + (x - first) / (last - first) * (x1 - x0), y0 + (y - low) / (high - low) * (y1 - y0)

    for tick in ticks:
        y = place(first, tick)[1]
        text = f"1e{tick:.0f}" if logarithmic else f"{tick:g}"
        parts.append(f'<path class="g" d="M{x0:.1f},{y:.1f}H{x1:.1f}"/><text class="a" x="{x0 - 6:.1f}" y="{y + 3.5:.1f}" '
                     f'text-anchor="end">{text}</text>')
    for step, anchor in ((first, "start"), (last, "end")):
        parts.append(f'<text class="a" x="{place(step, low)[0]:.1f}" y="{y0 + 16:.1f}" text-anchor="{anchor}">'
                     f'{"step " if step == first else ""}{step}</text>')
    ends = []
    for name, points in finite.items():
        colour, places = colours[name], [place(x, scale(y)) for x, y in points]
        path = " ".join(f"{'M' if j == 0 else 'L'}{x:.1f},{y:.1f}" for j, (x, y) in enumerate(places))
        parts.append(f'<path class="l" d="{path}" stroke="{colour}"><title>{escape(name)}</title></path>')
        if len(places) == 1:
            parts.append(f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="2.5" fill="{colour}"/>')
        ends.append((places[-1][1], name, colour))
    return [*parts, *_names(ends, x1 + 7, y1, y0)]


def _names(ends: list[tuple[float, str, str]], x: float, top: float, bottom: float) -> list[str]:
    """The names at the ends of their lines, moved apart where they are close; of too many every second or third."""
    ends = sorted(ends)
    room = int((bottom - top) / APART) + 1
    if len(ends) > room:
        ends = ends[:: -(-len(ends) // room)]
    places = spread([y for y, _, _ in ends], [1.0] * len(ends), [APART] * (len(ends) - 1))
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], bottom if i == len(places) - 1 else places[i + 1] - APART)
    return [f'<text x="{x:.1f}" y="{y + 3.5:.1f}" style="fill:{colour}">{escape(_short(name))}</text>'
            for y, (_, name, colour) in zip(places, ends, strict=True)]


def _short(name: str, most: int = 11) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def _colour(share: float) -> str:
    at = share * (len(RAMP) - 1)
    i = min(int(at), len(RAMP) - 2)
    return "rgb(" + ",".join(f"{a + (b - a) * (at - i):.0f}" for a, b in zip(RAMP[i], RAMP[i + 1], strict=True)) + ")"


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(low), math.ceil(high)
    last = max(last, first + 1)
    step = max(1, -(-(last - first) // 5))
    return [float(n) for n in range(first, last + step, step)]


def _ticks(low: float, high: float) -> list[float]:
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = (low, low + 1) if low >= 0 else (low - 1, low)
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= rough)
    first = math.floor(low / step)
    return [round(step * n, 12) for n in range(first, math.ceil(high / step) + 1)]
