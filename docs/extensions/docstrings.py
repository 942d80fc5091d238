"""This package's plain docstrings as reStructuredText.

A docstring here is paragraphs, ``code``, and indented blocks of formulas or code. Everything else is plain text: what
reStructuredText would take for markup (``*args``, ``|x|``, ``name_``) is escaped.
"""

from __future__ import annotations

import re

TERM = re.compile(r"``[^`]+``(?:,? (?:and )?``[^`]+``)*(?: \([^)]*\))?:(?!:)|[a-z_]+(?:=[^\s:]+)?: ")
"""How a line begins that explains an argument: two of them in one paragraph are a list."""


def signature(text: str) -> tuple[str, str]:
    """``(arguments, the rest)`` of a docstring that begins with a call, ``Dense(in, out, *, ...)``; else ``("", text)``."""
    match = re.match(r"[A-Za-zσ]\w*\(", text)
    if not match:
        return "", text
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if letter == ")" and not depth:
            line_ends = text[i + 1 :].split("\n", 1)[0].strip() == ""
            arguments = re.sub(r"\s+", " ", text[match.end() - 1 : i + 1])
            return (arguments, text[i + 1 :].strip("\n")) if line_ends else ("", text)
    return "", text


def _plain(text: str) -> str:
    """A run of text, with its code as literals and no other markup."""
    parts = re.split(r"(``.+?``|`[^`\n]+`)", text, flags=re.S)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = "``" + " ".join(part.strip("`").split()) + "``"
            before, after = parts[i - 1][-1:], parts[i + 1][:1]
            if before and (before.isalnum() or before in "_\\"):
                parts[i] = "\\ " + parts[i]
            if after and (after.isalnum() or after == "_"):
                parts[i] += "\\ "
        else:
            parts[i] = re.sub(r"([\\*_|`])", r"\\\1", part)
    return "".join(parts)


def _paragraph(lines: list[str]) -> list[str]:
    """A paragraph; as a list where its lines explain arguments one by one, or are items already; a table as it is."""
    if re.fullmatch(r"=+(?: +=+)+", lines[0]):
        return [*lines, ""]
    starts = [i for i, line in enumerate(lines) if TERM.match(line) or re.match(r"[-*] ", line)]
    if len(starts) < 2 and not (starts and lines[0].startswith(("- ", "* "))):
        return [*_plain("\n".join(lines)).split("\n"), ""]
    out = [*_plain("\n".join(lines[: starts[0]])).split("\n"), ""] if starts[0] else []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        item = re.sub(r"^[-*] ", "", " ".join(line.strip() for line in lines[start:end]))
        out += [f"* {_plain(item)}"]
    return [*out, ""]


def as_rst(text: str) -> list[str]:
    """The lines of a docstring (its indentation taken off) in reStructuredText."""
    out: list[str] = []
    block: list[str] = []
    code = False

    def close() -> None:
        while block and not block[-1].strip():
            block.pop()
        if block:
            out.extend(["::", "", *(f"   {line}" for line in block), ""] if code else _paragraph(block))
        block.clear()

    for line in text.split("\n"):
        if not line.strip():
            if code:
                block.append("")
            else:
                close()
            continue
        indented = line.startswith("    ")
        if indented and not code and block and TERM.match(block[-1]) and not block[-1].rstrip().endswith(":"):
            block.append(line.strip())  # goes on explaining its argument
            continue
        if indented != code:
            close()
            code = indented
        block.append(line if code else re.sub(r"::$", ":", line.rstrip()))
    close()
    return out
