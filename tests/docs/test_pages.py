"""The pages of docs/: their code runs and prints what they show, and their pictures and links lead somewhere."""

import contextlib
import re

import pytest

from minitorch_flux.autograd import OPERATIONS
from minitorch_flux.backend import FUNCTIONS
from tests.docs.pages import CODE, DOCS, missing, pages, run, same

PAGES = pages()


@pytest.fixture(autouse=True)
def registered():
    """What a page registers by name is forgotten after it, so that it can be run again."""
    with contextlib.ExitStack() as stack:
        for registry in (FUNCTIONS, OPERATIONS):
            before = dict(registry)
            stack.callback(lambda r=registry, b=before: (r.clear(), r.update(b)))
        yield


def test_there_are_pages():
    assert len(PAGES) > 2


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(DOCS)) for p in PAGES])
def test_a_page_prints_what_it_shows(page, tmp_path, monkeypatch):
    text = page.read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for block, got in run(page):
        shown = block["shown"] or ""
        if block["measured"]:
            assert got, block["code"]
        else:
            assert same(shown, got), f"{block['code']}\nprints\n{got}\nbut the page shows\n{shown}"
    for picture in (tmp_path / "pictures").iterdir():
        assert f"pictures/{picture.name}" in text, f"{picture.name} is drawn, but not shown"
    if rest := next(filter(None, map(missing, (block["code"] for block in CODE.finditer(text)))), None):
        pytest.skip(f"the rest of the page needs {rest}")


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: str(p.relative_to(DOCS)))
def test_pictures_and_pages_that_are_linked_exist(page):
    words = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!\w+:)([^)#\s]+)", words):
        assert (page.parent / target).exists(), target


def test_outputs_are_compared_as_the_module_says():
    assert same("loss 0.1234 [ 1. 2.]", "loss 0.1236 [1.  2.]")
    assert not same("loss 0.1234", "loss 0.1244")
    assert not same("3 steps", "4 steps")
    assert not same("a 1.0", "b 1.0")
    assert same("1.25e-07", "1.27e-07")
    assert not same("1.25e-07", "1.25e-06")
