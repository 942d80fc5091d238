"""An explanation as text, and as HTML for notebooks."""

from __future__ import annotations

import re
import textwrap
from html import escape
from typing import TYPE_CHECKING, Any

from .texts import cut, in_bytes, in_shape, in_thousands, table

if TYPE_CHECKING:
    from .explanations import Call, Cost, Explanation, Part
    from .sources import Kernel

WIDTH = 100
LABEL = 12

Line = tuple[str, str, str]  # what it is, its name, where it is written


def places_of(part: Part) -> list[Line]:
    """The reference, the kernels and the gradient of an operation: ``(what, name, where)``; kernels of one file in one line."""
    lines: list[Line] = [("operation", part.name, str(part.where))]
    for title, functions in (("forward", part.forward), ("backward", part.backward)):
        for f in functions:
            lines.append((title, f.name, str(f.where)))
            files: dict[Any, list[Kernel]] = {}
            for kernel in f.kernels:
                files.setdefault(kernel.where.path, []).append(kernel)
            for kernels in files.values():
                first, *others = kernels
                more = f", {len(others)} more" if len(others) > 1 else "".join(f", {k.name}" for k in others)
                lines.append(("  kernel" if not others else "  kernels", first.name + more, str(first.where)))
    if part.gradient is None:
        lines.append(("backward", "none: it has no gradient", ""))
    elif not any(line[2] == str(part.gradient) for line in lines):
        lines.append(("gradient", "written in operators", str(part.gradient)))
    return lines


def costs_of(cost: Cost) -> list[tuple[str, str, str]]:
    """What stands in the last table: ``(name, value, remark)``."""
    lines = [
        ("output", in_shape(cost.output), ""),
        ("FLOPs", in_thousands(cost.flops), f"{in_thousands(cost.backward_flops)} more on the way back"),
        ("moved", in_bytes(cost.bytes), f"{cost.intensity:.2g} FLOPs for each byte: "
         + ("arithmetic is the limit" if cost.intensity >= 10 else "memory is the limit")),
        ("kept", in_bytes(cost.kept), "for the way back"),
    ]
    return [line for line in lines if line[0] != "FLOPs" or cost.flops]


def text(explanation: Explanation) -> str:
    """The whole explanation as text."""
    lines = [explanation.title, "═" * min(len(explanation.title), WIDTH)]
    if explanation.where:
        lines.append(str(explanation.where))
    if explanation.about:
        lines += ["", explanation.about]
    if explanation.formulas:
        lines += ["", "Formula", *_inside(explanation.formulas)]
    shown: list[list[str]] = []
    for part in explanation.parts:
        lines += ["", f"{part.name}"]
        if part.formulas and part.formulas not in shown:
            lines += [*_inside(part.formulas), ""]
            shown.append(part.formulas)
        lines += _inside([f"{what:<{LABEL}}{name:<46}{where}".rstrip() for what, name, where in places_of(part)])
    if explanation.keywords:
        rows = [(name, default, value) for name, default, value in explanation.keywords]
        lines += ["", *_inside(table(("argument", "default", "here"), rows, 3), 0)]
    if explanation.arrays:
        rows = [(path, in_shape(shape), f"{n:,}") for path, shape, n in explanation.arrays]
        lines += ["", *_inside(table(("array", "shape", "numbers"), rows, 2), 0)]
    if explanation.cost:
        cost = explanation.cost
        calls = [(c.name, cut(_kernels(c), 48), in_shape(c.output), f"{c.calls}", in_thousands(c.flops) if c.flops else "",
                  in_bytes(c.bytes) if c.bytes else "a view") for c in cost.calls]
        lines += ["", f"Cost for {cost.inputs}", ""]
        lines += table(("operation", "kernels on the CPU", "output", "calls", "FLOPs", "moved"), calls, 3)
        lines += ["", *(f"{name:<{LABEL}}{value:>14}   {remark}".rstrip() for name, value, remark in costs_of(cost))]
    return "\n".join(lines)


def _kernels(call: Call) -> str:
    return ", ".join(call.kernels) or ("" if not call.bytes else "none: NumPy, BLAS")


def _inside(lines: list[str], by: int = 4) -> list[str]:
    return textwrap.indent("\n".join(lines), " " * by).split("\n")


