"""The reference: ``.. names::`` documents the public names of a module by their docstrings.

    .. names:: minitorch_flux           the module they are public in
       :from: nn.chain nn.combinations  those that it has from these modules
       :but: ...                        without these

       :rest:                           those that no other page of docs/api lists

    .. names:: minitorch_flux.losses    without ``:from:`` all of its names; names may be listed as the content instead
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from pygments.lexers import CudaLexer, PythonLexer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from .docstrings import as_rst, signature


@cache
def sources(place: str) -> dict[str, str]:
    """``{name: the module it is imported from}`` as the text of a package says: ``{"Chain": "nn.chain"}``."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(Path(inspect.getfile(importlib.import_module(place))).read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, node.module or "")
    return found


def public(place: str) -> list[str]:
    """The public names of a module, in the order of the text; of a flat module its functions and classes."""
    module = importlib.import_module(place)
    names = getattr(module, "__all__", None)
    if names is None:
        return [n for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == place]
    order = {name: i for i, name in enumerate(sources(place))}
    return sorted(names, key=lambda n: order.get(n, len(order)))


class Names(SphinxDirective):
    """See the head of the file."""

    has_content = True
    required_arguments = 1
    option_spec = {"from": str.split, "but": str.split, "rest": directives.flag}

    def run(self) -> list[nodes.Node]:
        place = self.arguments[0]
        module = importlib.import_module(place)
        names = " ".join(self.content).split() or public(place)
        if wanted := self.options.get("from"):
            home = sources(place)
            names = [n for n in names if any(_within(home.get(n, ""), part) for part in wanted)]
        names = [n for n in names if n not in self.options.get("but", ()) and not isinstance(getattr(module, n), ModuleType)]
        if "rest" in self.options:
            names = rest(place, names)
        elif not names:
            raise self.error(f"{place} has no names from {self.options.get('from')}")
        lines = [line for name in names for line in described(place, name, getattr(module, name))]
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source=place), 0, node)
        return node.children


def rest(place: str, names: list[str]) -> list[str]:
    """The names that no page of docs/api lists, by its modules or by itself."""
    text = "\n".join(page.read_text() for page in sorted((Path(__file__).parents[1] / "api").glob("*.md")))
    home, words = sources(place), set(re.findall(r"\w+", "\n".join(re.findall(r"^   (?!:)(.*)$", text, re.M))))
    parts = " ".join(re.findall(r"^   :from: (.*)$", text, re.M)).split()
    return [n for n in names if n not in words and not any(_within(home.get(n, ""), part) for part in parts)]


def _within(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def described(place: str, name: str, value: Any) -> list[str]:
    """The lines of reStructuredText for one name."""
    text = inspect.getdoc(value) or ""
    arguments, text = signature(text)
    kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
    if not arguments and kind != "data":
        arguments = _arguments(value)
    body = as_rst(text)
    if kind != "data" and (home := where(value)):
        body += [f":file:`{home}`", ""]
    if kind == "class":
        body += _members(value)
    head = f".. py:{kind}:: {name}{arguments}"
    return [head, f"   :module: {place}", "", *(f"   {line}" for line in body), ""]


def where(value: Any) -> str:
    """The file in which a class or a function is written; for an operation that of its forward function."""
    found = inspect.unwrap(value)
    found = inspect.unwrap(getattr(getattr(found, "forward", found), "reference", getattr(found, "forward", found)))
    home = getattr(found, "__module__", None) or ""
    return f"{home.replace('.', '/')}.py" if home.startswith("minitorch_flux.") else ""


def _arguments(value: Any) -> str:
    if inspect.isclass(value) and (value.__init__ is object.__init__ or issubclass(value, Exception)):
        return ""
    try:
        signed = inspect.signature(value)
    except (TypeError, ValueError):
        return "(x)"
    return "(x)" if "self" in signed.parameters else _bare(list(signed.parameters.values()))


def _bare(parameters: list[inspect.Parameter]) -> str:
    """A signature without annotations, in which functions that are defaults have their names."""
    text = str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters]))
    return re.sub(r"<(?:function|class) '?(?:\w+\.)*(\w+)'?(?: at 0x\w+)?>", r"\1", text)


def _members(value: type) -> list[str]:
    """The methods and properties that a class has of its own."""
    lines: list[str] = []
    for name, member in vars(value).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        if not (text := inspect.cleandoc(member.__doc__ or "")):
            continue
        if isinstance(member, property):
            head = f".. py:property:: {name}"
        else:
            head = f".. py:method:: {name}{_bare(list(inspect.signature(member).parameters.values())[1:])}"
        lines += [head, "", *(f"   {line}" for line in as_rst(text)), ""]
    return lines


def setup(app: Any) -> ExtensionMetadata:
    app.add_directive("names", Names)
    for name, lexer in (("cuda-line", CudaLexer), ("python-race", PythonLexer)):  # words of kernels/README.md
        app.add_lexer(name, lexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
