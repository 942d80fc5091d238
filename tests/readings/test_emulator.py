"""The emulator: right where the kernel is right, and it finds the bugs that the CPU reading cannot show."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minitorch_flux.readings import KernelBuildError, KernelError, KernelFile, emulator, source
from minitorch_flux.readings.emulator import EMULATIONS, EmulatorError, emulated

HERE = Path(__file__).parent
sample = KernelFile(HERE / "sample.cu")
integers = KernelFile(HERE / "integers.cu")


def launches(dtype, file=sample):
    """Every kernel of the sample on small data: [(arguments of the call, array it writes, expected)]."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 100)) + 3).astype(dtype)
    wide, acc = x.astype("float64"), "float64" if dtype == "float64" else "float32"
    bias = rng.standard_normal(100).astype(dtype)
    cases = []

    def case(name, rows, width, outputs, expected, *args, **keywords):
        cases.append((name, rows, width, args, keywords, outputs, expected))

    y = np.ones(500, dtype)
    case("axpy", 1, 500, [y], [1 + 2 * wide.ravel()], 2.0, x, y, 500)
    for b in (None, bias):
        y = np.full_like(x, np.nan)
        e = wide + (0 if b is None else b.astype("float64"))
        e = np.exp(e - e.max(1, keepdims=True))
        case("softmax", 5, 100, [y], [e / e.sum(1, keepdims=True)], x, b, y, 5, 100)
    mean, m2 = np.full(5, np.nan, acc), np.full(5, np.nan, acc)
    case("moments", 5, 100, [mean, m2], [wide.mean(1), wide.var(1) * 100], x, mean, m2, 5, 100)
    y = np.full_like(x, np.nan)
    case("reversed", 5, 100, [y], [x[:, ::-1]], x, y, np.empty_like(x), 5, 100)
    planes = x[:, :96].copy()
    y = np.full((5, 4, 6), np.nan, dtype)
    pooled = planes.reshape(5, 4, 2, 6, 2).max((2, 4))
    case("max_pool", 20, 6, [y], [pooled], planes, y, 5, 8, 12, constants={"KH": 2, "KW": 2})
    return cases


@pytest.mark.parametrize(
    ("how", "dtype"),
    [*((how, "float32") for how in EMULATIONS), *((how, "float64") for how in EMULATIONS[:3])],
    ids=str,
)
def test_right_kernels(how, dtype):
    for name, rows, width, args, keywords, outputs, expected in launches(dtype):
        with emulated(**how) as emulation:
            assert sample(name, args[1] if name == "axpy" else args[0], rows, width, *args, **keywords)
        assert emulation.launches == 1
        for y, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(y, wanted, rtol=1e-4 if dtype == "float32" else 1e-12, err_msg=name)


