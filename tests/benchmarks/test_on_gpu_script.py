"""The script for a machine with a GPU: its parts, and what it does where there is none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"


def script(*arguments, **environment):
    return subprocess.run(["bash", str(SCRIPT), *arguments], text=True, capture_output=True, cwd=ROOT,
                          env=os.environ | environment)


def test_a_dry_run_prints_the_commands_and_leaves_nothing(tmp_path):
    ran = script("--dry-run", ON_GPU_RESULTS=str(tmp_path / "results"), ON_GPU_ENVIRONMENT="/opt/environment")
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "results").exists()
    parts = [line[:-1] for line in ran.stdout.splitlines() if line.endswith(":")]
    assert parts == ["install", "tests", "ops", "sanitizer", "examples", "kernels", "training"]
    for command in ("/opt/environment/bin/python -m minitorch_flux train --data digits --epochs 2 --device cuda",
                    "-m benchmarks tiny mlp lenet lstm --device gpu --capture", "--tool racecheck", "examples/names.py"):
        assert command in ran.stdout


def test_one_part():
    ran = script("--dry-run", "kernels")
    assert [line for line in ran.stdout.splitlines() if line.endswith(":")] == ["kernels:"]


@pytest.mark.parametrize(("argument", "message"), [
    ("--wet-run", "on_gpu.sh: unknown option --wet-run (--dry-run, --pretend)"),
    ("kernel", "on_gpu.sh: unknown part kernel: choose from install tests ops"),
])  # fmt: skip
def test_wrong_arguments_of_the_script(argument, message):
    ran = script(argument)
    assert ran.returncode == 2
    assert message in ran.stderr


def test_help():
    ran = script("--help")
    assert ran.returncode == 0
    assert "benchmarks/on_gpu.sh --pretend" in ran.stdout
    assert "set -uo" not in ran.stdout


def test_a_part_that_was_done_is_not_run_again_and_one_that_failed_is(tmp_path):
    """With a Python that answers every command: 0, or 1 for the part ops."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@" >>"' + str(tmp_path) + '/asked"\ncase "$*" in *test_devices*) exit 1;; esac\n')
    python.chmod(0o755)
    results = tmp_path / "results"
    where = {"ON_GPU_RESULTS": str(results), "ON_GPU_ENVIRONMENT": str(tmp_path)}
    ran = script("--pretend", **where)
    assert ran.returncode == 1, ran.stderr
    texts = {p.stem: p.read_text() for p in results.glob("*.txt")}
    assert texts["install"].startswith("done in")
    assert texts["ops"].startswith("failed after")
    assert texts["sanitizer"].startswith("skipped: ")
    assert set(texts) == {"install", "tests", "ops", "sanitizer", "examples", "kernels", "training"}
    asked = (tmp_path / "asked").read_text().count("\n")
    again = script("--pretend", **where)
    assert "tests: done before" in again.stdout
    assert "ops: failed" in again.stdout
    assert (tmp_path / "asked").read_text().count("\n") == asked + 1
    one = script("--pretend", "install", **where)
    assert "install: done in" in one.stdout


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="a GPU is here")
def test_without_a_device_it_says_so(tmp_path):
    ran = script(ON_GPU_RESULTS=str(tmp_path), ON_GPU_ENVIRONMENT=str(tmp_path))
    assert ran.returncode == 0
    assert "training: skipped: nvidia-smi finds no NVIDIA device here" in ran.stdout
