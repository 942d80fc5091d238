"""docs/errors.md is what the cases raise, and every ``raise`` of the package has a case or a place where it is tested."""

import pytest

from tests.errors.cases import CASES
from tests.errors.table import PACKAGE, PAGE, elsewhere, functions, page, table, unreached

AGAIN = "run `python -m tests.errors` and look at what it changes"
ROOT = PACKAGE.parent


@pytest.mark.parametrize("area", CASES)
def test_every_case_raises_an_error_of_this_package(area):
    for row in table()[area]:
        assert row.kind, f"{row.code} raises nothing"
        assert row.places or row.text.count("\n"), f"{row.code} raises {row.kind}: {row.text}, which is not of this package"


def test_no_case_is_there_twice():
    codes = [row.code for rows in table().values() for row in rows]
    assert len(codes) == len(set(codes)) > 400


def test_the_page_is_what_the_cases_raise():
    assert PAGE.read_text() == page(), AGAIN


def test_every_raise_has_a_case_or_is_listed():
    listed, left = elsewhere(), unreached()
    new = {name: n - listed.get(name, (0,))[0] for name, n in left.items() if n > listed.get(name, (0,))[0]}
    assert not new, f"a raise without a case: write one into tests/errors/cases.py, or {AGAIN}"
    assert not {name for name, (n, _) in listed.items() if n > left[name]}, f"the list may shrink: {AGAIN}"


def test_the_tests_that_are_listed_exist():
    for name, (_, where) in elsewhere().items():
        assert where == "-" or (ROOT / where).exists(), f"{name}: {where}"


def test_most_of_what_is_not_in_the_table_is_tested():
    listed = elsewhere()
    assert sum(n for n, where in listed.values() if where == "-") < 0.25 * functions().total()


def test_an_error_in_a_model_names_the_layers_path():
    (row,) = (row for row in table()["Chains and connections"] if row.code.startswith("Chain(relu, Residual("))
    assert row.text.startswith("Chain[1].Residual.layer Dense(5, 4): ")