STYLE = """
.flux-explain{font:13px/1.5 system-ui,sans-serif;color:#1f2933;background:#fff;max-width:920px;padding:6px 10px;overflow-x:auto}
.flux-explain h3{font:600 16px ui-monospace,monospace;margin:6px 0 0;color:#1f2933}
.flux-explain h4{font:600 13px system-ui,sans-serif;margin:16px 0 4px;color:#2f7fb8}
.flux-explain .w{font:12px ui-monospace,monospace;color:#6b7785}
.flux-explain pre{font:12px/1.6 ui-monospace,monospace;background:#f3f6f9;border-left:3px solid #2f7fb8;padding:8px 12px;
margin:6px 0;overflow-x:auto;color:#1f2933;white-space:pre}
.flux-explain pre.d{background:none;border:0;padding:0;font-family:system-ui,sans-serif;font-size:13px;white-space:pre-wrap}
.flux-explain table{border-collapse:collapse;margin:4px 0}
.flux-explain td,.flux-explain th{padding:1px 16px 1px 0;text-align:left;border:0;vertical-align:top}
.flux-explain th{color:#6b7785;font-weight:600;border-bottom:1px solid #c5ccd3}
.flux-explain .n{text-align:right;font-variant-numeric:tabular-nums}
.flux-explain code{font:12px ui-monospace,monospace;background:none;color:inherit;padding:0}
.flux-explain .g{color:#6b7785}.flux-explain .k{color:#2f8f63}
"""


def html(explanation: Explanation) -> str:
    """The whole explanation as one element."""
    parts = [f'<div class="flux-explain"><style>{STYLE}</style><h3>{escape(explanation.title)}</h3>']
    if explanation.where:
        parts.append(f'<div class="w">{escape(str(explanation.where))}</div>')
    if explanation.about:
        parts.append(f'<pre class="d">{_prose(explanation.about)}</pre>')
    if explanation.formulas:
        parts.append(f"<h4>Formula</h4>{_pre(explanation.formulas)}")
    shown: list[list[str]] = []
    for part in explanation.parts:
        parts.append(f"<h4>{escape(part.name)}</h4>")
        if part.formulas and part.formulas not in shown:
            parts.append(_pre(part.formulas))
            shown.append(part.formulas)
        rows = "".join(
            f'<tr class="{"k" if what.startswith(" ") else ""}"><td class="g">{escape(what.strip())}</td><td><code>'
            f'{escape(name)}</code></td><td class="w">{escape(where)}</td></tr>' for what, name, where in places_of(part)
        )  # fmt: skip
        parts.append(f"<table>{rows}</table>")
    if explanation.keywords:
        rows = "".join(f"<tr><td><code>{escape(a)}</code></td><td><code>{escape(b)}</code></td>"
                       f"<td><b><code>{escape(c)}</code></b></td></tr>" for a, b, c in explanation.keywords)
        parts.append(f"<h4>Arguments</h4><table><tr><th>name</th><th>default</th><th>here</th></tr>{rows}</table>")
    if explanation.arrays:
        rows = "".join(f'<tr><td><code>{escape(a)}</code></td><td><code>{in_shape(b)}</code></td><td class="n">{n:,}</td></tr>'
                       for a, b, n in explanation.arrays)
        parts.append(f'<h4>Arrays</h4><table><tr><th>name</th><th>shape</th><th class="n">numbers</th></tr>{rows}</table>')
    if explanation.cost:
        parts.append(_cost(explanation.cost))
    return "".join([*parts, "</div>"])


def _prose(text: str) -> str:
    return re.sub(r"``(.+?)``", r"<code>\1</code>", escape(text), flags=re.DOTALL)


def _pre(lines: list[str]) -> str:
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _cost(cost: Cost) -> str:
    rows = "".join(map(_call, cost.calls))
    notes = "".join(f'<tr><td class="g">{escape(a)}</td><td class="n">{escape(b)}</td><td class="g">{escape(c)}</td></tr>'
                    for a, b, c in costs_of(cost))
    head = "<th>operation</th><th>kernels on the CPU</th><th>output</th>"
    head += "".join(f'<th class="n">{t}</th>' for t in ("calls", "FLOPs", "moved"))
    return f"<h4>Cost for {escape(cost.inputs)}</h4><table><tr>{head}</tr>{rows}</table><table>{notes}</table>"


def _call(c: Call) -> str:
    numbers = (str(c.calls), in_thousands(c.flops) if c.flops else "", in_bytes(c.bytes) if c.bytes else "a view")
    cells = "".join(f'<td class="n">{n}</td>' for n in numbers)
    return (f'<tr><td><code>{escape(c.name)}</code></td><td><code class="k">{escape(_kernels(c))}</code></td>'
            f"<td><code>{escape(in_shape(c.output))}</code></td>{cells}</tr>")
