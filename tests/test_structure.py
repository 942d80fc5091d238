"""The house rules, checked: who imports whom, who may know about devices, and what lies where."""

import ast
import builtins
import importlib.util
import re
from pathlib import Path

import pytest

import minitorch_flux as flux

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minitorch_flux"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LAYERS = ["foreign_names", "spelling", "foreign_attributes", "backend", "readings", "autograd", "ops", "array_api",
          "einops", "nn", "losses", "optimisers", "schedules", "data", "files", "distributed", "capturing",
          "training", "sklearn", "inspection", "onnx", "models", "cli"]
"""Imports go downwards only: from a name to those on its left."""


def part(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path):
    """The parts of the package that a file imports, inside functions too."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level == depth:
                yield from [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minitorch_flux."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("path", [p for p in SOURCES if part(p) in LAYERS], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path):
    for name in imports(path):
        if name in LAYERS:
            assert LAYERS.index(name) <= LAYERS.index(part(path)), f"{path} imports {name}, which lies above it"


def test_every_part_of_the_package_has_its_place():
    parts = {part(p) for p in SOURCES} - {"__init__", "__main__"}
    assert parts <= set(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_bottom_knows_about_devices(path):
    if part(path) in ("backend", "readings"):
        return
    text = path.read_text()
    assert not re.search(r"^\s*(import cupy|from cupy)", text, re.MULTILINE), "cupy is imported by backend and readings"
    assert not re.search(r"\bxp is\b|\bif gpu\b", text), "no code asks which module xp is"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path):
    if path == PACKAGE / "__init__.py":
        return  # the table of contents
    code = [line for line in path.read_text().splitlines() if line.strip() and not line.strip().startswith("#")]
    strings = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
    assert len(code) - strings <= 300, "about 300 lines of code is a room; split it"


def test_every_kernel_file_has_its_op_and_its_test():
    for kernel in (ROOT / "kernels").glob("*.cu"):
        assert list(PACKAGE.rglob(f"{kernel.stem}.py")), f"no op file for {kernel.name}"
        assert list((ROOT / "tests").rglob(f"test_{kernel.stem}.py")), f"no test file for {kernel.name}"


def test_every_kernel_is_launched_by_its_own_name():
    text = "\n".join(p.read_text() for p in SOURCES)
    for kernel in (ROOT / "kernels").glob("*.cu"):
        for name in re.findall(r"^KERNEL\((\w+)\)", kernel.read_text(), re.MULTILINE):
            stem = name.rpartition("_")[0]  # a table of ops launches f"{stem}_forward"
            assert f'"{name}"' in text or f'"{stem}"' in text, f"nothing launches {name} of {kernel.name}"


def test_no_submodule_bears_the_name_of_a_public_function():
    modules = {p.stem for p in SOURCES} | {p.parent.name for p in SOURCES}
    for name in dir(flux):
        value = getattr(flux, name)
        if callable(value) and not name.startswith("_"):
            assert name not in modules, f"a module is called {name}, as the public function"


def test_star_import_gives_every_public_name_and_shadows_no_builtin():
    assert not set(flux.__all__) & set(dir(builtins))
    for name in flux.__all__:
        assert getattr(flux, name) is not None
    assert sorted(set(flux.__all__)) == sorted(flux.__all__), "a name is listed twice"


def test_every_public_name_has_a_docstring():
    for name in flux.__all__:
        value = getattr(flux, name)
        if callable(value):
            assert (value.__doc__ or "").strip(), f"flux.{name} has no docstring"


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_every_xp_function_exists_in_cupy():
    import cupy

    missing = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            chain = []
            while isinstance(node, ast.Attribute):
                chain.append(node.attr)
                node = node.value
            if chain and isinstance(node, ast.Name) and node.id == "xp":
                value = cupy
                for name in reversed(chain[-2:] if chain[-1] in ("linalg", "random") else chain[-1:]):
                    value = getattr(value, name, None)
                if value is None:
                    missing.add(f"{path.name}: xp.{'.'.join(reversed(chain))}")
    assert not missing


def test_the_project_speaks_of_itself_only():
    words = re.compile(r"\b(pypi-more|/work/|/tmp/w\b|sub-?agent)\b")
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "kernels").glob("*"), ROOT / "README.md"]:
        if path.name != "test_structure.py" and path.exists():
            assert not words.search(path.read_text()), path
