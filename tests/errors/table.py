"""Runs the cases: what each of them raises, and which ``raise`` of the package it came from."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import minitorch_flux as flux
from minitorch_flux.autograd import operation
from minitorch_flux.backend import array_function
from minitorch_flux.readings import KernelFile

from .cases import CASES

PACKAGE = Path(flux.__file__).parent
PAGE = PACKAGE.parent / "docs" / "errors.md"
ELSEWHERE = Path(__file__).parent / "elsewhere.txt"


@dataclass(frozen=True)
class Row:
    """A wrong input, what it raises, and the functions of the package whose ``raise`` that was."""

    code: str
    kind: str
    text: str
    places: frozenset[tuple[str, int]]


class Residual(flux.Module):
    """A module of the user's own."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, x: Any) -> Any:
        return x + self.layer(x)


@array_function
def mistaken_square_forward(x: Any) -> Any:
    return x * x


@array_function
def mistaken_square_backward(dy: Any, x: Any) -> Any:
    return 3 * dy * x


def stepped(rnn: Any, x: Any) -> Any:
    """The layer after a step."""
    rnn(x)
    return rnn


def with_shapes_only(make: Any) -> Any:
    with flux.shapes_only():
        return make()


def twice_backward() -> None:
    y = (flux.tensor(np.ones(2), requires_grad=True) ** 2).sum()
    y.backward()
    y.backward()


def changed_in_place() -> None:
    model = flux.Dense(2, 1)
    with flux.record():
        y = (model.weight * model.weight).sum()
    flux.update(flux.setup(flux.Descent(0.1), model), model, flux.gradient(lambda m: m(zeros(1, 2)).sum(), model))
    y.backward()


def no_gradients() -> None:
    model = flux.Dense(1, 1)
    flux.update(flux.setup(flux.Adam(), model), model)


def zeros(*shape: int, dtype: Any = "float32") -> Any:
    return np.zeros(shape, dtype)


def recorded() -> Any:
    """A tensor that was computed inside of a recording scope."""
    with flux.record():
        return flux.tensor(np.ones(2), requires_grad=True) * 2


def custom(x: Any, backward: Any) -> Any:
    """x, with a gradient of its own."""

    @flux.custom_gradient
    def same(x: Any) -> Any:
        return x, backward

    return same(x)


def updated(grads: Any, rule: Any = None) -> None:
    """A layer updated by other gradients than its own."""
    model = flux.Dense(2, 1)
    flux.update(flux.setup(rule or flux.Descent(0.1), model), model, grads(None))


def read_only() -> Any:
    model = flux.Dense(1, 1)
    model.weight.data.flags.writeable = False
    return model


class Ragged(list[Any]):
    """Observations one by one."""


