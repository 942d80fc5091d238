"""The compiler: found, tried once, and done without where it lacks something."""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from minitorch_flux.readings import KernelFile, cache, host, toolchain
from minitorch_flux.readings.toolchain import COMPILER, EXTRA_FLAGS, Toolchain

SAMPLE = Path(__file__).parent / "sample.cu"
GCC = shutil.which("g++")
needs_gcc = pytest.mark.skipif(GCC is None, reason="wraps g++")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache, and nothing known about any compiler."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(host, "_libraries", {})
    toolchain._toolchain.cache_clear()
    yield tmp_path
    toolchain._toolchain.cache_clear()


def compiler(folder, *lines):
    """A compiler of our own: a shell script whose last act is to call g++."""
    path = folder / "compiler"
    path.write_text("\n".join(["#!/bin/sh", *lines, f'exec {GCC} "$@"', ""]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def works():
    """The sample's kernels give the right results with the toolchain of the moment."""
    sample = KernelFile(SAMPLE)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 50)).astype("float32")
    y = np.empty_like(x)
    assert sample("softmax", x, 7, 50, x, None, y, 7, 50)
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)
    a, b = np.ones(1_000_000, "float32"), np.ones(1_000_000, "float32")
    assert sample("axpy", a, 1, a.size, 2.0, a, b, a.size)
    assert (b == 3).all()
    v = rng.uniform(0.1, 0.9, 33).astype("float32")
    f = np.empty((26, 33), "float32")
    assert sample("functions", v, 1, 33, v, f, 33)
    np.testing.assert_allclose(f[:5], [np.exp(v), np.log(v), np.sin(v), np.cos(v), np.tanh(v)], rtol=1e-5)
    x[0, 3] = np.nan
    mean, m2 = np.empty(7, "float32"), np.empty(7, "float32")
    assert sample("moments", x, 7, 50, x, mean, m2, 7, 50)
    np.testing.assert_allclose(mean, x.mean(1), rtol=1e-4, atol=1e-6)


def test_this_machine(fresh):
    tools = toolchain.toolchain()
    assert isinstance(tools, Toolchain), tools
    assert tools.version[0].isdigit() or "lang" in tools.version
    assert "-ffast-math" not in tools.flags
    works()


def test_what_was_tried_is_remembered(fresh, monkeypatch):
    first = toolchain.toolchain()
    toolchain._toolchain.cache_clear()
    monkeypatch.setattr(toolchain, "_try", lambda *args: pytest.fail("tried again"))
    assert toolchain.toolchain() == first


def test_the_compiler_of_the_environment_comes_first(monkeypatch):
    monkeypatch.setenv(COMPILER, "ccache /opt/my\\ tools/g++ -m64")
    assert toolchain.find_compiler() == ("ccache", "/opt/my tools/g++", "-m64")
    monkeypatch.setenv(COMPILER, "")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(__import__("sys").modules, "ziglang", None)
    assert toolchain.find_compiler() is None


def test_ziglang_is_the_last_resort(monkeypatch):
    import sys
    import types

    monkeypatch.delenv(COMPILER, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "ziglang", types.ModuleType("ziglang"))
    assert toolchain.find_compiler() == (sys.executable, "-m", "ziglang", "c++")


def test_no_compiler(monkeypatch):
    monkeypatch.delenv(COMPILER, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(__import__("sys").modules, "ziglang", None)
    assert "no C++ compiler: neither $MINITORCH_FLUX_CXX nor c++" in toolchain.toolchain()
    x = np.ones(3, "f4")
    assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x.copy(), 3) is False


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nowhere/g++", "/nowhere/g++ does not run as a C++ compiler"),
        ("false", "false does not run as a C++ compiler"),
    ],
)
def test_a_compiler_that_does_not_run(fresh, monkeypatch, command, why):
    monkeypatch.setenv(COMPILER, command)
    assert toolchain.toolchain() == why
    x = np.ones(3, "f4")
    assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x.copy(), 3) is False


@needs_gcc
def test_a_compiler_that_cannot_link(fresh, monkeypatch):
    path = compiler(fresh, 'case "$*" in *-shared*) echo "cannot find crti.o" >&2; exit 1;; esac')
    monkeypatch.setenv(COMPILER, str(path))
    assert toolchain.toolchain() == f"{path} cannot build a kernel: cannot find crti.o"


@needs_gcc
def test_a_compiler_with_none_of_the_options(fresh, monkeypatch):
    """No -march=native, no OpenMP, no libmvec, no half: everything still works."""
    options = "*-march=native*|*-mcpu=native*|*-mprefer*|*-fopenmp*|*-DFLUX_SIMD_MATH*|*-DFLUX_HALF*"
    path = compiler(fresh, f'case "$*" in {options}) echo "unknown option" >&2; exit 1;; esac')
    monkeypatch.setenv(COMPILER, str(path))
    tools = toolchain.toolchain()
    assert isinstance(tools, Toolchain), tools
    assert tools.flags == toolchain.BASE
    assert not tools.openmp
    assert not tools.half
    works()
    x = np.zeros(3, "float16")
    assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x.copy(), 3) is False


