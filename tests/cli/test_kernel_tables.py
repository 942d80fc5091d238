"""``minitorch-flux kernels``: every kernel with its readings, its op and its test, and what it takes of a GPU."""

import json
import re
from pathlib import Path

import pytest

from minitorch_flux.backend import FUNCTIONS
from minitorch_flux.cli import kernel_tables, main
from minitorch_flux.cli.kernel_samples import SAMPLES
from minitorch_flux.readings import KernelBuildError, nvrtc
from minitorch_flux.readings.inventory import kernel_texts
from minitorch_flux.readings.nvrtc import Usage

ROOT = Path(__file__).parents[2]
needs_nvrtc = pytest.mark.skipif(nvrtc.nvrtc_version() is None, reason=nvrtc.INSTALL_NVRTC)


@pytest.fixture
def no_nvrtc(monkeypatch):
    monkeypatch.setattr(kernel_tables, "architectures", lambda: ())
    monkeypatch.setattr(kernel_tables, "nvrtc_version", lambda: None)


def test_every_kernel_has_its_op_and_its_test(no_nvrtc):
    rows = kernel_tables.table([], "float32", None)
    assert [row.kernel for row in rows] == [name for text in kernel_texts() for name in text.kernels]
    special = [name for name, found in SAMPLES.items() if "float32" not in found.dtypes]
    for row in [row for row in rows if row.kernel not in special] + kernel_tables.table(special, "float16", None):
        assert (ROOT / row.page).is_file(), row
        assert (ROOT / row.test).is_file(), row
        assert row.ops, row
        assert all(op in FUNCTIONS for op in row.ops), row
        assert row.accepts, row
        assert row.builds, row
        assert row.gpu == {}


def test_pages_are_those_of_the_ops(no_nvrtc):
    """A reader of ONNX files and a layer may have files of the same name."""
    (row,) = kernel_tables.table(["add_forward"], "float32", None)
    assert (row.page, row.test) == ("minitorch_flux/ops/elementwise.py", "tests/ops/test_elementwise.py")


def test_without_nvrtc_it_says_what_to_install(no_nvrtc, capsys):
    assert main(["kernels", "special"]) == 0
    out = capsys.readouterr().out
    assert "erf_forward" in out
    assert "no GPU columns: install CUDA's compiler: pip install nvidia-cuda-nvrtc" in out
    assert main(["kernels", "special", "--arch", "sm_90"]) == 2
    assert "there is no NVRTC here; install CUDA's compiler" in capsys.readouterr().err


