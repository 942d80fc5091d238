"""The pages of docs/ are programs: their Python blocks are run from top to bottom and print what the page shows below them.

    python -m tests.docs.pages                  writes into every page what its code prints, and the pictures it draws
    python -m tests.docs.pages recurrence       one page

A block ``python`` is followed by a block ``text`` if it prints or raises (its last line is then ``ValueError: ...``). Numbers
with a point may differ by a few units of the last digit shown; ``text measured`` are timings, which are not compared.
Pictures are saved in ``pictures/``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
CODE = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n*```text(?P<measured> measured)?\n(?P<shown>.*?)^```\n)?", re.M | re.S)
WIDTH = 92
"""Where the lines of an error are broken."""
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")


def pages() -> list[Path]:
    """Every page that has code to run."""
    return [page for page in sorted(DOCS.rglob("*.md")) if CODE.search(page.read_text())]


def printed(code: str, names: dict[str, Any], page: Path, line: int) -> str:
    """What a block prints; an error is its last line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile("\n" * line + code, str(page), "exec"), names)
        except Exception as error:
            if "AssertionError" in type(error).__name__:
                raise
            for text in (f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())):
                print(*(textwrap.fill(part, WIDTH) for part in text.split("\n")), sep="\n")
    return re.sub(r"[ \t]+$", "", out.getvalue(), flags=re.M)


def same(shown: str, got: str) -> bool:
    """Whether two outputs are the same but for the last digits of numbers with a point, and for spaces."""
    (words, numbers), (other_words, other_numbers) = _split(shown), _split(got)
    return words == other_words and all(map(_near, numbers, other_numbers))


def _split(text: str) -> tuple[list[str], list[str]]:
    return "".join(NUMBER.sub(" # ", text).split()).split("#"), NUMBER.findall(text)


def _near(shown: str, got: str) -> bool:
    if shown == got:
        return True
    if "." not in shown and "e" not in shown:
        return False
    digits, _, exponent = shown.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return abs(float(shown) - float(got)) <= 3.001 * unit


def missing(code: str) -> str | None:
    """A package that a block imports and that is not installed."""
    wanted = re.findall(r"^(?:import|from) (\w+)", code, re.M)
    return next((name for name in wanted if importlib.util.find_spec(name) is None), None)


def run(page: Path) -> list[tuple[re.Match[str], str]]:
    """Run a page in the current folder, up to a block that needs a missing package: each block with what it printed."""
    names: dict[str, Any] = {"__name__": page.stem}
    text = page.read_text()
    Path("pictures").mkdir(exist_ok=True)
    blocks = [(block, text[: block.start("code")].count("\n")) for block in CODE.finditer(text)]
    outcomes = []
    for block, line in blocks:
        if missing(block["code"]):
            break
        outcomes.append((block, printed(block["code"], names, page, line)))
    return outcomes


def write(page: Path) -> None:
    """Run a page and write what it printed and drew into it."""
    outcomes = run(page)
    text, out, at = page.read_text(), [], 0
    for block, got in outcomes:
        out += [text[at : block.start()], f"```python\n{block['code']}```\n"]
        if got:
            out += [f"\n```text{block['measured'] or ''}\n{got if got.endswith(chr(10)) else got + chr(10)}```\n"]
        at = block.end()
    page.write_text("".join([*out, text[at:]]))
    for picture in Path("pictures").iterdir():
        shutil.copy(picture, DOCS / "pictures" / picture.name)


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    chosen = [page for page in pages() if not sys.argv[1:] or page.stem in sys.argv[1:]]
    for page in chosen:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            print(page.relative_to(DOCS))
            write(page)