@needs_gcc
def test_second_choices(fresh, monkeypatch):
    """Where the first choice of an option fails, the next one is taken and the other options stay."""
    options = '*"-fopenmp "*|*-DFLUX_SIMD_MATH=2*|*-mprefer*'
    path = compiler(fresh, f'case "$* " in {options}) exit 1;; esac')
    monkeypatch.setenv(COMPILER, str(path))
    tools = toolchain.toolchain()
    assert isinstance(tools, Toolchain), tools
    assert "-fopenmp-simd" in tools.flags
    assert "-DFLUX_SIMD_MATH=1" in tools.flags
    assert not any(flag.startswith("-mprefer") for flag in tools.flags)
    works()


@needs_gcc
def test_an_option_that_builds_but_computes_wrongly(fresh, monkeypatch):
    """The trial is run, not only built."""
    path = compiler(fresh, f'case "$*" in *-mprefer*) exec {GCC} -Df_exp=f_log "$@";; esac')
    monkeypatch.setenv(COMPILER, str(path))
    tools = toolchain.toolchain()
    assert isinstance(tools, Toolchain), tools
    assert not any(flag.startswith("-mprefer") for flag in tools.flags)
    works()


@pytest.mark.parametrize("flags", ["-fno-openmp -march=x86-64", "-UFLUX_SIMD_MATH", "-O0 -g", "-O1 -DFLUX_SIMD_MATH=0"])
@needs_gcc
def test_the_user_s_own_flags_come_last(fresh, monkeypatch, flags):
    if "x86-64" in flags and os.uname().machine != "x86_64":
        pytest.skip("x86 only")
    monkeypatch.setenv(EXTRA_FLAGS, flags)
    tools = toolchain.toolchain()
    assert isinstance(tools, Toolchain), tools
    assert " ".join(tools.flags).endswith(flags)
    works()


def test_the_identity_depends_on_everything(fresh, monkeypatch):
    seen = {toolchain.toolchain().identity}
    monkeypatch.setenv(EXTRA_FLAGS, "-DSOMETHING")
    seen.add(toolchain.toolchain().identity)
    monkeypatch.setenv(EXTRA_FLAGS, "")
    for name, value in (
        ("_macros", lambda command, flags: '#define __VERSION__ "99"\n#define __AVX512F__ 1'),
        ("platform", type("P", (), {"machine": lambda: "vax", "libc_ver": lambda: ("glibc", "1")})),
    ):
        with monkeypatch.context() as m:
            m.setattr(toolchain, name, value)
            toolchain._toolchain.cache_clear()
            seen.add(toolchain.toolchain().identity)
    assert len(seen) == 4


def test_a_damaged_memory_is_tried_again(fresh):
    first = toolchain.toolchain()
    file = next((fresh / "cache").glob("*/flags.json"))
    assert tuple(json.loads(file.read_text())) == first.flags
    file.write_text("nonsense")
    toolchain._toolchain.cache_clear()
    assert toolchain.toolchain() == first


def test_a_truncated_library_is_built_again(fresh):
    """Loading it would kill the process."""
    x = np.ones(3, "float32")
    KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
    (library,) = (fresh / "cache").glob("*/kernels.so")
    whole = library.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"not a library"):
        host._libraries.clear()
        library.unlink()  # a new file: the old one is in use by this process
        library.write_bytes(damage)
        y = x.copy()
        assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, y, 3)
        assert (y == 2).all()
        assert library.read_bytes()[:4] == whole[:4]


def test_a_library_that_does_not_load_is_built_again(fresh, monkeypatch):
    """Sound, but from before an upgrade of the system, say."""
    x = np.ones(3, "float32")
    KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
    (library,) = (fresh / "cache").glob("*/kernels.so")
    library.unlink()
    library.write_bytes(b"of another world")
    (library.parent / "sha256").write_text(cache._checksum(library))
    host._libraries.clear()
    y = x.copy()
    assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, y, 3)
    assert (y == 2).all()


def test_an_unknown_layout_of_arrays_is_not_trusted(fresh, monkeypatch):
    """Where call.h does not read what Python knows, the arguments are checked in Python; the results are the same."""
    monkeypatch.setattr(host.Library, "_layout_is_known", lambda self: False)
    works()
    x = np.ones(3, "float32")
    with pytest.raises(TypeError, match=r"`const T\* x` takes float32"):
        KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, np.ones(3), x, 3)


def test_the_probe_sees_a_wrong_layout(fresh, monkeypatch):
    original = host._python_pointers()
    head = original[-1]
    for wrong in (head + 8, head + 16):
        monkeypatch.setattr(host, "_python_pointers", lambda wrong=wrong: [*original[:-1], wrong])
        host._libraries.clear()
        works()
        assert not any(library.trusted for library in host._libraries.values())