def test_without_a_compiler_it_says_what_to_install(no_nvrtc, monkeypatch, capsys):
    monkeypatch.setenv("MINITORCH_FLUX_CXX", "/nowhere/g++")
    assert main(["kernels", "special"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"erf_forward +no compiler +no compiler", out)
    assert re.search(r"no CPU reading: /nowhere/g\+\+ does not run .*; install a C\+\+ compiler", out)


@needs_nvrtc
def test_the_table(capsys):
    assert main(["kernels", "special", "sum_rows", "--arch", "sm_90,75"]) == 0
    head, file, kernel, accepts, build, *rest = capsys.readouterr().out.splitlines()
    assert re.match(r"  kernel +CPU +emulator +sm_90 +sm_75", head)
    assert file == "special.cu: minitorch_flux/ops/special.py, tests/ops/test_special.py"
    assert re.match(r"  erf_forward +(built|can be built) +runs +\d\d +\d\d$", kernel)
    assert accepts == "    erf_forward: arrays of floats; copied where they are not contiguous"
    assert build == "    sample build: T=float32 ACC=float32"
    assert re.match(r"  sum_rows +(built|can be built) +runs +\d\d \+ 128 B", rest[1])
    assert rest[-2] == "2 kernels in 2 files; 2 are launched for float32"
    assert re.match(r"GPU \(NVRTC \d+\.\d+\): registers .* at most \d\d registers \(\w+, sm_\d+\); none spills", rest[-1])


@needs_nvrtc
def test_json(capsys):
    assert main(["kernels", "conv_lines", "--arch", "90", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["kernel"] == "conv_lines"
    assert row["file"] == "im2col.cu"
    assert row["ops"] == ["conv_forward"]
    assert set(row["gpu"]["sm_90"]) == {"registers", "shared", "spilled"}
    assert row["gpu"]["sm_90"]["spilled"] == 0
    assert row["builds"] == [{"T": "float32", "ACC": "float32"}]


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_20", "90,banana"])
def test_an_unknown_architecture(arch, capsys):
    assert main(["kernels", "special", "--arch", arch]) == 2
    wrong = arch.split(",")[-1]
    assert capsys.readouterr().err.startswith(f"minitorch-flux: error: --arch {wrong}: this NVRTC compiles for sm_75, ")


def test_architectures(monkeypatch):
    monkeypatch.setattr(kernel_tables, "architectures", lambda: (75, 90, 103))
    assert kernel_tables._architectures(None) == (75, 90)
    assert kernel_tables._architectures("all") == (75, 90, 103)
    assert kernel_tables._architectures("sm_103, 75") == (103, 75)


def test_a_dtype_that_an_op_leaves_to_its_reference(no_nvrtc, capsys):
    assert main(["kernels", "im2col_forward", "softmax_forward", "--dtype", "float16"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"  im2col_forward +declines +declines", out)
    assert "2 kernels in 2 files; 1 are launched for float16" in out
    assert "declines: for 1 of them the op runs its NumPy (CuPy) reference with float16" in out


def test_what_a_gpu_would_not_like(monkeypatch, capsys):
    """Spills, and texts that NVRTC refuses."""
    def usage_of(source, types, constants, architecture):
        if source.name == "special.cu":
            raise KernelBuildError("NVRTC refused special.cu:\n/k/special.cu(5): error: no\nmore")
        return None if source.name == "scans.cu" else {"sum_rows": Usage(200, 16, 128), "sum_columns": Usage(32, 0, 0)}

    monkeypatch.setattr(kernel_tables, "architectures", lambda: (90,))
    monkeypatch.setattr(kernel_tables, "nvrtc_version", lambda: (13, 5))
    monkeypatch.setattr(kernel_tables, "usage_of", usage_of)
    assert main(["kernels", "special", "reductions", "scans"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"erf_forward .*does not build", out)
    assert re.search(r"sum_rows .*200 \+ 128 B, 16 spilled", out)
    assert "at most 200 registers (sum_rows, sm_90); 1 spills" in out
    assert "erf_forward, sm_90: /k/special.cu(5): error: no" in out
    assert "recurrence_forward, sm_90: CUDA has no such type" in out


def test_it_says_that_it_compiles(monkeypatch, capsys):
    monkeypatch.setattr(kernel_tables, "architectures", lambda: (90,))
    monkeypatch.setattr(kernel_tables, "usage_of", lambda *args: {})
    monkeypatch.setattr(kernel_tables, "usage_is_known", lambda source, *args: source.name == "special.cu")
    monkeypatch.setattr(kernel_tables, "MANY", 0)
    assert main(["kernels", "special"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["kernels", "special", "scans", "sum_rows"]) == 0
    assert capsys.readouterr().err == "compiling 4 programs with NVRTC; they are remembered\n"


def test_bfloat16(no_nvrtc, monkeypatch, capsys):
    pytest.importorskip("ml_dtypes")
    assert main(["kernels", "softmax_forward", "--dtype", "bfloat16"]) == 0
    assert "1 are launched for bfloat16" in capsys.readouterr().out
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    assert main(["kernels", "softmax_forward", "--dtype", "bfloat16"]) == 2
    assert "--dtype bfloat16 needs ml_dtypes: pip install ml_dtypes" in capsys.readouterr().err


def test_wrong_input(capsys):
    assert main(["kernels", "softmx_forward"]) == 2
    assert "did you mean softmax_forward" in capsys.readouterr().err
    assert main(["kernels", "--dtype", "int8"]) == 2
    assert "argument --dtype: invalid choice: 'int8'" in capsys.readouterr().err
