"""``minitorch-flux info`` on machines that have everything and on others."""

import importlib.util

import numpy as np
import pytest

from minitorch_flux.backend import DeviceError
from minitorch_flux.cli import information, main

FULL = {
    "kernels": "/k", "cache": "/c", "built": 7, "threads": 4, "blas threads": 4,
    "compiler": "/usr/bin/c++", "version": "12.2.0", "flags": "-O3", "openmp": True, "simd mathematics": True,
    "float16": True, "nvrtc": "13.0", "architectures": [75, 80, 90],
}  # fmt: skip


def table():
    return {name: " | ".join(lines) for name, *lines in information.rows()}


def test_it_prints_what_is_there(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("minitorch_flux 0", "Python", "NumPy", np.__version__, "BLAS", "threads"):
        assert word in out
    for word in ("compiler", "kernels", "cache", "CUDA", "CuPy", "matplotlib", "pooch"):
        assert word in out


@pytest.fixture
def found(monkeypatch):
    values = dict(FULL)
    monkeypatch.setattr(information, "info", lambda: values)
    return values


def test_a_machine_with_everything(found):
    rows = table()
    assert rows["compiler"] == "/usr/bin/c++, version 12.2.0 | with openmp, simd mathematics, float16"
    assert rows["kernels"].endswith("files in /k | built: 7 entries in the cache")
    assert rows["cache"] == "/c"
    assert rows["NumPy"].endswith("| threads: 4")
    assert rows["CUDA"] == "NVRTC 13.0 compiles the kernels for sm_75 to sm_90"


def test_nothing_built_yet(found):
    found["built"] = 0
    assert "not built yet: the first use does it" in table()["kernels"]


def test_no_compiler(found):
    found |= {"compiler": None, "why": "no C++ compiler", "install": "install one"}
    rows = table()
    assert rows["compiler"] == "none, so the NumPy references run: no C++ compiler | to get the kernels: install one"
    assert "not built: no compiler" in rows["kernels"]


def test_a_compiler_that_lacks_something(found):
    found |= {"openmp": False, "simd mathematics": False, "float16": False}
    text = "with nothing special | without openmp, simd mathematics: slower, the results are the same"
    assert table()["compiler"].endswith(text)


@pytest.mark.parametrize(("n", "text"), [(None, "does not say how many it uses"), (1, "threads: 4 (BLAS: 1)")])
def test_threads_of_blas(found, n, text):
    found["blas threads"] = n
    assert text in table()["NumPy"]


def test_no_nvrtc(found):
    found |= {"nvrtc": None, "install nvrtc": "pip install it"}
    assert table()["CUDA"] == "no NVRTC (needed for a GPU only): pip install it"


def test_missing_packages(found, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = table()
    assert rows["CuPy"] == "not installed (needed for a GPU only): pip install 'minitorch-flux[gpu]'"
    assert rows["matplotlib"] == "not installed (pictures of a run): pip install 'minitorch-flux[viz]'"
    assert rows["pooch"] == "not installed (downloading datasets): pip install 'minitorch-flux[data]'"


def test_devices(found, monkeypatch):
    class Runtime:
        def getDeviceCount(self):
            return 2

        def getDeviceProperties(self, i):
            return {"name": f"GPU {i}".encode()}

    class Cupy:
        class cuda:
            runtime = Runtime()

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(information, "find_cupy", lambda: Cupy)
    assert table()["CuPy"].endswith("| cuda:0: GPU 0 | cuda:1: GPU 1")

    def broken():
        raise DeviceError("CuPy finds no usable CUDA device")

    monkeypatch.setattr(information, "find_cupy", broken)
    assert table()["CuPy"] == "CuPy finds no usable CUDA device"


def test_a_blas_that_numpy_does_not_name(monkeypatch):
    monkeypatch.setattr(np, "show_config", lambda mode: {"Build Dependencies": {"blas": {"name": "none"}}})
    assert information._blas() == "none"
    monkeypatch.setattr(np, "show_config", lambda mode: {})
    assert information._blas() == "unknown"
