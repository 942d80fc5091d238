"""kernels/README.md: its first kernel and every example are run as they stand there."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from minitorch_flux.readings import emulator
from minitorch_flux.readings.source import kernels_folder
from minitorch_flux.readings.toolchain import toolchain

TEXT = (kernels_folder() / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    if isinstance(toolchain(), str):
        pytest.skip("no compiler")
    (tmp_path / "first.cu").write_text(blocks("cuda")[0])
    program = "\n".join(blocks("python")).replace('"first.cu"', repr(str(tmp_path / "first.cu")))
    (tmp_path / "first.py").write_text(program)
    return tmp_path


def run(folder, *command, **environment):
    environment = os.environ | {"PYTHONPATH": os.getcwd()} | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_examples(folder):
    result = run(folder, sys.executable, "-W", "error", "first.py")
    assert result.returncode == 0, result.stderr


def test_without_row_sum_the_cpu_passes_and_the_emulator_does_not(folder):
    text = (folder / "first.cu").read_text()
    (folder / "first.cu").write_text(text.replace("        squares = row_sum(squares);\n", ""))
    (folder / "cpu.py").write_text((folder / "first.py").read_text().split("from minitorch_flux.readings.emulator")[0])
    assert run(folder, sys.executable, "cpu.py").returncode == 0
    result = run(folder, sys.executable, "first.py")
    assert "AssertionError" in result.stderr
    assert "Not equal to tolerance" in result.stderr


def raced(folder, *lines):
    """The first kernel with lines added before the end of its row, as the page's race is tried: the program's outcome."""
    text = (folder / "first.cu").read_text().splitlines()
    (folder / "first.cu").write_text("\n".join([*text[:11], *(line.rstrip() for line in lines), *text[11:]]) + "\n")
    before = (folder / "first.py").read_text().split("ran = ")[0]
    (folder / "race.py").write_text(f"{before}\nfrom {emulator.__name__} import emulated\n{blocks('python-race')[0]}")
    return run(folder, sys.executable, "race.py")


def test_the_race_is_found_where_the_page_says(folder):
    (planted,) = blocks("cuda-line")
    shown = re.search(r"^WARNING: ThreadSanitizer(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[0]
    result = raced(folder, planted)
    assert "EmulatorError" in result.stderr
    assert "ThreadSanitizer: data race" in result.stderr
    for line in re.findall(r"first\.cu:\d+", shown):
        assert line in result.stderr
    assert re.search(r"Write of size 4.*\n +#0 normalise_rows .*first.cu:11", result.stderr) or re.search(
        r"[Rr]ead of size 4.*\n +#0 normalise_rows .*first.cu:12", result.stderr
    )
    (folder / "first.cu").write_text(blocks("cuda")[0])
    result = raced(folder, "        ROW_SYNC();", planted)
    assert result.returncode == 0, result.stderr


def test_on_the_cpu_the_race_goes_unnoticed(folder):
    text = (folder / "first.cu").read_text().splitlines()
    (folder / "first.cu").write_text("\n".join([*text[:11], blocks("cuda-line")[0].rstrip(), *text[11:]]) + "\n")
    (folder / "cpu.py").write_text((folder / "first.py").read_text().split("ran = ")[0] + """
first("normalise_rows", x, 5, 100, x, y, 5, 100)
assert (y[:, 0] == y[:, -1]).all()
""")
    result = run(folder, sys.executable, "cpu.py")
    assert result.returncode == 0, result.stderr


def test_the_report_that_is_shown_is_of_the_kernel_as_it_is():
    line, shown = re.search(r"write at kernels/softmaxes.cu:(\d+)\n +(\S.*)", TEXT).groups()
    text = (kernels_folder() / "softmaxes.cu").read_text().splitlines()[int(line) - 1].strip()
    assert text == f"ONE_LANE {shown}"


def test_a_build_for_the_debugger_knows_the_lines_of_the_kernel(folder):
    """The text's own name and folder are in the table of lines, not those of what the compiler was given."""
    flags = re.search(r'MINITORCH_FLUX_CXXFLAGS="(.*?)" gdb', TEXT)[1]
    (folder / "cpu.py").write_text((folder / "first.py").read_text().split("from minitorch_flux.readings.emulator")[0])
    cache = folder / "cache"
    result = run(folder, sys.executable, "cpu.py", MINITORCH_FLUX_CXXFLAGS=flags, MINITORCH_FLUX_CACHE=str(cache))
    assert result.returncode == 0, result.stderr
    (library,) = [p.read_bytes() for p in cache.glob("*/kernels.so")]
    assert b".debug_line" in library
    assert b"first.cu\0" in library
    assert str(folder).encode() in library


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
def test_the_debugger_stops_at_a_line_of_the_kernel(folder):
    command, flags = re.search(r'MINITORCH_FLUX_CXXFLAGS="(.*?)" (gdb .*)', TEXT).group(2, 1)
    assert "--args python first.py" in command
    line = int(re.search(r"first\.cu:(\d+)", command)[1])
    assert "f_sqrt(squares)" in blocks("cuda")[0].splitlines()[line - 1]
    options = ["-q", "-batch", "-ex", "set breakpoint pending on", "-ex", f"break first.cu:{line}", "-ex", "run"]
    shown = re.search(r"```\n( +Thread 1 .*?)```", TEXT, re.DOTALL)[1]
    options += [word for command in re.findall(r"\(gdb\) (.*)", shown) for word in ("-ex", command)]
    options += ["-ex", "print width", "-ex", "print *from@width", "--args"]
    result = run(folder, "gdb", *options, sys.executable, "first.py", MINITORCH_FLUX_CXXFLAGS=flags)
    for answer in re.findall(r"\$\d = .*", shown):  # what the page shows
        assert answer in result.stdout, result.stdout + result.stderr
    assert "$4 = 100" in result.stdout
    assert f"first.cu:{line}" in result.stdout
    options = ["-q", "-batch", "-ex", "set breakpoint pending on", "-ex", "break normalise_rows", "-ex", "run"]
    options += ["-ex", f"break first.cu:{line}", "-ex", "condition 2 r == 3", "-ex", "delete 1"]
    options += ["-ex", "continue", "-ex", "print r", "--args"]
    result = run(folder, "gdb", *options, sys.executable, "first.py", MINITORCH_FLUX_CXXFLAGS=flags)
    assert "$1 = 3" in result.stdout, result.stdout + result.stderr


def test_every_word_of_the_vocabulary_is_in_flux_h():
    header = (kernels_folder() / "flux.h").read_text()
    table = TEXT.split("## The vocabulary")[1].split("* Compute in")[0]
    words = set(re.findall(r"`(?:UNROLL for|(\w+))", table)) | set(re.findall(r"\bf_\w+", table))
    for word in words - {"s", "bias", ""}:
        bare = word.removeprefix("f_")
        assert re.search(rf"\b{word}\b|FLUX_MATH\(\d, {bare}\)", header), word
