"""A profile as a picture: a bar for each layer and operation, as wide as it took, and below it what it called."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from .followers import Place
from .graphs import kind_of
from .spans import BACKWARD, FORWARD, Span
from .svgs import COLOURS
from .texts import in_seconds, in_thousands

if TYPE_CHECKING:
    from .profiles import Profile

WIDTH, ROW, GAP, CHARACTER, EDGE, HEAD = 1200.0, 22.0, 1.0, 6.4, 16.0, 44.0
PYTHON = ("#eef0f2", "#a5adb5")
STYLE = """
text{font:11px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:#1f2933}
.h{font-size:15px;font-weight:600}.g{fill:#5c6773}
"""


@dataclass
class Bar:
    """Spans of one name at one place of the tree, added up."""

    name: str
    kind: str
    time: int = 0
    calls: int = 0
    flops: int = 0
    bytes: int = 0
    bars: dict[str, Bar] = field(default_factory=dict)

    def inside(self, name: str, kind: str) -> Bar:
        """The bar of this name below."""
        return self.bars.setdefault(name, Bar(name, kind))

    def depth(self) -> int:
        """How many rows it takes."""
        return 1 + max((bar.depth() for bar in self.bars.values()), default=0)

    def grown(self) -> int:
        """Its time, at least that of all below."""
        self.time = max(self.time, sum(bar.grown() for bar in self.bars.values()))
        return self.time


def tree(profile: Profile) -> Bar:
    """The bars of a profile: forward and backward, layers in layers, operations in those, kernels in operations."""
    root = Bar("all", "all", profile.wall, 1)
    devices = any(span.gpu for span in profile.spans)
    for span in profile.spans:
        if span.kind == "layer":
            bar = _below(root, span.place, span.phase)
            bar.calls += 1
            bar.time += 0 if devices else span.length  # a GPU's bars are those of its operations
        elif span.parent is None or span.parent.kind == "layer":
            _with_inner(_below(root, span.place, span.phase), span)
    for bar in root.bars.values():
        bar.grown()
    root.grown()
    return root


def _with_inner(around: Bar, span: Span) -> None:
    bar = _add(around.inside(span.name, "kernel" if span.kind == "kernel" else kind_of(span.name)), span)
    for child in span.children:
        _with_inner(bar, child)


def _below(root: Bar, place: Place, phase: str) -> Bar:
    """The bar of a layer."""
    bar = root.inside(phase, "phase")
    chain: list[Place] = []
    here: Place | None = place
    while here is not None and here.calls:
        chain.insert(0, here)
        here = here.parent
    for part in chain:
        bar = bar.inside(f"{part.path.rpartition('.')[2]}  {part.name}".strip(), "layer")
    return bar


def _add(bar: Bar, span: Span) -> Bar:
    bar.time += span.length
    bar.calls += 1
    bar.flops += span.flops
    bar.bytes += span.bytes
    return bar


def svg(profile: Profile) -> str:
    """The picture of a profile."""
    root = tree(profile)
    rows = root.depth()
    width, height = WIDTH + 2 * EDGE, HEAD + rows * (ROW + GAP) + EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
        f'<text class="h" x="{EDGE}" y="26">{escape(in_seconds(profile.wall / 1e9))}</text>',
        f'<text class="g" x="{EDGE + 90}" y="26">{escape(_shares(profile))}</text>',
    ]
    scale = WIDTH / max(root.time, 1)
    _draw(parts, root, EDGE, HEAD, scale, root.time)
    return "\n".join([*parts, "</svg>"])


def _shares(profile: Profile) -> str:
    wall = max(profile.wall, 1)
    parts = (("kernels", profile.kernels), ("NumPy", profile.arrays), ("Python", profile.python))
    return " · ".join(f"{name} {100 * t / wall:.0f} %" for name, t in parts)


def _draw(parts: list[str], bar: Bar, x: float, y: float, scale: float, whole: int) -> None:
    width = bar.time * scale
    if width < 0.4:
        return
    fill, line = _colour(bar)
    name = bar.name
    rates = f"\n{bar.flops / bar.time:.1f} GFLOP/s, {bar.bytes / bar.time:.1f} GB/s" if bar.flops and bar.time else ""
    calls = f", {bar.calls:,} calls of {in_seconds(bar.time / bar.calls / 1e9)}" if bar.calls > 1 else ""
    work = f"\n{in_thousands(bar.flops)}FLOP" if bar.flops else ""
    tip = f"{name}\n{in_seconds(bar.time / 1e9)}, {100 * bar.time / max(whole, 1):.1f} %{calls}{work}{rates}"
    parts.append(
        f'<g><title>{escape(tip)}</title><rect x="{x:.2f}" y="{y:.1f}" width="{max(width - 0.8, 0.4):.2f}" height="{ROW}" '
        f'rx="2.5" fill="{fill}" stroke="{line}" stroke-width="0.6"/>'
    )
    room = int((width - 8) / CHARACTER)
    if room >= 3:
        time = in_seconds(bar.time / 1e9)
        text = f"{name} · {time}" if len(name) + len(time) + 3 <= room else name
        text = text if len(text) <= room else text[: room - 1] + "…"
        parts.append(f'<text x="{x + 5:.2f}" y="{y + 15:.1f}">{escape(text)}</text>')
    parts.append("</g>")
    for inner in bar.bars.values():
        _draw(parts, inner, x, y + ROW + GAP, scale, whole)
        x += inner.time * scale


def _colour(bar: Bar) -> tuple[str, str]:
    if bar.kind == "phase":
        return {FORWARD: ("#cfe0ef", "#2f7fb8"), BACKWARD: ("#f6d9cf", "#c0563a")}.get(bar.name, PYTHON)
    if bar.kind == "layer":
        return "#f0f3f6", "#b5bfc9"
    if bar.kind == "kernel":
        return "#dff2c9", "#6b9a2e"
    return PYTHON if bar.kind == "all" else COLOURS[bar.kind]
