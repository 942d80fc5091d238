"""The GPU reading as far as it goes without a GPU: arguments, builds, and a launch on a stand-in for CuPy."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minitorch_flux.readings import KernelFile, cache, device, kernel
from minitorch_flux.readings.device import Packer
from minitorch_flux.readings.nvrtc import nvrtc_version
from minitorch_flux.readings.source import read_kernels

SAMPLE = Path(__file__).parent / "sample.cu"
TYPES = {"T": np.dtype("float32"), "ACC": np.dtype("float32")}
needs_nvrtc = pytest.mark.skipif(nvrtc_version() is None, reason="no NVRTC")


def packer(name):
    return Packer(read_kernels(SAMPLE).signature(name), TYPES, np.ndarray)


def test_scalars_have_their_declared_size():
    """CuPy sends a bare Python int as 8 bytes, whatever the kernel declares."""
    x, y = np.ones(3, "f4"), np.ones(3, "f4")
    a, b, c, n = packer("axpy")((2.0, x, y, 3), "cpu")
    assert (type(a), type(n)) == (np.float32, np.int64)
    assert b is x
    assert c is y
    *_, rows, width = packer("softmax")((x, y, x, 1, 3), "cpu")
    assert (type(rows), type(width)) == (np.int64, np.int32)


def test_the_careful_way_gives_the_same():
    x, y = np.ones(3, "f4"), np.ones(3, "f4")
    quick = packer("axpy")((2.0, x, y, 3), "cpu")
    careful = packer("axpy")((np.float64(2), x, y, np.int8(3)), "cpu")
    assert quick == careful
    assert list(map(type, quick)) == list(map(type, careful))
    assert packer("axpy")((2, x, y, True), "cpu")[0] == np.float32(2)


def test_none_is_a_null_pointer():
    """CuPy would pass no address at all for None."""
    x = np.ones(3, "f4")
    null = packer("softmax")((x, None, x, 1, 3), "cpu")[1]
    assert type(null) is np.uint64
    assert null == 0


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((2.0, np.ones(3), np.ones(3, "f4"), 3), TypeError, r"axpy: `const T\* x` takes float32, got float64"),
        ((2.0, np.ones((3, 2), "f4").T, np.ones(3, "f4"), 3), ValueError, "takes a C-contiguous array"),
        ((2.0, None, np.ones(3, "f4"), 3), TypeError, "got None"),
        ((2.0, np.ones(3, "f4"), np.ones(3, "f4"), 2**70), OverflowError, "int"),
        ((2.0, np.ones(3, "f4"), np.ones(3, "f4"), 3.0), TypeError, "takes an integer"),
        ((2.0, np.ones(3, "f4"), np.ones(3, "f4")), TypeError, "axpy takes 4 arguments"),
    ],
)
def test_wrong_arguments(args, error, message):
    with pytest.raises(error, match=message):
        packer("axpy")(args, "cpu")


def test_another_device():
    x = np.ones(3, "f4")
    with pytest.raises(ValueError, match=r"`const T\* x` is on cpu, the call is for cuda:0; move it first"):
        packer("axpy")((2.0, x, x, 3), "cuda:0")


@pytest.fixture
def build(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    cache._checked.cache_clear()
    source = read_kernels(SAMPLE)

    def build(architecture=90, types=TYPES):
        return device.build(device.cuda_text(source, types, {}), source.name, architecture)

    return build


@needs_nvrtc
def test_builds_are_cached(build, monkeypatch):
    first = build()
    assert first.read_bytes()[:4] == b"\x7fELF"
    monkeypatch.setattr(device, "compile_cuda", lambda *args: pytest.fail("compiled again"))
    assert build() == first


@needs_nvrtc
def test_a_build_is_for_its_architecture_type_and_compiler(build, monkeypatch):
    double = {"T": np.dtype("float64"), "ACC": np.dtype("float64")}
    paths = {build(), build(80), build(types=double)}
    monkeypatch.setattr(device, "nvrtc_version", lambda: (99, 0))
    assert len(paths | {build()}) == 4


class Device:
    """A CUDA device as CuPy has it; remembers which one is current."""

    current = threading.local()

    def __init__(self, number, capability="90"):
        self.id, self.compute_capability = number, capability

    def __eq__(self, other):
        return self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def __enter__(self):
        Device.current.number = self.id

    def __exit__(self, *error):
        Device.current.number = None


class Elsewhere(np.ndarray):
    """An array that says it lives on a GPU."""

    device = Device(0)


def on(number, shape, dtype="float32", capability="90"):
    array = np.ones(shape, dtype).view(Elsewhere)
    array.device = Device(number, capability)
    return array


@pytest.fixture
def cupy(monkeypatch, tmp_path):
    """A stand-in for CuPy that notes launches."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    cache._checked.cache_clear()
    launches, most = [], {"threads": 512}

    class RawModule:
        def __init__(self, *, path):
            self.path = path

        def get_function(self, name):
            loaded_on = Device.current.number

            def run(grid, block, args):
                launches.append((name, grid, block, args, Device.current.number, loaded_on, self.path))

            run.max_threads_per_block = most["threads"]
            return run

    module = SimpleNamespace(ndarray=Elsewhere, RawModule=RawModule, launches=launches, most=most)
    monkeypatch.setattr(device, "array_module", lambda like: module)
    monkeypatch.setattr(kernel.np, "ndarray", type("NumPyArray", (), {}))
    return module


