"""KernelFile: one call, the reading that fits; here the CPU's, against NumPy and SciPy."""

import math
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.readings import KernelBuildError, KernelError, KernelFile, host
from minitorch_flux.readings.emulator import emulated
from tests.oracles import HAS_COMPILER

SAMPLE = Path(__file__).parent / "sample.cu"
sample = KernelFile(SAMPLE)
integers = KernelFile(Path(__file__).parent / "integers.cu")
DTYPES = ["float16", "float32", "float64"]
TOLERANCE = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}
shapes = st.tuples(st.integers(0, 5), st.integers(1, 70))


def softmax(x, bias=None):
    x = x.astype("float64") + (0 if bias is None else bias.astype("float64"))
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@given(shape=shapes, dtype=st.sampled_from(DTYPES), biased=st.booleans(), seed=st.integers(0, 9))
def test_softmax(shape, dtype, biased, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 5).astype(dtype)
    bias = rng.standard_normal(shape[1]).astype(dtype) if biased else None
    before, y = x.copy(), np.full_like(x, np.nan)
    assert sample("softmax", x, *shape, x, bias, y, *shape)
    np.testing.assert_allclose(y, softmax(x, bias), rtol=TOLERANCE[dtype] * 4, atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(x, before)


@given(shape=shapes, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 9))
def test_moments(shape, dtype, seed):
    x = (np.random.default_rng(seed).standard_normal(shape) + 3).astype(dtype)
    accumulated = "float64" if dtype == "float64" else "float32"
    mean, m2 = np.full(shape[0], np.nan, accumulated), np.full(shape[0], np.nan, accumulated)
    assert sample("moments", x, *shape, x, mean, m2, *shape)
    wide = x.astype("float64")
    tolerance = TOLERANCE[accumulated] * 10
    np.testing.assert_allclose(mean, wide.mean(1), rtol=tolerance)
    np.testing.assert_allclose(m2, wide.var(1) * shape[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64", *DTYPES])
def test_integers_and_counts(dtype):
    x = np.random.default_rng(0).integers(0, 5, (7, 100)).astype(dtype)
    largest, times = np.zeros(7, dtype), np.zeros(7, "int32")
    assert integers("count_max", x, 7, 100, x, largest, times, 7, 100)
    np.testing.assert_array_equal(largest, x.max(1))
    np.testing.assert_array_equal(times, (x == x.max(1, keepdims=True)).sum(1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", [0, 1, 15, 16, 63, 64, 98, 99])
def test_a_nan_wins_a_maximum_wherever_it_is(dtype, place):
    x = np.random.default_rng(0).standard_normal((1, 100)).astype(dtype)
    x[0, place] = np.nan
    largest, times = np.zeros(1, dtype), np.zeros(1, "int32")
    integers("count_max", x, 1, 100, x, largest, times, 1, 100)
    assert np.isnan(largest[0])


@pytest.mark.parametrize("window", [2, 3])
def test_constants(window):
    x = np.random.default_rng(0).standard_normal((4, 12, 18)).astype("float32")
    y = np.empty((4, 12 // window, 18 // window), "float32")
    constants = {"KH": window, "KW": window}
    assert sample("max_pool", x, 4 * y.shape[1], y.shape[2], x, y, 4, 12, 18, constants=constants)
    np.testing.assert_array_equal(y, x.reshape(4, 12 // window, window, 18 // window, window).max((2, 4)))


@pytest.mark.parametrize("index", ["int32", "int64", "uint8"])
def test_types_of_the_call(index):
    x = np.arange(10, dtype="float32") * 2
    at, y = np.array([3, 1, 9, 3], index), np.empty(4, "float32")
    assert integers("pick", x, 1, 4, x, at, y, 4, I=at.dtype)
    np.testing.assert_array_equal(y, x[at])


def test_functions_of_the_vocabulary():
    x = np.random.default_rng(0).uniform(0.01, 0.99, 200)
    names = "exp log sin cos tanh erf expm1 log1p tan sinh cosh exp2 asin acos atan log2 asinh acosh atanh log10 sqrt"
    functions = [getattr(math, name) for name in names.split()]
    functions[functions.index(math.acosh)] = lambda v: math.acosh(1 + v)
    functions += [
        abs,
        lambda v: math.floor(9 * v),
        lambda v: math.ceil(9 * v),
        lambda v: round(9 * v),
        lambda v: v**2.5,
    ]
    for dtype in ("float32", "float64"):
        v = x.astype(dtype)
        y = np.full((len(functions), x.size), np.nan, dtype)
        assert sample("functions", v, 1, x.size, v, y, x.size)
        for row, f in zip(y, functions, strict=True):
            expected = [f(value) for value in v.tolist()]
            np.testing.assert_allclose(row, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_values_beyond_all_bounds():
    x = np.array([0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-40, -0.0], "float32")
    y = np.zeros((26, 8), "float32")
    sample("functions", x, 1, 8, x, y, 8)
    with np.errstate(all="ignore"):
        for row, f in ((0, np.exp), (1, np.log), (4, np.tanh), (6, np.expm1), (20, np.sqrt)):
            np.testing.assert_allclose(y[row], f(x), rtol=1e-5)
    assert y[21, 6] == np.float32(1e-40)  # denormals survive


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_rows_on_several_threads(threads):
    """Above the threshold the rows are dealt out; below it one thread does all. The result is the same, bit for bit."""
    from minitorch_flux.backend.threads import num_threads, set_num_threads

    x = np.random.default_rng(0).standard_normal((6001, 100)).astype("float32")
    y, z = np.zeros_like(x), np.zeros_like(x)
    assert x.size > 500_000
    before = num_threads()
    try:
        set_num_threads(threads)
        sample("softmax", x, *x.shape, x, None, y, *x.shape)
    finally:
        set_num_threads(before)
    for i in range(0, 6001, 1000):
        part, out = x[i : i + 1000], z[i : i + 1000]
        sample("softmax", part, *part.shape, part, None, out, *part.shape)
    np.testing.assert_array_equal(y, z)
    w = np.ones(1_000_003, "float32")
    v = w.copy()
    sample("axpy", v, 1, v.size, 2.0, w, v, v.size)
    assert (v == 3).all()


def test_nothing_happens_before_the_first_call(tmp_path):
    file = KernelFile(tmp_path / "none.cu")
    assert repr(file) == f"KernelFile({str(tmp_path / 'none.cu')!r})"
    x = np.ones(1, "f4")
    with pytest.raises(KernelError, match="there is no kernel file"):
        file("axpy", x, 1, 1, 1.0, x, x, 1)


def test_a_name_is_in_the_library_s_own_folder():
    from minitorch_flux.readings.source import kernels_folder

    assert KernelFile("philox.cu").source.path == kernels_folder() / "philox.cu"


def test_numpy_scalars_subclasses_and_views(tmp_path):
    """What the quick check in C refuses, the careful one takes."""
    x, y = np.arange(6, dtype="float32"), np.zeros(6, "float32")
    assert sample("axpy", x, 1, 6, np.float64(2), x, y, np.int64(6))
    mapped = np.memmap(tmp_path / "m", "float32", "w+", shape=6)
    mapped[:] = x
    assert sample("axpy", x, 1, 6, 1, mapped, y, 6)
    assert sample("axpy", x.reshape(2, 3), 1, 6, True, x.reshape(1, 6), y[:], np.uint8(6))
    np.testing.assert_array_equal(y, x * 4)


def test_empty_arrays():
    x = np.zeros((0, 5), "float32")
    assert sample("softmax", x, 0, 5, x, None, x.copy(), 0, 5)
    assert sample("axpy", x, 1, 0, 1.0, x, x.copy(), 0)


def test_wrong_arguments():
    x, y = np.ones(3, "f4"), np.ones(3, "f4")
    with pytest.raises(TypeError, match=r"axpy: `const T\* x` takes float32, got float64"):
        sample("axpy", x, 1, 3, 1.0, np.ones(3), y, 3)
    with pytest.raises(TypeError, match=r"axpy: `const T\* x` got None"):
        sample("axpy", x, 1, 3, 1.0, None, y, 3)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        sample("axpy", x, 1, 3, 1.0, x, y, 3)
    with pytest.raises(OverflowError, match=r"softmax: `int width` takes int32"):
        sample("softmax", x, 1, 3, x, None, x.copy(), 1, 2**40)
    with pytest.raises(OverflowError, match=r"`long long n` takes int64"):
        sample("axpy", x, 1, 3, 1.0, x, x.copy(), 2**70)
    with pytest.raises(TypeError, match=r"axpy takes 4 arguments \(ACC a, const T\* x, T\* y, long long n\), got 3"):
        sample("axpy", x, 1, 3, 1.0, x, x)
    with pytest.raises(TypeError, match=r"softmax: `const T\* bias` takes float32, got int64"):
        sample("softmax", x, 1, 3, x, np.ones(3, "i8"), x.copy(), 1, 3)


def test_wrong_kernels_constants_and_types():
    x = np.ones(4, "f4")
    with pytest.raises(KernelError, match=r"sample.cu has no kernel 'axpi'; it has axpy, softmax"):
        sample("axpi", x, 1, 3)
    with pytest.raises(KernelError, match="max_pool of sample.cu needs KH, KW: pass constants="):
        sample("max_pool", x, 1, 4, x, x, 1, 2, 2)
    with pytest.raises(KernelError, match="max_pool of sample.cu needs KW: pass"):
        sample("max_pool", x, 1, 4, x, x, 1, 2, 2, constants={"KH": 1})
    with pytest.raises(KernelError, match="pick of integers.cu needs I"):
        integers("pick", x, 1, 4, x, x, x, 4)
    with pytest.raises(KernelError, match="sample.cu does not declare KD"):
        sample("axpy", x, 1, 4, 1.0, x, x, 4, constants={"KD": 1})


def write(folder, text):
    path = folder / "broken.cu"
    path.write_text(text)
    return KernelFile(path)


def test_a_kernel_that_an_if_takes_away(tmp_path):
    file = write(tmp_path, "// constants: K=1\n#if K > 1\nKERNEL(a)(T* y, int n) { EACH(i, n) y[i] = 1; }\n#endif\n")
    x = np.zeros(2, "f4")
    with pytest.raises(KernelError, match="broken.cu has no kernel 'a' when built with K=1"):
        file("a", x, 1, 2, x, 2, constants={"K": 1})
    assert file("a", x, 1, 2, x, 2, constants={"K": 2})
    with pytest.raises(KernelError, match="has no kernel 'a' when built with no constants"):
        file("a", x, 1, 2, x, 2)


def test_a_build_failure_names_the_file_and_the_line(tmp_path):
    file = write(tmp_path, "// a comment\nKERNEL(a)(T* y, int n) {\n    EACH(i, n)\n        y[i] = nowhere;\n}\n")
    x = np.zeros(2, "f4")
    with pytest.raises(KernelBuildError, match=r"refused broken.cu:\n(.*\n)*.*broken\.cu:4:16: error: .*nowhere"):
        file("a", x, 1, 2, x, 2)


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "O", "S4"])
def test_no_reading_for_such_a_type(dtype):
    x = np.zeros(3, dtype)
    assert sample("axpy", x, 1, 3, 1.0, x, x, 3) is False


def test_no_half_type_in_this_compiler(monkeypatch):
    monkeypatch.setattr(host.Toolchain, "half", False)
    x = np.zeros(3, "float16")
    assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x, 3) is False


def test_threads_that_need_the_same_library(tmp_path, monkeypatch):
    """Ten Python threads call a kernel that nobody has built: it is compiled once, and all are served."""
    monkeypatch.setenv("MINITORCH_FLUX_CACHE", str(tmp_path / "cache"))
    built = []
    original = host._compile
    monkeypatch.setattr(host, "_compile", lambda *args: (built.append(args[2]), original(*args)))
    path = tmp_path / "fresh.cu"
    path.write_text(f"// {tmp_path}\nKERNEL(fill)(T* y, ACC a, int n) {{ EACH(i, n) y[i] = a; }}\n")
    file, gate, results = KernelFile(path), threading.Barrier(10), {}

    def work(i):
        y = np.zeros(100, "f4" if i % 2 else "f8")
        gate.wait()
        file("fill", y, 1, 100, y, i, 100)
        results[i] = y

    threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((results[i] == i).all() for i in range(10))
    assert built == ["fresh.cu", "fresh.cu"]  # once for each dtype


def run(program, **environment):
    environment = os.environ | {"PYTHONPATH": os.getcwd()} | environment
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(SAMPLE)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_launch():
    """OpenMP's threads do not survive a fork; a parallel launch in the child must not wait for them."""
    program = """
        import os, signal, sys
        import numpy as np
        from minitorch_flux.readings import KernelFile
        from minitorch_flux.backend.threads import set_num_threads

        set_num_threads(2)
        n = 2_000_000
        x, y = np.ones(n, np.float32), np.ones(n, np.float32)
        sample = KernelFile(sys.argv[1])
        sample("axpy", x, 1, n, 2.0, x, y, n)
        if os.fork() == 0:
            signal.alarm(20)
            sample("axpy", x, 1, n, 2.0, x, y, n)
            os._exit(0 if (y == 5).all() else 1)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert run(program) == "0"


def test_the_environment_is_left_as_it_was():
    program = """
        import ctypes, os, sys
        import numpy as np
        from minitorch_flux.readings import KernelFile

        before = dict(os.environ)
        x = np.ones(3, np.float32)
        KernelFile(sys.argv[1])("axpy", x, 1, 3, 2.0, x, x.copy(), 3)
        assert dict(os.environ) == before
        ctypes.CDLL(None).getenv.restype = ctypes.c_char_p
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_char_p
        print(getenv(b"OMP_WAIT_POLICY"))
    """
    assert run(program) == "None"
    assert run(program, OMP_WAIT_POLICY="ACTIVE") == "b'ACTIVE'"


def test_openmp_waits_passively():
    """Spinning threads would starve NumPy's BLAS. The runtime says what it read while it was loaded."""
    from minitorch_flux.readings.toolchain import Toolchain, toolchain

    tools = toolchain()
    if not isinstance(tools, Toolchain) or not tools.openmp or "Clang" in tools.version:
        pytest.skip("asks libgomp")
    program = """
        import sys
        import numpy as np
        from minitorch_flux.readings import KernelFile

        x = np.ones(3, np.float32)
        KernelFile(sys.argv[1])("axpy", x, 1, 3, 2.0, x, x.copy(), 3)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(SAMPLE)]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_DISPLAY_ENV": "VERBOSE"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True).stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said
    assert "GOMP_SPINCOUNT = '3000'" in said


def test_importing_reads_no_compiler():
    program = """
        import sys
        from minitorch_flux.readings import KernelFile

        file = KernelFile("philox.cu")
        print([name for name in ("subprocess", "tempfile", "hashlib") if name in sys.modules])
    """
    # The other parts of the package may need these; the readings do not.
    bare = f"""
        import sys, types
        package = types.ModuleType("minitorch_flux")
        package.__path__ = [{str(Path(host.__file__).parent.parent)!r}]
        sys.modules["minitorch_flux"] = package
        before = set(sys.modules)
        import numpy
        after_numpy = set(sys.modules)
        {textwrap.dedent(program).strip().splitlines()[1]}
        print(sorted({{"subprocess", "tempfile", "json", "platform"}} & (set(sys.modules) - after_numpy)))
    """
    assert run(bare) == "[]"


def test_a_kernel_may_have_the_name_of_a_function_of_the_c_library(tmp_path):
    path = tmp_path / "names.cu"
    path.write_text("KERNEL(select)(const T* __restrict__ x, T* __restrict__ y, int n) { EACH(i, n) y[i] = x[i] * T(2); }\n")
    x = np.arange(5, dtype=np.float32)
    y = np.empty_like(x)
    assert KernelFile(path)("select", x, 1, 5, x, y, 5)
    assert y.tolist() == [0, 2, 4, 6, 8]


def test_a_text_for_gpus_only_declines_on_the_cpu(tmp_path):
    path = tmp_path / "only.cu"
    path.write_text("// gpu: sm=80 block=64 T=float32\n#include \"flux.h\"\n"
                    "KERNEL(a)(T* y, long long n) { ROWS(r, n, 1) ONE_LANE y[r] = T(blockDim.x); }\n")
    file, y = KernelFile(path), np.zeros(3, np.float32)
    assert not file.runs_on(y)
    assert file("a", y, 3, 1, y, 3) is False
    if HAS_COMPILER:
        with emulated(lanes=32) as emulation:
            assert file.runs_on(y)
            assert file("a", y, 3, 1, y, 3)
            assert file("a", y.astype(np.float64), 3, 1, y, 3) is False
        assert emulation.launches == 1
        assert (y == 64).all()  # the block that the text asks for
