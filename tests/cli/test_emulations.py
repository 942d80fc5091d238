"""``minitorch-flux emulate``: clean kernels are said to be clean, planted bugs are named with their line."""

import re
import shutil

import pytest

from minitorch_flux.cli import emulations, main
from minitorch_flux.readings import source, toolchain
from tests.oracles import needs_compiler

pytestmark = needs_compiler

BUGS = {
    "race": (
        "logsumexp_forward", "softmaxes.cu", "ONE_LANE y[r] = T(top + f_log(sum));", "y[r] = T(top + f_log(sum));", ["thread"],
        r"logsumexp_forward: data race: write at \S*softmaxes.cu:LINE, earlier write at \S*softmaxes.cu:LINE; --report shows",
    ),
    "overflow": (
        "erf_forward", "special.cu", "EACH(i, n)", "EACH(i, n + 1)", ["address"],
        r"erf_forward: heap-buffer-overflow: read at \S*special.cu:LINE; --report",
    ),
    "undefined": (
        "erf_forward", "special.cu", "    EACH(i, n)", "    int big = (int)n * 100000000;\n    EACH(i, n + (big == 7))",
        ["undefined"],
        r"erf_forward: signed integer overflow: 33 \* 100000000 cannot be represented in type 'int': at \S*special.cu:LINE",
    ),
    "result": (
        "softmax_backward", "softmaxes.cu",
        "sums += vec_load(slope + j, n) * vec_load(from + j, n); });\n        const ACC sum = row_sum(vec_sum(sums));",
        "sums += vec_load(slope + j, n) * vec_load(from + j, n); });\n        const ACC sum = vec_sum(sums);", [],
        r"softmax_backward, threads as on a GPU: wrong result: array 0, element \(\d, \d+\) of shape \(5, 33\): ",
    ),
    "barrier": (
        "logsumexp_forward", "softmaxes.cu", "        ONE_LANE y[r]",
        "        if (threadIdx.x < 9) row_sum(sum);\n        ONE_LANE y[r]", [],
        r"logsumexp_forward: block 0 has a barrier that not every thread reaches: .*waits at \S*flux.h:\d+",
    ),
    "endless": (
        "erf_forward", "special.cu", "EACH(i, n) y", "for (;;) EACH(i, n) y", ["--patience", "1"],
        "erf_forward: still running after 1 seconds",
    ),
    "crash": (
        "erf_forward", "special.cu", "EACH(i, n) y[i]", "EACH(i, n) y[i + 100000000000]", [],
        r"erf_forward: the program crashed .*; --sanitize address names the line",
    ),
    "does not build": (
        "erf_forward", "special.cu", "T(f_erf(", "T(f_erff(", [],
        r"it does not build: \S*special.cu:LINE:\d+: error: .*f_erff",
    ),
}  # fmt: skip


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    """A copy of the kernels' folder that a test may spoil."""
    folder = tmp_path / "kernels"
    shutil.copytree(source.kernels_folder(), folder)
    monkeypatch.setattr(source, "PACKAGE", tmp_path / "minitorch_flux")
    return folder


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs(kernels, bug, capsys):
    name, file, text, instead, options, message = BUGS[bug]
    before = (kernels / file).read_text()
    assert before.count(text) == 1, "the bug's place has changed"
    (kernels / file).write_text(before.replace(text, instead))
    line = before.count("\n", 0, before.index(text) + len(text)) + 1
    if options and not options[0].startswith("-"):
        options = ["--sanitize", *options]
    assert main(["emulate", name, "--elements", "33", *options]) == 1
    out, err = capsys.readouterr()
    assert re.match(f"minitorch-flux: error: {message.replace('LINE', str(line))}", err), err
    if "LINE" in message and bug != "does not build":  # the line itself is shown
        assert (kernels / file).read_text().splitlines()[line - 1].strip() in out


def test_the_whole_report(kernels, capsys):
    text = (kernels / "special.cu").read_text()
    (kernels / "special.cu").write_text(text.replace("EACH(i, n)", "EACH(i, n + 1)"))
    assert main(["emulate", "special", "--sanitize", "address", "--report"]) == 1
    out, err = capsys.readouterr()
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in out
    assert "--report" in err


def test_a_clean_kernel(capsys):
    assert main(["emulate", "erf_forward", "--sanitize", "address", "--elements", "40"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert re.match(r"erf_forward of \S*special.cu, float32, 40 elements; checked: results, accesses beyond", lines[0])
    assert len(lines) == 1 + len(emulations.SHAPES)
    assert re.match(r"  3 blocks of 64 x 1 threads, last ones first +1 launches, clean, at most \d+\.\d eps", lines[-1])
    assert err == ""


@pytest.mark.skipif(not getattr(toolchain.toolchain(), "half", False), reason="this compiler has no 16-bit type")
def test_a_kernel_for_gpus_only(capsys):
    assert main(["emulate", "conv_tensor_filter", "--elements", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"conv_tensor_filter of \S*conv_tensor.cu, float16, 1 elements; checked: results$", lines[0])
    assert len(lines) == 1 + len(emulations.OF_A_GPU)


def test_a_file_is_all_its_kernels(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(emulations, "_emulate", lambda text, kernel, arguments: seen.append(kernel))
    assert main(["emulate", "reductions.cu", "erf_forward", "special"]) == 0
    assert seen == ["sum_rows", "sum_columns", "erf_forward"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["softmx_forward"], "there is no kernel or kernel file 'softmx_forward'; did you mean softmax_forward or "),
        (["zzzzzzz"], "there is no kernel or kernel file 'zzzzzzz'; `minitorch-flux kernels` lists them"),
        (["im2col_forward", "--dtype", "float16"], "im2col_forward is not launched for float16 and 65 elements: the op runs"),
        (["erf_forward", "--sanitize", "memory"], "argument --sanitize: invalid choice: 'memory'"),
        (["erf_forward", "--elements", "0"], "argument --elements: expected a whole number of at least 1, got '0'"),
        (["erf_forward", "--patience", "-1"], "argument --patience: expected a number above 0"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_wrong_input(arguments, message, capsys):
    assert main(["emulate", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"minitorch-flux: error: {message}")


def test_a_kernel_without_a_sample(monkeypatch, capsys):
    monkeypatch.delitem(emulations.SAMPLES, "erf_forward")
    assert main(["emulate", "erf_forward"]) == 2
    assert re.search(r"erf_forward of \S*special.cu has no sample call; add one to", capsys.readouterr().err)


def test_no_compiler(monkeypatch, capsys):
    monkeypatch.setenv("MINITORCH_FLUX_CXX", "/nowhere/g++")
    assert main(["emulate", "erf_forward"]) == 1
    assert re.search(r"the emulator needs a C\+\+ compiler: .*install", capsys.readouterr().err)
