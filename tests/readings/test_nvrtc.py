"""CUDA's compiler on every kernel, with no GPU: no error, no warning, no spilled register, and few registers.

A program or two of each file, each time the same ones, for some architecture and dtype; with --slow every architecture
that this NVRTC knows, every dtype and every set of constants.
"""

import hashlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minitorch_flux.readings import KernelBuildError, KernelError, nvrtc
from minitorch_flux.readings.arguments import accumulation_dtype
from minitorch_flux.readings.nvrtc import architectures, compile_cuda, cuda_text, nvrtc_version, warnings_of
from minitorch_flux.readings.source import kernels_folder, parse_file, read_kernels

needs_nvrtc = pytest.mark.skipif(nvrtc_version() is None, reason=nvrtc.INSTALL_NVRTC)

HERE = Path(__file__).parent
FILES = [*sorted(kernels_folder().glob("*.cu")), HERE / "sample.cu", HERE / "integers.cu"]
ARCHITECTURES = [a for a in architectures() if a >= 75]
DTYPES = ["float32", "float64", "float16", "bfloat16"]

USUAL = {"float64": 96}
FEW = 80
"""Registers that a thread of a kernel may take; what follows may take more, float64's in brackets where it differs."""
MORE = {
    "batch_norm_backward_last": 96, "conv_forward": 96, "ctc_backward": 96, "lstm_sequence": 96,
    "scan_columns": 128,
    "batch_norm_backward_last float64": 128,
    # Sums of several output channels or taps stay in registers.
    "conv_data": 128, "conv_filter": 168, "depthwise_forward": 128, "depthwise_data": 128, "depthwise_filter": 128,
    "conv_filter float64": 208, "depthwise_forward float64": 168, "depthwise_filter float64": 208,
    "functions": 96, "functions float64": 168,
    # Made for CPUs, which have a form of their own for a GPU: a tile is in registers, and so are the sums of some.
    "tiles_weights": 96, "tiles_weights float64": 128, "tiles_forward": 168, "tiles_filter": 168, "tiles_filter float64": 232,
    "tiles_filter_backward": 128, "blocked_weights": 96, "blocked_forward": 168, "blocked_data": 168, "blocked_filter": 216,
    "blocked_filter float64": 255, "blocked_filter_backward": 128,
    "fused_attention_forward": 128, "fused_attention_forward float64": 168, "fused_attention_backward": 168,
    "fused_attention_backward float64": 232,
    "panels_forward": 128, "panels_data": 128, "panels_filter": 128, "panels_filter_backward": 128, "panels_turn": 128,
}  # fmt: skip

CPU_ONLY = {"tiles_forward", "tiles_filter"}
"""Never launched on a GPU (convolution_table.py): what sm_100 and later hold of tiles is more than registers."""


def budget(kernel, dtype, gpu=None):
    if gpu:  # two blocks of its size fit a multiprocessor
        return 65536 // (2 * gpu.block)
    return MORE.get(f"{kernel} {dtype}") or max(MORE.get(kernel, FEW), USUAL.get(dtype, FEW))


def types_of(name):
    if name == "bfloat16":  # a type of ml_dtypes, which need not be here
        return {"T": SimpleNamespace(name="bfloat16"), "ACC": np.dtype("float32")}
    return {"T": np.dtype(name), "ACC": accumulation_dtype(np.dtype(name))}


def variants(source):
    """The sets of constants and types that a file declares, in every combination."""
    for constants, types in itertools.product(source.constants or ({},), source.types or ({},)):
        yield constants, {key: np.dtype(value) for key, value in types.items()}


def check(source, constants, types, dtype, architecture):
    """Compile a program; the kernels that it has."""
    text = cuda_text(source, types_of(dtype) | types, constants)
    program = compile_cuda(text, source.name, architecture)
    what = f"{source.name} {constants} {dtype} sm_{architecture}"
    assert (program.kind, program.code[:4]) == ("cubin", b"\x7fELF"), what
    assert not warnings_of(program.log), f"{what}: {warnings_of(program.log)}"
    for kernel, usage in program.usage.items():
        if kernel in CPU_ONLY and architecture >= 100:
            continue
        assert usage.spilled == 0, f"{what}: {kernel} spills {usage.spilled} bytes"
        assert usage.shared <= 48 << 10, f"{what}: {kernel} takes {usage.shared} bytes of shared memory"
        most = budget(kernel, dtype, source.gpu)
        assert usage.registers <= most, f"{what}: {kernel} takes {usage.registers} registers, its budget is {most}"
    return set(program.usage)


def taken(source):
    """The architectures and dtypes that a file is for."""
    dtypes = DTYPES if nvrtc._include_options() else DTYPES[:2]
    if source.gpu is None:
        return ARCHITECTURES, dtypes
    return [a for a in ARCHITECTURES if a >= source.gpu.sm], [d for d in dtypes if d in source.gpu.dtypes]


def chosen(source):
    """(architecture, dtype) for a file: any, but the same each time."""
    number, (architectures, dtypes) = int(hashlib.sha256(source.name.encode()).hexdigest(), 16), taken(source)
    return architectures[number % len(architectures)], dtypes[number // 1000 % len(dtypes)]


@needs_nvrtc
@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_every_kernel(file):
    """As many of a file's sets of constants and types as it takes for all its kernels."""
    source, built = read_kernels(file), set()
    architecture, dtype = chosen(source)
    for constants, types in variants(source):
        if set(source.kernels) - built:
            built |= check(source, constants, types, dtype, architecture)
    assert built == set(source.kernels)


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_everything(file, architecture):
    source = read_kernels(file)
    architectures, dtypes = taken(source)
    if architecture not in architectures:
        pytest.skip(f"{source.name} is for sm_{source.gpu.sm} and later")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(check, source, constants, types, dtype, architecture)
            for (constants, types), dtype in itertools.product(variants(source), dtypes)
        ]
    assert set().union(*(job.result() for job in jobs)) == set(source.kernels)


