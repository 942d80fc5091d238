"""A summary as HTML, for notebooks: the table with bars behind the numbers, which show at a glance where they are large."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from .texts import in_bytes, in_thousands

if TYPE_CHECKING:
    from .summaries import Row, Summary

STYLE = """
.flux-summary{font:13px/1.5 system-ui,sans-serif;color:#1f2933;background:#fff;max-width:100%;overflow-x:auto;padding:4px}
.flux-summary table{border-collapse:collapse;margin:8px 0}
.flux-summary td,.flux-summary th{padding:2px 12px;text-align:right;white-space:nowrap;border:0}
.flux-summary th{color:#6b7785;font-weight:600;border-bottom:1px solid #c5ccd3}
.flux-summary .l{text-align:left}
.flux-summary code{font:12px ui-monospace,monospace;background:none;color:inherit;padding:0}
.flux-summary tbody tr:hover{background:#f3f6f9}
.flux-summary tfoot td{border-top:1px solid #c5ccd3;font-weight:600}
.flux-summary .o td{color:#6b7785}
.flux-summary dl{display:grid;grid-template-columns:max-content max-content auto;gap:0 16px;margin:0}
.flux-summary dd{margin:0}
.flux-summary dd.n{text-align:right;font-variant-numeric:tabular-nums}
.flux-summary dd.r{color:#6b7785}
"""
COLOURS = {"parameters": "#cfe8f7", "flops": "#fbe0c3", "activations": "#cdeee0", "gradients": "#ead9f2"}


def html(summary: Summary) -> str:
    """The whole summary as one element."""
    most = {name: max((getattr(row, name) for row in summary.rows), default=0) for name in COLOURS}
    head = "".join(f'<th class="l">{t}</th>' for t in ("path", "layer", "output"))
    head += "".join(f"<th>{t}</th>" for t in ("parameters", "FLOPs", "activations", "gradients"))
    body = "".join(_row(row, most) for row in summary.rows)
    foot = "".join(f"<td>{t}</td>" for t in (f"{summary.parameters:,}", in_thousands(summary.flops),
                                             in_bytes(summary.activation_bytes), in_bytes(summary.gradient_bytes)))
    notes = "".join(
        f'<dt>{escape(name)}</dt><dd class="n">{escape(value)}</dd><dd class="r">{escape(remark)}</dd>'
        for name, value, remark in summary.notes()
    )
    return (
        f'<div class="flux-summary"><style>{STYLE}</style><div><b>{escape(summary.title)}</b></div>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f'<tfoot><tr><td class="l">total</td><td></td><td class="l"><code>{escape(str(summary.output))}</code></td>{foot}</tr>'
        f"</tfoot></table><dl>{notes}</dl></div>"
    )


def _row(row: Row, most: dict[str, int]) -> str:
    texts = {"parameters": f"{row.parameters:,}", "flops": in_thousands(row.flops),
             "activations": in_bytes(row.activations), "gradients": in_bytes(row.gradients)}
    cells = "".join(_cell(name, getattr(row, name), text, most[name]) for name, text in texts.items())
    own = any(getattr(row, name) for name in COLOURS)
    indent = f' style="padding-left:{12 + 14 * row.depth}px"'
    return (
        f'<tr{"" if own else " class=o"}><td class="l"{indent}>{escape(row.path) or "."}</td>'
        f'<td class="l"><code>{escape(row.name)}</code></td><td class="l"><code>{escape(_output(row))}</code></td>{cells}</tr>'
    )


def _output(row: Row) -> str:
    times = f" x {row.calls}" if row.calls > 1 else ""
    return ("" if row.output is None else str(row.output)) + times


def _cell(name: str, value: Any, text: str, most: int) -> str:
    if not value:
        return "<td></td>"
    share = 100 * value / most
    return f'<td style="background:linear-gradient(to left,{COLOURS[name]} {share:.1f}%,transparent 0)">{text}</td>'
