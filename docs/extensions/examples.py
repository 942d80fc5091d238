"""``.. examples::`` shows every program of examples/: what its docstring says, its picture, and its text to unfold."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from .docstrings import as_rst

DOCS = Path(__file__).resolve().parents[1]
FOLDER = DOCS.parent / "examples"


class Examples(SphinxDirective):
    """A section for each program whose docstring names a picture that it leaves."""

    def run(self) -> list[nodes.Node]:
        out: list[nodes.Node] = []
        for path in sorted(FOLDER.glob("*.py")):
            text = path.read_text()
            first, _, rest = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")
            pictures = re.findall(r"``(\w+\.png)``", rest)
            if not pictures:
                continue
            self.env.note_dependency(str(path))
            section = nodes.section(ids=[nodes.make_id(path.stem)])
            section += nodes.title(text=path.name)
            words = nodes.container()
            self.state.nested_parse(StringList(as_rst(f"{first}\n\n{rest}"), source=str(path)), 0, words)
            section += words.children
            for name in pictures:
                if (DOCS / name).exists():
                    section += nodes.image(uri=name, alt=f"What {path.name} leaves", candidates={"*": name})
                    self.env.images.add_file(self.env.docname, name)
            section += nodes.raw("", f"<details><summary>The text of examples/{path.name}</summary>", format="html")
            section += nodes.literal_block(text, text, language="python")
            section += nodes.raw("", "</details>", format="html")
            out.append(section)
        return out


def setup(app: Any) -> ExtensionMetadata:
    app.add_directive("examples", Examples)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