def test_budgets_are_of_kernels_that_exist():
    names = {name for file in FILES for name in read_kernels(file).kernels}
    assert {key.split()[0] for key in MORE} <= names
    assert budget("softmax_forward", "float16") == 80
    assert budget("softmax_forward", "float64") == 96
    assert budget("conv_data", "float64") == 128
    assert budget("depthwise_filter", "float64") == 208


FLOAT = types_of("float32")


@needs_nvrtc
def test_an_error_names_the_file_and_the_line():
    source = parse_file(Path("/some/broken.cu"), "\nKERNEL(a)(T* y, int n) {\n    EACH(i, n) y[i] = nowhere;\n}\n")
    with pytest.raises(
        KernelBuildError, match=r"NVRTC refused broken.cu for sm_90:\n/some/broken.cu\(3\): error: .*nowhere"
    ):
        compile_cuda(cuda_text(source, FLOAT, {}), source.name, 90)


@needs_nvrtc
def test_warnings_are_seen():
    source = parse_file(
        Path("sloppy.cu"), "KERNEL(a)(T* y, int n) {\n    int unused = 3;\n    EACH(i, n) y[i] = 1;\n}\n"
    )
    (warning, *_) = warnings_of(compile_cuda(cuda_text(source, FLOAT, {}), source.name, 90).log)
    assert warning.startswith("sloppy.cu(2): warning")


@needs_nvrtc
def test_registers_and_spills_are_read():
    many = " ".join(f"float v{i} = y[i * n + {i}];" for i in range(300))
    total = " ".join(f"y[i * n + {299 - i}] = v{i} * v{(i * 7) % 300};" for i in range(300))
    text = f"KERNEL(a)(T* y, int n) {{ EACH(i, n) {{ {many} ROW_SYNC(); {total} }} }}\n"
    text += "KERNEL(b)(T* y, int n) { ROWS(r, n, 1) y[r] = row_sum(y[r]); }"
    program = compile_cuda(cuda_text(parse_file(Path("many.cu"), text), FLOAT, {}), "many.cu", 90)
    assert program.usage["a"].spilled > 0
    assert program.usage["a"].registers > 200
    assert program.usage["b"].spilled == 0
    assert program.usage["b"].shared >= 128


@needs_nvrtc
def test_architectures_of_the_future_and_of_the_past():
    source = read_kernels(HERE / "sample.cu")
    text = cuda_text(source, FLOAT, {})
    program = compile_cuda(text, source.name, 999)
    assert program.kind == "ptx"
    assert f".target sm_{max(architectures())}".encode() in program.code
    with pytest.raises(KernelError, match=f"has no code for sm_20; it begins at sm_{min(architectures())}"):
        compile_cuda(text, source.name, 20)


@needs_nvrtc
def test_missing_headers_say_what_to_install(monkeypatch):
    monkeypatch.setattr(nvrtc, "_include_options", list)
    source = read_kernels(HERE / "sample.cu")
    with pytest.raises(
        KernelBuildError, match="cuda_fp16.h(.*\n)*.*pip install nvidia-cuda-nvrtc .and nvidia-cuda-runtime"
    ):
        compile_cuda(cuda_text(source, types_of("float16"), {}), source.name, 90)


def test_no_nvrtc(monkeypatch):
    monkeypatch.setattr(nvrtc, "_nvrtc", lambda: None)
    architectures.cache_clear()
    try:
        assert nvrtc_version() is None
        assert architectures() == ()
        with pytest.raises(KernelError, match="no NVRTC to compile x.cu: install CUDA's compiler: pip install"):
            compile_cuda("", "x.cu", 90)
    finally:
        architectures.cache_clear()


def test_where_nvrtc_is_looked_for(monkeypatch, tmp_path):
    wheel = tmp_path / "site" / "nvidia" / "cu13" / "lib"
    wheel.mkdir(parents=True)
    for name in ("libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libnvrtc.alt.so.13"):
        (wheel / name).touch()
    toolkit = tmp_path / "cuda" / "lib64"
    toolkit.mkdir(parents=True)
    (toolkit / "libnvrtc.so.12").touch()
    monkeypatch.setattr(nvrtc.sys, "path", [str(tmp_path / "site")])
    monkeypatch.setenv("CUDA_PATH", str(tmp_path / "cuda"))
    found = list(nvrtc._libraries())
    assert found[:2] == [str(wheel / "libnvrtc.so.13"), str(toolkit / "libnvrtc.so.12")]
    nvrtc._nvrtc.__wrapped__  # noqa: B018 - it is cached: the answer of this process stays
    with pytest.raises(OSError, match="file too short|invalid"):
        nvrtc.ctypes.CDLL(found[0])
    assert os.path.exists(found[0])


def test_types_that_cuda_does_not_have():
    source = read_kernels(HERE / "sample.cu")
    assert cuda_text(source, {"T": np.dtype("complex64"), "ACC": np.dtype("float32")}, {}) is None
