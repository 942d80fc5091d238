"""The README's code runs and prints what the README says, and its commands are those that CI calls."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np

import minitorch_flux as flux

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def blocks(language):
    return [body for name, body in BLOCKS if name == language]


def test_the_twenty_lines_print_what_the_readme_says():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert out.getvalue() == blocks("text")[0]
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 20


def test_the_lines_on_models_run():
    out, names = io.StringIO(), {}
    with contextlib.redirect_stdout(out):
        exec(compile(blocks("python")[1], "README.md", "exec"), names)
    assert "parameters" in out.getvalue()
    assert names["features"] is names["model"].backbone


def test_the_page_on_adding_an_op_works_and_is_checked():
    names = {"flux": flux, "np": np}
    for body in blocks("python")[2:]:
        exec(compile(body, "README.md", "exec"), names)
    x = np.array([-2.0, 0.5])
    np.testing.assert_allclose(names["softsquare"](x).data, x**2 / (1 + abs(x)))
    assert names["softsquare_forward"].launches == 0


def test_every_file_that_the_readme_names_exists():
    for path in re.findall(r"`((?:minitorch_flux|kernels|tests|docs|benchmarks)/[\w./]*)`", TEXT):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./]+)\)", TEXT):
        assert (ROOT / path).exists(), path


def test_ci_calls_the_test_command():
    assert "python -m pytest" in (ROOT / ".ci" / "run").read_text()
    assert ".venv/bin/python -m pytest" in TEXT
