"""Kernels that read their numbers from memory: the same text, the same bits, built for GPUs and run in the emulator."""

import numpy as np
import pytest

from minitorch_flux.readings.emulator import Emulation
from minitorch_flux.readings.kernel import KernelFile
from minitorch_flux.readings.live import Numbers, live_source
from minitorch_flux.readings.nvrtc import compile_cuda, cuda_text, nvrtc_version, warnings_of
from minitorch_flux.readings.toolchain import toolchain

F4, F8 = np.dtype("f4"), np.dtype("f8")
PLACE = (5, 6, 2**40 + 7, 3)  # a key and a counter


def rng():
    return np.random.default_rng(0)


def dropout(dtype):
    x = rng().standard_normal(70).astype(dtype)
    return (1, 256), (x, np.zeros_like(x), 2.0, 0.5, -1.0, 2**31, *PLACE, x.size)


def uniform(dtype):
    y = np.zeros(21, dtype)
    return (1, 6), (y, *PLACE, y.size)


def bernoulli(dtype):
    y = np.zeros(21, bool)
    return (1, 6), (y, 2**31 + 5, *PLACE, y.size)


def adam(dtype):
    x, dx, m, v, top = (rng().uniform(0.5, 2, 36).astype(dtype) for _ in range(5))
    begins = np.array([0, 33], np.int64)
    table = (x, begins * dtype.itemsize, dx, begins * dtype.itemsize, begins, np.array([33, 3], np.int64), None, 2, 33)
    return (2, 33), (*table, m, v, top, 1.0, 0.1, 0.99, 0.9, 0.1, 0.99, 0.01, 1.0, 1e-3, 2.0, 1e-3, 0.01, 0.02)


CASES = {
    ("dropouts.cu", "dropout_forward"): (dropout, {}),
    ("philox.cu", "philox_uniform"): (uniform, {"BITS": 24}),
    ("philox.cu", "philox_bernoulli"): (bernoulli, {"BITS": 24}),
    ("updates.cu", "adam_update"): (adam, {}),
}


def arranged(file, name, dtype):
    make, constants = CASES[file, name]
    constants = {"BITS": 53} if constants and dtype == F8 and name == "philox_uniform" else constants
    types = {"T": dtype, "ACC": dtype}
    return KernelFile(file).source, types, constants, *make(dtype)


@pytest.mark.skipif(isinstance(toolchain(), str), reason="no C++ compiler")
@pytest.mark.parametrize(("file", "name"), CASES)
def test_the_entry_does_what_the_kernel_does(file, name):
    source, types, constants, (rows, width), args = arranged(file, name, F4)
    live, entry = live_source(source, name)
    numbers = Numbers(source.signature(name), types)
    memory = np.zeros(numbers.size, np.uint64)
    numbers.write(numbers.place(memory), args)
    other = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    assert Emulation().launch(source, source.signature(name), types, constants, rows, width, args)
    assert Emulation().launch(live, entry, types, constants, rows, width, (*[other[i] for i in numbers.arrays], memory))
    for a, b in zip(args, other, strict=True):
        if isinstance(a, np.ndarray):
            assert a.tobytes() == b.tobytes()


@pytest.mark.skipif(nvrtc_version() is None, reason="no NVRTC")
@pytest.mark.parametrize(("file", "name"), CASES)
def test_gpus_have_it(file, name):
    source, types, constants, _, _ = arranged(file, name, F8)
    live, entry = live_source(source, name)
    for architecture in (75, 120):
        program = compile_cuda(cuda_text(live, types, constants), file, architecture)
        assert warnings_of(program.log) == []
        assert program.usage[entry.name].spilled == 0
        assert name not in program.usage


def test_the_other_kernels_of_the_file_stay():
    source = KernelFile("updates.cu").source
    live, entry = live_source(source, "adam_update")
    assert set(live.kernels) == set(source.kernels) - {"adam_update"} | {"adam_update_live"}
    for name, s in live.kernels.items():
        assert live.text[s.start :].startswith(f"KERNEL({name})(")
        assert live.text[s.end - 1] == "}"
    assert [str(p) for p in entry.parameters[-2:]] == ["ACC* top", "const uint64_t* flux_numbers"]
    assert entry.parameters[0].optional


def test_numbers_are_cast_as_a_launch_casts_them():
    signature = KernelFile("philox.cu").source.signature("philox_uniform")
    numbers = Numbers(signature, {"T": F4, "ACC": F4})
    memory = np.zeros(numbers.size, np.uint64)
    views = numbers.place(memory)
    numbers.write(views, (None, 7, 2**32 - 1, 2**64 - 1, 1, 2**40))
    assert [v[0].item() for v in views] == [7, 2**32 - 1, 2**64 - 1, 1, 2**40]
    assert memory.tolist() == [7, 2**32 - 1, 2**64 - 1, 1, 2**40]
    signature = KernelFile("dropouts.cu").source.signature("dropout_forward")
    numbers = Numbers(signature, {"T": F4, "ACC": F4})
    views = numbers.place(np.zeros(numbers.size, np.uint64))
    numbers.write(views, (None, None, 0.1, 1 / 3, 2.0, 1, 2, 3, 4, 5, 6))
    assert views[0][0] == np.float32(0.1)
    assert views[1][0] == np.float32(1 / 3)
    with pytest.raises(OverflowError):
        numbers.write(views, (None, None, 0.1, 1 / 3, 2.0, -1, 2, 3, 4, 5, 6))