@needs_nvrtc
def test_a_launch(cupy):
    x, y = on(0, (9, 300)), on(0, (9, 300))
    assert KernelFile(SAMPLE)("softmax", x, 9, 300, x, None, y, 9, 300)
    ((name, grid, block, args, current, loaded_on, path),) = cupy.launches
    assert (name, grid, block) == ("softmax", (9,), (96, 1))
    assert args[0] is x
    assert args[1:2] == [0]
    assert args[2] is y
    assert args[3:] == [9, 300]
    assert (current, loaded_on) == (0, 0)
    assert Path(path).read_bytes()[:4] == b"\x7fELF"


@needs_nvrtc
def test_short_rows_elements_and_many_registers(cupy):
    x, y = on(0, 1000), on(0, 1000)
    file = KernelFile(SAMPLE)
    file("softmax", x, 20, 50, x, None, y, 20, 50)
    file("axpy", x, 1, 1000, 1.0, x, y, 1000)
    cupy.most["threads"] = 64
    KernelFile(SAMPLE)("softmax", x, 20, 50, x, None, y, 20, 50)
    assert [launch[1:3] for launch in cupy.launches] == [((3,), (32, 8)), ((4,), (256, 1)), ((10,), (32, 2))]


@needs_nvrtc
def test_each_device_has_its_own_code(cupy):
    file = KernelFile(SAMPLE)
    for number, capability in ((0, "90"), (1, "80"), (0, "90")):
        x = on(number, 3, capability=capability)
        file("axpy", x, 1, 3, 1.0, x, x, 3)
    assert [launch[4] for launch in cupy.launches] == [0, 1, 0]
    assert [launch[5] for launch in cupy.launches] == [0, 1, 0]
    assert cupy.launches[0][6] == cupy.launches[2][6] != cupy.launches[1][6]


@needs_nvrtc
def test_arrays_of_two_devices(cupy):
    with pytest.raises(ValueError, match=r"axpy: `T\* y` is on <CUDA Device 1>, the call is for <CUDA Device 0>; move"):
        KernelFile(SAMPLE)("axpy", on(0, 3), 1, 3, 1.0, on(0, 3), on(1, 3), 3)
    assert not cupy.launches


def test_no_nvrtc(cupy, monkeypatch):
    monkeypatch.setattr(device, "nvrtc_version", lambda: None)
    x = on(0, 3)
    assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x, 3) is False


@needs_nvrtc
def test_a_type_that_cuda_does_not_have(cupy):
    x = on(0, 3, "complex64")
    assert KernelFile(SAMPLE)("axpy", x, 1, 3, 1.0, x, x, 3) is False


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_on_a_device(dtype):
    """Every kernel of the sample on a real GPU, against the CPU reading."""
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no CUDA device")
    sample = KernelFile(SAMPLE)
    rng = np.random.default_rng(0)
    tolerance = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}[dtype]
    for rows, width in ((7, 33), (300, 1000), (1, 100_000)):
        x = rng.standard_normal((rows, width)).astype(dtype)
        bias = rng.standard_normal(width).astype(dtype)
        acc = "float64" if dtype == "float64" else "float32"
        for name, extra, outputs in (
            ("softmax", (bias,), [np.zeros_like(x)]),
            ("softmax", (None,), [np.zeros_like(x)]),
            ("moments", (), [np.zeros(rows, acc), np.zeros(rows, acc)]),
            ("reversed", (), [np.zeros_like(x), np.zeros_like(x)]),
        ):
            sample(name, x, rows, width, x, *extra, *outputs, rows, width)
            there = [cupy.asarray(a) if a is not None else None for a in (x, *extra)]
            results = [cupy.zeros_like(cupy.asarray(y)) for y in outputs]
            assert sample(name, there[0], rows, width, *there, *results, rows, width)
            for y, z in zip(outputs, results, strict=True):
                np.testing.assert_allclose(z.get(), y, rtol=tolerance, atol=tolerance, err_msg=name)
    v, w = cupy.ones(1_000_003, dtype), cupy.ones(1_000_003, dtype)
    assert sample("axpy", v, 1, v.size, 2.0, v, w, v.size)
    assert (w == 3).all()