class Branch(flux.Module):
    """A layer that is never called."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, x: Any) -> Any:
        return x


def names() -> dict[str, Any]:
    """What a case may use."""
    found = {name: getattr(flux, name) for name in flux.__all__}
    wrong_square = operation("mistaken_square", mistaken_square_forward, backward=mistaken_square_backward)
    noise = np.random.default_rng(0)
    return found | {
        "flux": flux, "np": np, "zeros": zeros, "Residual": Residual, "stepped": stepped, "no_gradients": no_gradients,
        "with_shapes_only": with_shapes_only, "twice_backward": twice_backward, "changed_in_place": changed_in_place,
        "wrong_square": wrong_square, "KernelFile": KernelFile, "recorded": recorded, "custom": custom, "updated": updated,
        "read_only": read_only, "Ragged": Ragged, "Branch": Branch, "noisy": lambda x: x + noise.standard_normal(x.shape),
        "mistaken_root": lambda x: x**0.5,
    }  # fmt: skip


def files() -> None:
    """The files that the cases read, in the current folder."""
    Path("notes.txt").write_text("not a model")
    for name in ("broken.safetensors", "broken.npz", "broken.pt"):
        Path(name).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00 not json")
    flux.save("other.safetensors", flux.Dense(2, 3))
    flux.save("whole.safetensors", flux.Dense(1, 1))
    Path("truncated.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:-3])
    Path("short.idx").write_bytes(b"\0\0\x08\x01\0\0\0\x05abc")
    Path("header.idx").write_bytes(b"\0\0\x08\x03\0\0")
    Path("long.idx").write_bytes(b"\0\0\x08\x01\0\0\0\x02abc")
    Path("axes.idx").write_bytes(b"\0\0\x08\xff")
    Path("bomb.idx").write_bytes(b"\0\0\x0e\x02\x7f\xff\xff\xff\x7f\xff\xff\xff")
    Path("broken.idx.gz").write_bytes(b"\x1f\x8b\x08 not gzip")
    Path("harmful.pt").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")


@cache
def raises(path: Path) -> tuple[tuple[str, int, int], ...]:
    """``(function, first line, last line)`` of every ``raise`` of a file that makes an exception."""
    found: list[tuple[str, int, int]] = []

    def visit(node: ast.AST, inside: str) -> None:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            name = f"{inside}.{child.name}".lstrip(".") if named else inside
            if isinstance(child, ast.Raise) and child.exc is not None:
                found.append((name, child.lineno, child.end_lineno or child.lineno))
            visit(child, name)

    visit(ast.parse(path.read_text()), "")
    return tuple(found)


def functions() -> Counter[str]:
    """How many times each function of the package raises: ``{"nn/dense.py Dense.__call__": 1}``."""
    return Counter(f"{p.relative_to(PACKAGE).as_posix()} {name}" for p in PACKAGE.rglob("*.py") for name, _, _ in raises(p))


def places(error: BaseException | None) -> Iterator[tuple[str, int]]:
    """The ``raise`` statements that an error, and those it came of, passed through: ``("nn/dense.py Dense.__call__", 81)``."""
    while error is not None:
        at = error.__traceback__
        while at is not None:
            path = Path(at.tb_frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                for name, first, last in raises(path):
                    if first <= at.tb_lineno <= last:
                        yield f"{path.relative_to(PACKAGE).as_posix()} {name}", first
            at = at.tb_next
        error = error.__cause__ or error.__context__


@cache
def table() -> dict[str, list[Row]]:
    """Every case, run."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        files()
        base = names()
        return {area: [row(code, dict(base)) for code in lines.strip().splitlines()] for area, lines in CASES.items()}


def row(code: str, known: dict[str, Any]) -> Row:
    flux.seed(0)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(code, "<case>", "exec"), known)
    except Exception as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        if isinstance(error, KeyError):
            text = text.strip("'\"")
        text = re.sub(r"\(Error while deserializing.*\)", "(...)", text.replace(os.getcwd(), "."))  # safetensors' own words
        return Row(code, type(error).__name__, text, frozenset(places(error)))
    return Row(code, "", "", frozenset())


def reached() -> Counter[str]:
    """How many of a function's ``raise`` statements the cases reach."""
    return Counter(name for name, _ in {place for rows in table().values() for row in rows for place in row.places})


def unreached() -> Counter[str]:
    """How many of a function's ``raise`` statements no case reaches."""
    return functions() - reached()


def elsewhere() -> dict[str, tuple[int, str]]:
    """The list of those: ``{"nn/dense.py Dense.__call__": (1, "tests/nn/test_dense.py")}``, the second where it is tested."""
    found: dict[str, tuple[int, str]] = {}
    for line in ELSEWHERE.read_text().splitlines():
        name, count, where = line.split("\t")
        found[name] = int(count), where
    return found


def page() -> str:
    """The text of docs/errors.md."""
    out = [HEAD]
    for area, rows in table().items():
        out += [f"## {area}\n", "| input | what it raises |", "|---|---|"]
        out += [f"| {_code(row.code)} | **{row.kind}** {'<br>'.join(map(_code, row.text.splitlines()))} |" for row in rows]
        out.append("")
    return "\n".join(out)


def _code(text: str) -> str:
    """Text as code in a cell of a table."""
    text = text.strip().replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


HEAD = """# Every error

What you get for a wrong input, area by area: the line on the left was run, and raised what stands on the right. An error says
where it arose (`Chain[1].Chain[0] Dense(64, 10)` is the first layer of the second layer of a chain), which axis or argument is
wrong, both sizes, and where there is one way out, what to do.

The page is written by `python -m tests.errors`, and a test holds it against what is raised. `zeros(2, 3)` is an array of that
shape; `Residual` is a module of the user's own around one layer. What these lines do not raise, such as the errors of a missing
device, of an interrupted download or of a worker that has died, is listed with its tests in `tests/errors/elsewhere.txt`.
"""
