"""The site builds with no warning and no network, and its reference has every public name."""

import importlib.util
import os
import re
import subprocess
import sys
import zlib

import pytest

import minitorch_flux as flux
from tests.docs.pages import DOCS

NEEDED = ("sphinx", "myst_parser", "furo")
PLACES = {
    "minitorch_flux": flux,
    "minitorch_flux.losses": flux.losses,
    "minitorch_flux.models": flux.models,
    "minitorch_flux.models.layers": flux.Layers,
    "minitorch_flux.data": flux.data,
    "minitorch_flux.onnx": flux.onnx,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: pip install 'minitorch-flux[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "trees"), str(DOCS), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(DOCS.parent)})
    assert done.returncode == 0, done.stderr
    return folder


def test_the_reference_has_every_public_name(site):
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]).decode()
    described = set(re.findall(r"^(\S+) py:", inventory, re.M))
    for place, module in PLACES.items():
        wanted = {n for n in module.__all__ if not hasattr(getattr(module, n), "__path__")}
        wanted -= {n for n in wanted if type(getattr(module, n)).__name__ == "module"}
        lost = sorted(n for n in wanted if not {f"{place}.{n}", f"minitorch_flux.data.{n}"} & described)
        assert not lost, f"{place}: {lost} are on no page of docs/api; add the module they come from to a page's :from:"


def test_nothing_on_the_site_comes_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"


def test_every_page_is_a_page_of_the_site(site):
    for page in DOCS.rglob("*.md"):
        built = site / page.relative_to(DOCS).with_suffix(".html")
        assert built.exists(), page
        assert not re.search(r"docutils-problematic|system-message", built.read_text()), page


def test_formulas_are_drawn_by_the_browser(site):
    assert "<math" in (site / "autograd.html").read_text()
    assert "mathjax.js" not in (site / "autograd.html").read_text().lower()


def test_the_engine_of_the_autograd_page_has_less_than_a_hundred_lines():
    text = (DOCS / "autograd.md").read_text().split("That is the engine.")[0]
    code = "".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))
    assert 60 < len([line for line in code.splitlines() if line.strip()]) < 100
