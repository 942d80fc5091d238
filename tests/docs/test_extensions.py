"""What the site adds to Sphinx: docstrings as reStructuredText, and tables of whatever the benchmarks have left."""

import sys

import pytest

from tests.docs.pages import DOCS

pytest.importorskip("sphinx")
sys.path.insert(0, str(DOCS))

from extensions import docstrings, results


def test_a_docstring_that_begins_with_a_call_gives_the_signature():
    assert docstrings.signature("Dense(in, out,\n  *, init=f(3))\n\nA layer.") == ("(in, out, *, init=f(3))", "A layer.")
    assert docstrings.signature("Dense(3) is a layer.") == ("", "Dense(3) is a layer.")
    assert docstrings.signature("A layer.") == ("", "A layer.")


def test_what_restructuredtext_would_take_for_markup_is_escaped():
    text = "of *args and |x| and name_ and ``a * b``s"
    assert docstrings.as_rst(text) == [r"of \*args and \|x\| and name\_ and ``a * b``\ s", ""]


def test_indented_lines_are_code_and_lines_that_explain_arguments_are_a_list():
    text = "So::\n\n    y = x\n    z = y\n\nEnd."
    assert docstrings.as_rst(text) == ["So:", "", "::", "", "       y = x", "       z = y", "", "End.", ""]
    assert docstrings.as_rst("``a``: one\n``b``: two,\n    and more") == ["* ``a``: one", "* ``b``: two, and more", ""]


def texts(parts):
    return [part.astext() for part in parts]


def test_measurements_become_tables():
    row = {"suite": "ops", "threads": 2, "name": "conv", "sides": {"minitorch_flux": {"ms": 1.0}, "torch": {"ms": 2.5}},
           "ratios": {"torch": {"median": 0.4, "min": 0.3, "max": 0.5}}}
    head, table = results.parts({"rows": [row], "ceilings": {}})
    assert head.astext() == "ops, 2 threads"
    for cell in ("minitorch_flux, ms", "torch, ms", "ratio to torch", "conv", "2.5", "0.4 (0.3 to 0.5)"):
        assert cell in table.astext()


def test_other_contents_are_shown_too():
    assert texts(results.parts({"a": 1, "b": {"c": 0.12345, "d": {"e": "f"}}})) == ["a 1.", "b: c 0.123; e f."]
    (table,) = results.parts([{"x": 1, "y": None, "z": True}])
    assert table.astext().split() == ["x", "y", "z", "1", "yes"]
    assert list(results.parts({"rows": []})) == []