def test_half_precision():
    for name, rows, width, args, keywords, outputs, expected in launches("float16"):
        like = args[1] if name == "axpy" else args[0]
        with emulated(grid=2, lanes=64):
            if not sample(name, like, rows, width, *args, **keywords):
                pytest.skip("this compiler has no 16-bit type")
        for y, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(y, wanted, rtol=5e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("how", EMULATIONS[:3], ids=str)
def test_integers_and_types(how):
    x = np.random.default_rng(0).integers(-5, 5, (5, 100)).astype("int16")
    largest, times = np.zeros(5, "int16"), np.zeros(5, "int32")
    with emulated(**how):
        integers("count_max", x, 5, 100, x, largest, times, 5, 100)
    np.testing.assert_array_equal(largest, x.max(1))
    np.testing.assert_array_equal(times, (x == x.max(1, keepdims=True)).sum(1))
    at, y = np.array([3, 0, 4], "int32"), np.zeros(3, "int16")
    with emulated(**how):
        integers("pick", x, 1, 3, x, at, y, 3, I=at.dtype)
    np.testing.assert_array_equal(y, x.ravel()[at])


@pytest.mark.parametrize("how", EMULATIONS[:3], ids=str)
@pytest.mark.parametrize("place", [0, 31, 32, 99])
def test_a_nan_wins_a_maximum(how, place):
    x = np.ones((1, 100), "float32")
    x[0, place] = np.nan
    largest, times = np.zeros(1, "float32"), np.zeros(1, "int32")
    with emulated(**how):
        integers("count_max", x, 1, 100, x, largest, times, 1, 100)
    assert np.isnan(largest[0])


def test_empty_arrays():
    x = np.zeros((0, 5), "float32")
    with emulated():
        assert sample("softmax", x, 0, 5, x, None, x.copy(), 0, 5)
        assert sample("axpy", x, 1, 0, 1.0, x, x.copy(), 0)


def test_functions_are_the_c_library_s():
    x = np.random.default_rng(0).uniform(0.1, 0.9, 50)
    y, z = np.zeros((26, 50)), np.zeros((26, 50))
    with emulated():
        sample("functions", x, 1, 50, x, y, 50)
    sample("functions", x, 1, 50, x, z, 50)
    np.testing.assert_allclose(y, z, rtol=1e-14, atol=1e-15)


# ------------------------------------------------------------------ planted bugs

BLOCKS = {"grid": 3, "lanes": 64}
WARPS = {"grid": 2, "lanes": 32, "rows": 4}
ADDRESS = BLOCKS | {"sanitize": "address"}
THREAD = BLOCKS | {"sanitize": "thread"}

SYNC = "    __syncthreads();                     // an earlier call may still be reading part\n"
# (kernel, file, text, planted instead, run in, report; None: no report, but a wrong result)
BUGS = {
    "forgotten row_sum": ("moments", "sample.cu", "row_sum(s) / width", "s / width", BLOCKS, None),
    "forgotten row_max": ("softmax", "sample.cu", "m = row_max(m);", "", BLOCKS, None),
    "no barrier after part[]=": (
        "moments",
        "flux.h",
        "part[warp] = v;\n    __syncthreads();",
        "part[warp] = v;",
        BLOCKS,
        None,
    ),
    "no barrier before part[]=": ("moments", "flux.h", SYNC, "", THREAD, "data race"),
    "forgotten ROW_SYNC": ("reversed", "sample.cu", "ROW_SYNC();", "", THREAD, "data race"),
    "forgotten ONE_LANE": ("moments", "sample.cu", "ONE_LANE {", "{", THREAD, "data race"),
    "rows write into one cell": ("moments", "sample.cu", "mean[r] = mu;", "mean[0] = mu;", THREAD, "data race"),
    "a write into the next row": (
        "reversed",
        "sample.cu",
        "LANES(j, width) y[r * width + j] =",
        "LANES(j, width + (r < rows - 1)) y[r * width + j] =",
        THREAD,
        "data race",
    ),
    "a loop that waits for the loop before": (
        "reversed",
        "sample.cu",
        "        ROW_SYNC();\n        LANES(j, width) y[r * width + j] = work[r * width + width - 1 - j];\n",
        "    }\n    ROWS(r, rows, width) {\n        LANES(j, width) y[r * width + j] = work[j];\n",
        WARPS | {"sanitize": "thread"},
        "data race",
    ),
    "a barrier that some threads miss": (
        "moments",
        "sample.cu",
        "q = row_sum(q);",
        "if (threadIdx.x < 40) q = row_sum(q);",
        BLOCKS,
        "block 0 has a barrier that not every thread reaches",
    ),
    "a read beyond the end": (
        "reversed",
        "sample.cu",
        "= x[r * width + j];",
        "= x[r * width + j + 1];",
        ADDRESS,
        "heap-buffer-overflow",
    ),
    "a write beyond the end": (
        "axpy",
        "sample.cu",
        "EACH(i, n) y[i] = T(ACC(y[i])",
        "EACH(i, n + 1) y[i] = T(ACC(y[i])",
        ADDRESS,
        "heap-buffer-overflow",
    ),
    "an overflow in an index": (
        "moments",
        "sample.cu",
        "ACC s = 0, q = 0;\n",
        "ACC s = 0, q = 0; int far = width * 100000000; if (far == 7) s = 1;\n",
        ADDRESS,
        "signed integer overflow",
    ),
}


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """The kernels' folder as a copy with one bug in it: planted(name of the bug) -> its KernelFile."""
    shutil.copytree(source.kernels_folder(), tmp_path / "kernels")
    shutil.copy(HERE / "sample.cu", tmp_path / "kernels")
    monkeypatch.setattr(source, "PACKAGE", tmp_path / "minitorch_flux")

    def plant(bug):
        _, file, text, instead, _, _ = BUGS[bug]
        path = tmp_path / "kernels" / file
        before = path.read_text()
        assert before.count(text) == 1, "the bug's place has changed"
        path.write_text(before.replace(text, instead))
        return KernelFile(tmp_path / "kernels" / "sample.cu")

    return plant


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found(planted, bug):
    kernel, file, _, _, how, report = BUGS[bug]
    mutant = planted(bug)
    case = next(c for c in launches("float32") if c[0] == kernel)
    name, rows, width, args, keywords, outputs, expected = case
    like = args[1] if name == "axpy" else args[0]
    if report is None:
        with emulated(**how):
            mutant(name, like, rows, width, *args, **keywords)
        agree = [np.allclose(y, wanted, rtol=1e-4) for y, wanted in zip(outputs, expected, strict=True)]
        assert not all(agree)
        return
    with pytest.raises(EmulatorError, match=f"{name} of sample.cu, .* blocks") as found, emulated(**how):
        mutant(name, like, rows, width, *args, **keywords)
    assert report in str(found.value)
    if "barrier that" not in report:  # a sanitizer's report names the place
        assert f"{file}:" in str(found.value)


def test_the_cpu_reading_does_not_see_a_forgotten_row_sum(planted):
    """Why the emulator is needed."""
    mutant = planted("forgotten row_sum")
    case = next(c for c in launches("float32") if c[0] == "moments")
    name, rows, width, args, keywords, outputs, expected = case
    assert mutant(name, args[0], rows, width, *args, **keywords)
    np.testing.assert_allclose(outputs[0], expected[0], rtol=1e-5)


# ------------------------------------------------------------------ the interface


def test_the_emulation_ends_with_its_block():
    x = np.ones(3, "float32")
    with pytest.raises(ZeroDivisionError), emulated() as emulation:
        raise ZeroDivisionError
    sample("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
    assert emulation.launches == 0


def test_emulations_nest():
    x = np.ones(3, "float32")
    with emulated() as outer:
        with emulated(backwards=True) as inner:
            sample("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
        sample("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
    assert (outer.launches, inner.launches) == (1, 1)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sanitize": "memory"}, "sanitize='memory': use 'address', 'undefined', 'thread' or None"),
        ({"lanes": 40}, "lanes=40, rows=None: a block has whole warps of 32 lanes"),
        ({"lanes": 64, "rows": 2}, "several rows only where a row is one warp"),
        ({"lanes": 2048}, "up to 1024 threads"),
        ({"lanes": 32, "rows": 64}, "up to 1024 threads"),
    ],
)
def test_wrong_shapes(keywords, message):
    with pytest.raises(ValueError, match=message), emulated(**keywords):
        pass


def test_wrong_arguments():
    x = np.ones(3, "float32")
    with emulated():
        with pytest.raises(TypeError, match=r"axpy: `const T\* x` takes float32"):
            sample("axpy", x, 1, 3, 1.0, np.ones(3), x, 3)
        with pytest.raises(KernelError, match="no kernel 'axpi'"):
            sample("axpi", x, 1, 3)
        with pytest.raises(KernelError, match="max_pool of sample.cu needs KH, KW"):
            sample("max_pool", x, 1, 3)
        z = np.ones(3, "complex64")
        assert sample("axpy", z, 1, 3, 1.0, z, z, 3) is False


def test_read_only_inputs_stay_as_they_are():
    x = np.ones(3, "float32")
    x.flags.writeable = False
    y = np.ones(3, "float32")
    with emulated():
        sample("axpy", x, 1, 3, 1.0, x, y, 3)
    np.testing.assert_array_equal(y, 2)


def test_a_text_that_does_not_build(tmp_path):
    path = tmp_path / "broken.cu"
    path.write_text("KERNEL(a)(T* y, int n) {\n    EACH(i, n) y[i] = nowhere;\n}\n")
    x = np.ones(3, "float32")
    with emulated(), pytest.raises(KernelBuildError, match=r"broken\.cu:2:\d+: error: .*nowhere"):
        KernelFile(path)("a", x, 1, 3, x, 3)


def test_a_warning_is_a_failure(tmp_path):
    path = tmp_path / "sloppy.cu"
    path.write_text("KERNEL(a)(T* y, int n) {\n    int unused = 3;\n    EACH(i, n) y[i] = 1;\n}\n")
    x = np.ones(3, "float32")
    with emulated(), pytest.raises(KernelBuildError, match=r"sloppy\.cu:2:\d+: error: unused variable"):
        KernelFile(path)("a", x, 1, 3, x, 3)


def test_too_much_shared_memory(tmp_path):
    path = tmp_path / "large.cu"
    path.write_text(
        "KERNEL(a)(T* y, int n) {\n    ROWS(r, n, 1) { SHARED(T, part, 20000); ONE_LANE y[r] = part[0]; }\n}\n"
    )
    x = np.ones(3, "float32")
    with emulated(), pytest.raises(EmulatorError, match="over 49152 bytes or 63 pieces of __shared__"):
        KernelFile(path)("a", x, 3, 1, x, 3)


def test_address_randomisation_that_tsan_cannot_work_with(monkeypatch):
    original, commands = emulator._run, []

    def run(command, patience):
        commands.append(command)
        if "-R" not in command:
            return SimpleNamespace(returncode=66, stderr="FATAL: ThreadSanitizer: unexpected memory mapping 0x1-0x2")
        return original(command[2:], patience)  # setarch itself may be forbidden here

    monkeypatch.setattr(emulator, "_run", run)
    monkeypatch.setattr(emulator.shutil, "which", lambda name: f"/usr/bin/{name}")
    x, y = np.ones(3, "float32"), np.ones(3, "float32")
    with emulated(sanitize="thread"):
        sample("axpy", x, 1, 3, 1.0, x, y, 3)
    assert (y == 2).all()
    assert commands[1] == ["/usr/bin/setarch", "-R", *commands[0]]


def test_as_many_blocks_as_a_gpu_gets():
    """The launch shape is the GPU's own, however many blocks that is."""
    x = np.random.default_rng(0).standard_normal((4_000, 3)).astype("float32")
    mean, m2 = np.zeros(4_000, "float32"), np.zeros(4_000, "float32")
    with emulated():
        sample("moments", x, 4_000, 3, x, mean, m2, 4_000, 3)
    np.testing.assert_allclose(mean, x.mean(1), rtol=1e-4, atol=1e-6)


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("MINITORCH_FLUX_CXX", "/nowhere/g++")
    x = np.ones(3, "float32")
    with emulated(), pytest.raises(KernelError, match="the emulator needs a C.. compiler: .*install"):
        sample("axpy", x, 1, 3, 1.0, x, x.copy(), 3)
