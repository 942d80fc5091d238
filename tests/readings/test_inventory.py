"""What there is on this machine, and building ahead."""

from pathlib import Path

import numpy as np
import pytest

from minitorch_flux.readings import KernelFile, cache, host, inventory, toolchain
from minitorch_flux.readings.inventory import info, kernel_texts, prebuild

HERE = Path(__file__).parent


def test_info_of_this_machine():
    found = info()
    assert Path(found["kernels"], "flux.h").is_file()
    assert Path(found["cache"]).is_dir()
    assert found["threads"] >= 1
    if found["compiler"] is None:
        assert found["why"]
        assert "install a C++ compiler" in found["install"]
    else:
        assert "-O3" in found["flags"]
        assert found["version"]
        assert {type(found[key]) for key in ("openmp", "simd mathematics", "float16")} == {bool}
    assert found["nvrtc"] is None or 90 in found["architectures"]


def test_info_without_compilers(monkeypatch):
    monkeypatch.setenv(toolchain.COMPILER, "/nowhere/g++")
    monkeypatch.setattr(inventory, "nvrtc_version", lambda: None)
    found = info()
    assert found["compiler"] is None
    assert found["why"] == "/nowhere/g++ does not run as a C++ compiler"
    assert "apt install g++" in found["install"]
    assert "ziglang" in found["install"]
    assert found["nvrtc"] is None
    assert "pip install nvidia-cuda-nvrtc" in found["install nvrtc"]


def test_kernel_texts():
    texts = kernel_texts()
    assert [t.name for t in texts] == sorted(t.name for t in texts)
    assert "philox.cu" in [t.name for t in texts]
    assert all(t.kernels for t in texts)


def test_every_kernel_name_is_in_one_file():
    """Entry points bear the names of the library's functions: none twice."""
    names = [name for t in kernel_texts() for name in t.kernels]
    assert len(names) == len(set(names))


def test_prebuild(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(host, "_libraries", {})
    if isinstance(toolchain.toolchain(), str):
        pytest.skip("no compiler")
    sample = KernelFile(HERE / "sample.cu")
    requests = [(sample, "float32", {}), (sample, "float64", {"KH": 2, "KW": 2}), (sample, "complex64", {})]
    assert prebuild(requests) == 2
    monkeypatch.setattr(host, "_compile", lambda *args: pytest.fail("built again"))
    x = np.ones(3, "float32")
    assert sample("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
